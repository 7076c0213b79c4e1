//! `POST /keys/query`

use super::json_text;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::Body;
use crate::{ApiError, State};
use axum::extract;
use axum::response::Response;
use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long other servers are waited for if the client doesn't say.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// Whose keys are asked for, and how long other servers may take, in milliseconds.
#[derive(Deserialize)]
pub(super) struct Request {
    device_keys: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    timeout: Option<u64>,
}

/// The keys of users and their devices.
pub(super) async fn query(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Body(request): Body<Request>,
) -> Result<Response, ApiError> {
    state.limit(Class::Other, &session)?;
    let mut keys = state.devices.query(&session.user_id, &request.device_keys)?;
    let mut failures = Map::new();
    if request.device_keys.keys().any(|user| !state.devices.is_local(user)) {
        let timeout = request.timeout.map_or(TIMEOUT, Duration::from_millis);
        let remote = state.federation.query_keys(&request.device_keys, timeout).await?;
        failures = remote.failures;
        join(&mut keys.device_keys, &remote.device_keys)?;
        join(&mut keys.master_keys, &remote.master_keys)?;
        join(&mut keys.self_signing_keys, &remote.self_signing_keys)?;
    }
    let failures = Value::Object(failures);
    Ok(json_text(format!(
        "{{\"device_keys\":{},\"master_keys\":{},\"self_signing_keys\":{},\"user_signing_keys\":{},\"failures\":{failures}}}",
        keys.device_keys, keys.master_keys, keys.self_signing_keys, keys.user_signing_keys,
    )))
}

/// Adds entries to a JSON object, given as text, that has none of them.
fn join<T: Serialize>(object: &mut String, more: &BTreeMap<OwnedUserId, T>) -> Result<(), ApiError> {
    let more = serde_json::to_string(more).map_err(|error| ApiError::internal(&error))?;
    let more = more.strip_prefix('{').unwrap_or_default();
    if more != "}" && object.pop().is_some() {
        if !object.ends_with('{') {
            object.push(',');
        }
        object.push_str(more);
    }
    Ok(())
}
