//! The users who have synced lately: which rooms they are in, what happened there, and whom to wake.
//!
//! Joined rooms are loaded when a user becomes active, and kept as the log says from there on. A user is
//! dropped when they have not synced for a while, so that what happens in a room of 50,000 members costs as
//! much as the few of them who are listening.

use crate::volatile::Volatile;
use base::{RoomNum, Stamp, UnixMillis};
use records::{Membership, RecordsError, View};
use ruma::{OwnedUserId, UserId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use sync_core::{Recent, SyncToken};
use tokio::sync::Notify;

/// How many users are followed at once; those beyond are refused until others have gone.
pub const ACTIVE_USERS_MAX: usize = 200_000;
/// How long a user is followed after their last sync.
pub const ACTIVE_FOR: Duration = Duration::from_mins(5);
/// How often those who have gone are looked for.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// How many users are remembered for a user whose presence changed.
const SEEN_USERS_MAX: usize = 100;

/// Whose presence changed lately.
struct SeenUsers {
    /// What was before is not remembered.
    from: u64,
    newest: u64,
    users: Vec<(u64, OwnedUserId)>,
}

impl SeenUsers {
    fn new(from: u64) -> Self {
        Self { from, newest: 0, users: Vec::new() }
    }

    fn note(&mut self, user: &UserId, count: u64) {
        self.newest = self.newest.max(count);
        self.users.retain(|(_, known)| known != user);
        if self.users.len() >= SEEN_USERS_MAX {
            // Those who changed first come first.
            let (forgotten, _) = self.users.remove(0);
            self.from = self.from.max(forgotten);
        }
        self.users.push((count, user.to_owned()));
    }

    fn after(&self, since: u64) -> Option<Vec<OwnedUserId>> {
        let after = || self.users.iter().filter(|(count, _)| *count > since).map(|(_, user)| user.clone()).collect();
        (self.from <= since).then(after)
    }
}

/// All active users.
pub struct ActiveUsers {
    maps: Mutex<Maps>,
    volatile: Arc<Volatile>,
}

struct Maps {
    users: HashMap<OwnedUserId, Arc<Active>>,
    /// The active users in each room, by their number.
    rooms: HashMap<RoomNum, HashMap<u64, Arc<Active>>>,
    /// Up to where the log was followed. What concerns an active user up to here is noted with them.
    followed: Stamp,
    next_id: u64,
    swept_at: UnixMillis,
}

/// A user who has synced lately.
pub struct Active {
    id: u64,
    user: OwnedUserId,
    /// Wakes the user's syncs.
    pub notify: Notify,
    state: Mutex<State>,
}

struct State {
    /// The joined rooms, sorted.
    rooms: Vec<RoomNum>,
    loaded: bool,
    /// What the log said of the user's rooms while they were being loaded.
    meanwhile: Vec<(RoomNum, bool)>,
    /// Rooms with new events.
    events: Recent,
    /// Rooms with new receipts.
    receipts: Recent,
    /// Rooms whose members changed.
    members: Recent,
    /// Users in the user's rooms whose devices changed.
    device_lists: Recent<OwnedUserId>,
    /// The newest thing that concerns the user and is of no room: account data.
    own: Stamp,
    newest: Stamp,
    /// The newest change of who types in the user's rooms.
    typed: u64,
    /// Whose presence changed.
    presence: SeenUsers,
    syncs: u32,
    used_at: UnixMillis,
    to_wake: bool,
}

/// What happened in rooms of a user after a stamp, as far as it was followed.
pub struct Noted {
    /// Up to where the log was followed.
    pub followed: Stamp,
    /// Rooms with events, and rooms with receipts; `None` if too much happened to remember.
    pub rooms: Option<(Vec<RoomNum>, Vec<RoomNum>)>,
    /// Rooms whose members changed; `None` if too much happened to remember.
    pub members: Option<Vec<RoomNum>>,
    /// Users in the user's rooms whose devices changed; `None` if those are too many to remember.
    pub device_lists: Option<Vec<OwnedUserId>>,
    /// Whether the user's account data changed, as far as it was followed.
    pub own: bool,
}

/// What happened in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// An event, or a change of membership.
    Event,
    /// A receipt.
    Receipt,
    /// A change of membership, beside the event.
    Member,
}

