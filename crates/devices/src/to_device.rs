//! Sending messages to devices (client-server API, "Send-to-Device messaging").

use crate::{Devices, Error};
use base::UnixMillis;
use base::limits::{BATCH_BYTES_MAX, ID_BYTES_MAX, PDU_BYTES_MAX};
use records::{LogEntry, ToDeviceRecord, TxnScope};
use ruma::{DeviceId, OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName, UserId};
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The largest content of a message, in bytes: what an event may have.
pub const MESSAGE_BYTES_MAX: usize = PDU_BYTES_MAX;
/// How many devices one request can reach.
pub const MESSAGES_MAX: usize = 10_000;
/// How many bytes one request can store, over all devices that it reaches.
pub const TO_DEVICE_BYTES_MAX: usize = BATCH_BYTES_MAX / 2;
/// How many users one entry of the log tells of.
const LOGGED_USERS_MAX: usize = 500;

/// How many bytes of messages are put into one EDU before another is begun.
const EDU_BYTES: usize = 200 * 1024;

/// All devices of a user.
pub const WILDCARD: &str = "*";

/// Which device of a user a message is for, or [`WILDCARD`].
pub type Addressee = OwnedDeviceId;

/// Messages of one type: their contents, each a JSON object, by user and device.
#[derive(Clone, Debug)]
pub struct OutgoingMessages {
    /// Their type.
    pub kind: String,
    /// Their contents.
    pub contents: BTreeMap<OwnedUserId, BTreeMap<Addressee, String>>,
}

/// What makes a request known when it is repeated.
#[derive(Clone, Copy, Debug)]
pub struct ToDeviceTxn<'a> {
    /// The device that sends.
    pub device_id: &'a DeviceId,
    /// The endpoint and its path parameters.
    pub endpoint: &'a str,
    /// The transaction id.
    pub txn_id: &'a str,
}

impl Devices {
    /// Sends messages, once for each transaction id. A message to a device that does not exist is dropped. One to a
    /// device of another server's user waits until that server has it. Of a message to a device and one to all devices of
    /// its user, the device gets the first.
    ///
    /// What is sent by one request is stored by one batch: all devices get it, or none. A message is one row for
    /// its device and, with all others, an entry of the log; nothing is written for whoever is not addressed.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] beyond [`MESSAGE_BYTES_MAX`], [`MESSAGES_MAX`] or [`TO_DEVICE_BYTES_MAX`].
    pub async fn send(
        &self,
        sender: &UserId,
        messages: &OutgoingMessages,
        txn: Option<ToDeviceTxn<'_>>,
    ) -> Result<(), Error> {
        if messages.kind.len() > ID_BYTES_MAX {
            return Err(Error::TooLarge("the type"));
        }
        if messages.contents.values().flat_map(BTreeMap::values).any(|content| content.len() > MESSAGE_BYTES_MAX) {
            return Err(Error::TooLarge("a message"));
        }
        let now = self.now();
        self.change(|changes| {
            if let Some(txn) = txn {
                let device_id = txn.device_id.as_str();
                let scope = TxnScope { user: sender, device_id, endpoint: txn.endpoint };
                if changes.view().is_done(scope, txn.txn_id)? {
                    return Ok(());
                }
                changes.put_done(scope, txn.txn_id, now)?;
            }
            let reached = self.reached(changes.view(), messages)?;
            let mut open: Option<(u16, HashSet<&UserId>)> = None;
            for (user, device, content) in &reached {
                let (nth, users) = open.get_or_insert_with(|| (changes.stamp(), HashSet::new()));
                let record = ToDeviceRecord {
                    sender: sender.to_owned(),
                    kind: messages.kind.clone(),
                    content: (*content).to_owned(),
                };
                changes.put_to_device(*nth, user, device, &record);
                users.insert(user);
                if users.len() >= LOGGED_USERS_MAX {
                    log(changes, open.take());
                }
            }
            log(changes, open);
            send_elsewhere(changes, elsewhere(sender, messages, txn.as_ref(), now, &self.0.server_name)?);
            Ok(())
        })
        .await
    }

    /// Takes in messages of a user of another server, once for each id that it gives them (server-server API,
    /// "Send-to-device messaging").
    ///
    /// # Errors
    ///
    /// As [`Devices::send`].
    pub async fn send_from_server(
        &self,
        sender: &UserId,
        messages: &OutgoingMessages,
        message_id: &str,
    ) -> Result<(), Error> {
        // No device of this server has the id that stands for all of them.
        let txn = ToDeviceTxn { device_id: WILDCARD.into(), endpoint: "federation", txn_id: message_id };
        self.send(sender, messages, Some(txn)).await
    }

