//! `/org.matrix.msc3814.v1/dehydrated_device` (MSC3814)

use super::json_text;
use super::upload::{Keys, text, texts};
use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use axum::response::Response;
use axum::{Json, extract};
use base::Stamp;
use devices::{DehydratedPage, KeyUpload, NewDehydrated};
use http::Uri;
use ruma::{DeviceId, OwnedDeviceId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;

/// A device to be dehydrated.
#[derive(Deserialize)]
pub(super) struct Request {
    device_id: OwnedDeviceId,
    device_data: Box<RawValue>,
    initial_device_display_name: Option<String>,
    device_keys: Box<RawValue>,
    one_time_keys: Option<Keys>,
    fallback_keys: Option<Keys>,
}

/// `PUT …/dehydrated_device`
pub(super) async fn put(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let data = text(request.device_data);
    let has_algorithm =
        serde_json::from_str::<Value>(&data).is_ok_and(|data| data.get("algorithm").is_some_and(Value::is_string));
    if !has_algorithm {
        return Err(ApiError::bad_json("device_data needs an algorithm"));
    }
    let keys = KeyUpload {
        device_keys: Some(text(request.device_keys)),
        one_time_keys: texts(request.one_time_keys),
        fallback_keys: texts(request.fallback_keys),
    };
    let (device_id, display_name) = (request.device_id, request.initial_device_display_name);
    let new = NewDehydrated { device_id: device_id.clone(), data, display_name, keys };
    state.devices.dehydrate(&session.user_id, new).await?;
    Ok(Json(json!({ "device_id": device_id })))
}

/// `GET …/dehydrated_device`
pub(super) async fn show(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
) -> Result<Response, ApiError> {
    let record = state.devices.dehydrated(&session.user_id)?;
    let device_id = json!(record.device_id);
    Ok(json_text(format!("{{\"device_id\":{device_id},\"device_data\":{}}}", record.data)))
}

/// `DELETE …/dehydrated_device`
pub(super) async fn delete(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let device_id = state.devices.delete_dehydrated(&session.user_id).await?;
    Ok(Json(json!({ "device_id": device_id })))
}

/// `GET …/dehydrated_device/{device_id}/events`: the last page has no `next_batch`.
pub(super) async fn events(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    uri: Uri,
    Args((device,)): Args<(OwnedDeviceId,)>,
) -> Result<Response, ApiError> {
    #[derive(Deserialize)]
    struct Parameters {
        from: Option<String>,
    }
    let parameters = extract::Query::<Parameters>::try_from_uri(&uri);
    let extract::Query(parameters) = parameters.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let page = page(&state, &session, &device, parameters.from.as_deref())?;
    let next = page.has_more.then_some(page.next);
    Ok(shown(&page, next))
}

/// Where a page begins.
#[derive(Deserialize)]
pub(super) struct From {
    next_batch: Option<String>,
}

/// `POST …/dehydrated_device/{device_id}/events`, as the proposal was before and clients in service ask: each page
/// has a `next_batch`, and an empty page is the last.
pub(super) async fn events_by_post(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((device,)): Args<(OwnedDeviceId,)>,
    Body(request): Body<From>,
) -> Result<Response, ApiError> {
    let page = page(&state, &session, &device, request.next_batch.as_deref())?;
    Ok(shown(&page, Some(page.next)))
}

fn page(state: &State, session: &Session, device: &DeviceId, from: Option<&str>) -> Result<DehydratedPage, ApiError> {
    state.limit(Class::Other, session)?;
    let from = from.map(|from| from.strip_prefix('d').and_then(|number| number.parse().ok()).map(Stamp));
    let from = from.unwrap_or(Some(Stamp(0))).ok_or_else(|| ApiError::invalid_param("the token is not one"))?;
    Ok(state.devices.dehydrated_messages(&session.user_id, device, from)?)
}

fn shown(page: &DehydratedPage, next: Option<Stamp>) -> Response {
    let mut events = Vec::with_capacity(page.messages.len());
    for message in &page.messages {
        let (kind, sender) = (json!(message.kind), json!(message.sender));
        events.push(format!("{{\"type\":{kind},\"sender\":{sender},\"content\":{}}}", message.content));
    }
    let next = next.map(|next| format!(",\"next_batch\":\"d{next}\"")).unwrap_or_default();
    json_text(format!("{{\"events\":[{}]{next}}}", events.join(",")))
}
