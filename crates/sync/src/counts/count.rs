//! Counting.

use super::reading::Reading;
use super::{CARRIED_MAX, EVENTS_MAX, Kind, READS_MAX, RoomCounts, UNREAD_MAX, Unread, UnreadEvent};
use crate::receipts::thread_of;
use crate::{Inner, SyncError};
use base::{Order, Stamp};
use records::{Membership, ReadState};
use rooms::{Glanced, RoomReader, StoredEvent};
use rules::PowerLevels;
use rules::push::{Outcome, Subject};
use ruma::events::TimelineEventType;
use ruma::{EventId, OwnedEventId, UserId};
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use store::Direction;

/// How many events are looked at in one go.
const PAGE: usize = 200;
/// How many profile changes of a member are followed back to where they joined.
const JOIN_STEPS_MAX: usize = 16;

impl Reading {
    /// What the user has not read of a room that they are in, up to the reader's view.
    ///
    /// # Errors
    ///
    /// [`SyncError::Internal`].
    pub fn counts(&self, inner: &Inner, reader: &RoomReader) -> Result<RoomCounts, SyncError> {
        let key = (self.user.clone(), reader.num());
        let known = inner.counted.unread.get(&key).filter(|known| known.basis == self.habits.basis);
        let now = reader.view().stamp();
        let read = reader.view().read_state(&self.user, reader.num())?;
        let read_at = read.as_ref().map(|(at, _)| *at);
        if let Some(known) = known.as_ref().filter(|known| known.up_to >= now && known.read_at >= read_at) {
            return Ok(known.counts());
        }
        let read = read.map(|(_, state)| state).unwrap_or_default();
        let room = Room::new(reader, self);
        let carried = known.map(|known| room.carry(&known, &read, read_at)).transpose()?.flatten();
        let unread = match carried {
            Some(unread) => unread,
            None => room.count(&read, read_at)?,
        };
        let counts = unread.counts();
        inner.counted.unread.insert(key, Arc::new(unread));
        Ok(counts)
    }
}

/// A room as a user reads it.
pub(crate) struct Room<'a> {
    reader: &'a RoomReader,
    reading: &'a Reading,
    power: OnceCell<Option<PowerLevels>>,
}

impl<'a> Room<'a> {
    pub fn new(reader: &'a RoomReader, reading: &'a Reading) -> Self {
        Self { reader, reading, power: OnceCell::new() }
    }

    fn user(&self) -> &UserId {
        &self.reading.user
    }

    /// Counts from the end of the timeline back.
    fn count(&self, read: &ReadState, read_at: Option<Stamp>) -> Result<Unread, SyncError> {
        let up_to = self.reader.view().stamp();
        let basis = self.reading.habits.basis;
        let since = basis.changed_at().max(read_at.unwrap_or_default());
        let mut unread = Unread { basis, up_to, read_at, since, events: Vec::new(), threads: Vec::new() };
        let Some(joined) = self.joined_at()? else { return Ok(unread) };
        let after = read.everywhere.max(joined);
        // By sending an event, a user marks what is before it in the same thread as read.
        let mut own: HashSet<Option<OwnedEventId>> = HashSet::new();
        let (mut last, mut seen, mut reads) = (Order::from(up_to), 0, 0);
        while seen < EVENTS_MAX && unread.events.len() < UNREAD_MAX {
            let page = self.reader.glances(after, last, Direction::Backward, PAGE)?;
            let mut events = self.events_to_read(&page)?;
            seen += page.len();
            for glanced in &page {
                let Some(event) = events.remove(&glanced.order) else {
                    let notifies = self.reading.habits.rules.by_digest(glanced.digest) == Some(true);
                    if notifies && !own.contains(&None) && !read.has_read(glanced.order, None) {
                        unread.add(glanced, None, Kind::default());
                    }
                    continue;
                };
                reads += 1;
                if event.pdu.sender() == self.user() {
                    if event.pdu.state_key().is_none() {
                        unread.since = unread.since.max(stamp_of(event.order));
                        own.insert(thread_of(self.reader, &event)?);
                    }
                } else if let Some((outcome, thread)) = self.judge(&event)?
                    && !own.contains(&thread)
                    && !read.has_read(glanced.order, thread.as_deref().map(EventId::as_str))
                {
                    unread.add(glanced, thread, Kind::of(&event, &outcome));
                }
            }
            match page.last() {
                Some(first) if page.len() == PAGE && reads < READS_MAX => last = Order(first.order.0.saturating_sub(1)),
                _ => break,
            }
        }
        unread.events.reverse();
        if let Some(newest) = unread.events.last() {
            unread.since = unread.since.max(stamp_of(newest.order));
        }
        Ok(unread)
    }

