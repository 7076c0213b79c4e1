//! The rooms of a list in the order of their last activity, kept as things happen.

use base::{RoomNum, Stamp};
use std::collections::HashMap;

/// Rooms sorted by their last activity. A room that something happened in moves to the top in O(log n) and the
/// move of what was above it; its place is found in O(log n); the list is never sorted anew.
#[derive(Clone, Debug, Default)]
pub struct RoomOrder {
    /// The least active first, so that what happens is appended.
    sorted: Vec<(Stamp, RoomNum)>,
    at: HashMap<RoomNum, Stamp>,
}

impl RoomOrder {
    /// These rooms in their order.
    pub fn new(rooms: impl IntoIterator<Item = (Stamp, RoomNum)>) -> Self {
        let mut sorted: Vec<_> = rooms.into_iter().collect();
        sorted.sort_unstable();
        let at = sorted.iter().map(|(at, room)| (*room, *at)).collect();
        Self { sorted, at }
    }

    /// How many rooms there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Puts a room where its last activity belongs, or takes it out. Answers whether a room above or below may
    /// have moved up thereby: not so if the room is new, or if it only moved up itself.
    pub fn place(&mut self, room: RoomNum, at: Option<Stamp>) -> bool {
        let before = match at {
            Some(at) => self.at.insert(room, at),
            None => self.at.remove(&room),
        };
        if before == at {
            return false;
        }
        if let Some(before) = before
            && let Ok(index) = self.sorted.binary_search(&(before, room))
        {
            self.sorted.remove(index);
        }
        if let Some(at) = at
            && let Err(index) = self.sorted.binary_search(&(at, room))
        {
            self.sorted.insert(index, (at, room));
        }
        before.is_some_and(|before| at.is_none_or(|at| at < before))
    }

    /// The place of a room, counted from the most active one.
    #[must_use]
    pub fn rank(&self, room: RoomNum) -> Option<usize> {
        let at = self.at.get(&room)?;
        let index = self.sorted.binary_search(&(*at, room)).ok()?;
        Some(self.sorted.len() - 1 - index)
    }

    /// The rooms of an inclusive range of places, the most active first.
    pub fn window(&self, (first, last): (usize, usize)) -> impl Iterator<Item = RoomNum> + '_ {
        let count = last.saturating_add(1).saturating_sub(first);
        self.sorted.iter().rev().skip(first).take(count).map(|(_, room)| *room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn rooms(order: &RoomOrder, range: (usize, usize)) -> Vec<u64> {
        order.window(range).map(|room| room.0).collect()
    }

    #[test]
    fn the_most_active_room_is_the_first() {
        let mut order = RoomOrder::new([(Stamp(5), RoomNum(1)), (Stamp(9), RoomNum(2)), (Stamp(7), RoomNum(3))]);
        assert_eq!(rooms(&order, (0, 9)), [2, 3, 1]);
        assert!(!order.place(RoomNum(1), Some(Stamp(10))));
        assert_eq!((rooms(&order, (0, 1)), order.rank(RoomNum(2))), (vec![1, 2], Some(1)));
        assert!(!order.place(RoomNum(4), Some(Stamp(1))));
        assert!(order.place(RoomNum(1), None), "those below moved up");
        assert_eq!((rooms(&order, (1, 2)), order.rank(RoomNum(1)), order.len()), (vec![3, 4], None, 3));
        assert!(!order.place(RoomNum(1), None));
    }

    #[test]
    fn a_range_that_is_no_range_has_no_rooms() {
        let order = RoomOrder::new([(Stamp(5), RoomNum(1))]);
        assert_eq!(rooms(&order, (1, 0)), [0_u64; 0]);
        assert_eq!(rooms(&order, (1, usize::MAX)), [0_u64; 0]);
        assert_eq!(rooms(&order, (0, usize::MAX)), [1]);
    }

    proptest! {
        #[test]
        fn the_order_kept_is_the_order_sorted(moves in proptest::collection::vec((0_u64..20, 0_u64..60), 0..150)) {
            let mut order = RoomOrder::default();
            let mut truth: BTreeMap<u64, u64> = BTreeMap::new();
            for (room, at) in moves {
                // Some moves take the room out.
                let at = (at >= 10).then_some(at);
                let before: Vec<_> = order.window((0, 99)).collect();
                let others_moved = order.place(RoomNum(room), at.map(Stamp));
                match at {
                    Some(at) => drop(truth.insert(room, at)),
                    None => drop(truth.remove(&room)),
                }
                let mut sorted: Vec<_> = truth.iter().map(|(room, at)| (*at, *room)).collect();
                sorted.sort_unstable();
                let expected: Vec<_> = sorted.iter().rev().map(|(_, room)| *room).collect();
                prop_assert_eq!(rooms(&order, (0, 99)), expected.clone());
                for (rank, room) in expected.iter().enumerate() {
                    prop_assert_eq!(order.rank(RoomNum(*room)), Some(rank));
                }
                if !others_moved {
                    // Whoever is in a window from the top now was there before, but for the room itself.
                    for size in 1..6 {
                        let old: Vec<_> = before.iter().take(size).collect();
                        let came = order.window((0, size - 1)).filter(|known| !old.contains(&known));
                        let came: Vec<_> = came.filter(|known| known.0 != room).collect();
                        // Unless the window was not full.
                        prop_assert!(came.is_empty() || before.len() < size, "{:?}", came);
                    }
                }
            }
        }
    }
}
