//! Aliases: `GET`, `PUT` and `DELETE /directory/room/{roomAlias}`, `GET /rooms/{roomId}/aliases`.

use super::access::{Access, Standing};
use super::error::not_in_room;
use super::federation::unreachable_room;
use crate::limits::Class;
use crate::session::{ClientAddress, Session};
use crate::wire::{Reply, Wire};
use crate::{ApiError, State};
use axum::extract::State as Within;
use federation::{FederationError, PeerError};
use http::StatusCode;
use records::Membership;
use rooms::{Draft, RoomError, RoomReader};
use ruma::api::client::alias::{create_alias, delete_alias, get_alias};
use ruma::api::client::room::aliases;
use ruma::events::StateEventType;
use ruma::serde::JsonObject;
use ruma::{OwnedServerName, RoomAliasId, RoomId, UserId};
use serde_json::Value;
use serde_json::value::to_raw_value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many members are looked at to name servers that know the room.
const MEMBERS_SEEN_MAX: usize = 1000;
/// How many servers that know a room are named.
const SERVERS_MAX: usize = 50;

/// `GET /directory/room/{roomAlias}`
pub(super) async fn get(
    Within(state): Within<Arc<State>>,
    address: ClientAddress,
    Wire(request): Wire<get_alias::v3::Request>,
) -> Result<Reply<get_alias::v3::Response>, ApiError> {
    state.limits.address(Class::Other, address)?;
    let alias = &request.room_alias;
    let local = state.rooms.resolve_alias(&state.records.view(), alias)?;
    let Some(record) = local else {
        if !state.federation.is_remote(alias.server_name()) {
            return Err(unreachable_room(alias.as_str()));
        }
        let resolved = match state.federation.resolve_alias(alias).await {
            Ok(Some(resolved)) => resolved,
            Ok(None) | Err(FederationError::Peer(PeerError::Unreachable(_))) => {
                return Err(unreachable_room(alias.as_str()));
            }
            Err(error) => return Err(error.into()),
        };
        return Ok(Reply(get_alias::v3::Response::new(resolved.room_id, resolved.servers)));
    };
    let view = state.records.view();
    let servers = match state.rooms.reader_by_id(&view, &record.room_id)? {
        Some(reader) => servers(&state, &reader)?,
        None => vec![state.server_name.clone()],
    };
    Ok(Reply(get_alias::v3::Response::new(record.room_id, servers)))
}

