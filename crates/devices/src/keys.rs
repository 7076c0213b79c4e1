//! Uploading the keys of a device, and looking up those of users (client-server API, `POST /keys/upload` and
//! `POST /keys/query`).

use crate::cross_signing::public_key_of;
use crate::device_keys::KeyUpload;
use crate::json::{push_field, push_name};
use crate::one_time_keys::KeyCounts;
use crate::{Devices, Error};
use records::{SignedKey, UserSignature, View};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use std::collections::BTreeMap;

/// How many users' keys one request can ask for.
pub const QUERIED_USERS_MAX: usize = 10_000;

/// The keys of users, as the JSON objects that the answer is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueriedKeys {
    /// Identity keys by user and device.
    pub device_keys: String,
    /// Master keys by user.
    pub master_keys: String,
    /// Self-signing keys by user.
    pub self_signing_keys: String,
    /// The user-signing key of the user who asks, if that was asked for, by user.
    pub user_signing_keys: String,
}

impl Devices {
    /// Stores the keys that a device uploads: identity keys replace those before, one-time keys are added,
    /// fallback keys replace those of their algorithm. What is there already is passed over. Answers how many
    /// one-time keys the device has on the server now.
    ///
    /// Identity keys with other public keys make it another device: its one-time and fallback keys are dropped.
    ///
    /// # Errors
    ///
    /// [`Error::BadJson`] and [`Error::InvalidParam`] for what is not as the specification says,
    /// [`Error::KeyExists`] for a one-time key whose id another key of the device has or had, [`Error::TooLarge`],
    /// [`Error::NoSuchDevice`].
    pub async fn upload(&self, user: &UserId, device: &DeviceId, upload: KeyUpload) -> Result<KeyCounts, Error> {
        self.upload_checked(upload.check(user, device)?).await
    }

    /// The keys of users of this agency as `asker` may see them, of these devices or of all where there is none.
    /// Users who don't exist are left out.
    ///
    /// One sees what the owners of keys have signed of them, and what one has signed oneself (client-server API,
    /// "Key and signature security"): nobody learns from it who has verified whom.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] for more than [`QUERIED_USERS_MAX`] users.
    pub fn query(
        &self,
        asker: &UserId,
        asked: &BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> Result<QueriedKeys, Error> {
        self.query_for(Some(asker), asked)
    }

    /// The same as another server may see them: with what the owners have signed, and nobody else.
    ///
    /// # Errors
    ///
    /// As [`Devices::query`].
    pub fn query_for_server(&self, asked: &BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>) -> Result<QueriedKeys, Error> {
        self.query_for(None, asked)
    }

    fn query_for(
        &self,
        asker: Option<&UserId>,
        asked: &BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> Result<QueriedKeys, Error> {
        if asked.len() > QUERIED_USERS_MAX {
            return Err(Error::TooLarge("the number of users"));
        }
        let view = self.view();
        let own_signing = asker.map(|asker| view.cross_signing(asker)).transpose()?;
        let own_signing = own_signing.and_then(|keys| keys.user_signing);
        let own_signing = own_signing.and_then(|key| public_key_of(&key.object)).map(|key| format!("ed25519:{key}"));
        let mut keys = [const { String::new() }; 4].map(|_| "{".to_owned());
        let [device_keys, master_keys, self_signing_keys, user_signing_keys] = &mut keys;
        for (user, devices) in asked.iter().filter(|(user, _)| self.is_local(user)) {
            if view.user(user)?.is_none() {
                continue;
            }
            push_name(device_keys, user.as_str());
            push_devices(device_keys, &view, user, devices)?;
            let cross_signing = view.cross_signing(user)?;
            if let Some(key) = &cross_signing.master {
                let own = match (&own_signing, asker) {
                    (Some(signing), Some(asker)) if user != asker => {
                        view.user_signature(asker, user)?.filter(|signature| {
                            signature.key_id == *signing
                                && public_key_of(&key.object).as_ref() == Some(&signature.master)
                        })
                    }
                    _ => None,
                };
                push_name(master_keys, user.as_str());
                master_keys.push_str(&cross_signing_key(key, user, asker.zip(own.as_ref())));
            }
            if let Some(key) = &cross_signing.self_signing {
                push_name(self_signing_keys, user.as_str());
                self_signing_keys.push_str(&cross_signing_key(key, user, None));
            }
            if let Some(key) = cross_signing.user_signing.as_ref().filter(|_| asker.is_some_and(|asker| user == asker))
            {
                push_name(user_signing_keys, user.as_str());
                user_signing_keys.push_str(&cross_signing_key(key, user, None));
            }
        }
        let [device_keys, master_keys, self_signing_keys, user_signing_keys] = keys.map(|json| json + "}");
        Ok(QueriedKeys { device_keys, master_keys, self_signing_keys, user_signing_keys })
    }
}

fn push_devices(out: &mut String, view: &View, user: &UserId, devices: &[OwnedDeviceId]) -> Result<(), Error> {
    let found = if devices.is_empty() {
        view.all_device_keys(user)?
    } else {
        let mut found = BTreeMap::new();
        for device in devices {
            if let Some(keys) = view.device_keys(user, device)? {
                found.insert(device.clone(), keys);
            }
        }
        found.into_iter().collect()
    };
    out.push('{');
    for (device, keys) in found {
        let name = view.device(user, &device)?.and_then(|device| device.display_name);
        push_name(out, device.as_str());
        push_open(out, &keys.object);
        push_signatures(out, user, &keys, None);
        if let Some(name) = name {
            push_name(out, "unsigned");
            out.push('{');
            push_field(out, "device_display_name", &name);
            out.push('}');
        }
        out.push('}');
    }
    out.push('}');
    Ok(())
}

fn cross_signing_key(key: &SignedKey, user: &UserId, own: Option<(&UserId, &UserSignature)>) -> String {
    let mut out = String::with_capacity(key.object.len() + 300);
    push_open(&mut out, &key.object);
    if !key.signatures.is_empty() || own.is_some() {
        push_signatures(&mut out, user, key, own);
    }
    out.push('}');
    out
}

/// Appends an object without its closing brace.
fn push_open(out: &mut String, object: &str) {
    out.push_str(object.strip_suffix('}').unwrap_or(object));
}

fn push_signatures(out: &mut String, user: &UserId, key: &SignedKey, own: Option<(&UserId, &UserSignature)>) {
    push_name(out, "signatures");
    out.push('{');
    if !key.signatures.is_empty() {
        push_name(out, user.as_str());
        out.push('{');
        for (key_id, signature) in &key.signatures {
            push_field(out, key_id, signature);
        }
        out.push('}');
    }
    if let Some((signer, signature)) = own {
        push_name(out, signer.as_str());
        out.push('{');
        push_field(out, &signature.key_id, &signature.signature);
        out.push('}');
    }
    out.push('}');
}
