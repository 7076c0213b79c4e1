//! `POST /createRoom`

use super::{Server, User, enc, types};
use http::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn a_room_of_every_version_can_be_made_and_lived_in() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for version in 1..=12 {
        let version = version.to_string();
        let body = json!({"room_version": version, "name": "N", "topic": "T", "invite": [bob.id]});
        let room = server.room(&alice, body).await;
        assert_eq!(room.ends_with(":example.org"), version != "12", "{room}");
        let create = server.state(&alice, &room, "m.room.create", "").await.ok();
        assert_eq!(create["room_version"], version);
        let has_creator = version.parse::<u32>().unwrap() < 11;
        assert_eq!(create.get("creator").is_some(), has_creator, "{create}");

        server.join(&bob, &room).await.ok();
        let said = server.say(&bob, &room, "hello").await;
        let path = format!("/rooms/{room}/redact/{}/1", enc(&said));
        server.put(&alice, &path, json!({"reason": "R"})).await.ok();
        let event = server.get(&bob, &format!("/rooms/{room}/event/{}", enc(&said))).await.ok();
        assert_eq!(event["content"], json!({}), "version {version}");
        assert_eq!(event["unsigned"]["redacted_because"]["content"]["reason"], "R");
        server.leave(&bob, &room).await.ok();
        assert_eq!(server.membership(&alice, &room, &bob).await, "leave");
    }
}

#[tokio::test]
async fn presets_set_who_can_enter() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for (body, join_rule, guests) in [
        (json!({}), "invite", "can_join"),
        (json!({"preset": "private_chat"}), "invite", "can_join"),
        (json!({"preset": "trusted_private_chat"}), "invite", "can_join"),
        (json!({"preset": "public_chat"}), "public", "forbidden"),
        (json!({"visibility": "public"}), "public", "forbidden"),
        (json!({"visibility": "public", "preset": "private_chat"}), "invite", "can_join"),
    ] {
        let room = server.room(&alice, body.clone()).await;
        let state = |kind| server.state(&alice, &room, kind, "");
        assert_eq!(state("m.room.join_rules").await.ok()["join_rule"], join_rule, "{body}");
        assert_eq!(state("m.room.guest_access").await.ok()["guest_access"], guests, "{body}");
        assert_eq!(state("m.room.history_visibility").await.ok()["history_visibility"], "shared");
        let joined = server.join(&bob, &room).await;
        assert_eq!(joined.status == StatusCode::OK, join_rule == "public", "{body}");
    }
}