/// `PUT /directory/room/{roomAlias}`: for members of the room.
pub(super) async fn put(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<create_alias::v3::Request>,
) -> Result<Reply<create_alias::v3::Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    check_own(&state, &request.room_alias)?;
    let view = state.records.view();
    let Some(reader) = state.rooms.reader_by_id(&view, &request.room_id)? else {
        return Err(ApiError::not_found("the room is not known here"));
    };
    if !reader.is_joined(&session.user_id)? {
        return Err(not_in_room());
    }
    drop((reader, view));
    match state.rooms.put_alias(&request.room_alias, &request.room_id, &session.user_id).await {
        Ok(()) => Ok(Reply(create_alias::v3::Response::new())),
        Err(error @ RoomError::AliasTaken) => Err(ApiError::new(StatusCode::CONFLICT, "M_UNKNOWN", error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// `DELETE /directory/room/{roomAlias}`: for whoever made it, and for those who choose the room's main alias.
/// The room stops naming it, if the user may have it so.
pub(super) async fn delete(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<delete_alias::v3::Request>,
) -> Result<Reply<delete_alias::v3::Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    let alias = &request.room_alias;
    let view = state.records.view();
    let record = state.rooms.resolve_alias(&view, alias)?;
    let record = record.ok_or_else(|| ApiError::not_found(format!("{alias} is not known here")))?;
    let reader = state.rooms.reader_by_id(&view, &record.room_id)?;
    let chooses = reader.as_ref().map(|reader| chooses_alias(reader, &session.user_id)).transpose()?.unwrap_or(false);
    if !chooses && record.creator != session.user_id {
        return Err(ApiError::forbidden("neither did you make the alias, nor may you choose the room's"));
    }
    let without = match &reader {
        Some(reader) if chooses => canonical_alias_without(reader, alias)?,
        _ => None,
    };
    drop((reader, view));
    state.rooms.delete_alias(alias).await?;
    if let Some(content) = without {
        forget_canonical(&state, &record.room_id, &session.user_id, &content).await?;
    }
    Ok(Reply(delete_alias::v3::Response::new()))
}

/// `GET /rooms/{roomId}/aliases`: for members, and for everybody if the world may read the room.
pub(super) async fn of_room(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<aliases::v3::Request>,
) -> Result<Reply<aliases::v3::Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    let access = Access::of(&state, &session, &request.room_id)?;
    if access.standing != Standing::Joined && !access.reader.is_world_readable()? {
        return Err(not_in_room());
    }
    let aliases = access.reader.view().room_aliases(access.reader.num())?;
    Ok(Reply(aliases::v3::Response::new(aliases)))
}

/// This server makes its own aliases only, and only such as the grammar allows.
fn check_own(state: &State, alias: &RoomAliasId) -> Result<(), ApiError> {
    if alias.server_name() != state.server_name {
        return Err(ApiError::invalid_param(format!("{alias} is another server's to make")));
    }
    rules::id::new_room_alias(alias.alias(), &state.server_name)
        .map(drop)
        .map_err(|error| ApiError::invalid_param(format!("the alias is not valid: {error}")))
}

/// Whether a user is in the room and may choose its main alias. Such users also decide whether it is listed.
pub(super) fn chooses_alias(reader: &RoomReader, user: &UserId) -> Result<bool, ApiError> {
    let joined = reader.is_joined(user)?;
    Ok(joined && reader.power_levels()?.can_send_state(user, &StateEventType::RoomCanonicalAlias))
}

fn servers(state: &State, reader: &RoomReader) -> Result<Vec<OwnedServerName>, ApiError> {
    let members = reader.view().room_members(reader.num(), Membership::Join, None, MEMBERS_SEEN_MAX)?;
    let others: BTreeSet<_> = members.iter().map(|(user, _)| user.server_name()).collect();
    let others = others.into_iter().filter(|server| *server != state.server_name).map(ToOwned::to_owned);
    Ok(std::iter::once(state.server_name.clone()).chain(others).take(SERVERS_MAX).collect())
}

/// The room's `m.room.canonical_alias` without an alias; nothing if it does not name it.
fn canonical_alias_without(reader: &RoomReader, alias: &RoomAliasId) -> Result<Option<JsonObject>, ApiError> {
    let Some(event) = reader.state_event(reader.state(), "m.room.canonical_alias", "")? else { return Ok(None) };
    let Ok(old) = serde_json::from_str::<JsonObject>(event.pdu.content().get()) else { return Ok(None) };
    let is_alias = |value: &Value| value.as_str() == Some(alias.as_str());
    let mut new = old.clone();
    if new.get("alias").is_some_and(is_alias) {
        new.remove("alias");
    }
    if let Some(Value::Array(others)) = new.get_mut("alt_aliases") {
        others.retain(|other| !is_alias(other));
    }
    Ok((new != old).then_some(new))
}

/// The alias is gone whether or not the room allows to say so.
async fn forget_canonical(
    state: &State,
    room_id: &RoomId,
    user: &UserId,
    content: &JsonObject,
) -> Result<(), ApiError> {
    let content = to_raw_value(content).map_err(|error| ApiError::internal(&error))?;
    let draft = Draft::state(user.to_owned(), "m.room.canonical_alias", "", content);
    match state.rooms.send(room_id, draft, None).await {
        Ok(_) | Err(RoomError::Forbidden(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
