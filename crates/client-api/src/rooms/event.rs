//! `GET /rooms/{roomId}/event/{eventId}`, and without the room, as it was once done: `GET /events/{eventId}`.

use super::access::Access;
use crate::session::Session;
use crate::wire::Args;
use crate::{ApiError, State};
use axum::Json;
use axum::extract::State as Within;
use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::value::RawValue;
use std::sync::Arc;

/// One event. What the user may not see is not found.
pub(super) async fn event(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, event_id)): Args<(OwnedRoomId, OwnedEventId)>,
) -> Result<Json<Box<RawValue>>, ApiError> {
    // To those outside of the room, its events don't exist either.
    let access = Access::to_event(&state, &session, &room_id).map_err(|error| match error {
        error if error.is_internal() => error,
        _ => ApiError::not_found("the event is not known here"),
    })?;
    let event = access.event(&event_id)?;
    Ok(Json(access.client_event(&event)?))
}

/// One event, in whatever room it is (deprecated).
pub(super) async fn anywhere(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((event_id,)): Args<(OwnedEventId,)>,
) -> Result<Json<Box<RawValue>>, ApiError> {
    let unknown = || ApiError::not_found("the event is not known here");
    let view = state.records.view();
    let num = view.event_num(&event_id)?.ok_or_else(unknown)?;
    let (_, record) = view.event(num)?.ok_or_else(unknown)?;
    let room_id = view.room_head(record.room)?.ok_or_else(unknown)?.room_id;
    drop(view);
    let access = Access::to_event(&state, &session, &room_id).map_err(|error| match error {
        error if error.is_internal() => error,
        _ => unknown(),
    })?;
    let event = access.event(&event_id)?;
    Ok(Json(access.client_event(&event)?))
}
