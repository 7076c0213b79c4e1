//! Receipts, read markers and typing notifications, as clients give them.

use crate::active::ToWake;
use crate::typing::{TYPING_DEFAULT, TYPING_MAX};
use crate::{Inner, SyncError, Syncs};
use base::RoomNum;
use records::{LogEntry, ReceiptKey, ReceiptKind, ReceiptRecord, View};
use rooms::{RoomReader, StoredEvent};
use rules::relation::{Relation, THREAD};
use ruma::{EventId, OwnedEventId, RoomId, UserId};
use std::sync::Arc;
use std::time::Duration;
use store::CommitError;

/// How often a write is tried that meets another one of the same user.
const TRIES_MAX: usize = 8;
/// How many relations are followed to find the thread of an event (client-server API, "Threaded read
/// receipts").
const HOPS_MAX: usize = 3;
/// The thread of what is in no thread.
const MAIN: &str = "main";
/// The longest id of a thread, in bytes: that of an event.
const THREAD_BYTES_MAX: usize = base::limits::ID_BYTES_MAX;

/// What a user has read of a room. What is not given stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Up to where they have read everything (`m.fully_read`).
    pub fully_read: Option<OwnedEventId>,
    /// Up to where they have read, for all to see (`m.read`).
    pub read: Option<OwnedEventId>,
    /// Up to where they have read, for themselves (`m.read.private`).
    pub read_private: Option<OwnedEventId>,
    /// The thread of the two receipts: `main` or the id of a thread's root; none for the whole room.
    pub thread: Option<String>,
}

impl Syncs {
    /// Moves a user's receipts and their read marker in a room (client-server API, "Receipts", "Read and unread
    /// markers"). A receipt for an event before the one that it is at already stays where it is, since a
    /// receipt counts up to its event; the read marker goes where it is put.
    ///
    /// # Errors
    ///
    /// [`SyncError::Forbidden`] if the user is not in the room; [`SyncError::InvalidParam`] if an event is not of
    /// the room or not of the thread, or the thread's id is empty or too long.
    pub async fn mark(&self, user: &UserId, room_id: &RoomId, marks: &Marks) -> Result<(), SyncError> {
        for _ in 0..TRIES_MAX {
            let view = self.0.records.view();
            let reader = self.0.joined_room(&view, user, room_id)?;
            let mut changes = self.0.records.changes(&view);
            let receipts = [(&marks.read, ReceiptKind::Public), (&marks.read_private, ReceiptKind::Private)];
            for (event_id, kind) in receipts {
                let Some(event_id) = event_id else { continue };
                let event = read_event(&reader, user, event_id)?;
                check_thread(&reader, &event, marks.thread.as_deref())?;
                let key = ReceiptKey { user: user.to_owned(), kind, thread: marks.thread.clone() };
                let before = view.receipt(reader.num(), &key)?;
                if before.is_some_and(|(_, before)| before.order >= event.order) {
                    continue;
                }
                let at = self.0.clock.now();
                let record = ReceiptRecord { event_id: event_id.clone(), order: event.order, at };
                let nth = changes.stamp();
                changes.put_receipt(nth, reader.num(), &key, &record)?;
                let private = kind == ReceiptKind::Private;
                changes.log(nth, &LogEntry::Receipt { room: reader.num(), user: user.to_owned(), private });
            }
            if let Some(event_id) = &marks.fully_read {
                read_event(&reader, user, event_id)?;
                let content = serde_json::json!({"event_id": event_id}).to_string();
                if view.account_data(user, Some(room_id), "m.fully_read")?.as_deref() != Some(&content) {
                    changes.expect_not_ended(user);
                    changes.put_account_data(user, Some(room_id), "m.fully_read", &content)?;
                }
            }
            if changes.is_empty() {
                return Ok(());
            }
            drop((reader, view));
            match self.0.records.commit(changes).await {
                Err(CommitError::Conflict) => {}
                outcome => return Ok(outcome.map(drop)?),
            }
        }
        Err(SyncError::Overloaded)
    }

