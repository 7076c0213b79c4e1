//! Devices.

use super::interactive::Challenged;
use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use accounts::Device;
use axum::extract;
use axum::routing::{get, post};
use axum::{Json, Router};
use ruma::OwnedDeviceId;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// How many devices can be deleted at once.
const DELETED_MAX: usize = 1000;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .v3("/devices", get(list))
        .v3("/devices/{device_id}", get(show).put(rename).delete(delete))
        .v3("/delete_devices", post(delete_many))
}

fn shown(device: Device) -> Value {
    let mut shown = Map::new();
    shown.insert("device_id".to_owned(), json!(device.device_id));
    if let Some(name) = device.display_name {
        shown.insert("display_name".to_owned(), json!(name));
    }
    if let Some(seen) = device.last_seen {
        shown.insert("last_seen_ip".to_owned(), json!(seen.address));
        shown.insert("last_seen_ts".to_owned(), json!(seen.at.0));
    }
    Value::Object(shown)
}

/// `GET /devices`
async fn list(extract::State(state): extract::State<Arc<State>>, session: Session) -> Result<Json<Value>, ApiError> {
    let devices: Vec<Value> = state.accounts.devices(&session.user_id)?.into_iter().map(shown).collect();
    Ok(Json(json!({ "devices": devices })))
}

/// `GET /devices/{deviceId}`
async fn show(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((device,)): Args<(OwnedDeviceId,)>,
) -> Result<Json<Value>, ApiError> {
    let device = state.accounts.device(&session.user_id, &device)?;
    device.map(|device| Json(shown(device))).ok_or_else(|| ApiError::not_found("there is no such device"))
}

#[derive(Debug, Deserialize)]
struct Rename {
    display_name: Option<String>,
}

/// `PUT /devices/{deviceId}`
async fn rename(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((device,)): Args<(OwnedDeviceId,)>,
    Body(request): Body<Rename>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    match request.display_name {
        Some(name) => state.accounts.rename_device(&session.user_id, &device, &name).await?,
        None => {
            let device = state.accounts.device(&session.user_id, &device)?;
            device.ok_or_else(|| ApiError::not_found("there is no such device"))?;
        }
    }
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
struct Nothing {}

/// `DELETE /devices/{deviceId}`
async fn delete(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((device,)): Args<(OwnedDeviceId,)>,
    request: Challenged<Nothing>,
) -> Result<Json<Value>, ApiError> {
    request.password_of(&state, &session).await?;
    state.accounts.remove_devices(&session.user_id, &[device]).await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
struct DeleteMany {
    devices: Vec<OwnedDeviceId>,
}

/// `POST /delete_devices`
async fn delete_many(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    request: Challenged<DeleteMany>,
) -> Result<Json<Value>, ApiError> {
    if request.body.devices.len() > DELETED_MAX {
        return Err(ApiError::too_large(format!("at most {DELETED_MAX} devices can be deleted at once")));
    }
    let request = request.password_of(&state, &session).await?;
    state.accounts.remove_devices(&session.user_id, &request.devices).await?;
    Ok(Json(json!({})))
}
