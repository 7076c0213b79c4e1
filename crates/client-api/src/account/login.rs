//! Login, refreshing tokens, logout, and who one is.

use super::interactive::{Identifier, holder};
use super::threepid;
use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::{ClientAddress, Session};
use crate::wire::Body;
use crate::{ApiError, State};
use accounts::{Error as AccountsError, Login, NewSession};
use axum::extract;
use axum::routing::{get, post};
use axum::{Json, Router};
use base::Secret;
use http::{HeaderMap, StatusCode};
use ruma::OwnedDeviceId;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .v3("/login", get(flows).post(login))
        .v3_once("unstable/org.matrix.msc2918", "/refresh", post(refresh))
        .v3("/logout", post(logout))
        .v3("/logout/all", post(logout_all))
        .v3("/account/whoami", get(whoami))
}

/// `GET /login`
async fn flows() -> Json<Value> {
    Json(json!({ "flows": [{ "type": "m.login.password" }] }))
}

/// The body of `POST /login`. Ruma's type refuses some of what clients send, and panics without a type.
#[derive(Debug, Default, Deserialize)]
pub(super) struct LoginRequest {
    #[serde(rename = "type")]
    pub kind: String,
    pub identifier: Option<Identifier>,
    /// Deprecated in favour of the identifier, like the two below.
    pub user: Option<String>,
    pub medium: Option<String>,
    pub address: Option<String>,
    pub password: Option<Secret<String>>,
    pub device_id: Option<OwnedDeviceId>,
    pub initial_device_display_name: Option<String>,
    pub refresh_token: Option<bool>,
}

/// `POST /login`
async fn login(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    headers: HeaderMap,
    Body(request): Body<LoginRequest>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(log_in(&state, address, &headers, request).await?))
}

/// Logs somebody in, and says what they need to know.
pub(super) async fn log_in(
    state: &State,
    address: ClientAddress,
    headers: &HeaderMap,
    request: LoginRequest,
) -> Result<Value, ApiError> {
    state.limits.address(Class::Login, address)?;
    if request.kind != "m.login.password" {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "this type of login is not supported"));
    }
    let name = match (request.identifier, request.user) {
        (Some(identifier), _) => identifier.user(state)?,
        (None, Some(user)) => user,
        (None, None) => match (&request.medium, &request.address) {
            (Some(medium), Some(address)) => holder(state, medium, address)?,
            _ => return Err(ApiError::missing_param("the identifier is missing")),
        },
    };
    let password = request.password.ok_or_else(|| ApiError::missing_param("the password is missing"))?;
    // A name that cannot exist is as wrong as one that doesn't.
    let user_id = state.accounts.user_id(&name).map_err(|_| AccountsError::WrongPassword)?;
    state.limits.login(&user_id, address)?;
    let proof = state.accounts.check_password(&user_id, password).await?;
    let session = NewSession {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        can_refresh: request.refresh_token == Some(true),
        proof: Some(proof),
    };
    let login = state.accounts.begin_session(&user_id, session).await?;
    state.limits.logged_in(&user_id, address);
    threepid::new_login(state, headers, &user_id, login.device_id.as_str(), address);
    Ok(answer(&login))
}

/// What login and registration answer.
pub(super) fn answer(login: &Login) -> Value {
    let mut answer = tokens(login);
    answer.insert("user_id".to_owned(), json!(login.user_id));
    answer.insert("device_id".to_owned(), json!(login.device_id));
    Value::Object(answer)
}

fn tokens(login: &Login) -> Map<String, Value> {
    let mut answer = Map::new();
    answer.insert("access_token".to_owned(), json!(login.access_token));
    if let Some(refresh_token) = &login.refresh_token {
        answer.insert("refresh_token".to_owned(), json!(refresh_token));
    }
    if let Some(expires_in) = login.expires_in {
        let millis = u64::try_from(expires_in.as_millis()).unwrap_or(u64::MAX);
        answer.insert("expires_in_ms".to_owned(), json!(millis));
    }
    answer
}

#[derive(Debug, Deserialize)]
struct RefreshRequest {
    refresh_token: String,
}

/// `POST /refresh`
async fn refresh(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    Body(request): Body<RefreshRequest>,
) -> Result<Json<Value>, ApiError> {
    state.limits.address(Class::Other, address)?;
    let login = state.accounts.refresh(&request.refresh_token).await?;
    Ok(Json(Value::Object(tokens(&login))))
}

/// `POST /logout`
async fn logout(extract::State(state): extract::State<Arc<State>>, session: Session) -> Result<Json<Value>, ApiError> {
    state.accounts.remove_devices(&session.user_id, std::slice::from_ref(&session.device_id)).await?;
    Ok(Json(json!({})))
}

/// `POST /logout/all`
async fn logout_all(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
) -> Result<Json<Value>, ApiError> {
    state.accounts.remove_all_devices(&session.user_id).await?;
    Ok(Json(json!({})))
}

/// `GET /account/whoami`
async fn whoami(session: Session) -> Json<Value> {
    Json(json!({ "user_id": session.user_id, "device_id": session.device_id, "is_guest": session.is_guest }))
}
