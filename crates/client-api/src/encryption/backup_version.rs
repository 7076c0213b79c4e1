//! `/room_keys/version`: the versions of a backup of room keys.

use super::upload::text;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use axum::{Json, extract};
use devices::Backup;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;

/// What a version is.
#[derive(Deserialize)]
pub(super) struct Request {
    algorithm: String,
    auth_data: Box<RawValue>,
    version: Option<String>,
}

fn shown(backup: Backup) -> Result<Json<Value>, ApiError> {
    let auth_data = RawValue::from_string(backup.auth_data).map_err(|error| ApiError::internal(&error))?;
    Ok(Json(json!({
        "algorithm": backup.algorithm,
        "auth_data": auth_data,
        "count": backup.standing.count,
        "etag": backup.standing.etag,
        "version": backup.version,
    })))
}

fn auth_data(json: Box<RawValue>) -> Result<String, ApiError> {
    let auth_data = text(json);
    if auth_data.starts_with('{') { Ok(auth_data) } else { Err(ApiError::bad_json("auth_data is not an object")) }
}

/// `POST /room_keys/version`
pub(super) async fn create(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let auth_data = auth_data(request.auth_data)?;
    let version = state.devices.create_backup(&session.user_id, &request.algorithm, &auth_data).await?;
    Ok(Json(json!({ "version": version })))
}

/// `GET /room_keys/version`
pub(super) async fn current(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
) -> Result<Json<Value>, ApiError> {
    shown(state.devices.backup(&session.user_id, None)?)
}

/// `GET /room_keys/version/{version}`
pub(super) async fn show(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((version,)): Args<(String,)>,
) -> Result<Json<Value>, ApiError> {
    shown(state.devices.backup(&session.user_id, Some(&version))?)
}

/// `PUT /room_keys/version/{version}`
pub(super) async fn update(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((version,)): Args<(String,)>,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    if request.version.is_some_and(|named| named != version) {
        return Err(ApiError::invalid_param("the version in the body is not that of the path"));
    }
    let auth_data = auth_data(request.auth_data)?;
    state.devices.update_backup(&session.user_id, &version, &request.algorithm, &auth_data).await?;
    Ok(Json(json!({})))
}

/// `DELETE /room_keys/version/{version}`
pub(super) async fn delete(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((version,)): Args<(String,)>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    state.devices.delete_backup(&session.user_id, &version).await?;
    Ok(Json(json!({})))
}
