//! State: `PUT` and `GET /rooms/{roomId}/state/{eventType}/{stateKey}`, `GET /rooms/{roomId}/state`.
//!
//! With an empty state key, the path ends after the type, with a slash or without.

use super::access::Access;
use super::delayed::{delay_in_query, schedule};
use super::error::{as_outsider, not_in_room};
use super::federation;
use super::follow::follow;
use super::membership::check_may_decline;
use super::send::check_type;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Args, Body, Reply};
use crate::{ApiError, State};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Within};
use axum::response::{IntoResponse as _, Response as Answer};
use base::limits::ID_BYTES_MAX;
use http::Uri;
use records::Membership;
use rooms::{Draft, MembershipChange, RoomReader, Txn};
use ruma::api::client::state::send_state_event::v3::Response;
use ruma::events::StateEventType;
use ruma::events::room::power_levels::UserPowerLevel;
use ruma::serde::JsonObject;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, UserId};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How a state event is answered.
#[derive(Deserialize)]
pub(super) struct Form {
    format: Option<String>,
}

/// `PUT …/state/{eventType}/{stateKey}`
pub(super) async fn put(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, kind, state_key)): Args<(OwnedRoomId, String, String)>,
    uri: Uri,
    Body(content): Body<Box<RawValue>>,
) -> Result<Answer, ApiError> {
    set(&state, &session, &room_id, &uri, kind, state_key, content).await
}

/// `PUT …/state/{eventType}` and `PUT …/state/{eventType}/`
pub(super) async fn put_without_key(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, kind)): Args<(OwnedRoomId, String)>,
    uri: Uri,
    Body(content): Body<Box<RawValue>>,
) -> Result<Answer, ApiError> {
    set(&state, &session, &room_id, &uri, kind, String::new(), content).await
}

/// `GET …/state/{eventType}/{stateKey}`
pub(super) async fn get(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, kind, state_key)): Args<(OwnedRoomId, String, String)>,
    form: Result<Query<Form>, QueryRejection>,
) -> Result<Json<Box<RawValue>>, ApiError> {
    look_up(&state, &session, &room_id, &kind, &state_key, form)
}

/// `GET …/state/{eventType}` and `GET …/state/{eventType}/`
pub(super) async fn get_without_key(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, kind)): Args<(OwnedRoomId, String)>,
    form: Result<Query<Form>, QueryRejection>,
) -> Result<Json<Box<RawValue>>, ApiError> {
    look_up(&state, &session, &room_id, &kind, "", form)
}

/// `GET …/state`: all of it, as it is or as it was when the user left.
pub(super) async fn all(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id,)): Args<(OwnedRoomId,)>,
) -> Result<Json<Vec<Box<RawValue>>>, ApiError> {
    let access = Access::of(&state, &session, &room_id)?;
    let events = access.reader.state_events(access.room_state())?;
    Ok(Json(access.client_state(&events)?))
}

fn look_up(
    state: &State,
    session: &Session,
    room_id: &RoomId,
    kind: &str,
    state_key: &str,
    form: Result<Query<Form>, QueryRejection>,
) -> Result<Json<Box<RawValue>>, ApiError> {
    let Query(form) = form.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let access = Access::of(state, session, room_id)?;
    let event = access.reader.state_event(access.room_state(), kind, state_key)?;
    let event = event.ok_or_else(|| ApiError::not_found("the room has no such state"))?;
    match form.format.as_deref() {
        None | Some("content") => Ok(Json(access.content(&event)?)),
        Some("event") => {
            let mut events = access.client_state(&[event])?;
            events.pop().map(Json).ok_or_else(|| ApiError::not_found("the room has no such state"))
        }
        Some(other) => Err(ApiError::invalid_param(format!("there is no format `{other}`"))),
    }
}

