//! What a server may know of a room: nothing unless one of its users has joined it, and of what was said there only
//! what they may read.

use crate::{Origin, State};
use base::EventNum;
use face::ApiError;
use records::state_map::StateRoot;
use records::{EventStatus, Membership, View};
use rooms::{RoomReader, StoredEvent};
use rules::server_acl::ServerAcl;
use rules::visibility::HistoryVisibility;
use ruma::{EventId, OwnedUserId, RoomId, ServerName, UserId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How many events are read at once.
pub(crate) const READ_AT_ONCE: usize = 500;
/// How many events an auth chain has that is told.
const AUTH_CHAIN_MAX: usize = 500_000;
/// How many members of a server are looked at to find one who may read an event.
const MEMBERS_MAX: usize = 1_000;
/// How many members of a room are read at once.
const MEMBERS_READ_AT_ONCE: usize = 1_000;

/// A room that this server is in, for a server that its access control list admits.
pub(crate) fn room(state: &State, view: &View, origin: &Origin, room_id: &RoomId) -> Result<RoomReader, ApiError> {
    let reader = state.rooms.reader_by_id(view, room_id)?;
    let is_here = state.rooms.takes_part(view, room_id)?;
    let reader = reader.filter(|_| is_here).ok_or_else(|| ApiError::not_found("this server is not in the room"))?;
    if !is_admitted(&reader, origin)? {
        return Err(ApiError::forbidden("the room does not admit the server"));
    }
    Ok(reader)
}

/// A room that both servers are in.
pub(crate) fn shared_room(
    state: &State,
    view: &View,
    origin: &Origin,
    room_id: &RoomId,
) -> Result<RoomReader, ApiError> {
    let reader = room(state, view, origin, room_id)?;
    if view.joined_of_server(reader.num(), origin)? == 0 {
        return Err(ApiError::forbidden("the server is not in the room"));
    }
    Ok(reader)
}

/// Whether the room's access control list admits a server.
pub(crate) fn is_admitted(reader: &RoomReader, server: &ServerName) -> Result<bool, ApiError> {
    let acl = reader.state_event(reader.state(), "m.room.server_acl", "")?;
    Ok(acl.is_none_or(|acl| ServerAcl::of_content(acl.pdu.content()).allows(server)))
}

/// An event of this room that is known, whatever the room made of it.
pub(crate) fn event(reader: &RoomReader, event_id: &EventId) -> Result<Arc<StoredEvent>, ApiError> {
    let not_found = || ApiError::not_found("the event is not known here");
    let view = reader.view();
    let num = view.event_num(event_id)?.ok_or_else(not_found)?;
    let (_, record) = view.event(num)?.ok_or_else(not_found)?;
    if record.room != reader.num() {
        return Err(not_found());
    }
    reader.event(num)?.ok_or_else(not_found)
}

/// An event of this room the state around which is known.
pub(crate) fn placed_event(reader: &RoomReader, event_id: &EventId) -> Result<Arc<StoredEvent>, ApiError> {
    let event = event(reader, event_id)?;
    if event.record.status == EventStatus::Outlier {
        return Err(ApiError::not_found("the state at the event is not known here"));
    }
    Ok(event)
}

/// The events that allow these, and those that allow those, and so on; these themselves are not among them, unless
/// they allow others of them.
pub(crate) fn auth_chain(
    reader: &RoomReader,
    events: impl IntoIterator<Item = EventNum>,
) -> Result<Vec<EventNum>, ApiError> {
    let view = reader.view();
    let mut next: Vec<EventNum> = events.into_iter().collect();
    let (mut read, mut found, mut chain) = (HashSet::new(), HashSet::new(), Vec::new());
    while !next.is_empty() && chain.len() < AUTH_CHAIN_MAX {
        next.retain(|num| read.insert(*num));
        let mut named = HashSet::new();
        for nums in next.chunks(READ_AT_ONCE) {
            for event in reader.events(nums)? {
                named.extend(event.pdu.auth_events().iter().cloned());
            }
        }
        next.clear();
        let named: Vec<_> = named.into_iter().collect();
        for num in view.event_nums(&named)?.into_iter().flatten() {
            if found.insert(num) {
                chain.push(num);
                next.push(num);
            }
        }
    }
    Ok(chain)
}

/// What the users of a server may read in a room.
pub(crate) struct Sight<'a> {
    reader: &'a RoomReader,
    server: &'a ServerName,
    /// The users of the server who have or had a part in the room, once they are asked for.
    users: Option<Vec<OwnedUserId>>,
    known: HashMap<StateRoot, bool>,
}

impl<'a> Sight<'a> {
    pub fn new(reader: &'a RoomReader, server: &'a ServerName) -> Self {
        Self { reader, server, users: None, known: HashMap::new() }
    }

