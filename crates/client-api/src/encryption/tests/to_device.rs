//! Messages to devices.

use crate::testing::{Answer, Server, User};
use serde_json::{Value, json};
use std::sync::Arc;

async fn send(server: &Server, from: &User, txn_id: &str, messages: Value) -> Answer {
    let path = format!("/_matrix/client/v3/sendToDevice/m.test/{txn_id}");
    server.put(&path, Some(&from.token), &json!({ "messages": messages })).await
}

fn to(user: &User, n: u32) -> Value {
    json!({ user.id.as_str(): { user.device.as_str(): { "n": n } } })
}

/// The numbers of the messages in a response.
fn told(response: &Value) -> Vec<u64> {
    let events = response["to_device"]["events"].as_array();
    events.into_iter().flatten().map(|event| event["content"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_message_reaches_its_device_alone_and_is_told_until_it_is_confirmed() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let phone = server.log_in("bob").await;
    let before = server.sync_since(&bob, None).await;
    let phone_before = server.sync_since(&phone, None).await;
    send(&server, &alice, "1", to(&bob, 1)).await.ok();
    let first = server.sync_since(&bob, Some(&before)).await;
    let expected = json!([{ "type": "m.test", "sender": alice.id, "content": { "n": 1 } }]);
    assert_eq!(first["to_device"]["events"], expected);
    // The answer was lost: it is told again.
    let again = server.sync_since(&bob, Some(&before)).await;
    assert_eq!(again["to_device"]["events"], expected);
    assert_eq!(server.sync_since(&phone, Some(&phone_before)).await.get("to_device"), None);
    assert_eq!(server.sync_since(&bob, Some(&first)).await.get("to_device"), None);
    // It was confirmed: neither an older token nor a first sync brings it back.
    assert_eq!(server.sync_since(&bob, Some(&before)).await.get("to_device"), None);
    assert_eq!(server.sync_since(&bob, None).await.get("to_device"), None);
}

#[tokio::test]
async fn a_message_that_is_not_confirmed_is_told_by_a_first_sync() {
    let server = Server::new().await;
    let alice = server.user("alice").await;
    send(&server, &alice, "1", to(&alice, 1)).await.ok();
    let first = server.sync_since(&alice, None).await;
    assert_eq!(told(&first), [1]);
    assert_eq!(told(&server.sync_since(&alice, None).await), [1]);
    assert_eq!(told(&server.sync_since(&alice, Some(&first)).await), [0_u64; 0]);
}

#[tokio::test]
async fn a_repeated_transaction_sends_nothing_more() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for _ in 0..3 {
        send(&server, &alice, "same", to(&bob, 1)).await.ok();
    }
    let other_device = server.log_in("alice").await;
    send(&server, &other_device, "same", to(&bob, 2)).await.ok();
    assert_eq!(told(&server.sync_since(&bob, None).await), [1, 2]);
}

#[tokio::test]
async fn one_transaction_sent_many_times_at_once_sends_once() {
    let server = Arc::new(Server::new().await);
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let sends = (0..16).map(|_| {
        let (server, alice, bob) = (server.clone(), alice.clone(), bob.clone());
        tokio::spawn(async move { send(&server, &alice, "same", to(&bob, 1)).await.ok() })
    });
    for sent in sends.collect::<Vec<_>>() {
        sent.await.unwrap();
    }
    assert_eq!(told(&server.sync_since(&bob, None).await), [1]);
}

#[tokio::test]
async fn all_devices_of_a_user_are_reached_by_a_wildcard() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let phone = server.log_in("bob").await;
    let messages = json!({
        bob.id.as_str(): { "*": { "n": 1 }, phone.device.as_str(): { "n": 2 }, "GONE": { "n": 3 } },
        "@nobody:example.org": { "*": { "n": 4 } },
        "@far:elsewhere.example": { "*": { "n": 5 } },
    });
    send(&server, &alice, "1", messages).await.ok();
    assert_eq!(told(&server.sync_since(&bob, None).await), [1]);
    assert_eq!(told(&server.sync_since(&phone, None).await), [2]);
    assert_eq!(told(&server.sync_since(&alice, None).await), [0_u64; 0]);
}

#[tokio::test]
async fn many_messages_come_in_pages_in_their_order_and_each_once() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let mut response = server.sync_since(&bob, None).await;
    for n in 0..250 {
        send(&server, &alice, &n.to_string(), to(&bob, n)).await.ok();
    }
    let (mut all, mut pages) = (Vec::new(), Vec::new());
    loop {
        response = server.sync_since(&bob, Some(&response)).await;
        let page = told(&response);
        if page.is_empty() {
            break;
        }
        pages.push(page.len());
        all.extend(page);
    }
    assert_eq!(pages, [100, 100, 50]);
    assert_eq!(all, (0..250).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_wakes_the_device_that_waits() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let before = server.sync_since(&bob, None).await;
    let path = format!("/_matrix/client/v3/sync?timeout=20000&since={}", before["next_batch"].as_str().unwrap());
    let waits = server.get(&path, Some(&bob.token));
    let sends = send(&server, &alice, "1", to(&bob, 7));
    let (answer, sent) = tokio::join!(waits, sends);
    sent.ok();
    assert_eq!(told(&answer.ok()), [7]);
}

#[tokio::test]
async fn what_waits_for_a_device_goes_with_it() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    send(&server, &alice, "1", to(&bob, 1)).await.ok();
    server.post("/_matrix/client/v3/logout", Some(&bob.token), &json!({})).await.ok();
    let login = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": "bob" },
        "password": crate::testing::PASSWORD,
        "device_id": bob.device,
    });
    let bob = User::of(&server.post("/_matrix/client/v3/login", None, &login).await.ok());
    assert_eq!(told(&server.sync_since(&bob, None).await), [0_u64; 0]);
}

#[tokio::test]
async fn messages_that_are_wrong_or_too_large_are_refused() {
    let server = Server::new().await;
    let alice = server.user("alice").await;
    let path = "/_matrix/client/v3/sendToDevice/m.test/1";
    let token = Some(alice.token.as_str());
    for body in [
        json!({}),
        json!({ "messages": [] }),
        json!({ "messages": { "alice": {} } }),
        json!({ "messages": { alice.id.as_str(): [] } }),
        json!({ "messages": { alice.id.as_str(): { "*": 7 } } }),
    ] {
        server.put(path, token, &body).await.refused(400, "M_BAD_JSON");
    }
    let large = json!({ alice.id.as_str(): { "*": { "x": "x".repeat(70_000) } } });
    send(&server, &alice, "1", large).await.refused(413, "M_TOO_LARGE");
    let long = format!("/_matrix/client/v3/sendToDevice/m.test/{}", "x".repeat(300));
    server.put(&long, token, &json!({ "messages": {} })).await.refused(400, "M_INVALID_PARAM");
    server.put(path, None, &json!({ "messages": {} })).await.refused(401, "M_MISSING_TOKEN");
}
