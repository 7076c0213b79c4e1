//! Which rooms, or users, changed lately for one user, so that a sync need not look at all of them.

use base::{RoomNum, Stamp};

/// The most rooms, or users, that are remembered for a user.
pub const RECENT_ROOMS_MAX: usize = 32;

/// The rooms, or whatever else, that changed after a stamp, each with its newest change.
#[derive(Clone, Debug)]
pub struct Recent<T = RoomNum> {
    from: Stamp,
    rooms: Vec<(T, Stamp)>,
}

impl<T: PartialEq + Clone> Recent<T> {
    /// Nothing has changed after `from` yet.
    #[must_use]
    pub fn new(from: Stamp) -> Self {
        Self { from, rooms: Vec::new() }
    }

    /// A room changed. Changes come in the order of their stamps.
    pub fn changed(&mut self, room: T, at: Stamp) {
        if let Some((_, newest)) = self.rooms.iter_mut().find(|(known, _)| *known == room) {
            *newest = at.max(*newest);
            return;
        }
        if self.rooms.len() >= RECENT_ROOMS_MAX {
            let oldest = self.rooms.iter().enumerate().min_by_key(|(_, (_, newest))| *newest);
            if let Some((index, (_, newest))) = oldest {
                self.from = self.from.max(*newest);
                self.rooms.swap_remove(index);
            }
        }
        self.rooms.push((room, at));
    }

    /// The rooms that changed after a stamp, or `None` if not all of them are remembered.
    #[must_use]
    pub fn after(&self, since: Stamp) -> Option<Vec<T>> {
        (self.from <= since)
            .then(|| self.rooms.iter().filter(|(_, newest)| *newest > since).map(|(room, _)| room.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn before_it_began_nothing_is_known() {
        let mut recent = Recent::new(Stamp(5));
        recent.changed(RoomNum(1), Stamp(6));
        assert_eq!(recent.after(Stamp(4)), None);
        assert_eq!(recent.after(Stamp(5)), Some(vec![RoomNum(1)]));
        assert_eq!(recent.after(Stamp(6)), Some(vec![]));
    }

    proptest! {
        #[test]
        fn what_it_answers_is_what_happened(rooms in proptest::collection::vec(0_u64..60, 0..200), since in 0_u64..200) {
            let mut recent = Recent::new(Stamp(0));
            for (at, room) in (1..).zip(&rooms) {
                recent.changed(RoomNum(*room), Stamp(at));
            }
            if let Some(answer) = recent.after(Stamp(since)) {
                let skip = usize::try_from(since).unwrap();
                let expected: BTreeSet<_> = rooms.iter().skip(skip).map(|room| RoomNum(*room)).collect();
                prop_assert_eq!(answer.into_iter().collect::<BTreeSet<_>>(), expected);
            } else {
                prop_assert!(rooms.iter().collect::<BTreeSet<_>>().len() > RECENT_ROOMS_MAX);
            }
        }
    }
}
