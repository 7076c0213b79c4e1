//! `PUT /rooms/{roomId}/redact/{eventId}/{txnId}`, and redactions that are sent like other events.

use super::access::{Access, Standing};
use super::error::{as_outsider, not_in_room};
use super::send::txn;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Args, Body, Reply};
use crate::{ApiError, State, suspension};
use axum::extract::State as Within;
use rooms::Draft;
use ruma::api::client::redact::redact_event::v3::Response;
use ruma::serde::JsonObject;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, UserId};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The type of redactions.
pub(super) const KIND: &str = "m.room.redaction";

/// What the client says of a redaction.
#[derive(Deserialize)]
pub(super) struct Reason {
    reason: Option<String>,
}

/// Redacts an event.
pub(super) async fn redact(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, event_id, txn_id)): Args<(OwnedRoomId, OwnedEventId, String)>,
    Body(body): Body<Reason>,
) -> Result<Reply<Response>, ApiError> {
    state.limit(Class::Message, &session)?;
    if let Some(event_id) = state.event_for_nobody(&session) {
        return Ok(Reply(Response::new(event_id)));
    }
    let txn = txn(&session, format!("redact/{room_id}/{event_id}"), txn_id)?;
    // A repeated request is answered as the first was, whatever the sender may do by now.
    if let Some(event_id) = state.rooms.sent(&session.user_id, &txn)? {
        return Ok(Reply(Response::new(event_id)));
    }
    let content = body.reason.map(|reason| ("reason".to_owned(), Value::String(reason)));
    let draft = redaction(&state, &session.user_id, &room_id, event_id, &Map::from_iter(content))?;
    let event_id = state.rooms.send(&room_id, draft, Some(txn)).await.map_err(as_outsider)?;
    Ok(Reply(Response::new(event_id)))
}

/// The draft of a redaction that is sent like any event: what it redacts is in its content, and goes where the
/// room's version has it.
pub(super) fn draft(state: &State, user: &UserId, room_id: &RoomId, content: &RawValue) -> Result<Draft, ApiError> {
    let mut content: JsonObject =
        serde_json::from_str(content.get()).map_err(|error| ApiError::bad_json(error.to_string()))?;
    let redacts = match content.remove("redacts") {
        Some(Value::String(redacts)) => OwnedEventId::try_from(redacts).ok(),
        _ => None,
    };
    let redacts = redacts.ok_or_else(|| ApiError::bad_json("`redacts` must be the id of an event"))?;
    redaction(state, user, room_id, redacts, &content)
}

/// The draft of a redaction, if the user may make it: of their own events, or with the level to redact those of
/// others. The authorization rules don't say that, and servers only ask for a sender of the same server.
fn redaction(
    state: &State,
    user: &UserId,
    room_id: &RoomId,
    redacts: OwnedEventId,
    content: &JsonObject,
) -> Result<Draft, ApiError> {
    check(state, user, room_id, &redacts)?;
    let content = to_raw_value(content).map_err(|error| ApiError::internal(&error))?;
    Ok(Draft { redacts: Some(redacts), ..Draft::message(user.to_owned(), KIND, content) })
}

fn check(state: &State, user: &UserId, room_id: &RoomId, redacts: &EventId) -> Result<(), ApiError> {
    let access = Access::of_user(state, user, None, room_id)?;
    if access.standing != Standing::Joined {
        return Err(not_in_room());
    }
    let event = access.event(redacts)?.event;
    if event.pdu.sender() == user {
        return Ok(());
    }
    if state.accounts.user(user)?.is_some_and(|record| record.sanctions.suspended) {
        return Err(suspension::refused());
    }
    if !access.reader.power_levels()?.can_redact_others(user) {
        return Err(ApiError::forbidden("you may redact your own events only"));
    }
    Ok(())
}
