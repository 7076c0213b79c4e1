//! Acting as a user: `POST /_synapse/admin/v1/users/{userId}/login`.

use crate::State;
use crate::access::Admin;
use accounts::NewSession;
use axum::extract;
use axum::routing::post;
use axum::{Json, Router};
use base::UnixMillis;
use face::ApiError;
use face::wire::{Args, Body};
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().route("/_synapse/admin/v1/users/{user_id}/login", post(login))
}

#[derive(Debug, Deserialize)]
struct Login {
    valid_until_ms: Option<u64>,
}

/// `POST /_synapse/admin/v1/users/{userId}/login`: a token of the user's for the administrator. It is of a device that
/// the user sees among theirs, with the administrator's name.
async fn login(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
    Body(Login { valid_until_ms }): Body<Login>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    if user == admin.user_id {
        return Err(ApiError::unknown("administrators log in as themselves in the usual way"));
    }
    let valid_until = valid_until_ms.map(UnixMillis);
    if valid_until.is_some_and(|until| until <= state.clock.now()) {
        return Err(ApiError::invalid_param("`valid_until_ms` is in the past"));
    }
    tracing::warn!(admin = %admin.user_id, %user, "an administrator logs in as a user");
    let name = Some(format!("Администратор / Administrator {}", admin.user_id));
    let session = NewSession { display_name: name, ..NewSession::default() };
    let login = state.accounts.begin_session_until(&user, session, valid_until).await?;
    Ok(Json(json!({ "access_token": login.access_token })))
}

#[cfg(test)]
mod tests {
    use crate::testing::{Server, User};
    use serde_json::json;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    #[tokio::test]
    async fn an_administrator_acts_as_a_user_who_sees_the_device_until_it_expires() {
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.user("alice").await);
        let path = |user: &User| format!("/_synapse/admin/v1/users/{}/login", user.id);
        server.post(&path(&admin), Some(&admin), &json!({})).await.refused(400, "M_UNKNOWN");
        server.post(&path(&admin), Some(&alice), &json!({})).await.refused(403, "M_FORBIDDEN");
        let past = json!({ "valid_until_ms": 5 });
        server.post(&path(&alice), Some(&admin), &past).await.refused(400, "M_INVALID_PARAM");
        let until = json!({ "valid_until_ms": 1_700_000_060_000_u64 });
        let answer = server.post(&path(&alice), Some(&admin), &until).await.ok();
        let token = answer["access_token"].as_str().unwrap();
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(server.state.accounts.authenticate(token, address).await.unwrap().user_id, alice.id);
        let devices = server.state.accounts.devices(&alice.id).unwrap();
        let name = devices.iter().find_map(|device| device.display_name.as_deref()).unwrap();
        assert!(name.ends_with("@root:example.org"), "{name}");
        server.clock.advance(Duration::from_secs(61));
        assert!(server.state.accounts.authenticate(token, address).await.is_err());
    }
}
