//! Who in a room has pushers: known in memory, so that an event costs no look at each member of its room.

use base::RoomNum;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use records::{Membership, RecordsError, View};
use ruma::{OwnedUserId, UserId};
use std::collections::HashMap;
use std::sync::Arc;
use sync::Syncs;

/// How many rows are read at once.
const PAGE: usize = 5_000;

/// A user who has, or had, pushers.
#[derive(Debug)]
struct Listener {
    user: OwnedUserId,
    /// Whether they have any now.
    listens: bool,
    /// Whether they have neither push rules of their own nor anybody whom they ignore.
    plain: bool,
}

/// The users with pushers, and in which rooms they are.
pub(super) struct Audience {
    listeners: Vec<Listener>,
    by_user: HashMap<OwnedUserId, u32>,
    /// Those who have joined a room, in no order; rooms that events came from lately.
    rooms: Cache<RoomNum, Arc<Vec<u32>>, Bytes>,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<RoomNum, Arc<Vec<u32>>> for Bytes {
    fn weight(&self, _: &RoomNum, members: &Arc<Vec<u32>>) -> u64 {
        u64::try_from(64 + 4 * members.len()).unwrap_or(u64::MAX)
    }
}

/// Somebody who listens in a room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub user: &'a UserId,
    pub plain: bool,
}

impl Audience {
    /// Those who have pushers at a view.
    pub fn read(view: &View, syncs: &Syncs, bytes_max: usize) -> Result<Self, RecordsError> {
        let items = (bytes_max / 128).clamp(16, 1 << 20);
        let rooms = Cache::with_weighter(items, u64::try_from(bytes_max).unwrap_or(u64::MAX), Bytes);
        let mut audience = Self { listeners: Vec::new(), by_user: HashMap::new(), rooms };
        let mut after: Option<OwnedUserId> = None;
        loop {
            let users = view.users_with_pushers(after.as_deref(), PAGE)?;
            let Some(last) = users.last().cloned() else { return Ok(audience) };
            for user in users {
                audience.add(view, syncs, &user)?;
            }
            after = Some(last);
        }
    }

    fn add(&mut self, view: &View, syncs: &Syncs, user: &UserId) -> Result<u32, RecordsError> {
        let plain = syncs.has_plain_habits(view, user)?;
        if let Some(index) = self.by_user.get(user).copied() {
            if let Some(listener) = self.listener_mut(index) {
                listener.listens = true;
                listener.plain = plain;
            }
            return Ok(index);
        }
        let index = u32::try_from(self.listeners.len()).unwrap_or(u32::MAX);
        self.listeners.push(Listener { user: user.to_owned(), listens: true, plain });
        self.by_user.insert(user.to_owned(), index);
        Ok(index)
    }

    fn listener(&self, index: u32) -> Option<&Listener> {
        self.listeners.get(usize::try_from(index).ok()?)
    }

    fn listener_mut(&mut self, index: u32) -> Option<&mut Listener> {
        self.listeners.get_mut(usize::try_from(index).ok()?)
    }

    /// Whether a user has pushers.
    pub fn has(&self, user: &UserId) -> bool {
        self.member(user).is_some()
    }

    /// A user who has pushers.
    pub fn member(&self, user: &UserId) -> Option<Member<'_>> {
        let listener = self.by_user.get(user).and_then(|index| self.listener(*index))?;
        listener.listens.then_some(Member { user: &listener.user, plain: listener.plain })
    }

    /// A user's pushers changed: whether there are any now.
    pub fn set_listens(
        &mut self,
        view: &View,
        syncs: &Syncs,
        user: &UserId,
        listens: bool,
    ) -> Result<(), RecordsError> {
        if listens == self.has(user) {
            return Ok(());
        }
        if !listens {
            // Rooms keep them, and pass over them.
            if let Some(listener) = self.by_user.get(user).copied().and_then(|index| self.listener_mut(index)) {
                listener.listens = false;
            }
            return Ok(());
        }
        let known = self.by_user.contains_key(user);
        let index = self.add(view, syncs, user)?;
        if !known {
            for (room, _, record) in view.memberships(user)? {
                if record.membership == Membership::Join {
                    self.change_room(room, index, true);
                }
            }
        }
        Ok(())
    }

    /// A user's push rules, or whom they ignore, may have changed.
    pub fn habits_changed(&mut self, view: &View, syncs: &Syncs, user: &UserId) -> Result<(), RecordsError> {
        if let Some(index) = self.by_user.get(user).copied() {
            let plain = syncs.has_plain_habits(view, user)?;
            if let Some(listener) = self.listener_mut(index) {
                listener.plain = plain;
            }
        }
        Ok(())
    }

    /// A user joined a room, or is not in it any more.
    pub fn member_changed(&mut self, room: RoomNum, user: &UserId, joined: bool) {
        if let Some(index) = self.by_user.get(user).copied() {
            self.change_room(room, index, joined);
        }
    }

    fn change_room(&mut self, room: RoomNum, index: u32, joined: bool) {
        let Some(members) = self.rooms.get(&room) else { return };
        let at = members.iter().position(|member| *member == index);
        let mut changed = match (at, joined) {
            (None, true) | (Some(_), false) => members.as_ref().clone(),
            _ => return,
        };
        match at {
            None => changed.push(index),
            Some(at) => {
                changed.swap_remove(at);
            }
        }
        self.rooms.insert(room, Arc::new(changed));
    }

    /// Those who have joined a room and have pushers, as the log says so far; a room of which nothing is known yet is
    /// read.
    pub fn of_room(&mut self, view: &View, room: RoomNum) -> Result<Arc<Vec<u32>>, RecordsError> {
        if let Some(members) = self.rooms.get(&room) {
            return Ok(members.clone());
        }
        let mut members = Vec::new();
        let mut after: Option<OwnedUserId> = None;
        loop {
            let page = view.room_members(room, Membership::Join, after.as_deref(), PAGE)?;
            let full = page.len() == PAGE;
            members.extend(page.iter().filter_map(|(user, _)| self.by_user.get(user).copied()));
            after = page.into_iter().next_back().map(|(user, _)| user);
            if !full {
                break;
            }
        }
        let members = Arc::new(members);
        self.rooms.insert(room, members.clone());
        Ok(members)
    }

    /// One of those whom [`Audience::of_room`] answers, if they still have pushers.
    pub fn at(&self, index: u32) -> Option<Member<'_>> {
        let listener = self.listener(index).filter(|listener| listener.listens)?;
        Some(Member { user: &listener.user, plain: listener.plain })
    }
}
