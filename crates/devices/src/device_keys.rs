//! What a device uploads: checked here, before anything is decided (client-server API, `POST /keys/upload`).

use crate::Error;
use base::limits::ID_BYTES_MAX;
use records::{KeyDigest, SignedKey};
use rules::signed::{self, SignedObject};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The largest identity keys of a device and the largest cross-signing key, in bytes of JSON.
pub const IDENTITY_KEYS_BYTES_MAX: usize = 32 * 1024;
/// The largest one-time or fallback key, in bytes of JSON.
pub const ONE_TIME_KEY_BYTES_MAX: usize = 4 * 1024;

/// What a client sends of keys, each as JSON.
#[derive(Clone, Debug, Default)]
pub struct KeyUpload {
    /// The identity keys of the device.
    pub device_keys: Option<String>,
    /// One-time keys by `<algorithm>:<key id>`.
    pub one_time_keys: BTreeMap<String, String>,
    /// Fallback keys by `<algorithm>:<key id>`, one an algorithm.
    pub fallback_keys: BTreeMap<String, String>,
}

/// A one-time or fallback key of a well-formed upload.
#[derive(Clone, Debug)]
pub(crate) struct NamedKey {
    pub algorithm: String,
    pub key_id: String,
    /// The key as canonical JSON.
    pub key: String,
    pub digest: KeyDigest,
}

/// Identity keys of a well-formed upload.
#[derive(Clone, Debug)]
pub(crate) struct IdentityKeys {
    pub signed: SignedKey,
    /// The public keys by `<algorithm>:<device id>`. Others make it another device.
    pub keys: BTreeMap<String, String>,
}

/// A well-formed upload of a device.
#[derive(Clone, Debug)]
pub(crate) struct CheckedUpload {
    pub user_id: OwnedUserId,
    pub device_id: OwnedDeviceId,
    pub identity: Option<IdentityKeys>,
    pub one_time: Vec<NamedKey>,
    pub fallback: Vec<NamedKey>,
}

impl KeyUpload {
    /// Checks the upload of a device.
    pub(crate) fn check(self, user: &UserId, device: &DeviceId) -> Result<CheckedUpload, Error> {
        let identity = self.device_keys.map(|json| identity(&json, user, device)).transpose()?;
        let one_time = self.one_time_keys.iter().map(|(name, json)| named(name, json)).collect::<Result<_, _>>()?;
        let fallback: Vec<NamedKey> =
            self.fallback_keys.iter().map(|(name, json)| named(name, json)).collect::<Result<_, _>>()?;
        // They are sorted by name, so those of one algorithm are side by side.
        if fallback.windows(2).any(|pair| matches!(pair, [a, b] if a.algorithm == b.algorithm)) {
            return Err(Error::InvalidParam("there is one fallback key an algorithm".to_owned()));
        }
        Ok(CheckedUpload { user_id: user.to_owned(), device_id: device.to_owned(), identity, one_time, fallback })
    }
}

impl CheckedUpload {
    /// About how much it writes, in bytes.
    pub fn weight(&self) -> usize {
        let keys = self.one_time.iter().chain(&self.fallback).map(|key| key.key.len() + 1_000);
        let identity = self.identity.as_ref().map_or(0, |identity| identity.signed.object.len());
        keys.sum::<usize>() + identity + 2_000
    }
}

fn identity(json: &str, user: &UserId, device: &DeviceId) -> Result<IdentityKeys, Error> {
    if json.len() > IDENTITY_KEYS_BYTES_MAX {
        return Err(Error::TooLarge("device_keys"));
    }
    let malformed = |what: &str| Error::BadJson(format!("device_keys {what}"));
    let object = SignedObject::parse(json).ok_or_else(|| malformed("is not an object that can be signed"))?;
    let (user_id, device_id) = (object.str("user_id"), object.str("device_id"));
    let (Some(user_id), Some(device_id)) = (user_id, device_id) else {
        return Err(malformed("needs a user_id and a device_id"));
    };
    object.strs("algorithms").ok_or_else(|| malformed("needs algorithms, a list of texts"))?;
    let keys = object.texts("keys").ok_or_else(|| malformed("needs keys, an object of texts"))?;
    if !object.has("signatures") {
        return Err(malformed("needs signatures"));
    }
    if user_id != user || device_id != device {
        return Err(Error::InvalidParam("device_keys are of another user or device".to_owned()));
    }
    for (name, key) in &keys {
        let Some((algorithm, id)) = name.split_once(':') else {
            return Err(malformed("names its keys <algorithm>:<device id>"));
        };
        if id != device.as_str() {
            return Err(Error::InvalidParam(format!("the key {name} is not of this device")));
        }
        if matches!(algorithm, "ed25519" | "curve25519") && !signed::is_public_key(key) {
            return Err(Error::InvalidParam(format!("the key {name} is not a public key in unpadded Base64")));
        }
    }
    let keys = keys.into_iter().map(|(name, key)| (name.to_owned(), key.to_owned())).collect();
    let signatures = object.signatures_of(user.as_str());
    Ok(IdentityKeys { signed: SignedKey { object: object.text().to_owned(), signatures }, keys })
}

fn named(name: &str, json: &str) -> Result<NamedKey, Error> {
    let (algorithm, key_id) = match name.split_once(':') {
        Some((algorithm, key_id)) if !algorithm.is_empty() && !key_id.is_empty() => (algorithm, key_id),
        _ => return Err(Error::BadJson(format!("{name} is not <algorithm>:<key id>"))),
    };
    if name.len() > ID_BYTES_MAX {
        return Err(Error::TooLarge("the name of a key"));
    }
    if json.len() > ONE_TIME_KEY_BYTES_MAX {
        return Err(Error::TooLarge("a one-time or fallback key"));
    }
    let key = signed::canonical(json).ok_or_else(|| Error::BadJson(format!("{name} is not a key")))?;
    if algorithm == "signed_curve25519" {
        let object = SignedObject::parse(&key).filter(|object| object.has("signatures"));
        let is_key = object.as_ref().and_then(|object| object.str("key")).is_some_and(signed::is_public_key);
        if !is_key {
            return Err(Error::BadJson(format!("{name} is not a signed key")));
        }
    }
    let mut digest = KeyDigest::default();
    let hash = Sha256::digest(&key);
    digest.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    Ok(NamedKey { algorithm: algorithm.to_owned(), key_id: key_id.to_owned(), key, digest })
}

/// The public keys in stored identity keys.
pub(crate) fn keys_of(object: &str) -> BTreeMap<String, String> {
    let object = SignedObject::parse(object);
    let keys = object.as_ref().and_then(|object| object.texts("keys")).unwrap_or_default();
    keys.into_iter().map(|(name, key)| (name.to_owned(), key.to_owned())).collect()
}
