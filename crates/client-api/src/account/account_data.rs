//! Account data: what clients store for their user.

use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use axum::extract;
use axum::routing::{delete, get};
use axum::{Json, Router};
use http::StatusCode;
use records::DELETED;
use rules::push::PUSH_RULES;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;

/// The types that only the server writes (client-server API, "Client Config").
const SERVERS_OWN: [&str; 2] = ["m.fully_read", PUSH_RULES];

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .v3("/user/{user_id}/account_data/{type}", get(show).put(set))
        .v3("/user/{user_id}/rooms/{room_id}/account_data/{type}", get(show_in_room).put(set_in_room))
        .route("/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/account_data/{type}", delete(remove))
        .route(
            "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/rooms/{room_id}/account_data/{type}",
            delete(remove_in_room),
        )
}

/// `GET /user/{userId}/account_data/{type}`
async fn show(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user, kind)): Args<(OwnedUserId, String)>,
) -> Result<Json<Box<RawValue>>, ApiError> {
    read(&state, &session, &user, None, &kind)
}

/// `PUT /user/{userId}/account_data/{type}`
async fn set(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user, kind)): Args<(OwnedUserId, String)>,
    Body(content): Body<Box<RawValue>>,
) -> Result<Json<Value>, ApiError> {
    write(&state, &session, &user, None, &kind, &content).await
}

/// `GET /user/{userId}/rooms/{roomId}/account_data/{type}`
async fn show_in_room(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user, room, kind)): Args<(OwnedUserId, OwnedRoomId, String)>,
) -> Result<Json<Box<RawValue>>, ApiError> {
    read(&state, &session, &user, Some(&room), &kind)
}

/// `PUT /user/{userId}/rooms/{roomId}/account_data/{type}`
async fn set_in_room(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user, room, kind)): Args<(OwnedUserId, OwnedRoomId, String)>,
    Body(content): Body<Box<RawValue>>,
) -> Result<Json<Value>, ApiError> {
    write(&state, &session, &user, Some(&room), &kind, &content).await
}

/// `DELETE /user/{userId}/account_data/{type}` (MSC3391)
async fn remove(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user, kind)): Args<(OwnedUserId, String)>,
) -> Result<Json<Value>, ApiError> {
    clear(&state, &session, &user, None, &kind).await
}

/// `DELETE /user/{userId}/rooms/{roomId}/account_data/{type}` (MSC3391)
async fn remove_in_room(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user, room, kind)): Args<(OwnedUserId, OwnedRoomId, String)>,
) -> Result<Json<Value>, ApiError> {
    clear(&state, &session, &user, Some(&room), &kind).await
}

fn read(
    state: &State,
    session: &Session,
    user: &UserId,
    room: Option<&RoomId>,
    kind: &str,
) -> Result<Json<Box<RawValue>>, ApiError> {
    check_own(session, user)?;
    let content = match room {
        // Everybody has push rules, and more of them than are stored.
        None if kind == PUSH_RULES => Some(state.syncs.push_rules(user)?.content()),
        _ => state.accounts.account_data(user, room, kind)?,
    };
    let content = content.ok_or_else(|| ApiError::not_found("there is no account data of this type"))?;
    Ok(Json(RawValue::from_string(content).map_err(|error| ApiError::internal(&error))?))
}

async fn write(
    state: &State,
    session: &Session,
    user: &UserId,
    room: Option<&RoomId>,
    kind: &str,
    content: &RawValue,
) -> Result<Json<Value>, ApiError> {
    check_own(session, user)?;
    check_kind(kind)?;
    state.limit(Class::Other, session)?;
    let content = match content.get().strip_prefix('{') {
        None => return Err(ApiError::bad_json("the content is not an object")),
        // However it is written, an empty object deletes (MSC3391, "Backwards compatibility").
        Some(rest) if rest.trim_start() == "}" => DELETED,
        Some(_) => content.get(),
    };
    state.accounts.set_account_data(user, room, kind, content).await?;
    Ok(Json(json!({})))
}

async fn clear(
    state: &State,
    session: &Session,
    user: &UserId,
    room: Option<&RoomId>,
    kind: &str,
) -> Result<Json<Value>, ApiError> {
    check_own(session, user)?;
    check_kind(kind)?;
    state.limit(Class::Other, session)?;
    state.accounts.set_account_data(user, room, kind, DELETED).await?;
    Ok(Json(json!({})))
}

fn check_kind(kind: &str) -> Result<(), ApiError> {
    if SERVERS_OWN.contains(&kind) {
        let message = format!("{kind} cannot be set through this endpoint");
        return Err(ApiError::bad_json(message).status(StatusCode::METHOD_NOT_ALLOWED));
    }
    Ok(())
}

fn check_own(session: &Session, user: &UserId) -> Result<(), ApiError> {
    if session.user_id == user { Ok(()) } else { Err(ApiError::forbidden("this is another user's account data")) }
}
