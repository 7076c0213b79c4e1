//! Suspending and locking accounts: `GET` and `PUT /admin/suspend/{userId}` and `/admin/lock/{userId}` (MSC4323).

use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use records::{Sanctions, UserRecord};
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .v1("/admin/suspend/{user_id}", get(suspended).put(suspend))
        .v1("/admin/lock/{user_id}", get(locked).put(lock))
}

#[derive(Debug, Deserialize)]
struct Suspension {
    suspended: bool,
}

#[derive(Debug, Deserialize)]
struct Lock {
    locked: bool,
}

/// `GET /admin/suspend/{userId}`
async fn suspended(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "suspended": sanctions(&state, &session, &user)?.suspended })))
}

/// `PUT /admin/suspend/{userId}`
async fn suspend(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user,)): Args<(OwnedUserId,)>,
    Body(Suspension { suspended }): Body<Suspension>,
) -> Result<Json<Value>, ApiError> {
    check_may_change(&state, &session, &user)?;
    state.accounts.set_suspended(&user, suspended).await?;
    tracing::info!(admin = %session.user_id, %user, suspended, "an account was suspended, or is not any more");
    Ok(Json(json!({ "suspended": suspended })))
}

/// `GET /admin/lock/{userId}`
async fn locked(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "locked": sanctions(&state, &session, &user)?.locked })))
}

/// `PUT /admin/lock/{userId}`
async fn lock(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user,)): Args<(OwnedUserId,)>,
    Body(Lock { locked }): Body<Lock>,
) -> Result<Json<Value>, ApiError> {
    check_may_change(&state, &session, &user)?;
    state.accounts.set_locked(&user, locked).await?;
    tracing::info!(admin = %session.user_id, %user, locked, "an account was locked or unlocked");
    Ok(Json(json!({ "locked": locked })))
}

/// What is laid upon a user whom the asker may look at.
fn sanctions(state: &State, session: &Session, user: &UserId) -> Result<Sanctions, ApiError> {
    let record = look_up(state, session, user)?;
    if record.admin && *user != session.user_id {
        return Err(is_admin());
    }
    Ok(record.sanctions)
}

/// Administrators act on others who are none: neither on each other, nor on themselves.
fn check_may_change(state: &State, session: &Session, user: &UserId) -> Result<(), ApiError> {
    if look_up(state, session, user)?.admin { Err(is_admin()) } else { Ok(()) }
}

fn is_admin() -> ApiError {
    ApiError::forbidden("the user is an administrator")
}

/// A user of this server, for an administrator. Whether the asker is one is seen before anything is looked up.
fn look_up(state: &State, session: &Session, user: &UserId) -> Result<UserRecord, ApiError> {
    state.limit(Class::Other, session)?;
    if !session.is_admin {
        return Err(ApiError::forbidden("only administrators may do this"));
    }
    if user.server_name() != state.server_name {
        return Err(ApiError::invalid_param("the user is of another server"));
    }
    let record = state.accounts.user(user)?.filter(|record| record.deactivated_at.is_none());
    record.ok_or_else(|| ApiError::not_found("there is no such user"))
}

#[cfg(test)]
mod tests {
    use crate::testing::{PASSWORD, Server, User};
    use serde_json::{Value, json};

    const V1: &str = "/_matrix/client/v1/admin";
    const V3: &str = "/_matrix/client/v3";

    async fn scene() -> (Server, User, User) {
        let server = Server::new().await;
        let (admin, alice) = (server.user("root").await, server.user("alice").await);
        server.state.accounts.set_admin(&admin.id, true).await.unwrap();
        (server, admin, alice)
    }

    #[tokio::test]
    async fn only_administrators_suspend_and_lock_and_only_users_of_here_who_are_none() {
        let (server, admin, alice) = scene().await;
        let other = server.user("other").await;
        server.state.accounts.set_admin(&other.id, true).await.unwrap();
        for (kind, field) in [("suspend", "suspended"), ("lock", "locked")] {
            let path = format!("{V1}/{kind}/{}", alice.id);
            let (on, off) = (json!({ field: true }), json!({ field: false }));
            server.put(&path, Some(&alice.token), &on).await.refused(403, "M_FORBIDDEN");
            server.get(&path, Some(&alice.token)).await.refused(403, "M_FORBIDDEN");
            assert_eq!(server.get(&path, Some(&admin.token)).await.ok(), off);
            assert_eq!(server.put(&path, Some(&admin.token), &on).await.ok(), on);
            assert_eq!(server.get(&path, Some(&admin.token)).await.ok(), on);
            assert_eq!(server.put(&path, Some(&admin.token), &off).await.ok(), off);
            for (who, status, code) in [
                ("@alice:elsewhere.org", 400, "M_INVALID_PARAM"),
                ("@nobody:example.org", 404, "M_NOT_FOUND"),
                (other.id.as_str(), 403, "M_FORBIDDEN"),
            ] {
                let path = format!("{V1}/{kind}/{who}");
                server.put(&path, Some(&admin.token), &on).await.refused(status, code);
                server.get(&path, Some(&admin.token)).await.refused(status, code);
            }
            let own = format!("{V1}/{kind}/{}", admin.id);
            server.put(&own, Some(&admin.token), &on).await.refused(403, "M_FORBIDDEN");
            assert_eq!(server.get(&own, Some(&admin.token)).await.ok(), off);
        }
        server.state.accounts.deactivate(&alice.id, accounts::Erase::Nothing).await.unwrap();
        let path = format!("{V1}/lock/{}", alice.id);
        server.put(&path, Some(&admin.token), &json!({ "locked": true })).await.refused(404, "M_NOT_FOUND");
    }

