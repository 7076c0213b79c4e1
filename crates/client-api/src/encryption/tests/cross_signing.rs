//! Cross-signing keys and signatures.

use super::KeyMaker;
use crate::testing::{Answer, PASSWORD, Server, User};
use http::StatusCode;
use serde_json::{Value, json};

const UPLOAD: &str = "/_matrix/client/v3/keys/device_signing/upload";
const SIGNATURES: &str = "/_matrix/client/v3/keys/signatures/upload";

/// A user with a device that has keys, and cross-signing keys.
struct Signer {
    user: User,
    device: KeyMaker,
    master: KeyMaker,
    self_signing: KeyMaker,
    user_signing: KeyMaker,
}

impl Signer {
    fn new(user: &User) -> Self {
        let key = |seed| KeyMaker::of(user, seed);
        let (device, master, self_signing, user_signing) = (key(1), key(2), key(3), key(4));
        Self { user: user.clone(), device, master, self_signing, user_signing }
    }

    /// A user who has uploaded everything.
    async fn ready(server: &Server, name: &str) -> Self {
        let signer = Self::new(&server.user(name).await);
        let keys = json!({ "device_keys": signer.device.device_keys() });
        server.post("/_matrix/client/v3/keys/upload", Some(&signer.user.token), &keys).await.ok();
        signer.upload(server, signer.all()).await.ok();
        signer
    }

    fn signed(&self, key: &KeyMaker, usage: &str) -> Value {
        let mut key = key.cross_signing(usage);
        self.master.sign(&self.master.public(), &mut key);
        key
    }

    fn all(&self) -> Value {
        json!({
            "master_key": self.master.cross_signing("master"),
            "self_signing_key": self.signed(&self.self_signing, "self_signing"),
            "user_signing_key": self.signed(&self.user_signing, "user_signing"),
        })
    }

    async fn upload(&self, server: &Server, body: Value) -> Answer {
        server.post(UPLOAD, Some(&self.user.token), &body).await
    }

    fn auth(&self) -> Value {
        let identifier = json!({ "type": "m.id.user", "user": self.user.id });
        json!({ "type": "m.login.password", "identifier": identifier, "password": PASSWORD })
    }

    /// Uploads signatures of keys and answers the failures.
    async fn sign(&self, server: &Server, of: &Signer, id: &str, object: &Value) -> Value {
        let body = json!({ of.user.id.as_str(): { id: object } });
        let answer = server.post(SIGNATURES, Some(&self.user.token), &body).await.ok();
        answer["failures"][of.user.id.as_str()][id]["errcode"].clone()
    }

    async fn seen_by(&self, server: &Server, asker: &User) -> Value {
        server.query(asker, &json!({ self.user.id.as_str(): [] })).await
    }
}

#[tokio::test]
async fn the_first_keys_need_no_password_and_others_do() {
    let server = Server::new().await;
    let alice = Signer::new(&server.user("alice").await);
    let master = json!({ "master_key": alice.master.cross_signing("master") });
    alice.upload(&server, master.clone()).await.ok();
    alice.upload(&server, master).await.ok();
    // More keys are new keys.
    let mut all = alice.all();
    let challenge = alice.upload(&server, all.clone()).await;
    assert_eq!(challenge.status, StatusCode::UNAUTHORIZED);
    assert!(challenge.body["flows"].is_array());
    all["auth"] = alice.auth();
    alice.upload(&server, all.clone()).await.ok();
    // The same again, with an authentication that was used up, or without one.
    alice.upload(&server, all).await.ok();
    alice.upload(&server, alice.all()).await.ok();
    let other = KeyMaker::of(&alice.user, 9);
    let mut replaced = json!({ "master_key": other.cross_signing("master") });
    assert_eq!(alice.upload(&server, replaced.clone()).await.status, StatusCode::UNAUTHORIZED);
    replaced["auth"] = alice.auth();
    alice.upload(&server, replaced).await.ok();
    let seen = alice.seen_by(&server, &alice.user).await;
    let id = alice.user.id.as_str();
    assert_eq!(seen["master_keys"][id], other.cross_signing("master"));
    assert_eq!((seen["self_signing_keys"].get(id), seen["user_signing_keys"].get(id)), (None, None));
}

#[tokio::test]
async fn the_user_signing_key_is_shown_to_its_user_alone() {
    let server = Server::new().await;
    let (alice, bob) = (Signer::ready(&server, "alice").await, server.user("bob").await);
    let id = alice.user.id.as_str();
    let own = alice.seen_by(&server, &alice.user).await;
    assert_eq!(own["user_signing_keys"][id], alice.signed(&alice.user_signing, "user_signing"));
    let seen = alice.seen_by(&server, &bob).await;
    assert_eq!(seen["user_signing_keys"], json!({}));
    assert_eq!(seen["master_keys"][id], alice.master.cross_signing("master"));
    assert_eq!(seen["self_signing_keys"][id], alice.signed(&alice.self_signing, "self_signing"));
}

