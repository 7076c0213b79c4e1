//! What one connection has been told, and how that changes with requests and responses (MSC4186,
//! "Connections").
//!
//! A response may be lost, so a connection has up to two versions: the one that the client has confirmed by
//! coming back with a position of it, and one that was told and is not confirmed yet. A request with the
//! position of either goes on from there; whatever it is told takes the place of what was not confirmed.
//!
//! What is kept of a room says nothing of the rooms that the client has all news of: these are known up to the
//! stamp in the client's position. So a connection changes only when rooms come into view or go out of it, or
//! more is told of them, not with every event.

use super::Wanted;
use base::{EventNum, RoomNum, Stamp};
use std::collections::{BTreeSet, HashMap};

/// How many of the members that a client was sent of a room are remembered; older ones are sent again.
pub const MEMBERS_MAX: usize = 64;
/// How many different wishes for state are remembered for a connection.
pub const WANTED_MAX: usize = 32;
/// The most bytes of all of them together.
pub const WANTED_BYTES_MAX: usize = 128 * 1024;
/// Stands for a wish for state that was one too many to remember.
const NOT_KEPT: u16 = u16::MAX;

/// A position that no response of this connection had, or one that is too old: 400 `M_UNKNOWN_POS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPosition;

/// What a connection was told of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Up to when, for a room that went out of view before something happened there; none for one that is told
    /// up to the client's position.
    pub up_to: Option<Stamp>,
    /// The state that is told, as [`Draft::keep_wanted`] numbers it.
    pub wanted: u16,
    /// The most events that its timeline was told with; [`Sent::WHOLE_TIMELINE`] if there were no more.
    pub timeline: u32,
    /// It was told to be a direct chat.
    pub is_dm: bool,
    /// Its account data was told.
    pub account_data: bool,
    /// Its receipts were told.
    pub receipts: bool,
    /// The membership events that were sent because the timeline needed them, the oldest first.
    pub members: Vec<EventNum>,
}

impl Sent {
    /// All of the timeline was told.
    pub const WHOLE_TIMELINE: u32 = u32::MAX;

    /// Remembers that a membership event was sent.
    pub fn add_member(&mut self, member: EventNum) {
        if !self.members.contains(&member) {
            if self.members.len() >= MEMBERS_MAX {
                self.members.remove(0);
            }
            self.members.push(member);
        }
    }
}

/// What was begun to be told that is of no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// The account's data.
    pub account_data: bool,
    /// What concerns the keys of devices.
    pub e2ee: bool,
    /// Subscriptions to threads.
    pub thread_subscriptions: bool,
}

/// What is told and not confirmed.
#[derive(Clone, Debug)]
struct Pending {
    version: u64,
    begun: Begun,
    rooms: HashMap<RoomNum, Sent>,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Connection {
    version: u64,
    begun: Begun,
    rooms: HashMap<RoomNum, Sent>,
    wanted: Vec<Wanted>,
    pending: Option<Pending>,
    /// The rooms whose rows in the store are not as they are here.
    unsaved: BTreeSet<RoomNum>,
    is_new: bool,
}

/// What one response changes.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// What is begun.
    pub begun: Begun,
    rooms: HashMap<RoomNum, Sent>,
}

/// What there is to store of a connection after a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Save {
    /// The version that the client has confirmed, and what it had begun by then.
    pub confirmed: (u64, Begun),
    /// The version that it has not, and what it begins.
    pub pending: Option<(u64, Begun)>,
    /// The wishes for state.
    pub wanted: Vec<Wanted>,
    /// The rooms whose rows change: what is confirmed, and what is not with its version.
    pub rooms: Vec<(RoomNum, Row)>,
}

/// What is stored of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// What the client has confirmed.
    pub confirmed: Option<Sent>,
    /// What it has not, with the version.
    pub pending: Option<(u64, Sent)>,
}

impl Connection {
    /// A connection that was told nothing. Its version must be above all that a connection of this name had.
    #[must_use]
    pub fn new(version: u64) -> Self {
        Self {
            version,
            begun: Begun::default(),
            rooms: HashMap::new(),
            wanted: Vec::new(),
            pending: None,
            unsaved: BTreeSet::new(),
            is_new: true,
        }
    }

    /// A connection as it was stored.
    #[must_use]
    pub fn restore(save: Save) -> Self {
        let (version, begun) = save.confirmed;
        let mut connection = Self { begun, wanted: save.wanted, is_new: false, ..Self::new(version) };
        let mut pending =
            save.pending.map(|(version, begun)| Pending { version, begun, rooms: HashMap::with_capacity(16) });
        for (room, row) in save.rooms {
            connection.rooms.extend(row.confirmed.map(|sent| (room, sent)));
            match (row.pending, &mut pending) {
                (Some((at, sent)), Some(pending)) if at == pending.version => drop(pending.rooms.insert(room, sent)),
                // Confirmed since it was stored: what is not confirmed any more is cleared when it is replaced.
                (Some((at, sent)), _) if at <= version => drop(connection.rooms.insert(room, sent)),
                _ => {}
            }
        }
        connection.pending = pending;
        connection
    }

