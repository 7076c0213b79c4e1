//! What a server publishes of its keys (server-server API, "Publishing Keys").

use super::ServerKeys;
use base::UnixMillis;
use records::ServerKeyRecord;
use rules::signed::{SignedObject, is_signed};
use rules::{KeyRing, SigningKey};
use ruma::canonical_json::CanonicalJsonValue;
use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use ruma::{CanonicalJsonObject, Int, OwnedServerName, ServerName};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The most keys that one server has.
const KEYS_MAX: usize = 200;
/// The longest id of a key, in bytes.
const KEY_ID_BYTES_MAX: usize = 255;
/// The bytes of an Ed25519 key.
const KEY_BYTES: usize = 32;

/// What a server has published, its own signature checked.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub server_name: OwnedServerName,
    pub keys: BTreeMap<String, PublishedKey>,
    pub valid_until: UnixMillis,
    pub json: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublishedKey {
    pub bytes: Vec<u8>,
    /// When the server gave it up, if it has.
    pub expired_at: Option<UnixMillis>,
}

impl Document {
    /// Reads a document. `None` if it isn't one, or isn't signed with one of the keys in it, or with one wrongly.
    pub fn read(json: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Published {
            server_name: OwnedServerName,
            verify_keys: BTreeMap<String, VerifyKey>,
            #[serde(default)]
            old_verify_keys: BTreeMap<String, OldVerifyKey>,
            valid_until_ts: u64,
        }
        #[derive(Deserialize)]
        struct VerifyKey {
            key: String,
        }
        #[derive(Deserialize)]
        struct OldVerifyKey {
            key: String,
            expired_ts: u64,
        }

        let published: Published = serde_json::from_str(json).ok()?;
        let signed = SignedObject::parse(json)?;
        if published.verify_keys.len() + published.old_verify_keys.len() > KEYS_MAX {
            return None;
        }
        let mut had = 0;
        for (key_id, signature) in signed.signatures_of(published.server_name.as_str()) {
            let Some(key) = published.verify_keys.get(&key_id) else { continue };
            if !is_signed(signed.text(), &key.key, &signature) {
                return None;
            }
            had += 1;
        }
        if had == 0 {
            return None;
        }
        let mut keys = BTreeMap::new();
        let is_key = |key_id: &str| key_id.starts_with("ed25519:") && key_id.len() <= KEY_ID_BYTES_MAX;
        for (key_id, old) in published.old_verify_keys.into_iter().filter(|(key_id, _)| is_key(key_id)) {
            let expired_at = Some(UnixMillis(old.expired_ts));
            keys.insert(key_id, PublishedKey { bytes: key_bytes(&old.key)?, expired_at });
        }
        for (key_id, key) in published.verify_keys.into_iter().filter(|(key_id, _)| is_key(key_id)) {
            keys.insert(key_id, PublishedKey { bytes: key_bytes(&key.key)?, expired_at: None });
        }
        let valid_until = UnixMillis(published.valid_until_ts);
        Some(Self { server_name: published.server_name, keys, valid_until, json: json.to_owned() })
    }

    /// Whether a notary has signed the document too.
    pub fn is_signed_by(&self, notary: &ServerName, keys: &ServerKeys, now: UnixMillis) -> bool {
        let Some(signed) = SignedObject::parse(&self.json) else { return false };
        signed.signatures_of(notary.as_str()).iter().any(|(key_id, signature)| {
            let key = keys.get(key_id).filter(|key| now <= key.valid_until);
            key.is_some_and(|key| is_signed(signed.text(), &encode(&key.key), signature))
        })
    }
}

fn key_bytes(key: &str) -> Option<Vec<u8>> {
    let key = Base64::<Standard>::parse(key).ok()?.into_inner();
    (key.len() == KEY_BYTES).then_some(key)
}

pub(super) fn encode(key: &[u8]) -> String {
    Base64::<Standard, _>::new(key).encode()
}

/// What a server publishes of its own keys, signed.
pub(super) fn own(ring: &KeyRing, valid_until: UnixMillis) -> String {
    let text = |text: &str| CanonicalJsonValue::String(text.to_owned());
    let time = |time: UnixMillis| CanonicalJsonValue::Integer(Int::try_from(time.0).unwrap_or(Int::MAX));
    let object = |fields: Vec<(String, CanonicalJsonValue)>| CanonicalJsonValue::Object(fields.into_iter().collect());
    let key: &SigningKey = &ring.current();
    let verify_key = object(vec![("key".to_owned(), text(&key.public_key().encode()))]);
    let old = ring.old();
    let old = old.iter().map(|old| {
        let fields =
            vec![("expired_ts".to_owned(), time(old.expired_at)), ("key".to_owned(), text(&old.public_key.encode()))];
        (old.key_id.clone(), object(fields))
    });
    let mut document = CanonicalJsonObject::from([
        ("old_verify_keys".to_owned(), object(old.collect())),
        ("server_name".to_owned(), text(key.server_name().as_str())),
        ("valid_until_ts".to_owned(), time(valid_until)),
        ("verify_keys".to_owned(), object(vec![(key.key_id(), verify_key)])),
    ]);
    if let Err(error) = key.sign_json(&mut document) {
        // It has no signatures yet that could be in the way.
        tracing::error!(%error, "the keys of this server can't be signed");
    }
    CanonicalJsonValue::Object(document).to_string()
}

/// The keys of this server, with which others' copies of its events are checked.
pub(super) fn own_keys(ring: &KeyRing) -> ServerKeys {
    let current = ring.current();
    let record = |key: Base64<Standard>, valid_until| ServerKeyRecord { key: key.into_inner(), valid_until };
    let old = ring.old();
    let old = old.iter().map(|old| (old.key_id.clone(), record(old.public_key.clone(), old.expired_at)));
    old.chain([(current.key_id(), record(current.public_key(), UnixMillis(u64::MAX)))]).collect()
}