#[tokio::test]
async fn every_key_and_signature_is_checked() {
    let server = Server::new().await;
    let alice = Signer::new(&server.user("alice").await);
    let bob = Signer::new(&server.user("bob").await);
    let master = alice.master.cross_signing("master");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut key = master.clone();
        change(&mut key);
        json!({ "master_key": key })
    };
    for body in [
        json!({ "master_key": 7 }),
        changed(&|key| drop(key.as_object_mut().unwrap().remove("usage"))),
        changed(&|key| drop(key.as_object_mut().unwrap().remove("keys"))),
        changed(&|key| key["keys"] = json!([])),
    ] {
        alice.upload(&server, body).await.refused(400, "M_BAD_JSON");
    }
    for body in [
        json!({ "master_key": bob.master.cross_signing("master") }),
        changed(&|key| key["usage"] = json!(["self_signing"])),
        changed(&|key| key["keys"] = json!({})),
        changed(&|key| key["keys"]["ed25519:x"] = json!("x")),
        changed(&|key| key["keys"] = json!({ "ed25519:c2hvcnQ": "c2hvcnQ" })),
    ] {
        alice.upload(&server, body).await.refused(400, "M_INVALID_PARAM");
    }
    let unsigned =
        json!({ "master_key": master, "self_signing_key": alice.self_signing.cross_signing("self_signing") });
    alice.upload(&server, unsigned).await.refused(400, "M_INVALID_SIGNATURE");
    let mut by_itself = alice.self_signing.cross_signing("self_signing");
    alice.self_signing.sign(&alice.master.public(), &mut by_itself);
    let by_itself = json!({ "master_key": master, "self_signing_key": by_itself });
    alice.upload(&server, by_itself).await.refused(400, "M_INVALID_SIGNATURE");
    let alone = json!({ "self_signing_key": alice.signed(&alice.self_signing, "self_signing") });
    alice.upload(&server, alone).await.refused(400, "M_MISSING_PARAM");
    // A signature of the device on the master key, made by another key.
    let keys = json!({ "device_keys": alice.device.device_keys() });
    server.post("/_matrix/client/v3/keys/upload", Some(&alice.user.token), &keys).await.ok();
    let mut forged = master.clone();
    alice.self_signing.sign(&alice.user.device, &mut forged);
    alice.upload(&server, json!({ "master_key": forged })).await.refused(400, "M_INVALID_SIGNATURE");
    alice.device.sign(&alice.user.device, &mut forged);
    alice.upload(&server, json!({ "master_key": forged })).await.ok();
    assert_eq!(alice.seen_by(&server, &bob.user).await["master_keys"][alice.user.id.as_str()], forged);
}

