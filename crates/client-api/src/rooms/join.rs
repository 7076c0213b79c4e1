//! Entering rooms: `POST /rooms/{roomId}/join`, `POST /join/{roomIdOrAlias}`, `POST /knock/{roomIdOrAlias}`.

use super::federation::{Door, enter, resolve, unreachable_room};
use super::follow::follow;
use crate::account::to_the_end;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Reply, Wire, WireAndBody};
use crate::{ApiError, State};
use axum::extract::State as Within;
use rooms::{Draft, MembershipChange};
use ruma::api::client::knock::knock_room;
use ruma::api::client::membership::{ThirdPartySigned, join_room_by_id, join_room_by_id_or_alias};
use ruma::serde::JsonObject;
use ruma::{OwnedRoomId, RoomId};
use serde_json::json;
use serde_json::value::to_raw_value;
use std::sync::Arc;

/// `POST /rooms/{roomId}/join`
pub(super) async fn join_by_id(
    Within(state): Within<Arc<State>>,
    session: Session,
    WireAndBody(request, body): WireAndBody<join_room_by_id::v3::Request>,
) -> Result<Reply<join_room_by_id::v3::Response>, ApiError> {
    state.limit(Class::Join, &session)?;
    let signed = request.third_party_signed;
    let door = Door { room_id: request.room_id, via: Vec::new() };
    let room_id = to_the_end(join(state, session, door, signed, body)).await?;
    Ok(Reply(join_room_by_id::v3::Response::new(room_id)))
}

/// `POST /join/{roomIdOrAlias}`
pub(super) async fn join_by_id_or_alias(
    Within(state): Within<Arc<State>>,
    session: Session,
    WireAndBody(request, body): WireAndBody<join_room_by_id_or_alias::v3::Request>,
) -> Result<Reply<join_room_by_id_or_alias::v3::Response>, ApiError> {
    state.limit(Class::Join, &session)?;
    let door = resolve(&state, &request.room_id_or_alias, request.via).await?;
    let room_id = to_the_end(join(state, session, door, request.third_party_signed, body)).await?;
    Ok(Reply(join_room_by_id_or_alias::v3::Response::new(room_id)))
}

/// `POST /knock/{roomIdOrAlias}`
pub(super) async fn knock(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<knock_room::v3::Request>,
) -> Result<Reply<knock_room::v3::Response>, ApiError> {
    state.limit(Class::Join, &session)?;
    let door = resolve(&state, &request.room_id_or_alias, request.via).await?;
    to_the_end(async move {
        enter(&state, &session, &door, MembershipChange::Knock, request.reason, None).await?;
        Ok(Reply(knock_room::v3::Response::new(door.room_id)))
    })
    .await
}

/// What a body has beyond its own fields becomes part of the membership: clients put there what concerns the
/// member in this room alone, as they do with `PUT /state`.
async fn join(
    state: Arc<State>,
    session: Session,
    door: Door,
    signed: Option<ThirdPartySigned>,
    mut body: JsonObject,
) -> Result<OwnedRoomId, ApiError> {
    if let Some(signed) = signed {
        accept_third_party_invite(&state, &session, &door.room_id, signed).await?;
    }
    body.remove("third_party_signed");
    let reason = body.remove("reason").and_then(|reason| reason.as_str().map(ToOwned::to_owned));
    let extra = Some(body).filter(|body| !body.is_empty());
    if enter(&state, &session, &door, MembershipChange::Join, reason, extra).await? {
        follow(&state, &session.user_id, &door.room_id).await;
    }
    Ok(door.room_id)
}

/// Turns an invitation to a third-party identifier into one of the user who owns it. It is sent in the name of
/// the user who invited; that their identity server vouches for the new owner is what the authorization rules
/// check (client-server API, "Third-party invites").
async fn accept_third_party_invite(
    state: &State,
    session: &Session,
    room_id: &RoomId,
    signed: ThirdPartySigned,
) -> Result<(), ApiError> {
    if signed.mxid != session.user_id {
        return Err(ApiError::forbidden("the invitation is signed for another user"));
    }
    if signed.sender.server_name() != state.server_name {
        return Err(ApiError::forbidden(format!("the server of {} cannot be reached", signed.sender)));
    }
    let view = state.records.view();
    let reader = state.rooms.reader_by_id(&view, room_id)?.ok_or_else(|| unreachable_room(room_id.as_str()))?;
    let invite = reader.state_event(reader.state(), "m.room.third_party_invite", &signed.token)?;
    let invite = invite.ok_or_else(|| ApiError::forbidden("there is no such invitation"))?;
    let invite_content: serde_json::Value = serde_json::from_str(invite.pdu.content().get())
        .map_err(|_| ApiError::forbidden("the invitation cannot be read"))?;
    let content = json!({
        "membership": "invite",
        "third_party_invite": {
            "display_name": invite_content.get("display_name").and_then(|name| name.as_str()).unwrap_or_default(),
            "signed": {"mxid": signed.mxid, "token": signed.token, "signatures": signed.signatures},
        },
    });
    let content = to_raw_value(&content).map_err(|error| ApiError::internal(&error))?;
    let draft = Draft::state(signed.sender, "m.room.member", session.user_id.as_str(), content);
    drop((reader, view));
    state.rooms.send(room_id, draft, None).await?;
    Ok(())
}
