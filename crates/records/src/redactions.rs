//! Redactions of events that are not known yet, found by the event that they wait for.

use crate::codec::RecordsError;
use crate::tables::PENDING_REDACTION;
use crate::{Changes, View};
use base::{EventNum, RoomNum};
use ruma::EventId;
use store::Direction;
use store::key::{KeyBuilder, KeyReader};

/// How many redactions of one event are kept in mind until it comes. One that takes effect is enough; more than
/// this many that don't are somebody's mischief.
pub const PENDING_REDACTIONS_MAX: usize = 64;

fn pending_of(room: RoomNum, target: &EventId) -> KeyBuilder {
    PENDING_REDACTION.key().number(room.0).text(target.as_str())
}

impl View {
    /// The redactions that wait for an event, the oldest first, at most [`PENDING_REDACTIONS_MAX`].
    pub fn pending_redactions(&self, room: RoomNum, target: &EventId) -> Result<Vec<EventNum>, RecordsError> {
        let range = pending_of(room, target).prefix_range();
        let rows = self.scan(PENDING_REDACTION, range, Direction::Forward, PENDING_REDACTIONS_MAX)?;
        rows.iter()
            .map(|(key, _)| {
                let mut reader = KeyReader::new(key);
                let redaction = reader.number().and_then(|_| reader.text()).and_then(|_| reader.number());
                redaction.map(EventNum).ok_or_else(|| PENDING_REDACTION.corrupt())
            })
            .collect()
    }
}

impl Changes {
    /// Keeps a redaction in mind for the event that it redacts, until that comes.
    pub fn put_pending_redaction(&mut self, room: RoomNum, target: &EventId, redaction: EventNum) {
        self.put(PENDING_REDACTION, pending_of(room, target).number(redaction.0).build(), &());
    }

    /// Forgets the redactions that wait for an event, now that it is here.
    pub fn clear_pending_redactions(&mut self, room: RoomNum, target: &EventId) {
        self.clear_range(PENDING_REDACTION, pending_of(room, target).prefix_range());
    }
}
