//! `GET /event/{eventId}` and `GET /event_auth/{roomId}/{eventId}`.

use crate::access::{Sight, auth_chain, event as event_of, push_events, shared_room};
use crate::{Origin, State};
use axum::Json;
use axum::extract::State as Within;
use axum::response::{IntoResponse, Response};
use face::ApiError;
use face::wire::Args;
use http::header::CONTENT_TYPE;
use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;

/// One event.
pub(crate) async fn event(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((event_id,)): Args<(OwnedEventId,)>,
) -> Result<Json<Value>, ApiError> {
    let not_found = || ApiError::not_found("the event is not known here");
    let view = state.records.view();
    let num = view.event_num(&event_id)?.ok_or_else(not_found)?;
    let (_, record) = view.event(num)?.ok_or_else(not_found)?;
    let head = view.room_head(record.room)?.ok_or_else(not_found)?;
    let reader = shared_room(&state, &view, &origin, &head.room_id)?;
    let event = event_of(&reader, &event_id)?;
    let json = Sight::new(&reader, &origin).json(&event)?;
    transaction(&state, vec![json]).map(Json)
}

/// Events in the form of a transaction.
pub(crate) fn transaction(state: &State, events: Vec<String>) -> Result<Value, ApiError> {
    let pdus: Result<Vec<Box<RawValue>>, _> = events.into_iter().map(RawValue::from_string).collect();
    let pdus = pdus.map_err(|error| ApiError::internal(&error))?;
    Ok(json!({ "origin": state.server_name, "origin_server_ts": state.clock.now().0, "pdus": pdus }))
}

/// What allows an event, and what allows that, to the end.
pub(crate) async fn event_auth(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id, event_id)): Args<(OwnedRoomId, OwnedEventId)>,
) -> Result<Response, ApiError> {
    let view = state.records.view();
    let reader = shared_room(&state, &view, &origin, &room_id)?;
    let event = event_of(&reader, &event_id)?;
    let chain = auth_chain(&reader, [event.num])?;
    let mut body = "{\"auth_chain\":".to_owned();
    push_events(&mut body, &reader, &chain)?;
    body.push('}');
    Ok(json_text(body))
}

/// JSON that is written already.
pub(crate) fn json_text(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}
