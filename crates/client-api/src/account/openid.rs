//! `POST /user/{userId}/openid/request_token`

use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use accounts::OPENID_TOKEN_LIFETIME;
use axum::extract::State as Within;
use axum::routing::post;
use axum::{Json, Router};
use ruma::OwnedUserId;
use ruma::serde::JsonObject;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().v3("/user/{user_id}/openid/request_token", post(request_token))
}

/// A token with which another service can ask this server who the user is.
async fn request_token(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((user,)): Args<(OwnedUserId,)>,
    Body(_nothing_yet): Body<JsonObject>,
) -> Result<Json<Value>, ApiError> {
    if session.user_id != user {
        return Err(ApiError::forbidden("a token can be had for oneself only"));
    }
    state.limit(Class::Other, &session)?;
    let token = state.accounts.new_openid_token(&user).await?;
    Ok(Json(json!({
        "access_token": token,
        "token_type": "Bearer",
        "matrix_server_name": state.server_name,
        "expires_in": OPENID_TOKEN_LIFETIME.as_secs(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Server;
    use std::time::Duration;

    #[tokio::test]
    async fn a_token_says_who_the_user_is_for_an_hour() {
        let server = Server::new().await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        let path = format!("/_matrix/client/v3/user/{}/openid/request_token", alice.id);
        let answer = server.post(&path, Some(&alice.token), &json!({})).await.ok();
        assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(3600)));
        assert_eq!(answer["matrix_server_name"], "example.org");
        let token = answer["access_token"].as_str().unwrap();
        let user = |token: &str| server.state.accounts.openid_user(token).unwrap();
        assert_eq!(user(token).as_ref(), Some(&alice.id));
        assert_eq!(user("cho_guessed"), None);
        // It is no access token, and others get none for the user.
        server.get("/_matrix/client/v3/account/whoami", Some(token)).await.refused(401, "M_UNKNOWN_TOKEN");
        server.post(&path, Some(&bob.token), &json!({})).await.refused(403, "M_FORBIDDEN");
        server.clock.advance(Duration::from_secs(3599));
        assert!(user(token).is_some());
        server.clock.advance(Duration::from_secs(1));
        assert_eq!(user(token), None);
    }

    #[tokio::test]
    async fn a_token_of_an_account_that_has_ended_is_of_no_use() {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        let token = server.state.accounts.new_openid_token(&alice.id).await.unwrap();
        server.state.accounts.deactivate(&alice.id, accounts::Erase::Nothing).await.unwrap();
        assert_eq!(server.state.accounts.openid_user(&token).unwrap(), None);
    }
}
