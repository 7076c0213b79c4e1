//! What lists look at: where each of a user's rooms stands in their order, and what filters want to know of it.

use super::SlidingForm;
use super::left::departure;
use crate::assemble::Context;
use crate::{Inner, SyncError};
use base::{RoomNum, Stamp};
use records::state_map::StateRoot;
use records::{Membership, MembershipRecord, View};
use ruma::{OwnedRoomId, UserId};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use sync_core::sliding::{ListFilter, RoomFacts};

/// The rooms of a user at one view.
pub struct Catalog<'a> {
    pub context: &'a Context<'a>,
    pub inner: &'a Inner,
    pub view: &'a View,
    pub user: &'a UserId,
    /// The user's direct chats.
    pub direct: &'a HashSet<RoomNum>,
}

/// What a room is by its state, as far as filters care.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kind {
    room_type: Option<String>,
    is_encrypted: bool,
}

impl Catalog<'_> {
    /// Where a room stands in the order of the user's rooms; none if it is in none of their lists (MSC4186,
    /// "Lists"). Rooms that they left themselves are there only for a connection that was told of them.
    pub fn place(
        &self,
        room: RoomNum,
        at: Stamp,
        record: &MembershipRecord,
        is_told: bool,
    ) -> Result<Option<Stamp>, SyncError> {
        if record.membership == Membership::Join {
            return Ok(self.view.last_activity(&[room])?.pop());
        }
        self.place_outside(room, at, record, is_told)
    }

    /// Where a room stands that the user is not in.
    pub fn place_outside(
        &self,
        room: RoomNum,
        at: Stamp,
        record: &MembershipRecord,
        is_told: bool,
    ) -> Result<Option<Stamp>, SyncError> {
        let is_by_other = record.sender != self.user;
        let is_there = match record.membership {
            Membership::Join => false,
            Membership::Invite | Membership::Knock => !self.context.hides(record),
            Membership::Leave => is_told || (is_by_other && !record.forgotten && self.was_member(room, record)?),
            Membership::Ban => is_told || (!record.forgotten && self.was_member(room, record)?),
        };
        // What happens in a room after the user has left does not move it.
        Ok(is_there.then_some(at))
    }

    fn was_member(&self, room: RoomNum, record: &MembershipRecord) -> Result<bool, SyncError> {
        if record.previous == Some(Membership::Join) {
            return Ok(true);
        }
        let Some(reader) = self.inner.rooms.reader(self.view, room)? else { return Ok(false) };
        Ok(departure(&reader, self.user)?.is_some())
    }

    /// What a filter wants to know of a room. `children` are the rooms that the filter's spaces name.
    pub fn facts(
        &self,
        filter: &ListFilter,
        children: &HashSet<OwnedRoomId>,
        room: RoomNum,
        record: &MembershipRecord,
    ) -> Result<RoomFacts, SyncError> {
        let mut facts = RoomFacts {
            is_dm: self.direct.contains(&room),
            is_invited: record.membership == Membership::Invite,
            ..RoomFacts::default()
        };
        if filter.looks_at_state() {
            let kind = self.kind(room, record)?;
            facts.is_encrypted = kind.is_encrypted;
            facts.room_type = kind.room_type;
        }
        if (filter.looks_at_tags() || filter.spaces.is_some())
            && let Some(head) = self.view.room_head(room)?
        {
            facts.is_in_space = children.contains(&head.room_id);
            if filter.looks_at_tags() {
                facts.tags = self.tags(&head.room_id)?;
            }
        }
        Ok(facts)
    }

    fn tags(&self, room_id: &ruma::RoomId) -> Result<Vec<String>, SyncError> {
        #[derive(Deserialize)]
        struct Tags {
            tags: BTreeMap<String, serde_json::Value>,
        }
        let content = self.view.account_data(self.user, Some(room_id), "m.tag")?;
        let tags = content.and_then(|content| serde_json::from_str::<Tags>(&content).ok());
        Ok(tags.map(|tags| tags.tags.into_keys().collect()).unwrap_or_default())
    }

    /// By the state that the user may see: that of an invitation is what came with it, and that of a room which
    /// they left is as it was then.
    fn kind(&self, room: RoomNum, record: &MembershipRecord) -> Result<Kind, SyncError> {
        if let Membership::Invite | Membership::Knock = record.membership {
            return Ok(kind_of_stripped(record.stripped_state.as_deref().unwrap_or("[]")));
        }
        let Some(reader) = self.inner.rooms.reader(self.view, room)? else { return Ok(Kind::default()) };
        let state = match record.membership {
            Membership::Join => reader.state(),
            _ => reader.event(record.event)?.map_or(StateRoot::EMPTY, |event| event.record.state_after),
        };
        let create = reader.state_event(state, "m.room.create", "")?;
        let encryption = state.get(self.view, "m.room.encryption", "")?;
        Ok(Kind {
            room_type: create.and_then(|create| room_type(create.pdu.content().get())),
            is_encrypted: encryption.is_some(),
        })
    }

    /// The rooms that spaces name as their children, of those spaces that the user is in. Spaces within them
    /// are not looked into.
    pub fn children(&self, spaces: &[OwnedRoomId]) -> Result<HashSet<OwnedRoomId>, SyncError> {
        #[derive(Deserialize)]
        struct Child {
            via: Vec<serde::de::IgnoredAny>,
        }
        let mut children = HashSet::new();
        for space in spaces {
            let Some(reader) = self.inner.rooms.reader_by_id(self.view, space)? else { continue };
            if !reader.is_joined(self.user)? {
                continue;
            }
            for child in reader.state_events_of(reader.state(), "m.space.child")? {
                // Without servers to go by, a child is none any more (client-server API, "Spaces").
                let is_child = serde_json::from_str::<Child>(child.pdu.content().get())
                    .is_ok_and(|content| !content.via.is_empty());
                let room_id = child.pdu.state_key().and_then(|key| OwnedRoomId::try_from(key).ok());
                children.extend(room_id.filter(|_| is_child));
            }
        }
        Ok(children)
    }
}

