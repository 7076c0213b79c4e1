//! Telling the administrators: `POST /rooms/{roomId}/report/{eventId}`, `POST /rooms/{roomId}/report` and
//! `POST /users/{userId}/report`.

use super::access::{Access, Standing};
use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use axum::Json;
use axum::extract::State as Within;
use records::Reported;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// What a client says of an event. The score is gone from the specification since 1.18, and clients still send it.
#[derive(Deserialize)]
pub(super) struct AboutEvent {
    reason: Option<String>,
    score: Option<i64>,
}

/// What a client says of a room or a user. The reason may be empty.
#[derive(Deserialize)]
pub(super) struct About {
    reason: String,
}

/// Reports an event of a room that the user is in.
pub(super) async fn event(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, event_id)): Args<(OwnedRoomId, OwnedEventId)>,
    Body(about): Body<AboutEvent>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Report, &session)?;
    let score = about.score.map(|score| match i8::try_from(score) {
        Ok(score @ -100..=0) => Ok(score),
        _ => Err(ApiError::invalid_param("`score` must be between -100 and 0")),
    });
    let not_found = || ApiError::not_found("the event is not known here, or you are not in its room");
    let reported = {
        let access = Access::of(&state, &session, &room_id).map_err(|error| match error.is_internal() {
            true => error,
            false => not_found(),
        })?;
        if access.standing != Standing::Joined {
            return Err(not_found());
        }
        let seen = access.event(&event_id)?;
        let sender = seen.event.pdu.sender().to_owned();
        Reported::Event { room_id, event_id, sender, score: score.transpose()? }
    };
    send(&state, &session, reported, about.reason.unwrap_or_default()).await
}

/// Reports a room, whether or not the user is in it.
pub(super) async fn room(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    Body(about): Body<About>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Report, &session)?;
    if state.records.view().room_num(&room_id)?.is_none() {
        return Err(ApiError::not_found("the room is not known here"));
    }
    send(&state, &session, Reported::Room { room_id }, about.reason).await
}

/// Reports a user: of this server, or one who has had to do with a room that is known here.
pub(super) async fn user(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((user_id,)): Args<(OwnedUserId,)>,
    Body(about): Body<About>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Report, &session)?;
    let view = state.records.view();
    let is_known = match user_id.server_name() == state.server_name {
        true => view.user(&user_id)?.is_some(),
        false => view.has_memberships(&user_id)?,
    };
    drop(view);
    if !is_known {
        return Err(ApiError::not_found("the user is not known here"));
    }
    send(&state, &session, Reported::User { user_id }, about.reason).await
}

async fn send(state: &State, session: &Session, reported: Reported, reason: String) -> Result<Json<Value>, ApiError> {
    state.accounts.report(&session.user_id, reported, reason).await?;
    Ok(Json(json!({})))
}
