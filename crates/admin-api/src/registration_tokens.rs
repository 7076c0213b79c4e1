//! Registration tokens: `/_synapse/admin/v1/registration_tokens`. Those of the settings are not among them.

use crate::State;
use crate::access::Admin;
use crate::params::{Given, Params};
use accounts::{REGISTRATION_TOKEN_LENGTH_MAX, is_token};
use axum::extract;
use axum::routing::{get, post};
use axum::{Json, Router};
use base::{UnixMillis, random_string};
use face::ApiError;
use face::wire::{Args, Body};
use records::RegistrationTokenRecord;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The length of tokens that are made up.
const LENGTH_DEFAULT: usize = 16;
/// How often another is made up because there is one of the same text.
const ATTEMPTS_MAX: usize = 10;

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v1/registration_tokens", get(list))
        .route("/_synapse/admin/v1/registration_tokens/new", post(create))
        .route("/_synapse/admin/v1/registration_tokens/{token}", get(show).put(change).delete(delete))
}

/// What tools know of a token. None is pending here: one is used up when the account is made, not when it is shown.
fn shown(record: &RegistrationTokenRecord) -> Value {
    json!({
        "token": record.token,
        "uses_allowed": record.uses_allowed,
        "pending": 0,
        "completed": record.completed,
        "expiry_time": record.expires_at.map(|at| at.0),
    })
}

fn not_found() -> ApiError {
    ApiError::not_found("there is no such registration token")
}

#[derive(Debug, Deserialize)]
struct Filter {
    valid: Option<bool>,
}

async fn list(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Params(Filter { valid }): Params<Filter>,
) -> Result<Json<Value>, ApiError> {
    let now = state.clock.now();
    let tokens = state.accounts.registration_tokens()?;
    let tokens = tokens.iter().filter(|token| valid.is_none_or(|valid| valid == token.is_valid(now)));
    Ok(Json(json!({ "registration_tokens": tokens.map(shown).collect::<Vec<_>>() })))
}

#[derive(Debug, Deserialize)]
struct New {
    token: Option<String>,
    length: Option<usize>,
    uses_allowed: Option<u64>,
    expiry_time: Option<u64>,
}

async fn create(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Body(new): Body<New>,
) -> Result<Json<Value>, ApiError> {
    if new.token.as_deref().is_some_and(|token| !is_token(token)) {
        return Err(ApiError::invalid_param("a token has 1 to 64 letters, digits or ._~-"));
    }
    let length = new.length.unwrap_or(LENGTH_DEFAULT);
    if !(1..=REGISTRATION_TOKEN_LENGTH_MAX).contains(&length) {
        return Err(ApiError::invalid_param("`length` must be between 1 and 64"));
    }
    let expires_at = expiry(&state, new.expiry_time)?;
    for _ in 0..ATTEMPTS_MAX {
        let token = new.token.clone().unwrap_or_else(|| random_string(&*state.random, length));
        let record = RegistrationTokenRecord { token, uses_allowed: new.uses_allowed, completed: 0, expires_at };
        if state.accounts.create_registration_token(record.clone()).await? {
            tracing::info!(admin = %admin.user_id, "a registration token was made");
            return Ok(Json(shown(&record)));
        }
        if new.token.is_some() {
            return Err(ApiError::invalid_param("there is a token of this text already"));
        }
    }
    Err(ApiError::unknown("all tokens of this length are taken"))
}

fn expiry(state: &State, at: Option<u64>) -> Result<Option<UnixMillis>, ApiError> {
    let at = at.map(UnixMillis);
    if at.is_some_and(|at| at < state.clock.now()) {
        return Err(ApiError::invalid_param("`expiry_time` is in the past"));
    }
    Ok(at)
}

async fn show(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((token,)): Args<(String,)>,
) -> Result<Json<Value>, ApiError> {
    let record = state.accounts.registration_token(&token)?;
    record.map(|record| Json(shown(&record))).ok_or_else(not_found)
}

/// What is not given stays as it is; null takes the limit away.
#[derive(Debug, Deserialize)]
struct Changed {
    #[serde(default)]
    uses_allowed: Given<u64>,
    #[serde(default)]
    expiry_time: Given<u64>,
}

