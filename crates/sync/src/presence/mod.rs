//! Who is there, and who is told of it.
//!
//! Presence is volatile: it is kept in memory of those who are there or were until lately, and only the status
//! message and the time of the last activity outlive a restart. A change is told to those active users who share
//! a room with the user, through what is noted with them (`crate::active`); it costs as much as there are such
//! users, whatever the number of members. Three limits keep that small: rooms of more than
//! [`Config::presence_members_max`](crate::Config) members tell nobody's presence, a change is told to at most
//! [`LISTENERS_MAX`] users at once, and changes are told at most once a second, those of a user in between as one.

mod state;
mod tell;

pub use state::{Presence, PresenceState};

use crate::active::Active;
use crate::{Inner, SyncError, Syncs};
use base::RoomNum;
use records::{Membership, PresenceRecord, View};
use ruma::{DeviceId, OwnedDeviceId, UserId};
use serde_json::json;
use state::Users;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many active users are told of a change at once; others see it when they ask.
pub const LISTENERS_MAX: usize = 5_000;
/// How many users' changes are told in one go.
const TOLD_AT_ONCE_MAX: usize = 2_000;
/// The longest status message, in bytes.
const STATUS_BYTES_MAX: usize = 1024;

/// The presence of the users of an agency.
#[derive(Default)]
pub struct Presences(Mutex<Users>);

impl Presences {
    pub fn users(&self) -> MutexGuard<'_, Users> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    /// As the protocol writes it: the content of `m.presence`, and the answer of `GET /presence/{userId}/status`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut content = json!({ "presence": self.state.name() });
        if let Some(content) = content.as_object_mut() {
            if let Some(ago) = self.last_active_ago {
                content.insert("last_active_ago".to_owned(), json!(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)));
            }
            if self.state == PresenceState::Online {
                content.insert("currently_active".to_owned(), json!(self.currently_active));
            }
            if let Some(status) = &self.status {
                content.insert("status_msg".to_owned(), json!(status));
            }
        }
        content.to_string()
    }
}

/// A sync that shows its user as present, for as long as this is kept.
#[must_use]
pub struct Present {
    inner: Arc<Inner>,
    active: Arc<Active>,
    device_id: OwnedDeviceId,
}

impl Drop for Present {
    fn drop(&mut self) {
        let now = self.inner.clock.now();
        self.inner.presence.users().sync_ends(self.active.user(), &self.device_id, now);
        self.active.leave(now);
    }
}

impl Syncs {
    /// A user syncs, as they want to be seen (`set_presence` of `GET /sync`): they are, until what this returns is
    /// dropped and a while after it. `None` if they don't want to be seen, or the agency has no presence.
    ///
    /// # Errors
    ///
    /// [`SyncError::Internal`].
    pub fn present(
        &self,
        user: &UserId,
        device_id: &DeviceId,
        wanted: PresenceState,
    ) -> Result<Option<Present>, SyncError> {
        if !self.0.config.presence || wanted == PresenceState::Offline {
            return Ok(None);
        }
        let now = self.0.clock.now();
        let Some(active) = self.0.active.enter(user, now, || self.0.records.view())? else { return Ok(None) };
        let present = Present { inner: self.0.clone(), active, device_id: device_id.to_owned() };
        let stored = self.0.stored_presence(user)?;
        self.0.presence.users().sync_begins(user, device_id, wanted, stored, now);
        self.0.typed.notify_one();
        Ok(Some(present))
    }

    /// A user says what they are, and why. Without presence in the agency, nothing comes of it.
    ///
    /// # Errors
    ///
    /// [`SyncError::InvalidParam`] if the status message is too long.
    pub fn set_presence(
        &self,
        user: &UserId,
        device_id: &DeviceId,
        state: PresenceState,
        status: Option<String>,
    ) -> Result<(), SyncError> {
        if status.as_ref().is_some_and(|status| status.len() > STATUS_BYTES_MAX) {
            return Err(SyncError::InvalidParam("the status message is too long"));
        }
        self.0.change_presence(user, |users, stored, now| users.say(user, device_id, state, status, stored, now))
    }

    /// A user did something, so they are there.
    ///
    /// # Errors
    ///
    /// [`SyncError::Internal`].
    pub fn acts(&self, user: &UserId, device_id: &DeviceId) -> Result<(), SyncError> {
        self.0.change_presence(user, |users, stored, now| users.acts(user, device_id, stored, now))
    }

    /// The presence of a user, for other servers, which show it to those who share a room with the user.
    ///
    /// # Errors
    ///
    /// [`SyncError::Internal`].
    pub fn presence_for_servers(&self, user: &UserId) -> Result<Presence, SyncError> {
        self.presence(user, user)
    }

    /// The presence of a user, for one who asks: themselves, or somebody who shares a room with them.
    ///
    /// # Errors
    ///
    /// [`SyncError::Forbidden`] for all others.
    pub fn presence(&self, asker: &UserId, user: &UserId) -> Result<Presence, SyncError> {
        let (view, now) = (self.0.records.view(), self.0.clock.now());
        if asker != user && !share_a_room(&view, asker, user)? {
            return Err(SyncError::Forbidden("you are not allowed to see their presence"));
        }
        if !self.0.config.presence {
            return Ok(Presence::offline(PresenceRecord::default(), now));
        }
        let known = self.0.presence.users().show(user, now);
        match known {
            Some(presence) => Ok(presence),
            None => Ok(Presence::offline(view.presence(user)?.unwrap_or_default(), now)),
        }
    }
}

impl Inner {
    fn change_presence(
        &self,
        user: &UserId,
        change: impl FnOnce(&mut Users, PresenceRecord, base::UnixMillis),
    ) -> Result<(), SyncError> {
        if !self.config.presence {
            return Ok(());
        }
        let now = self.clock.now();
        // Whose rooms are not known cannot be told to anybody.
        let Some(active) = self.active.enter(user, now, || self.records.view())? else { return Ok(()) };
        active.leave(now);
        let stored = self.stored_presence(user)?;
        change(&mut self.presence.users(), stored, now);
        self.typed.notify_one();
        Ok(())
    }

    fn stored_presence(&self, user: &UserId) -> Result<PresenceRecord, SyncError> {
        if self.presence.users().knows(user) {
            return Ok(PresenceRecord::default());
        }
        Ok(self.records.view().presence(user)?.unwrap_or_default())
    }
}

/// Whether two users are both in some room.
fn share_a_room(view: &View, first: &UserId, second: &UserId) -> Result<bool, SyncError> {
    let joined = |user: &UserId| -> Result<HashSet<RoomNum>, SyncError> {
        let memberships = view.memberships(user)?.into_iter();
        Ok(memberships
            .filter(|(_, _, record)| record.membership == Membership::Join)
            .map(|(room, _, _)| room)
            .collect())
    };
    Ok(!joined(first)?.is_disjoint(&joined(second)?))
}
