//! One user: `GET` and `PUT /_synapse/admin/v2/users/{userId}`, deactivation, passwords, and who is an administrator.

use super::shown;
use crate::access::Admin;
use crate::params::{Given, Params};
use crate::{State, to_the_end};
use accounts::{EndSessions, Erase, NewUser};
use axum::extract;
use axum::routing::{get, post};
use axum::{Json, Router};
use base::Secret;
use face::ApiError;
use face::wire::{Args, Body};
use http::StatusCode;
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The longest display name and URL of an avatar, in bytes: they are in every membership event of the user.
const SHOWN_BYTES_MAX: usize = 1000;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v2/users/{user_id}", get(show).put(put))
        .route("/_synapse/admin/v1/deactivate/{user_id}", post(deactivate))
        .route("/_synapse/admin/v1/reset_password/{user_id}", post(reset_password))
        .route("/_synapse/admin/v1/users/{user_id}/admin", get(is_admin).put(set_admin))
        .route("/_synapse/admin/v1/username_available", get(available))
}

/// `GET /_synapse/admin/v2/users/{userId}`
async fn show(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(details(&state, &user)?))
}

/// A user with all that is shown of one alone. The time of creation is in seconds here, in milliseconds in the list:
/// that is how the tools know it.
fn details(state: &State, user: &UserId) -> Result<Value, ApiError> {
    let record = state.local_user(user)?;
    let profile = state.accounts.profile(user)?.unwrap_or_default();
    let mut shown = shown(user, &record, &profile, &state.accounts.devices(user)?);
    if let Some(fields) = shown.as_object_mut() {
        let consent = record.terms.iter().max_by_key(|terms| terms.at);
        fields.insert("creation_ts".to_owned(), json!(record.created_at.0 / 1000));
        fields.insert("threepids".to_owned(), json!([]));
        fields.insert("external_ids".to_owned(), json!([]));
        fields.insert("appservice_id".to_owned(), Value::Null);
        fields.insert("consent_version".to_owned(), json!(consent.map(|terms| &terms.version)));
        fields.insert("consent_ts".to_owned(), json!(consent.map(|terms| terms.at.0)));
        fields.insert("consent_server_notice_sent".to_owned(), Value::Null);
    }
    Ok(shown)
}

/// What an administrator makes of a user. What is not given stays as it is; null removes a name or a picture.
#[derive(Debug, Deserialize)]
struct Account {
    password: Option<Secret<String>>,
    logout_devices: Option<bool>,
    #[serde(default)]
    displayname: Given<String>,
    #[serde(default)]
    avatar_url: Given<String>,
    admin: Option<bool>,
    deactivated: Option<bool>,
    erase: Option<bool>,
    locked: Option<bool>,
    suspended: Option<bool>,
    #[serde(default)]
    user_type: Given<String>,
    threepids: Option<Vec<Value>>,
    external_ids: Option<Vec<Value>>,
}

/// `PUT /_synapse/admin/v2/users/{userId}`: changes a user, or makes one (201).
async fn put(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
    Body(account): Body<Account>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    if !state.accounts.is_local(&user) {
        return Err(ApiError::invalid_param("the user is of another server"));
    }
    check(&state, &account)?;
    let before = state.accounts.user(&user)?;
    let is_self = user == admin.user_id;
    if is_self && (account.admin == Some(false) || account.deactivated == Some(true)) {
        return Err(ApiError::unknown("administrators can't demote or deactivate themselves"));
    }
    if is_self && (account.locked == Some(true) || account.suspended == Some(true)) {
        return Err(ApiError::unknown("administrators can't lock or suspend themselves"));
    }
    tracing::info!(admin = %admin.user_id, %user, is_new = before.is_none(), "a user is changed");
    to_the_end(async move {
        let is_new = before.is_none();
        let mut password = account.password.clone();
        if is_new {
            // The name is checked as that of anybody who registers.
            let user_id = state.accounts.available(user.as_str())?;
            let admin = account.admin == Some(true);
            let new = NewUser { user_id, password: password.take(), accepted_terms: false, admin };
            state.accounts.create_user(new).await?;
        }
        if before.as_ref().is_some_and(|record| record.deactivated_at.is_some()) && account.deactivated == Some(false) {
            state.accounts.reactivate(&user, password.take()).await?;
        }
        change(&state, &user, password, account).await?;
        let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        Ok((status, Json(details(&state, &user)?)))
    })
    .await
}

/// Refuses what can't be done before anything is.
fn check(state: &State, account: &Account) -> Result<(), ApiError> {
    if let Some(password) = &account.password {
        state.accounts.check_strength(password)?;
    }
    for text in [&account.displayname, &account.avatar_url].into_iter().filter_map(Given::value) {
        if text.len() > SHOWN_BYTES_MAX {
            return Err(ApiError::too_large(format!("a display name or a URL has at most {SHOWN_BYTES_MAX} bytes")));
        }
    }
    let is_mxc = |url: &String| url.is_empty() || url.starts_with("mxc://");
    if account.avatar_url.value().is_some_and(|url| !is_mxc(url)) {
        return Err(ApiError::invalid_param("the avatar is not an mxc: URI"));
    }
    if account.threepids.as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(ApiError::unknown("third-party identifiers can't be set here"));
    }
    if account.external_ids.as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(ApiError::unknown("there are no external identities on this server"));
    }
    Ok(())
}

