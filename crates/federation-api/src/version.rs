//! `GET /_matrix/federation/v1/version`.

use axum::Json;
use serde_json::{Value, json};

/// What this server is.
pub(crate) async fn version() -> Json<Value> {
    Json(json!({ "server": { "name": "Chancery", "version": env!("CARGO_PKG_VERSION") } }))
}