    /// Notes that another server says that devices or keys of one of its users have changed: who shares a room with
    /// the user is told.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub async fn note_remote_change(&self, user: &UserId) -> Result<(), Error> {
        self.change(|changes| Ok(changes.change_device_list(user)?)).await
    }

    /// The devices that messages reach, each with its content.
    fn reached<'m>(
        &self,
        view: &records::View,
        messages: &'m OutgoingMessages,
    ) -> Result<Vec<(&'m UserId, OwnedDeviceId, &'m str)>, Error> {
        let mut reached: Vec<(&UserId, OwnedDeviceId, &str)> = Vec::new();
        let (mut asked, mut contents) = (Vec::new(), Vec::new());
        let mut budget = Budget { messages: MESSAGES_MAX, bytes: TO_DEVICE_BYTES_MAX };
        for (user, by_device) in messages.contents.iter().filter(|(user, _)| self.is_local(user)) {
            for (device, content) in by_device {
                if device.as_str() == WILDCARD {
                    for (device, _) in view.devices(user)? {
                        if !by_device.contains_key(&device) {
                            budget.take(content)?;
                            reached.push((user, device, content));
                        }
                    }
                } else {
                    budget.take(content)?;
                    asked.push((user.clone(), device.clone()));
                    contents.push((&**user, content));
                }
            }
        }
        let known = view.devices_known(&asked)?;
        for (((_, device), (user, content)), is_known) in asked.into_iter().zip(contents).zip(known) {
            if is_known {
                reached.push((user, device, content));
            }
        }
        reached.sort_by(|a, b| a.0.cmp(b.0));
        Ok(reached)
    }
}

/// Messages for other servers: for each server, EDUs of bounded size, and the users.
type Elsewhere = BTreeMap<OwnedServerName, (Vec<String>, Vec<OwnedUserId>)>;

/// Puts messages for users of other servers into EDUs (server-server API, "Send-to-device messaging").
fn elsewhere(
    sender: &UserId,
    messages: &OutgoingMessages,
    txn: Option<&ToDeviceTxn<'_>>,
    now: UnixMillis,
    own: &ServerName,
) -> Result<Elsewhere, Error> {
    // What comes from another server is for users of this one, and goes no further.
    if sender.server_name() != own {
        return Ok(Elsewhere::new());
    }
    let mut budget = Budget { messages: MESSAGES_MAX, bytes: TO_DEVICE_BYTES_MAX };
    let mut by_server: BTreeMap<&ServerName, Vec<(&OwnedUserId, &Addressee, &String)>> = BTreeMap::new();
    for (user, by_device) in messages.contents.iter().filter(|(user, _)| user.server_name() != own) {
        for (device, content) in by_device {
            budget.take(content)?;
            by_server.entry(user.server_name()).or_default().push((user, device, content));
        }
    }
    let mut elsewhere = Elsewhere::new();
    for (server, contents) in by_server {
        let (edus, users) = elsewhere.entry(server.to_owned()).or_default();
        users.extend(contents.iter().map(|(user, ..)| (*user).clone()));
        users.dedup();
        let mut contents = contents.into_iter().peekable();
        while contents.peek().is_some() {
            let (mut some, mut bytes) = (BTreeMap::<&OwnedUserId, BTreeMap<&Addressee, &RawValue>>::new(), 0);
            while bytes < EDU_BYTES
                && let Some((user, device, content)) = contents.next()
            {
                bytes += content.len();
                let content = serde_json::from_str(content).map_err(|error| Error::BadJson(error.to_string()))?;
                some.entry(user).or_default().insert(device, content);
            }
            // The other server knows one that comes twice by its id.
            let mut hasher = DefaultHasher::new();
            (sender, txn.map(|txn| (txn.device_id, txn.endpoint, txn.txn_id)), server, edus.len()).hash(&mut hasher);
            let message_id = format!("{:x}-{:x}", now.0, hasher.finish());
            let content =
                json!({ "sender": sender, "type": messages.kind, "message_id": message_id, "messages": some });
            edus.push(json!({ "edu_type": "m.direct_to_device", "content": content }).to_string());
        }
    }
    Ok(elsewhere)
}

/// Lets messages wait for other servers.
fn send_elsewhere(changes: &mut records::Changes, elsewhere: Elsewhere) {
    for (server, (edus, users)) in elsewhere {
        let nth = changes.stamp();
        for (place, edu) in (0..).zip(edus) {
            changes.put_outgoing_edu(nth, &server, place, &edu);
        }
        let users = users.into_iter().take(LOGGED_USERS_MAX).collect();
        changes.log(nth, &LogEntry::ToDevice { users });
    }
}

/// What a request may still take.
struct Budget {
    messages: usize,
    bytes: usize,
}

impl Budget {
    fn take(&mut self, content: &str) -> Result<(), Error> {
        self.messages = self.messages.checked_sub(1).ok_or(Error::TooLarge("the number of messages"))?;
        self.bytes = self.bytes.checked_sub(content.len()).ok_or(Error::TooLarge("all messages together"))?;
        Ok(())
    }
}

fn log(changes: &mut records::Changes, logged: Option<(u16, HashSet<&UserId>)>) {
    if let Some((nth, users)) = logged {
        let users = users.into_iter().map(ToOwned::to_owned).collect();
        changes.log(nth, &LogEntry::ToDevice { users });
    }
}
