//! What a user has been notified of, newest first (client-server API, "Listing Notifications"): found in the
//! timelines of their rooms by their push rules, when somebody asks.

use crate::counts::{Reading, Room};
use crate::{SyncError, Syncs};
use base::{EventNum, Order, RoomNum, UnixMillis};
use records::{Membership, ReadState, View};
use rooms::{Glanced, Recipient, RoomReader, StoredEvent};
use rules::client_event::Format;
use rules::push::Outcome;
use ruma::events::room::member::MembershipState;
use ruma::{DeviceId, OwnedRoomId, UserId};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use store::Direction;
use sync_core::PageToken;

/// The most notifications that one answer has.
pub const NOTIFICATIONS_MAX: usize = 100;
/// How many events are looked at for one answer; it may have less than was asked for, and a token to go on.
const EVENTS_MAX: usize = 2_000;
/// How many events of a room are looked at in one go.
const PAGE: usize = 20;

/// Which notifications are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All.
    All,
    /// Only highlighted ones.
    Highlights,
}

/// An event that a user was notified of.
#[derive(Debug)]
pub struct Notification {
    /// What was to be done about it.
    pub actions: Vec<Value>,
    /// The event, as clients use it.
    pub event: Box<RawValue>,
    /// Whether the user has read it.
    pub read: bool,
    /// The room.
    pub room_id: OwnedRoomId,
    /// When it was sent.
    pub at: UnixMillis,
}

/// A page of notifications.
#[derive(Debug)]
pub struct Notifications {
    /// Newest first.
    pub notifications: Vec<Notification>,
    /// Where to go on; none at the end.
    pub next: Option<PageToken>,
}

/// An event that notifies a user and that they have not read.
#[derive(Clone, Debug)]
pub struct Missed {
    /// Its place.
    pub order: Order,
    /// Its room.
    pub room: RoomNum,
    /// Its number.
    pub event: EventNum,
    /// When it was sent.
    pub sent_at: UnixMillis,
    /// What is to be done about it.
    pub outcome: Outcome,
}

/// A room from which notifications are taken.
struct Source {
    reader: RoomReader,
    /// Where the user joined: what is before is not theirs.
    joined: Order,
    read: ReadState,
    /// The next events, newest first.
    page: VecDeque<Glanced>,
    /// Whether there is nothing before the page.
    is_last: bool,
}

impl Syncs {
    /// What a user has been notified of in the rooms that they are in, from a place on backwards, at most
    /// `notifications_max`, which [`NOTIFICATIONS_MAX`] bounds.
    ///
    /// # Errors
    ///
    /// [`SyncError::Internal`].
    pub fn notifications(
        &self,
        user: &UserId,
        device_id: &DeviceId,
        from: Option<PageToken>,
        notifications_max: usize,
        wanted: Wanted,
    ) -> Result<Notifications, SyncError> {
        let view = self.0.records.view();
        let reading = self.0.reading(&view, user)?;
        let recipient = Recipient { user_id: user, device_id: Some(device_id), now: self.0.clock.now() };
        let notifications_max = notifications_max.clamp(1, NOTIFICATIONS_MAX);
        let up_to = from.map_or(Order::from(view.stamp()), |token| token.0);
        let (mut newest, mut sources) = (newest_of_rooms(&view, user, up_to)?, HashMap::new());
        let mut found = Vec::new();
        for _ in 0..EVENTS_MAX {
            let Some((order, room)) = newest.pop() else {
                return Ok(Notifications { notifications: found, next: None });
            };
            let source = match sources.entry(room) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let Some(source) = self.source(&view, &reading, room, up_to)? else { continue };
                    place.insert(source)
                }
            };
            let Some(glanced) = source.next()? else { continue };
            newest.extend(source.page.front().map(|next| (next.order, room)));
            let Some(notification) = source.notification(&reading, glanced, recipient, wanted)? else { continue };
            found.push(notification);
            if found.len() >= notifications_max {
                let next = (!newest.is_empty()).then(|| PageToken(Order(order.0.saturating_sub(1))));
                return Ok(Notifications { notifications: found, next });
            }
        }
        let next = newest.peek().map(|(order, _)| PageToken(*order));
        Ok(Notifications { notifications: found, next })
    }

    /// What notifies a user in the rooms that they are in, came after a place and is not read: the newest, at most
    /// `missed_max`, oldest first. The newest 2,000 events are looked at.
    ///
    /// # Errors
    ///
    /// [`SyncError::Internal`].
    pub fn missed(
        &self,
        view: &View,
        user: &UserId,
        after: Order,
        missed_max: usize,
    ) -> Result<Vec<Missed>, SyncError> {
        let reading = self.0.reading(view, user)?;
        let up_to = Order::from(view.stamp());
        let (mut newest, mut sources) = (newest_of_rooms(view, user, up_to)?, HashMap::new());
        let mut missed = Vec::new();
        for _ in 0..EVENTS_MAX {
            let Some((order, room)) = newest.pop().filter(|(order, _)| *order > after) else { break };
            let source = match sources.entry(room) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let Some(source) = self.source(view, &reading, room, up_to)? else { continue };
                    place.insert(source)
                }
            };
            let Some(glanced) = source.next()? else { continue };
            newest.extend(source.page.front().map(|next| (next.order, room)));
            let Some((event, outcome, false)) = source.judged(&reading, glanced, Wanted::All)? else { continue };
            let sent_at = UnixMillis(event.pdu.origin_server_ts().0.into());
            missed.push(Missed { order, room, event: event.num, sent_at, outcome });
            if missed.len() >= missed_max {
                break;
            }
        }
        missed.reverse();
        Ok(missed)
    }

    fn source(&self, view: &View, reading: &Reading, room: RoomNum, up_to: Order) -> Result<Option<Source>, SyncError> {
        let Some(reader) = self.0.rooms.reader(view, room)? else { return Ok(None) };
        let Some(joined) = Room::new(&reader, reading).joined_at()? else { return Ok(None) };
        let read = view.read_state(&reading.user, room)?.map(|(_, read)| read).unwrap_or_default();
        let page: VecDeque<_> = reader.glances(joined, up_to, Direction::Backward, PAGE)?.into();
        let is_last = page.len() < PAGE;
        Ok(Some(Source { reader, joined, read, page, is_last }))
    }
}

