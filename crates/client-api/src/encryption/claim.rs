//! `POST /keys/claim`

use super::json_text;
use super::query::failures;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::Body;
use crate::{ApiError, State};
use axum::extract;
use axum::response::Response;
use devices::Claim;
use ruma::{OwnedDeviceId, OwnedUserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The algorithms of the keys that are wanted, by user and device.
#[derive(Deserialize)]
pub(super) struct Request {
    one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
}

/// Gives out one-time keys. Devices that have none, and no fallback key, are left out.
pub(super) async fn claim(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Body(request): Body<Request>,
) -> Result<Response, ApiError> {
    state.limit(Class::Other, &session)?;
    let failures = failures(&state, request.one_time_keys.keys());
    let local = request.one_time_keys.into_iter().filter(|(user, _)| state.devices.is_local(user));
    let claims: Vec<Claim> = local
        .flat_map(|(user, devices)| {
            let claim = move |(device_id, algorithm)| Claim { user_id: user.clone(), device_id, algorithm };
            devices.into_iter().map(claim)
        })
        .collect();
    let claimed = state.devices.claim(claims.clone()).await?;
    let mut keys: BTreeMap<&OwnedUserId, BTreeMap<&OwnedDeviceId, BTreeMap<String, Box<RawValue>>>> = BTreeMap::new();
    for (claim, key) in claims.iter().zip(claimed) {
        if let Some(key) = key {
            let json = RawValue::from_string(key.key).map_err(|error| ApiError::internal(&error))?;
            keys.entry(&claim.user_id).or_default().insert(&claim.device_id, BTreeMap::from([(key.name, json)]));
        }
    }
    let keys = serde_json::to_string(&keys).map_err(|error| ApiError::internal(&error))?;
    let failures: Value = json!(failures);
    Ok(json_text(format!("{{\"one_time_keys\":{keys},\"failures\":{failures}}}")))
}
