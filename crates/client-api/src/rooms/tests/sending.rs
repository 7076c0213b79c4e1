//! Sending events, setting state, redacting.

use super::joining::with_bob;
use super::{Server, User, enc};
use http::Method;
use serde_json::{Value, json};

async fn room_of_two() -> (Server, User, User, String) {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({"preset": "public_chat"})).await;
    server.join(&bob, &room).await.ok();
    (server, alice, bob, room)
}

#[tokio::test]
async fn a_transaction_makes_one_event_a_device() {
    let (server, alice, bob, room) = room_of_two().await;
    let other_device = server.session(&alice.id).await;
    let send = |user: &User, kind: &str, txn: &str| {
        let path = format!("/rooms/{room}/send/{kind}/{txn}");
        let (server, user) = (&server, user.clone());
        async move { server.put(&user, &path, json!({"body": "x"})).await.ok()["event_id"].clone() }
    };
    let first = send(&alice, "m.room.message", "1").await;
    assert_eq!(send(&alice, "m.room.message", "1").await, first);
    assert_ne!(send(&alice, "m.room.message", "2").await, first);
    assert_ne!(send(&alice, "m.other", "1").await, first);
    assert_ne!(send(&bob, "m.room.message", "1").await, first);
    assert_ne!(send(&other_device, "m.room.message", "1").await, first);

    let path = format!("/rooms/{room}/event/{}", enc(first.as_str().unwrap()));
    assert_eq!(server.get(&alice, &path).await.ok()["unsigned"]["transaction_id"], "1");
    assert!(server.get(&bob, &path).await.ok()["unsigned"].get("transaction_id").is_none());
    assert!(server.get(&other_device, &path).await.ok()["unsigned"].get("transaction_id").is_none());
}

