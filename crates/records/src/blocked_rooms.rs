//! Rooms that administrators have blocked: nobody of this server enters them. They need not be known here.

use crate::codec::RecordsError;
use crate::tables::BLOCKED_ROOM;
use crate::{Changes, View};
use base::UnixMillis;
use ruma::{OwnedUserId, RoomId};
use serde::{Deserialize, Serialize};

/// That a room is blocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedRoom {
    /// Who blocked it.
    pub by: OwnedUserId,
    /// When.
    pub at: UnixMillis,
}

fn blocked_key(room: &RoomId) -> Vec<u8> {
    BLOCKED_ROOM.key().text(room.as_str()).build()
}

impl View {
    /// Who blocked a room, if it is blocked.
    pub fn blocked_room(&self, room: &RoomId) -> Result<Option<BlockedRoom>, RecordsError> {
        self.get(BLOCKED_ROOM, &blocked_key(room))
    }
}

impl Changes {
    /// Blocks a room.
    pub fn block_room(&mut self, room: &RoomId, blocked: &BlockedRoom) {
        self.put(BLOCKED_ROOM, blocked_key(room), blocked);
    }

    /// Takes back [`Changes::block_room`].
    pub fn unblock_room(&mut self, room: &RoomId) {
        self.clear(BLOCKED_ROOM, blocked_key(room));
    }

    /// Commits only if a room is not blocked.
    pub fn expect_not_blocked(&mut self, room: &RoomId) {
        self.expect_absent(BLOCKED_ROOM, blocked_key(room));
    }
}