#[tokio::test]
async fn the_events_of_a_new_room_are_in_the_order_of_the_specification() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let body = json!({
        "room_alias_name": "order", "name": "N", "topic": "T", "invite": [bob.id], "is_direct": true,
        "initial_state": [{"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}],
    });
    let room = server.room(&alice, body).await;
    let page = server.get(&alice, &format!("/rooms/{room}/messages?dir=f&limit=50")).await.ok();
    let expected = [
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.canonical_alias",
        "m.room.join_rules",
        "m.room.history_visibility",
        "m.room.guest_access",
        "m.room.encryption",
        "m.room.name",
        "m.room.topic",
        "m.room.member",
    ];
    assert_eq!(types(&page["chunk"]), expected);
    assert_eq!(page["chunk"][10]["content"], json!({"membership": "invite", "is_direct": true}));
    assert_eq!(page["chunk"][0]["room_id"], room.as_str());
    let alias = server.request(None, Method::GET, "/directory/room/%23order:example.org", String::new()).await.ok();
    assert_eq!(alias, json!({"room_id": room, "servers": ["example.org"]}));
}

#[tokio::test]
async fn who_is_above_all_levels_is_given_none() {
    let server = Server::start().await;
    let (alice, bob, carol) = (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let body = json!({"invite": [carol.id], "creation_content": {"additional_creators": [bob.id]}});
    let room = server.room(&alice, body).await;
    server.join(&carol, &room).await.ok();
    let levels = |user: &User| json!({"users": {user.id.as_str(): 100}});
    for creator in [&alice, &bob] {
        let set = server.set_state(&alice, &room, "m.room.power_levels", "", levels(creator)).await;
        set.refused(400, "M_BAD_JSON");
    }
    // Who may not set levels is not told whose they are.
    server.set_state(&carol, &room, "m.room.power_levels", "", levels(&bob)).await.refused(403, "M_FORBIDDEN");
    server.set_state(&alice, &room, "m.room.power_levels", "", levels(&carol)).await.ok();
}

#[tokio::test]
async fn the_trusted_are_the_creators_equals() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for version in ["11", "12"] {
        let body = json!({"preset": "trusted_private_chat", "invite": [bob.id], "room_version": version});
        let room = server.room(&alice, body).await;
        server.join(&bob, &room).await.ok();
        server
            .set_state(&bob, &room, "m.room.history_visibility", "", json!({"history_visibility": "joined"}))
            .await
            .ok();
        server.act(&alice, &room, "kick", &bob).await.refused(403, "M_FORBIDDEN");
        server.act(&bob, &room, "kick", &alice).await.refused(403, "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn state_that_contradicts_itself_makes_no_room() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for body in [
        // The creator could not set the name.
        json!({"room_version": "11", "name": "N", "power_level_content_override": {"users": {alice.id.as_str(): 0}}}),
        // Creators of version 12 have no level.
        json!({"power_level_content_override": {"users": {alice.id.as_str(): 100}}}),
        // A second creation.
        json!({"initial_state": [{"type": "m.room.create", "content": {}}]}),
        // The creator is in the room already.
        json!({"invite": [alice.id]}),
    ] {
        server.post(&alice, "/createRoom", body.clone()).await.refused(400, "M_INVALID_ROOM_STATE");
    }
    let joined = server.get(&alice, "/joined_rooms").await.ok();
    assert_eq!(joined, json!({"joined_rooms": []}));
    assert_eq!(server.get(&bob, "/joined_rooms").await.ok(), json!({"joined_rooms": []}));
}

#[tokio::test]
async fn a_request_that_is_no_room_is_refused_for_what_is_wrong_with_it() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let signed = json!([{"id_server": "i", "id_access_token": "t", "medium": "email", "address": "a@b"}]);
    for (body, status, code) in [
        (json!({"room_version": "13"}), 400, "M_UNSUPPORTED_ROOM_VERSION"),
        (json!({"room_version": 11}), 400, "M_BAD_JSON"),
        (json!({"room_alias_name": "a b"}), 400, "M_INVALID_PARAM"),
        (json!({"room_alias_name": "a:b"}), 400, "M_INVALID_PARAM"),
        (json!({"preset": "none"}), 400, "M_BAD_JSON"),
        (json!({"visibility": "none"}), 400, "M_BAD_JSON"),
        (json!({"invite": ["alice"]}), 400, "M_BAD_JSON"),
        (json!({"invite_3pid": signed}), 403, "M_THREEPID_DENIED"),
        (json!({"creation_content": []}), 400, "M_BAD_JSON"),
        (json!({"creation_content": {"additional_creators": ["x"]}}), 400, "M_BAD_JSON"),
        (json!({"power_level_content_override": {"ban": "50"}}), 400, "M_BAD_JSON"),
        (json!({"initial_state": [{"type": "m.x"}]}), 400, "M_BAD_JSON"),
        (json!({"initial_state": [{"type": "m.x", "content": {"x": 0.5}}]}), 400, "M_BAD_JSON"),
        (json!({"initial_state": [{"type": "m.x", "content": {"x": "y".repeat(70_000)}}]}), 413, "M_TOO_LARGE"),
        (json!({"name": "n".repeat(70_000)}), 413, "M_TOO_LARGE"),
    ] {
        server.post(&alice, "/createRoom", body).await.refused(status, code);
    }
    let answer = server.request(Some(&alice), Method::POST, "/createRoom", "{".to_owned()).await;
    answer.refused(400, "M_NOT_JSON");
    let answer = server.request(None, Method::POST, "/createRoom", "{}".to_owned()).await;
    answer.refused(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn an_alias_that_is_taken_makes_no_room() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    server.room(&alice, json!({"room_alias_name": "taken"})).await;
    server.post(&alice, "/createRoom", json!({"room_alias_name": "taken"})).await.refused(400, "M_ROOM_IN_USE");
}

#[tokio::test]
async fn given_content_is_kept_and_the_servers_own_is_not_to_be_given() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let body = json!({
        "room_version": "10",
        "creation_content": {"m.federate": false, "type": "m.space", "creator": "@x:y", "room_version": "1"},
        "power_level_content_override": {"invite": 7},
    });
    let room = server.room(&alice, body).await;
    let create = server.state(&alice, &room, "m.room.create", "").await.ok();
    let expected = json!({"m.federate": false, "type": "m.space", "creator": alice.id, "room_version": "10"});
    assert_eq!(create, expected);
    let levels = server.state(&alice, &room, "m.room.power_levels", "").await.ok();
    assert_eq!((&levels["invite"], &levels["users"]), (&json!(7), &json!({alice.id.as_str(): 100})));
}

#[tokio::test]
async fn a_published_room_is_in_the_directory() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for (visibility, expected) in [("public", "public"), ("private", "private")] {
        let room = server.room(&alice, json!({"visibility": visibility})).await;
        let path = format!("/directory/list/room/{room}");
        let answer: Value = server.request(None, Method::GET, &path, String::new()).await.ok();
        assert_eq!(answer, json!({"visibility": expected}));
    }
}
