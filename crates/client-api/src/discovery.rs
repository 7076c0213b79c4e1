//! What the server can do: versions and capabilities.

use crate::State;
use crate::routes::Routes as _;
use crate::session::Session;
use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use ruma::RoomVersionId;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The versions of the specification that clients may count on.
///
/// A client takes a version here as leave to use all that it brought, and stops asking whether it works: since
/// v1.3 and v1.4 it takes relations and threads for granted, since v1.11 authenticated media. So a version is
/// added when all of its operations are served (tests/tests/conformance.rs looks after that), and all that clients
/// derive from it.
const VERSIONS: [&str; 20] = [
    "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12",
    "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
];

/// What a client may use although its version is not among [`VERSIONS`] yet, and what clients look for that don't look
/// at versions: `m.profile_fields` and the fields
/// of profiles with their stable names (v1.16), the state after the timeline in sync (v1.16, MSC4222), threads, their
/// list and relations both ways (v1.4), relations of relations (v1.10), and redactions sent like any event;
/// the room directory by type (v1.4), jumping to a date (v1.6), room summaries (v1.15), and reports of rooms (v1.13);
/// sliding sync (MSC4186); who may invite a user (v1.18, MSC4155); cross-signing, private receipts and counts by thread
/// (v1.4); authenticated media (v1.11); the rooms that two are in (v1.19, MSC2666); where conferences meet (MSC4143).
const UNSTABLE_FEATURES: &[&str] = &[
    "uk.tcpip.msc4133.stable",
    "org.matrix.msc4222",
    "org.matrix.msc3440.stable",
    "org.matrix.msc3856.stable",
    "org.matrix.msc3715.stable",
    "org.matrix.msc3981",
    "com.beeper.msc4169",
    "org.matrix.msc3827.stable",
    "org.matrix.msc3266",
    "org.matrix.msc3030",
    "org.matrix.msc4151",
    "org.matrix.simplified_msc3575",
    "org.matrix.msc3391",
    "org.matrix.msc4155",
    "org.matrix.msc4380",
    "org.matrix.msc4380.stable",
    "org.matrix.e2e_cross_signing",
    "org.matrix.msc2285.stable",
    "org.matrix.msc3771",
    "org.matrix.msc3773",
    "org.matrix.msc3916.stable",
    "uk.half-shot.msc2666.query_mutual_rooms",
    "uk.half-shot.msc2666.query_mutual_rooms.stable",
    "org.matrix.msc4143",
];

/// The room versions of this server, all stable.
const ROOM_VERSIONS: [&str; 12] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];

/// The endpoints of discovery.
pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new().route("/_matrix/client/versions", get(versions)).v3("/capabilities", get(capabilities))
}

/// `GET /versions`
async fn versions(extract::State(state): extract::State<Arc<State>>) -> Json<Value> {
    let mut features: Map<String, Value> =
        UNSTABLE_FEATURES.iter().map(|feature| ((*feature).to_owned(), json!(true))).collect();
    // Clients that find it subscribe to threads by themselves, and count on the push rules.
    if state.syncs.config().thread_subscriptions {
        features.insert("org.matrix.msc4306".to_owned(), json!(true));
    }
    if state.config.delayed_events.scheduled_max > 0 {
        features.insert("org.matrix.msc4140".to_owned(), json!(true));
    }
    Json(json!({ "versions": VERSIONS, "unstable_features": features }))
}

/// `GET /capabilities`
async fn capabilities(extract::State(state): extract::State<Arc<State>>, session: Session) -> Json<Value> {
    let mut shown = shown(&state.rooms.config().default_version);
    let delayed = &state.config.delayed_events;
    if let Some(Value::Object(capabilities)) = shown.get_mut("capabilities") {
        let delay_max = u64::try_from(delayed.delay_max.as_millis()).unwrap_or(u64::MAX);
        let limits = json!({"max_delay_ms": delay_max, "max_scheduled": delayed.scheduled_max});
        capabilities.insert("org.matrix.msc4140.delayed_events".to_owned(), limits);
        let changes = state.mail.is_some() && state.accounts.config().addresses.changes;
        capabilities.insert("m.3pid_changes".to_owned(), json!({ "enabled": changes }));
        if session.is_admin {
            capabilities.insert("m.account_moderation".to_owned(), json!({ "suspend": true, "lock": true }));
        }
    }
    Json(shown)
}

fn shown(default_version: &RoomVersionId) -> Value {
    let available: Map<String, Value> =
        ROOM_VERSIONS.iter().map(|version| ((*version).to_owned(), json!("stable"))).collect();
    json!({
        "capabilities": {
            "m.change_password": { "enabled": true },
            "m.room_versions": { "default": default_version, "available": available },
            "m.set_displayname": { "enabled": true },
            "m.set_avatar_url": { "enabled": true },
            "m.3pid_changes": { "enabled": false },
            "m.get_login_token": { "enabled": false },
            "m.profile_fields": { "enabled": true },
            "m.forget_forced_upon_leave": { "enabled": false },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Server;

    #[tokio::test]
    async fn what_a_server_without_oauth_and_single_sign_on_has_not_is_not_recognized() {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        for path in ["v1/auth_metadata", "v3/login/sso/redirect?redirectUrl=https://x", "v3/login/sso/redirect/idp"] {
            server.get(&format!("/_matrix/client/{path}"), None).await.refused(404, "M_UNRECOGNIZED");
        }
        let path = "/_matrix/client/v1/login/get_token";
        server.post(path, Some(&alice.token), &json!({})).await.refused(404, "M_UNRECOGNIZED");
        let flows = server.get("/_matrix/client/v3/login", None).await.ok();
        assert!(!flows.to_string().contains("m.login.sso") && !flows.to_string().contains("m.login.token"), "{flows}");
        let told = server.get("/_matrix/client/v3/capabilities", Some(&alice.token)).await.ok();
        assert_eq!(told["capabilities"]["m.get_login_token"]["enabled"], false);
    }

    #[test]
    fn the_default_version_of_rooms_is_that_of_the_settings() {
        let shown = shown(&RoomVersionId::V11);
        assert_eq!(shown["capabilities"]["m.room_versions"]["default"], "11");
    }
}
