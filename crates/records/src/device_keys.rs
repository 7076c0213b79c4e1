//! The identity keys of devices, cross-signing keys, who signed whom, and when a user's devices last changed.

use crate::codec::{self, RecordsError};
use crate::tables::{
    CROSS_SIGNING, DEHYDRATED, DEVICE_KEYS, DEVICE_LIST, DEVICE_LIST_BY_STAMP, SIGNED_BY_STAMP, USER_SIGNATURE,
};
use crate::{Changes, LogEntry, View};
use base::Stamp;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::key::{KeyBuilder, KeyReader};
use store::{Direction, Hole, Stamped};

/// A public key object and what its owner signed of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedKey {
    /// The object as canonical JSON, without `signatures` and `unsigned`: what signatures are of.
    pub object: String,
    /// The owner's signatures by the id of the key that made them, such as `ed25519:DEVICE`.
    pub signatures: BTreeMap<String, String>,
}

/// A user's cross-signing keys (client-server API, "Cross-signing").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrossSigningRecord {
    /// The master key.
    pub master: Option<SignedKey>,
    /// The self-signing key.
    pub self_signing: Option<SignedKey>,
    /// The user-signing key.
    pub user_signing: Option<SignedKey>,
}

impl CrossSigningRecord {
    /// Whether one of the keys is this public key.
    #[must_use]
    pub fn has_public_key(&self, public_key: &str) -> bool {
        // A public key is letters, digits, + and /: it stands in JSON as it is, and as an id nowhere else.
        let is_named = |key: &SignedKey| key.object.contains(&format!("\"ed25519:{public_key}\":"));
        [&self.master, &self.self_signing, &self.user_signing].into_iter().flatten().any(is_named)
    }
}

/// What a user signed of another one's master key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSignature {
    /// The master key, its public key.
    pub master: String,
    /// The id of the user-signing key that signed it.
    pub key_id: String,
    /// The signature.
    pub signature: String,
}

/// A user's dehydrated device (MSC3814).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DehydratedRecord {
    /// The device.
    pub device_id: OwnedDeviceId,
    /// What a client needs to bring it back: a JSON object.
    pub data: String,
}

fn device_keys_key(user: &UserId, device: &DeviceId) -> Vec<u8> {
    DEVICE_KEYS.key().text(user.as_str()).text(device.as_str()).build()
}

fn cross_signing_key(user: &UserId) -> Vec<u8> {
    CROSS_SIGNING.key().text(user.as_str()).build()
}

fn signatures_by(signer: &UserId) -> KeyBuilder {
    USER_SIGNATURE.key().text(signer.as_str())
}

fn signed_by_stamp(signer: &UserId) -> KeyBuilder {
    SIGNED_BY_STAMP.key().text(signer.as_str())
}

fn dehydrated_key(user: &UserId) -> Vec<u8> {
    DEHYDRATED.key().text(user.as_str()).build()
}

fn list_key(user: &UserId) -> Vec<u8> {
    DEVICE_LIST.key().text(user.as_str()).build()
}

impl View {
    /// The identity keys of a device.
    pub fn device_keys(&self, user: &UserId, device: &DeviceId) -> Result<Option<SignedKey>, RecordsError> {
        self.get(DEVICE_KEYS, &device_keys_key(user, device))
    }

