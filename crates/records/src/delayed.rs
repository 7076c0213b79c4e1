//! Events that users want to be sent later (MSC4140), and for some time what became of them.
//!
//! An event is a row by its id; it has a place in the schedule of the whole server, which says when to look after it
//! next, and one among its user's, where those that wait and those that are done are apart, each by time. Their ids
//! are secrets: whoever knows one may have it sent.

use crate::codec::RecordsError;
use crate::tables::{DELAYED, DELAYED_BY_TIME, DELAYED_OF_USER, DELAYED_TXN};
use crate::{Changes, TxnScope, View};
use base::UnixMillis;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use store::Direction;
use store::key::{KeyBuilder, KeyReader};

/// An event that waits to be sent, or has waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayedRecord {
    /// Who sends it.
    pub user: OwnedUserId,
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its type.
    pub kind: String,
    /// The state key of a state event.
    pub state_key: Option<String>,
    /// Its content, a JSON object.
    pub content: String,
    /// How long it waits.
    pub delay_ms: u64,
    /// Since when: when it was scheduled, or restarted last.
    pub scheduled_at: UnixMillis,
    /// When to look after it next: when it is to be sent, or tried again, or forgotten.
    pub due_at: UnixMillis,
    /// Which of those that are due in the same moment comes first: one that was scheduled before.
    pub nth: u64,
    /// What became of it.
    pub fate: Fate,
    /// The request that scheduled it: device, endpoint and transaction id.
    pub txn: Option<(String, String, String)>,
}

/// What became of a delayed event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It waits.
    Scheduled,
    /// It was sent.
    Sent {
        /// When.
        at: UnixMillis,
        /// As which event.
        event_id: OwnedEventId,
    },
    /// Its user has cancelled it.
    Cancelled {
        /// When.
        at: UnixMillis,
    },
    /// It could not be sent.
    Failed {
        /// When.
        at: UnixMillis,
        /// The error as clients are told it, a JSON object.
        error: String,
    },
}

impl Fate {
    /// When it was over; none while it waits.
    #[must_use]
    pub fn at(&self) -> Option<UnixMillis> {
        match self {
            Self::Scheduled => None,
            Self::Sent { at, .. } | Self::Cancelled { at } | Self::Failed { at, .. } => Some(*at),
        }
    }
}

/// A place in the schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayedPlace {
    /// When to look after the event.
    pub due_at: UnixMillis,
    /// Which of those of the same moment it is.
    pub nth: u64,
    /// The event.
    pub id: String,
}

impl DelayedRecord {
    /// Its place in the schedule.
    #[must_use]
    pub fn place(&self, id: &str) -> DelayedPlace {
        DelayedPlace { due_at: self.due_at, nth: self.nth, id: id.to_owned() }
    }

    /// When it is to be sent.
    #[must_use]
    pub fn send_at(&self) -> UnixMillis {
        UnixMillis(self.scheduled_at.0.saturating_add(self.delay_ms))
    }

    fn of_user_key(&self, id: &str) -> Vec<u8> {
        let time = self.fate.at().unwrap_or_else(|| self.send_at());
        of_user(&self.user, self.fate == Fate::Scheduled).number(time.0).number(self.nth).text(id).build()
    }
}

fn delayed_key(id: &str) -> Vec<u8> {
    DELAYED.key().text(id).build()
}

fn by_time_key(place: &DelayedPlace) -> Vec<u8> {
    DELAYED_BY_TIME.key().number(place.due_at.0).number(place.nth).text(&place.id).build()
}

fn of_user(user: &UserId, waits: bool) -> KeyBuilder {
    DELAYED_OF_USER.key().text(user.as_str()).byte(u8::from(!waits))
}

fn txn_key(scope: TxnScope<'_>, txn_id: &str) -> Vec<u8> {
    DELAYED_TXN.key().text(scope.user.as_str()).text(scope.device_id).text(scope.endpoint).text(txn_id).build()
}

impl View {
    /// A delayed event.
    pub fn delayed(&self, id: &str) -> Result<Option<DelayedRecord>, RecordsError> {
        self.get(DELAYED, &delayed_key(id))
    }

