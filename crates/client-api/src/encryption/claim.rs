//! `POST /keys/claim`

use super::json_text;
use super::query::TIMEOUT;
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
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The algorithms of the keys that are wanted, by user and device.
#[derive(Deserialize)]
pub(super) struct Request {
    one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
    /// How long other servers may take, in milliseconds.
    timeout: Option<u64>,
}

/// Gives out one-time keys. Devices that have none, and no fallback key, are left out.
pub(super) async fn claim(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Body(request): Body<Request>,
) -> Result<Response, ApiError> {
    state.limit(Class::Other, &session)?;
    let (local, elsewhere): (BTreeMap<_, _>, BTreeMap<_, _>) =
        request.one_time_keys.into_iter().partition(|(user, _)| state.devices.is_local(user));
    let local = local.into_iter();
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
    let mut keys: BTreeMap<OwnedUserId, Value> =
        keys.iter().map(|(user, keys)| ((*user).clone(), json!(keys))).collect();
    let mut failures = Map::new();
    if !elsewhere.is_empty() {
        let timeout = request.timeout.map_or(TIMEOUT, Duration::from_millis);
        let (claimed, failed) = state.federation.claim_keys(elsewhere, timeout).await;
        failures = failed;
        keys.extend(claimed.into_iter().map(|(user, devices)| (user, json!(devices))));
    }
    let keys = serde_json::to_string(&keys).map_err(|error| ApiError::internal(&error))?;
    let failures: Value = json!(failures);
    Ok(json_text(format!("{{\"one_time_keys\":{keys},\"failures\":{failures}}}")))
}
