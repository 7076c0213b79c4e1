//! What is laid upon users: suspension, shadow-bans, and other limits than those of the settings.

use crate::State;
use crate::access::Admin;
use axum::extract;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use face::ApiError;
use face::wire::{Args, Body};
use records::RateOverride;
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v1/suspend/{user_id}", put(suspend))
        .route("/_synapse/admin/v1/users/{user_id}/shadow_ban", post(ban).delete(unban))
        .route("/_synapse/admin/v1/users/{user_id}/override_ratelimit", get(rate).post(set_rate).delete(clear_rate))
}

#[derive(Debug, Deserialize)]
struct Suspension {
    suspend: bool,
}

/// `PUT /_synapse/admin/v1/suspend/{userId}`
async fn suspend(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
    Body(Suspension { suspend }): Body<Suspension>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    if user == admin.user_id {
        return Err(ApiError::unknown("administrators can't suspend themselves"));
    }
    tracing::info!(admin = %admin.user_id, %user, suspend, "an account was suspended, or is not any more");
    state.accounts.set_suspended(&user, suspend).await?;
    Ok(Json(Value::Object(Map::from_iter([(format!("user_{user}_suspended"), json!(suspend))]))))
}

/// `POST /_synapse/admin/v1/users/{userId}/shadow_ban`
async fn ban(
    state: extract::State<Arc<State>>,
    admin: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    set_banned(&state, &admin, user, true).await
}

/// `DELETE /_synapse/admin/v1/users/{userId}/shadow_ban`
async fn unban(
    state: extract::State<Arc<State>>,
    admin: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    set_banned(&state, &admin, user, false).await
}

async fn set_banned(state: &State, admin: &Admin, user: OwnedUserId, banned: bool) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    tracing::info!(admin = %admin.user_id, %user, banned, "a user was shadow-banned, or is not any more");
    state.accounts.set_shadow_banned(&user, banned).await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
struct Rate {
    #[serde(default)]
    messages_per_second: u32,
    #[serde(default)]
    burst_count: u32,
}

fn shown(rate: Option<RateOverride>) -> Json<Value> {
    Json(
        rate.map_or_else(
            || json!({}),
            |rate| json!({ "messages_per_second": rate.per_second, "burst_count": rate.burst }),
        ),
    )
}

/// `GET /_synapse/admin/v1/users/{userId}/override_ratelimit`
async fn rate(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    Ok(shown(state.local_user(&user)?.sanctions.rate))
}

/// `POST /_synapse/admin/v1/users/{userId}/override_ratelimit`: 0 is without limit.
async fn set_rate(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
    Body(body): Body<Rate>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    let rate = RateOverride { per_second: body.messages_per_second, burst: body.burst_count };
    state.accounts.set_rate(&user, Some(rate)).await?;
    Ok(shown(Some(rate)))
}

/// `DELETE /_synapse/admin/v1/users/{userId}/override_ratelimit`
async fn clear_rate(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    state.accounts.set_rate(&user, None).await?;
    Ok(shown(None))
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use serde_json::json;

    #[tokio::test]
    async fn sanctions_are_laid_upon_users_and_taken_from_them() {
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.user("alice").await);
        let sanctions = || server.state.accounts.user(&alice.id).unwrap().unwrap().sanctions;
        let path = format!("/_synapse/admin/v1/suspend/{}", alice.id);
        let answer = server.put(&path, Some(&admin), &json!({ "suspend": true })).await.ok();
        assert_eq!(answer, json!({ "user_@alice:example.org_suspended": true }));
        assert!(sanctions().suspended);
        let own = format!("/_synapse/admin/v1/suspend/{}", admin.id);
        server.put(&own, Some(&admin), &json!({ "suspend": true })).await.refused(400, "M_UNKNOWN");
        let path = format!("/_synapse/admin/v1/users/{}/shadow_ban", alice.id);
        server.post(&path, Some(&admin), &json!({})).await.ok();
        assert!(sanctions().shadow_banned);
        server.delete(&path, Some(&admin), &json!({})).await.ok();
        assert!(!sanctions().shadow_banned);
        let path = format!("/_synapse/admin/v1/users/{}/override_ratelimit", alice.id);
        assert_eq!(server.get(&path, Some(&admin)).await.ok(), json!({}));
        let rate = json!({ "messages_per_second": 3, "burst_count": 9 });
        assert_eq!(server.post(&path, Some(&admin), &rate).await.ok(), rate);
        assert_eq!(server.get(&path, Some(&admin)).await.ok(), rate);
        server.post(&path, Some(&admin), &json!({ "burst_count": -1 })).await.refused(400, "M_BAD_JSON");
        assert_eq!(server.delete(&path, Some(&admin), &json!({})).await.ok(), json!({}));
        assert_eq!(sanctions().rate, None);
    }
}
