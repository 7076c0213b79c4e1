//! What a room keeps in mind between decisions.

use crate::{Change, Draft};
use rules::CheckedPdu;
use ruma::room_version_rules::RoomVersionRules;
use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId};

/// A forward extremity: an event that no other event of the room follows yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The event.
    pub event_id: OwnedEventId,
    /// Its depth.
    pub depth: u64,
    /// Its reference hash, which events name beside its id in room versions 1 and 2; empty in others.
    pub reference_hash: String,
}

/// A room between two decisions. Its size does not depend on how many members or events the room has.
#[derive(Clone, Debug)]
pub struct Room {
    /// The room; `None` until the create event whose id it takes (room version 12).
    pub room_id: Option<OwnedRoomId>,
    /// Its version.
    pub version: RoomVersionId,
    /// What its version demands.
    pub rules: RoomVersionRules,
    /// Its forward extremities. None before the create event.
    pub tips: Vec<Tip>,
}

/// What a room is asked to take in.
#[derive(Debug)]
pub enum Input {
    /// What a user of this server wants to send.
    Draft(Draft),
    /// An event whose format, hashes and signatures are checked.
    Event(CheckedPdu),
    /// Such an event whose predecessors are not all known, so that the state before it is what other servers say it is.
    Given(CheckedPdu),
    /// Such an event from before what the room knows of its history: it changes nothing that is current. The state
    /// before it is always a fact.
    Past(CheckedPdu),
    /// Such an event that is known only because others refer to it, with no place in the history.
    Outlier(CheckedPdu),
}

impl Room {
    /// A room without events.
    #[must_use]
    pub fn new(room_id: Option<OwnedRoomId>, version: RoomVersionId, rules: RoomVersionRules) -> Self {
        Self { room_id, version, rules, tips: Vec::new() }
    }

    /// The room after a change.
    pub fn apply(&mut self, change: &Change) {
        self.room_id.get_or_insert_with(|| change.pdu.room_id().to_owned());
        self.tips.clone_from(&change.tips);
    }
}
