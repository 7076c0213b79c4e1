//! `GET /make_knock`, `PUT /send_knock`: users of other servers ask to be let in (server-server API, "Knocking upon a
//! room").

use crate::entering::take_in;
use crate::templates::{raw, template, versions};
use crate::{Origin, State};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State as Within;
use face::ApiError;
use face::wire::Args;
use http::Uri;
use rooms::MembershipChange;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde_json::{Value, json};
use std::sync::Arc;

/// What the knocking server has to sign.
pub(crate) async fn make(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id, user)): Args<(OwnedRoomId, OwnedUserId)>,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    let versions = versions(uri.query());
    template(&state, &origin, &room_id, &user, MembershipChange::Knock, Some(&versions)).await.map(Json)
}

/// What it has signed; answered with what the room shows to those outside.
pub(crate) async fn send(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id, event_id)): Args<(OwnedRoomId, OwnedEventId)>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let (reader, _) = take_in(&state, &origin, &room_id, &event_id, &body, "knock").await?;
    let shown = reader.outside_state(None)?;
    let shown: Vec<_> = shown.iter().map(|event| raw(event.pdu.json())).collect::<Result<_, _>>()?;
    Ok(Json(json!({ "knock_room_state": shown })))
}
