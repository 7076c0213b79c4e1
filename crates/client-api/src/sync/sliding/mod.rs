//! Sliding sync (MSC4186) in its two forms, which differ in their names and share everything else.

mod body;
mod stable;
#[cfg(test)]
mod tests;
mod unstable;

pub(super) use stable::stable;
pub(super) use unstable::unstable;

use crate::session::Session;
use crate::{ApiError, State};
use ::sync::{PresenceState, SlidingForm, SlidingRequest, ToDeviceRequest};
use axum::response::{IntoResponse, Response};
use body::Extensions;
use http::header::CONTENT_TYPE;
use std::time::Duration;
use sync_core::sliding::Rules;

/// What both forms ask, once read.
struct Asked {
    form: SlidingForm,
    connection: Option<String>,
    position: Option<String>,
    timeout: Option<u64>,
    txn_id: Option<String>,
    rules: Rules,
    to_device: ToDeviceRequest,
    presence: PresenceState,
}

/// What is new on a connection. Waits for it, if the client wants and there is nothing yet.
async fn answer(state: &State, session: Session, asked: Asked) -> Result<Response, ApiError> {
    let (user_id, device_id) = (session.user_id.clone(), session.device_id.clone());
    // It is not needed while the request waits.
    drop(session);
    let request = SlidingRequest {
        user_id: user_id.clone(),
        device_id: device_id.clone(),
        connection: asked.connection.unwrap_or_default(),
        position: asked.position,
        rules: asked.rules,
        to_device: asked.to_device,
        timeout: Duration::from_millis(asked.timeout.unwrap_or_default()),
        form: asked.form,
        txn_id: asked.txn_id,
    };
    let present = state.syncs.present(&user_id, &device_id, asked.presence)?;
    let body = state.syncs.sliding(request).await?;
    drop(present);
    // Who was logged out while they waited gets nothing any more.
    if state.records.view().device(&user_id, &device_id)?.is_none() {
        return Err(ApiError::from(accounts::Error::UnknownToken { soft_logout: false }));
    }
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// What a client wants of its to-device messages.
fn to_device(extensions: &Extensions) -> ToDeviceRequest {
    let Some(to_device) = &extensions.to_device else { return ToDeviceRequest::default() };
    let limit = to_device.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    ToDeviceRequest { since: to_device.since.clone(), limit }
}