/// Changes a user who is there.
async fn change(
    state: &State,
    user: &UserId,
    password: Option<Secret<String>>,
    account: Account,
) -> Result<(), ApiError> {
    if let Some(password) = password {
        let sessions = if account.logout_devices == Some(false) { EndSessions::None } else { EndSessions::All };
        state.accounts.set_password(user, password, sessions).await?;
    }
    let mut is_shown_otherwise = false;
    for (field, value) in [("displayname", account.displayname), ("avatar_url", account.avatar_url)] {
        let Given::This(value) = value else { continue };
        let value = value.filter(|text| !text.is_empty()).map(|text| json!(text).to_string());
        is_shown_otherwise |= state.accounts.set_profile_field(user, field, value.as_deref()).await?;
    }
    if is_shown_otherwise {
        state.rooms.update_profile(user).await?;
    }
    if let Some(admin) = account.admin {
        state.accounts.set_admin(user, admin).await?;
    }
    if let Some(locked) = account.locked {
        state.accounts.set_locked(user, locked).await?;
    }
    if let Some(suspended) = account.suspended {
        state.accounts.set_suspended(user, suspended).await?;
    }
    if let Given::This(user_type) = account.user_type {
        state.accounts.set_user_type(user, user_type).await?;
    }
    if account.deactivated == Some(true) {
        end(state, user, account.erase == Some(true)).await?;
    }
    Ok(())
}

/// Ends an account; see `Accounts::deactivate`.
async fn end(state: &State, user: &UserId, erase: bool) -> Result<(), ApiError> {
    let erase = if erase { Erase::Everything } else { Erase::Nothing };
    state.accounts.deactivate(user, erase).await?;
    Ok(state.rooms.leave_all(user).await?)
}

#[derive(Debug, Deserialize)]
struct Deactivation {
    #[serde(default)]
    erase: bool,
}

/// `POST /_synapse/admin/v1/deactivate/{userId}`
async fn deactivate(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
    Body(Deactivation { erase }): Body<Deactivation>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    tracing::info!(admin = %admin.user_id, %user, erase, "an account is deactivated");
    to_the_end(async move { end(&state, &user, erase).await }).await?;
    Ok(Json(json!({ "id_server_unbind_result": "success" })))
}

#[derive(Debug, Deserialize)]
struct NewPassword {
    new_password: Secret<String>,
    logout_devices: Option<bool>,
}

/// `POST /_synapse/admin/v1/reset_password/{userId}`
async fn reset_password(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
    Body(body): Body<NewPassword>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    tracing::info!(admin = %admin.user_id, %user, "a password is reset");
    let sessions = if body.logout_devices == Some(false) { EndSessions::None } else { EndSessions::All };
    state.accounts.set_password(&user, body.new_password, sessions).await?;
    Ok(Json(json!({})))
}

/// `GET /_synapse/admin/v1/users/{userId}/admin`
async fn is_admin(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "admin": state.local_user(&user)?.admin })))
}

#[derive(Debug, Deserialize)]
struct IsAdmin {
    admin: bool,
}

