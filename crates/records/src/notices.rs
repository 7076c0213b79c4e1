//! The rooms of server notices: one a user.

use crate::codec::RecordsError;
use crate::tables::NOTICE_ROOM;
use crate::{Changes, View};
use ruma::{OwnedRoomId, RoomId, UserId};

fn notice_room_key(user: &UserId) -> Vec<u8> {
    NOTICE_ROOM.key().text(user.as_str()).build()
}

impl View {
    /// The room in which a user gets server notices. It may not be there any more.
    pub fn notice_room(&self, user: &UserId) -> Result<Option<OwnedRoomId>, RecordsError> {
        self.get(NOTICE_ROOM, &notice_room_key(user))
    }
}

impl Changes {
    /// Sets in which room a user gets server notices, on condition that it is still as the view shows it.
    pub fn put_notice_room(&mut self, user: &UserId, room: &RoomId) -> Result<(), RecordsError> {
        let key = notice_room_key(user);
        self.expect_unchanged(NOTICE_ROOM, key.clone())?;
        self.put(NOTICE_ROOM, key, &room.to_owned());
        Ok(())
    }
}
