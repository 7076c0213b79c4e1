//! What users' push rules say of an event, for those who tell them of it outside of their clients.

use super::reading::Habits;
use super::{Counts, Reading};
use crate::receipts::thread_of;
use crate::{SyncError, Syncs};
use base::RoomNum;
use records::{RecordsError, View};
use rooms::{RoomReader, StoredEvent};
use rules::PowerLevels;
use rules::push::{Digest, Outcome, Subject, Surroundings};
use ruma::{EventId, UserId};
use serde::Deserialize;
use std::cell::OnceCell;
use std::sync::Arc;

/// An event that is judged by the push rules of many users: what is read of it and of its room is read once.
pub struct Judge<'a> {
    syncs: &'a Syncs,
    reader: &'a RoomReader,
    event: &'a StoredEvent,
    subject: Subject<'a>,
    power: OnceCell<Option<PowerLevels>>,
}

impl Syncs {
    /// Judges an event of a room.
    #[must_use]
    pub fn judge<'a>(&'a self, reader: &'a RoomReader, event: &'a StoredEvent) -> Judge<'a> {
        Judge { syncs: self, reader, event, subject: Subject::new(&event.pdu), power: OnceCell::new() }
    }

    /// Whether a user has never changed their push rules and ignores nobody: then what an event means for one such
    /// user who is not mentioned, it means for all.
    ///
    /// # Errors
    ///
    /// That the records can't be read.
    pub fn has_plain_habits(&self, view: &View, user: &UserId) -> Result<bool, RecordsError> {
        let habits = self.0.counted.habits(view, user)?;
        let knows_digests = habits.rules.by_digest(Digest::Silent).is_some();
        Ok(knows_digests && habits.basis == super::reading::Basis::default())
    }

    /// How much a user has not read of a room; nothing if they are not in it.
    ///
    /// # Errors
    ///
    /// [`SyncError::Internal`].
    pub fn unread(&self, view: &View, user: &UserId, room: RoomNum) -> Result<Counts, SyncError> {
        let Some(reader) = self.0.rooms.reader(view, room)? else { return Ok(Counts::default()) };
        let reading: Reading = self.0.reading(view, user)?;
        Ok(reading.counts(&self.0, &reader)?.total())
    }

    /// Whether a user has read an event, by their receipts.
    ///
    /// # Errors
    ///
    /// [`SyncError::Internal`].
    pub fn has_read(&self, reader: &RoomReader, user: &UserId, event: &Arc<StoredEvent>) -> Result<bool, SyncError> {
        let Some((_, read)) = reader.view().read_state(user, reader.num())? else { return Ok(false) };
        let thread = thread_of(reader, event)?;
        Ok(read.has_read(event.order, thread.as_deref().map(EventId::as_str)))
    }
}

impl Judge<'_> {
    /// What is to be done about the event for a user. `None`: it notifies them of nothing.
    ///
    /// # Errors
    ///
    /// That the records can't be read.
    pub fn outcome(&self, user: &UserId) -> Result<Option<Outcome>, RecordsError> {
        let habits = self.syncs.0.counted.habits(self.reader.view(), user)?;
        Ok(habits.judge(self.reader, self.event, &self.subject, user, &self.power).cloned())
    }
}

impl Habits {
    /// What is to be done about an event for the user whose habits these are. `None`: it notifies them of nothing.
    /// The power levels of the room are read once they are asked for.
    pub fn judge(
        &self,
        reader: &RoomReader,
        event: &StoredEvent,
        subject: &Subject<'_>,
        user: &UserId,
        power: &OnceCell<Option<PowerLevels>>,
    ) -> Option<&Outcome> {
        if event.record.redacted_by.is_some() || self.ignored.contains(event.pdu.sender()) {
            return None;
        }
        let display_name = || display_name(reader, user);
        let may_notify = |sender: &UserId, name: &str| {
            let power = power.get_or_init(|| reader.power_levels().ok());
            power.as_ref().is_some_and(|power| power.can_notify(sender, name))
        };
        let around = Surroundings {
            user,
            member_count: reader.head().joined,
            display_name: &display_name,
            may_notify: &may_notify,
            thread_subscribed: &|| has_subscribed(reader, event, user),
        };
        self.rules.judge(subject, &around).filter(|outcome| outcome.notify)
    }
}

/// Whether a user has subscribed to the thread that an event is of; none if it is of no thread.
fn has_subscribed(reader: &RoomReader, event: &StoredEvent, user: &UserId) -> Option<bool> {
    let root = thread_of(reader, event).ok()??;
    let known = reader.view().thread_subscription(user, reader.room_id(), &root).ok()?;
    Some(known.is_some_and(|(_, known)| known.is_subscribed()))
}

/// The name that a user has in a room.
fn display_name(reader: &RoomReader, user: &UserId) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        displayname: Option<String>,
    }
    let (_, record) = reader.membership(user).ok()??;
    let event = reader.event(record.event).ok()??;
    serde_json::from_str::<Content>(event.pdu.content().get()).ok()?.displayname
}
