//! What this server knows of the devices of other servers' users.

use crate::codec::RecordsError;
use crate::tables::REMOTE_DEVICES;
use crate::{Changes, View};
use base::{Stamp, UnixMillis};
use ruma::UserId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The devices of a user of another server, as it last told them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteDevices {
    /// When a change of them was last told before that.
    pub changed: Option<Stamp>,
    /// When the server was asked.
    pub asked_at: UnixMillis,
    /// Identity keys by device, as JSON objects with signatures and the device's name in `unsigned`. A device without
    /// keys is not here.
    pub devices: BTreeMap<String, String>,
    /// The master key, as a JSON object.
    pub master: Option<String>,
    /// The self-signing key.
    pub self_signing: Option<String>,
}

fn key(user: &UserId) -> Vec<u8> {
    REMOTE_DEVICES.key().text(user.as_str()).build()
}

impl View {
    /// What is known of the devices of another server's user; nothing if nobody has asked for them, or nobody here
    /// shares a room with them.
    pub fn remote_devices(&self, user: &UserId) -> Result<Option<RemoteDevices>, RecordsError> {
        self.get(REMOTE_DEVICES, &key(user))
    }
}

impl Changes {
    /// Replaces what is known of a user's devices, on condition that it is still what the view shows.
    pub fn put_remote_devices(&mut self, user: &UserId, devices: &RemoteDevices) -> Result<(), RecordsError> {
        self.expect_unchanged(REMOTE_DEVICES, key(user))?;
        self.put(REMOTE_DEVICES, key(user), devices);
        Ok(())
    }
}
