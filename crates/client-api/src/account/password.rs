//! `POST /account/password`

use super::interactive::{Challenged, Passed};
use super::threepid;
use crate::routes::Routes as _;
use crate::session::{ClientAddress, Session};
use crate::{ApiError, State};
use accounts::{EMAIL, EndSessions};
use axum::extract::{self, FromRequest as _, Request};
use axum::routing::post;
use axum::{Json, Router};
use base::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().v3("/account/password", post(change_password))
}

#[derive(Debug, Deserialize)]
struct PasswordChange {
    new_password: Secret<String>,
    logout_devices: Option<bool>,
}

/// Without an access token, whoever asks proves by a mail whose account it is.
async fn change_password(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    session: Option<Session>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    if session.is_none() && state.mail.is_none() {
        return Err(ApiError::missing_token());
    }
    if session.as_ref().is_some_and(|session| session.is_guest) {
        return Err(ApiError::guest_access_forbidden("guests may not do this: register first"));
    }
    let headers = request.headers().clone();
    let request = Challenged::<PasswordChange>::from_request(request, &state).await?;
    state.accounts.check_strength(&request.body.new_password)?;
    let (user_id, device_id, change) = match session {
        Some(session) => {
            let change = request.password_of(&state, &session).await?;
            (session.user_id.clone(), Some(session.device_id.clone()), change)
        }
        None => {
            let Passed { body, address: proven, .. } = request.address_for_reset(&state, address).await?;
            let proven = proven.ok_or_else(|| ApiError::forbidden("no address was proven"))?;
            let user_id = state.accounts.threepid_user(EMAIL, &proven.address)?;
            let user_id = user_id.ok_or_else(|| ApiError::not_found("no account has the address"))?;
            // The mail is good for one new password.
            state.accounts.end_validation(&proven.sid).await?;
            (user_id, None, body)
        }
    };
    let end_sessions = match device_id {
        _ if change.logout_devices == Some(false) => EndSessions::None,
        Some(device_id) => EndSessions::AllBut(device_id),
        None => EndSessions::All,
    };
    state.accounts.set_password(&user_id, change.new_password, end_sessions).await?;
    threepid::password_changed(&state, &headers, &user_id);
    Ok(Json(json!({})))
}