/// Users to be woken once all is noted: when this is dropped, so that a failure on the way leaves nobody behind
/// who counts as about to be woken and never is.
#[derive(Default)]
pub struct ToWake(Vec<Arc<Active>>);

impl Drop for ToWake {
    fn drop(&mut self) {
        for active in self.0.drain(..) {
            active.state().to_wake = false;
            active.notify.notify_waiters();
        }
    }
}

impl ActiveUsers {
    /// Nobody is active; the log is followed from here on.
    pub fn new(followed: Stamp, volatile: Arc<Volatile>) -> Self {
        let maps = Mutex::new(Maps {
            users: HashMap::new(),
            rooms: HashMap::new(),
            followed,
            next_id: 0,
            swept_at: UnixMillis(0),
        });
        Self { maps, volatile }
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn len(&self) -> usize {
        self.maps().users.len()
    }

    /// A user begins a sync; [`Active::leave`] ends it. `view` gives the newest view, for a user who was not
    /// active. `None`: too many are.
    pub fn enter(
        &self,
        user: &UserId,
        now: UnixMillis,
        view: impl FnOnce() -> View,
    ) -> Result<Option<Arc<Active>>, RecordsError> {
        let active = {
            let mut maps = self.maps();
            let active = match maps.users.get(user) {
                Some(active) => active.clone(),
                None => {
                    if maps.users.len() >= ACTIVE_USERS_MAX {
                        maps.sweep(now);
                    }
                    if maps.users.len() >= ACTIVE_USERS_MAX {
                        return Ok(None);
                    }
                    maps.add(user)
                }
            };
            let mut state = active.state();
            state.syncs += 1;
            state.used_at = now;
            if state.loaded {
                drop(state);
                return Ok(Some(active));
            }
            drop(state);
            active
        };
        // The view is newer than the moment from which the log is noted for this user, so that between the two
        // no change of membership is missed.
        let memberships = match view().memberships(user) {
            Ok(memberships) => memberships,
            Err(error) => {
                active.leave(now);
                return Err(error);
            }
        };
        let joined = memberships.into_iter().filter(|(_, _, record)| record.membership == Membership::Join);
        let joined = joined.map(|(room, _, _)| room).collect();
        self.maps().load(&active, joined, self.volatile.count());
        Ok(Some(active))
    }

    /// Up to where the log was followed.
    pub fn followed(&self) -> Stamp {
        self.maps().followed
    }

    /// The log was followed up to here, and all that it says was noted.
    pub fn set_followed(&self, stamp: Stamp) {
        let mut maps = self.maps();
        maps.followed = maps.followed.max(stamp);
    }

    /// Whether a user is active.
    pub fn is_active(&self, user: &UserId) -> bool {
        self.maps().users.contains_key(user)
    }

    /// An active user has joined a room or is not in it any more.
    pub fn set_joined(&self, user: &UserId, room: RoomNum, joined: bool) {
        let mut maps = self.maps();
        let Some(active) = maps.users.get(user).cloned() else { return };
        let mut state = active.state();
        if !state.loaded {
            state.meanwhile.push((room, joined));
            return;
        }
        match (state.rooms.binary_search(&room), joined) {
            (Err(at), true) => state.rooms.insert(at, room),
            (Ok(at), false) => drop(state.rooms.remove(at)),
            _ => return,
        }
        drop(state);
        if joined { maps.listen(room, &active) } else { maps.unlisten(room, &active) }
    }

    /// Somebody looks at a room without being in it; [`ActiveUsers::unpeek`] ends it.
    pub fn peek(&self, user: &UserId, room: RoomNum) -> Arc<Active> {
        let mut maps = self.maps();
        let active = maps.new_active(user, vec![room]);
        maps.listen(room, &active);
        active
    }

    /// Somebody does not look at a room any more.
    pub fn unpeek(&self, room: RoomNum, active: &Active) {
        self.maps().unlisten(room, active);
    }

    /// Something happened in a room: all active users in it will be woken.
    pub fn note_room(&self, room: RoomNum, what: Happening, at: Stamp, to_wake: &mut ToWake) {
        for active in self.listeners(room) {
            active.note(to_wake, |state| state.note_room(room, what, at));
        }
    }

    /// Something happened in a room that concerns one user.
    pub fn note_user_in(&self, user: &UserId, room: RoomNum, what: Happening, at: Stamp, to_wake: &mut ToWake) {
        if let Some(active) = self.get(user) {
            active.note(to_wake, |state| state.note_room(room, what, at));
        }
    }

    /// Something happened that concerns one user and no room.
    pub fn note_user(&self, user: &UserId, at: Stamp, to_wake: &mut ToWake) {
        if let Some(active) = self.get(user) {
            active.note(to_wake, |state| {
                state.own = state.own.max(at);
                state.newest = state.newest.max(at);
            });
        }
    }

    /// The devices of a user changed who is in these rooms: all active users in them, and the user, will be woken.
    pub fn note_device_list(&self, user: &UserId, rooms: &[RoomNum], at: Stamp, to_wake: &mut ToWake) {
        let own = self.get(user);
        for active in rooms.iter().flat_map(|room| self.listeners(*room)).chain(own) {
            active.note(to_wake, |state| {
                state.device_lists.changed(user.to_owned(), at);
                state.newest = state.newest.max(at);
            });
        }
    }

    /// Who types in a room has changed.
    pub fn note_typing(&self, room: RoomNum, count: u64, to_wake: &mut ToWake) {
        for active in self.listeners(room) {
            active.note(to_wake, |state| state.typed = state.typed.max(count));
        }
    }

    fn get(&self, user: &UserId) -> Option<Arc<Active>> {
        self.maps().users.get(user).cloned()
    }

    /// The rooms of an active user.
    pub fn rooms_of(&self, user: &UserId) -> Vec<RoomNum> {
        self.get(user).map(|active| active.rooms()).unwrap_or_default()
    }

    /// The active users in a room.
    pub fn listeners(&self, room: RoomNum) -> Vec<Arc<Active>> {
        self.maps().rooms.get(&room).map(|users| users.values().cloned().collect()).unwrap_or_default()
    }

    /// Drops those who have not synced for long, from time to time.
    pub fn sweep(&self, now: UnixMillis) {
        let mut maps = self.maps();
        if now.since(maps.swept_at) >= SWEEP_EVERY {
            maps.sweep(now);
        }
    }
}

impl Maps {
    fn add(&mut self, user: &UserId) -> Arc<Active> {
        let active = self.new_active(user, Vec::new());
        active.state().loaded = false;
        self.users.insert(user.to_owned(), active.clone());
        active
    }