async fn change(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((token,)): Args<(String,)>,
    Body(changed): Body<Changed>,
) -> Result<Json<Value>, ApiError> {
    expiry(&state, changed.expiry_time.value().copied())?;
    let change = |record: &mut RegistrationTokenRecord| {
        record.uses_allowed = changed.uses_allowed.clone().or(record.uses_allowed);
        record.expires_at = changed.expiry_time.clone().or(record.expires_at.map(|at| at.0)).map(UnixMillis);
    };
    let record = state.accounts.change_registration_token(&token, change).await?;
    tracing::info!(admin = %admin.user_id, "a registration token was changed");
    record.map(|record| Json(shown(&record))).ok_or_else(not_found)
}

async fn delete(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((token,)): Args<(String,)>,
) -> Result<Json<Value>, ApiError> {
    tracing::info!(admin = %admin.user_id, "a registration token is removed");
    match state.accounts.delete_registration_token(&token).await? {
        true => Ok(Json(json!({}))),
        false => Err(not_found()),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use serde_json::json;
    use std::time::Duration;

    const PATH: &str = "/_synapse/admin/v1/registration_tokens";

    #[tokio::test]
    async fn tokens_are_made_listed_changed_and_removed() {
        let server = Server::new().await;
        let admin = server.admin("root").await;
        let new = format!("{PATH}/new");
        let made_up = server.post(&new, Some(&admin), &json!({ "length": 20 })).await.ok();
        assert_eq!(made_up["token"].as_str().unwrap().len(), 20);
        let body = json!({ "token": "abcd", "uses_allowed": 1, "expiry_time": 1_700_000_060_000_u64 });
        let one = server.post(&new, Some(&admin), &body).await.ok();
        assert_eq!((&one["uses_allowed"], &one["completed"], &one["pending"]), (&json!(1), &json!(0), &json!(0)));
        server.post(&new, Some(&admin), &body).await.refused(400, "M_INVALID_PARAM");
        for wrong in [json!({ "token": "a b" }), json!({ "length": 65 }), json!({ "expiry_time": 1 })] {
            server.post(&new, Some(&admin), &wrong).await.refused(400, "M_INVALID_PARAM");
        }
        let count = async |query: &str| {
            let list = server.get(&format!("{PATH}{query}"), Some(&admin)).await.ok();
            list["registration_tokens"].as_array().unwrap().len()
        };
        assert_eq!((count("").await, count("?valid=true").await, count("?valid=false").await), (2, 2, 0));
        server.clock.advance(Duration::from_secs(61));
        assert_eq!((count("?valid=true").await, count("?valid=false").await), (1, 1));
        let path = format!("{PATH}/abcd");
        let changed = server.put(&path, Some(&admin), &json!({ "expiry_time": null })).await.ok();
        assert_eq!((&changed["expiry_time"], &changed["uses_allowed"]), (&json!(null), &json!(1)));
        assert_eq!(server.get(&path, Some(&admin)).await.ok(), changed);
        server.delete(&path, Some(&admin), &json!({})).await.ok();
        server.delete(&path, Some(&admin), &json!({})).await.refused(404, "M_NOT_FOUND");
        server.get(&path, Some(&admin)).await.refused(404, "M_NOT_FOUND");
        server.put(&path, Some(&admin), &json!({})).await.refused(404, "M_NOT_FOUND");
    }

    #[tokio::test]
    async fn a_token_is_good_for_as_many_as_it_says() {
        let server = Server::new().await;
        let admin = server.admin("root").await;
        let accounts = &server.state.accounts;
        let body = json!({ "token": "abcd", "uses_allowed": 1 });
        server.post(&format!("{PATH}/new"), Some(&admin), &body).await.ok();
        let user = |name: &str| accounts::NewUser {
            user_id: accounts.user_id(name).unwrap(),
            password: None,
            accepted_terms: true,
            admin: false,
        };
        assert!(accounts.is_registration_token("abcd").unwrap());
        let (one, other) = tokio::join!(
            accounts.register_user(user("one"), Some("abcd")),
            accounts.register_user(user("other"), Some("abcd")),
        );
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
        assert!(!accounts.is_registration_token("abcd").unwrap());
        assert!(!accounts.is_registration_token("abce").unwrap());
        let shown = server.get(&format!("{PATH}/abcd"), Some(&admin)).await.ok();
        assert_eq!(shown["completed"], 1);
    }
}
