//! The log: what happened at each stamp that somebody may wait for.

use crate::codec::{self, RecordsError};
use crate::tables::{LOG, LOG_TRIMMED};
use crate::{Changes, View};
use base::{EventNum, Order, RoomNum, Stamp};
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};
use store::key::KeyReader;
use store::{Direction, Hole, Stamped};

/// One thing that happened. Followers and waiting syncs read these and look up the rest.
///
/// Variants are only ever added, at the end: their numbers are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogEntry {
    /// An event entered a room's timeline live.
    Event {
        /// The room.
        room: RoomNum,
        /// The event.
        event: EventNum,
        /// Whose membership it changes, if it is a membership event that took effect.
        member: Option<OwnedUserId>,
    },
    /// A user's receipt in a room moved.
    Receipt {
        /// The room.
        room: RoomNum,
        /// Whose receipt.
        user: OwnedUserId,
        /// Whether only that user sees it.
        private: bool,
    },
    /// A user's account data changed, for a room or as a whole.
    AccountData {
        /// Whose.
        user: OwnedUserId,
    },
    /// A user's membership of a room changed because the room's state was resolved, without an event of
    /// theirs that entered the timeline at that moment.
    Membership {
        /// Whose.
        user: OwnedUserId,
        /// The room.
        room: RoomNum,
    },
    /// A user forgot a room.
    Forgotten {
        /// Who.
        user: OwnedUserId,
        /// The room.
        room: RoomNum,
    },
    /// Messages were sent to devices.
    ToDevice {
        /// Whose.
        users: Vec<OwnedUserId>,
    },
    /// A user's devices, their keys or the user's cross-signing keys changed.
    DeviceList {
        /// Whose.
        user: OwnedUserId,
    },
    /// A user signed the keys of others, which that user alone sees.
    KeysSigned {
        /// Who signed.
        user: OwnedUserId,
        /// Whose keys.
        signed: Vec<OwnedUserId>,
    },
    /// A user's pushers changed.
    Pushers {
        /// Whose.
        user: OwnedUserId,
    },
    /// A user subscribed to a thread, or unsubscribed from it.
    ThreadSubscription {
        /// Who.
        user: OwnedUserId,
    },
    /// Events were put before all that a room knew of its history.
    Backfilled {
        /// The room.
        room: RoomNum,
        /// The place of the first of them.
        from: Order,
        /// The place of the last.
        to: Order,
    },
    /// Events were removed for good, because they are older than their room keeps them or an administrator asked for
    /// it.
    Purged {
        /// The room.
        room: RoomNum,
        /// The events.
        events: Vec<EventNum>,
    },
}

impl Changes {
    /// Logs an entry at a stamp of these changes, as [`Changes::stamp`] gave it. One entry a stamp.
    pub fn log(&mut self, nth: u16, entry: &LogEntry) {
        let key = LOG.key();
        let at = u32::try_from(key.len()).unwrap_or(u32::MAX);
        let key = Stamped { bytes: key.number(0).build(), holes: vec![Hole { at, nth }] };
        self.put_raw(LOG, key, codec::encode(entry).into());
    }
}

impl Changes {
    /// Trims the log: entries up to a stamp are gone. On condition that nobody else trims it.
    pub fn trim_log(&mut self, up_to: Stamp) -> Result<(), RecordsError> {
        let from = self.view().log_trimmed()?;
        if up_to > from {
            self.expect_unchanged(LOG_TRIMMED, LOG_TRIMMED.key().build())?;
            self.put(LOG_TRIMMED, LOG_TRIMMED.key().build(), &up_to);
            self.clear_range(LOG, (LOG.key().number(from.next().0).build(), LOG.key().number(up_to.next().0).build()));
        }
        Ok(())
    }
}

impl View {
    /// Up to which stamp the log was trimmed: what happened after a stamp before that, it can't tell.
    pub fn log_trimmed(&self) -> Result<Stamp, RecordsError> {
        Ok(self.get(LOG_TRIMMED, &LOG_TRIMMED.key().build())?.unwrap_or_default())
    }

    /// The entries after one stamp and up to another, oldest first, at most `rows_max`. Those are all that there
    /// were only if the first is not before [`View::log_trimmed`].
    pub fn log(&self, after: Stamp, up_to: Stamp, rows_max: usize) -> Result<Vec<(Stamp, LogEntry)>, RecordsError> {
        let range = (LOG.key().number(after.next().0).build(), LOG.key().number(up_to.next().0).build());
        let rows = self.scan(LOG, range, Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let stamp = KeyReader::new(key).number().ok_or_else(|| LOG.corrupt())?;
                Ok((Stamp(stamp), LOG.decode(value)?))
            })
            .collect()
    }
}
