//! The times that users spent in rooms and that are over: from becoming a member to not being one any more.
//!
//! What a user may still see of a room that they are not in depends on the last of them, however many
//! invitations and bans have followed it; so there is a row for each, found in O(log n).

use crate::codec::{self, RecordsError};
use crate::tables::STAY;
use crate::{Changes, View};
use base::{EventNum, Order, RoomNum};
use ruma::UserId;
use serde::{Deserialize, Serialize};
use store::key::{KeyBuilder, KeyReader};
use store::{Direction, Hole, Row, Stamped};

/// One time that a user was in a room, which is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The event of the timeline with which it began.
    pub began: EventNum,
    /// The event of the timeline with which it ended: as a rule the membership event, else the one that made the
    /// room resolve its state.
    pub ended: EventNum,
    /// Where it ended.
    pub until: Order,
}

#[derive(Serialize, Deserialize)]
struct StayRecord {
    began: EventNum,
    ended: EventNum,
}

fn stays_of(room: RoomNum, user: &UserId) -> KeyBuilder {
    STAY.key().number(room.0).text(user.as_str())
}

fn read((key, value): &Row) -> Result<Stay, RecordsError> {
    let mut reader = KeyReader::new(key);
    let until = reader.number().and_then(|_| reader.text()).and_then(|_| reader.number());
    let until = Order(until.ok_or_else(|| STAY.corrupt())?.cast_signed());
    let StayRecord { began, ended } = STAY.decode(value)?;
    Ok(Stay { began, ended, until })
}

impl View {
    /// The last time that a user was in a room, the one that goes on apart.
    pub fn last_stay(&self, room: RoomNum, user: &UserId) -> Result<Option<Stay>, RecordsError> {
        let range = stays_of(room, user).prefix_range();
        self.scan(STAY, range, Direction::Backward, 1)?.first().map(read).transpose()
    }

    /// The first time that a user was in a room which ended after a place of its timeline.
    pub fn first_stay_after(&self, room: RoomNum, user: &UserId, after: Order) -> Result<Option<Stay>, RecordsError> {
        // Stays end with live events, whose orders are stamps.
        let after = after.0.max(0).cast_unsigned().saturating_add(1);
        let range = (stays_of(room, user).number(after).build(), stays_of(room, user).prefix_range().1);
        self.scan(STAY, range, Direction::Forward, 1)?.first().map(read).transpose()
    }
}

impl Changes {
    /// Notes at a stamp of these changes that a user was in a room and is not any more.
    pub fn put_stay(&mut self, nth: u16, room: RoomNum, user: &UserId, began: EventNum, ended: EventNum) {
        let key = stays_of(room, user);
        let at = u32::try_from(key.len()).unwrap_or(u32::MAX);
        let key = Stamped { bytes: key.number(0).build(), holes: vec![Hole { at, nth }] };
        self.put_raw(STAY, key, codec::encode(&StayRecord { began, ended }).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use ruma::{owned_user_id, user_id};
    use std::sync::Arc;
    use store::MemoryEngine;

    #[tokio::test]
    async fn the_stay_of_a_moment_is_found_among_many() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let (room, user) = (RoomNum(1), owned_user_id!("@a:b"));
        let mut ends = Vec::new();
        for number in 0..20 {
            let mut changes = records.changes(&records.view());
            let nth = changes.stamp();
            changes.put_stay(nth, room, &user, EventNum(number * 2), EventNum(number * 2 + 1));
            changes.put_stay(nth, RoomNum(2), &user, EventNum(900), EventNum(901));
            changes.put_stay(nth, room, user_id!("@ab:b"), EventNum(900), EventNum(901));
            ends.push(Order::from(records.commit(changes).await.unwrap().last));
        }
        let view = records.view();
        let last = Stay { began: EventNum(38), ended: EventNum(39), until: ends[19] };
        assert_eq!(view.last_stay(room, &user).unwrap(), Some(last));
        assert_eq!(view.first_stay_after(room, &user, ends[18]).unwrap(), Some(last));
        assert_eq!(view.first_stay_after(room, &user, ends[19]).unwrap(), None);
        let first = Stay { began: EventNum(0), ended: EventNum(1), until: ends[0] };
        assert_eq!(view.first_stay_after(room, &user, Order(-7)).unwrap(), Some(first));
        assert_eq!(view.last_stay(room, user_id!("@c:b")).unwrap(), None);
    }
}