#[tokio::test]
async fn only_members_with_the_level_can_send() {
    let (server, alice, bob, room) = room_of_two().await;
    let carol = server.user("carol").await;
    let path = format!("/rooms/{room}/send/m.room.message/1");
    server.put(&carol, &path, json!({})).await.refused(403, "M_FORBIDDEN");
    server.put(&carol, "/rooms/!nowhere:example.org/send/m.x/1", json!({})).await.refused(403, "M_FORBIDDEN");
    let levels = json!({"events": {"m.room.message": 50}});
    server.set_state(&alice, &room, "m.room.power_levels", "", levels).await.ok();
    server.put(&bob, &path, json!({})).await.refused(403, "M_FORBIDDEN");
    server.put(&alice, &path, json!({})).await.ok();
    server.set_state(&bob, &room, "m.room.name", "", json!({"name": "N"})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn an_event_must_be_an_object_in_canonical_json_that_is_not_too_large() {
    let (server, alice, _, room) = room_of_two().await;
    let send = |body: String| {
        let path = format!("/rooms/{room}/send/m.room.message/1");
        let (server, alice) = (&server, &alice);
        async move { server.request(Some(alice), Method::PUT, &path, body).await }
    };
    send("{".to_owned()).await.refused(400, "M_NOT_JSON");
    send("[]".to_owned()).await.refused(400, "M_BAD_JSON");
    send(r#"{"x":1.5}"#.to_owned()).await.refused(400, "M_BAD_JSON");
    send(r#"{"x":9007199254740992}"#.to_owned()).await.refused(400, "M_BAD_JSON");
    send(json!({"x": "y".repeat(66_000)}).to_string()).await.refused(413, "M_TOO_LARGE");
    send(json!({"x": "y".repeat(60_000)}).to_string()).await.ok();
    let path = format!("/rooms/{room}/send/{}/1", "x".repeat(256));
    server.put(&alice, &path, json!({})).await.refused(413, "M_TOO_LARGE");
    let key = "k".repeat(256);
    server.set_state(&alice, &room, "m.x", &key, json!({})).await.refused(413, "M_TOO_LARGE");
    let path = format!("/rooms/{room}/send/m.x/{}", "x".repeat(256));
    server.put(&alice, &path, json!({})).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn an_empty_state_key_needs_no_slash() {
    let (server, alice, _, room) = room_of_two().await;
    for (path, name) in [("m.room.name", "A"), ("m.room.name/", "B")] {
        server.put(&alice, &format!("/rooms/{room}/state/{path}"), json!({"name": name})).await.ok();
        for path in ["m.room.name", "m.room.name/"] {
            let content = server.get(&alice, &format!("/rooms/{room}/state/{path}")).await.ok();
            assert_eq!(content, json!({"name": name}));
        }
    }
    server.set_state(&alice, &room, "m.x", "a/b c", json!({"x": 1})).await.ok();
    assert_eq!(server.state(&alice, &room, "m.x", "a/b c").await.ok(), json!({"x": 1}));
    server.state(&alice, &room, "m.x", "").await.refused(404, "M_NOT_FOUND");
    let post = server.post(&alice, &format!("/rooms/{room}/state/m.room.name/"), json!({})).await;
    post.refused(405, "M_UNRECOGNIZED");
}

#[tokio::test]
async fn a_state_event_is_answered_whole_if_it_is_asked_for() {
    let (server, alice, _, room) = room_of_two().await;
    let set = server.set_state(&alice, &room, "m.room.name", "", json!({"name": "N"})).await.ok();
    let event = server.get(&alice, &format!("/rooms/{room}/state/m.room.name?format=event")).await.ok();
    assert_eq!((&event["event_id"], &event["sender"]), (&set["event_id"], &json!(alice.id)));
    assert_eq!((&event["type"], &event["state_key"]), (&json!("m.room.name"), &json!("")));
    let content = server.get(&alice, &format!("/rooms/{room}/state/m.room.name?format=content")).await.ok();
    assert_eq!(content, json!({"name": "N"}));
    for query in ["format=xml", "format=event&format=event"] {
        let path = format!("/rooms/{room}/state/m.room.name?{query}");
        server.get(&alice, path).await.refused(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn setting_what_is_set_makes_no_event() {
    let (server, alice, _, room) = room_of_two().await;
    let set = |name: &str| server.set_state(&alice, &room, "m.room.name", "", json!({"name": name}));
    let first = set("N").await.ok();
    assert_eq!(set("N").await.ok(), first);
    assert_ne!(set("M").await.ok(), first);
}

#[tokio::test]
async fn a_room_is_created_once() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for version in ["1", "11", "12"] {
        let room = server.room(&alice, json!({"room_version": version})).await;
        server.set_state(&alice, &room, "m.room.create", "", json!({})).await.refused(400, "M_INVALID_PARAM");
        server.set_state(&alice, &room, "m.room.create", "x", json!({})).await.refused(400, "M_INVALID_PARAM");
        let path = format!("/rooms/{room}/send/m.room.create/1");
        server.put(&alice, &path, json!({})).await.refused(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn a_state_key_that_is_a_user_is_that_users() {
    let (server, alice, bob, room) = room_of_two().await;
    let levels = json!({"state_default": 0});
    server.set_state(&alice, &room, "m.room.power_levels", "", levels).await.ok();
    server.set_state(&bob, &room, "m.x", bob.id.as_str(), json!({})).await.ok();
    server.set_state(&bob, &room, "m.x", alice.id.as_str(), json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn levels_must_be_integers_by_the_endpoint_whatever_the_room_bears() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for version in ["1", "9", "12"] {
        let room = server.room(&alice, json!({"room_version": version})).await;
        for content in [json!({"ban": "50"}), json!({"users": {"x": 1}}), json!({"events": []})] {
            let set = server.set_state(&alice, &room, "m.room.power_levels", "", content).await;
            set.refused(400, "M_BAD_JSON");
        }
    }
}

#[tokio::test]
async fn canonical_aliases_must_be_the_rooms() {
    let (server, alice, _, room) = room_of_two().await;
    let other = server.room(&alice, json!({"room_alias_name": "other"})).await;
    assert_ne!(room, other);
    let put_alias =
        |name: &str| server.put(&alice, format!("/directory/room/%23{name}:example.org"), json!({"room_id": room}));
    put_alias("one").await.ok();
    put_alias("two").await.ok();
    let set = |content| server.set_state(&alice, &room, "m.room.canonical_alias", "", content);
    set(json!({"alias": "#one:example.org", "alt_aliases": ["#two:example.org"]})).await.ok();
    set(json!({"alias": "#other:example.org"})).await.refused(400, "M_BAD_ALIAS");
    set(json!({"alias": "#nowhere:example.org"})).await.refused(400, "M_BAD_ALIAS");
    set(json!({"alt_aliases": ["#far:b.example"]})).await.refused(400, "M_BAD_ALIAS");
    set(json!({"alias": "one"})).await.refused(400, "M_INVALID_PARAM");
    set(json!({"alt_aliases": "#one:example.org"})).await.refused(400, "M_INVALID_PARAM");
    set(json!({"alt_aliases": [1]})).await.refused(400, "M_INVALID_PARAM");
    set(json!({"alias": ""})).await.ok();
    set(json!({"alias": null, "alt_aliases": []})).await.ok();
    // What it has already need not lead here any more.
    set(json!({"alias": "#one:example.org"})).await.ok();
    server.request(Some(&alice), Method::DELETE, "/directory/room/%23two:example.org", String::new()).await.ok();
    set(json!({"alias": "#one:example.org", "x": 1})).await.ok();
}

#[tokio::test]
async fn one_redacts_ones_own_and_with_the_level_others() {
    let (server, alice, bob, room) = room_of_two().await;
    let (hers, his) = (server.say(&alice, &room, "hers").await, server.say(&bob, &room, "his").await);
    let redact = |user: &User, event: &str, txn: &str| {
        let path = format!("/rooms/{room}/redact/{}/{txn}", enc(event));
        let (server, user) = (&server, user.clone());
        async move { server.put(&user, &path, json!({"reason": "R"})).await }
    };
    redact(&bob, &hers, "1").await.refused(403, "M_FORBIDDEN");
    let first = redact(&bob, &his, "2").await.ok();
    assert_eq!(redact(&bob, &his, "2").await.ok(), first);
    redact(&alice, &his, "3").await.ok();
    redact(&alice, "$nowhere", "4").await.refused(404, "M_NOT_FOUND");
    let carol = server.user("carol").await;
    redact(&carol, &his, "5").await.refused(403, "M_FORBIDDEN");
    let event = server.get(&alice, &format!("/rooms/{room}/event/{}", enc(&hers))).await.ok();
    assert_eq!(event["content"]["body"], "hers");
}

#[tokio::test]
async fn a_repeated_redaction_is_answered_as_before_though_its_sender_has_left() {
    let (server, alice, bob, room) = with_bob().await;
    let said = server.say(&bob, &room, "x").await;
    let path = format!("/rooms/{room}/redact/{}/1", enc(&said));
    let first = server.put(&bob, &path, json!({})).await.ok();
    server.post(&alice, format!("/rooms/{room}/kick"), json!({"user_id": bob.id})).await.ok();
    assert_eq!(server.put(&bob, &path, json!({})).await.ok(), first);
}

#[tokio::test]
async fn a_redaction_can_be_sent_like_any_event_in_every_version() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for version in ["1", "3", "10", "11", "12"] {
        let room = server.room(&alice, json!({"room_version": version, "preset": "public_chat"})).await;
        server.join(&bob, &room).await.ok();
        let said = server.say(&alice, &room, "hello").await;
        let path = format!("/rooms/{room}/send/m.room.redaction/1");
        server.put(&bob, &path, json!({"redacts": said})).await.refused(403, "M_FORBIDDEN");
        server.put(&alice, &path, json!({})).await.refused(400, "M_BAD_JSON");
        let sent = server.put(&alice, &path, json!({"redacts": said, "reason": "R"})).await.ok();
        let event = |id: &Value| server.get(&alice, format!("/rooms/{room}/event/{}", enc(id.as_str().unwrap())));
        let redaction = event(&sent["event_id"]).await.ok();
        assert_eq!(redaction["redacts"], said.as_str(), "version {version}");
        assert_eq!(redaction["content"], json!({"redacts": said, "reason": "R"}));
        assert_eq!(event(&json!(said)).await.ok()["content"], json!({}));
    }
}

#[tokio::test]
async fn what_is_put_must_be_there() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = server.room(&alice, json!({"topic": "T"})).await;
    let account_data = format!("/user/{}/account_data/m.direct", alice.id);
    for path in [
        format!("/rooms/{room}/state/m.room.topic/"),
        format!("/rooms/{room}/send/m.room.message/1"),
        account_data,
        format!("/rooms/{room}/redact/$e/1"),
    ] {
        let answer = server.request(Some(&alice), http::Method::PUT, &path, String::new()).await;
        answer.refused(400, "M_NOT_JSON");
    }
    assert_eq!(server.state(&alice, &room, "m.room.topic", "").await.ok()["topic"], "T");
    // Where nothing has to be said, nothing may be.
    server.request(Some(&alice), http::Method::POST, format!("/rooms/{room}/leave"), String::new()).await.ok();
}