#[tokio::test]
async fn a_public_key_and_a_device_cannot_have_the_same_id() {
    let server = Server::new().await;
    let alice = Signer::ready(&server, "alice").await;
    let login = |device: &str| {
        json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": "alice" },
            "password": PASSWORD,
            "device_id": device,
        })
    };
    let taken = login(&alice.self_signing.public());
    server.post("/_matrix/client/v3/login", None, &taken).await.refused(403, "M_FORBIDDEN");
    let other = KeyMaker::of(&alice.user, 9);
    server.post("/_matrix/client/v3/login", None, &login(&other.public())).await.ok();
    let mut body = json!({ "master_key": other.cross_signing("master") });
    body["auth"] = alice.auth();
    alice.upload(&server, body).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn devices_and_master_keys_are_signed_later_and_each_signature_is_checked() {
    let server = Server::new().await;
    let alice = Signer::ready(&server, "alice").await;
    let bob = Signer::ready(&server, "bob").await;
    let (a, device) = (alice.user.id.as_str(), alice.user.device.as_str());
    let before = server.sync_since(&alice.user, None).await;

    let mut keys = alice.device.device_keys();
    alice.self_signing.sign(&alice.self_signing.public(), &mut keys);
    let mut forged = alice.device.device_keys();
    alice.master.sign(&alice.self_signing.public(), &mut forged);
    assert_eq!(alice.sign(&server, &alice, device, &forged).await, "M_INVALID_SIGNATURE");
    let mut by_unknown = alice.device.device_keys();
    alice.master.sign("UNKNOWN", &mut by_unknown);
    assert_eq!(alice.sign(&server, &alice, device, &by_unknown).await, "M_INVALID_SIGNATURE");
    let mut changed = keys.clone();
    changed["algorithms"] = json!([]);
    assert_eq!(alice.sign(&server, &alice, device, &changed).await, "M_INVALID_SIGNATURE");
    assert_eq!(alice.sign(&server, &alice, "GONE", &keys).await, "M_NOT_FOUND");
    assert_eq!(bob.sign(&server, &alice, device, &keys).await, "M_FORBIDDEN");
    assert_eq!(alice.seen_by(&server, &bob.user).await["device_keys"][a][device], alice.device.device_keys());

    assert_eq!(alice.sign(&server, &alice, device, &keys).await, Value::Null);
    assert_eq!(alice.seen_by(&server, &bob.user).await["device_keys"][a][device], keys);
    // The device does not know of it, and uploads its keys once more.
    let again = json!({ "device_keys": alice.device.device_keys() });
    server.post("/_matrix/client/v3/keys/upload", Some(&alice.user.token), &again).await.ok();
    assert_eq!(alice.seen_by(&server, &bob.user).await["device_keys"][a][device], keys);

    let mut master = alice.master.cross_signing("master");
    alice.device.sign(device, &mut master);
    assert_eq!(alice.sign(&server, &alice, &alice.master.public(), &master).await, Value::Null);
    assert_eq!(alice.seen_by(&server, &bob.user).await["master_keys"][a], master);
    let told = server.sync_since(&alice.user, Some(&before)).await;
    assert_eq!(told["device_lists"]["changed"], json!([a]));

    // What the device has signed goes with it.
    server.post("/_matrix/client/v3/logout", Some(&alice.user.token), &json!({})).await.ok();
    let seen = alice.seen_by(&server, &bob.user).await;
    assert_eq!(seen["master_keys"][a], alice.master.cross_signing("master"));
}

#[tokio::test]
async fn whom_one_has_verified_is_seen_and_heard_of_by_oneself_alone() {
    let server = Server::new().await;
    let alice = Signer::ready(&server, "alice").await;
    let bob = Signer::ready(&server, "bob").await;
    let b = bob.user.id.as_str();
    let plain = bob.master.cross_signing("master");
    let (for_alice, for_bob) = (server.sync_since(&alice.user, None).await, server.sync_since(&bob.user, None).await);
    let mut signed = plain.clone();
    alice.master.sign(&alice.user_signing.public(), &mut signed);
    assert_eq!(alice.sign(&server, &bob, &bob.master.public(), &signed).await, "M_INVALID_SIGNATURE");
    let mut by_self_signing = plain.clone();
    alice.self_signing.sign(&alice.self_signing.public(), &mut by_self_signing);
    assert_eq!(alice.sign(&server, &bob, &bob.master.public(), &by_self_signing).await, "M_INVALID_SIGNATURE");
    alice.user_signing.sign(&alice.user_signing.public(), &mut signed);
    assert_eq!(alice.sign(&server, &bob, &bob.master.public(), &signed).await, Value::Null);

    assert_eq!(bob.seen_by(&server, &alice.user).await["master_keys"][b], signed);
    assert_eq!(bob.seen_by(&server, &bob.user).await["master_keys"][b], plain);
    let told = server.sync_since(&alice.user, Some(&for_alice)).await;
    assert_eq!(told["device_lists"]["changed"], json!([b]));
    assert_eq!(server.sync_since(&bob.user, Some(&for_bob)).await.get("device_lists"), None);

    // Another user-signing key has signed nothing yet.
    let other = KeyMaker::of(&alice.user, 9);
    let mut body = json!({ "user_signing_key": alice.signed(&other, "user_signing") });
    body["auth"] = alice.auth();
    alice.upload(&server, body).await.ok();
    assert_eq!(bob.seen_by(&server, &alice.user).await["master_keys"][b], plain);
}

#[tokio::test]
async fn another_self_signing_key_takes_the_signatures_of_the_one_before_away() {
    let server = Server::new().await;
    let alice = Signer::ready(&server, "alice").await;
    let (a, device) = (alice.user.id.as_str(), alice.user.device.as_str());
    let mut keys = alice.device.device_keys();
    alice.self_signing.sign(&alice.self_signing.public(), &mut keys);
    assert_eq!(alice.sign(&server, &alice, device, &keys).await, Value::Null);
    let other = KeyMaker::of(&alice.user, 9);
    let mut body = json!({ "self_signing_key": alice.signed(&other, "self_signing") });
    body["auth"] = alice.auth();
    alice.upload(&server, body).await.ok();
    assert_eq!(alice.seen_by(&server, &alice.user).await["device_keys"][a][device], alice.device.device_keys());
}
