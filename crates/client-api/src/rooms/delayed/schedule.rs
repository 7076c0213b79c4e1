//! `PUT /rooms/{roomId}/delayed_event/{eventType}/{txnId}`, and `PUT …/send` and `PUT …/state` with a delay.

use crate::limits::Class;
use crate::rooms::error::as_outsider;
use crate::rooms::send::{check_type, txn};
use crate::session::Session;
use crate::wire::{Args, Body, query_param};
use crate::{ApiError, State};
use axum::Json;
use axum::extract::State as Within;
use base::limits::ID_BYTES_MAX;
use http::Uri;
use rooms::{Schedule, Scheduled, Txn};
use ruma::{OwnedRoomId, RoomId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The most bytes of a content: no event is larger.
const CONTENT_BYTES_MAX: usize = 65_536;

/// An event, and how long it waits.
#[derive(Deserialize)]
pub(super) struct Request {
    delay_ms: u64,
    state_key: Option<String>,
    content: Box<RawValue>,
}

/// Schedules an event.
pub(super) async fn put(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, kind, txn_id)): Args<(OwnedRoomId, String, String)>,
    Body(Request { delay_ms, state_key, content }): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    let txn = txn(&session, endpoint(&room_id, &kind), txn_id)?;
    schedule(&state, &session, &room_id, (kind, state_key), &content, checked(delay_ms)?, Some(txn)).await
}

/// What the transaction ids of delayed events are unique in, whichever way they are scheduled.
fn endpoint(room_id: &RoomId, kind: &str) -> String {
    format!("delayed_event/{room_id}/{kind}")
}

/// The delay that the query of a request names, and what makes it the same as an earlier one.
pub(in crate::rooms) fn delay_in_query(uri: &Uri) -> Result<Option<Duration>, ApiError> {
    let Some(delay) = uri.query().and_then(|query| query_param(query, "org.matrix.msc4140.delay")) else {
        return Ok(None);
    };
    let delay = delay.parse().map_err(|_| ApiError::invalid_param("the delay must be a number of milliseconds"))?;
    checked(delay).map(Some)
}

fn checked(delay_ms: u64) -> Result<Duration, ApiError> {
    match delay_ms {
        0 => Err(ApiError::invalid_param("the delay must be longer than nothing")),
        delay_ms => Ok(Duration::from_millis(delay_ms)),
    }
}

/// Schedules an event, for a request of whichever form.
pub(in crate::rooms) async fn schedule(
    state: &State,
    session: &Session,
    room_id: &RoomId,
    (kind, state_key): (String, Option<String>),
    content: &RawValue,
    delay: Duration,
    txn: Option<Txn>,
) -> Result<Json<Value>, ApiError> {
    let config = &state.config.delayed_events;
    if config.scheduled_max == 0 {
        return Err(ApiError::forbidden("this server does not send delayed events"));
    }
    if delay > config.delay_max {
        return Err(ApiError::forbidden("the delay is longer than this server allows"));
    }
    state.limit(Class::Other, session)?;
    check_type(&kind)?;
    if state_key.as_ref().is_some_and(|state_key| state_key.len() > ID_BYTES_MAX) {
        return Err(ApiError::too_large(format!("a state key has at most {ID_BYTES_MAX} bytes")));
    }
    if !content.get().starts_with('{') {
        return Err(ApiError::bad_json("the content is not an object"));
    }
    if content.get().len() > CONTENT_BYTES_MAX {
        return Err(ApiError::too_large("the content is larger than an event may be"));
    }
    let txn = txn.map(|txn| Txn { endpoint: endpoint(room_id, &kind), ..txn });
    let schedule = Schedule {
        user: session.user_id.clone(),
        room_id: room_id.to_owned(),
        kind,
        state_key,
        content: content.get().to_owned(),
        delay,
        txn,
        scheduled_max: usize::try_from(config.scheduled_max).unwrap_or(usize::MAX),
    };
    match state.rooms.schedule(&schedule).await.map_err(as_outsider)? {
        Scheduled::Waits(id) => {
            state.delayed.changed.notify_one();
            Ok(Json(json!({"delay_id": id})))
        }
        Scheduled::TooMany(next) => Err(ApiError::limit_exceeded(next.since(state.clock.now()))),
    }
}
