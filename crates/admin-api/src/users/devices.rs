//! A user's devices: `/_synapse/admin/v2/users/{userId}/devices` and `…/delete_devices`, and where they were last seen:
//! `/_synapse/admin/v1/whois/{userId}`.

use crate::State;
use crate::access::Admin;
use accounts::Device;
use axum::extract;
use axum::routing::{get, post};
use axum::{Json, Router};
use face::ApiError;
use face::wire::{Args, Body};
use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// How many devices can be deleted at once.
const DELETED_MAX: usize = 1000;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v2/users/{user_id}/devices", get(list))
        .route("/_synapse/admin/v2/users/{user_id}/devices/{device_id}", get(show).put(rename).delete(delete))
        .route("/_synapse/admin/v2/users/{user_id}/delete_devices", post(delete_many))
        .route("/_synapse/admin/v1/whois/{user_id}", get(whois))
}

fn shown(user: &UserId, device: Device) -> Value {
    let (at, address) = device.last_seen.map(|seen| (seen.at.0, seen.address)).unzip();
    json!({
        "device_id": device.device_id,
        "display_name": device.display_name,
        "last_seen_ip": address,
        "last_seen_ts": at,
        "last_seen_user_agent": null,
        "dehydrated": false,
        "user_id": user,
    })
}

async fn list(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    let devices: Vec<Value> = state.accounts.devices(&user)?.into_iter().map(|device| shown(&user, device)).collect();
    Ok(Json(json!({ "total": devices.len(), "devices": devices })))
}

async fn show(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((user, device)): Args<(OwnedUserId, OwnedDeviceId)>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    let device = state.accounts.device(&user, &device)?;
    device.map(|device| Json(shown(&user, device))).ok_or_else(|| ApiError::not_found("there is no such device"))
}

#[derive(Debug, Deserialize)]
struct Rename {
    display_name: Option<String>,
}

async fn rename(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((user, device)): Args<(OwnedUserId, OwnedDeviceId)>,
    Body(body): Body<Rename>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    match body.display_name {
        Some(name) => state.accounts.rename_device(&user, &device, &name).await?,
        None if state.accounts.device(&user, &device)?.is_none() => {
            return Err(ApiError::not_found("there is no such device"));
        }
        None => {}
    }
    Ok(Json(json!({})))
}

async fn delete(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((user, device)): Args<(OwnedUserId, OwnedDeviceId)>,
) -> Result<Json<Value>, ApiError> {
    remove(&state, &admin, &user, vec![device]).await
}

#[derive(Debug, Deserialize)]
struct DeleteMany {
    devices: Vec<OwnedDeviceId>,
}

async fn delete_many(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
    Body(body): Body<DeleteMany>,
) -> Result<Json<Value>, ApiError> {
    if body.devices.len() > DELETED_MAX {
        return Err(ApiError::too_large(format!("at most {DELETED_MAX} devices can be deleted at once")));
    }
    remove(&state, &admin, &user, body.devices).await
}

async fn remove(
    state: &State,
    admin: &Admin,
    user: &UserId,
    devices: Vec<OwnedDeviceId>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(user)?;
    tracing::info!(admin = %admin.user_id, %user, count = devices.len(), "devices are removed");
    state.accounts.remove_devices(user, &devices).await?;
    Ok(Json(json!({})))
}

/// `GET /_synapse/admin/v1/whois/{userId}`, as `/_matrix/client/v3/admin/whois/{userId}`.
async fn whois(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    let devices = state.accounts.devices(&user)?.into_iter().map(|device| {
        let seen = device.last_seen.map(|seen| json!({ "ip": seen.address, "last_seen": seen.at.0, "user_agent": "" }));
        let connections: Vec<Value> = seen.into_iter().collect();
        (device.device_id.to_string(), json!({ "sessions": [{ "connections": connections }] }))
    });
    Ok(Json(json!({ "user_id": user, "devices": devices.collect::<Map<_, _>>() })))
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use serde_json::json;

    #[tokio::test]
    async fn devices_are_shown_renamed_and_removed() {
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.admin("alice").await);
        let path = format!("/_synapse/admin/v2/users/{}/devices", alice.id);
        let list = server.get(&path, Some(&alice)).await.ok();
        assert_eq!((&list["total"], &list["devices"][0]["device_id"]), (&json!(1), &json!(alice.device)));
        let seen = &list["devices"][0]["last_seen_ip"];
        let whois = format!("/_synapse/admin/v1/whois/{}", alice.id);
        let whois = server.get(&whois, Some(&admin)).await.ok();
        assert_eq!(whois["devices"][&alice.device]["sessions"][0]["connections"][0]["ip"], *seen);
        let device = format!("{path}/{}", alice.device);
        server.put(&device, Some(&admin), &json!({ "display_name": "Phone" })).await.ok();
        assert_eq!(server.get(&device, Some(&admin)).await.ok()["display_name"], "Phone");
        server.put(&format!("{path}/none"), Some(&admin), &json!({})).await.refused(404, "M_NOT_FOUND");
        server.delete(&device, Some(&admin), &json!({})).await.ok();
        server.get(&path, Some(&alice)).await.refused(401, "M_UNKNOWN_TOKEN");
        server.get(&device, Some(&admin)).await.refused(404, "M_NOT_FOUND");
        let path = format!("/_synapse/admin/v2/users/{}/delete_devices", alice.id);
        server.post(&path, Some(&admin), &json!({ "devices": ["A", "B"] })).await.ok();
    }
}
