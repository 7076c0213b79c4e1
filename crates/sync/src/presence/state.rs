//! Who is there: what devices say and do, and what becomes of it with time (client-server API, "Presence"). All in
//! memory, by a clock that the caller reads.

use base::UnixMillis;
use records::PresenceRecord;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// How long a user is currently active after they did something.
pub const CURRENTLY_ACTIVE_FOR: Duration = Duration::from_mins(1);
/// After how long without doing anything a user is idle.
pub const IDLE_AFTER: Duration = Duration::from_mins(5);
/// How long a device is there after its last sync.
pub const OFFLINE_AFTER: Duration = Duration::from_secs(30);
/// How long it is remembered that somebody is offline, for those who saw them online.
pub const OFFLINE_KEPT: Duration = Duration::from_mins(10);
/// Of how many users presence is kept; those beyond are offline.
const USERS_MAX: usize = crate::active::ACTIVE_USERS_MAX;
/// How many devices of a user count.
const DEVICES_MAX: usize = 16;

/// What a user or a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PresenceState {
    /// Not there.
    Offline,
    /// There, and idle.
    Unavailable,
    /// There.
    Online,
}

impl PresenceState {
    /// What the protocol calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Unavailable => "unavailable",
            Self::Online => "online",
        }
    }
}

/// A user's presence at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// What they are.
    pub state: PresenceState,
    /// Whether they did something just now, if they are online.
    pub currently_active: bool,
    /// How long ago they did something, if that is known.
    pub last_active_ago: Option<Duration>,
    /// What they say of it.
    pub status: Option<String>,
}

impl Presence {
    /// The presence of somebody who is not there.
    #[must_use]
    pub fn offline(record: PresenceRecord, now: UnixMillis) -> Self {
        Self {
            state: PresenceState::Offline,
            currently_active: false,
            last_active_ago: ago(record.active_at, now),
            status: record.status,
        }
    }
}

fn ago(active_at: UnixMillis, now: UnixMillis) -> Option<Duration> {
    (active_at.0 > 0).then(|| now.since(active_at))
}

/// The presence of all users, and who is to be told of.
#[derive(Default)]
pub struct Users {
    known: HashMap<OwnedUserId, Entry>,
    /// When something becomes of a user by itself.
    timers: BTreeSet<(UnixMillis, OwnedUserId)>,
    /// Those whose presence changed since it was last told.
    changed: BTreeSet<OwnedUserId>,
}

struct Entry {
    devices: Vec<Device>,
    status: Option<String>,
    active_at: UnixMillis,
    /// What the others know.
    shown: Shown,
    due: UnixMillis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    state: PresenceState,
    currently_active: bool,
}

struct Device {
    id: OwnedDeviceId,
    state: PresenceState,
    /// Whether the user said so, which syncs don't change.
    is_said: bool,
    syncs: u32,
    seen_at: UnixMillis,
}

impl Users {
    /// Whether anything may become of anybody, or is to be told.
    pub fn is_anybody(&self) -> bool {
        !self.timers.is_empty() || !self.changed.is_empty()
    }

    /// Whether something is known of a user, so that what is stored need not be read.
    pub fn knows(&self, user: &UserId) -> bool {
        self.known.contains_key(user)
    }

    /// A device begins a sync, as this: online or idle.
    pub fn sync_begins(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        state: PresenceState,
        stored: PresenceRecord,
        now: UnixMillis,
    ) {
        let Some(entry) = self.entry(user, stored) else { return };
        let was_offline = entry.is_offline(now);
        let device = entry.device(device, now);
        device.syncs += 1;
        device.seen_at = now;
        if device.state == PresenceState::Offline {
            (device.state, device.is_said) = (state, false);
        } else if !device.is_said {
            device.state = state;
        }
        if was_offline && state == PresenceState::Online {
            entry.active_at = now;
        }
        self.refresh(user, now);
    }