    fn new_active(&mut self, user: &UserId, rooms: Vec<RoomNum>) -> Arc<Active> {
        self.next_id += 1;
        let state = State {
            rooms,
            loaded: true,
            meanwhile: Vec::new(),
            events: Recent::new(self.followed),
            receipts: Recent::new(self.followed),
            members: Recent::new(self.followed),
            device_lists: Recent::new(self.followed),
            own: self.followed,
            newest: self.followed,
            typed: 0,
            presence: SeenUsers::new(0),
            syncs: 0,
            used_at: UnixMillis(0),
            to_wake: false,
        };
        let (id, notify) = (self.next_id, Notify::new());
        Arc::new(Active { id, user: user.to_owned(), notify, state: Mutex::new(state) })
    }

    fn load(&mut self, active: &Arc<Active>, mut joined: Vec<RoomNum>, volatile: u64) {
        let mut state = active.state();
        // Another sync of the same user may have been first.
        if !state.loaded {
            joined.sort_unstable();
            for (room, is_joined) in std::mem::take(&mut state.meanwhile) {
                match (joined.binary_search(&room), is_joined) {
                    (Err(at), true) => joined.insert(at, room),
                    (Ok(at), false) => drop(joined.remove(at)),
                    _ => {}
                }
            }
            // What happened in rooms that were not listened to yet is not noted: the notes begin here.
            state.events = Recent::new(self.followed);
            state.receipts = Recent::new(self.followed);
            state.members = Recent::new(self.followed);
            state.device_lists = Recent::new(self.followed);
            state.own = self.followed;
            state.newest = self.followed;
            state.presence = SeenUsers::new(volatile);
            state.loaded = true;
            state.rooms.clone_from(&joined);
            drop(state);
            for room in joined {
                self.listen(room, active);
            }
        }
    }

