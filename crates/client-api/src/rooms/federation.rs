//! What takes another server: rooms that only others are in, users of others, aliases of others.

use crate::session::Session;
use crate::{ApiError, State};
use federation::{FederationError, Joining, PeerError};
use rooms::{MembershipChange, RoomError, Txn};
use ruma::serde::JsonObject;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomOrAliasId, UserId};

/// The answer for rooms and aliases that only another server could know.
pub(super) fn unreachable_room(what: &str) -> ApiError {
    ApiError::not_found(format!("{what} is not known here, and no server that knows it can be reached"))
}

/// A room, and servers that are said to be in it.
pub(super) struct Door {
    pub room_id: OwnedRoomId,
    pub via: Vec<OwnedServerName>,
}

/// The room that an id or an alias names. `via` are the servers that the client knows.
pub(super) async fn resolve(
    state: &State,
    name: &RoomOrAliasId,
    mut via: Vec<OwnedServerName>,
) -> Result<Door, ApiError> {
    if let Ok(room_id) = <&RoomId>::try_from(name) {
        return Ok(Door { room_id: room_id.to_owned(), via });
    }
    let alias =
        <&RoomAliasId>::try_from(name).map_err(|_| ApiError::invalid_param("neither a room id nor an alias"))?;
    let record = state.rooms.resolve_alias(&state.records.view(), alias)?;
    if let Some(record) = record {
        return Ok(Door { room_id: record.room_id, via });
    }
    if !state.federation.is_remote(alias.server_name()) {
        return Err(unreachable_room(alias.as_str()));
    }
    match state.federation.resolve_alias(alias).await {
        Ok(Some(resolved)) => {
            via.extend(resolved.servers);
            Ok(Door { room_id: resolved.room_id, via })
        }
        Ok(None) => Err(ApiError::not_found(format!("there is no room with the alias {alias}"))),
        Err(error) => {
            tracing::info!(%alias, %error, "an alias of another server can't be resolved");
            Err(unreachable_room(alias.as_str()))
        }
    }
}

/// Lets a user enter a room, or knock on it: here, if this server is in it, else through others. Answers whether they
/// were not what they wanted to be already.
pub(super) async fn enter(
    state: &State,
    session: &Session,
    door: &Door,
    change: MembershipChange,
    reason: Option<String>,
    extra: Option<JsonObject>,
) -> Result<bool, ApiError> {
    let user = &session.user_id;
    let takes_part = state.rooms.takes_part(&state.records.view(), &door.room_id)?;
    let knocks = change == MembershipChange::Knock;
    if takes_part {
        let (reason, extra) = (reason.clone(), extra.clone());
        match state.rooms.change_membership(&door.room_id, user, change, reason, extra).await {
            // Another server may know that they are in a room that lets them in, or have somebody who may let them in.
            Err(RoomError::Forbidden(_)) if !knocks && is_restricted(state, &door.room_id)? => {}
            outcome => return Ok(outcome?.is_some()),
        }
    } else if !knows_or_may_know(state, door, user)? {
        return Err(unreachable_room(door.room_id.as_str()));
    }
    let joining = Joining { room_id: &door.room_id, user, via: &door.via, reason, extra };
    let entered = if knocks { state.federation.knock(joining).await } else { state.federation.join(joining).await };
    match entered {
        Ok(_) => Ok(true),
        Err(FederationError::NobodyToAsk) if takes_part => Err(ApiError::forbidden("the room does not let you in")),
        Err(FederationError::NobodyToAsk | FederationError::Peer(PeerError::Unreachable(_))) => {
            Err(unreachable_room(door.room_id.as_str()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether there is anybody who could be asked about a room.
fn knows_or_may_know(state: &State, door: &Door, user: &UserId) -> Result<bool, ApiError> {
    let others = door.via.iter().any(|server| state.federation.is_remote(server));
    Ok(others || !state.federation.servers_of(&door.room_id, user)?.is_empty())
}

fn is_restricted(state: &State, room_id: &RoomId) -> Result<bool, ApiError> {
    let view = state.records.view();
    let Some(reader) = state.rooms.reader_by_id(&view, room_id)? else { return Ok(false) };
    let join_rules = reader.state_event(reader.state(), "m.room.join_rules", "")?;
    Ok(join_rules.is_some_and(|event| rules::auth::rooms_that_admit(reader.rules(), &event.pdu).is_some()))
}

/// Changes a membership in a room that this server is in, or not any more. `None` if it is so already.
pub(super) async fn change(
    state: &State,
    sender: &UserId,
    room_id: &RoomId,
    change: MembershipChange,
    reason: Option<String>,
    extra: Option<JsonObject>,
) -> Result<Option<OwnedEventId>, ApiError> {
    change_once(state, sender, room_id, change, reason, extra, None).await
}

/// As [`change`]. Where this server alone decides, a request with the same transaction id answers the same event.
pub(super) async fn change_once(
    state: &State,
    sender: &UserId,
    room_id: &RoomId,
    change: MembershipChange,
    reason: Option<String>,
    extra: Option<JsonObject>,
    txn: Option<Txn>,
) -> Result<Option<OwnedEventId>, ApiError> {
    match &change {
        MembershipChange::Invite { user } if state.federation.is_remote(user.server_name()) => {
            let invited = state.federation.invite(room_id, sender, user, reason, extra).await;
            invited.map_err(as_outsider)
        }
        MembershipChange::Leave if is_outside(state, room_id, sender)? => {
            state.federation.leave(room_id, sender, reason).await.map_err(as_outsider)?;
            Ok(None)
        }
        _ => {
            let changed = state.rooms.change_membership_once(room_id, sender, change, reason, extra, txn).await;
            changed.map_err(super::error::as_outsider)
        }
    }
}

fn as_outsider(error: FederationError) -> ApiError {
    match error {
        FederationError::Room(error) => super::error::as_outsider(error),
        error => error.into(),
    }
}

/// Whether a user has an invitation to a room, or knocks on it, that only other servers are in.
fn is_outside(state: &State, room_id: &RoomId, user: &UserId) -> Result<bool, ApiError> {
    let view = state.records.view();
    if state.rooms.takes_part(&view, room_id)? {
        return Ok(false);
    }
    let Some(num) = view.room_num(room_id)? else { return Ok(false) };
    let membership = view.membership(user, num)?.map(|(_, record)| record.membership);
    Ok(matches!(membership, Some(records::Membership::Invite | records::Membership::Knock)))
}
