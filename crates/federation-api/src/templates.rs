//! Memberships that users of other servers take on here: the template that this server makes, which theirs signs.

use crate::access::{own_user, room};
use crate::{Origin, State};
use face::ApiError;
use rooms::{Draft, MembershipChange, RoomError};
use ruma::{RoomId, RoomVersionId, UserId};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The room versions that a request says the asking server supports (`ver`).
pub(crate) fn versions(query: Option<&str>) -> Vec<String> {
    let params = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let versions: Vec<String> =
        params.filter(|(name, _)| name == "ver").map(|(_, value)| value.into_owned()).take(100).collect();
    if versions.is_empty() { vec!["1".to_owned()] } else { versions }
}

/// Refuses a room of a version that the asking server does not support.
pub(crate) fn check_version(version: &RoomVersionId, versions: &[String]) -> Result<(), ApiError> {
    if versions.iter().any(|supported| supported == version.as_str()) {
        Ok(())
    } else {
        Err(ApiError::incompatible_room_version(version.as_str()))
    }
}

/// A membership of a user of the asking server as the room's rules allow it now, without hashes and signatures.
pub(crate) async fn template(
    state: &State,
    origin: &Origin,
    room_id: &RoomId,
    user: &UserId,
    change: MembershipChange,
    versions: Option<&[String]>,
) -> Result<Value, ApiError> {
    own_user(origin, user)?;
    let version = {
        let view = state.records.view();
        let reader = room(state, &view, origin, room_id)?;
        reader.head().version.clone()
    };
    if let Some(versions) = versions {
        check_version(&version, versions)?;
    }
    let prepared = state.rooms.prepare_membership(room_id, user, change.clone(), None, None).await?;
    let pdu = match prepared {
        Some(pdu) => pdu,
        // They are what they want to be already, and may be it again.
        None => {
            let content = json!({ "membership": name(&change)? });
            let content = serde_json::value::to_raw_value(&content).map_err(|error| ApiError::internal(&error))?;
            let draft = Draft::state(user.to_owned(), "m.room.member", user.as_str(), content);
            state.rooms.prepare(room_id, draft).await?
        }
    };
    let mut event: Value = serde_json::from_str(pdu.json()).map_err(|error| ApiError::internal(&error))?;
    if let Some(event) = event.as_object_mut() {
        for field in ["hashes", "signatures", "unsigned", "event_id"] {
            event.remove(field);
        }
    }
    Ok(json!({ "room_version": version, "event": event }))
}

fn name(change: &MembershipChange) -> Result<&'static str, ApiError> {
    match change {
        MembershipChange::Join => Ok("join"),
        MembershipChange::Knock => Ok("knock"),
        MembershipChange::Leave => Ok("leave"),
        _ => Err(ApiError::internal(&"a template of another membership")),
    }
}

/// A text as JSON, or what is wrong with it.
pub(crate) fn raw(text: &str) -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(text.to_owned()).map_err(|error| ApiError::internal(&error))
}

/// What the room's refusal of an event of another server means to that server.
pub(crate) fn refused(error: RoomError) -> ApiError {
    match error {
        RoomError::Missing(_) => ApiError::forbidden("the event refers to events that are not known here"),
        error => error.into(),
    }
}
