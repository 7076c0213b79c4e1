//! End-to-end encryption: messages to devices, keys of devices and users, backups of room keys, dehydrated devices.

mod backup_keys;
mod backup_version;
mod changes;
mod claim;
mod cross_signing;
mod dehydrated;
mod query;
mod signatures;
#[cfg(test)]
mod tests;
mod to_device;
mod upload;

use crate::State;
use crate::routes::Routes as _;
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use http::header::CONTENT_TYPE;
use std::sync::Arc;

/// The endpoints of end-to-end encryption.
pub(crate) fn routes() -> Router<Arc<State>> {
    use backup_keys as keys;
    use backup_version as version;
    let dehydrated = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";
    Router::new()
        .v3("/sendToDevice/{event_type}/{txn_id}", put(to_device::send))
        .v3("/keys/upload", post(upload::upload))
        .v3("/keys/query", post(query::query))
        .v3("/keys/claim", post(claim::claim))
        .v3("/keys/changes", get(changes::changes))
        .v3_once("unstable", "/keys/device_signing/upload", post(cross_signing::upload))
        .v3_once("unstable", "/keys/signatures/upload", post(signatures::upload))
        .v3_once("unstable", "/room_keys/version", get(version::current).post(version::create))
        .v3_once(
            "unstable",
            "/room_keys/version/{version}",
            get(version::show).put(version::update).delete(version::delete),
        )
        .v3_once("unstable", "/room_keys/keys", get(keys::all).put(keys::put_all).delete(keys::delete_all))
        .v3_once("unstable", "/room_keys/keys/{room_id}", get(keys::room).put(keys::put_room).delete(keys::delete_room))
        .v3_once(
            "unstable",
            "/room_keys/keys/{room_id}/{session_id}",
            get(keys::session).put(keys::put_session).delete(keys::delete_session),
        )
        .route(dehydrated, get(dehydrated::show).put(dehydrated::put).delete(dehydrated::delete))
        .route(&format!("{dehydrated}/{{device_id}}/events"), get(dehydrated::events).post(dehydrated::events_by_post))
}

/// An answer that is JSON already.
fn json_text(text: impl Into<axum::body::Body>) -> Response {
    ([(CONTENT_TYPE, "application/json")], text.into()).into_response()
}
