//! `POST /keys/query`

use super::json_text;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::Body;
use crate::{ApiError, State};
use axum::extract;
use axum::response::Response;
use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whose keys are asked for. How long to wait for other servers is not read: none can be reached yet.
#[derive(Deserialize)]
pub(super) struct Request {
    device_keys: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
}

/// The keys of users and their devices.
pub(super) async fn query(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Body(request): Body<Request>,
) -> Result<Response, ApiError> {
    state.limit(Class::Other, &session)?;
    let keys = state.devices.query(&session.user_id, &request.device_keys)?;
    let failures = Value::Object(failures(&state, request.device_keys.keys()));
    Ok(json_text(format!(
        "{{\"device_keys\":{},\"master_keys\":{},\"self_signing_keys\":{},\"user_signing_keys\":{},\"failures\":{failures}}}",
        keys.device_keys, keys.master_keys, keys.self_signing_keys, keys.user_signing_keys,
    )))
}

/// The servers of users whom this server cannot ask for keys.
pub(super) fn failures<'u>(state: &State, users: impl Iterator<Item = &'u OwnedUserId>) -> Map<String, Value> {
    let others =
        users.filter(|user: &&OwnedUserId| !state.devices.is_local(user)).map(|user| UserId::server_name(user));
    let failure = || json!({ "errcode": "M_UNKNOWN", "error": "the server cannot be reached" });
    others.map(|server| (server.to_string(), failure())).collect()
}
