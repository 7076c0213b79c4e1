//! Who is typing where. Only in memory: a restart forgets it, and nobody minds.

use crate::volatile::Volatile;
use base::{RoomNum, UnixMillis};
use ruma::{OwnedUserId, UserId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long somebody is typing who does not say for how long.
pub const TYPING_DEFAULT: Duration = Duration::from_secs(30);
/// The longest time that somebody is typing without saying so again.
pub const TYPING_MAX: Duration = Duration::from_mins(2);
/// How many users are shown typing in one room. Nobody reads a longer list.
const TYPING_USERS_MAX: usize = 50;
/// In how many rooms it is remembered that somebody was typing.
const TYPING_ROOMS_MAX: usize = 10_000;
/// How long a room is remembered in which nobody types any more, so that those who come back are told.
const TYPING_REMEMBERED: Duration = Duration::from_mins(10);

/// The typing users of all rooms, and a count of their changes.
pub struct Typing(Mutex<State>);

struct State {
    volatile: Arc<Volatile>,
    rooms: HashMap<RoomNum, Room>,
    /// The rooms by the count of their last change.
    changes: BTreeMap<u64, RoomNum>,
    /// The earliest time at which somebody stops typing unless they go on, if anybody types.
    expires: Option<UnixMillis>,
}

struct Room {
    changed: u64,
    changed_at: UnixMillis,
    users: BTreeMap<OwnedUserId, UnixMillis>,
}

impl Typing {
    /// Nobody is typing; changes are counted together with others that are volatile.
    pub fn new(volatile: Arc<Volatile>) -> Self {
        Self(Mutex::new(State { volatile, rooms: HashMap::new(), changes: BTreeMap::new(), expires: None }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody types until a time, or (`None`) has stopped. Answers the count of the change, if the list of
    /// the room's typing users changed.
    pub fn set(&self, room: RoomNum, user: &UserId, until: Option<UnixMillis>, now: UnixMillis) -> Option<u64> {
        let mut state = self.state();
        let known = state.rooms.get(&room);
        let listed = known.is_some_and(|room| room.users.contains_key(user));
        match until {
            None if !listed => return None,
            Some(_) if known.is_some_and(|room| !listed && room.users.len() >= TYPING_USERS_MAX) => return None,
            _ => {}
        }
        if let Some(until) = until {
            state.expires = Some(state.expires.map_or(until, |expires| expires.min(until)));
        }
        let entry = state.rooms.entry(room);
        let entry = entry.or_insert_with(|| Room { changed: 0, changed_at: now, users: BTreeMap::new() });
        match until {
            Some(until) => drop(entry.users.insert(user.to_owned(), until)),
            None => drop(entry.users.remove(user)),
        }
        // Somebody who goes on typing changes nothing for the others.
        (listed != until.is_some()).then(|| state.changed(room, now))
    }

    /// Whether somebody's time is up, so that [`Typing::expire`] has something to do.
    pub fn is_due(&self, now: UnixMillis) -> bool {
        self.state().expires.is_some_and(|expires| expires <= now)
    }

    /// Whether anybody types.
    pub fn is_anybody(&self) -> bool {
        self.state().expires.is_some()
    }

    /// Removes those whose time is up, and forgets rooms where nobody types for long. Answers the rooms whose
    /// lists changed, with the counts of the changes.
    pub fn expire(&self, now: UnixMillis) -> Vec<(RoomNum, u64)> {
        let mut state = self.state();
        let mut changed = Vec::new();
        let mut earliest: Option<UnixMillis> = None;
        for (num, room) in &mut state.rooms {
            let before = room.users.len();
            room.users.retain(|_, until| *until > now);
            if room.users.len() < before {
                changed.push(*num);
            }
            if let Some(until) = room.users.values().min() {
                earliest = Some(earliest.map_or(*until, |earliest| earliest.min(*until)));
            }
        }
        state.expires = earliest;
        let changed = changed.into_iter().map(|room| (room, state.changed(room, now))).collect();
        state.forget(now);
        changed
    }

    /// The rooms whose lists changed after a count.
    pub fn changed_after(&self, count: u64) -> Vec<RoomNum> {
        let state = self.state();
        state.changes.range(count.saturating_add(1)..).map(|(_, room)| *room).collect()
    }

    /// Who types in a room, and the count of the list's last change.
    pub fn users(&self, room: RoomNum) -> Option<(u64, Vec<OwnedUserId>)> {
        let state = self.state();
        state.rooms.get(&room).map(|room| (room.changed, room.users.keys().cloned().collect()))
    }
}

impl State {
    fn changed(&mut self, room: RoomNum, now: UnixMillis) -> u64 {
        let count = self.volatile.next();
        if let Some(entry) = self.rooms.get_mut(&room) {
            self.changes.remove(&entry.changed);
            self.changes.insert(count, room);
            (entry.changed, entry.changed_at) = (count, now);
        }
        if self.rooms.len() > TYPING_ROOMS_MAX {
            self.forget(now);
        }
        count
    }

    fn forget(&mut self, now: UnixMillis) {
        while let Some((&count, &room)) = self.changes.first_key_value() {
            let Some(entry) = self.rooms.get(&room) else {
                self.changes.remove(&count);
                continue;
            };
            let idle = entry.users.is_empty() && now.since(entry.changed_at) >= TYPING_REMEMBERED;
            if !idle && self.rooms.len() <= TYPING_ROOMS_MAX {
                return;
            }
            self.changes.remove(&count);
            self.rooms.remove(&room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruma::user_id;

    const ROOM: RoomNum = RoomNum(1);

    fn listed(typing: &Typing) -> Vec<String> {
        typing.users(ROOM).map(|(_, users)| users.iter().map(ToString::to_string).collect()).unwrap_or_default()
    }

    #[test]
    fn a_user_types_until_they_stop_or_their_time_is_up() {
        let typing = Typing::new(Volatile::new(10));
        let (a, b) = (user_id!("@a:x"), user_id!("@b:x"));
        assert_eq!(typing.set(ROOM, a, Some(UnixMillis(100)), UnixMillis(0)), Some(11));
        assert_eq!(typing.set(ROOM, b, Some(UnixMillis(200)), UnixMillis(0)), Some(12));
        assert_eq!(typing.set(ROOM, a, Some(UnixMillis(150)), UnixMillis(50)), None, "still typing");
        assert_eq!(listed(&typing), ["@a:x", "@b:x"]);
        assert_eq!(typing.changed_after(11), [ROOM]);
        assert_eq!(typing.changed_after(12), []);
        assert!(!typing.is_due(UnixMillis(99)));
        assert_eq!(typing.expire(UnixMillis(150)), [(ROOM, 13)]);
        assert_eq!(listed(&typing), ["@b:x"]);
        assert_eq!(typing.set(ROOM, b, None, UnixMillis(160)), Some(14));
        assert_eq!(typing.set(ROOM, b, None, UnixMillis(160)), None);
        assert_eq!(typing.expire(UnixMillis(1000)), []);
        assert!(!typing.is_anybody());
        assert_eq!(typing.changed_after(13), [ROOM], "those who saw somebody type are told that nobody does");
    }

    #[test]
    fn rooms_where_nobody_types_are_forgotten_in_time() {
        let typing = Typing::new(Volatile::new(0));
        typing.set(ROOM, user_id!("@a:x"), Some(UnixMillis(1)), UnixMillis(0));
        typing.expire(UnixMillis(2));
        assert_eq!(typing.changed_after(0), [ROOM]);
        typing.expire(UnixMillis(2).after(TYPING_REMEMBERED));
        assert_eq!(typing.changed_after(0), []);
        assert!(typing.users(ROOM).is_none());
    }

    #[test]
    fn the_rooms_that_are_remembered_are_bounded() {
        let typing = Typing::new(Volatile::new(0));
        for room in 0..=TYPING_ROOMS_MAX as u64 {
            typing.set(RoomNum(room), user_id!("@a:x"), Some(UnixMillis(9)), UnixMillis(0));
        }
        assert_eq!(typing.changed_after(0).len(), TYPING_ROOMS_MAX);
        assert!(typing.users(RoomNum(0)).is_none());
    }
}
