//! Registration.

use super::interactive::Challenged;
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
use ruma::OwnedDeviceId;
use ruma::api::client::account::{check_registration_token_validity, get_username_availability};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .v3("/register", post(register))
        .v3("/register/available", get(available))
        .v1("/register/m.login.registration_token/validity", get(token_validity))
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
        Some("guest") => return Err(ApiError::guest_access_forbidden("there are no guests on this server")),
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
    let user_id = match &request.body.username {
        Some(name) => state.accounts.available(name)?,
        None => state.accounts.user_id(&state.accounts.made_up_name())?,
    };
    if let Some(password) = &request.body.password {
        state.accounts.check_strength(password)?;
    }
    let body = request.may_register(&state, address).await?;
    let password = body.password.ok_or_else(|| ApiError::missing_param("the password is missing"))?;
    let user = NewUser { user_id: user_id.clone(), password: Some(password), accepted_terms: true, admin: false };
    state.accounts.create_user(user).await?;
    if body.inhibit_login == Some(true) {
        return Ok(Json(json!({ "user_id": user_id })));
    }
    let session = NewSession {
        device_id: body.device_id,
        display_name: body.initial_device_display_name,
        can_refresh: body.refresh_token == Some(true),
        proof: None,
    };
    let login = state.accounts.begin_session(&user_id, session).await?;
    Ok(Json(super::login::answer(&login)))
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
    let valid = state.accounts.is_registration_token(&request.token);
    Ok(Json(json!({ "valid": valid })))
}
