//! Rooms as those outside of them are shown them.

use records::RoomSummary;
use ruma::{OwnedRoomId, RoomId};
use serde::Serialize;

/// What the directory shows of a room (`PublishedRoomsChunk`).
#[derive(Serialize)]
pub struct PublicRoom<'a> {
    room_id: &'a RoomId,
    num_joined_members: u64,
    world_readable: bool,
    guest_can_join: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    canonical_alias: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_type: Option<&'a str>,
}

impl<'a> From<&'a RoomSummary> for PublicRoom<'a> {
    fn from(room: &'a RoomSummary) -> Self {
        Self {
            room_id: &room.room_id,
            num_joined_members: room.joined,
            world_readable: room.world_readable,
            guest_can_join: room.guest_can_join,
            name: room.name.as_deref(),
            topic: room.topic.as_deref(),
            canonical_alias: room.canonical_alias.as_deref(),
            avatar_url: room.avatar_url.as_deref(),
            join_rule: room.join_rule.as_deref(),
            room_type: room.room_type.as_deref(),
        }
    }
}

/// What a summary and a hierarchy show of a room (`RoomSummary`).
#[derive(Serialize)]
pub struct Summary<'a> {
    #[serde(flatten)]
    public: PublicRoom<'a>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    allowed_room_ids: &'a [OwnedRoomId],
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption: Option<&'a str>,
    room_version: &'a str,
}

impl<'a> From<&'a RoomSummary> for Summary<'a> {
    fn from(room: &'a RoomSummary) -> Self {
        Self {
            public: room.into(),
            allowed_room_ids: &room.allowed_room_ids,
            encryption: room.encryption.as_deref(),
            room_version: room.version.as_str(),
        }
    }
}
