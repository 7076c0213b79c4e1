//! The endpoints of sync, through the router.

use crate::testing::{Server, User};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

struct World {
    server: Server,
    alice: User,
    bob: User,
    room: String,
}

impl World {
    /// Alice's room, with bob in it.
    async fn new() -> Self {
        let server = Server::new().await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        let create = json!({"preset": "public_chat"});
        let created = server.post("/_matrix/client/v3/createRoom", Some(&alice.token), &create).await.ok();
        let room = created["room_id"].as_str().unwrap().to_owned();
        let path = format!("/_matrix/client/v3/rooms/{room}/join");
        server.post(&path, Some(&bob.token), &json!({})).await.ok();
        Self { server, alice, bob, room }
    }

    fn path(&self, rest: &str) -> String {
        format!("/_matrix/client/v3/rooms/{}/{rest}", self.room)
    }

    async fn say(&self, user: &User, txn: &str) -> String {
        let path = self.path(&format!("send/m.room.message/{txn}"));
        let body = json!({"msgtype": "m.text", "body": txn});
        self.server.put(&path, Some(&user.token), &body).await.ok()["event_id"].as_str().unwrap().to_owned()
    }

    async fn sync(&self, user: &User, query: &str) -> Value {
        let path = format!("/_matrix/client/v3/sync?{query}");
        self.server.get(&path, Some(&user.token)).await.ok()
    }

    async fn since(&self, user: &User, before: &Value) -> Value {
        self.sync(user, &format!("since={}", before["next_batch"].as_str().unwrap())).await
    }

    fn joined<'a>(&self, response: &'a Value) -> &'a Value {
        &response["rooms"]["join"][self.room.as_str()]
    }
}

#[tokio::test]
async fn a_message_is_synced_and_its_sender_gets_the_transaction_id() {
    let world = World::new().await;
    let before = world.sync(&world.bob, "").await;
    world.say(&world.bob, "txn1").await;
    let response = world.since(&world.bob, &before).await;
    let event = &world.joined(&response)["timeline"]["events"][0];
    assert_eq!(event["content"]["body"], "txn1");
    assert_eq!(event["unsigned"]["transaction_id"], "txn1");
    let other_device = world.server.log_in("bob").await;
    let response = world.since(&other_device, &before).await;
    let event = &world.joined(&response)["timeline"]["events"][0];
    assert_eq!((event["content"]["body"].as_str(), event["unsigned"].get("transaction_id")), (Some("txn1"), None));
}

#[tokio::test]
async fn parameters_that_are_wrong_are_refused() {
    let world = World::new().await;
    let token = Some(world.bob.token.as_str());
    for query in
        ["since=x", "since=t1", "since=", "full_state=maybe", "timeout=-1", "set_presence=asleep", "filter=nope"]
    {
        world.server.get(&format!("/_matrix/client/v3/sync?{query}"), token).await.refused(400, "M_INVALID_PARAM");
    }
    world.server.get("/_matrix/client/v3/sync?filter=%7B%22room%22:1%7D", token).await.refused(400, "M_BAD_JSON");
    world.server.get("/_matrix/client/v3/sync", None).await.refused(401, "M_MISSING_TOKEN");
    let odd = "set_presence=offline&timeout=0&full_state=true&use_state_after=true&filter=%7B%7D&unknown=1";
    let response = world.sync(&world.bob, odd).await;
    assert!(world.joined(&response)["state_after"]["events"].is_array());
}

#[tokio::test]
async fn history_goes_on_where_a_limited_timeline_starts() {
    let world = World::new().await;
    for n in 0..5 {
        world.say(&world.alice, &n.to_string()).await;
    }
    let filter = "filter=%7B%22room%22:%7B%22timeline%22:%7B%22limit%22:2%7D%7D%7D";
    let response = world.sync(&world.bob, filter).await;
    let timeline = &world.joined(&response)["timeline"];
    let body = |event: &Value| event["content"]["body"].as_str().unwrap_or_default().to_owned();
    let shown: Vec<String> = timeline["events"].as_array().unwrap().iter().map(body).collect();
    assert_eq!((shown.as_slice(), &timeline["limited"]), (["3".to_owned(), "4".to_owned()].as_slice(), &json!(true)));
    let from = timeline["prev_batch"].as_str().unwrap();
    let path = world.path(&format!("messages?dir=b&limit=3&from={from}"));
    let page = world.server.get(&path, Some(&world.bob.token)).await.ok();
    let earlier: Vec<String> = page["chunk"].as_array().unwrap().iter().map(body).collect();
    assert_eq!(earlier, ["2", "1", "0"]);
}

