//! The server itself: its version, and what runs in the background.

use crate::State;
use crate::access::Admin;
use axum::routing::get;
use axum::{Json, Router};
use face::ApiError;
use face::wire::Body;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v1/server_version", get(version))
        .route("/_synapse/admin/v1/background_updates/status", get(updates))
        .route("/_synapse/admin/v1/background_updates/enabled", get(updates_enabled).post(enable_updates))
}

/// `GET /_synapse/admin/v1/server_version`
async fn version(_: Admin) -> Json<Value> {
    Json(json!({ "server_version": concat!("Chancery ", env!("CARGO_PKG_VERSION")) }))
}

/// `GET /_synapse/admin/v1/background_updates/status`: a store of another layout is not opened, so there never are any.
async fn updates(_: Admin) -> Json<Value> {
    Json(json!({ "enabled": true, "current_updates": {} }))
}

/// `GET /_synapse/admin/v1/background_updates/enabled`
async fn updates_enabled(_: Admin) -> Json<Value> {
    Json(json!({ "enabled": true }))
}

#[derive(Debug, Deserialize)]
struct Enabled {
    enabled: bool,
}

/// `POST /_synapse/admin/v1/background_updates/enabled`
async fn enable_updates(_: Admin, Body(Enabled { enabled }): Body<Enabled>) -> Result<Json<Value>, ApiError> {
    match enabled {
        true => Ok(Json(json!({ "enabled": true }))),
        false => Err(ApiError::unknown("there are no updates in the background that could be stopped")),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;

    #[tokio::test]
    async fn administrators_are_told_the_version_and_nobody_else_is() {
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.user("alice").await);
        let path = "/_synapse/admin/v1/server_version";
        server.get(path, None).await.refused(401, "M_MISSING_TOKEN");
        server.get(path, Some(&alice)).await.refused(403, "M_FORBIDDEN");
        let version = server.get(path, Some(&admin)).await.ok();
        assert!(version["server_version"].as_str().unwrap().starts_with("Chancery "), "{version}");
        server.put(path, Some(&admin), &serde_json::json!({})).await.refused(405, "M_UNRECOGNIZED");
        let status = server.get("/_synapse/admin/v1/background_updates/status", Some(&admin)).await.ok();
        assert_eq!(status["current_updates"], serde_json::json!({}));
        server.state.accounts.set_locked(&admin.id, true).await.unwrap();
        server.get(path, Some(&admin)).await.refused(401, "M_USER_LOCKED");
    }
}