    /// Brings what was counted up to date. `None`: so much has happened, or such things, that counting must begin
    /// anew.
    fn carry(&self, known: &Unread, read: &ReadState, read_at: Option<Stamp>) -> Result<Option<Unread>, SyncError> {
        let up_to = self.reader.view().stamp().max(known.up_to);
        let (after, last) = (Order::from(known.up_to), Order::from(up_to));
        let page = self.reader.glances(after, last, Direction::Forward, CARRIED_MAX)?;
        if page.len() == CARRIED_MAX {
            return Ok(None);
        }
        let mut unread = known.clone();
        unread.up_to = up_to;
        let mut events = self.events_to_read(&page)?;
        for glanced in &page {
            let at = stamp_of(glanced.order);
            let Some(event) = events.remove(&glanced.order) else {
                if self.reading.habits.rules.by_digest(glanced.digest) == Some(true) {
                    unread.add(glanced, None, Kind::default());
                    unread.since = at;
                }
                continue;
            };
            if *event.pdu.kind() == TimelineEventType::RoomMember && event.pdu.state_key() == Some(self.user().as_str())
            {
                return Ok(None);
            }
            if *event.pdu.kind() == TimelineEventType::RoomRedaction
                && let Some(target) = event.pdu.redacts()
                && let Some(target) = self.reader.event_by_id(target)?
                && target.record.redacted_by.is_some()
            {
                unread.keep_if(at, |event, _| event.num != target.num);
            }
            if event.pdu.sender() == self.user() {
                if event.pdu.state_key().is_none() {
                    let thread = thread_of(self.reader, &event)?;
                    unread.keep_if(at, |_, of| of != thread.as_ref());
                }
            } else if let Some((outcome, thread)) = self.judge(&event)? {
                unread.add(glanced, thread, Kind::of(&event, &outcome));
                unread.since = at;
            }
        }
        if unread.read_at < read_at {
            unread.read_at = read_at;
            let at = read_at.unwrap_or_default();
            unread.since = unread.since.max(at);
            unread.keep_if(at, |event, thread| !read.has_read(event.order, thread.map(|root| root.as_str())));
        } else {
            // An event can come that was read before, where the receipt is ahead.
            unread.keep_if(Stamp(0), |event, thread| !read.has_read(event.order, thread.map(|root| root.as_str())));
        }
        unread.shrink();
        Ok(Some(unread))
    }

    /// The events of a page that have to be read, by their places: those whose digest does not say enough, and
    /// those that may be the user's own.
    fn events_to_read(&self, page: &[Glanced]) -> Result<HashMap<Order, Arc<StoredEvent>>, SyncError> {
        let habits = &self.reading.habits;
        let must_be_read = |glanced: &&Glanced| {
            glanced.may_be_of(self.user())
                || match habits.rules.by_digest(glanced.digest) {
                    None => true,
                    // Whether its sender is ignored, only the event tells.
                    Some(notifies) => notifies && habits.basis.may_ignore(),
                }
        };
        let nums: Vec<_> = page.iter().filter(must_be_read).map(|glanced| glanced.num).collect();
        Ok(self.reader.events(&nums)?.into_iter().map(|event| (event.order, event)).collect())
    }

    /// What the user's push rules say of an event, with the root of the thread that it is in. `None`: it notifies
    /// them of nothing.
    pub fn judge(&self, event: &Arc<StoredEvent>) -> Result<Option<(Outcome, Option<OwnedEventId>)>, SyncError> {
        let subject = Subject::new(&event.pdu);
        let outcome = self.reading.habits.judge(self.reader, event, &subject, self.user(), &self.power);
        outcome.map(|outcome| Ok((outcome.clone(), thread_of(self.reader, event)?))).transpose()
    }

    /// Where the user joined; none if they are not in the room. After many changes of their profile, somewhere
    /// between that and now.
    pub fn joined_at(&self) -> Result<Option<Order>, SyncError> {
        let Some((_, record)) = self.reader.membership(self.user())? else { return Ok(None) };
        if record.membership != Membership::Join {
            return Ok(None);
        }
        let (mut next, mut joined) = (Some(record.event), None);
        for _ in 0..JOIN_STEPS_MAX {
            let Some(event) = next.map(|num| self.reader.event(num)).transpose()?.flatten() else { break };
            if !crate::assemble::says_join(&event.pdu) {
                break;
            }
            joined = Some(event.order);
            next = event.record.replaces;
        }
        Ok(joined)
    }
}

impl Kind {
    fn of(event: &StoredEvent, outcome: &Outcome) -> Self {
        Self { highlight: outcome.highlight, call: *event.pdu.kind() == TimelineEventType::CallInvite }
    }
}

impl Unread {
    fn add(&mut self, glanced: &Glanced, thread: Option<OwnedEventId>, kind: Kind) {
        let thread = match thread {
            None => None,
            Some(root) => {
                let at = self.threads.iter().position(|known| *known == root).unwrap_or_else(|| {
                    self.threads.push(root);
                    self.threads.len() - 1
                });
                // There are at most as many threads as events.
                u16::try_from(at).ok()
            }
        };
        self.events.push(UnreadEvent { order: glanced.order, num: glanced.num, thread, kind });
    }

    /// Takes out what the user has read, or nobody can read any more. If that is anything, it is so since then.
    fn keep_if(&mut self, at: Stamp, keep: impl Fn(&UnreadEvent, Option<&OwnedEventId>) -> bool) {
        let (before, threads) = (self.events.len(), &self.threads);
        self.events.retain(|event| {
            let thread = event.thread.and_then(|thread| threads.get(usize::from(thread)));
            keep(event, thread)
        });
        if self.events.len() < before {
            self.since = self.since.max(at);
        }
    }

    /// Keeps within [`UNREAD_MAX`], and forgets threads that there is nothing of any more.
    fn shrink(&mut self) {
        let excess = self.events.len().saturating_sub(UNREAD_MAX);
        self.events.drain(..excess);
        let used: HashSet<u16> = self.events.iter().filter_map(|event| event.thread).collect();
        if used.len() == self.threads.len() {
            return;
        }
        let (mut kept, mut moved) = (Vec::with_capacity(used.len()), HashMap::new());
        for (at, root) in (0_u16..).zip(std::mem::take(&mut self.threads)) {
            if used.contains(&at) {
                moved.insert(at, u16::try_from(kept.len()).unwrap_or(u16::MAX));
                kept.push(root);
            }
        }
        self.threads = kept;
        for event in &mut self.events {
            event.thread = event.thread.and_then(|thread| moved.get(&thread).copied());
        }
    }
}

/// The stamp of a live event; backfilled ones were there before everything.
fn stamp_of(order: Order) -> Stamp {
    Stamp(u64::try_from(order.0).unwrap_or_default())
}
