//! `GET /make_leave`, `PUT /send_leave`: users of other servers leave, reject invitations and take back knocks
//! (server-server API, "Leaving Rooms (Rejecting Invites)").

use crate::entering::take_in;
use crate::templates::template;
use crate::{Origin, State};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State as Within;
use face::ApiError;
use face::wire::Args;
use rooms::MembershipChange;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde_json::{Value, json};
use std::sync::Arc;

/// What the leaving server has to sign.
pub(crate) async fn make(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id, user)): Args<(OwnedRoomId, OwnedUserId)>,
) -> Result<Json<Value>, ApiError> {
    template(&state, &origin, &room_id, &user, MembershipChange::Leave, None).await.map(Json)
}

/// What it has signed.
pub(crate) async fn send(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id, event_id)): Args<(OwnedRoomId, OwnedEventId)>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    take_in(&state, &origin, &room_id, &event_id, &body, "leave").await?;
    Ok(Json(json!({})))
}

/// The first version, of old servers: a pair of a status and an object.
pub(crate) async fn send_v1(
    within: Within<Arc<State>>,
    origin: Origin,
    args: Args<(OwnedRoomId, OwnedEventId)>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let Json(answer) = send(within, origin, args, body).await?;
    Ok(Json(json!([200, answer])))
}
