//! Tags: `GET /user/{userId}/rooms/{roomId}/tags`, and `PUT` and `DELETE …/tags/{tag}`. Syncs tell them as the
//! room's account data `m.tag`.

use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use axum::extract;
use axum::routing::{get, put};
use axum::{Json, Router};
use ruma::serde::JsonObject;
use ruma::{OwnedRoomId, OwnedUserId, UserId};
use serde_json::{Value, json};
use std::sync::Arc;

/// The longest name of a tag, in bytes (client-server API, "Room Tagging").
const TAG_BYTES_MAX: usize = 255;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .v3("/user/{user_id}/rooms/{room_id}/tags", get(all))
        .v3("/user/{user_id}/rooms/{room_id}/tags/{tag}", put(set).delete(remove))
}

async fn all(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user, room)): Args<(OwnedUserId, OwnedRoomId)>,
) -> Result<Json<Value>, ApiError> {
    check_own(&session, &user)?;
    Ok(Json(json!({"tags": state.accounts.tags(&user, &room)?})))
}

async fn set(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user, room, tag)): Args<(OwnedUserId, OwnedRoomId, String)>,
    Body(content): Body<JsonObject>,
) -> Result<Json<Value>, ApiError> {
    check_own(&session, &user)?;
    check_name(&tag)?;
    match content.get("order").map(Value::as_f64) {
        None | Some(Some(0.0..=1.0)) => {}
        Some(Some(_)) => return Err(ApiError::invalid_param("`order` must be between 0 and 1")),
        Some(None) => return Err(ApiError::bad_json("`order` must be a number")),
    }
    state.limit(Class::Other, &session)?;
    state.accounts.set_tag(&user, &room, &tag, Some(content)).await?;
    Ok(Json(json!({})))
}

async fn remove(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user, room, tag)): Args<(OwnedUserId, OwnedRoomId, String)>,
) -> Result<Json<Value>, ApiError> {
    check_own(&session, &user)?;
    check_name(&tag)?;
    state.limit(Class::Other, &session)?;
    state.accounts.set_tag(&user, &room, &tag, None).await?;
    Ok(Json(json!({})))
}

fn check_own(session: &Session, user: &UserId) -> Result<(), ApiError> {
    if session.user_id == user { Ok(()) } else { Err(ApiError::forbidden("these are another user's tags")) }
}

fn check_name(tag: &str) -> Result<(), ApiError> {
    if tag.is_empty() || tag.len() > TAG_BYTES_MAX {
        return Err(ApiError::invalid_param(format!("the name of a tag has 1 to {TAG_BYTES_MAX} bytes")));
    }
    Ok(())
}
