//! `PUT /invite`: users of other servers invite users of this one (server-server API, "Inviting to a room").

use crate::access::membership;
use crate::entering::{countersigned, verified};
use crate::{Origin, State};
use axum::Json;
use axum::extract::State as Within;
use face::ApiError;
use face::wire::{Args, Body};
use federation::FederationError;
use rooms::RoomError;
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;

/// How many events of what an inviting server shows of its room are looked at.
const SHOWN_MAX: usize = 100;

/// The body of the second version.
#[derive(Deserialize)]
pub(crate) struct Invite {
    room_version: RoomVersionId,
    event: Box<RawValue>,
    #[serde(rename = "invite_room_state", default)]
    shown: Vec<Box<RawValue>>,
}

/// The second version.
pub(crate) async fn v2(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id, event_id)): Args<(OwnedRoomId, OwnedEventId)>,
    Body(invite): Body<Invite>,
) -> Result<Json<Value>, ApiError> {
    let event = invited(&state, &origin, &room_id, &event_id, invite).await?;
    Ok(Json(json!({ "event": event })))
}

/// The first version, whose body is the event: for rooms of old versions, of which it does not say which.
pub(crate) async fn v1(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id, event_id)): Args<(OwnedRoomId, OwnedEventId)>,
    Body(event): Body<Box<RawValue>>,
) -> Result<Json<Value>, ApiError> {
    #[derive(Default, Deserialize)]
    struct Event {
        #[serde(default)]
        unsigned: Unsigned,
    }
    #[derive(Default, Deserialize)]
    struct Unsigned {
        #[serde(default)]
        invite_room_state: Vec<Box<RawValue>>,
    }
    let read: Event = serde_json::from_str(event.get()).unwrap_or_default();
    let shown = read.unsigned.invite_room_state;
    let invite = Invite { room_version: RoomVersionId::V1, event, shown };
    let event = invited(&state, &origin, &room_id, &event_id, invite).await?;
    Ok(Json(json!([200, { "event": event }])))
}

async fn invited(
    state: &State,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
    invite: Invite,
) -> Result<Box<RawValue>, ApiError> {
    let Invite { room_version, event, mut shown } = invite;
    let rules =
        rules::room_rules(&room_version).ok_or_else(|| ApiError::incompatible_room_version(room_version.as_str()))?;
    let signed = countersigned(state, event.get(), &rules)?;
    let event = verified(state, signed, &rules).await?;
    let invalid = |message: &'static str| Err(ApiError::invalid_param(message));
    if event.kind_str() != "m.room.member" || membership(&event) != "invite" {
        return invalid("the event is no invitation");
    }
    if event.room_id() != room_id || event.event_id() != event_id {
        return invalid("the event has another id, or is of another room");
    }
    if event.sender().server_name() != origin {
        return Err(ApiError::forbidden("the event's sender is not of the server that asks"));
    }
    let Some(user) = event.state_key().and_then(|user| OwnedUserId::try_from(user).ok()) else {
        return invalid("the event invites nobody");
    };
    check_user(state, &user)?;
    let json = event.json().to_owned();
    shown.truncate(SHOWN_MAX);
    match state.federation.invited(&room_version, event, &shown).await {
        // This server is in the room, which gets the invitation as it gets other events.
        Ok(_) | Err(FederationError::Room(RoomError::Outdated)) => {}
        Err(error) => return Err(error.into()),
    }
    RawValue::from_string(json).map_err(|error| ApiError::internal(&error))
}

/// Whether a user can be invited: they must be of this server, and their account in use.
fn check_user(state: &State, user: &UserId) -> Result<(), ApiError> {
    if user.server_name() != state.server_name {
        return Err(ApiError::invalid_param("the invited user is not of this server"));
    }
    let account = state.records.view().user(user)?;
    match account {
        None => Err(ApiError::not_found("there is no such user")),
        Some(account) if account.deactivated_at.is_some() => Err(ApiError::forbidden("the user's account has ended")),
        Some(_) => Ok(()),
    }
}