    /// The identity keys of all devices of a user that have any.
    pub fn all_device_keys(&self, user: &UserId) -> Result<Vec<(OwnedDeviceId, SignedKey)>, RecordsError> {
        let rows = self.scan_all(DEVICE_KEYS, DEVICE_KEYS.key().text(user.as_str()).prefix_range())?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let device = reader.text().and_then(|_| reader.text()).ok_or_else(|| DEVICE_KEYS.corrupt())?;
                Ok((device.into(), DEVICE_KEYS.decode(value)?))
            })
            .collect()
    }

    /// A user's cross-signing keys.
    pub fn cross_signing(&self, user: &UserId) -> Result<CrossSigningRecord, RecordsError> {
        Ok(self.get(CROSS_SIGNING, &cross_signing_key(user))?.unwrap_or_default())
    }

    /// What a user signed of another one's master key.
    pub fn user_signature(&self, signer: &UserId, user: &UserId) -> Result<Option<UserSignature>, RecordsError> {
        self.get(USER_SIGNATURE, &signatures_by(signer).text(user.as_str()).build())
    }

    /// A user's dehydrated device.
    pub fn dehydrated(&self, user: &UserId) -> Result<Option<DehydratedRecord>, RecordsError> {
        self.get(DEHYDRATED, &dehydrated_key(user))
    }

    /// When a user's devices or cross-signing keys last changed.
    pub fn device_list_changed(&self, user: &UserId) -> Result<Option<Stamp>, RecordsError> {
        Ok(self.get_stamped::<()>(DEVICE_LIST, &list_key(user))?.map(|(stamp, ())| stamp))
    }

    /// The users whose devices or cross-signing keys last changed after one stamp and up to another, at most
    /// `rows_max`, oldest first, with the stamps. Each user is there once, at the last change before the view.
    pub fn device_lists_changed(
        &self,
        after: Stamp,
        up_to: Stamp,
        rows_max: usize,
    ) -> Result<Vec<(Stamp, OwnedUserId)>, RecordsError> {
        let table = DEVICE_LIST_BY_STAMP;
        let range = (table.key().number(after.next().0).build(), table.key().number(up_to.next().0).build());
        let rows = self.scan(table, range, Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let stamp = KeyReader::new(key).number().ok_or_else(|| table.corrupt())?;
                Ok((Stamp(stamp), table.decode(value)?))
            })
            .collect()
    }

    /// The users whose keys a user signed after one stamp and up to another.
    pub fn users_signed(&self, signer: &UserId, after: Stamp, up_to: Stamp) -> Result<Vec<OwnedUserId>, RecordsError> {
        let key = signed_by_stamp(signer);
        let range = (key.clone().number(after.next().0).build(), key.number(up_to.next().0).build());
        let mut users = Vec::new();
        for (_, value) in self.scan_all(SIGNED_BY_STAMP, range)? {
            users.extend(SIGNED_BY_STAMP.decode::<Vec<OwnedUserId>>(&value)?);
        }
        Ok(users)
    }
}

impl Changes {
    /// The identity keys of a device, after these changes.
    pub fn device_keys(&self, user: &UserId, device: &DeviceId) -> Result<Option<SignedKey>, RecordsError> {
        self.get(DEVICE_KEYS, &device_keys_key(user, device))
    }

    /// Writes the identity keys of a device, on condition that they are still as the view shows them. The caller
    /// tells of it by [`Changes::change_device_list`].
    pub fn put_device_keys(&mut self, user: &UserId, device: &DeviceId, keys: &SignedKey) -> Result<(), RecordsError> {
        let key = device_keys_key(user, device);
        if !self.is_written(DEVICE_KEYS, &key) {
            self.expect_unchanged(DEVICE_KEYS, key.clone())?;
        }
        self.put(DEVICE_KEYS, key, keys);
        Ok(())
    }

    /// A user's cross-signing keys, after these changes.
    pub fn cross_signing(&self, user: &UserId) -> Result<CrossSigningRecord, RecordsError> {
        Ok(self.get(CROSS_SIGNING, &cross_signing_key(user))?.unwrap_or_default())
    }

    /// Writes a user's cross-signing keys, on condition that they are still as the view shows them. The caller
    /// tells of it by [`Changes::change_device_list`].
    pub fn put_cross_signing(&mut self, user: &UserId, record: &CrossSigningRecord) -> Result<(), RecordsError> {
        let key = cross_signing_key(user);
        if !self.is_written(CROSS_SIGNING, &key) {
            self.expect_unchanged(CROSS_SIGNING, key.clone())?;
        }
        self.put(CROSS_SIGNING, key, record);
        Ok(())
    }

