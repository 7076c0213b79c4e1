//! Membership: every way into a room and out of it.

use super::{Server, User, enc};
use crate::{Limits, Rate};
use base::Secret;
use rules::SigningKey;
use ruma::{CanonicalJsonObject, owned_server_name};
use serde_json::{Value, json};

/// A private room of alice's with bob in it.
pub(super) async fn with_bob() -> (Server, User, User, String) {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({"invite": [bob.id]})).await;
    server.join(&bob, &room).await.ok();
    (server, alice, bob, room)
}

#[tokio::test]
async fn joining_twice_makes_one_event() {
    let (server, alice, bob, room) = with_bob().await;
    let member = || server.get(&alice, format!("/rooms/{room}/state/m.room.member/{}?format=event", bob.id));
    let before = member().await.ok();
    assert_eq!(server.join(&bob, &room).await.ok(), json!({"room_id": room}));
    assert_eq!(member().await.ok()["event_id"], before["event_id"]);
}

#[tokio::test]
async fn a_room_can_be_joined_by_alias_and_through_servers_that_are_not_asked() {
    let server = Server::start().await;
    let (alice, bob, carol) = (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = server.room(&alice, json!({"preset": "public_chat", "room_alias_name": "pub"})).await;
    let joined = server.post(&bob, "/join/%23pub:example.org", json!({})).await.ok();
    assert_eq!(joined, json!({"room_id": room}));
    let path = format!("/join/{room}?via=b.example&server_name=c.example&via=d.example");
    assert_eq!(server.post(&carol, &path, json!({"reason": "R"})).await.ok(), json!({"room_id": room}));
    let member = server.state(&alice, &room, "m.room.member", carol.id.as_str()).await.ok();
    assert_eq!(member["reason"], "R");
    assert_eq!(server.get(&bob, "/joined_rooms").await.ok(), json!({"joined_rooms": [room]}));
}

#[tokio::test]
async fn what_a_join_says_beyond_its_fields_is_in_the_membership() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({"preset": "public_chat"})).await;
    let body = json!({
        "reason": "R",
        "example.org": {"desk": 7},
        "membership": "ban",
        "join_authorised_via_users_server": alice.id,
    });
    server.post(&bob, &format!("/rooms/{room}/join"), body).await.ok();
    let member = server.state(&alice, &room, "m.room.member", bob.id.as_str()).await.ok();
    assert_eq!(member, json!({"membership": "join", "reason": "R", "example.org": {"desk": 7}}));
}

