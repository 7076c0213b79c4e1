//! `GET /events`, for members (deprecated) and for those who look at a room that the world may read.

use crate::session::Session;
use crate::{ApiError, State};
use ::sync::{EventsRequest, PageToken, SyncToken};
use axum::extract;
use axum::response::{IntoResponse, Response};
use base::Stamp;
use http::header::CONTENT_TYPE;
use ruma::OwnedRoomId;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

#[derive(Deserialize)]
pub(super) struct Parameters {
    from: Option<String>,
    #[serde(default)]
    timeout: u64,
    room_id: Option<OwnedRoomId>,
}

/// What a client has seen that names a place: one of sync, of an earlier answer, or of pagination. Of what is in
/// memory only, such as who types, the last says nothing.
fn from_token(text: &str) -> Result<SyncToken, ApiError> {
    if let Ok(token) = text.parse() {
        return Ok(token);
    }
    let place = PageToken::parse(text).map_err(|error| ApiError::invalid_param(format!("from: {error}")))?;
    // What was there before the server took part in the room has no place in the stream.
    Ok(SyncToken::new(Stamp(u64::try_from(place.0.0).unwrap_or_default()), 0))
}

/// The events that came after a token: of sync, of pagination, or of an earlier answer.
pub(super) async fn events(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    parameters: Result<extract::Query<Parameters>, extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let extract::Query(parameters) = parameters.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let from = parameters.from.as_deref().map(from_token).transpose()?;
    let request = EventsRequest {
        user_id: session.user_id.clone(),
        device_id: session.device_id.clone(),
        from,
        room_id: parameters.room_id,
        timeout: Duration::from_millis(parameters.timeout),
    };
    let (user_id, device_id) = (request.user_id.clone(), request.device_id.clone());
    drop(session);
    let body = state.syncs.events(request).await?;
    // Who was logged out while they waited gets nothing any more.
    if state.records.view().device(&user_id, &device_id)?.is_none() {
        return Err(ApiError::from(accounts::Error::UnknownToken { soft_logout: false }));
    }
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}
