//! Whether a room allows an event (the authorization rules of its room version), and which events a new one
//! names as allowing it.
//!
//! The rules themselves are the library's. What it leaves to its users is here: the version that a creation
//! names, the creation's event that version 12 implies, the choice of an authorising user.

use crate::pdu::{Pdu, create_event_id};
use crate::power::PowerLevels;
use ruma::events::{StateEventType, TimelineEventType};
use ruma::room_version_rules::RoomVersionRules;
use ruma::state_res::{auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules};
use ruma::{EventId, OwnedRoomId, RoomId, RoomVersionId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;

/// What tells one entry of a room's state from another: type and state key.
pub type StateKey = (StateEventType, String);

/// The room does not allow the event. The reason is for people to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Forbidden(pub String);

impl From<String> for Forbidden {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

/// The entries of the state that an event is judged by: those of them that exist are its `auth_events`
/// (server-server API, "Auth events selection").
///
/// # Errors
///
/// [`Forbidden`] if the content of a membership cannot be read.
pub fn auth_events_for(
    rules: &RoomVersionRules,
    kind: &TimelineEventType,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawValue,
) -> Result<Vec<StateKey>, Forbidden> {
    Ok(auth_types_for_event(kind, sender, state_key, content, &rules.authorization)?)
}

/// The entries of the state that must be at hand to judge an event: as [`auth_events_for`], and the room's
/// creation, which events from room version 12 on do not name.
///
/// # Errors
///
/// As [`auth_events_for`].
pub fn state_needed(
    rules: &RoomVersionRules,
    kind: &TimelineEventType,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawValue,
) -> Result<Vec<StateKey>, Forbidden> {
    let mut keys = auth_events_for(rules, kind, sender, state_key, content)?;
    let create = (StateEventType::RoomCreate, String::new());
    if *kind != TimelineEventType::RoomCreate && !keys.contains(&create) {
        keys.push(create);
    }
    Ok(keys)
}

/// The rules that do not depend on the state of the room: those of its creation, and of the `auth_events` that
/// the event names. `fetch` knows them and, from room version 12 on, the room's creation. Once an event.
///
/// # Errors
///
/// [`Forbidden`]: the event is to be rejected.
pub fn authorize_alone(
    rules: &RoomVersionRules,
    pdu: &Pdu,
    fetch: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<(), Forbidden> {
    if *pdu.kind() == TimelineEventType::RoomCreate {
        check_create(pdu)?;
    }
    Ok(check_state_independent_auth_rules(&rules.authorization, pdu, fetch)?)
}

/// The rules that depend on the state of the room, as `state` has it. An event is judged by the state that its
/// `auth_events` make, by the state before it, and, if it comes from another server, by the room's state now
/// (server-server API, "Checks performed on receipt of a PDU").
///
/// # Errors
///
/// [`Forbidden`]: the event is to be rejected; in the last of the three cases, soft-failed.
pub fn authorize_with_state(
    rules: &RoomVersionRules,
    pdu: &Pdu,
    state: impl Fn(&StateEventType, &str) -> Option<Arc<Pdu>>,
) -> Result<(), Forbidden> {
    Ok(check_state_dependent_auth_rules(&rules.authorization, pdu, state)?)
}

/// Judges an event by the `auth_events` that it names: [`authorize_alone`], then [`authorize_with_state`] in
/// the state that they make.
///
/// # Errors
///
/// [`Forbidden`]: the event is to be rejected.
pub fn authorize_with_auth_events(
    rules: &RoomVersionRules,
    pdu: &Pdu,
    fetch: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<(), Forbidden> {
    authorize_alone(rules, pdu, &fetch)?;
    let implied = create_event_id(pdu.room_id(), rules);
    let events = pdu.auth_events().iter().map(Borrow::borrow).chain(implied.as_deref()).filter_map(&fetch);
    let state: HashMap<StateKey, Arc<Pdu>> = events
        .filter_map(|event| {
            let key = (StateEventType::from(event.kind_str()), event.state_key()?.to_owned());
            Some((key, event))
        })
        .collect();
    authorize_with_state(rules, pdu, |kind, key| state.get(&(kind.clone(), key.to_owned())).cloned())
}

/// The version that a room's creation names must be one that this server knows.
fn check_create(pdu: &Pdu) -> Result<(), Forbidden> {
    if pdu.state_key() != Some("") {
        return Err(Forbidden("the creation of a room must have an empty state key".to_owned()));
    }
    room_version_of(pdu).map(|_| ())
}

/// The version of the room that `create` creates; 1 if it names none.
///
/// # Errors
///
/// [`Forbidden`] if it names one that this server does not support.
pub fn room_version_of(create: &Pdu) -> Result<RoomVersionId, Forbidden> {
    #[derive(Deserialize)]
    struct Content {
        room_version: Option<RoomVersionId>,
    }

    let content: Content = serde_json::from_str(create.content().get())
        .map_err(|error| Forbidden(format!("the creation of a room cannot be read: {error}")))?;
    let version = content.room_version.unwrap_or(RoomVersionId::V1);
    if crate::room_rules(&version).is_none() {
        return Err(Forbidden(format!("room version {version} is not supported")));
    }
    Ok(version)
}

/// The rooms whose members may join a room with these join rules, if they are `restricted` or
/// `knock_restricted` (client-server API, "Restricted rooms"). Conditions of other kinds are passed over.
/// Nothing if membership elsewhere opens no door here.
#[must_use]
pub fn rooms_that_admit(rules: &RoomVersionRules, join_rules: &Pdu) -> Option<Vec<OwnedRoomId>> {
    #[derive(Deserialize)]
    struct Content {
        join_rule: String,
        #[serde(default)]
        allow: Vec<serde_json::Value>,
    }

    let content: Content = serde_json::from_str(join_rules.content().get()).ok()?;
    let restricted = match content.join_rule.as_str() {
        "restricted" => rules.authorization.restricted_join_rule,
        "knock_restricted" => rules.authorization.knock_restricted_join_rule,
        _ => false,
    };
    let room = |condition: &serde_json::Value| {
        let kind = condition.get("type")?.as_str()?;
        let room_id = condition.get("room_id")?.as_str().filter(|_| kind == "m.room_membership")?;
        <&RoomId>::try_from(room_id).ok().map(ToOwned::to_owned)
    };
    restricted.then(|| content.allow.iter().filter_map(room).collect())
}

/// A user who can let someone into a restricted room: the first of `joined`, this server's members of the
/// room, who may invite. Their server's signature is what the join then carries. Nothing if there is none:
/// another server has to be asked.
pub fn authorising_user<'a>(power: &PowerLevels, joined: impl IntoIterator<Item = &'a UserId>) -> Option<&'a UserId> {
    joined.into_iter().find(|user| power.can_invite(user))
}

#[cfg(test)]
mod tests;