    fn listen(&mut self, room: RoomNum, active: &Arc<Active>) {
        self.rooms.entry(room).or_default().insert(active.id, active.clone());
    }

    fn unlisten(&mut self, room: RoomNum, active: &Active) {
        if let Some(users) = self.rooms.get_mut(&room) {
            users.remove(&active.id);
            if users.is_empty() {
                self.rooms.remove(&room);
            }
        }
    }

    fn sweep(&mut self, now: UnixMillis) {
        self.swept_at = now;
        let gone: Vec<_> = self.users.values().filter(|active| active.is_gone(now)).cloned().collect();
        for active in gone {
            self.users.remove(&active.user);
            let rooms = std::mem::take(&mut active.state().rooms);
            for room in rooms {
                self.unlisten(room, &active);
            }
        }
    }
}

impl Active {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who it is.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// What tells them from others in this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The rooms that the user is in, as far as the log was followed.
    pub fn rooms(&self) -> Vec<RoomNum> {
        self.state().rooms.clone()
    }

    /// Somebody's presence changed whom the user sees.
    pub fn note_presence(self: &Arc<Self>, of: &UserId, count: u64, to_wake: &mut ToWake) {
        self.note(to_wake, |state| state.presence.note(of, count));
    }

    /// Whether anybody's presence changed after a count, or may have.
    pub fn has_presence(&self, since: u64) -> bool {
        let state = self.state();
        state.presence.newest > since || state.presence.from > since
    }

    /// Whose presence changed after a count; `None` if that is not known.
    pub fn presence_after(&self, since: u64) -> Option<Vec<OwnedUserId>> {
        self.state().presence.after(since)
    }

    /// The user ends a sync.
    pub fn leave(&self, now: UnixMillis) {
        let mut state = self.state();
        state.syncs = state.syncs.saturating_sub(1);
        state.used_at = now;
    }

    fn is_gone(&self, now: UnixMillis) -> bool {
        let state = self.state();
        state.syncs == 0 && now.since(state.used_at) >= ACTIVE_FOR
    }

    fn note(self: &Arc<Self>, to_wake: &mut ToWake, note: impl FnOnce(&mut State)) {
        let mut state = self.state();
        note(&mut state);
        if !std::mem::replace(&mut state.to_wake, true) {
            to_wake.0.push(self.clone());
        }
    }

    /// Whether anything was noted after what the token stands for.
    pub fn has_news(&self, since: SyncToken) -> bool {
        let state = self.state();
        state.newest > since.stamp || state.typed > since.volatile || state.presence.newest > since.volatile
    }

    /// Whether the user is in a room, as far as the log was followed.
    pub fn is_in(&self, room: RoomNum) -> bool {
        self.state().rooms.binary_search(&room).is_ok()
    }

    /// What was noted after a stamp. `followed` must have been read before.
    pub fn noted(&self, followed: Stamp, since: Stamp) -> Noted {
        let state = self.state();
        Noted {
            followed,
            rooms: state.events.after(since).zip(state.receipts.after(since)),
            members: state.members.after(since),
            device_lists: state.device_lists.after(since),
            own: state.own > since,
        }
    }
}

impl State {
    fn note_room(&mut self, room: RoomNum, what: Happening, at: Stamp) {
        match what {
            Happening::Event => self.events.changed(room, at),
            Happening::Receipt => self.receipts.changed(room, at),
            Happening::Member => self.members.changed(room, at),
        }
        self.newest = self.newest.max(at);
    }
}
