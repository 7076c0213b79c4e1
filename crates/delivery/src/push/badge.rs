//! How much a user has not read, over all of their rooms: counted once, and kept up to date room by room.

use base::RoomNum;
use quick_cache::sync::Cache;
use records::{Membership, Records};
use ruma::{OwnedUserId, UserId};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use sync::{SyncError, Syncs};

/// Of how many users it is remembered what they have not read. At a few hundred bytes each that is some 10 MiB.
const BADGES_MAX: usize = 50_000;

/// What a user has not read, of all rooms together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unread {
    pub messages: u64,
    pub calls: u64,
}

/// What users have not read.
pub(super) struct Badges(Cache<OwnedUserId, Arc<Badge>>);

impl Default for Badges {
    fn default() -> Self {
        Self(Cache::new(BADGES_MAX))
    }
}

#[derive(Default)]
pub(super) struct Badge(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    /// Whether all rooms were counted once.
    whole: bool,
    /// The rooms in which there is something.
    rooms: HashMap<RoomNum, Unread>,
    /// The rooms that have to be counted anew.
    changed: HashSet<RoomNum>,
}

impl Badges {
    /// What is known of a user.
    pub fn of(&self, user: &UserId) -> Arc<Badge> {
        let known = self.0.get_or_insert_with(user, || Ok::<_, std::convert::Infallible>(Arc::default()));
        match known {
            Ok(badge) => badge,
            Err(never) => match never {},
        }
    }

    /// What a user has not read of a room may have changed.
    pub fn changed(&self, user: &UserId, room: RoomNum) {
        if let Some(badge) = self.0.get(user) {
            let mut counted = badge.lock();
            if counted.whole {
                counted.changed.insert(room);
            }
        }
    }

    /// What notifies a user may have changed.
    pub fn forget(&self, user: &UserId) {
        self.0.remove(user);
    }
}

impl Badge {
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether counting looks at one or two rooms, and not at all of them.
    pub fn is_quick(&self) -> bool {
        self.lock().whole
    }

    /// What the user has not read.
    pub fn count(&self, syncs: &Syncs, records: &Records, user: &UserId) -> Result<Unread, SyncError> {
        let mut counted = self.lock();
        // The view is newer than all that was marked as changed until here.
        let view = &records.view();
        let rooms: Vec<RoomNum> = if counted.whole {
            counted.changed.iter().copied().collect()
        } else {
            let memberships = view.memberships(user)?.into_iter();
            memberships.filter(|(_, _, record)| record.membership == Membership::Join).map(|(room, ..)| room).collect()
        };
        for room in rooms {
            let counts = syncs.unread(view, user, room)?;
            let unread = Unread { messages: counts.notifications, calls: counts.calls };
            if unread == Unread::default() {
                counted.rooms.remove(&room);
            } else {
                counted.rooms.insert(room, unread);
            }
        }
        counted.changed.clear();
        counted.whole = true;
        Ok(counted.rooms.values().fold(Unread::default(), |all, room| Unread {
            messages: all.messages.saturating_add(room.messages),
            calls: all.calls.saturating_add(room.calls),
        }))
    }
}
