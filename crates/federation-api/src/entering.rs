//! Memberships that users of other servers take on here: the event that their server has signed.

use crate::access::room;
use crate::templates::refused;
use crate::{Origin, State};
use axum::body::Bytes;
use face::ApiError;
use http::StatusCode;
use rooms::{RoomReader, StoredEvent};
use rules::incoming::{DropReason, Unverified};
use rules::{Checked, CheckedPdu};
use ruma::room_version_rules::RoomVersionRules;
use ruma::{EventId, RoomId, UserId};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
struct Content {
    membership: String,
    join_authorised_via_users_server: Option<String>,
}

/// Takes a membership that a server has signed for one of its users into a room that this server is in. Answers the
/// room and the event, which the room has accepted.
///
/// The event must be of the id in the path and have this membership (server-server API, "Joining Rooms" and so on):
/// else 400; if it isn't signed as it must be, or the room does not allow it: 403.
pub(crate) async fn take_in(
    state: &State,
    origin: &Origin,
    room_id: &RoomId,
    event_id: &EventId,
    body: &Bytes,
    membership: &str,
) -> Result<(RoomReader, Arc<StoredEvent>), ApiError> {
    let rules = {
        let view = state.records.view();
        room(state, &view, origin, room_id)?.rules().clone()
    };
    let json = std::str::from_utf8(body).map_err(|_| ApiError::not_json("the body is not UTF-8"))?;
    let content = check(origin, room_id, event_id, json, membership, &rules)?;
    // Who lets a user into a restricted room is one of this server's, which then has to sign too.
    let authorising = content.join_authorised_via_users_server.as_deref();
    let authorising = authorising.and_then(|user| <&UserId>::try_from(user).ok());
    let json = match authorising.filter(|user| user.server_name() == state.server_name) {
        Some(_) => countersigned(state, json, &rules)?,
        None => json.to_owned(),
    };
    let event = verified(state, json, &rules).await?;
    // The other servers of the room hear of it from this one.
    state.federation.relay(event_id).await?;
    let outcome = state.rooms.receive(room_id, vec![event]).await.map_err(refused)?.pop();
    outcome.transpose().map_err(refused)?;
    let view = state.records.view();
    let reader = room(state, &view, origin, room_id)?;
    let event = reader.event_by_id(event_id)?;
    let event = event.ok_or_else(|| ApiError::forbidden("the room does not allow this membership"))?;
    Ok((reader, event))
}

fn check(
    origin: &Origin,
    room_id: &RoomId,
    event_id: &EventId,
    json: &str,
    membership: &str,
    rules: &RoomVersionRules,
) -> Result<Content, ApiError> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "type")]
        kind: String,
        state_key: Option<String>,
        content: Content,
    }

    let invalid = |message: &'static str| ApiError::invalid_param(message);
    let unverified = Unverified::read(json, rules).map_err(|reason| match reason {
        DropReason::Format("hashes" | "signatures") => {
            ApiError::forbidden(format!("the event is not signed: {reason}"))
        }
        reason => ApiError::bad_json(reason.to_string()),
    })?;
    let event: Event = serde_json::from_str(json).map_err(|_| invalid("the event is no membership"))?;
    if event.kind != "m.room.member" || event.content.membership != membership {
        return Err(invalid("the event is not of the membership that the endpoint is for"));
    }
    if unverified.room_id().is_none_or(|other| other != room_id) {
        return Err(invalid("the event is of another room"));
    }
    if unverified.event_id() != event_id {
        return Err(invalid("the event has another id"));
    }
    if event.state_key.as_deref() != Some(unverified.sender().as_str()) {
        return Err(invalid("the event is about another user than its sender"));
    }
    if unverified.sender().server_name() != &**origin {
        return Err(ApiError::forbidden("the event's sender is not of the server that asks"));
    }
    Ok(event.content)
}

/// An event that this server signs too.
pub(crate) fn countersigned(state: &State, json: &str, rules: &RoomVersionRules) -> Result<String, ApiError> {
    let key = state.keys.ring().current();
    rules::countersign(json, rules, &key).ok_or_else(|| ApiError::bad_json("the event can't be signed"))
}

/// An event whose signatures and hash are right.
pub(crate) async fn verified(state: &State, json: String, rules: &RoomVersionRules) -> Result<CheckedPdu, ApiError> {
    let checked = state.keys.check_events(rules, vec![json]).await.map_err(|error| ApiError::internal(&error))?.pop();
    match checked {
        Some(Checked::Whole(event)) => Ok(event),
        Some(Checked::Redacted(_)) => Err(ApiError::forbidden("the event's hash is wrong")),
        Some(Checked::Drop(reason)) => Err(ApiError::forbidden(reason.to_string())),
        None => Err(ApiError::internal(&"an event was not checked").status(StatusCode::INTERNAL_SERVER_ERROR)),
    }
}
