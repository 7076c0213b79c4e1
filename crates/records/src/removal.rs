//! Taking out of the store what rooms have written: single events, and all of a room.

use crate::codec::RecordsError;
use crate::rooms::{event_by_id_key, event_key, head_key, member_prefix, membership_key, room_by_id_key, timeline_key};
use crate::tables::{
    EDIT, EVENT, EVENT_BY_ID, MEMBERSHIP, PENDING_REDACTION, READ_STATE, RECEIPT, RECEIPT_BY_STAMP, RELATED, RELATION,
    RELATION_SENDER, ROOM_ALIAS, ROOM_BY_ID, ROOM_HEAD, ROOM_MEMBER, STATE_NODE, STAY, THREAD, TIME, TIMELINE,
};
use crate::times::time_key;
use crate::{Changes, EventRecord, Membership, RoomHead, View};
use base::{EventNum, NodeNum, Order, RoomNum, UnixMillis};
use ruma::UserId;
use store::Direction;
use store::key::KeyReader;

impl View {
    /// The rooms in the order of their numbers, from the one after `after`, at most `rows_max`.
    pub fn rooms(&self, after: Option<RoomNum>, rows_max: usize) -> Result<Vec<(RoomNum, RoomHead)>, RecordsError> {
        let (mut from, to) = ROOM_HEAD.key().prefix_range();
        if let Some(after) = after {
            from = ROOM_HEAD.key().number(after.0).prefix_range().1;
        }
        let rows = self.scan(ROOM_HEAD, (from, to), Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let room = KeyReader::new(key).number().ok_or_else(|| ROOM_HEAD.corrupt())?;
                Ok((RoomNum(room), ROOM_HEAD.decode(value)?))
            })
            .collect()
    }
}

impl Changes {
    /// Removes an event, which is at this place of its room's timeline (0: in none) and says that it is of this time.
    /// What relates to it and what it relates to are the caller's.
    pub fn remove_event(&mut self, order: Order, event: EventNum, record: &EventRecord, at: UnixMillis) {
        self.clear(EVENT, event_key(event));
        self.clear(EVENT_BY_ID, event_by_id_key(&record.event_id));
        if order != Order(0) {
            self.clear(TIMELINE, timeline_key(record.room, order));
            self.clear(TIME, time_key(record.room, at, order));
        }
    }

    /// Removes a row of a room's timeline whose event is gone.
    pub fn clear_place(&mut self, room: RoomNum, order: Order) {
        self.clear(TIMELINE, timeline_key(room, order));
    }

    /// Removes a node of a state map.
    pub fn remove_node(&mut self, node: NodeNum) {
        self.clear(STATE_NODE, STATE_NODE.key().number(node.0).build());
    }

    /// Removes a room's head and its name, on condition that the head is still as the view shows it: from then on
    /// nobody finds the room, and nobody writes to it. Its aliases and its place in the directory are the caller's.
    pub fn remove_head(&mut self, room: RoomNum, head: &RoomHead) -> Result<(), RecordsError> {
        self.expect_unchanged(ROOM_HEAD, head_key(room))?;
        self.clear(ROOM_HEAD, head_key(room));
        self.clear(ROOM_BY_ID, room_by_id_key(&head.room_id));
        Ok(())
    }

    /// Removes what a user is to a room, and what they have read of it.
    pub fn remove_member(&mut self, user: &UserId, room: RoomNum, membership: Membership) {
        self.clear(MEMBERSHIP, membership_key(user, room));
        self.clear(ROOM_MEMBER, member_prefix(room, membership).text(user.as_str()).build());
        self.clear(READ_STATE, READ_STATE.key().text(user.as_str()).number(room.0).build());
    }

    /// Removes all that is kept by the number of a room, but its head and its events.
    pub fn remove_room_rows(&mut self, room: RoomNum) {
        let tables = [
            TIMELINE,
            ROOM_MEMBER,
            ROOM_ALIAS,
            RELATION,
            RELATED,
            EDIT,
            THREAD,
            RELATION_SENDER,
            TIME,
            STAY,
            PENDING_REDACTION,
            RECEIPT,
            RECEIPT_BY_STAMP,
        ];
        for table in tables {
            self.clear_range(table, table.key().number(room.0).prefix_range());
        }
    }
}
