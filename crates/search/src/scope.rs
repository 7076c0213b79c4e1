//! In which rooms somebody searches, and up to where: those that they are in, and those that they were in and have
//! not forgotten.
//!
//! What is in the scope may still be hidden from them: the index is asked for more than they may see, and what it
//! finds is looked at in the room. Here is only said what needs no look, because they were a member all the time.

use base::{Order, RoomNum};
use records::{Membership, MembershipRecord, RecordsError, View};
use ruma::{OwnedUserId, UserId};
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The part of a room in which somebody searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// From here on they see everything.
    pub certain_from: Order,
    /// What comes later is not for them.
    pub up_to: Order,
}

impl Range {
    /// Whether they see an event without doubt.
    pub fn is_certain(&self, order: Order) -> bool {
        self.certain_from <= order && order <= self.up_to
    }
}

/// The rooms in which somebody searches.
pub struct Scope {
    view: View,
    user: OwnedUserId,
    rooms: HashMap<RoomNum, (MembershipRecord, OnceLock<Option<Range>>)>,
    failed: Mutex<Option<RecordsError>>,
}

impl Scope {
    /// All rooms of a user.
    pub fn of(view: &View, user: &UserId) -> Result<Self, RecordsError> {
        let memberships = view.memberships(user)?.into_iter();
        let wanted = |record: &MembershipRecord| record.membership == Membership::Join || !record.forgotten;
        let rooms = memberships.filter(|(_, _, record)| wanted(record));
        let rooms = rooms.map(|(num, _, record)| (num, (record, OnceLock::new()))).collect();
        Ok(Self { view: view.clone(), user: user.to_owned(), rooms, failed: Mutex::new(None) })
    }

    /// The same without the rooms that are not wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(RoomNum) -> bool) {
        self.rooms.retain(|room, _| wanted(*room));
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn has(&self, room: RoomNum) -> bool {
        self.rooms.contains_key(&room)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// The rooms, if they are so few.
    pub(crate) fn few(&self, rooms_max: usize) -> Option<impl Iterator<Item = RoomNum>> {
        (self.rooms.len() <= rooms_max).then(|| self.rooms.keys().copied())
    }

    /// The part of a room in which they search; none if it is not one of theirs.
    pub(crate) fn range(&self, room: RoomNum) -> Option<Range> {
        let (record, range) = self.rooms.get(&room)?;
        *range.get_or_init(|| {
            self.read(room, record).unwrap_or_else(|error| {
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                None
            })
        })
    }

    fn read(&self, room: RoomNum, record: &MembershipRecord) -> Result<Option<Range>, RecordsError> {
        let (began, up_to) = if record.membership == Membership::Join {
            (record.entered, Order(i64::MAX))
        } else {
            match self.view.last_stay(room, &self.user)? {
                Some(stay) => (Some(stay.began), stay.until),
                None => return Ok(None),
            }
        };
        let began = began.map(|began| self.view.event(began)).transpose()?.flatten();
        let certain_from = began.map_or(Order(i64::MAX), |(order, _)| order);
        Ok(Some(Range { certain_from, up_to }))
    }

    /// What went wrong when rooms were looked up.
    pub(crate) fn check(&self) -> Result<(), RecordsError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}
