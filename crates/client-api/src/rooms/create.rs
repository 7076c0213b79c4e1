//! `POST /createRoom`

use super::federation;
use super::follow::follow;
use crate::account::to_the_end;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Reply, Wire};
use crate::{ApiError, State};
use axum::extract::State as Within;
use rooms::{CreateRoom, InitialState, MembershipChange, Preset};
use ruma::api::client::room::Visibility;
use ruma::api::client::room::create_room::v3::{Request, Response, RoomPreset};
use ruma::serde::{JsonObject, Raw};
use ruma::{OwnedUserId, RoomId};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Makes a room. All of it is there at once, or nothing of it.
pub(super) async fn create(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<Request>,
) -> Result<Reply<Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    let mut request = read(request)?;
    if session.sanctions.shadow_banned {
        request.invite.clear();
        request.initial_state.retain(|event| event.kind != "m.room.member");
    }
    let members = request.initial_state.iter().filter(|event| event.kind == "m.room.member");
    let members: Vec<_> = members.filter_map(|event| OwnedUserId::try_from(event.state_key.as_str()).ok()).collect();
    if members.iter().any(|user| state.federation.is_remote(user.server_name())) {
        return Err(ApiError::forbidden("users of other servers can't be made members by initial_state"));
    }
    let mut elsewhere = request.invite.clone();
    elsewhere.retain(|user| state.federation.is_remote(user.server_name()));
    elsewhere.sort();
    elsewhere.dedup();
    let is_direct = request.is_direct;
    if !(request.invite.is_empty() && members.is_empty()) {
        state.limit(Class::Invite, &session)?;
    }
    to_the_end(async move {
        let room_id = state.rooms.create(&session.user_id, request).await?;
        follow(&state, &session.user_id, &room_id).await;
        invite_elsewhere(&state, &session, &room_id, elsewhere, is_direct).await;
        Ok(Reply(Response::new(room_id)))
    })
    .await
}

/// Invites users of other servers, which have to agree. The room is there, whether they do or not.
async fn invite_elsewhere(
    state: &State,
    session: &Session,
    room_id: &RoomId,
    users: Vec<OwnedUserId>,
    is_direct: bool,
) {
    for user in users {
        let extra = is_direct.then(|| JsonObject::from_iter([("is_direct".to_owned(), true.into())]));
        let change = MembershipChange::Invite { user: user.clone() };
        if let Err(error) = federation::change(state, &session.user_id, room_id, change, None, extra).await {
            tracing::info!(%room_id, %user, ?error, "a user of another server is not invited to a new room");
        }
    }
}

fn read(request: Request) -> Result<CreateRoom, ApiError> {
    if !request.invite_3pid.is_empty() {
        return Err(ApiError::threepid_denied("invitations by third-party identifiers are not supported"));
    }
    let preset = match request.preset {
        None => None,
        Some(RoomPreset::PrivateChat) => Some(Preset::PrivateChat),
        Some(RoomPreset::TrustedPrivateChat) => Some(Preset::TrustedPrivateChat),
        Some(RoomPreset::PublicChat) => Some(Preset::PublicChat),
        Some(other) => return Err(ApiError::bad_json(format!("there is no preset `{other}`"))),
    };
    let published = match request.visibility {
        Visibility::Public => true,
        Visibility::Private => false,
        other => return Err(ApiError::bad_json(format!("there is no visibility `{other}`"))),
    };
    Ok(CreateRoom {
        version: request.room_version,
        preset,
        published,
        alias_localpart: request.room_alias_name,
        name: request.name,
        topic: request.topic,
        invite: request.invite,
        is_direct: request.is_direct,
        creation_content: object("creation_content", request.creation_content.as_ref())?,
        initial_state: request.initial_state.iter().map(initial_state).collect::<Result<_, _>>()?,
        power_level_content_override: object(
            "power_level_content_override",
            request.power_level_content_override.as_ref(),
        )?,
    })
}

fn object<T>(field: &str, raw: Option<&Raw<T>>) -> Result<JsonObject, ApiError> {
    let object = raw.map(|raw| serde_json::from_str(raw.json().get())).transpose();
    let object = object.map_err(|error| ApiError::bad_json(format!("`{field}`: {error}")))?;
    Ok(object.unwrap_or_default())
}

fn initial_state<T>(raw: &Raw<T>) -> Result<InitialState, ApiError> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        state_key: String,
        content: Box<RawValue>,
    }

    let event: Event = serde_json::from_str(raw.json().get())
        .map_err(|error| ApiError::bad_json(format!("`initial_state`: {error}")))?;
    Ok(InitialState { kind: event.kind, state_key: event.state_key, content: event.content })
}
