//! Sending messages to devices (client-server API, "Send-to-Device messaging").

use crate::{Devices, Error};
use base::limits::{BATCH_BYTES_MAX, ID_BYTES_MAX, PDU_BYTES_MAX};
use records::{LogEntry, ToDeviceRecord, TxnScope};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use std::collections::{BTreeMap, HashSet};

/// The largest content of a message, in bytes: what an event may have.
pub const MESSAGE_BYTES_MAX: usize = PDU_BYTES_MAX;
/// How many devices one request can reach.
pub const MESSAGES_MAX: usize = 10_000;
/// How many bytes one request can store, over all devices that it reaches.
pub const TO_DEVICE_BYTES_MAX: usize = BATCH_BYTES_MAX / 2;
/// How many users one entry of the log tells of.
const LOGGED_USERS_MAX: usize = 500;

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
    /// Sends messages, once for each transaction id. A message to a device that does not exist is dropped, and so
    /// is one to another server, which cannot be reached yet. Of a message to a device and one to all devices of
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
            Ok(())
        })
        .await
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
