//! What servers are told beside events (server-server API, "EDUs").

use crate::{Federation, FederationError};
use base::{RoomNum, Stamp};
use records::{ReceiptKind, View};
use ruma::{RoomId, UserId};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn edu(kind: &str, content: &Value) -> Result<Box<RawValue>, FederationError> {
    to_raw_value(&json!({ "edu_type": kind, "content": content })).map_err(FederationError::unusable)
}

/// The public receipts of a user that moved at a stamp. Those that have moved on since are told then.
pub(super) fn receipt_edus(
    view: &View,
    stamp: Stamp,
    room: RoomNum,
    user: &UserId,
) -> Result<Vec<Box<RawValue>>, FederationError> {
    let Some(head) = view.room_head(room)? else { return Ok(Vec::new()) };
    let mut edus = Vec::new();
    for (at, key, record) in view.receipts_of(room, user)? {
        if at != stamp || key.kind != ReceiptKind::Public {
            continue;
        }
        let mut data = json!({ "ts": record.at.0 });
        if let (Some(thread), Some(data)) = (key.thread, data.as_object_mut()) {
            data.insert("thread_id".to_owned(), thread.into());
        }
        let receipt = json!({ "data": data, "event_ids": [record.event_id] });
        let content = json!({ head.room_id.as_str(): { "m.read": { user.as_str(): receipt } } });
        edus.push(edu("m.receipt", &content)?);
    }
    Ok(edus)
}

impl Federation {
    /// That the devices of a user have changed. The other servers ask for them all: no change refers to the one before.
    pub(super) fn device_edus(
        &self,
        view: &View,
        stamp: Stamp,
        user: &UserId,
    ) -> Result<Vec<Box<RawValue>>, FederationError> {
        let mut edus = Vec::new();
        let device = view.all_device_keys(user)?.into_iter().next().map(|(device, _)| device.to_string());
        let device = match device {
            Some(device) => device,
            None => view.devices(user)?.into_iter().next().map(|(device, _)| device.to_string()).unwrap_or_default(),
        };
        let content = json!({ "user_id": user, "device_id": device, "stream_id": stamp.0, "prev_id": [] });
        edus.push(edu("m.device_list_update", &content)?);
        let asked = BTreeMap::from([(user.to_owned(), Vec::new())]);
        let keys = self.0.devices.query(user, &asked).map_err(FederationError::unusable)?;
        let key_of = |keys: &str| -> Option<Value> {
            let mut keys: BTreeMap<String, Value> = serde_json::from_str(keys).ok()?;
            keys.remove(user.as_str())
        };
        if let Some(master) = key_of(&keys.master_keys) {
            let mut content = json!({ "user_id": user, "master_key": master });
            if let (Some(key), Some(content)) = (key_of(&keys.self_signing_keys), content.as_object_mut()) {
                content.insert("self_signing_key".to_owned(), key);
            }
            edus.push(edu("m.signing_key_update", &content)?);
        }
        Ok(edus)
    }

    /// Tells the other servers of a room that a user of this one types there, or has stopped. Those that don't answer
    /// are not told later: it is of use only now.
    ///
    /// # Errors
    ///
    /// If the records can't be read.
    pub fn tell_typing(&self, room_id: &RoomId, user: &UserId, typing: bool) -> Result<(), FederationError> {
        let view = self.0.records.view();
        let Some(room) = view.room_num(room_id)? else { return Ok(()) };
        let content = json!({ "room_id": room_id, "user_id": user, "typing": typing });
        let edu = edu("m.typing", &content)?;
        for server in self.others_in(&view, room)? {
            let destination = self.destination(&server, view.stamp());
            destination.add_volatile(format!("typing {room_id} {user}"), edu.clone());
            self.drive(&destination);
        }
        Ok(())
    }

    /// Tells the other servers with members in a user's rooms of the user's presence: one entry of `push` of
    /// `m.presence`.
    ///
    /// # Errors
    ///
    /// If the records can't be read.
    pub fn tell_presence(&self, user: &UserId, presence: &Value) -> Result<(), FederationError> {
        let view = self.0.records.view();
        let edu = edu("m.presence", &json!({ "push": [presence] }))?;
        for server in self.servers_around(&view, user)? {
            let destination = self.destination(&server, view.stamp());
            destination.add_volatile(format!("presence {user}"), edu.clone());
            self.drive(&destination);
        }
        Ok(())
    }

    /// Notes that an event of another server's user, which has come in by this server alone, is to be told to the
    /// others of its room: a membership that this server was asked to take in. To be called before the room takes it.
    ///
    /// # Errors
    ///
    /// If it can't be written down.
    pub async fn relay(&self, event_id: &ruma::EventId) -> Result<(), FederationError> {
        let mut changes = self.0.records.changes(&self.0.records.view());
        changes.put_relayed(event_id);
        self.0.records.commit(changes).await?;
        Ok(())
    }
}
