//! The events of a room's timeline by the time that their senders gave them, which need not be the order in which
//! they came.

use crate::codec::{self, RecordsError};
use crate::tables::TIME;
use crate::{Changes, View};
use base::{EventNum, Order, RoomNum, UnixMillis};
use store::key::KeyReader;
use store::{Direction, Hole, Stamped};

/// As in the timeline: what comes before the order of a backfilled event and of a live one.
const BACKFILLED: u8 = 0;
const LIVE: u8 = 1;

/// An event by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedEvent {
    /// The time that its sender gave it.
    pub at: UnixMillis,
    /// Its place in the timeline.
    pub order: Order,
    /// The event.
    pub event: EventNum,
}

pub(crate) fn time_key(room: RoomNum, at: UnixMillis, order: Order) -> Vec<u8> {
    let key = TIME.key().number(room.0).number(at.0);
    if order.0 < 0 {
        key.byte(BACKFILLED).signed(order.0).build()
    } else {
        key.byte(LIVE).number(order.0.cast_unsigned()).build()
    }
}

fn read_key(key: &[u8]) -> Option<(UnixMillis, Order)> {
    let mut reader = KeyReader::new(key);
    let _room = reader.number()?;
    let at = UnixMillis(reader.number()?);
    let order = match reader.byte()? {
        BACKFILLED => Order(reader.signed()?),
        LIVE => Order(reader.number()?.cast_signed()),
        _ => return None,
    };
    Some((at, order))
}

impl View {
    /// The events of a room from a time on: forward those of that time and later, backward those of that time and
    /// earlier; of one time in the order of the timeline. `beyond` leaves out those up to that one.
    pub fn events_from_time(
        &self,
        room: RoomNum,
        at: UnixMillis,
        beyond: Option<TimedEvent>,
        direction: Direction,
        rows_max: usize,
    ) -> Result<Vec<TimedEvent>, RecordsError> {
        let (mut from, mut to) = TIME.key().number(room.0).prefix_range();
        match direction {
            Direction::Forward => {
                from = TIME.key().number(room.0).number(at.0).build();
                if let Some(last) = beyond {
                    from = [time_key(room, last.at, last.order), vec![0]].concat();
                }
            }
            Direction::Backward => {
                if let Some(after) = at.0.checked_add(1) {
                    to = TIME.key().number(room.0).number(after).build();
                }
                if let Some(last) = beyond {
                    to = time_key(room, last.at, last.order);
                }
            }
        }
        let rows = self.scan(TIME, (from, to), direction, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let (at, order) = read_key(key).ok_or_else(|| TIME.corrupt())?;
                Ok(TimedEvent { at, order, event: TIME.decode(value)? })
            })
            .collect()
    }
}

impl Changes {
    /// Lets an event that is appended at a stamp of these changes be found by its time.
    pub fn put_time(&mut self, nth: u16, room: RoomNum, at: UnixMillis, event: EventNum) {
        let key = TIME.key().number(room.0).number(at.0).byte(LIVE);
        let hole = Hole { at: u32::try_from(key.len()).unwrap_or(u32::MAX), nth };
        let key = Stamped { bytes: key.number(0).build(), holes: vec![hole] };
        self.put_raw(TIME, key, codec::encode(&event).into());
    }

    /// Lets a backfilled event be found by its time.
    pub fn put_time_before(&mut self, order: Order, room: RoomNum, at: UnixMillis, event: EventNum) {
        self.put(TIME, time_key(room, at, order), &event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use std::sync::Arc;
    use store::MemoryEngine;

    const ROOM: RoomNum = RoomNum(7);

    #[tokio::test]
    async fn events_are_found_by_time_and_then_by_place() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let mut changes = records.changes(&records.view());
        for (event, at) in [(1, 100), (2, 200), (3, 200), (4, 50)] {
            let nth = changes.stamp();
            changes.put_time(nth, ROOM, UnixMillis(at), EventNum(event));
        }
        changes.put_time_before(Order(-1), ROOM, UnixMillis(200), EventNum(5));
        changes.put_time_before(Order(-1), RoomNum(8), UnixMillis(1), EventNum(6));
        records.commit(changes).await.unwrap();
        let view = records.view();
        let find = |at, beyond, direction, rows| -> Vec<u64> {
            let found = view.events_from_time(ROOM, UnixMillis(at), beyond, direction, rows).unwrap();
            found.iter().map(|timed| timed.event.0).collect()
        };
        assert_eq!(find(200, None, Direction::Forward, 9), [5, 2, 3]);
        assert_eq!(find(200, None, Direction::Backward, 2), [3, 2]);
        assert_eq!(find(150, None, Direction::Backward, 1), [1]);
        assert_eq!(find(150, None, Direction::Forward, 1), [5]);
        assert_eq!(find(0, None, Direction::Forward, 9), [4, 1, 5, 2, 3]);
        assert_eq!(find(49, None, Direction::Backward, 9), [0; 0]);
        assert_eq!(find(201, None, Direction::Forward, 9), [0; 0]);
        assert_eq!(find(u64::MAX, None, Direction::Backward, 1), [3]);
        let first = view.events_from_time(ROOM, UnixMillis(200), None, Direction::Forward, 1).unwrap()[0];
        assert_eq!(find(200, Some(first), Direction::Forward, 9), [2, 3]);
        assert_eq!(find(200, Some(first), Direction::Backward, 9), [1, 4]);
    }
}