    /// Writes what a user signed of others' master keys, and logs it for that user alone. Takes a stamp.
    pub fn put_user_signatures(&mut self, signer: &UserId, signatures: &[(OwnedUserId, UserSignature)]) {
        let signed: Vec<OwnedUserId> = signatures.iter().map(|(user, _)| user.clone()).collect();
        for (user, signature) in signatures {
            self.put(USER_SIGNATURE, signatures_by(signer).text(user.as_str()).build(), signature);
        }
        let nth = self.stamp();
        let by_stamp = signed_by_stamp(signer);
        let at = u32::try_from(by_stamp.len()).unwrap_or(u32::MAX);
        let by_stamp = Stamped { bytes: by_stamp.number(0).build(), holes: vec![Hole { at, nth }] };
        self.put_raw(SIGNED_BY_STAMP, by_stamp, codec::encode(&signed).into());
        self.log(nth, &LogEntry::KeysSigned { user: signer.to_owned(), signed });
    }

    /// Removes all that a user signed of others' keys.
    pub fn clear_user_signatures(&mut self, signer: &UserId) {
        self.clear_range(USER_SIGNATURE, signatures_by(signer).prefix_range());
    }

    /// Writes a user's dehydrated device, on condition that it is still as the view shows it.
    pub fn put_dehydrated(&mut self, user: &UserId, record: &DehydratedRecord) -> Result<(), RecordsError> {
        let key = dehydrated_key(user);
        self.expect_unchanged(DEHYDRATED, key.clone())?;
        self.put(DEHYDRATED, key, record);
        Ok(())
    }

    /// Notes that a user's devices, their keys or the user's cross-signing keys change with these changes, and
    /// logs it. Takes a stamp, the first time.
    pub fn change_device_list(&mut self, user: &UserId) -> Result<(), RecordsError> {
        let key = list_key(user);
        if self.is_written(DEVICE_LIST, &key) {
            return Ok(());
        }
        self.expect_unchanged(DEVICE_LIST, key.clone())?;
        let table = DEVICE_LIST_BY_STAMP;
        if let Some(before) = self.view().device_list_changed(user)? {
            self.clear(table, table.key().number(before.0).build());
        }
        let nth = self.stamp();
        self.put_stamped(DEVICE_LIST, key, nth, &());
        let by_stamp = table.key();
        let at = u32::try_from(by_stamp.len()).unwrap_or(u32::MAX);
        let by_stamp = Stamped { bytes: by_stamp.number(0).build(), holes: vec![Hole { at, nth }] };
        self.put_raw(table, by_stamp, codec::encode(&user).into());
        self.log(nth, &LogEntry::DeviceList { user: user.to_owned() });
        Ok(())
    }

    /// Notes that a device has another name: it is shown with its keys.
    pub fn rename_device_with_keys(&mut self, user: &UserId, device: &DeviceId) -> Result<(), RecordsError> {
        if self.device_keys(user, device)?.is_some() {
            self.change_device_list(user)?;
        }
        Ok(())
    }

    /// Removes the keys of a device that is gone, and what it signed.
    pub(crate) fn clear_keys_of_device(&mut self, user: &UserId, device: &DeviceId) -> Result<(), RecordsError> {
        self.clear_one_time_keys(user, device)?;
        if self.get::<DehydratedRecord>(DEHYDRATED, &dehydrated_key(user))?.is_some_and(|it| it.device_id == device) {
            self.clear(DEHYDRATED, dehydrated_key(user));
        }
        if self.device_keys(user, device)?.is_none() {
            return Ok(());
        }
        let key = device_keys_key(user, device);
        if !self.is_written(DEVICE_KEYS, &key) {
            self.expect_unchanged(DEVICE_KEYS, key.clone())?;
        }
        self.clear(DEVICE_KEYS, key);
        let mut cross_signing = self.cross_signing(user)?;
        if let Some(master) = &mut cross_signing.master
            && master.signatures.remove(&format!("ed25519:{device}")).is_some()
        {
            self.put_cross_signing(user, &cross_signing)?;
        }
        self.change_device_list(user)
    }

    /// Removes what a user who is gone has of keys beside those of devices: cross-signing keys, what the user
    /// signed, and backups.
    pub fn clear_keys_of_user(&mut self, user: &UserId) -> Result<(), RecordsError> {
        if self.cross_signing(user)? != CrossSigningRecord::default() {
            self.clear(CROSS_SIGNING, cross_signing_key(user));
            self.change_device_list(user)?;
        }
        self.clear_user_signatures(user);
        self.clear_range(SIGNED_BY_STAMP, signed_by_stamp(user).prefix_range());
        self.clear_backups(user);
        Ok(())
    }
}
