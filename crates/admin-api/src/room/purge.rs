//! Removing the history of a room: `POST /_synapse/admin/v1/purge_history/{roomId}` and how that stands.

use crate::State;
use crate::access::Admin;
use axum::extract;
use axum::routing::{get, post};
use axum::{Json, Router};
use base::{Order, UnixMillis};
use face::ApiError;
use face::wire::{Args, Body};
use records::{Job, JobStatus};
use ruma::{OwnedEventId, OwnedRoomId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use store::Direction;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v1/purge_history/{room_id}", post(purge))
        .route("/_synapse/admin/v1/purge_history/{room_id}/{event_id}", post(purge_before))
        .route("/_synapse/admin/v1/purge_history_status/{purge_id}", get(status))
}

#[derive(Debug, Deserialize)]
struct Request {
    #[serde(default)]
    delete_local_events: bool,
    purge_up_to_event_id: Option<OwnedEventId>,
    purge_up_to_ts: Option<u64>,
}

/// `POST /_synapse/admin/v1/purge_history/{roomId}`: what was said before an event or a time. State stays.
async fn purge(
    state: extract::State<Arc<State>>,
    admin: Admin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    begin(&state, &admin, room_id, request).await
}

/// `POST /_synapse/admin/v1/purge_history/{roomId}/{eventId}`
async fn purge_before(
    state: extract::State<Arc<State>>,
    admin: Admin,
    Args((room_id, event_id)): Args<(OwnedRoomId, OwnedEventId)>,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    begin(&state, &admin, room_id, Request { purge_up_to_event_id: Some(event_id), ..request }).await
}

async fn begin(state: &State, admin: &Admin, room_id: OwnedRoomId, request: Request) -> Result<Json<Value>, ApiError> {
    let up_to = {
        let reader = state.room(&room_id)?;
        match (request.purge_up_to_event_id, request.purge_up_to_ts) {
            (Some(event_id), _) => {
                let event = reader.event_by_id(&event_id)?.ok_or_else(|| ApiError::not_found("Event not found"))?;
                Order(event.order.0.saturating_sub(1))
            }
            (None, Some(at)) => {
                let at = UnixMillis(at.saturating_sub(1));
                let last = reader.view().events_from_time(reader.num(), at, None, Direction::Backward, 1)?;
                last.first().ok_or_else(|| ApiError::not_found("there is no event before that time"))?.order
            }
            (None, None) => return Err(ApiError::missing_param("say up to which event or time")),
        }
    };
    tracing::warn!(admin = %admin.user_id, %room_id, "the history of a room is removed");
    let job = Job::PurgeHistory { room_id, up_to, local_events: request.delete_local_events };
    Ok(Json(json!({ "purge_id": state.begin_job(&admin.user_id, job).await? })))
}

/// `GET /_synapse/admin/v1/purge_history_status/{purgeId}`
async fn status(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((id,)): Args<(String,)>,
) -> Result<Json<Value>, ApiError> {
    let record = state.records.view().job(&id)?.filter(|record| matches!(record.job, Job::PurgeHistory { .. }));
    let record = record.ok_or_else(|| ApiError::not_found("there is no such purge"))?;
    Ok(Json(match record.status {
        JobStatus::Open => json!({ "status": "active" }),
        JobStatus::Complete { .. } => json!({ "status": "complete" }),
        JobStatus::Failed { why, .. } => json!({ "status": "failed", "error": why }),
    }))
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use serde_json::json;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn history_is_removed_up_to_an_event_or_a_time() {
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.user("alice").await);
        let room = server.room(&alice).await;
        let mut said = Vec::new();
        for text in ["one", "two", "three", "four"] {
            said.push(server.say(&alice, &room, text).await);
            server.clock.advance(Duration::from_secs(1));
        }
        let path = format!("/_synapse/admin/v1/purge_history/{room}");
        let purge = async |path: &str, body: serde_json::Value| {
            let begun = server.post(path, Some(&admin), &body).await.ok();
            let id = begun["purge_id"].as_str().unwrap();
            let status = format!("/_synapse/admin/v1/purge_history_status/{id}");
            server.until(&status, &admin, |status| status["status"] == "complete").await;
        };
        let left = || {
            let reader = server.state.room(&room).unwrap();
            said.iter().map(|id| reader.event_by_id(id).unwrap().is_some()).collect::<Vec<_>>()
        };
        // What users of this server said is not removed unless that is asked for.
        purge(&format!("{path}/{}", said[1]), json!({})).await;
        assert_eq!(left(), [true, true, true, true]);
        purge(&format!("{path}/{}", said[1]), json!({ "delete_local_events": true })).await;
        assert_eq!(left(), [false, true, true, true]);
        let body = json!({ "delete_local_events": true, "purge_up_to_ts": 1_700_000_002_000_u64 });
        purge(&path, body).await;
        assert_eq!(left(), [false, false, true, true]);
        server.post(&path, Some(&admin), &json!({})).await.refused(400, "M_MISSING_PARAM");
        server.post(&format!("{path}/$none"), Some(&admin), &json!({})).await.refused(404, "M_NOT_FOUND");
        let path = "/_synapse/admin/v1/purge_history_status/none";
        server.get(path, Some(&admin)).await.refused(404, "M_NOT_FOUND");
    }
}
