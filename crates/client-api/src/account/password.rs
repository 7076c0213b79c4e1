//! `POST /account/password`

use super::interactive::Challenged;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::{ApiError, State};
use accounts::EndSessions;
use axum::extract;
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

/// Without an access token the specification lets a user prove who they are by a third-party identifier; there
/// are none here, so that a token is always needed.
async fn change_password(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    request: Challenged<PasswordChange>,
) -> Result<Json<Value>, ApiError> {
    state.accounts.check_strength(&request.body.new_password)?;
    let change = request.password_of(&state, &session).await?;
    let end_sessions = if change.logout_devices == Some(false) {
        EndSessions::None
    } else {
        EndSessions::AllBut(session.device_id.clone())
    };
    state.accounts.set_password(&session.user_id, change.new_password, end_sessions).await?;
    Ok(Json(json!({})))
}
