//! Registration.

use super::interactive::{Challenged, Passed};
use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::ClientAddress;
use crate::wire::{Wire, query_param};
use crate::{ApiError, State};
use accounts::{NewSession, NewUser, RegistrationMode};
use axum::extract::{self, RawQuery};
use axum::routing::{get, post};
use axum::{Json, Router};
use base::Secret;
use ruma::api::client::account::{check_registration_token_validity, get_username_availability};
use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .v3("/register", post(register))
        .v3("/register/available", get(available))
        .v1("/register/m.login.registration_token/validity", get(token_validity))
        .route(
            "/_matrix/client/unstable/org.matrix.msc3231/register/org.matrix.msc3231.login.registration_token/validity",
            get(token_validity),
        )
}

#[derive(Debug, Deserialize)]
struct Registration {
    username: Option<String>,
    password: Option<Secret<String>>,
    device_id: Option<OwnedDeviceId>,
    initial_device_display_name: Option<String>,
    inhibit_login: Option<bool>,
    refresh_token: Option<bool>,
    #[serde(rename = "type")]
    kind: Option<String>,
    guest_access_token: Option<Secret<String>>,
}

/// `POST /register`
async fn register(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    RawQuery(query): RawQuery,
    request: Challenged<Registration>,
) -> Result<Json<Value>, ApiError> {
    state.limits.address(Class::Other, address)?;
    match query_param(query.as_deref().unwrap_or_default(), "kind").as_deref() {
        None | Some("user") => {}
        Some("guest") => return guest(&state, address, request.body.initial_device_display_name).await,
        Some(_) => return Err(ApiError::invalid_param("the kind of account is not known")),
    }
    if request.body.kind.as_deref() == Some("m.login.application_service") {
        return Err(ApiError::forbidden("no application service is registered here"));
    }
    if state.accounts.config().registration.mode == RegistrationMode::Closed {
        return Err(ApiError::forbidden("registration is disabled"));
    }
    // What would fail in the end is refused before the user is asked for anything (the specification demands
    // it of the name).
    let guest = match &request.body.guest_access_token {
        Some(token) => Some(upgrading(&state, address, token, request.body.username.as_deref()).await?),
        None => None,
    };
    let user_id = match (&guest, &request.body.username) {
        (Some(guest), _) => guest.clone(),
        (None, Some(name)) => state.accounts.available(name)?,
        (None, None) => state.accounts.user_id(&state.accounts.made_up_name())?,
    };
    if let Some(password) = &request.body.password {
        state.accounts.check_strength(password)?;
    }
    let Passed { mut body, token, address: proven } = request.may_register(&state, address).await?;
    let password = body.password.take().ok_or_else(|| ApiError::missing_param("the password is missing"))?;
    if guest.is_some() {
        if let Some(token) = &token {
            state.accounts.use_registration_token(token).await?;
        }
        state.accounts.upgrade_guest(&user_id, password).await?;
        if let Some(proven) = &proven {
            state.accounts.add_address(&user_id, proven).await?;
        }
        return begin(&state, &user_id, &body).await;
    }
    let user = NewUser { user_id: user_id.clone(), password: Some(password), accepted_terms: true, admin: false };
    if let Some(proven) = &proven
        && state.accounts.threepid_user(accounts::EMAIL, &proven.address)?.is_some()
    {
        return Err(accounts::Error::ThreepidInUse.into());
    }
    state.accounts.register_user(user, token.as_deref()).await?;
    if let Some(proven) = &proven {
        state.accounts.add_address(&user_id, proven).await?;
    }
    begin(&state, &user_id, &body).await
}

/// Begins the first session of an account, unless the client wants none.
async fn begin(state: &State, user_id: &UserId, body: &Registration) -> Result<Json<Value>, ApiError> {
    if body.inhibit_login == Some(true) {
        return Ok(Json(json!({ "user_id": user_id })));
    }
    let session = NewSession {
        device_id: body.device_id.clone(),
        display_name: body.initial_device_display_name.clone(),
        can_refresh: body.refresh_token == Some(true),
        proof: None,
    };
    let login = state.accounts.begin_session(user_id, session).await?;
    Ok(Json(super::login::answer(&login)))
}

/// Registers a guest. Of what the client says, only what it calls the device counts.
async fn guest(state: &State, address: ClientAddress, device_name: Option<String>) -> Result<Json<Value>, ApiError> {
    if !state.accounts.config().registration.guests {
        return Err(ApiError::guest_access_forbidden("there are no guests on this server"));
    }
    state.limits.address(Class::Registration, address)?;
    let user_id = state.accounts.create_guest().await?;
    let session = NewSession { display_name: device_name, ..NewSession::default() };
    let login = state.accounts.begin_session(&user_id, session).await?;
    Ok(Json(super::login::answer(&login)))
}

/// The guest who registers, whose token must be theirs and whose name must stay (client-server API, "Guest
/// Access").
async fn upgrading(
    state: &State,
    address: ClientAddress,
    token: &Secret<String>,
    username: Option<&str>,
) -> Result<OwnedUserId, ApiError> {
    let username = username.ok_or_else(|| ApiError::missing_param("a guest who registers says their username"))?;
    let session = match state.accounts.authenticate(token.expose(), address.0).await {
        Ok(session) => session,
        Err(accounts::Error::UnknownToken { .. }) => return Err(ApiError::forbidden("the guest's token is not known")),
        Err(error) => return Err(error.into()),
    };
    if !session.is_guest || session.user_id.localpart() != username {
        return Err(ApiError::forbidden("the token is not one of a guest of this name"));
    }
    Ok(session.user_id.clone())
}

/// `GET /register/available`
async fn available(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    Wire(request): Wire<get_username_availability::v3::Request>,
) -> Result<Json<Value>, ApiError> {
    state.limits.address(Class::Other, address)?;
    if state.accounts.config().registration.mode == RegistrationMode::Closed {
        // Whoever can't register has no business to learn who is here.
        return Err(ApiError::forbidden("registration is disabled"));
    }
    state.accounts.available(&request.username)?;
    Ok(Json(json!({ "available": true })))
}

/// `GET /register/m.login.registration_token/validity`
async fn token_validity(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    Wire(request): Wire<check_registration_token_validity::v1::Request>,
) -> Result<Json<Value>, ApiError> {
    // Each try is a guess.
    state.limits.address(Class::Registration, address)?;
    if state.accounts.config().registration.mode == RegistrationMode::Closed {
        return Err(ApiError::forbidden("registration is disabled"));
    }
    let valid = state.accounts.is_registration_token(&request.token)?;
    Ok(Json(json!({ "valid": valid })))
}