    /// The delayed event that a request with this transaction id has scheduled.
    pub fn delayed_txn(&self, scope: TxnScope<'_>, txn_id: &str) -> Result<Option<String>, RecordsError> {
        self.get(DELAYED_TXN, &txn_key(scope, txn_id))
    }

    /// The delayed events that are to be looked after first, at most `events_max`.
    pub fn delayed_first(&self, events_max: usize) -> Result<Vec<DelayedPlace>, RecordsError> {
        let rows = self.scan(DELAYED_BY_TIME, DELAYED_BY_TIME.key().prefix_range(), Direction::Forward, events_max)?;
        rows.iter()
            .map(|(key, _)| {
                let mut reader = KeyReader::new(key);
                let (due_at, nth, id) = (reader.number(), reader.number(), reader.text());
                let found = due_at.zip(nth).zip(id).ok_or_else(|| DELAYED_BY_TIME.corrupt())?;
                let ((due_at, nth), id) = found;
                Ok(DelayedPlace { due_at: UnixMillis(due_at), nth, id: id.to_owned() })
            })
            .collect()
    }

    /// The ids of a user's delayed events that wait, or of those that do not any more, the first in time first, at
    /// most `events_max`.
    pub fn delayed_of(&self, user: &UserId, waits: bool, events_max: usize) -> Result<Vec<String>, RecordsError> {
        let rows = self.scan(DELAYED_OF_USER, of_user(user, waits).prefix_range(), Direction::Forward, events_max)?;
        rows.iter()
            .map(|(key, _)| {
                let mut reader = KeyReader::new(key);
                let id = reader.text().and_then(|_| reader.byte()).and_then(|_| reader.number());
                let id = id
                    .and_then(|_| reader.number())
                    .and_then(|_| reader.text())
                    .ok_or_else(|| DELAYED_OF_USER.corrupt())?;
                Ok(id.to_owned())
            })
            .collect()
    }
}

impl Changes {
    /// A delayed event, after these changes.
    pub fn delayed(&self, id: &str) -> Result<Option<DelayedRecord>, RecordsError> {
        self.get(DELAYED, &delayed_key(id))
    }

    /// Writes a delayed event, on condition that it is still as the view shows it.
    pub fn put_delayed(&mut self, id: &str, record: &DelayedRecord) -> Result<(), RecordsError> {
        self.clear_places(id)?;
        self.put(DELAYED, delayed_key(id), record);
        self.put_raw(DELAYED_BY_TIME, by_time_key(&record.place(id)).into(), Vec::new().into());
        self.put_raw(DELAYED_OF_USER, record.of_user_key(id).into(), Vec::new().into());
        if let Some((device_id, endpoint, txn_id)) = &record.txn {
            let key = txn_key(TxnScope { user: &record.user, device_id, endpoint }, txn_id);
            if self.view().delayed(id)?.is_none() {
                // Two requests that are the same come at the same time.
                self.expect_absent(DELAYED_TXN, key.clone());
            }
            self.put(DELAYED_TXN, key, &id);
        }
        Ok(())
    }

    /// Forgets a delayed event, on condition that it is still as the view shows it.
    pub fn clear_delayed(&mut self, id: &str) -> Result<(), RecordsError> {
        if let Some(record) = self.clear_places(id)? {
            self.clear_record(id, &record);
        }
        Ok(())
    }

    /// Forgets all delayed events of a user, of whom none are added any more. Whoever adds one keeps them few. One
    /// that is changed at the same time leaves a place in the schedule behind.
    pub fn clear_all_delayed(&mut self, user: &UserId) -> Result<(), RecordsError> {
        for waits in [true, false] {
            for id in self.view().delayed_of(user, waits, base::limits::SCAN_ROWS_MAX)? {
                if let Some(record) = self.delayed(&id)? {
                    self.clear_record(&id, &record);
                }
            }
        }
        self.clear_range(DELAYED_OF_USER, DELAYED_OF_USER.key().text(user.as_str()).prefix_range());
        Ok(())
    }

    /// Takes a place out of the schedule whose event is gone.
    pub fn clear_delayed_place(&mut self, place: &DelayedPlace) {
        self.clear(DELAYED_BY_TIME, by_time_key(place));
    }

