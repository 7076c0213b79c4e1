//! Dehydrated devices.

use super::KeyMaker;
use crate::testing::{Server, User};
use serde_json::{Value, json};

const PATH: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";

fn device(user: &User, id: &str) -> Value {
    let maker = KeyMaker { device: id.to_owned(), ..KeyMaker::of(user, 1) };
    json!({
        "device_id": id,
        "device_data": { "algorithm": "m.dehydration.v2", "device_pickle": id },
        "initial_device_display_name": "Dehydrated",
        "device_keys": maker.device_keys(),
        "one_time_keys": { "signed_curve25519:1": KeyMaker::one_time_key(1) },
        "fallback_keys": { "signed_curve25519:2": KeyMaker::one_time_key(2) },
    })
}

async fn send(server: &Server, from: &User, to: &User, device: &str, count: u32) {
    for n in 0..count {
        let path = format!("/_matrix/client/v3/sendToDevice/m.test/{device}{n}");
        let body = json!({ "messages": { to.id.as_str(): { device: { "n": n } } } });
        server.put(&path, Some(&from.token), &body).await.ok();
    }
}

#[tokio::test]
async fn a_dehydrated_device_is_stored_shown_and_removed() {
    let server = Server::new().await;
    let alice = server.user("alice").await;
    let token = Some(alice.token.as_str());
    server.get(PATH, token).await.refused(404, "M_NOT_FOUND");
    server.delete(PATH, token, &json!({})).await.refused(404, "M_NOT_FOUND");
    let put = server.put(PATH, token, &device(&alice, "DRY1")).await.ok();
    assert_eq!(put, json!({ "device_id": "DRY1" }));
    let shown = server.get(PATH, token).await.ok();
    assert_eq!(shown["device_id"], "DRY1");
    assert_eq!(shown["device_data"]["device_pickle"], "DRY1");
    let keys = server.query(&alice, &json!({ alice.id.as_str(): [] })).await;
    let shown = &keys["device_keys"][alice.id.as_str()]["DRY1"];
    assert_eq!(shown["unsigned"]["device_display_name"], "Dehydrated");
    let claim = json!({ "one_time_keys": { alice.id.as_str(): { "DRY1": "signed_curve25519" } } });
    for id in ["signed_curve25519:1", "signed_curve25519:2"] {
        let claimed = server.post("/_matrix/client/v3/keys/claim", token, &claim).await.ok();
        assert!(claimed["one_time_keys"][alice.id.as_str()]["DRY1"][id].is_object());
    }
    // Another one takes its place.
    server.put(PATH, token, &device(&alice, "DRY2")).await.ok();
    let keys = server.query(&alice, &json!({ alice.id.as_str(): [] })).await;
    let devices = keys["device_keys"][alice.id.as_str()].as_object().unwrap();
    assert_eq!(devices.keys().collect::<Vec<_>>(), ["DRY2"]);
    assert_eq!(server.delete(PATH, token, &json!({})).await.ok(), json!({ "device_id": "DRY2" }));
    server.get(PATH, token).await.refused(404, "M_NOT_FOUND");
    // It is gone from the list of devices too, and with it when it is removed there.
    server.put(PATH, token, &device(&alice, "DRY3")).await.ok();
    server.post("/_matrix/client/v3/logout/all", token, &json!({})).await.ok();
    let alice = server.log_in("alice").await;
    server.get(PATH, Some(&alice.token)).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn its_messages_are_read_in_pages_and_stay() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let token = Some(alice.token.as_str());
    server.put(PATH, token, &device(&alice, "DRY")).await.ok();
    send(&server, &bob, &alice, "DRY", 250).await;
    let events = format!("{PATH}/DRY/events");
    for _ in 0..2 {
        let (mut all, mut pages, mut from) = (Vec::new(), 0, String::new());
        loop {
            let page = server.get(&format!("{events}{from}"), token).await.ok();
            let numbers = page["events"].as_array().unwrap().iter();
            all.extend(numbers.map(|event| event["content"]["n"].as_u64().unwrap()));
            pages += 1;
            match page.get("next_batch") {
                Some(next) => from = format!("?from={}", next.as_str().unwrap()),
                None => break,
            }
        }
        assert_eq!((pages, all), (3, (0..250).collect::<Vec<_>>()));
    }
    // As clients in service ask: until a page is empty.
    let (mut all, mut body) = (Vec::new(), json!({}));
    loop {
        let page = server.post(&events, token, &body).await.ok();
        let numbers = page["events"].as_array().unwrap();
        if numbers.is_empty() {
            break;
        }
        all.extend(numbers.iter().map(|event| event["content"]["n"].as_u64().unwrap()));
        body = json!({ "next_batch": page["next_batch"] });
    }
    assert_eq!(all, (0..250).collect::<Vec<_>>());
    server.get(&format!("{PATH}/{}/events", alice.device), token).await.refused(403, "M_FORBIDDEN");
    server.get(&events, Some(&bob.token)).await.refused(403, "M_FORBIDDEN");
    server.get(&format!("{events}?from=x"), token).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn a_device_that_is_not_right_is_refused() {
    let server = Server::new().await;
    let alice = server.user("alice").await;
    let token = Some(alice.token.as_str());
    for field in ["device_id", "device_data", "device_keys"] {
        let mut body = device(&alice, "DRY");
        body.as_object_mut().unwrap().remove(field);
        server.put(PATH, token, &body).await.refused(400, "M_BAD_JSON");
    }
    let mut body = device(&alice, "DRY");
    body["device_data"] = json!({});
    server.put(PATH, token, &body).await.refused(400, "M_BAD_JSON");
    let mut body = device(&alice, "DRY");
    body["device_id"] = json!("OTHER");
    server.put(PATH, token, &body).await.refused(400, "M_INVALID_PARAM");
    server.put(PATH, token, &device(&alice, &alice.device)).await.refused(400, "M_INVALID_PARAM");
    server.put(PATH, token, &device(&alice, "DRY")).await.ok();
    let login = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": "alice" },
        "password": crate::testing::PASSWORD,
        "device_id": "DRY",
    });
    server.post("/_matrix/client/v3/login", None, &login).await.refused(403, "M_FORBIDDEN");
}
