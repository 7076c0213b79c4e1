//! Single events, their context, state and members.

use super::{Server, User, bodies, enc, types};
use serde_json::{Value, json};

async fn room_of_two() -> (Server, User, User, String) {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({"preset": "public_chat"})).await;
    server.join(&bob, &room).await.ok();
    (server, alice, bob, room)
}

fn members(answer: &Value) -> Vec<(&str, &str)> {
    let events = answer["chunk"].as_array().unwrap().iter();
    events.map(|e| (e["state_key"].as_str().unwrap(), e["content"]["membership"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn an_event_is_found_in_its_room_only() {
    let (server, alice, bob, room) = room_of_two().await;
    let other = server.room(&alice, json!({})).await;
    let said = enc(&server.say(&alice, &room, "hello").await);
    let event = server.get(&bob, &format!("/rooms/{room}/event/{said}")).await.ok();
    assert_eq!((&event["room_id"], &event["content"]["body"]), (&json!(room), &json!("hello")));
    assert_eq!(event["unsigned"]["membership"], "join");
    assert!(event["unsigned"]["age"].as_i64().is_some_and(|age| age > 0));
    for (user, path) in [
        (&alice, format!("/rooms/{other}/event/{said}")),
        (&bob, format!("/rooms/{other}/event/{said}")),
        (&bob, format!("/rooms/{room}/event/$nowhere")),
        (&bob, format!("/rooms/!nowhere:example.org/event/{said}")),
    ] {
        server.get(user, &path).await.refused(404, "M_NOT_FOUND");
    }
}

#[tokio::test]
async fn the_context_of_an_event_is_what_was_around_it() {
    let (server, alice, bob, room) = room_of_two().await;
    let mut said = Vec::new();
    for n in 0..21 {
        said.push(server.say(&alice, &room, &n.to_string()).await);
    }
    let context = |query: &str| server.get(&bob, format!("/rooms/{room}/context/{}?{query}", enc(&said[10])));
    let answer = context("limit=6").await.ok();
    assert_eq!(bodies(&answer["events_before"]), ["9", "8", "7"]);
    assert_eq!(bodies(&answer["events_after"]), ["11", "12", "13"]);
    assert_eq!(answer["event"]["content"]["body"], "10");
    assert!(types(&answer["state"]).contains(&"m.room.create"));

    let page = |dir: &str, from: &Value| {
        server.get(&bob, format!("/rooms/{room}/messages?limit=2&dir={dir}&from={}", from.as_str().unwrap()))
    };
    assert_eq!(bodies(&page("b", &answer["start"]).await.ok()["chunk"]), ["6", "5"]);
    assert_eq!(bodies(&page("f", &answer["end"]).await.ok()["chunk"]), ["14", "15"]);

    let answer = context("limit=0").await.ok();
    assert_eq!((&answer["events_before"], &answer["events_after"]), (&json!([]), &json!([])));
    assert_eq!(bodies(&page("b", &answer["start"]).await.ok()["chunk"]), ["9", "8"]);
    assert_eq!(bodies(&page("f", &answer["end"]).await.ok()["chunk"]), ["11", "12"]);
    server.get(&bob, &format!("/rooms/{room}/context/$nowhere")).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_lazy_context_has_the_members_who_speak_in_it() {
    let (server, alice, bob, room) = room_of_two().await;
    server.say(&alice, &room, "a").await;
    let said = server.say(&alice, &room, "b").await;
    let filter = enc(r#"{"lazy_load_members":true}"#);
    let path = format!("/rooms/{room}/context/{}?limit=1&filter={filter}", enc(&said));
    let answer = server.get(&bob, &path).await.ok();
    let members: Vec<_> =
        answer["state"].as_array().unwrap().iter().filter(|event| event["type"] == "m.room.member").collect();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0]["state_key"], json!(alice.id));
    let others = types(&answer["state"]);
    for kind in ["m.room.create", "m.room.power_levels", "m.room.history_visibility"] {
        assert!(others.contains(&kind), "{kind}");
    }
    let filter = enc(r#"{"types":["m.room.message"]}"#);
    let path = format!("/rooms/{room}/context/{}?filter={filter}", enc(&said));
    assert_eq!(server.get(&bob, &path).await.ok()["state"], json!([]));
}

#[tokio::test]
async fn members_can_be_chosen_by_membership() {
    let (server, alice, bob, room) = room_of_two().await;
    let (carol, dan) = (server.user("carol").await, server.user("dan").await);
    server.invite(&alice, &room, &carol).await.ok();
    server.act(&alice, &room, "ban", &dan).await.ok();
    let get = |query: &str| server.get(&bob, format!("/rooms/{room}/members{query}"));
    let all = [
        ("@alice:example.org", "join"),
        ("@bob:example.org", "join"),
        ("@carol:example.org", "invite"),
        ("@dan:example.org", "ban"),
    ];
    assert_eq!(members(&get("").await.ok()), all);
    assert_eq!(members(&get("?membership=join").await.ok()), all[..2]);
    assert_eq!(members(&get("?not_membership=join").await.ok()), all[2..]);
    // Either of the two lets a member through.
    assert_eq!(members(&get("?membership=ban&not_membership=ban").await.ok()), all);
    assert_eq!(members(&get("?membership=ban&not_membership=join").await.ok()), all[2..]);
    get("?at=x").await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn members_can_be_asked_for_as_they_were() {
    let (server, alice, bob, room) = room_of_two().await;
    server.say(&alice, &room, "then").await;
    let then = server.get(&alice, &format!("/rooms/{room}/messages?dir=b&limit=1")).await.ok()["start"].clone();
    let carol = server.user("carol").await;
    server.join(&carol, &room).await.ok();
    let get = |user: &User| {
        let path = format!("/rooms/{room}/members?at={}", then.as_str().unwrap());
        let (server, user) = (&server, user.clone());
        async move { server.get(&user, &path).await.ok() }
    };
    assert_eq!(members(&get(&bob).await), [("@alice:example.org", "join"), ("@bob:example.org", "join")]);
    // The history is shared, so it is carol's as well.
    assert_eq!(members(&get(&carol).await).len(), 2);
    let joined_only = json!({"history_visibility": "joined"});
    server.set_state(&alice, &room, "m.room.history_visibility", "", joined_only).await.ok();
    server.say(&alice, &room, "hidden").await;
    let hidden = server.get(&alice, &format!("/rooms/{room}/messages?dir=b&limit=1")).await.ok()["start"].clone();
    let dan = server.user("dan").await;
    server.join(&dan, &room).await.ok();
    let path = format!("/rooms/{room}/members?at={}", hidden.as_str().unwrap());
    server.join(&server.user("erin").await, &room).await.ok();
    // Before dan was there is not for dan to see: the first that is, is what their join found.
    assert_eq!(members(&server.get(&dan, &path).await.ok()).len(), 4);
    // Nor was anything before the room was made.
    let beginning = format!("/rooms/{room}/members?at=t0");
    assert_eq!(members(&server.get(&alice, &beginning).await.ok()), [("@alice:example.org", "join")]);
}

#[tokio::test]
async fn state_events_say_what_the_reader_was_to_the_room() {
    let (server, alice, _, room) = room_of_two().await;
    let carol = server.user("carol").await;
    server.invite(&alice, &room, &carol).await.ok();
    server.set_state(&alice, &room, "m.room.topic", "", json!({"topic": "T"})).await.ok();
    server.join(&carol, &room).await.ok();
    server.set_state(&alice, &room, "m.room.name", "", json!({"name": "N"})).await.ok();
    let state = server.get(&carol, &format!("/rooms/{room}/state")).await.ok();
    let membership = |kind: &str| {
        let event = state.as_array().unwrap().iter().find(|event| event["type"] == kind).unwrap();
        event["unsigned"]["membership"].clone()
    };
    assert_eq!(membership("m.room.create"), "leave");
    assert_eq!(membership("m.room.topic"), "invite");
    assert_eq!(membership("m.room.name"), "join");
}

#[tokio::test]
async fn what_an_ignored_user_says_is_not_there_to_read() {
    let (server, alice, bob, room) = room_of_two().await;
    let hidden = server.say(&alice, &room, "hidden").await;
    let own = server.say(&bob, &room, "own").await;
    let list = json!({"ignored_users": {alice.id.as_str(): {}}});
    server.put(&bob, format!("/user/{}/account_data/m.ignored_user_list", bob.id), list).await.ok();
    let page = server.get(&bob, &format!("/rooms/{room}/messages?dir=b&limit=100")).await.ok();
    assert_eq!(bodies(&page["chunk"]), ["own"]);
    assert!(types(&page["chunk"]).contains(&"m.room.power_levels"), "state is not hidden");
    server.get(&bob, format!("/rooms/{room}/event/{}", enc(&hidden))).await.refused(404, "M_NOT_FOUND");
    let context = server.get(&bob, format!("/rooms/{room}/context/{}?limit=4", enc(&own))).await.ok();
    assert!(bodies(&context["events_before"]).is_empty());
    server.get(&alice, format!("/rooms/{room}/event/{}", enc(&hidden))).await.ok();
}

#[tokio::test]
async fn who_forgot_a_room_learns_nothing_of_it_however_they_ask() {
    let (server, _, bob, room) = room_of_two().await;
    server.leave(&bob, &room).await.ok();
    server.get(&bob, format!("/rooms/{room}/messages?dir=b")).await.ok();
    server.post(&bob, &format!("/rooms/{room}/forget"), json!({})).await.ok();
    for query in ["", "?dir=b"] {
        server.get(&bob, format!("/rooms/{room}/messages{query}")).await.refused(403, "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn joined_members_are_for_members() {
    let (server, alice, bob, room) = room_of_two().await;
    let nick = json!({"membership": "join", "displayname": "Bob", "avatar_url": "mxc://example.org/b"});
    server.set_state(&bob, &room, "m.room.member", bob.id.as_str(), nick).await.ok();
    let carol = server.user("carol").await;
    server.invite(&alice, &room, &carol).await.ok();
    let path = format!("/rooms/{room}/joined_members");
    let expected = json!({
        alice.id.as_str(): {"display_name": null, "avatar_url": null},
        bob.id.as_str(): {"display_name": "Bob", "avatar_url": "mxc://example.org/b"},
    });
    assert_eq!(server.get(&alice, &path).await.ok()["joined"], expected);
    server.get(&carol, &path).await.refused(403, "M_FORBIDDEN");
    server.leave(&bob, &room).await.ok();
    server.get(&bob, &path).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn who_may_not_read_a_room_is_told_so_whatever_they_ask() {
    let (server, alice, _, room) = room_of_two().await;
    let path = format!("/rooms/{room}/messages");
    server.get(&alice, &path).await.refused(400, "M_MISSING_PARAM");
    let carol = server.user("carol").await;
    server.get(&carol, &path).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn one_who_left_sees_the_room_as_it_was() {
    let (server, alice, bob, room) = room_of_two().await;
    server.set_state(&alice, &room, "m.room.name", "", json!({"name": "before"})).await.ok();
    server.say(&alice, &room, "before").await;
    server.leave(&bob, &room).await.ok();
    server.set_state(&alice, &room, "m.room.name", "", json!({"name": "after"})).await.ok();
    let said = server.say(&alice, &room, "after").await;
    let carol = server.user("carol").await;
    server.join(&carol, &room).await.ok();

    assert_eq!(server.state(&bob, &room, "m.room.name", "").await.ok(), json!({"name": "before"}));
    let state = server.get(&bob, &format!("/rooms/{room}/state")).await.ok();
    assert!(state.as_array().unwrap().iter().all(|event| event["content"]["name"] != "after"));
    let answer = server.get(&bob, &format!("/rooms/{room}/members")).await.ok();
    assert_eq!(members(&answer), [("@alice:example.org", "join"), ("@bob:example.org", "leave")]);
    let page = server.get(&bob, &format!("/rooms/{room}/messages?dir=b")).await.ok();
    assert_eq!(bodies(&page["chunk"]), ["before"]);
    assert_eq!(page["chunk"][0]["content"]["membership"], "leave");
    server.get(&bob, &format!("/rooms/{room}/event/{}", enc(&said))).await.refused(404, "M_NOT_FOUND");
    server.get(&bob, &format!("/rooms/{room}/context/{}", enc(&said))).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn one_who_was_banned_or_invited_again_sees_the_room_as_it_was() {
    let (server, alice, bob, room) = room_of_two().await;
    server.say(&alice, &room, "before").await;
    server.act(&alice, &room, "kick", &bob).await.ok();
    server.say(&alice, &room, "after").await;
    for action in ["invite", "ban"] {
        server.act(&alice, &room, action, &bob).await.ok();
        let page = server.get(&bob, &format!("/rooms/{room}/messages?dir=b")).await.ok();
        assert_eq!(bodies(&page["chunk"]), ["before"], "after {action}");
    }
}

#[tokio::test]
async fn strangers_see_only_what_the_world_may_read() {
    let (server, alice, bob, room) = room_of_two().await;
    let (carol, said) = (server.user("carol").await, server.say(&bob, &room, "hello").await);
    server.invite(&alice, &room, &carol).await.ok();
    let paths = [
        format!("/rooms/{room}/state"),
        format!("/rooms/{room}/state/m.room.create"),
        format!("/rooms/{room}/members"),
        format!("/rooms/{room}/messages?dir=b"),
        format!("/rooms/{room}/context/{}", enc(&said)),
        format!("/rooms/{room}/aliases"),
    ];
    for path in &paths {
        server.get(&carol, path).await.refused(403, "M_FORBIDDEN");
    }
    let world = json!({"history_visibility": "world_readable"});
    server.set_state(&alice, &room, "m.room.history_visibility", "", world).await.ok();
    let said = server.say(&bob, &room, "to the world").await;
    for path in paths.iter().filter(|path| !path.contains("context")) {
        server.get(&carol, path).await.ok();
    }
    server.get(&carol, &format!("/rooms/{room}/context/{}", enc(&said))).await.ok();
    let page = server.get(&carol, &format!("/rooms/{room}/messages?dir=b")).await.ok();
    assert_eq!(bodies(&page["chunk"]), ["to the world"]);
}
