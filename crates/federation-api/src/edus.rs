//! What servers tell besides events: who types, what was read, who is there, messages to devices, changes of devices
//! (server-server API, "EDUs").
//!
//! Of what can't be read, or is not the sending server's to tell, nothing is made.

use crate::access::is_admitted;
use crate::{Origin, State};
use devices::OutgoingMessages;
use face::ApiError;
use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use sync::{Marks, PresenceState};

/// How many receipts one EDU has, over all rooms and users.
const RECEIPTS_MAX: usize = 1_000;
/// How many users' presence one EDU has.
const PRESENCES_MAX: usize = 1_000;
/// How many characters the id of a message to devices has.
const MESSAGE_ID_CHARS_MAX: usize = 32;
/// What the presence of users of other servers stands under: they have no devices here.
const DEVICE: &str = "federation";

#[derive(Deserialize)]
struct Edu<'a> {
    edu_type: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

/// Takes in what a transaction has besides events, in its order.
pub(crate) async fn take_in(state: &State, origin: &Origin, edus: &[Box<RawValue>]) {
    for edu in edus {
        let Ok(Edu { edu_type, content }) = serde_json::from_str(edu.get()) else { continue };
        let content = content.get();
        let outcome = match edu_type.as_str() {
            "m.typing" => typing(state, origin, content),
            "m.receipt" => receipts(state, origin, content).await,
            "m.presence" => presence(state, origin, content),
            "m.direct_to_device" => to_device(state, origin, content).await,
            "m.device_list_update" | "m.signing_key_update" => devices_changed(state, origin, content).await,
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            tracing::debug!(origin = %**origin, edu_type, ?error, "nothing is made of an EDU");
        }
    }
}

fn read<'a, T: Deserialize<'a>>(content: &'a str) -> Result<T, ApiError> {
    serde_json::from_str(content).map_err(|error| ApiError::bad_json(error.to_string()))
}

/// A user of the server that tells of them.
fn check_user(origin: &Origin, user: &UserId) -> Result<(), ApiError> {
    crate::access::own_user(origin, user)
}

/// The room's access control list holds for what is not an event too (MSC4163).
fn check_room(state: &State, origin: &Origin, room_id: &RoomId) -> Result<(), ApiError> {
    let view = state.records.view();
    let reader = state.rooms.reader_by_id(&view, room_id)?.ok_or_else(|| ApiError::not_found("the room"))?;
    if is_admitted(&reader, origin)? { Ok(()) } else { Err(ApiError::forbidden("the room does not admit the server")) }
}

fn typing(state: &State, origin: &Origin, content: &str) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Content {
        room_id: OwnedRoomId,
        user_id: OwnedUserId,
        typing: bool,
    }
    let Content { room_id, user_id, typing } = read(content)?;
    check_user(origin, &user_id)?;
    check_room(state, origin, &room_id)?;
    Ok(state.syncs.typing(&user_id, &room_id, typing.then_some(None))?)
}

async fn receipts(state: &State, origin: &Origin, content: &str) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct OfRoom {
        #[serde(rename = "m.read", default)]
        read: BTreeMap<OwnedUserId, Receipt>,
    }
    #[derive(Deserialize)]
    struct Receipt {
        event_ids: Vec<OwnedEventId>,
        #[serde(default)]
        data: Data,
    }
    #[derive(Default, Deserialize)]
    struct Data {
        thread_id: Option<String>,
    }
    let rooms: BTreeMap<OwnedRoomId, OfRoom> = read(content)?;
    let mut left = RECEIPTS_MAX;
    for (room_id, OfRoom { read }) in rooms {
        if check_room(state, origin, &room_id).is_err() {
            continue;
        }
        for (user, Receipt { event_ids, data }) in read {
            if left == 0 || check_user(origin, &user).is_err() {
                continue;
            }
            left -= 1;
            let Some(event_id) = event_ids.into_iter().next_back() else { continue };
            let marks = Marks { read: Some(event_id), thread: data.thread_id, ..Marks::default() };
            if let Err(error) = state.syncs.mark(&user, &room_id, &marks).await {
                tracing::debug!(%room_id, %user, %error, "a receipt of another server is not taken");
            }
        }
    }
    Ok(())
}

fn presence(state: &State, origin: &Origin, content: &str) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Content {
        push: Vec<Push>,
    }
    #[derive(Deserialize)]
    struct Push {
        user_id: OwnedUserId,
        presence: String,
        status_msg: Option<String>,
    }
    let Content { push } = read(content)?;
    let view = state.records.view();
    for Push { user_id, presence, status_msg } in push.into_iter().take(PRESENCES_MAX) {
        // Whoever shares no room with anybody here is of no interest.
        if check_user(origin, &user_id).is_err() || !view.has_memberships(&user_id)? {
            continue;
        }
        let presence = match presence.as_str() {
            "online" => PresenceState::Online,
            "unavailable" => PresenceState::Unavailable,
            "offline" => PresenceState::Offline,
            _ => continue,
        };
        state.syncs.set_presence(&user_id, DEVICE.into(), presence, status_msg)?;
    }
    Ok(())
}

async fn to_device(state: &State, origin: &Origin, content: &str) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct ToDevice {
        sender: OwnedUserId,
        #[serde(rename = "type")]
        kind: String,
        message_id: String,
        messages: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Box<RawValue>>>,
    }
    let ToDevice { sender, kind, message_id, messages } = read(content)?;
    check_user(origin, &sender)?;
    if message_id.chars().count() > MESSAGE_ID_CHARS_MAX {
        return Err(ApiError::invalid_param("the id of the message is too long"));
    }
    let contents = messages.into_iter().map(|(user, devices)| {
        let devices = devices.into_iter().map(|(device, content)| (device, content.get().to_owned()));
        (user, devices.collect())
    });
    let messages = OutgoingMessages { kind, contents: contents.collect() };
    state.devices.send_from_server(&sender, &messages, &message_id).await?;
    Ok(())
}

/// Devices or keys of a user have changed: who shares a room with them is told, and asks for them again.
async fn devices_changed(state: &State, origin: &Origin, content: &str) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Update {
        user_id: OwnedUserId,
    }
    let Update { user_id } = read(content)?;
    check_user(origin, &user_id)?;
    if state.records.view().has_memberships(&user_id)? {
        state.devices.note_remote_change(&user_id).await?;
    }
    Ok(())
}
