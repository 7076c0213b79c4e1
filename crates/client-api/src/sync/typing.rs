//! `PUT /rooms/{roomId}/typing/{userId}`

use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use axum::{Json, extract};
use ruma::{OwnedRoomId, OwnedUserId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Whether the user types, and for how long.
#[derive(Deserialize)]
pub(super) struct Request {
    typing: bool,
    timeout: Option<u64>,
}

/// Tells the others in a room that the user is typing, or is not any more.
pub(super) async fn typing(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((room_id, user)): Args<(OwnedRoomId, OwnedUserId)>,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    if session.user_id != user {
        return Err(ApiError::forbidden("one types for oneself"));
    }
    state.limit(Class::Other, &session)?;
    let typing = request.typing.then(|| request.timeout.map(Duration::from_millis));
    state.syncs.typing(&user, &room_id, typing)?;
    state.federation.tell_typing(&room_id, &user, request.typing)?;
    state.syncs.acts(&session.user_id, &session.device_id)?;
    Ok(Json(json!({})))
}
