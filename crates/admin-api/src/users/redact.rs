//! Redacting what a user has said: `POST /_synapse/admin/v1/user/{userId}/redact` and
//! `GET /_synapse/admin/v1/user/redact_status/{redactId}`.

use crate::State;
use crate::access::Admin;
use axum::extract;
use axum::routing::{get, post};
use axum::{Json, Router};
use face::ApiError;
use face::wire::{Args, Body};
use records::{Job, JobStatus, Membership, UserRedaction};
use ruma::{OwnedRoomId, OwnedUserId};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// How many events of each room are redacted unless more are asked for.
const LIMIT_DEFAULT: u64 = 1000;
/// How many rooms can be named.
const ROOMS_MAX: usize = 2000;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v1/user/{user_id}/redact", post(redact))
        .route("/_synapse/admin/v1/user/redact_status/{redact_id}", get(status))
}

#[derive(Debug, Deserialize)]
struct Request {
    /// All rooms that the user is in, if none is named.
    #[serde(default)]
    rooms: Vec<OwnedRoomId>,
    reason: Option<String>,
    limit: Option<u64>,
    /// Whether the administrator redacts, and not the user themselves.
    use_admin: Option<bool>,
}

async fn redact(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    let limit = request.limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 {
        return Err(ApiError::invalid_param("`limit` must be above 0"));
    }
    let mut rooms = request.rooms;
    if rooms.is_empty() {
        let view = state.records.view();
        for (num, _, record) in view.memberships(&user)? {
            if record.membership == Membership::Join {
                rooms.extend(view.room_head(num)?.map(|head| head.room_id));
            }
        }
    }
    if rooms.len() > ROOMS_MAX {
        return Err(ApiError::too_large(format!("at most {ROOMS_MAX} rooms at once: name them")));
    }
    // Nobody else can speak for a user of another server.
    let as_admin = request.use_admin == Some(true) || !state.accounts.is_local(&user);
    tracing::info!(admin = %admin.user_id, %user, "what a user has said is redacted");
    let redaction = UserRedaction { user, rooms, reason: request.reason, limit, as_admin, failed: Vec::new() };
    let id = state.begin_job(&admin.user_id, Job::RedactUser(redaction)).await?;
    Ok(Json(json!({ "redact_id": id })))
}

async fn status(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((id,)): Args<(String,)>,
) -> Result<Json<Value>, ApiError> {
    let not_found = || ApiError::not_found("there is no such redaction");
    let record = state.records.view().job(&id)?.ok_or_else(not_found)?;
    let Job::RedactUser(redaction) = record.job else { return Err(not_found()) };
    let failed: Map<String, Value> = redaction.failed.into_iter().map(|(event, why)| (event, json!(why))).collect();
    let (status, error) = match record.status {
        JobStatus::Open => ("active", None),
        JobStatus::Complete { .. } => ("completed", None),
        JobStatus::Failed { why, .. } => ("failed", Some(why)),
    };
    let mut shown = json!({ "status": status, "failed_redactions": failed });
    if let (Some(error), Some(shown)) = (error, shown.as_object_mut()) {
        shown.insert("error".to_owned(), json!(error));
    }
    Ok(Json(shown))
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn what_a_user_has_said_is_redacted_and_what_others_have_said_is_not() {
        let server = Server::new().await;
        let (admin, alice, bob) = (server.admin("root").await, server.user("alice").await, server.user("bob").await);
        let room = server.room(&alice).await;
        server.enter(&bob, &room).await;
        let first = server.say(&bob, &room, "one").await;
        let others = server.say(&alice, &room, "hello").await;
        let last = server.say(&bob, &room, "two").await;
        let path = format!("/_synapse/admin/v1/user/{}/redact", bob.id);
        server.post(&path, Some(&bob), &json!({})).await.refused(403, "M_FORBIDDEN");
        server.post(&path, Some(&admin), &json!({ "limit": 0 })).await.refused(400, "M_INVALID_PARAM");
        let begun = server.post(&path, Some(&admin), &json!({ "rooms": [], "reason": "spam" })).await.ok();
        let path = format!("/_synapse/admin/v1/user/redact_status/{}", begun["redact_id"].as_str().unwrap());
        let status = server.until(&path, &admin, |status| status["status"] == "completed").await;
        assert_eq!(status["failed_redactions"], json!({}));
        let view = server.state.records.view();
        let reader = server.state.rooms.reader_by_id(&view, &room).unwrap().unwrap();
        let is_redacted = |id| reader.event_by_id(id).unwrap().unwrap().record.redacted_by.is_some();
        assert_eq!([is_redacted(&first), is_redacted(&others), is_redacted(&last)], [true, false, true]);
        let path = "/_synapse/admin/v1/user/redact_status/nothing";
        server.get(path, Some(&admin)).await.refused(404, "M_NOT_FOUND");
    }
}
