//! `POST /rooms/{roomId}/receipt/{receiptType}/{eventId}`

use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use ::sync::Marks;
use axum::{Json, extract};
use ruma::{OwnedEventId, OwnedRoomId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// What a receipt is for.
#[derive(Deserialize)]
pub(super) struct Request {
    /// Read as any JSON, because the specification refuses what is no string with `M_INVALID_PARAM`.
    thread_id: Option<Value>,
}

/// Moves one of the user's receipts, or with the type `m.fully_read` their read marker.
pub(super) async fn receipt(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((room_id, kind, event_id)): Args<(OwnedRoomId, String, OwnedEventId)>,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let thread = match request.thread_id {
        None => None,
        Some(Value::String(thread)) => Some(thread),
        Some(_) => return Err(ApiError::invalid_param("thread_id field must be a non-empty string")),
    };
    let mut marks = Marks { thread, ..Marks::default() };
    match kind.as_str() {
        "m.read" => marks.read = Some(event_id),
        "m.read.private" => marks.read_private = Some(event_id),
        "m.fully_read" if marks.thread.is_some() => {
            return Err(ApiError::invalid_param("a read marker has no thread_id"));
        }
        "m.fully_read" => marks.fully_read = Some(event_id),
        _ => return Err(ApiError::invalid_param("there is no such type of receipt")),
    }
    state.syncs.mark(&session.user_id, &room_id, &marks).await?;
    state.syncs.acts(&session.user_id, &session.device_id)?;
    Ok(Json(json!({})))
}