    /// The newest version.
    #[must_use]
    pub fn newest_version(&self) -> u64 {
        self.pending.as_ref().map_or(self.version, |pending| pending.version.max(self.version))
    }

    /// The client comes with a position of this version: from here on that is what it was told.
    ///
    /// # Errors
    ///
    /// [`UnknownPosition`]
    pub fn present(&mut self, version: u64) -> Result<(), UnknownPosition> {
        if version == self.version {
            return Ok(());
        }
        match self.pending.take_if(|pending| pending.version == version) {
            Some(pending) => {
                self.version = version;
                self.begun = pending.begun;
                self.unsaved.extend(pending.rooms.keys());
                self.rooms.extend(pending.rooms);
                Ok(())
            }
            None => Err(UnknownPosition),
        }
    }

    /// The version that the client was confirmed to be at.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Begins a response.
    #[must_use]
    pub fn draft(&self) -> Draft {
        Draft { begun: self.begun, rooms: HashMap::new() }
    }

    /// What the client confirmed to be told of rooms.
    pub fn rooms(&self) -> impl Iterator<Item = (RoomNum, &Sent)> {
        self.rooms.iter().map(|(room, sent)| (*room, sent))
    }

    /// The wish for state with a number; an empty one if it was not kept.
    #[must_use]
    pub fn wanted(&self, number: u16) -> Option<&Wanted> {
        self.wanted.get(usize::from(number))
    }

    /// A response is made: answers the version of its position, and what there is to store, if anything.
    pub fn settle(&mut self, draft: Draft) -> (u64, Option<Save>) {
        let Draft { begun, rooms } = draft;
        if rooms.is_empty() && begun == self.begun && !self.is_new {
            return (self.version, None);
        }
        let version = self.newest_version().saturating_add(1);
        let mut changed = std::mem::take(&mut self.unsaved);
        changed.extend(self.pending.iter().flat_map(|pending| pending.rooms.keys()));
        changed.extend(rooms.keys());
        let row = |room: RoomNum| Row {
            confirmed: self.rooms.get(&room).cloned(),
            pending: rooms.get(&room).map(|sent| (version, sent.clone())),
        };
        let save = Save {
            confirmed: (self.version, self.begun),
            pending: Some((version, begun)),
            wanted: self.wanted.clone(),
            rooms: changed.into_iter().map(|room| (room, row(room))).collect(),
        };
        self.pending = Some(Pending { version, begun, rooms });
        self.is_new = false;
        (version, Some(save))
    }

    /// Which numbers of wishes are in use.
    fn in_use(&self, draft: &Draft) -> BTreeSet<u16> {
        let pending = self.pending.iter().flat_map(|pending| pending.rooms.values());
        self.rooms.values().chain(pending).chain(draft.rooms.values()).map(|sent| sent.wanted).collect()
    }
}

impl Draft {
    /// What the client is told of a room, with this response.
    #[must_use]
    pub fn sent<'a>(&'a self, connection: &'a Connection, room: RoomNum) -> Option<&'a Sent> {
        self.rooms.get(&room).or_else(|| connection.rooms.get(&room))
    }

    /// The response tells this of a room.
    pub fn tell(&mut self, connection: &Connection, room: RoomNum, sent: Sent) {
        if connection.rooms.get(&room) == Some(&sent) {
            self.rooms.remove(&room);
        } else {
            self.rooms.insert(room, sent);
        }
    }

