//! What a user has read of a room, by all of their receipts together: one row, so that counting what they have not
//! read need not look for each of them.

use crate::codec::RecordsError;
use crate::tables::READ_STATE;
use crate::{Changes, ReceiptKey, View};
use base::{Order, RoomNum, Stamp};
use ruma::UserId;
use serde::{Deserialize, Serialize};

/// In how many threads of a room it is remembered up to where a user has read. Beyond, those are forgotten that
/// were read up to the earliest places.
pub const THREADS_MAX: usize = 256;
/// The thread of what is in no thread.
const MAIN: &str = "main";

/// Up to where a user has read a room. Public and private receipts count alike; the one further on does
/// (client-server API, "Marking notifications as read").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadState {
    /// In all threads.
    pub everywhere: Order,
    /// In the main timeline.
    pub main: Order,
    /// In threads, by the ids of their roots.
    pub threads: Vec<(String, Order)>,
}

impl Default for ReadState {
    fn default() -> Self {
        Self { everywhere: Order(i64::MIN), main: Order(i64::MIN), threads: Vec::new() }
    }
}

impl ReadState {
    /// Whether the user has read an event at this place, in the thread with this root or in the main timeline.
    #[must_use]
    pub fn has_read(&self, order: Order, thread: Option<&str>) -> bool {
        let up_to = match thread {
            None => self.main,
            Some(root) => self.thread(root).unwrap_or(self.everywhere),
        };
        order <= up_to.max(self.everywhere)
    }

    fn thread(&self, root: &str) -> Option<Order> {
        self.threads.iter().find(|(known, _)| known == root).map(|(_, order)| *order)
    }

    /// Takes a receipt in. Answers whether that changed anything.
    fn read(&mut self, order: Order, thread: Option<&str>) -> bool {
        let up_to = match thread {
            None => &mut self.everywhere,
            Some(MAIN) => &mut self.main,
            Some(root) => match self.threads.iter().position(|(known, _)| known == root) {
                Some(at) => match self.threads.get_mut(at) {
                    Some((_, up_to)) => up_to,
                    None => return false,
                },
                None => {
                    self.add_thread(root, order);
                    return true;
                }
            },
        };
        if *up_to >= order {
            return false;
        }
        *up_to = order;
        true
    }

    fn add_thread(&mut self, root: &str, order: Order) {
        // What was read everywhere needs no mark of its own.
        let everywhere = self.everywhere;
        self.threads.retain(|(_, up_to)| *up_to > everywhere);
        if self.threads.len() >= THREADS_MAX {
            let earliest = self.threads.iter().enumerate().min_by_key(|(_, (_, up_to))| *up_to).map(|(at, _)| at);
            if let Some(at) = earliest {
                self.threads.swap_remove(at);
            }
        }
        self.threads.push((root.to_owned(), order));
    }
}

fn read_state_key(user: &UserId, room: RoomNum) -> Vec<u8> {
    READ_STATE.key().text(user.as_str()).number(room.0).build()
}

impl View {
    /// Up to where a user has read a room, and since when.
    pub fn read_state(&self, user: &UserId, room: RoomNum) -> Result<Option<(Stamp, ReadState)>, RecordsError> {
        self.get_stamped(READ_STATE, &read_state_key(user, room))
    }
}

impl Changes {
    /// Takes a receipt into what its user has read, on condition that this is still as the view shows it.
    pub(crate) fn put_read(
        &mut self,
        nth: u16,
        room: RoomNum,
        key: &ReceiptKey,
        order: Order,
    ) -> Result<(), RecordsError> {
        let row = read_state_key(&key.user, room);
        let before = self.get_bytes(READ_STATE, &row)?;
        let before = before.map(|bytes| READ_STATE.decode_stamped::<ReadState>(&bytes)).transpose()?;
        let mut state = before.map(|(_, state)| state).unwrap_or_default();
        if state.read(order, key.thread.as_deref()) {
            self.expect_unchanged(READ_STATE, row.clone())?;
            self.put_stamped(READ_STATE, row, nth, &state);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_counts_for_its_thread_and_one_without_for_all() {
        let mut state = ReadState::default();
        assert!(!state.has_read(Order(1), None));
        assert!(state.read(Order(5), Some("main")));
        assert!(state.read(Order(7), Some("$root")));
        assert!(!state.read(Order(6), Some("$root")), "receipts go forward only");
        let read = |state: &ReadState, order| {
            [None, Some("$root"), Some("$other")].map(|thread| state.has_read(Order(order), thread))
        };
        assert_eq!(read(&state, 5), [true, true, false]);
        assert_eq!(read(&state, 7), [false, true, false]);
        assert!(state.read(Order(8), None));
        assert_eq!(read(&state, 8), [true, true, true]);
        assert_eq!(read(&state, 9), [false, false, false]);
    }

    #[test]
    fn the_threads_that_are_remembered_are_bounded() {
        let mut state = ReadState::default();
        for thread in 0..=THREADS_MAX {
            let order = i64::try_from(thread).unwrap();
            assert!(state.read(Order(order), Some(&format!("${thread}"))));
        }
        assert_eq!(state.threads.len(), THREADS_MAX);
        assert!(!state.has_read(Order(0), Some("$0")) && state.has_read(Order(1), Some("$1")));
        state.read(Order(1000), None);
        state.read(Order(1001), Some("$new"));
        assert_eq!(state.threads, [("$new".to_owned(), Order(1001))], "what was read everywhere is not kept");
    }
}