async fn set(
    state: &State,
    session: &Session,
    room_id: &RoomId,
    uri: &Uri,
    kind: String,
    state_key: String,
    content: Box<RawValue>,
) -> Result<Answer, ApiError> {
    // Memberships of their own stay theirs.
    if (kind != "m.room.member" || state_key != session.user_id.as_str())
        && let Some(event_id) = state.event_for_nobody(session)
    {
        return Ok(Reply(Response::new(event_id)).into_response());
    }
    if let Some(delay) = delay_in_query(uri)? {
        let scheduled = schedule(state, session, room_id, (kind, Some(state_key)), &content, delay, None).await;
        return Ok(scheduled?.into_response());
    }
    state.limit(class(&kind, content.get()), session)?;
    let event_id = apply(state, &session.user_id, room_id, (kind, state_key), content, None).await?;
    Ok(Reply(Response::new(event_id)).into_response())
}

/// Sets state, as a user of this server asks.
pub(super) async fn apply(
    state: &State,
    user: &UserId,
    room_id: &RoomId,
    (kind, state_key): (String, String),
    content: Box<RawValue>,
    txn: Option<Txn>,
) -> Result<OwnedEventId, ApiError> {
    check_type(&kind)?;
    if state_key.len() > ID_BYTES_MAX {
        return Err(ApiError::too_large(format!("a state key has at most {ID_BYTES_MAX} bytes")));
    }
    match (kind.as_str(), state_key.as_str()) {
        ("m.room.member", _) => return set_member(state, user, room_id, &state_key, object(&content)?, txn).await,
        ("m.room.canonical_alias", "") => check_aliases(state, room_id, &object(&content)?)?,
        ("m.room.power_levels", "") => {
            let levels = object(&content)?;
            rooms::check_levels(&levels)?;
            check_no_creator(state, user, room_id, &levels)?;
        }
        _ => {}
    }
    let draft = Draft::state(user.to_owned(), kind, state_key, content);
    state.rooms.send(room_id, draft, txn).await.map_err(as_outsider)
}

/// Creators who are above all levels can't be given one (room version 12). The authorization rules forbid it too;
/// to who may set levels it is said that the request is wrong, not that they may not make it.
fn check_no_creator(state: &State, setter: &UserId, room_id: &RoomId, levels: &JsonObject) -> Result<(), ApiError> {
    let view = state.records.view();
    let Some(reader) = state.rooms.reader_by_id(&view, room_id)? else { return Ok(()) };
    let power = reader.power_levels()?;
    if !reader.is_joined(setter)? || !power.can_send_state(setter, &StateEventType::RoomPowerLevels) {
        return Ok(());
    }
    let users = levels.get("users").and_then(Value::as_object).into_iter().flatten();
    let mut users = users.filter_map(|(user, _)| <&UserId>::try_from(user.as_str()).ok());
    match users.find(|user| power.user(user) == UserPowerLevel::Infinite) {
        Some(creator) => Err(ApiError::bad_json(format!("{creator} created the room and has no level"))),
        None => Ok(()),
    }
}

/// Invitations, joins and knocks count as such, whichever endpoint they come by.
pub(super) fn class(kind: &str, content: &str) -> Class {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow)]
        membership: Cow<'a, str>,
    }

    if kind != "m.room.member" {
        return Class::Message;
    }
    match serde_json::from_str::<Content<'_>>(content).as_ref().map(|content| &*content.membership) {
        Ok("invite") => Class::Invite,
        Ok("join" | "knock") => Class::Join,
        _ => Class::Message,
    }
}

fn object(content: &RawValue) -> Result<JsonObject, ApiError> {
    serde_json::from_str(content.get()).map_err(|error| ApiError::bad_json(error.to_string()))
}