/// The direct chats of a user, by their account data (client-server API, "Direct Messaging").
pub fn direct_rooms(view: &View, user: &UserId) -> Result<HashSet<RoomNum>, SyncError> {
    let content = view.account_data(user, None, "m.direct")?.unwrap_or_default();
    let direct: BTreeMap<String, serde_json::Value> = serde_json::from_str(&content).unwrap_or_default();
    let mut rooms = HashSet::new();
    for room_id in direct.values().filter_map(|rooms| rooms.as_array()).flatten() {
        let room_id = room_id.as_str().and_then(|room_id| <&ruma::RoomId>::try_from(room_id).ok());
        if let Some(room_id) = room_id {
            rooms.extend(view.room_num(room_id)?);
        }
    }
    Ok(rooms)
}

fn room_type(create: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Create {
        r#type: Option<String>,
    }
    serde_json::from_str::<Create>(create).ok()?.r#type
}

fn kind_of_stripped(events: &str) -> Kind {
    #[derive(Deserialize)]
    struct Stripped<'a> {
        #[serde(borrow)]
        content: &'a serde_json::value::RawValue,
        r#type: String,
        state_key: String,
    }
    let events: Vec<Stripped<'_>> = serde_json::from_str(events).unwrap_or_default();
    let mut kind = Kind::default();
    for event in events.iter().filter(|event| event.state_key.is_empty()) {
        match event.r#type.as_str() {
            "m.room.create" => kind.room_type = room_type(event.content.get()),
            "m.room.encryption" => kind.is_encrypted = true,
            _ => {}
        }
    }
    kind
}

impl SlidingForm {
    /// What the form calls its fields.
    pub(super) fn name(self, unstable: &'static str, stable: &'static str) -> &'static str {
        match self {
            Self::Unstable => unstable,
            Self::Stable => stable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_says_what_kind_of_room_it_is_to() {
        let events = r#"[{"type":"m.room.create","state_key":"","sender":"@a:x","content":{"type":"m.space"}},
            {"type":"m.room.encryption","state_key":"","sender":"@a:x","content":{}}]"#;
        let kind = Kind { room_type: Some("m.space".to_owned()), is_encrypted: true };
        assert_eq!(kind_of_stripped(events), kind);
        assert_eq!(kind_of_stripped("[]"), Kind::default());
        assert_eq!(kind_of_stripped("nonsense"), Kind::default());
    }
}