    fn clear_record(&mut self, id: &str, record: &DelayedRecord) {
        self.clear(DELAYED_BY_TIME, by_time_key(&record.place(id)));
        self.clear(DELAYED, delayed_key(id));
        if let Some((device_id, endpoint, txn_id)) = &record.txn {
            self.clear(DELAYED_TXN, txn_key(TxnScope { user: &record.user, device_id, endpoint }, txn_id));
        }
    }

    /// Takes a delayed event out of its places.
    fn clear_places(&mut self, id: &str) -> Result<Option<DelayedRecord>, RecordsError> {
        self.expect_unchanged(DELAYED, delayed_key(id))?;
        let record = self.delayed(id)?;
        if let Some(record) = &record {
            self.clear(DELAYED_BY_TIME, by_time_key(&record.place(id)));
            self.clear(DELAYED_OF_USER, record.of_user_key(id));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use ruma::{owned_event_id, owned_room_id, owned_user_id};
    use std::sync::Arc;
    use store::MemoryEngine;

    fn record(user: &str, at: u64, delay_ms: u64) -> DelayedRecord {
        DelayedRecord {
            user: OwnedUserId::try_from(user).unwrap(),
            room_id: owned_room_id!("!r:b"),
            kind: "x".to_owned(),
            state_key: None,
            content: "{}".to_owned(),
            delay_ms,
            scheduled_at: UnixMillis(at),
            due_at: UnixMillis(at + delay_ms),
            nth: delay_ms,
            fate: Fate::Scheduled,
            txn: Some(("D".to_owned(), "e".to_owned(), format!("t{delay_ms}"))),
        }
    }

    async fn write(records: &Records, id: &str, record: &DelayedRecord) {
        let mut changes = records.changes(&records.view());
        changes.put_delayed(id, record).unwrap();
        records.commit(changes).await.unwrap();
    }

    #[tokio::test]
    async fn events_are_found_in_the_order_in_which_they_are_due_and_by_their_user() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        for (id, user, delay_ms) in [("a", "@a:b", 30), ("b", "@a:b", 10), ("c", "@c:b", 20)] {
            write(&records, id, &record(user, 1, delay_ms)).await;
        }
        let first =
            |view: &View| -> Vec<String> { view.delayed_first(9).unwrap().into_iter().map(|place| place.id).collect() };
        let user = owned_user_id!("@a:b");
        let view = records.view();
        assert_eq!(first(&view), ["b", "c", "a"]);
        assert_eq!(view.delayed_first(1).unwrap(), [record("@a:b", 1, 10).place("b")]);
        assert_eq!(view.delayed_of(&user, true, 9).unwrap(), ["b", "a"]);
        let scope = TxnScope { user: &user, device_id: "D", endpoint: "e" };
        assert_eq!(view.delayed_txn(scope, "t30").unwrap().as_deref(), Some("a"));

        let sent = Fate::Sent { at: UnixMillis(12), event_id: owned_event_id!("$e") };
        write(&records, "b", &DelayedRecord { fate: sent, due_at: UnixMillis(99), ..record("@a:b", 1, 10) }).await;
        let view = records.view();
        assert_eq!(first(&view), ["c", "a", "b"]);
        assert_eq!(view.delayed_of(&user, true, 9).unwrap(), ["a"]);
        assert_eq!(view.delayed_of(&user, false, 9).unwrap(), ["b"]);

        let mut changes = records.changes(&view);
        changes.clear_all_delayed(&user).unwrap();
        records.commit(changes).await.unwrap();
        let view = records.view();
        assert_eq!(first(&view), ["c"]);
        assert!(view.delayed_of(&user, false, 9).unwrap().is_empty());
        assert_eq!(view.delayed_txn(scope, "t30").unwrap(), None);
    }

    #[tokio::test]
    async fn of_two_changes_of_an_event_the_second_is_told_of_the_first() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        write(&records, "a", &record("@a:b", 1, 30)).await;
        let view = records.view();
        let mut one = records.changes(&view);
        one.put_delayed("a", &record("@a:b", 2, 30)).unwrap();
        let mut two = records.changes(&view);
        two.clear_delayed("a").unwrap();
        records.commit(one).await.unwrap();
        assert!(matches!(records.commit(two).await, Err(store::CommitError::Conflict)));
    }
}
