//! `POST /account/deactivate`

use super::interactive::Challenged;
use super::to_the_end;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::{ApiError, State};
use accounts::Erase;
use axum::extract;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().v3("/account/deactivate", post(deactivate))
}

/// `id_server` is not looked at: there are no third-party identifiers to unbind.
#[derive(Debug, Deserialize)]
struct Deactivation {
    erase: Option<bool>,
}

async fn deactivate(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    request: Challenged<Deactivation>,
) -> Result<Json<Value>, ApiError> {
    let request = request.password_of(&state, &session).await?;
    let erase = if request.erase == Some(true) { Erase::Everything } else { Erase::Nothing };
    to_the_end(async move {
        // The account first: if leaving the rooms is cut off, nobody can use the account meanwhile.
        state.accounts.deactivate(&session.user_id, erase).await?;
        Ok(state.rooms.leave_all(&session.user_id).await?)
    })
    .await?;
    Ok(Json(json!({ "id_server_unbind_result": "success" })))
}
