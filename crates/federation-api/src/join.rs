//! `GET /make_join`, `PUT /send_join`: users of other servers enter (server-server API, "Joining Rooms").

use crate::access::{auth_chain, push_events, room, state_nums};
use crate::entering::take_in;
use crate::event::json_text;
use crate::state::turn;
use crate::templates::{template, versions};
use crate::{Origin, State};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State as Within;
use axum::response::Response;
use base::EventNum;
use face::ApiError;
use face::wire::{Args, query_param};
use http::{StatusCode, Uri};
use records::Membership;
use rooms::{MembershipChange, RoomReader, StoredEvent};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;

/// How many members stand for a room without a name (client-server API, `m.heroes`).
const HEROES_MAX: usize = 5;
/// How many servers of a room are read at once.
const SERVERS_READ_AT_ONCE: usize = 1_000;

/// What the joining server has to sign.
pub(crate) async fn make(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id, user)): Args<(OwnedRoomId, OwnedUserId)>,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    let versions = versions(uri.query());
    let made = template(&state, &origin, &room_id, &user, MembershipChange::Join, Some(&versions)).await;
    match made {
        Err(error) if error.status_code() == StatusCode::FORBIDDEN => {
            Err(restricted(&state, &origin, &room_id, &user)?.unwrap_or(error))
        }
        made => made.map(Json),
    }
}

/// Why a user can't enter a restricted room here, if another server might let them in: this one does not know the
/// rooms whose members may, or has nobody who could let them in.
fn restricted(state: &State, origin: &Origin, room_id: &RoomId, user: &UserId) -> Result<Option<ApiError>, ApiError> {
    let view = state.records.view();
    let reader = room(state, &view, origin, room_id)?;
    if reader.membership(user)?.is_some_and(|(_, record)| record.membership == Membership::Ban) {
        return Ok(None);
    }
    let Some(join_rules) = reader.state_event(reader.state(), "m.room.join_rules", "")? else { return Ok(None) };
    let Some(others) = rules::auth::rooms_that_admit(reader.rules(), &join_rules.pdu) else { return Ok(None) };
    let (mut known, mut admitted) = (false, false);
    for other in &others {
        if state.rooms.takes_part(&view, other)? {
            known = true;
            let reader = state.rooms.reader_by_id(&view, other)?;
            admitted |= reader.map(|reader| reader.is_joined(user)).transpose()?.unwrap_or_default();
        }
    }
    Ok(match (known, admitted) {
        (_, true) => Some(ApiError::unable_to_grant_join("nobody here may let the user in")),
        (false, false) if !others.is_empty() => {
            Some(ApiError::unable_to_authorise_join("none of the rooms whose members may enter is known here"))
        }
        _ => None,
    })
}

/// The second version: the state in an object.
pub(crate) async fn send(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id, event_id)): Args<(OwnedRoomId, OwnedEventId)>,
    uri: Uri,
    body: Bytes,
) -> Result<Response, ApiError> {
    let query = uri.query().unwrap_or_default();
    let param = |name| query_param(query, name).is_some_and(|value| value == "true");
    let omit_members = param("omit_members") || param("org.matrix.msc3706.partial_state");
    enter(&state, &origin, &room_id, &event_id, &body, omit_members).await.map(json_text)
}

/// The first version, of old servers: a pair of a status and that object.
pub(crate) async fn send_v1(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id, event_id)): Args<(OwnedRoomId, OwnedEventId)>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let object = enter(&state, &origin, &room_id, &event_id, &body, false).await?;
    Ok(json_text(format!("[200,{object}]")))
}

async fn enter(
    state: &State,
    origin: &Origin,
    room_id: &RoomId,
    event_id: &OwnedEventId,
    body: &Bytes,
    omit_members: bool,
) -> Result<String, ApiError> {
    let (reader, event) = take_in(state, origin, room_id, event_id, body, "join").await?;
    let _turn = turn(state).await?;
    let mut nums = state_nums(&reader, event.record.state_before)?;
    let has_name = ["m.room.name", "m.room.canonical_alias"].into_iter().any(|kind| {
        let named = reader.state_event(event.record.state_before, kind, "");
        named.is_ok_and(|event| event.is_some())
    });
    if omit_members {
        let heroes = if has_name { HashSet::new() } else { heroes(&reader, &event)? };
        let members: HashSet<EventNum> = event
            .record
            .state_before
            .entries_of(reader.view(), "m.room.member", None)
            .map(|entry| entry.map(|entry| entry.event))
            .collect::<Result<_, records::RecordsError>>()?;
        nums.retain(|num| !members.contains(num) || heroes.contains(num));
    }
    let mut chain = auth_chain(&reader, nums.iter().copied().chain([event.num]))?;
    if omit_members {
        let told: HashSet<EventNum> = nums.iter().copied().collect();
        chain.retain(|num| !told.contains(num));
    }
    let text = |value: &dyn std::fmt::Display| Value::from(value.to_string()).to_string();
    let mut body = format!("{{\"origin\":{},\"members_omitted\":{omit_members},\"state\":", text(&state.server_name));
    push_events(&mut body, &reader, &nums)?;
    body.push_str(",\"auth_chain\":");
    push_events(&mut body, &reader, &chain)?;
    body.push_str(",\"event\":");
    body.push_str(event.pdu.json());
    if omit_members {
        let servers = servers_before(&reader, &event)?;
        let servers = Value::from(servers.iter().map(ToString::to_string).collect::<Vec<_>>());
        body.push_str(",\"servers_in_room\":");
        body.push_str(&servers.to_string());
    }
    body.push('}');
    Ok(body)
}

/// The memberships of a few who stand for the room.
fn heroes(reader: &RoomReader, join: &StoredEvent) -> Result<HashSet<EventNum>, ApiError> {
    let view = reader.view();
    let mut members = view.room_members(reader.num(), Membership::Join, None, HEROES_MAX + 1)?;
    members.extend(view.room_members(reader.num(), Membership::Invite, None, HEROES_MAX)?);
    let users = members.into_iter().map(|(user, _)| user).filter(|user| user != join.pdu.sender());
    let users: Vec<OwnedUserId> = users.take(HEROES_MAX).collect();
    let keys: Vec<(&str, &str)> = users.iter().map(|user| ("m.room.member", user.as_str())).collect();
    Ok(join.record.state_before.get_many(view, &keys)?.into_iter().flatten().collect())
}

/// The servers that were in the room before the join.
fn servers_before(reader: &RoomReader, join: &StoredEvent) -> Result<Vec<OwnedServerName>, ApiError> {
    let joining: &ServerName = join.pdu.sender().server_name();
    let view = reader.view();
    let mut servers: Vec<OwnedServerName> = Vec::new();
    loop {
        let after = servers.last().cloned();
        let page = view.room_servers(reader.num(), after.as_deref(), SERVERS_READ_AT_ONCE)?;
        let is_last = page.len() < SERVERS_READ_AT_ONCE;
        servers.extend(page.into_iter().map(|(server, _)| server));
        if is_last {
            break;
        }
    }
    // It is there only by the user who has just come, unless another of its users was before.
    if view.joined_of_server(reader.num(), joining)? <= 1 {
        servers.retain(|server| server != joining);
    }
    Ok(servers)
}
