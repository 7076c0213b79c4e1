//! How much of a room a user has not read: counted from the timeline, the user's receipts and their push rules,
//! when somebody asks. Nothing is written for it but the receipts.
//!
//! What was counted is kept, in bounded memory, and carried forward: a sync that follows another looks only at
//! what has happened in between. The first one looks back from the end of the timeline to where the user has read
//! or joined, but no further than [`EVENTS_MAX`] events; of those it reads the ones whose place in the timeline
//! doesn't say enough, at most [`READS_MAX`]. So counts can be too small, and are never too large.

mod count;
mod judge;
mod reading;

pub(crate) use count::Room;
pub use judge::Judge;
pub use reading::Reading;

use base::{EventNum, Order, RoomNum, Stamp};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use ruma::{OwnedEventId, OwnedUserId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many events are looked at to count what a user has not read of a room.
pub const EVENTS_MAX: usize = 2_000;
/// How many of them are read.
pub const READS_MAX: usize = 500;
/// How many unread events of a room are kept of a user; beyond, the oldest are not counted any more.
pub const UNREAD_MAX: usize = 1_000;
/// How many new events are looked at one by one to bring counts up to date; after more, counting begins anew.
const CARRIED_MAX: usize = 500;

/// How many events notify a user that they have not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub notifications: u64,
    /// Those that are highlighted.
    pub highlights: u64,
    /// Those that are calls.
    pub calls: u64,
}

impl Counts {
    fn add(&mut self, kind: Kind) {
        self.notifications += 1;
        self.highlights += u64::from(kind.highlight);
        self.calls += u64::from(kind.call);
    }
}

/// What a user has not read of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomCounts {
    /// In the main timeline.
    pub main: Counts,
    /// In threads, by their roots; only those in which there is something.
    pub threads: BTreeMap<OwnedEventId, Counts>,
    /// Since when it is so: a client that has synced up to here or later knows the counts.
    pub since: Stamp,
}

impl RoomCounts {
    /// In the room as a whole, for clients that don't know of threads.
    #[must_use]
    pub fn total(&self) -> Counts {
        self.threads.values().fold(self.main, |total, counts| Counts {
            notifications: total.notifications + counts.notifications,
            highlights: total.highlights + counts.highlights,
            calls: total.calls + counts.calls,
        })
    }
}

/// What was counted, for all users who asked lately.
pub struct Counted {
    unread: Cache<(OwnedUserId, RoomNum), Arc<Unread>, Bytes>,
    readings: reading::Readings,
}

/// The events of a room that notify a user and that they have not read.
#[derive(Clone, Debug)]
struct Unread {
    /// By what it was counted.
    basis: reading::Basis,
    /// Up to where the timeline was looked at.
    up_to: Stamp,
    /// When the user's receipts last moved, as far as that was taken into account.
    read_at: Option<Stamp>,
    /// Since when it is so.
    since: Stamp,
    /// Oldest first.
    events: Vec<UnreadEvent>,
    /// The roots of threads that events are in.
    threads: Vec<OwnedEventId>,
}

#[derive(Clone, Copy, Debug)]
struct UnreadEvent {
    order: Order,
    num: EventNum,
    /// The index of the thread; none in the main timeline.
    thread: Option<u16>,
    kind: Kind,
}

/// What is counted of an event beside that it notifies.
#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    highlight: bool,
    call: bool,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<(OwnedUserId, RoomNum), Arc<Unread>> for Bytes {
    fn weight(&self, (user, _): &(OwnedUserId, RoomNum), unread: &Arc<Unread>) -> u64 {
        let threads: usize = unread.threads.iter().map(|root| root.as_str().len() + size_of::<OwnedEventId>()).sum();
        let bytes = 256 + user.as_str().len() + unread.events.len() * size_of::<UnreadEvent>() + threads;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl Counted {
    /// Nothing was counted yet.
    pub fn new(bytes_max: usize, which: rules::push::Predefined) -> Self {
        // An estimate only: the weight is what bounds the cache.
        let items = (bytes_max / 512).max(16);
        let bytes_max = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        Self { unread: Cache::with_weighter(items, bytes_max, Bytes), readings: reading::Readings::new(which) }
    }
}

impl Unread {
    fn counts(&self) -> RoomCounts {
        let mut counts = RoomCounts { since: self.since, ..RoomCounts::default() };
        for event in &self.events {
            let thread = event.thread.and_then(|thread| self.threads.get(usize::from(thread)));
            match thread {
                None => counts.main.add(event.kind),
                Some(root) => counts.threads.entry(root.clone()).or_default().add(event.kind),
            }
        }
        counts
    }
}
