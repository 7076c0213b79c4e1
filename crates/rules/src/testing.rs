//! A room of any version for tests, with users on any number of servers.

use crate::auth::{
    Forbidden, StateKey, auth_events_for, authorize_alone, authorize_with_auth_events, authorize_with_state,
};
use crate::draft::reference_hash_of;
use crate::key::{SEED_BYTES, SigningKey};
use crate::pdu::has_written_event_id;
use crate::{Pdu, PduDraft, StateMap, build, room_rules};
use base::{Secret, UnixMillis};
use ruma::events::{StateEventType, TimelineEventType};
use ruma::room_version_rules::{RoomIdFormatVersion, RoomVersionRules};
use ruma::signatures::PublicKeyMap;
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) const ALICE: &str = "@alice:a.example";
pub(crate) const BOB: &str = "@bob:b.example";
pub(crate) const CAROL: &str = "@carol:c.example";

pub(crate) fn version(number: u8) -> RoomVersionId {
    RoomVersionId::try_from(number.to_string()).unwrap()
}

pub(crate) fn rules(number: u8) -> RoomVersionRules {
    room_rules(&version(number)).unwrap()
}

/// The key of a server: its name is the seed.
pub(crate) fn key_of(server: &str) -> SigningKey {
    let mut seed = [7_u8; SEED_BYTES];
    seed.iter_mut().zip(server.bytes()).for_each(|(seed, letter)| *seed = letter);
    SigningKey::generate(server.try_into().unwrap(), "1", Secret::new(seed)).unwrap()
}

/// The keys of all servers in these tests.
pub(crate) fn keys() -> PublicKeyMap {
    ["a.example", "b.example", "c.example"].into_iter().flat_map(|server| key_of(server).public_key_map()).collect()
}

/// A room whose history is a line unless a test makes it branch.
#[expect(clippy::struct_field_names, reason = "the room's id is called so everywhere")]
pub(crate) struct Room {
    pub(crate) number: u8,
    pub(crate) rules: RoomVersionRules,
    pub(crate) room_id: Option<OwnedRoomId>,
    pub(crate) events: HashMap<OwnedEventId, Arc<Pdu>>,
    pub(crate) state: StateMap<OwnedEventId>,
    pub(crate) last: Vec<OwnedEventId>,
    time: u64,
}

impl Room {
    /// A room that Alice has created and joined.
    pub(crate) fn new(number: u8) -> Self {
        Self::created_with(number, json!({}))
    }

    pub(crate) fn created_with(number: u8, content: Value) -> Self {
        let mut room = Self::before_creation(number);
        let create = room.creation(content);
        room.accept(create).unwrap();
        room.join(ALICE).unwrap();
        room
    }

    pub(crate) fn before_creation(number: u8) -> Self {
        let rules = rules(number);
        let room_id = (rules.room_id_format == RoomIdFormatVersion::V1).then(|| "!room:a.example".try_into().unwrap());
        let (events, state) = Default::default();
        Self { number, rules, room_id, events, state, last: Vec::new(), time: 1_000 }
    }

    pub(crate) fn creation(&mut self, mut content: Value) -> Pdu {
        content["room_version"] = json!(self.number.to_string());
        if self.number < 11 {
            content["creator"] = json!(ALICE);
        }
        self.draft(ALICE, "m.room.create", Some(""), content)
    }

    /// A room that anyone may join, with Alice at 100, Bob at 50 and Carol at 0, all of them members.
    pub(crate) fn with_members(number: u8) -> Self {
        let mut room = Self::new(number);
        let mut levels = json!({"users": {ALICE: 100, BOB: 50}});
        if number >= 12 {
            levels["users"].as_object_mut().unwrap().remove(ALICE);
        }
        room.put(ALICE, "m.room.power_levels", "", levels).unwrap();
        room.put(ALICE, "m.room.join_rules", "", json!({"join_rule": "public"})).unwrap();
        room.join(BOB).unwrap();
        room.join(CAROL).unwrap();
        room
    }

    pub(crate) fn get(&self, event_id: &EventId) -> Option<Arc<Pdu>> {
        self.events.get(event_id).cloned()
    }