/// A membership that is set as state changes as one that is asked for by its name.
async fn set_member(
    state: &State,
    setter: &UserId,
    room_id: &RoomId,
    state_key: &str,
    content: JsonObject,
    txn: Option<Txn>,
) -> Result<OwnedEventId, ApiError> {
    let user = OwnedUserId::try_from(state_key)
        .map_err(|_| ApiError::invalid_param("the state key of a membership is a user id"))?;
    let membership = content.get("membership").and_then(Value::as_str).unwrap_or_default();
    let is_self = user == setter;
    let view = state.records.view();
    let change = match membership {
        "join" if is_self => MembershipChange::Join,
        "knock" if is_self => MembershipChange::Knock,
        "join" | "knock" => return Err(ApiError::forbidden("only users themselves can join or knock")),
        "invite" => MembershipChange::Invite { user: user.clone() },
        "leave" if is_self => {
            check_may_decline(state, setter, room_id)?;
            MembershipChange::Leave
        }
        "leave" if current(state, &view, room_id, &user)? == Some(Membership::Ban) => {
            MembershipChange::Unban { user: user.clone() }
        }
        "leave" => MembershipChange::Kick { user: user.clone() },
        "ban" => MembershipChange::Ban { user: user.clone() },
        other => return Err(ApiError::bad_json(format!("there is no membership `{other}`"))),
    };
    let enters = change == MembershipChange::Join;
    drop(view);
    let changed = federation::change_once(state, setter, room_id, change, None, Some(content), txn).await?;
    if let Some(event_id) = changed {
        if enters {
            follow(state, &user, room_id).await;
        }
        return Ok(event_id);
    }
    let view = state.records.view();
    let reader = state.rooms.reader_by_id(&view, room_id)?.ok_or_else(not_in_room)?;
    let event = reader.state_event(reader.state(), "m.room.member", user.as_str())?;
    event.map(|event| event.pdu.event_id().clone()).ok_or_else(|| ApiError::not_found("there is no such member"))
}

fn current(
    state: &State,
    view: &records::View,
    room_id: &RoomId,
    user: &UserId,
) -> Result<Option<Membership>, ApiError> {
    let reader = state.rooms.reader_by_id(view, room_id)?;
    let membership = reader.map(|reader| reader.membership(user)).transpose()?.flatten();
    Ok(membership.map(|(_, record)| record.membership))
}

/// The aliases that an `m.room.canonical_alias` adds must be aliases, and of this room (client-server API,
/// `PUT …/state`). Those that it had already may be what they like.
fn check_aliases(state: &State, room_id: &RoomId, content: &JsonObject) -> Result<(), ApiError> {
    let view = state.records.view();
    let reader = state.rooms.reader_by_id(&view, room_id)?.ok_or_else(not_in_room)?;
    let new = aliases(content).map_err(ApiError::invalid_param)?;
    let old = old_aliases(&reader)?;
    for text in new.difference(&old) {
        let alias = <&RoomAliasId>::try_from(text.as_str());
        let alias = alias.map_err(|_| ApiError::invalid_param(format!("`{text}` is not an alias")))?;
        let record = state.rooms.resolve_alias(&view, alias)?;
        if record.is_none_or(|record| record.room_id != room_id) {
            return Err(ApiError::bad_alias(format!("{alias} does not lead to this room")));
        }
    }
    Ok(())
}

fn old_aliases(reader: &RoomReader) -> Result<BTreeSet<String>, ApiError> {
    let event = reader.state_event(reader.state(), "m.room.canonical_alias", "")?;
    let content = event.and_then(|event| serde_json::from_str(event.pdu.content().get()).ok());
    Ok(content.and_then(|content| aliases(&content).ok()).unwrap_or_default())
}

/// The aliases in an `m.room.canonical_alias`.
fn aliases(content: &JsonObject) -> Result<BTreeSet<String>, String> {
    let mut aliases = BTreeSet::new();
    match content.get("alias") {
        None | Some(Value::Null) => {}
        Some(Value::String(alias)) if alias.is_empty() => {}
        Some(Value::String(alias)) => {
            aliases.insert(alias.clone());
        }
        Some(_) => return Err("`alias` must be an alias".to_owned()),
    }
    let others = match content.get("alt_aliases") {
        None | Some(Value::Null) => return Ok(aliases),
        Some(Value::Array(others)) => others,
        Some(_) => return Err("`alt_aliases` must be a list of aliases".to_owned()),
    };
    for other in others {
        aliases.insert(other.as_str().ok_or("`alt_aliases` must be a list of aliases")?.to_owned());
    }
    Ok(aliases)
}
