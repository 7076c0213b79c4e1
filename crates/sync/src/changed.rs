//! In which of a user's rooms something happened.

use crate::active::{Active, Noted};
use crate::device_lists::DeviceNews;
use crate::{Inner, SyncError};
use base::{RoomNum, Stamp};
use records::{LogEntry, Membership, View};
use ruma::UserId;
use std::collections::{BTreeMap, HashMap};

/// How much of the log is read to find what happened. Beyond, all rooms of the user are looked at.
pub const LOG_READ_MAX: usize = 1_000;

/// What may have happened in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Events, or a change of membership.
    pub events: bool,
    /// Receipts.
    pub receipts: bool,
    /// Changes of membership.
    pub members: bool,
}

impl News {
    /// Anything.
    pub const ANY: Self = Self { events: true, receipts: true, members: true };
}

/// Where to look for what happened to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// In all rooms, and in what is of no room.
    Anywhere,
    /// In these rooms only.
    Here {
        /// The rooms.
        rooms: BTreeMap<RoomNum, News>,
        /// Whether something happened that concerns the user and is of no room: account data, messages to devices.
        own: bool,
        /// Whose devices changed.
        devices: DeviceNews,
    },
}

impl Changed {
    /// Whether nothing happened.
    pub fn is_nothing(&self) -> bool {
        match self {
            Self::Anywhere => false,
            Self::Here { rooms, own, devices } => rooms.is_empty() && !own && *devices == DeviceNews::default(),
        }
    }
}

impl Inner {
    /// Where to look for what happened to a user after `since`.
    pub fn changed(&self, view: &View, user: &UserId, active: &Active, since: Stamp) -> Result<Changed, SyncError> {
        let followed = self.active.followed();
        let noted = active.noted(followed, since);
        let mut rooms: BTreeMap<RoomNum, News> = BTreeMap::new();
        let mut is_own = false;
        let mut after = since;
        let mut devices = DeviceNews::default();
        if let Noted { followed, rooms: Some((events, receipts)), members: Some(members), device_lists, own } = noted {
            for room in events {
                rooms.entry(room).or_default().events = true;
            }
            for room in receipts {
                rooms.entry(room).or_default().receipts = true;
            }
            for room in members {
                rooms.entry(room).or_default().members = true;
            }
            devices = device_lists.map_or(DeviceNews::Anybody, DeviceNews::Users);
            is_own = own;
            after = after.max(followed);
        }
        if after >= view.stamp() {
            return Ok(Changed::Here { rooms, own: is_own, devices });
        }
        if after < view.log_trimmed()? {
            return Ok(Changed::Anywhere);
        }
        let entries = view.log(after, view.stamp(), self.log_read_max)?;
        if entries.len() >= self.log_read_max {
            return Ok(Changed::Anywhere);
        }
        let mut joined = HashMap::new();
        let mut is_joined = |room: RoomNum| -> Result<bool, SyncError> {
            if let Some(joined) = joined.get(&room) {
                return Ok(*joined);
            }
            let record = view.membership(user, room)?;
            let is_joined = record.is_some_and(|(_, record)| record.membership == Membership::Join);
            joined.insert(room, is_joined);
            Ok(is_joined)
        };
        for (_, entry) in entries {
            match entry {
                LogEntry::Event { room, member, .. } => {
                    if member.as_deref() == Some(user) || is_joined(room)? {
                        let news = rooms.entry(room).or_default();
                        news.events = true;
                        news.members |= member.is_some();
                    }
                }
                LogEntry::Membership { room, user: member } => {
                    if member == user {
                        rooms.entry(room).or_default().events = true;
                    }
                    if member == user || is_joined(room)? {
                        rooms.entry(room).or_default().members = true;
                    }
                }
                LogEntry::Receipt { room, user: reader, private } => {
                    if reader == user || (!private && is_joined(room)?) {
                        rooms.entry(room).or_default().receipts = true;
                    }
                }
                LogEntry::AccountData { user: owner } | LogEntry::ThreadSubscription { user: owner } => {
                    is_own |= owner == user;
                }
                LogEntry::ToDevice { users } => is_own |= users.iter().any(|addressee| addressee == user),
                LogEntry::KeysSigned { user: signer, .. } => is_own |= signer == user,
                LogEntry::DeviceList { user } => devices.push(user),
                LogEntry::Forgotten { .. }
                | LogEntry::Pushers { .. }
                | LogEntry::Backfilled { .. }
                | LogEntry::Purged { .. } => {}
            }
        }
        Ok(Changed::Here { rooms, own: is_own, devices })
    }
}