    pub(crate) fn at<'a>(
        &'a self,
        state: &'a StateMap<OwnedEventId>,
    ) -> impl Fn(&StateEventType, &str) -> Option<Arc<Pdu>> + 'a {
        |kind, key| self.get(state.get(&(kind.clone(), key.to_owned()))?)
    }

    /// An event that follows the last one, whether the room allows it or not.
    pub(crate) fn draft(&mut self, sender: &str, kind: &str, key: Option<&str>, content: Value) -> Pdu {
        let (state, last) = (self.state.clone(), self.last.clone());
        self.draft_at(&state, &last, sender, kind, key, content)
    }

    /// An event that follows `prev_events` in the state `state`, whether the room allows it or not.
    #[expect(clippy::needless_pass_by_value, reason = "the tests read better with literals")]
    pub(crate) fn draft_at(
        &mut self,
        state: &StateMap<OwnedEventId>,
        prev_events: &[OwnedEventId],
        sender: &str,
        kind: &str,
        key: Option<&str>,
        content: Value,
    ) -> Pdu {
        self.time += 1;
        let sender: OwnedUserId = sender.try_into().unwrap();
        let kind = TimelineEventType::from(kind);
        let content = serde_json::value::to_raw_value(&content).unwrap();
        let auth_events = auth_events_for(&self.rules, &kind, &sender, key, &content).unwrap_or_default();
        let auth_events: Vec<_> = auth_events.iter().filter_map(|key| state.get(key).cloned()).collect();
        let with_hash = |id: &OwnedEventId| (id.clone(), reference_hash_of(&self.events[id], &self.rules).unwrap());
        let written = has_written_event_id(&self.rules);
        let depths = prev_events.iter().map(|event_id| self.events[event_id].depth());
        let draft = PduDraft {
            room_id: self.room_id.clone(),
            kind,
            state_key: key.map(ToOwned::to_owned),
            content,
            redacts: None,
            depth: depths.max().unwrap_or_default() + 1,
            origin_server_ts: UnixMillis(self.time),
            event_id: written.then(|| format!("${}:{}", self.time, sender.server_name()).try_into().unwrap()),
            reference_hashes: prev_events.iter().chain(&auth_events).map(with_hash).collect(),
            prev_events: prev_events.to_vec(),
            auth_events,
            sender,
        };
        let key = key_of(draft.sender.server_name().as_str());
        build(draft, &self.rules, &key).unwrap()
    }

    /// Judges an event as the next one and, if it is allowed, makes it the last.
    pub(crate) fn accept(&mut self, pdu: Pdu) -> Result<Arc<Pdu>, Forbidden> {
        authorize_alone(&self.rules, &pdu, |event_id| self.get(event_id))?;
        authorize_with_auth_events(&self.rules, &pdu, |event_id| self.get(event_id))?;
        authorize_with_state(&self.rules, &pdu, self.at(&self.state))?;
        let pdu = Arc::new(pdu);
        self.room_id.get_or_insert_with(|| pdu.room_id().to_owned());
        self.events.insert(pdu.event_id().clone(), Arc::clone(&pdu));
        if let Some(key) = key_of_state(&pdu) {
            self.state.insert(key, pdu.event_id().clone());
        }
        self.last = vec![pdu.event_id().clone()];
        Ok(pdu)
    }

    pub(crate) fn put(&mut self, sender: &str, kind: &str, key: &str, content: Value) -> Result<Arc<Pdu>, Forbidden> {
        let pdu = self.draft(sender, kind, Some(key), content);
        self.accept(pdu)
    }

    pub(crate) fn say(&mut self, sender: &str) -> Result<Arc<Pdu>, Forbidden> {
        let pdu = self.draft(sender, "m.room.message", None, json!({"body": "B"}));
        self.accept(pdu)
    }

    pub(crate) fn member(&mut self, sender: &str, target: &str, membership: &str) -> Result<Arc<Pdu>, Forbidden> {
        self.put(sender, "m.room.member", target, json!({"membership": membership}))
    }

    pub(crate) fn join(&mut self, user: &str) -> Result<Arc<Pdu>, Forbidden> {
        self.member(user, user, "join")
    }
}

pub(crate) fn key_of_state(pdu: &Pdu) -> Option<StateKey> {
    Some((StateEventType::from(pdu.kind_str()), pdu.state_key()?.to_owned()))
}