/// The rooms that a user is in, each with the place of its newest event up to another place.
fn newest_of_rooms(view: &View, user: &UserId, up_to: Order) -> Result<BinaryHeap<(Order, RoomNum)>, SyncError> {
    let mut newest = BinaryHeap::new();
    for (room, _, record) in view.memberships(user)? {
        if record.membership == Membership::Join {
            newest.extend(view.timeline_last(room, up_to)?.map(|last| (last.order, room)));
        }
    }
    Ok(newest)
}

impl Source {
    fn next(&mut self) -> Result<Option<Glanced>, SyncError> {
        let Some(next) = self.page.pop_front() else { return Ok(None) };
        if self.page.is_empty() && !self.is_last {
            let before = Order(next.order.0.saturating_sub(1));
            self.page = self.reader.glances(self.joined, before, Direction::Backward, PAGE)?.into();
            self.is_last = self.page.len() < PAGE;
        }
        Ok(Some(next))
    }

    /// An event that notifies the user as they want to know of it, what is to be done about it, and whether they
    /// have read it.
    fn judged(
        &self,
        reading: &Reading,
        glanced: Glanced,
        wanted: Wanted,
    ) -> Result<Option<(Arc<StoredEvent>, Outcome, bool)>, SyncError> {
        let by_digest = reading.habits.rules.by_digest(glanced.digest);
        if by_digest == Some(false) || (by_digest == Some(true) && wanted == Wanted::Highlights) {
            return Ok(None);
        }
        let Some(event) = self.reader.event(glanced.num)? else { return Ok(None) };
        let Some((outcome, thread)) = Room::new(&self.reader, reading).judge(&event)? else { return Ok(None) };
        if wanted == Wanted::Highlights && !outcome.highlight {
            return Ok(None);
        }
        let read = self.read.has_read(event.order, thread.as_ref().map(|root| root.as_str()));
        Ok(Some((event, outcome, read)))
    }

    fn notification(
        &self,
        reading: &Reading,
        glanced: Glanced,
        recipient: Recipient<'_>,
        wanted: Wanted,
    ) -> Result<Option<Notification>, SyncError> {
        let Some((event, outcome, read)) = self.judged(reading, glanced, wanted)? else { return Ok(None) };
        let joined = Some(&MembershipState::Join);
        Ok(Some(Notification {
            actions: outcome.actions,
            event: self.reader.client_event(&event, recipient, joined, Format::WithoutRoomId)?,
            read,
            room_id: self.reader.room_id().to_owned(),
            at: UnixMillis(event.pdu.origin_server_ts().0.into()),
        }))
    }
}
