//! The devices and keys of users of this server (server-server API, "Device Management", "End-to-End Encryption").

use crate::State;
use axum::Json;
use axum::extract::State as Within;
use devices::{Claim, QueriedKeys};
use face::ApiError;
use face::wire::{Args, Body};
use ruma::{OwnedDeviceId, OwnedUserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The body of `POST /user/keys/query`.
#[derive(Deserialize)]
pub(crate) struct Query {
    device_keys: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
}

/// The body of `POST /user/keys/claim`.
#[derive(Deserialize)]
pub(crate) struct Claims {
    one_time_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
}

type Keys<T> = BTreeMap<OwnedUserId, T>;

fn parse<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, ApiError> {
    serde_json::from_str(json).map_err(|error| ApiError::internal(&error))
}

/// `GET /user/devices/{userId}`
pub(crate) async fn devices(
    Within(state): Within<Arc<State>>,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    #[derive(Deserialize)]
    struct Unsigned {
        #[serde(default)]
        unsigned: Names,
    }
    #[derive(Default, Deserialize)]
    struct Names {
        device_display_name: Option<String>,
    }

    let view = state.records.view();
    if user.server_name() != state.server_name || view.user(&user)?.is_none() {
        return Err(ApiError::not_found("there is no such user"));
    }
    let changed = view.device_list_changed(&user)?.map_or(0, |stamp| stamp.0);
    let keys = state.devices.query_for_server(&BTreeMap::from([(user.clone(), Vec::new())]))?;
    let mut of_users: Keys<BTreeMap<OwnedDeviceId, Box<RawValue>>> = parse(&keys.device_keys)?;
    let mut devices = Vec::new();
    for (device_id, keys) in of_users.remove(&user).unwrap_or_default() {
        let Unsigned { unsigned } = parse(keys.get())?;
        let mut device = json!({ "device_id": device_id, "keys": keys });
        if let (Some(name), Some(device)) = (unsigned.device_display_name, device.as_object_mut()) {
            device.insert("device_display_name".to_owned(), Value::String(name));
        }
        devices.push(device);
    }
    let mut answer = json!({ "user_id": user, "stream_id": changed, "devices": devices });
    if let Some(answer) = answer.as_object_mut() {
        for (field, keys) in [("master_key", &keys.master_keys), ("self_signing_key", &keys.self_signing_keys)] {
            let mut keys: Keys<Value> = parse(keys)?;
            answer.extend(keys.remove(&user).map(|key| (field.to_owned(), key)));
        }
    }
    Ok(Json(answer))
}

/// `POST /user/keys/query`
pub(crate) async fn query_keys(
    Within(state): Within<Arc<State>>,
    Body(query): Body<Query>,
) -> Result<Json<Value>, ApiError> {
    let QueriedKeys { device_keys, master_keys, self_signing_keys, .. } =
        state.devices.query_for_server(&query.device_keys)?;
    let raw = |json: String| RawValue::from_string(json).map_err(|error| ApiError::internal(&error));
    Ok(Json(json!({
        "device_keys": raw(device_keys)?,
        "master_keys": raw(master_keys)?,
        "self_signing_keys": raw(self_signing_keys)?,
    })))
}

/// `POST /user/keys/claim`
pub(crate) async fn claim_keys(
    Within(state): Within<Arc<State>>,
    Body(claims): Body<Claims>,
) -> Result<Json<Value>, ApiError> {
    let claims: Vec<Claim> = claims
        .one_time_keys
        .into_iter()
        .filter(|(user, _)| user.server_name() == state.server_name)
        .flat_map(|(user_id, devices)| {
            devices.into_iter().map(move |(device_id, algorithm)| Claim {
                user_id: user_id.clone(),
                device_id,
                algorithm,
            })
        })
        .collect();
    let claimed = state.devices.claim(claims.clone()).await?;
    let mut keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Map<String, Value>>> = BTreeMap::new();
    for (claim, key) in claims.into_iter().zip(claimed) {
        let Some(key) = key else { continue };
        let of_device = keys.entry(claim.user_id).or_default().entry(claim.device_id).or_default();
        of_device.insert(key.name, parse(&key.key)?);
    }
    Ok(Json(json!({ "one_time_keys": keys })))
}