    #[tokio::test]
    async fn capabilities_tell_administrators_what_they_may_do() {
        let (server, admin, alice) = scene().await;
        let capabilities = async |user: &User| {
            server.get(&format!("{V3}/capabilities"), Some(&user.token)).await.ok()["capabilities"].clone()
        };
        let all = json!({ "suspend": true, "lock": true });
        assert_eq!(capabilities(&admin).await["m.account_moderation"], all);
        assert_eq!(capabilities(&alice).await.get("m.account_moderation"), None);
    }

    #[tokio::test]
    async fn a_locked_user_can_do_nothing_but_log_out_until_it_is_unlocked() {
        let (server, admin, alice) = scene().await;
        let path = format!("{V1}/lock/{}", alice.id);
        server.get(&format!("{V3}/sync"), Some(&alice.token)).await.ok();
        server.put(&path, Some(&admin.token), &json!({ "locked": true })).await.ok();
        let answer = server.get(&format!("{V3}/sync"), Some(&alice.token)).await;
        answer.refused(401, "M_USER_LOCKED");
        assert_eq!(answer.body["soft_logout"], true);
        server.get(&format!("{V3}/publicRooms"), Some(&alice.token)).await.refused(401, "M_USER_LOCKED");
        let login = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": "alice" },
            "password": PASSWORD,
        });
        server.post(&format!("{V3}/login"), None, &login).await.refused(401, "M_USER_LOCKED");
        server.put(&path, Some(&admin.token), &json!({ "locked": false })).await.ok();
        server.get(&format!("{V3}/sync"), Some(&alice.token)).await.ok();

        server.put(&path, Some(&admin.token), &json!({ "locked": true })).await.ok();
        server.post(&format!("{V3}/logout"), Some(&alice.token), &json!({})).await.ok();
        server.get(&format!("{V3}/sync"), Some(&alice.token)).await.refused(401, "M_UNKNOWN_TOKEN");
    }

    #[tokio::test]
    async fn a_locked_session_is_not_refreshed() {
        let (server, admin, _) = scene().await;
        let login = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": "alice" },
            "password": PASSWORD,
            "refresh_token": true,
        });
        let login = server.post(&format!("{V3}/login"), None, &login).await.ok();
        let body = json!({ "refresh_token": login["refresh_token"] });
        let path = format!("{V1}/lock/@alice:example.org");
        server.put(&path, Some(&admin.token), &json!({ "locked": true })).await.ok();
        server.post(&format!("{V3}/refresh"), None, &body).await.refused(401, "M_USER_LOCKED");
        server.put(&path, Some(&admin.token), &json!({ "locked": false })).await.ok();
        server.post(&format!("{V3}/refresh"), None, &body).await.ok();
    }

    #[tokio::test]
    async fn a_suspended_user_reads_and_leaves_and_takes_back_their_own_words_only() {
        let (server, admin, alice) = scene().await;
        let bob = server.user("bob").await;
        let token = Some(alice.token.as_str());
        let room = server.post(&format!("{V3}/createRoom"), token, &json!({ "preset": "public_chat" })).await.ok();
        let room = room["room_id"].as_str().unwrap().to_owned();
        server.post(&format!("{V3}/rooms/{room}/join"), Some(&bob.token), &json!({})).await.ok();
        let say = async |user: &User, txn: &str| {
            let path = format!("{V3}/rooms/{room}/send/m.room.message/{txn}");
            server.put(&path, Some(&user.token), &json!({ "msgtype": "m.text", "body": "hello" })).await
        };
        let id = |said: Value| said["event_id"].as_str().unwrap().to_owned();
        let (own, others) = (id(say(&alice, "1").await.ok()), id(say(&bob, "1").await.ok()));
        let path = format!("{V1}/suspend/{}", alice.id);
        server.put(&path, Some(&admin.token), &json!({ "suspended": true })).await.ok();

        say(&alice, "2").await.refused(403, "M_USER_SUSPENDED");
        let refused = async |path: &str, body: Value| {
            server.post(&format!("{V3}/{path}"), token, &body).await.refused(403, "M_USER_SUSPENDED");
        };
        refused("createRoom", json!({})).await;
        refused(&format!("rooms/{room}/invite"), json!({ "user_id": "@root:example.org" })).await;
        refused(&format!("join/{room}"), json!({})).await;
        let name = format!("{V3}/profile/{}/displayname", alice.id);
        server.put(&name, token, &json!({ "displayname": "A" })).await.refused(403, "M_USER_SUSPENDED");
        let redact = async |event: &str, txn: &str| {
            server.put(&format!("{V3}/rooms/{room}/redact/{event}/{txn}"), token, &json!({})).await
        };
        redact(&others, "1").await.refused(403, "M_USER_SUSPENDED");
        let path = format!("{V3}/rooms/{room}/send/m.room.redaction/9");
        server.put(&path, token, &json!({ "redacts": others })).await.refused(403, "M_USER_SUSPENDED");
        redact(&own, "2").await.ok();
        server.get(&format!("{V3}/sync"), token).await.ok();
        server.log_in("alice").await;
        server.post(&format!("{V3}/rooms/{room}/leave"), token, &json!({})).await.ok();
    }
}
