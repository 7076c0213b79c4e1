//! `GET /timestamp_to_event/{roomId}`: the event that is closest to a time.

use crate::access::shared_room;
use crate::{Origin, State};
use axum::Json;
use axum::extract::State as Within;
use base::UnixMillis;
use face::ApiError;
use face::wire::{Args, query_param};
use http::Uri;
use ruma::OwnedRoomId;
use serde_json::{Value, json};
use std::sync::Arc;
use store::Direction;

/// The first event of a time or later, or the last of the time or earlier: its id and its time, which whoever is in
/// the room gets to know with later events anyway.
pub(crate) async fn timestamp_to_event(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    let param = |name| query_param(uri.query().unwrap_or_default(), name);
    let at = param("ts").ok_or_else(|| ApiError::missing_param("`ts` is needed"))?;
    let at = UnixMillis(at.parse().map_err(|_| ApiError::invalid_param("`ts` must be a time"))?);
    let direction = match param("dir").as_deref() {
        Some("f") => Direction::Forward,
        Some("b") => Direction::Backward,
        Some(_) => return Err(ApiError::invalid_param("`dir` must be `f` or `b`")),
        None => return Err(ApiError::missing_param("`dir` is needed")),
    };
    let view = state.records.view();
    let reader = shared_room(&state, &view, &origin, &room_id)?;
    let found = view.events_from_time(reader.num(), at, None, direction, 1)?;
    let event = found.first().map(|found| reader.event(found.event)).transpose()?.flatten();
    let event = event.ok_or_else(|| ApiError::not_found(format!("there is no event around {}", at.0)))?;
    let time: u64 = event.pdu.origin_server_ts().0.into();
    Ok(Json(json!({ "event_id": event.pdu.event_id(), "origin_server_ts": time })))
}