    /// An event as the server may have it: all of it, or what a redaction leaves if none of its users may read it.
    /// So history has no holes that would make it ask again.
    pub fn json(&mut self, event: &StoredEvent) -> Result<String, ApiError> {
        if self.sees(event)? {
            return Ok(event.pdu.json().to_owned());
        }
        let redacted = rules::redaction::redact(&event.pdu, self.reader.rules());
        Ok(redacted.map_err(|error| ApiError::internal(&error))?.json().to_owned())
    }

    /// Whether a user of the server may read an event (client-server API, "Room history visibility").
    fn sees(&mut self, event: &StoredEvent) -> Result<bool, ApiError> {
        if event.pdu.sender().server_name() == self.server {
            return Ok(true);
        }
        if event.record.status == EventStatus::Outlier {
            // What allows other events is state, which whoever is in the room has.
            return Ok(event.pdu.state_key().is_some());
        }
        let (before, after) = (event.record.state_before, event.record.state_after);
        Ok(self.sees_at(after)? || (before != after && self.sees_at(before)?))
    }

    fn sees_at(&mut self, state: StateRoot) -> Result<bool, ApiError> {
        if let Some(known) = self.known.get(&state) {
            return Ok(*known);
        }
        let visibility = self.reader.state_event(state, "m.room.history_visibility", "")?;
        let sees = match HistoryVisibility::of_content(visibility.as_ref().map(|event| event.pdu.content())) {
            HistoryVisibility::WorldReadable | HistoryVisibility::Shared => true,
            HistoryVisibility::Invited => self.has_member(state, &["join", "invite"])?,
            HistoryVisibility::Joined => self.has_member(state, &["join"])?,
        };
        self.known.insert(state, sees);
        Ok(sees)
    }

    fn has_member(&mut self, state: StateRoot, memberships: &[&str]) -> Result<bool, ApiError> {
        if self.users.is_none() {
            self.users = Some(users_of(self.reader, self.server)?);
        }
        let users = self.users.as_deref().unwrap_or_default();
        let keys: Vec<(&str, &str)> = users.iter().map(|user| ("m.room.member", user.as_str())).collect();
        let nums: Vec<EventNum> = state.get_many(self.reader.view(), &keys)?.into_iter().flatten().collect();
        let members = self.reader.events(&nums)?;
        Ok(members.iter().any(|member| memberships.contains(&membership(&member.pdu).as_str())))
    }
}

/// What a membership event says; leaving if it says nothing.
pub(crate) fn membership(pdu: &rules::Pdu) -> String {
    #[derive(serde::Deserialize)]
    struct Content {
        membership: String,
    }
    let content: Option<Content> = serde_json::from_str(pdu.content().get()).ok();
    content.map_or_else(|| "leave".to_owned(), |content| content.membership)
}

/// The users of a server who have or had a part in a room: those who have joined first.
fn users_of(reader: &RoomReader, server: &ServerName) -> Result<Vec<OwnedUserId>, ApiError> {
    let mut users = Vec::new();
    let memberships = [Membership::Join, Membership::Invite, Membership::Leave, Membership::Ban, Membership::Knock];
    for membership in memberships {
        let mut after: Option<OwnedUserId> = None;
        loop {
            let view = reader.view();
            let page = view.room_members(reader.num(), membership, after.as_deref(), MEMBERS_READ_AT_ONCE)?;
            let is_last = page.len() < MEMBERS_READ_AT_ONCE;
            after = page.last().map(|(user, _)| user.clone());
            users.extend(page.into_iter().map(|(user, _)| user).filter(|user| user.server_name() == server));
            if is_last || users.len() >= MEMBERS_MAX {
                break;
            }
        }
    }
    users.truncate(MEMBERS_MAX);
    Ok(users)
}

/// A user of the server that asks.
pub(crate) fn own_user(origin: &Origin, user: &UserId) -> Result<(), ApiError> {
    if user.server_name() == &**origin {
        Ok(())
    } else {
        Err(ApiError::forbidden("the user is not of the server that asks"))
    }
}

/// Appends events, in a list of JSON.
pub(crate) fn push_events(out: &mut String, reader: &RoomReader, nums: &[EventNum]) -> Result<(), ApiError> {
    out.push('[');
    for nums in nums.chunks(READ_AT_ONCE) {
        for event in reader.events(nums)? {
            if !out.ends_with('[') {
                out.push(',');
            }
            out.push_str(event.pdu.json());
        }
    }
    out.push(']');
    Ok(())
}

/// The events of a state.
pub(crate) fn state_nums(reader: &RoomReader, state: StateRoot) -> Result<Vec<EventNum>, ApiError> {
    let entries = state.entries(reader.view()).map(|entry| entry.map(|entry| entry.event));
    Ok(entries.collect::<Result<_, records::RecordsError>>()?)
}
