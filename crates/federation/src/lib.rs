//! What takes other servers: entering rooms through them, fetching what is missing of their events, asking them about
//! users and rooms, and telling them what happens here.
//!
//! [`Federation`] is the handle. How requests find their way and are signed is [`Peers`]'s matter, whose signatures
//! are on events [`EventKeys`]'s; what other servers ask of this one is answered by the crate of the server-server API,
//! which hands events in by [`Federation::receive`]. The network is never awaited inside a room: what a room misses is
//! fetched here and handed in.

mod ask;
mod backfill;
mod candidates;
mod devices;
mod error;
mod fetch;
mod invite;
mod join;
mod knock;
mod leave;
mod media;
mod missing;
mod order;
mod peers;
mod query;
mod receive;
mod sending;
mod template;
#[cfg(test)]
mod tests;

pub use self::devices::{ClaimedOf, RemoteKeys};
pub use error::FederationError;
pub use join::Joining;
pub use media::PeerMedia;
pub use peers::{Call, EventKeys, NoPeers, PeerError, Peers};
pub use query::{EventAt, Resolved};
pub use receive::{Outcome, Outcomes};
pub use remote::BackOff;

use ::devices::Devices;
use base::{Clock, Random};
use dashmap::DashMap;
use records::Records;
use rooms::Rooms;
use rules::SigningKey;
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};
use std::sync::{Arc, Weak};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// What one agency has to do with other servers. Cheap to clone.
#[derive(Clone)]
pub struct Federation(Arc<Inner>);

struct Inner {
    records: Records,
    rooms: Rooms,
    devices: Devices,
    key: Arc<SigningKey>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    peers: Arc<dyn Peers>,
    keys: Arc<dyn EventKeys>,
    outbox: sending::Outbox,
    /// One at a time: joins of a room, and what one server sends to a room.
    locks: DashMap<(OwnedRoomId, Option<OwnedServerName>), Weak<Mutex<()>>>,
}

/// What [`Federation::new`] works with.
pub struct Parts {
    /// What is stored.
    pub records: Records,
    /// The rooms.
    pub rooms: Rooms,
    /// The devices and keys of this server's users.
    pub devices: Devices,
    /// The key of this server.
    pub key: Arc<SigningKey>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The way to other servers.
    pub peers: Arc<dyn Peers>,
    /// The keys of other servers.
    pub keys: Arc<dyn EventKeys>,
}

/// How many locks are kept before those that nobody holds are dropped.
const LOCKS_MAX: usize = 1_000;

impl Federation {
    /// The other servers, as one agency sees them.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { records, rooms, devices, key, clock, random, peers, keys } = parts;
        let (locks, outbox) = (DashMap::new(), sending::Outbox::default());
        Self(Arc::new(Inner { records, rooms, devices, key, clock, random, peers, keys, outbox, locks }))
    }

    /// The name of this server.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        self.0.rooms.server_name()
    }

    /// Whether another server than this one is meant.
    #[must_use]
    pub fn is_remote(&self, server: &ServerName) -> bool {
        server != self.server_name()
    }

    /// Waits until nobody else does the same to a room.
    async fn lock(&self, room_id: &RoomId, server: Option<&ServerName>) -> OwnedMutexGuard<()> {
        let locks = &self.0.locks;
        if locks.len() > LOCKS_MAX {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = {
            let mut entry = locks.entry((room_id.to_owned(), server.map(ToOwned::to_owned))).or_default();
            match entry.upgrade() {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(Mutex::new(()));
                    *entry = Arc::downgrade(&lock);
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}
