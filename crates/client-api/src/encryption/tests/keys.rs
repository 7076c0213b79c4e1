//! Keys of devices, one-time keys, and who is told of them.

use super::KeyMaker;
use crate::testing::{Answer, Server, User};
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

const UPLOAD: &str = "/_matrix/client/v3/keys/upload";

async fn upload(server: &Server, user: &User, body: &Value) -> Answer {
    server.post(UPLOAD, Some(&user.token), body).await
}

async fn claim(server: &Server, asker: &User, of: &User) -> Value {
    let body = json!({ "one_time_keys": { of.id.as_str(): { of.device.as_str(): "signed_curve25519" } } });
    let answer = server.post("/_matrix/client/v3/keys/claim", Some(&asker.token), &body).await.ok();
    answer["one_time_keys"][of.id.as_str()][of.device.as_str()].clone()
}

/// One-time keys with these ids, each with its number in it.
fn one_time(ids: impl IntoIterator<Item = u32>) -> Value {
    let named = |id: u32| (format!("signed_curve25519:{id}"), KeyMaker::one_time_key(id));
    json!({ "one_time_keys": ids.into_iter().map(named).collect::<serde_json::Map<_, _>>() })
}

fn fallback(id: u32) -> Value {
    let mut key = KeyMaker::one_time_key(id);
    key["fallback"] = json!(true);
    json!({ "fallback_keys": { format!("signed_curve25519:f{id}"): key } })
}