    /// A device ends a sync.
    pub fn sync_ends(&mut self, user: &UserId, device: &DeviceId, now: UnixMillis) {
        let Some(entry) = self.known.get_mut(user) else { return };
        if let Some(device) = entry.devices.iter_mut().find(|known| known.id == device) {
            device.syncs = device.syncs.saturating_sub(1);
            device.seen_at = now;
        }
        self.refresh(user, now);
    }

    /// A user says what they are.
    pub fn say(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        state: PresenceState,
        status: Option<String>,
        stored: PresenceRecord,
        now: UnixMillis,
    ) {
        let Some(entry) = self.entry(user, stored) else { return };
        let said = entry.device(device, now);
        (said.state, said.is_said, said.seen_at) = (state, state == PresenceState::Unavailable, now);
        if state == PresenceState::Online {
            entry.active_at = now;
        }
        if entry.status != status {
            entry.status = status;
            self.changed.insert(user.to_owned());
        }
        self.refresh(user, now);
    }

    /// A user did something with a device: they are there.
    pub fn acts(&mut self, user: &UserId, device: &DeviceId, stored: PresenceRecord, now: UnixMillis) {
        let Some(entry) = self.entry(user, stored) else { return };
        let device = entry.device(device, now);
        (device.state, device.is_said, device.seen_at) = (PresenceState::Online, false, now);
        entry.active_at = now;
        self.refresh(user, now);
    }

    /// Somebody new can see a user, so that they have to be told.
    pub fn show_again(&mut self, user: &UserId) {
        if self.known.get(user).is_some_and(|entry| entry.shown.state != PresenceState::Offline) {
            self.changed.insert(user.to_owned());
        }
    }

    /// Does what has become due.
    pub fn expire(&mut self, now: UnixMillis) {
        while let Some((due, user)) = self.timers.first().cloned() {
            if due > now {
                return;
            }
            self.timers.remove(&(due, user.clone()));
            let is_forgotten = self.known.get(&user).is_none_or(|entry| {
                entry.shown.state == PresenceState::Offline && entry.devices.is_empty() && entry.due <= now
            });
            if is_forgotten {
                self.known.remove(&user);
            } else {
                self.refresh(&user, now);
            }
        }
    }

    /// Those who are to be told of, at most so many, with what to keep of each.
    pub fn take_changed(&mut self, users_max: usize) -> Vec<(OwnedUserId, PresenceRecord)> {
        let mut taken = Vec::new();
        while taken.len() < users_max
            && let Some(user) = self.changed.pop_first()
        {
            if let Some(entry) = self.known.get(&user) {
                let record = PresenceRecord { status: entry.status.clone(), active_at: entry.active_at };
                taken.push((user, record));
            }
        }
        taken
    }

    /// A user's presence, if anything is known of them.
    pub fn show(&self, user: &UserId, now: UnixMillis) -> Option<Presence> {
        let entry = self.known.get(user)?;
        let Shown { state, currently_active } = entry.combined(now);
        Some(Presence {
            state,
            currently_active,
            last_active_ago: ago(entry.active_at, now),
            status: entry.status.clone(),
        })
    }

    fn entry(&mut self, user: &UserId, stored: PresenceRecord) -> Option<&mut Entry> {
        if !self.known.contains_key(user) {
            if self.known.len() >= USERS_MAX {
                return None;
            }
            let entry = Entry {
                devices: Vec::new(),
                status: stored.status,
                active_at: stored.active_at,
                shown: Shown { state: PresenceState::Offline, currently_active: false },
                due: UnixMillis(0),
            };
            self.known.insert(user.to_owned(), entry);
        }
        self.known.get_mut(user)
    }

    /// Brings what a user is up to date, and sets when to look again.
    fn refresh(&mut self, user: &UserId, now: UnixMillis) {
        let Some(entry) = self.known.get_mut(user) else { return };
        entry.devices.retain(|device| device.syncs > 0 || now.since(device.seen_at) < OFFLINE_AFTER);
        let shown = entry.combined(now);
        if shown != entry.shown {
            entry.shown = shown;
            self.changed.insert(user.to_owned());
        }
        self.timers.remove(&(entry.due, user.to_owned()));
        entry.due = entry.next_due(now);
        self.timers.insert((entry.due, user.to_owned()));
    }
}

