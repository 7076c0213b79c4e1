//! What a user has set for a room follows them into the room that replaces it (client-server API, "Room
//! Upgrades", "Server behaviour").

use crate::{ApiError, State};
use records::Membership;
use ruma::{OwnedRoomId, RoomId, UserId};
use serde::Deserialize;

/// Copies tags, push rules and the mark of a direct chat from the room that this one replaces, if it does, for a
/// user who has just entered. Whatever fails, they are in the room: it is logged only.
pub(super) async fn follow(state: &State, user: &UserId, room_id: &RoomId) {
    let copied = match predecessor(state, user, room_id) {
        Ok(Some(old)) => {
            state.accounts.copy_room_settings(user, &old, room_id).await.map_err(|error| error.to_string())
        }
        Ok(None) => Ok(()),
        Err(error) => Err(format!("{error:?}")),
    };
    if let Err(error) = copied {
        tracing::warn!(%user, %room_id, %error, "a user's settings did not follow them into an upgraded room");
    }
}

/// The room that this one replaces: both must say so, unless the user has made this one themselves. Else anybody
/// could make a room that looks like a direct chat to those who enter it.
fn predecessor(state: &State, user: &UserId, room_id: &RoomId) -> Result<Option<OwnedRoomId>, ApiError> {
    #[derive(Deserialize)]
    struct Creation {
        predecessor: Option<Predecessor>,
    }
    #[derive(Deserialize)]
    struct Predecessor {
        room_id: OwnedRoomId,
    }
    #[derive(Deserialize)]
    struct Tombstone {
        replacement_room: OwnedRoomId,
    }

    let view = state.records.view();
    let Some(new) = state.rooms.reader_by_id(&view, room_id)? else { return Ok(None) };
    // Who was in already has been followed, and has changed what they like since.
    if new.membership(user)?.is_none_or(|(_, record)| record.previous == Some(Membership::Join)) {
        return Ok(None);
    }
    let Some(create) = new.state_event(new.state(), "m.room.create", "")? else { return Ok(None) };
    let creation: Option<Creation> = serde_json::from_str(create.pdu.content().get()).ok();
    let Some(predecessor) = creation.and_then(|creation| creation.predecessor) else { return Ok(None) };
    let Some(old) = state.rooms.reader_by_id(&view, &predecessor.room_id)? else { return Ok(None) };
    if old.membership(user)?.is_none() {
        return Ok(None);
    }
    let tombstone = old.state_event(old.state(), "m.room.tombstone", "")?;
    let tombstone: Option<Tombstone> = tombstone.and_then(|event| serde_json::from_str(event.pdu.content().get()).ok());
    let is_replaced = tombstone.is_some_and(|tombstone| tombstone.replacement_room == room_id);
    Ok((is_replaced || create.pdu.sender() == user).then_some(predecessor.room_id))
}
