//! `GET /state/{roomId}` and `GET /state_ids/{roomId}`: the state before an event.

use crate::access::{READ_AT_ONCE, auth_chain, placed_event, push_events, shared_room, state_nums};
use crate::event::json_text;
use crate::{Origin, State};
use axum::Json;
use axum::extract::State as Within;
use axum::response::Response;
use base::EventNum;
use face::ApiError;
use face::wire::{Args, query_param};
use http::Uri;
use rooms::RoomReader;
use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::{Value, json};
use std::sync::Arc;

/// The events of the state, and those that allow them.
pub(crate) async fn state(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let _turn = turn(&state).await?;
    let (reader, pdus, chain) = read(&state, &origin, &room_id, &uri)?;
    let mut body = "{\"pdus\":".to_owned();
    push_events(&mut body, &reader, &pdus)?;
    body.push_str(",\"auth_chain\":");
    push_events(&mut body, &reader, &chain)?;
    body.push('}');
    Ok(json_text(body))
}

/// Their ids.
pub(crate) async fn state_ids(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    let _turn = turn(&state).await?;
    let (reader, pdus, chain) = read(&state, &origin, &room_id, &uri)?;
    Ok(Json(json!({ "pdu_ids": ids(&reader, &pdus)?, "auth_chain_ids": ids(&reader, &chain)? })))
}

/// Waits until few others put large answers together.
pub(crate) async fn turn(state: &State) -> Result<tokio::sync::OwnedSemaphorePermit, ApiError> {
    state.large.clone().acquire_owned().await.map_err(|error| ApiError::internal(&error))
}

fn read(
    state: &State,
    origin: &Origin,
    room_id: &OwnedRoomId,
    uri: &Uri,
) -> Result<(RoomReader, Vec<EventNum>, Vec<EventNum>), ApiError> {
    let event_id = query_param(uri.query().unwrap_or_default(), "event_id");
    let event_id = event_id.ok_or_else(|| ApiError::missing_param("`event_id` is needed"))?;
    let event_id = OwnedEventId::try_from(event_id).map_err(|_| ApiError::invalid_param("`event_id` is not one"))?;
    let view = state.records.view();
    let reader = shared_room(state, &view, origin, room_id)?;
    let event = placed_event(&reader, &event_id)?;
    let pdus = state_nums(&reader, event.record.state_before)?;
    let chain = auth_chain(&reader, pdus.iter().copied())?;
    Ok((reader, pdus, chain))
}

fn ids(reader: &RoomReader, nums: &[EventNum]) -> Result<Vec<OwnedEventId>, ApiError> {
    let mut ids = Vec::with_capacity(nums.len());
    for nums in nums.chunks(READ_AT_ONCE) {
        ids.extend(reader.events(nums)?.iter().map(|event| event.pdu.event_id().clone()));
    }
    Ok(ids)
}
