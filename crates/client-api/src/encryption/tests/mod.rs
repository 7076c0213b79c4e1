//! The endpoints of end-to-end encryption, through the real router.

mod backup;
mod cross_signing;
mod dehydrated;
mod keys;
mod lists;
mod to_device;

use crate::testing::{Server, User};
use base::Secret;
use rules::SigningKey;
use rules::signed::SignedObject;
use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use ruma::{OwnedUserId, owned_server_name};
use serde_json::{Value, json};

impl Server {
    /// A sync that does not wait.
    async fn sync_since(&self, user: &User, since: Option<&Value>) -> Value {
        let since = since.map(|before| format!("&since={}", before["next_batch"].as_str().unwrap()));
        let path = format!("/_matrix/client/v3/sync?timeout=0{}", since.unwrap_or_default());
        self.get(&path, Some(&user.token)).await.ok()
    }

    /// The keys of these users and devices.
    async fn query(&self, asker: &User, asked: &Value) -> Value {
        let body = json!({ "device_keys": asked });
        self.post("/_matrix/client/v3/keys/query", Some(&asker.token), &body).await.ok()
    }
}

/// A key of a user that signs: of a device, or for cross-signing.
struct KeyMaker {
    user: OwnedUserId,
    device: String,
    key: SigningKey,
}

impl KeyMaker {
    /// The key that a seed makes. Users don't share seeds.
    fn of(user: &User, seed: u8) -> Self {
        let mut bytes = [seed; 32];
        for (byte, letter) in bytes.iter_mut().skip(1).zip(user.id.as_bytes()) {
            *byte = *letter;
        }
        let key = SigningKey::generate(owned_server_name!("x.example"), "1", Secret::new(bytes)).unwrap();
        Self { user: user.id.clone(), device: user.device.clone(), key }
    }

    fn public(&self) -> String {
        self.key.public_key().encode()
    }

    /// Adds the signature of this key, under an id, to an object.
    fn sign(&self, id: &str, object: &mut Value) {
        let signed = SignedObject::parse(&object.to_string()).unwrap();
        let signature = self.key.sign(signed.text().as_bytes()).base64();
        object["signatures"][self.user.as_str()][format!("ed25519:{id}")] = json!(signature);
    }

    /// Identity keys of the device, signed by it.
    fn device_keys(&self) -> Value {
        let (ed, curve) = (format!("ed25519:{}", self.device), format!("curve25519:{}", self.device));
        let mut keys = json!({
            "user_id": self.user,
            "device_id": self.device,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": { ed: self.public(), curve: self.public() },
        });
        self.sign(&self.device, &mut keys);
        keys
    }

    /// This key as a cross-signing key.
    fn cross_signing(&self, usage: &str) -> Value {
        let public = self.public();
        json!({ "user_id": self.user, "usage": [usage], "keys": { format!("ed25519:{public}"): public } })
    }

    fn one_time_key(number: u32) -> Value {
        let mut bytes = vec![7; 32];
        bytes.splice(..4, number.to_be_bytes());
        let key = Base64::<Standard>::new(bytes).encode();
        json!({ "key": key, "signatures": { "@alice:example.org": { "ed25519:D": "c2lnbmF0dXJl" } } })
    }
}