#[tokio::test]
async fn what_is_not_known_here_cannot_be_joined() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for name in ["!nowhere:example.org", "!other:b.example", "#nowhere:example.org", "#other:b.example"] {
        server.post(&alice, &format!("/join/{}", enc(name)), json!({})).await.refused(404, "M_NOT_FOUND");
        server.post(&alice, &format!("/knock/{}", enc(name)), json!({})).await.refused(404, "M_NOT_FOUND");
    }
    server.post(&alice, "/join/nowhere", json!({})).await.refused(400, "M_INVALID_PARAM");
    server.join(&alice, "!nowhere:example.org").await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn one_must_be_invited_to_an_invite_only_room() {
    let server = Server::start().await;
    let (alice, bob, carol) = (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = server.room(&alice, json!({})).await;
    server.join(&bob, &room).await.refused(403, "M_FORBIDDEN");
    // Only members invite.
    server.invite(&bob, &room, &carol).await.refused(403, "M_FORBIDDEN");
    server.invite(&alice, &room, &bob).await.ok();
    server.invite(&alice, &room, &bob).await.ok();
    assert_eq!(server.membership(&alice, &room, &bob).await, "invite");
    server.join(&bob, &room).await.ok();
    server.invite(&alice, &room, &bob).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn an_invitation_can_be_rejected_and_taken_back() {
    let server = Server::start().await;
    let (alice, bob, carol) = (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = server.room(&alice, json!({"invite": [bob.id, carol.id]})).await;
    server.leave(&bob, &room).await.ok();
    server.join(&bob, &room).await.refused(403, "M_FORBIDDEN");
    server.act(&alice, &room, "kick", &carol).await.ok();
    server.join(&carol, &room).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn leaving_twice_is_leaving_once() {
    let (server, alice, bob, room) = with_bob().await;
    server.leave(&bob, &room).await.ok();
    server.leave(&bob, &room).await.ok();
    assert_eq!(server.membership(&alice, &room, &bob).await, "leave");
    assert_eq!(server.get(&bob, "/joined_rooms").await.ok(), json!({"joined_rooms": []}));
    let carol = server.user("carol").await;
    server.leave(&carol, &room).await.refused(403, "M_FORBIDDEN");
    server.leave(&carol, "!nowhere:example.org").await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_kicked_user_is_out_and_can_be_kicked_no_more() {
    let (server, alice, bob, room) = with_bob().await;
    server.act(&bob, &room, "kick", &alice).await.refused(403, "M_FORBIDDEN");
    let body = json!({"user_id": bob.id, "reason": "R"});
    server.post(&alice, &format!("/rooms/{room}/kick"), body).await.ok();
    let member = server.state(&alice, &room, "m.room.member", bob.id.as_str()).await.ok();
    assert_eq!(member, json!({"membership": "leave", "reason": "R"}));
    server.act(&alice, &room, "kick", &bob).await.refused(403, "M_FORBIDDEN");
    let path = format!("/rooms/{room}/send/m.room.message/1");
    server.put(&bob, &path, json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_banned_user_stays_out_until_the_ban_is_taken_back() {
    let (server, alice, bob, room) = with_bob().await;
    let carol = server.user("carol").await;
    server.act(&alice, &room, "unban", &bob).await.refused(403, "M_FORBIDDEN");
    server.act(&bob, &room, "ban", &alice).await.refused(403, "M_FORBIDDEN");
    server.act(&alice, &room, "ban", &bob).await.ok();
    server.act(&alice, &room, "ban", &bob).await.ok();
    server.act(&carol, &room, "ban", &bob).await.refused(403, "M_FORBIDDEN");
    server.join(&bob, &room).await.refused(403, "M_FORBIDDEN");
    server.leave(&bob, &room).await.refused(403, "M_FORBIDDEN");
    server.invite(&alice, &room, &bob).await.refused(403, "M_FORBIDDEN");
    server.act(&alice, &room, "kick", &bob).await.refused(403, "M_FORBIDDEN");
    server.act(&alice, &room, "unban", &bob).await.ok();
    server.invite(&alice, &room, &bob).await.ok();
    server.join(&bob, &room).await.ok();
    // One can be banned who never was there.
    server.act(&alice, &room, "ban", &carol).await.ok();
}

#[tokio::test]
async fn knocking_asks_to_be_invited() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let rules = json!([{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]);
    let room = server.room(&alice, json!({"initial_state": rules})).await;
    let path = format!("/knock/{room}?via=b.example");
    assert_eq!(server.post(&bob, &path, json!({"reason": "R"})).await.ok(), json!({"room_id": room}));
    let member = server.state(&alice, &room, "m.room.member", bob.id.as_str()).await.ok();
    assert_eq!(member, json!({"membership": "knock", "reason": "R"}));
    server.post(&bob, &path, json!({})).await.ok();
    server.join(&bob, &room).await.refused(403, "M_FORBIDDEN");
    server.invite(&alice, &room, &bob).await.ok();
    server.post(&bob, &path, json!({})).await.refused(403, "M_FORBIDDEN");
    server.join(&bob, &room).await.ok();
    server.post(&bob, &path, json!({})).await.refused(403, "M_FORBIDDEN");

    let closed = server.room(&alice, json!({})).await;
    server.post(&bob, &format!("/knock/{closed}"), json!({})).await.refused(403, "M_FORBIDDEN");
    let carol = server.user("carol").await;
    server.post(&carol, &path, json!({})).await.ok();
    server.leave(&carol, &room).await.ok();
    server.post(&carol, &path, json!({})).await.ok();
    server.act(&alice, &room, "kick", &carol).await.ok();
    assert_eq!(server.membership(&alice, &room, &carol).await, "leave");
}

#[tokio::test]
async fn members_of_one_room_can_be_let_into_another() {
    let server = Server::start().await;
    let (alice, bob, carol) = (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let space = server.room(&alice, json!({"invite": [bob.id]})).await;
    server.join(&bob, &space).await.ok();
    for (version, rule) in [("8", "restricted"), ("10", "knock_restricted"), ("12", "restricted")] {
        let allow = json!([{"type": "m.room_membership", "room_id": space}]);
        let rules = json!([{"type": "m.room.join_rules", "content": {"join_rule": rule, "allow": allow}}]);
        let room = server.room(&alice, json!({"room_version": version, "initial_state": rules})).await;
        server.join(&carol, &room).await.refused(403, "M_FORBIDDEN");
        server.join(&bob, &room).await.ok();
        let member = server.state(&alice, &room, "m.room.member", bob.id.as_str()).await.ok();
        assert_eq!(member["join_authorised_via_users_server"], json!(alice.id), "version {version}");
        // An invitation opens the room as well.
        server.invite(&alice, &room, &carol).await.ok();
        server.join(&carol, &room).await.ok();
    }
}

#[tokio::test]
async fn an_invitation_does_not_bring_back_what_was_forgotten() {
    let (server, alice, bob, room) = with_bob().await;
    server.leave(&bob, &room).await.ok();
    server.post(&bob, format!("/rooms/{room}/forget"), json!({})).await.ok();
    server.invite(&alice, &room, &bob).await.ok();
    server.get(&bob, &format!("/rooms/{room}/messages?dir=b")).await.refused(403, "M_FORBIDDEN");
    server.join(&bob, &room).await.ok();
    server.get(&bob, &format!("/rooms/{room}/messages?dir=b")).await.ok();
}

#[tokio::test]
async fn only_a_room_that_was_left_can_be_forgotten() {
    let (server, _, bob, room) = with_bob().await;
    let forget = || server.post(&bob, format!("/rooms/{room}/forget"), json!({}));
    forget().await.refused(400, "M_UNKNOWN");
    server.leave(&bob, &room).await.ok();
    server.get(&bob, &format!("/rooms/{room}/state")).await.ok();
    forget().await.ok();
    forget().await.ok();
    server.get(&bob, &format!("/rooms/{room}/state")).await.refused(403, "M_FORBIDDEN");
    server.get(&bob, &format!("/rooms/{room}/messages?dir=b")).await.refused(403, "M_FORBIDDEN");
    server.post(&bob, "/rooms/!nowhere:example.org/forget", json!({})).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn membership_can_be_set_as_state() {
    let (server, alice, bob, room) = with_bob().await;
    let carol = server.user("carol").await;
    let set = |by: &'static str, user: &User, content: Value| {
        let (user, room) = (user.id.to_string(), room.clone());
        let by = if by == "alice" { &alice } else { &bob };
        let server = &server;
        async move { server.set_state(by, &room, "m.room.member", &user, content).await }
    };
    let nick = json!({"membership": "join", "displayname": "Nick"});
    let first = set("bob", &bob, nick.clone()).await.ok();
    assert_eq!(set("bob", &bob, nick).await.ok(), first, "the same again is no new event");
    let member = server.state(&alice, &room, "m.room.member", bob.id.as_str()).await.ok();
    assert_eq!(member["displayname"], "Nick");
    set("alice", &carol, json!({"membership": "join"})).await.refused(403, "M_FORBIDDEN");
    set("alice", &carol, json!({"membership": "invite"})).await.ok();
    set("alice", &carol, json!({"membership": "ban"})).await.ok();
    set("bob", &carol, json!({"membership": "leave"})).await.refused(403, "M_FORBIDDEN");
    set("alice", &carol, json!({"membership": "leave"})).await.ok();
    set("alice", &bob, json!({"membership": "leave", "reason": "R"})).await.ok();
    assert_eq!(server.membership(&alice, &room, &bob).await, "leave");
    set("alice", &bob, json!({"membership": "there"})).await.refused(400, "M_BAD_JSON");
    set("alice", &bob, json!({})).await.refused(400, "M_BAD_JSON");
}

#[tokio::test]
async fn nobody_is_invited_by_anything_but_their_user_id() {
    let (server, alice, _, room) = with_bob().await;
    let invite = |body| server.post(&alice, format!("/rooms/{room}/invite"), body);
    let third_party = json!({"id_server": "i", "id_access_token": "t", "medium": "email", "address": "a@b"});
    invite(third_party).await.refused(403, "M_THREEPID_DENIED");
    invite(json!({})).await.refused(400, "M_BAD_JSON");
    invite(json!({"user_id": "bob"})).await.refused(400, "M_BAD_JSON");
    // Their server would have to agree, and this one talks to no others.
    invite(json!({"user_id": "@bob:b.example"})).await.refused(502, "M_UNKNOWN");
}

#[tokio::test]
async fn an_invitation_to_a_third_party_identifier_is_its_owners() {
    let server = Server::start().await;
    let (alice, bob, carol) = (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let identity = SigningKey::generate(owned_server_name!("id.example"), "0", Secret::new([9; 32])).unwrap();
    let signed = |user: &User| {
        let object = json!({"mxid": user.id, "token": "token"}).as_object().unwrap().clone();
        let mut object: CanonicalJsonObject = serde_json::from_value(Value::Object(object)).unwrap();
        identity.sign_json(&mut object).unwrap();
        let mut signed = serde_json::to_value(object).unwrap();
        signed["sender"] = json!(alice.id);
        signed
    };
    for version in ["1", "11", "12"] {
        let room = server.room(&alice, json!({"room_version": version})).await;
        let path = format!("/rooms/{room}/join");
        let body = |user: &User| json!({"third_party_signed": signed(user)});
        server.post(&bob, &path, body(&bob)).await.refused(403, "M_FORBIDDEN");
        let key = identity.public_key();
        let content = json!({
            "display_name": "b…", "key_validity_url": "https://id.example/valid", "public_key": key,
            "public_keys": [{"public_key": key, "key_validity_url": "https://id.example/valid"}],
        });
        server.set_state(&alice, &room, "m.room.third_party_invite", "token", content).await.ok();
        // Somebody else cannot use it, nor can the signature be another's.
        server.post(&carol, &path, body(&bob)).await.refused(403, "M_FORBIDDEN");
        let mut forged = body(&carol);
        forged["third_party_signed"]["signatures"] = body(&bob)["third_party_signed"]["signatures"].clone();
        server.post(&carol, &path, forged).await.refused(403, "M_FORBIDDEN");
        server.post(&bob, &path, body(&bob)).await.ok();
        assert_eq!(server.membership(&alice, &room, &bob).await, "join", "version {version}");
    }
}

#[tokio::test]
async fn a_profile_shows_where_its_user_is() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let name = |name: &str| server.put(&bob, format!("/profile/{}/displayname", bob.id), json!({"displayname": name}));
    name("Bob").await.ok();
    let room = server.room(&alice, json!({"invite": [bob.id]})).await;
    let shown =
        || async { server.state(&alice, &room, "m.room.member", bob.id.as_str()).await.ok()["displayname"].clone() };
    assert_eq!(shown().await, "Bob");
    server.join(&bob, &room).await.ok();
    assert_eq!(shown().await, "Bob");
    name("Robert").await.ok();
    assert_eq!(shown().await, "Robert");
    assert_eq!(server.membership(&alice, &room, &bob).await, "join");
}

#[tokio::test]
async fn joins_are_limited() {
    let join = Rate::new(0.5, 2);
    let server = Server::with_limits(Limits { enabled: true, join, ..Limits::default() }).await;
    let alice = server.user("alice").await;
    let room = server.room(&alice, json!({})).await;
    server.join(&alice, &room).await.ok();
    server.join(&alice, &room).await.ok();
    let refused = server.join(&alice, &room).await;
    assert!(refused.body["retry_after_ms"].as_u64().is_some_and(|millis| millis > 0));
    refused.refused(429, "M_LIMIT_EXCEEDED");
}
