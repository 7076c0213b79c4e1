//! What an event's place in the timeline tells of it, so that what somebody has not read is counted without reading
//! every event.

use crate::{RoomError, RoomReader};
use base::{EventNum, Order};
use records::Glance;
use rules::Pdu;
use rules::push::Digest;
use ruma::UserId;
use store::Direction;

/// An event as its place in the timeline tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glanced {
    /// Its place.
    pub order: Order,
    /// Its number.
    pub num: EventNum,
    /// What the predefined push rules make of it.
    pub digest: Digest,
    sender: u32,
}

impl Glanced {
    /// Whether this user may have sent it. Seldom it is true of others as well.
    #[must_use]
    pub fn may_be_of(&self, user: &UserId) -> bool {
        self.sender == hash(user)
    }
}

/// What to write of an event; of a redacted one nobody is notified.
pub(crate) fn glance(pdu: &Pdu, is_redacted: bool) -> Glance {
    let digest = match Digest::of(pdu) {
        _ if is_redacted => 1,
        Digest::Special => 0,
        Digest::Silent => 1,
        Digest::Plain => 2,
    };
    Glance { digest, sender: hash(pdu.sender()) }
}

/// FNV-1a, because what is stored must be the same tomorrow.
fn hash(user: &UserId) -> u32 {
    user.as_bytes().iter().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

impl RoomReader {
    /// The events after `after` and up to `up_to` at a glance, from the end that `direction` starts with, at most
    /// `events_max`.
    pub fn glances(
        &self,
        after: Order,
        up_to: Order,
        direction: Direction,
        events_max: usize,
    ) -> Result<Vec<Glanced>, RoomError> {
        let entries = self.view.timeline(self.num, after, up_to, direction, events_max)?;
        let glanced = entries.into_iter().map(|entry| Glanced {
            order: entry.order,
            num: entry.event,
            digest: match entry.glance.digest {
                1 => Digest::Silent,
                2 => Digest::Plain,
                _ => Digest::Special,
            },
            sender: entry.glance.sender,
        });
        Ok(glanced.collect())
    }
}