impl Entry {
    fn is_offline(&self, now: UnixMillis) -> bool {
        self.combined(now).state == PresenceState::Offline
    }

    fn device(&mut self, id: &DeviceId, now: UnixMillis) -> &mut Device {
        let at = self.devices.iter().position(|known| known.id == id).unwrap_or_else(|| {
            if self.devices.len() >= DEVICES_MAX {
                let oldest = self.devices.iter().enumerate().min_by_key(|(_, device)| (device.syncs, device.seen_at));
                if let Some((at, _)) = oldest {
                    self.devices.remove(at);
                }
            }
            let state = PresenceState::Offline;
            self.devices.push(Device { id: id.to_owned(), state, is_said: false, syncs: 0, seen_at: now });
            self.devices.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the index was found or made just above")]
        &mut self.devices[at]
    }

    /// What all devices together make of the user: the one that is most there.
    fn combined(&self, now: UnixMillis) -> Shown {
        let is_there = |device: &&Device| device.syncs > 0 || now.since(device.seen_at) < OFFLINE_AFTER;
        let best = self.devices.iter().filter(is_there).map(|device| device.state).max();
        let idle_for = now.since(self.active_at);
        match best.unwrap_or(PresenceState::Offline) {
            PresenceState::Online if idle_for >= IDLE_AFTER => {
                Shown { state: PresenceState::Unavailable, currently_active: false }
            }
            PresenceState::Online => {
                Shown { state: PresenceState::Online, currently_active: idle_for < CURRENTLY_ACTIVE_FOR }
            }
            state => Shown { state, currently_active: false },
        }
    }

    /// When to look again: when they stop being active, are idle, or are gone.
    fn next_due(&self, now: UnixMillis) -> UnixMillis {
        let gone = self.devices.iter().filter(|device| device.syncs == 0);
        let gone = gone.map(|device| device.seen_at.after(OFFLINE_AFTER)).min();
        let turns = [CURRENTLY_ACTIVE_FOR, IDLE_AFTER].map(|time| self.active_at.after(time));
        let turn = turns.into_iter().find(|turn| *turn > now).filter(|_| self.shown.state == PresenceState::Online);
        gone.into_iter().chain(turn).min().unwrap_or_else(|| now.after(OFFLINE_KEPT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PresenceState::{Offline, Online, Unavailable};
    use ruma::{device_id, user_id};

    const SECOND: u64 = 1000;

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis((1_000_000 + seconds) * SECOND)
    }

    fn ada() -> &'static UserId {
        user_id!("@ada:a.example")
    }

    fn none() -> PresenceRecord {
        PresenceRecord::default()
    }

    /// What is shown, and whether that is news.
    fn shown(users: &mut Users, seconds: u64) -> (PresenceState, bool, bool) {
        users.expire(at(seconds));
        let is_news = !users.take_changed(10).is_empty();
        let shown = users.show(ada(), at(seconds)).map(|shown| (shown.state, shown.currently_active));
        let (state, active) = shown.unwrap_or((Offline, false));
        (state, active, is_news)
    }

    #[test]
    fn who_syncs_is_online_and_idle_in_time_and_gone_when_they_stop() {
        let mut users = Users::default();
        let phone = device_id!("PHONE");
        assert!(!users.is_anybody());
        users.sync_begins(ada(), phone, Online, none(), at(0));
        assert_eq!(shown(&mut users, 0), (Online, true, true));
        users.sync_ends(ada(), phone, at(20));
        users.sync_begins(ada(), phone, Online, none(), at(25));
        assert_eq!(shown(&mut users, 25), (Online, true, false), "polling again is no news");
        assert_eq!(shown(&mut users, 60), (Online, false, true));
        assert_eq!(shown(&mut users, 300), (Unavailable, false, true));
        users.acts(ada(), phone, none(), at(310));
        assert_eq!(shown(&mut users, 310), (Online, true, true));
        users.acts(ada(), phone, none(), at(320));
        assert_eq!(shown(&mut users, 320), (Online, true, false), "who is active stays so without news");
        users.sync_ends(ada(), phone, at(330));
        assert_eq!(shown(&mut users, 359), (Online, true, false));
        assert_eq!(shown(&mut users, 360), (Offline, false, true));
        assert_eq!(shown(&mut users, 360 + 600), (Offline, false, false));
        assert!(!users.knows(ada()) && !users.is_anybody());
    }

    #[test]
    fn the_device_that_is_most_there_counts() {
        let mut users = Users::default();
        let (phone, desk) = (device_id!("PHONE"), device_id!("DESK"));
        users.sync_begins(ada(), phone, Unavailable, none(), at(0));
        assert_eq!(shown(&mut users, 0), (Unavailable, false, true));
        users.sync_begins(ada(), desk, Online, none(), at(1));
        users.acts(ada(), desk, none(), at(1));
        assert_eq!(shown(&mut users, 1), (Online, true, true));
        users.sync_ends(ada(), desk, at(2));
        assert_eq!(shown(&mut users, 32), (Unavailable, false, true));
    }

    #[test]
    fn what_was_said_lasts_until_something_is_done() {
        let mut users = Users::default();
        let phone = device_id!("PHONE");
        let status = || Some("In a meeting".to_owned());
        users.say(ada(), phone, Unavailable, status(), none(), at(0));
        assert_eq!(shown(&mut users, 0), (Unavailable, false, true));
        users.sync_begins(ada(), phone, Online, none(), at(1));
        assert_eq!(shown(&mut users, 1), (Unavailable, false, false), "a sync that only goes on changes nothing");
        users.acts(ada(), phone, none(), at(2));
        assert_eq!(shown(&mut users, 2), (Online, true, true));
        assert_eq!(users.show(ada(), at(5)).unwrap().status, status());
        assert_eq!(users.show(ada(), at(5)).unwrap().last_active_ago, Some(Duration::from_secs(3)));
        users.say(ada(), phone, Online, None, none(), at(6));
        assert_eq!(shown(&mut users, 6), (Online, true, true), "another status is news");
        users.say(ada(), phone, Offline, None, none(), at(7));
        assert_eq!(shown(&mut users, 7), (Offline, false, true));
        users.sync_begins(ada(), phone, Online, none(), at(8));
        assert_eq!(shown(&mut users, 8), (Online, true, true));
    }

    #[test]
    fn what_syncs_said_the_next_one_changes() {
        let mut users = Users::default();
        let phone = device_id!("PHONE");
        users.sync_begins(ada(), phone, Unavailable, none(), at(0));
        users.sync_ends(ada(), phone, at(1));
        users.sync_begins(ada(), phone, Online, PresenceRecord { status: None, active_at: at(0) }, at(2));
        users.acts(ada(), phone, none(), at(2));
        assert_eq!(shown(&mut users, 2), (Online, true, true));
    }

    #[test]
    fn what_is_stored_is_shown_again() {
        let mut users = Users::default();
        let stored = PresenceRecord { status: Some("s".to_owned()), active_at: at(0) };
        users.sync_begins(ada(), device_id!("PHONE"), Unavailable, stored.clone(), at(9));
        let shown = users.show(ada(), at(10)).unwrap();
        assert_eq!((shown.status, shown.last_active_ago), (stored.status.clone(), Some(Duration::from_secs(10))));
        assert_eq!(users.take_changed(1), [(ada().to_owned(), stored)]);
    }

    #[test]
    fn the_devices_of_a_user_are_bounded() {
        let mut users = Users::default();
        for device in 0..100 {
            let device: OwnedDeviceId = format!("D{device}").into();
            users.acts(ada(), &device, none(), at(0));
        }
        assert_eq!(users.known[ada()].devices.len(), DEVICES_MAX);
        assert_eq!(users.timers.len(), 1);
    }
}