    /// A user types in a room for some time, or (`None`) has stopped. Without a time it is 30 seconds; more than
    /// two minutes are taken as two minutes.
    ///
    /// # Errors
    ///
    /// [`SyncError::Forbidden`] if the user is not in the room.
    pub fn typing(&self, user: &UserId, room_id: &RoomId, typing: Option<Option<Duration>>) -> Result<(), SyncError> {
        let view = self.0.records.view();
        let room = self.0.joined_room(&view, user, room_id)?.num();
        let mut to_wake = ToWake::default();
        self.0.set_typing(room, user, typing.map(|time| time.unwrap_or(TYPING_DEFAULT)), &mut to_wake);
        drop(to_wake);
        Ok(())
    }
}

impl Inner {
    fn joined_room(&self, view: &View, user: &UserId, room_id: &RoomId) -> Result<RoomReader, SyncError> {
        let reader = self.rooms.reader_by_id(view, room_id)?;
        match reader {
            Some(reader) if reader.is_joined(user)? => Ok(reader),
            _ => Err(SyncError::Forbidden("you are not in this room")),
        }
    }

    /// Notes who types, and whom to tell.
    pub fn set_typing(&self, room: RoomNum, user: &UserId, time: Option<Duration>, to_wake: &mut ToWake) {
        let now = self.clock.now();
        let until = time.map(|time| now.after(time.min(TYPING_MAX)));
        if let Some(count) = self.typing.set(room, user, until, now) {
            self.active.note_typing(room, count, to_wake);
            self.typed.notify_one();
        }
    }
}

/// An event that the user can have read.
fn read_event(reader: &RoomReader, user: &UserId, event_id: &EventId) -> Result<Arc<StoredEvent>, SyncError> {
    const UNKNOWN: SyncError = SyncError::InvalidParam("the event is not one of this room");
    let event = reader.event_by_id(event_id)?.ok_or(UNKNOWN)?;
    let visible = reader.visible(user, std::slice::from_ref(&event))?;
    if visible.iter().all(Option::is_some) { Ok(event) } else { Err(UNKNOWN) }
}

/// Whether a receipt for an event can be one of a thread.
fn check_thread(reader: &RoomReader, event: &Arc<StoredEvent>, thread: Option<&str>) -> Result<(), SyncError> {
    let Some(thread) = thread else { return Ok(()) };
    if thread.is_empty() || thread.len() > THREAD_BYTES_MAX {
        return Err(SyncError::InvalidParam("thread_id field must be a non-empty string"));
    }
    let mut current = event.clone();
    let mut related = vec![event.pdu.event_id().to_string()];
    for _ in 0..=HOPS_MAX {
        let Some(Relation { rel_type, target, .. }) = Relation::of(&current.pdu) else { break };
        if rel_type == THREAD {
            let fits = *target == thread || related.iter().any(|id| *id == thread);
            return if fits { Ok(()) } else { Err(SyncError::InvalidParam("the event is not in this thread")) };
        }
        related.push(target.to_string());
        match reader.event_by_id(&target)? {
            Some(next) => current = next,
            None => break,
        }
    }
    // In no thread: it is in the main timeline, as are the roots of threads and what relates to them. A
    // redacted event has lost its relation, so it may have been in any thread.
    let is_redacted = event.record.redacted_by.is_some();
    if thread == MAIN || is_redacted || related.iter().any(|id| *id == thread) {
        Ok(())
    } else {
        Err(SyncError::InvalidParam("the event is not in this thread"))
    }
}

/// The root of the thread that an event is in; none in the main timeline.
pub fn thread_of(reader: &RoomReader, event: &StoredEvent) -> Result<Option<OwnedEventId>, SyncError> {
    let mut current: Option<Arc<StoredEvent>> = None;
    for _ in 0..=HOPS_MAX {
        let pdu = current.as_ref().map_or(&event.pdu, |current| &current.pdu);
        let Some(relation) = Relation::of(pdu) else { break };
        if relation.is_thread() {
            return Ok(Some(relation.target));
        }
        match reader.event_by_id(&relation.target)? {
            Some(next) => current = Some(next),
            None => break,
        }
    }
    Ok(None)
}
