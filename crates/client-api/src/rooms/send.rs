//! `PUT /rooms/{roomId}/send/{eventType}/{txnId}`

use super::delayed::{delay_in_query, schedule};
use super::error::as_outsider;
use super::redact;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Args, Body, Reply};
use crate::{ApiError, State};
use axum::extract::State as Within;
use axum::response::{IntoResponse as _, Response as Answer};
use base::limits::ID_BYTES_MAX;
use http::Uri;
use rooms::{Draft, Txn};
use ruma::OwnedRoomId;
use ruma::api::client::message::send_message_event::v3::Response;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Sends an event that is no state. A transaction id that the device has used for this room and type answers
/// the event that it made then. With a delay the event is sent later (MSC4140).
pub(super) async fn send(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, kind, txn_id)): Args<(OwnedRoomId, String, String)>,
    uri: Uri,
    Body(content): Body<Box<RawValue>>,
) -> Result<Answer, ApiError> {
    if let Some(event_id) = state.event_for_nobody(&session) {
        return Ok(Reply(Response::new(event_id)).into_response());
    }
    if let Some(delay) = delay_in_query(&uri)? {
        let txn = txn(&session, String::new(), txn_id)?;
        let scheduled = schedule(&state, &session, &room_id, (kind, None), &content, delay, Some(txn)).await;
        return Ok(scheduled?.into_response());
    }
    state.limit(Class::Message, &session)?;
    check_type(&kind)?;
    let txn = txn(&session, format!("send/{room_id}/{kind}"), txn_id)?;
    let draft = if kind == redact::KIND {
        // A repeated request is answered as the first was, whatever the sender may redact by now.
        if let Some(event_id) = state.rooms.sent(&session.user_id, &txn)? {
            return Ok(Reply(Response::new(event_id)).into_response());
        }
        redact::draft(&state, &session.user_id, &room_id, &content)?
    } else {
        Draft::message(session.user_id.clone(), kind, content)
    };
    let event_id = state.rooms.send(&room_id, draft, Some(txn)).await.map_err(as_outsider)?;
    state.syncs.acts(&session.user_id, &session.device_id)?;
    Ok(Reply(Response::new(event_id)).into_response())
}

/// What a transaction id is unique in: the device, the endpoint and its path (client-server API, "Transaction
/// identifiers").
pub(super) fn txn(session: &Session, endpoint: String, txn_id: String) -> Result<Txn, ApiError> {
    if txn_id.len() > ID_BYTES_MAX {
        return Err(ApiError::invalid_param(format!("a transaction id has at most {ID_BYTES_MAX} bytes")));
    }
    Ok(Txn { device_id: session.device_id.to_string(), endpoint, txn_id })
}

/// A type must fit into an event, and be of those that can come after the first.
pub(super) fn check_type(kind: &str) -> Result<(), ApiError> {
    if kind == "m.room.create" {
        return Err(ApiError::invalid_param("a room is created once"));
    }
    if kind.len() > ID_BYTES_MAX {
        return Err(ApiError::too_large(format!("an event type has at most {ID_BYTES_MAX} bytes")));
    }
    Ok(())
}
