//! Filters that clients store, to name them in sync.

use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::wire::{Args, Body, refuse_json};
use crate::{ApiError, State};
use axum::extract;
use axum::routing::{get, post};
use axum::{Json, Router};
use ruma::OwnedUserId;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use sync_core::SyncFilter;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().v3("/user/{user_id}/filter", post(create)).v3("/user/{user_id}/filter/{filter_id}", get(show))
}

/// `POST /user/{userId}/filter`
async fn create(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user,)): Args<(OwnedUserId,)>,
    Body(filter): Body<Box<RawValue>>,
) -> Result<Json<Value>, ApiError> {
    check_own(&session, &user)?;
    state.limit(Class::Other, &session)?;
    // Stored as it came, so that it is given back whole; read once, so that sync never meets a wrong one.
    SyncFilter::parse(filter.get()).map_err(|error| refuse_json(&error))?;
    let id = state.accounts.create_filter(&user, filter.get()).await?;
    Ok(Json(json!({ "filter_id": id })))
}

/// `GET /user/{userId}/filter/{filterId}`
async fn show(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user, id)): Args<(OwnedUserId, String)>,
) -> Result<Json<Box<RawValue>>, ApiError> {
    check_own(&session, &user)?;
    let filter = state.accounts.filter(&user, &id)?.ok_or_else(|| ApiError::not_found("there is no such filter"))?;
    Ok(Json(RawValue::from_string(filter).map_err(|error| ApiError::internal(&error))?))
}

fn check_own(session: &Session, user: &OwnedUserId) -> Result<(), ApiError> {
    if session.user_id == *user { Ok(()) } else { Err(ApiError::forbidden("these are another user's filters")) }
}
