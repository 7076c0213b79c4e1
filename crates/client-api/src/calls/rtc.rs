//! `GET /rtc/transports` (MSC4143, under its unstable name)

use crate::State;
use crate::session::Session;
use axum::Json;
use axum::extract::State as Within;
use serde_json::{Value, json};
use std::sync::Arc;

/// Where conferences meet.
pub(super) async fn transports(Within(state): Within<Arc<State>>, _: Session) -> Json<Value> {
    Json(json!({ "rtc_transports": state.config.calls.rtc_transports() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::RtcTransport;
    use crate::testing::Server;

    const PATH: &str = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports";

    #[tokio::test]
    async fn users_are_told_where_conferences_meet() {
        let livekit_service_url = "https://rtc.example.org".to_owned();
        let transport = RtcTransport { livekit_service_url };
        let server = Server::with(|config, _| config.calls.transport.push(transport)).await;
        let alice = server.user("alice").await;
        let transport = json!({ "type": "livekit", "livekit_service_url": "https://rtc.example.org" });
        assert_eq!(server.get(PATH, Some(&alice.token)).await.ok(), json!({ "rtc_transports": [transport] }));
        let server = Server::new().await;
        let alice = server.user("alice").await;
        assert_eq!(server.get(PATH, Some(&alice.token)).await.ok(), json!({ "rtc_transports": [] }));
    }
}