/// `PUT /_synapse/admin/v1/users/{userId}/admin`
async fn set_admin(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
    Body(IsAdmin { admin: is_admin }): Body<IsAdmin>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    if user == admin.user_id && !is_admin {
        return Err(ApiError::unknown("administrators can't demote themselves"));
    }
    tracing::info!(admin = %admin.user_id, %user, is_admin, "a user is made an administrator, or none");
    state.accounts.set_admin(&user, is_admin).await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
struct Name {
    username: String,
}

/// `GET /_synapse/admin/v1/username_available`, also where registration is closed.
async fn available(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Params(Name { username }): Params<Name>,
) -> Result<Json<Value>, ApiError> {
    state.accounts.available(&username)?;
    Ok(Json(json!({ "available": true })))
}

#[cfg(test)]
mod tests {
    use crate::testing::{PASSWORD, Server};
    use base::Secret;
    use http::StatusCode;
    use serde_json::json;

    const V2: &str = "/_synapse/admin/v2/users";

    #[tokio::test]
    async fn a_user_is_made_and_shown_and_changed() {
        let server = Server::new().await;
        let admin = server.admin("root").await;
        let path = format!("{V2}/@new:example.org");
        server.get(&path, Some(&admin)).await.refused(404, "M_NOT_FOUND");
        let body = json!({
            "password": "long enough",
            "displayname": "New",
            "threepids": [],
            "external_ids": [],
            "user_type": "bot",
            "admin": false,
        });
        let made = server.put(&path, Some(&admin), &body).await;
        assert_eq!(made.status, StatusCode::CREATED);
        let shown = server.get(&path, Some(&admin)).await.ok();
        assert_eq!(shown, made.body);
        assert_eq!(shown["creation_ts"], 1_700_000_000);
        assert_eq!((&shown["displayname"], &shown["user_type"]), (&json!("New"), &json!("bot")));
        let body = json!({ "displayname": null, "admin": true, "locked": true });
        let changed = server.put(&path, Some(&admin), &body).await.ok();
        assert_eq!((&changed["displayname"], &changed["admin"]), (&json!(null), &json!(true)));
        assert_eq!((&changed["locked"], &changed["user_type"]), (&json!(true), &json!("bot")));
        for (user, body, status, code) in [
            ("@new:elsewhere.org", json!({}), 400, "M_INVALID_PARAM"),
            ("@new2:example.org", json!({ "password": "x" }), 400, "M_WEAK_PASSWORD"),
            ("@UPPER:example.org", json!({ "password": 1 }), 400, "M_BAD_JSON"),
            ("@new:example.org", json!({ "avatar_url": "http://x" }), 400, "M_INVALID_PARAM"),
            ("@root:example.org", json!({ "admin": false }), 400, "M_UNKNOWN"),
            ("@root:example.org", json!({ "deactivated": true }), 400, "M_UNKNOWN"),
        ] {
            server.put(&format!("{V2}/{user}"), Some(&admin), &body).await.refused(status, code);
        }
        assert!(server.state.accounts.available("new2").is_ok());
    }

    #[tokio::test]
    async fn a_deactivated_user_is_out_of_all_rooms_and_can_be_let_in_again() {
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.user("alice").await);
        let room = server.room(&alice).await;
        let path = format!("/_synapse/admin/v1/deactivate/{}", alice.id);
        server.post(&path, Some(&alice), &json!({})).await.refused(403, "M_FORBIDDEN");
        let answer = server.post(&path, Some(&admin), &json!({ "erase": true })).await.ok();
        assert_eq!(answer["id_server_unbind_result"], "success");
        let view = server.state.records.view();
        assert_eq!(server.state.rooms.reader_by_id(&view, &room).unwrap().unwrap().head().joined, 0);
        let path = format!("{V2}/{}", alice.id);
        let shown = server.get(&path, Some(&admin)).await.ok();
        assert_eq!((&shown["deactivated"], &shown["erased"]), (&json!(true), &json!(true)));
        let body = json!({ "deactivated": false, "password": "another password" });
        assert_eq!(server.put(&path, Some(&admin), &body).await.ok()["deactivated"], false);
        let password = Secret::new("another password".to_owned());
        server.state.accounts.check_password(&alice.id, password).await.unwrap();
        server.enter(&alice, &room).await;
    }

    #[tokio::test]
    async fn a_password_that_is_reset_ends_the_sessions() {
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.admin("alice").await);
        let path = format!("/_synapse/admin/v1/reset_password/{}", alice.id);
        let body = json!({ "new_password": "another password", "logout_devices": false });
        server.post(&path, Some(&admin), &body).await.ok();
        server.get(V2, Some(&alice)).await.ok();
        server.post(&path, Some(&admin), &json!({ "new_password": "yet another one" })).await.ok();
        server.get(V2, Some(&alice)).await.refused(401, "M_UNKNOWN_TOKEN");
        let old = Secret::new(PASSWORD.to_owned());
        assert!(server.state.accounts.check_password(&alice.id, old).await.is_err());
    }

    #[tokio::test]
    async fn administrators_make_others_and_not_themselves_what_they_are() {
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.user("alice").await);
        server.get(V2, Some(&alice)).await.refused(403, "M_FORBIDDEN");
        let path = format!("/_synapse/admin/v1/users/{}/admin", alice.id);
        server.put(&path, Some(&admin), &json!({ "admin": true })).await.ok();
        assert_eq!(server.get(&path, Some(&alice)).await.ok()["admin"], true);
        server.put(&path, Some(&alice), &json!({ "admin": false })).await.refused(400, "M_UNKNOWN");
        server.put(&path, Some(&admin), &json!({ "admin": false })).await.ok();
        server.get(V2, Some(&alice)).await.refused(403, "M_FORBIDDEN");
    }

    #[tokio::test]
    async fn a_free_name_is_told_from_one_that_is_taken() {
        let server = Server::new().await;
        let admin = server.admin("root").await;
        let path = "/_synapse/admin/v1/username_available?username=";
        assert_eq!(server.get(&format!("{path}new"), Some(&admin)).await.ok()["available"], true);
        server.get(&format!("{path}root"), Some(&admin)).await.refused(400, "M_USER_IN_USE");
        server.get(&format!("{path}a%20b"), Some(&admin)).await.refused(400, "M_INVALID_USERNAME");
    }
}
