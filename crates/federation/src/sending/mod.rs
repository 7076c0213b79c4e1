//! Telling other servers what happens here (server-server API, "Transactions"): a follower of the log that gives each
//! server what is for it, in order, in batches, and again for as long as it takes.
//!
//! Nothing is written for a server that answers. The cursor of the follower says up to where everything was given to
//! the servers' queues; a server that does not have all of that then has a row which says up to where it has. What does
//! not fit into memory is read again from the log, or, after a long absence, from the rooms that are shared: then a
//! server gets the last event of each, and fetches what it missed as it likes.

mod catch_up;
mod destination;
mod edus;
mod follow;
mod route;
mod transaction;

use crate::Federation;
use base::{EventNum, RoomNum, Stamp, UnixMillis};
use dashmap::DashMap;
use destination::Destination;
use ruma::{OwnedServerName, OwnedUserId, ServerName};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, Semaphore};

/// The name of the follower.
pub(crate) const FOLLOWER: &str = "federation";
/// How many transactions are on their way at the same time, to different servers.
const SENDING_MAX: usize = 64;

/// Something that a server is to be told. What exactly is looked up when it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// An event.
    Event(EventNum),
    /// A receipt of a user of this server has moved.
    Receipt { room: RoomNum, user: OwnedUserId },
    /// The devices or keys of a user of this server have changed.
    Devices(OwnedUserId),
    /// Messages to devices, which wait in a table.
    Messages,
}

impl Item {
    /// How much of a transaction it takes, of [`destination::BATCH_WEIGHT_MAX`].
    pub fn weight(&self) -> usize {
        match self {
            Self::Event(_) | Self::Receipt { .. } => 1,
            Self::Devices(_) => 2,
            Self::Messages => 10,
        }
    }
}

/// The queues of all servers.
pub(crate) struct Outbox {
    /// Those that have not everything yet, or had not a moment ago.
    destinations: DashMap<OwnedServerName, Arc<Destination>>,
    /// When those that have failed are tried again.
    waiting: Mutex<BTreeSet<(UnixMillis, OwnedServerName)>>,
    /// Somebody waits for a shorter time than before.
    woken: Notify,
    permits: Arc<Semaphore>,
    /// Up to which stamp everything was given to the queues.
    routed: AtomicU64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            destinations: DashMap::new(),
            waiting: Mutex::default(),
            woken: Notify::new(),
            permits: Arc::new(Semaphore::new(SENDING_MAX)),
            routed: AtomicU64::new(0),
        }
    }
}

impl Outbox {
    fn wait(&self, server: &ServerName, until: UnixMillis) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert((until, server.to_owned()));
        drop(waiting);
        self.woken.notify_one();
    }

    /// Those whose time has come.
    fn due(&self, now: UnixMillis) -> Vec<OwnedServerName> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        while waiting.first().is_some_and(|(at, _)| *at <= now) {
            due.extend(waiting.pop_first().map(|(_, server)| server));
        }
        due
    }

    fn next_due(&self) -> Option<UnixMillis> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.first().map(|(at, _)| *at)
    }
}

impl Federation {
    /// Begins to tell other servers what happens, from where that has stopped. Ends with the last handle of the rooms.
    /// To be called once, within a runtime.
    pub fn start_sending(&self) {
        tokio::spawn(follow::follow(Arc::downgrade(&self.0)));
    }

    /// A server has spoken to this one, so it is there: what waits for it is sent now.
    pub fn heard_from(&self, server: &ServerName) {
        let found = self.0.outbox.destinations.get(server).map(|found| found.clone());
        if let Some(destination) = found
            && destination.is_failing()
        {
            destination.reset();
            self.drive(&destination);
        }
    }

    /// Up to where everything that happened was given to the servers' queues.
    #[must_use]
    pub fn routed(&self) -> Stamp {
        Stamp(self.0.outbox.routed.load(Ordering::SeqCst))
    }

    /// How many servers don't have everything that is for them.
    #[must_use]
    pub fn servers_behind(&self) -> usize {
        self.0.outbox.destinations.iter().filter(|entry| !entry.is_idle()).count()
    }
}