    /// The number by which a wish for state is remembered.
    pub fn keep_wanted(&self, connection: &mut Connection, wanted: &Wanted) -> u16 {
        let number = |index: usize| u16::try_from(index).unwrap_or(NOT_KEPT);
        if let Some(index) = connection.wanted.iter().position(|known| known == wanted) {
            return number(index);
        }
        let bytes: usize = connection.wanted.iter().map(Wanted::bytes).sum();
        if bytes.saturating_add(wanted.bytes()) <= WANTED_BYTES_MAX && connection.wanted.len() < WANTED_MAX {
            connection.wanted.push(wanted.clone());
            return number(connection.wanted.len() - 1);
        }
        let in_use = connection.in_use(self);
        for (index, slot) in connection.wanted.iter_mut().enumerate() {
            if !in_use.contains(&number(index)) {
                let grows = wanted.bytes().saturating_sub(slot.bytes());
                if bytes.saturating_add(grows) <= WANTED_BYTES_MAX {
                    *slot = wanted.clone();
                    return number(index);
                }
            }
        }
        NOT_KEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sliding::{Element, RequiredState};
    use proptest::prelude::*;

    fn sent(up_to: u64) -> Sent {
        Sent {
            up_to: Some(Stamp(up_to)),
            wanted: 0,
            timeline: 1,
            is_dm: false,
            account_data: false,
            receipts: false,
            members: Vec::new(),
        }
    }

    fn tell(connection: &mut Connection, rooms: &[(u64, u64)]) -> (u64, Option<Save>) {
        let mut draft = connection.draft();
        for (room, up_to) in rooms {
            draft.tell(connection, RoomNum(*room), sent(*up_to));
        }
        connection.settle(draft)
    }

    fn told(connection: &Connection) -> Vec<(u64, u64)> {
        let mut rooms: Vec<_> = connection.rooms().map(|(room, sent)| (room.0, sent.up_to.unwrap().0)).collect();
        rooms.sort_unstable();
        rooms
    }

    #[test]
    fn what_is_told_counts_once_the_client_comes_back_with_it() {
        let mut connection = Connection::new(10);
        let (version, _) = tell(&mut connection, &[(1, 1)]);
        assert_eq!((version, told(&connection)), (11, vec![]));
        assert_eq!(connection.present(10), Ok(()), "the response was lost");
        let (again, _) = tell(&mut connection, &[(2, 2)]);
        assert_eq!(again, 12);
        assert_eq!(connection.present(11), Err(UnknownPosition), "its place is taken");
        assert_eq!(connection.present(12), Ok(()));
        assert_eq!(told(&connection), [(2, 2)]);
        assert_eq!(connection.present(10), Err(UnknownPosition), "the client has gone on");
    }

    #[test]
    fn nothing_new_is_told_without_a_new_version() {
        let mut connection = Connection::new(10);
        let (version, _) = tell(&mut connection, &[(1, 1)]);
        connection.present(version).unwrap();
        assert_eq!(tell(&mut connection, &[]), (version, None));
        assert_eq!(tell(&mut connection, &[(1, 1)]), (version, None), "it was told that before");
        let (next, save) = tell(&mut connection, &[(1, 2)]);
        assert!(next > version && save.is_some());
    }

    #[test]
    fn a_new_connection_is_stored_even_if_it_was_told_nothing() {
        let mut connection = Connection::new(10);
        let (version, save) = tell(&mut connection, &[]);
        assert_eq!(version, 11);
        let mut restored = Connection::restore(save.unwrap());
        assert_eq!(restored.present(11), Ok(()));
    }

    #[test]
    fn members_that_were_sent_are_remembered_up_to_a_limit() {
        let mut room = sent(1);
        for member in 0..=MEMBERS_MAX as u64 {
            room.add_member(EventNum(member));
            room.add_member(EventNum(member));
        }
        assert_eq!((room.members.len(), room.members[0]), (MEMBERS_MAX, EventNum(1)));
    }

    #[test]
    fn wishes_that_nobody_has_any_more_make_room_for_others() {
        let wanted = |n: usize| {
            let include = vec![Element { kind: Some(n.to_string()), state_key: None }];
            Wanted::combine([&RequiredState { include, ..RequiredState::default() }])
        };
        let mut connection = Connection::new(1);
        let mut draft = connection.draft();
        for n in 0..WANTED_MAX {
            let number = draft.keep_wanted(&mut connection, &wanted(n));
            assert_eq!((usize::from(number), connection.wanted(number)), (n, Some(&wanted(n))));
            if n != 7 {
                draft.tell(&connection, RoomNum(n as u64), Sent { wanted: number, ..sent(1) });
            }
        }
        assert_eq!(draft.keep_wanted(&mut connection, &wanted(3)), 3);
        assert_eq!(draft.keep_wanted(&mut connection, &wanted(99)), 7);
        draft.tell(&connection, RoomNum(7), Sent { wanted: 7, ..sent(1) });
        let number = draft.keep_wanted(&mut connection, &wanted(100));
        assert_eq!(connection.wanted(number), None, "one too many");
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Answers a request with this position, and tells these rooms; the response may be lost.
        Answer {
            rooms: Vec<(u64, u64)>,
            lost: bool,
        },
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (proptest::collection::vec((0_u64..5, 0_u64..9), 0..4), any::<bool>())
                .prop_map(|(rooms, lost)| Step::Answer { rooms, lost }),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn a_connection_is_what_its_client_was_told(steps in proptest::collection::vec(step(), 1..40)) {
            let mut connection = Connection::new(1);
            let mut client: HashMap<u64, u64> = HashMap::new();
            let mut position = 1;
            let mut rows: HashMap<RoomNum, Row> = HashMap::new();
            let mut stored: Option<Save> = None;
            for step in steps {
                match step {
                    Step::Answer { rooms, lost } => {
                        prop_assert_eq!(connection.present(position), Ok(()));
                        let (version, save) = tell(&mut connection, &rooms);
                        if let Some(save) = save {
                            rows.extend(save.rooms.iter().cloned());
                            stored = Some(save);
                        }
                        if !lost {
                            position = version;
                            client.extend(rooms);
                        }
                    }
                    Step::Restart => {
                        let Some(save) = &stored else { continue };
                        let rooms = rows.iter().map(|(room, row)| (*room, row.clone())).collect();
                        connection = Connection::restore(Save { rooms, ..save.clone() });
                    }
                }
                if stored.is_some() {
                    prop_assert_eq!(connection.present(position), Ok(()));
                    let mut expected: Vec<_> = client.clone().into_iter().collect();
                    expected.sort_unstable();
                    prop_assert_eq!(told(&connection), expected);
                }
            }
        }
    }
}