#[tokio::test]
async fn keys_are_given_out_in_their_order_once_each_and_then_the_fallback() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for id in [7, 3, 5] {
        let counts = upload(&server, &alice, &one_time([id])).await.ok();
        assert!(counts["one_time_key_counts"]["signed_curve25519"].is_u64());
    }
    for id in [7, 3, 5] {
        let key = claim(&server, &bob, &alice).await;
        assert_eq!(key, json!({ format!("signed_curve25519:{id}"): KeyMaker::one_time_key(id) }));
    }
    assert_eq!(claim(&server, &bob, &alice).await, Value::Null);
    upload(&server, &alice, &fallback(1)).await.ok();
    let unused = server.sync_since(&alice, None).await;
    assert_eq!(unused["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
    for _ in 0..2 {
        assert!(claim(&server, &bob, &alice).await["signed_curve25519:f1"]["fallback"].is_boolean());
    }
    let used = server.sync_since(&alice, None).await;
    assert_eq!(used["device_unused_fallback_key_types"], json!([]));
    assert_eq!(used["device_one_time_keys_count"], json!({ "signed_curve25519": 0 }));
    // The same again is not a new one; another one is.
    upload(&server, &alice, &fallback(1)).await.ok();
    assert_eq!(server.sync_since(&alice, None).await["device_unused_fallback_key_types"], json!([]));
    upload(&server, &alice, &fallback(2)).await.ok();
    assert_eq!(server.sync_since(&alice, None).await["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
}

#[tokio::test]
async fn a_repeated_upload_adds_nothing_and_brings_nothing_back() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let count = |answer: Value| answer["one_time_key_counts"]["signed_curve25519"].as_u64().unwrap();
    assert_eq!(count(upload(&server, &alice, &one_time(0..4)).await.ok()), 4);
    assert_eq!(count(upload(&server, &alice, &one_time(2..6)).await.ok()), 6);
    let first = claim(&server, &bob, &alice).await;
    assert!(first["signed_curve25519:0"].is_object());
    // The device never got the answer to its first upload: what was given out stays given out.
    assert_eq!(count(upload(&server, &alice, &one_time(0..4)).await.ok()), 5);
    let mut other = one_time([4]);
    other["one_time_keys"]["signed_curve25519:4"] = KeyMaker::one_time_key(99);
    upload(&server, &alice, &other).await.refused(400, "M_INVALID_PARAM");
    let mut given_out = one_time([0]);
    given_out["one_time_keys"]["signed_curve25519:0"] = KeyMaker::one_time_key(99);
    upload(&server, &alice, &given_out).await.refused(400, "M_INVALID_PARAM");
    assert_eq!(count(upload(&server, &alice, &json!({})).await.ok()), 5);
}

#[tokio::test]
async fn many_who_claim_at_once_get_one_key_each() {
    let server = Arc::new(Server::new().await);
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let phone = server.log_in("alice").await;
    upload(&server, &alice, &one_time(0..500)).await.ok();
    upload(&server, &phone, &one_time(500..800)).await.ok();
    let claims = (0..1_000).map(|n| {
        let (server, bob) = (server.clone(), bob.clone());
        let of = if n % 2 == 0 { alice.clone() } else { phone.clone() };
        tokio::spawn(async move { claim(&server, &bob, &of).await })
    });
    let (mut got, mut none) = (Vec::new(), 0);
    for claimed in claims.collect::<Vec<_>>() {
        match claimed.await.unwrap() {
            Value::Object(keys) => got.extend(keys.keys().cloned()),
            _ => none += 1,
        }
    }
    assert_eq!((got.len(), none), (800, 200));
    assert_eq!(got.into_iter().collect::<BTreeSet<_>>().len(), 800);
}

#[tokio::test]
async fn devices_are_shown_with_their_names_and_the_signatures_of_their_owner() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let keys = KeyMaker::of(&alice, 1).device_keys();
    let mut sent = keys.clone();
    sent["signatures"]["@eve:example.org"] = json!({ "ed25519:X": "c2lnbmF0dXJl" });
    sent["unsigned"] = json!({ "device_display_name": "Forged" });
    upload(&server, &alice, &json!({ "device_keys": sent })).await.ok();
    let rename = json!({ "display_name": "Phone" });
    server.put(&format!("/_matrix/client/v3/devices/{}", alice.device), Some(&alice.token), &rename).await.ok();
    let mut expected = keys;
    expected["unsigned"] = json!({ "device_display_name": "Phone" });
    let asked = json!({ alice.id.as_str(): [], bob.id.as_str(): [], "@gone:example.org": [], "@x:far.example": [] });
    let found = server.query(&bob, &asked).await;
    let devices = json!({ alice.id.as_str(): { alice.device.as_str(): expected }, bob.id.as_str(): {} });
    assert_eq!(found["device_keys"], devices);
    assert_eq!(found["failures"].as_object().unwrap().keys().collect::<Vec<_>>(), ["far.example"]);
    let none = server.query(&bob, &json!({ alice.id.as_str(): ["OTHER"] })).await;
    assert_eq!(none["device_keys"], json!({ alice.id.as_str(): {} }));
    let one = server.query(&bob, &json!({ alice.id.as_str(): [alice.device] })).await;
    assert_eq!(one["device_keys"][alice.id.as_str()], devices[alice.id.as_str()]);
}

#[tokio::test]
async fn what_is_not_as_it_must_be_is_refused() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let keys = KeyMaker::of(&alice, 1).device_keys();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut keys = keys.clone();
        change(&mut keys);
        json!({ "device_keys": keys })
    };
    for field in ["user_id", "device_id", "algorithms", "keys", "signatures"] {
        let body = changed(&|keys| drop(keys.as_object_mut().unwrap().remove(field)));
        upload(&server, &alice, &body).await.refused(400, "M_BAD_JSON");
    }
    upload(&server, &bob, &json!({ "device_keys": keys })).await.refused(400, "M_INVALID_PARAM");
    let phone = server.log_in("alice").await;
    upload(&server, &phone, &json!({ "device_keys": keys })).await.refused(400, "M_INVALID_PARAM");
    let short = changed(&|keys| keys["keys"][format!("ed25519:{}", alice.device)] = json!("c2hvcnQ"));
    upload(&server, &alice, &short).await.refused(400, "M_INVALID_PARAM");
    let foreign = changed(&|keys| keys["keys"]["ed25519:OTHER"] = json!("c2hvcnQ"));
    upload(&server, &alice, &foreign).await.refused(400, "M_INVALID_PARAM");
    let large = changed(&|keys| keys["x"] = json!("x".repeat(40_000)));
    upload(&server, &alice, &large).await.refused(413, "M_TOO_LARGE");
    for body in [
        json!({ "device_keys": 7 }),
        json!({ "one_time_keys": [] }),
        json!({ "one_time_keys": { "signed_curve25519": KeyMaker::one_time_key(1) } }),
        json!({ "one_time_keys": { "signed_curve25519:1": {} } }),
        json!({ "one_time_keys": { "signed_curve25519:1": "text" } }),
        json!({ "one_time_keys": { "curve25519:1": 7 } }),
    ] {
        upload(&server, &alice, &body).await.refused(400, "M_BAD_JSON");
    }
    let two = json!({ "fallback_keys": { "signed_curve25519:1": KeyMaker::one_time_key(1),
        "signed_curve25519:2": KeyMaker::one_time_key(2) } });
    upload(&server, &alice, &two).await.refused(400, "M_INVALID_PARAM");
    let many = upload(&server, &alice, &one_time(0..1_001)).await;
    many.refused(413, "M_TOO_LARGE");
    let odd = json!({ "device_keys": { bob.id.as_str(): { "D": true } } });
    let answer = server.post("/_matrix/client/v3/keys/query", Some(&alice.token), &odd).await;
    answer.refused(400, "M_BAD_JSON");
    server.post("/_matrix/client/v3/keys/claim", Some(&alice.token), &json!({})).await.refused(400, "M_BAD_JSON");
}

#[tokio::test]
async fn another_identity_begins_without_the_one_time_keys_of_the_one_before() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for identity in [1, 2] {
        let mut body = one_time(0..2);
        body["device_keys"] = KeyMaker::of(&alice, identity).device_keys();
        body["one_time_keys"]["signed_curve25519:0"] = KeyMaker::one_time_key(u32::from(identity) * 10);
        upload(&server, &alice, &body).await.ok();
        let key = claim(&server, &bob, &alice).await;
        assert_eq!(key["signed_curve25519:0"], KeyMaker::one_time_key(u32::from(identity) * 10));
    }
}

#[tokio::test]
async fn keys_go_with_their_device() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let mut body = one_time(0..2);
    body["device_keys"] = KeyMaker::of(&alice, 1).device_keys();
    upload(&server, &alice, &body).await.ok();
    server.post("/_matrix/client/v3/logout", Some(&alice.token), &json!({})).await.ok();
    let found = server.query(&bob, &json!({ alice.id.as_str(): [] })).await;
    assert_eq!(found["device_keys"], json!({ alice.id.as_str(): {} }));
    assert_eq!(claim(&server, &bob, &alice).await, Value::Null);
    assert_eq!(upload(&server, &alice, &body).await.status, StatusCode::UNAUTHORIZED);
}