#[tokio::test]
async fn receipts_and_markers_go_where_they_belong() {
    let world = World::new().await;
    let event = world.say(&world.alice, "1").await;
    let before = world.sync(&world.bob, "").await;
    let token = Some(world.bob.token.as_str());
    let receipt = |kind: &str, event: &str| world.path(&format!("receipt/{kind}/{event}"));
    world.server.post(&receipt("m.read", &event), token, &json!({})).await.ok();
    world.server.send(Method::POST, &receipt("m.read.private", &event), token, "").await.ok();
    let markers = json!({"m.fully_read": event, "m.read": event});
    world.server.post(&world.path("read_markers"), token, &markers).await.ok();
    let response = world.since(&world.bob, &before).await;
    let told = world.joined(&response);
    assert_eq!(told["account_data"]["events"][0]["content"]["event_id"], event.as_str());
    let content = &told["ephemeral"]["events"][0]["content"][event.as_str()];
    assert!(content["m.read"][world.bob.id.as_str()]["ts"].is_u64());
    assert!(content["m.read.private"][world.bob.id.as_str()].is_object());

    for (kind, body) in [
        ("m.read", json!({"thread_id": 7})),
        ("m.read", json!({"thread_id": ""})),
        ("m.read", json!({"thread_id": "$other"})),
        ("m.fully_read", json!({"thread_id": "main"})),
        ("m.seen", json!({})),
    ] {
        world.server.post(&receipt(kind, &event), token, &body).await.refused(400, "M_INVALID_PARAM");
    }
    world.server.post(&receipt("m.read", "$nope"), token, &json!({})).await.refused(400, "M_INVALID_PARAM");
    let carol = world.server.user("carol").await;
    let stranger = Some(carol.token.as_str());
    world.server.post(&receipt("m.read", &event), stranger, &json!({})).await.refused(403, "M_FORBIDDEN");
    world.server.post(&world.path("read_markers"), stranger, &markers).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn one_types_for_oneself_and_where_one_is() {
    let world = World::new().await;
    let before = world.sync(&world.alice, "").await;
    let path = |user: &User| world.path(&format!("typing/{}", user.id));
    let typing = json!({"typing": true, "timeout": 30000});
    world.server.put(&path(&world.bob), Some(&world.bob.token), &typing).await.ok();
    let response = world.since(&world.alice, &before).await;
    let event = &world.joined(&response)["ephemeral"]["events"][0];
    assert_eq!(*event, json!({"type": "m.typing", "content": {"user_ids": [world.bob.id]}}));

    world.server.put(&path(&world.alice), Some(&world.bob.token), &typing).await.refused(403, "M_FORBIDDEN");
    let carol = world.server.user("carol").await;
    world.server.put(&path(&carol), Some(&carol.token), &typing).await.refused(403, "M_FORBIDDEN");
    world.server.put(&path(&world.bob), Some(&world.bob.token), &json!({})).await.refused(400, "M_BAD_JSON");
    let stopped = world.server.put(&path(&world.bob), Some(&world.bob.token), &json!({"typing": false})).await;
    assert_eq!(stopped.status, StatusCode::OK);
}

#[tokio::test]
async fn typing_ends_by_itself_though_nothing_else_happens() {
    let world = World::new().await;
    let before = world.sync(&world.alice, "").await;
    let path = world.path(&format!("typing/{}", world.bob.id));
    let typing = json!({"typing": true, "timeout": 1000});
    world.server.put(&path, Some(&world.bob.token), &typing).await.ok();
    let started = world.since(&world.alice, &before).await;
    world.server.clock.advance(Duration::from_secs(2));
    let since = started["next_batch"].as_str().unwrap();
    let ended = world.sync(&world.alice, &format!("since={since}&timeout=20000")).await;
    let event = &world.joined(&ended)["ephemeral"]["events"][0];
    assert_eq!(*event, json!({"type": "m.typing", "content": {"user_ids": []}}));
}

#[tokio::test]
async fn who_is_logged_out_while_they_wait_gets_nothing_more() {
    let world = World::new().await;
    let before = world.sync(&world.alice, "").await;
    let since = before["next_batch"].as_str().unwrap();
    let path = format!("/_matrix/client/v3/sync?timeout=20000&since={since}");
    let waits = world.server.send(Method::GET, &path, Some(&world.alice.token), String::new());
    let ends = async {
        world.server.post("/_matrix/client/v3/logout", Some(&world.alice.token), &json!({})).await.ok();
        world.say(&world.bob, "after").await;
    };
    let (answer, ()) = tokio::join!(waits, ends);
    answer.refused(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn the_old_event_stream_tells_what_is_no_event_of_a_room_too() {
    let world = World::new().await;
    let said = world.say(&world.alice, "1").await;
    let ask =
        async |path: &str| world.server.get(&format!("/_matrix/client/v3/{path}"), Some(&world.bob.token)).await.ok();
    let here = json!({"presence": "online", "status_msg": "here"});
    let presence = format!("/_matrix/client/v3/presence/{}/status", world.alice.id);
    world.sync(&world.alice, "").await;
    world.server.put(&presence, Some(&world.alice.token), &here).await.ok();
    let begun = ask("initialSync").await;
    assert_eq!(begun["presence"][0]["content"]["status_msg"], "here");
    assert_eq!(begun["presence"][0]["sender"], json!(world.alice.id));
    let from = begun["end"].as_str().unwrap();
    let typing = world.path(&format!("typing/{}", world.alice.id));
    world.server.put(&typing, Some(&world.alice.token), &json!({"typing": true, "timeout": 9000})).await.ok();
    let receipt = world.path(&format!("receipt/m.read/{said}"));
    world.server.post(&receipt, Some(&world.alice.token), &json!({})).await.ok();
    let told = ask(&format!("events?from={from}&timeout=0")).await;
    let of = |kind: &str| {
        let chunk = told["chunk"].as_array().unwrap();
        chunk.iter().find(|event| event["type"] == kind).unwrap_or_else(|| panic!("no {kind} in {told}")).clone()
    };
    let typing = of("m.typing");
    assert_eq!((&typing["room_id"], &typing["content"]["user_ids"]), (&json!(world.room), &json!([world.alice.id])));
    let receipt = of("m.receipt");
    assert_eq!(receipt["room_id"], json!(world.room));
    assert!(receipt["content"][said.as_str()]["m.read"][world.alice.id.as_str()]["ts"].is_u64());
    let again = ask(&format!("events?from={}&timeout=0", told["end"].as_str().unwrap())).await;
    assert!(again["chunk"].as_array().unwrap().iter().all(|event| event["type"] == "m.presence"), "{again}");
}
