//! `POST /rooms/{roomId}/upgrade`

use super::{Answer, Server, User, types};
use serde_json::{Value, json};

impl Server {
    async fn upgrade(&self, user: &User, room: &str, body: Value) -> Answer {
        self.post(user, format!("/rooms/{room}/upgrade"), body).await
    }

    async fn upgraded(&self, user: &User, room: &str, version: &str) -> String {
        let answer = self.upgrade(user, room, json!({"new_version": version})).await.ok();
        answer["replacement_room"].as_str().unwrap().to_owned()
    }

    async fn content(&self, user: &User, room: &str, kind: &str) -> Value {
        self.state(user, room, kind, "").await.ok()
    }
}

#[tokio::test]
async fn a_new_room_takes_the_old_ones_place() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for (old_version, new_version) in [("1", "11"), ("9", "10"), ("11", "12"), ("12", "12"), ("12", "6")] {
        let localpart = format!("place{old_version}to{new_version}");
        let old = server.room(&alice, json!({
            "room_version": old_version, "preset": "public_chat", "name": "N", "topic": "T", "visibility": "public",
            "room_alias_name": localpart, "creation_content": {"type": "m.space", "m.federate": false, "x": 1},
            "initial_state": [
                {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
                {"type": "m.room.avatar", "content": {"url": "mxc://example.org/a"}},
                {"type": "m.space.child", "state_key": "!c:x", "content": {"via": ["x"]}},
                {"type": "org.example.own", "content": {}},
            ],
        })).await;
        let new = server.upgraded(&alice, &old, new_version).await;
        let tombstone = server.get(&alice, format!("/rooms/{old}/state/m.room.tombstone?format=event")).await.ok();
        assert_eq!(tombstone["content"]["replacement_room"], new.as_str());
        let create = server.content(&alice, &new, "m.room.create").await;
        assert_eq!((&create["type"], &create["m.federate"], create.get("x")), (&json!("m.space"), &json!(false), None));
        assert_eq!(create["room_version"], new_version);
        let mut predecessor = json!({"room_id": old});
        if new_version != "12" {
            predecessor["event_id"] = tombstone["event_id"].clone();
        }
        assert_eq!(create["predecessor"], predecessor);
        for kind in [
            "m.room.encryption",
            "m.room.avatar",
            "m.room.name",
            "m.room.join_rules",
            "m.room.history_visibility",
            "m.room.guest_access",
        ] {
            let kept = server.content(&alice, &old, kind).await;
            assert_eq!(server.content(&alice, &new, kind).await, kept, "{kind}");
        }
        assert_eq!(server.content(&alice, &new, "m.room.topic").await["topic"], "T");
        server.state(&alice, &new, "m.space.child", "!c:x").await.ok();
        server.state(&alice, &new, "org.example.own", "").await.refused(404, "M_NOT_FOUND");

        let alias = format!("#{localpart}:example.org");
        assert_eq!(server.content(&alice, &new, "m.room.canonical_alias").await, json!({"alias": alias}));
        assert_eq!(server.content(&alice, &old, "m.room.canonical_alias").await, json!({}));
        let found = server.get(&alice, format!("/directory/room/%23{localpart}:example.org")).await.ok();
        assert_eq!(found["room_id"], new.as_str());
        let aliases = server.get(&alice, format!("/rooms/{old}/aliases")).await.ok();
        assert_eq!(aliases, json!({"aliases": []}));
        let visibility = async |room: &str| server.get(&alice, format!("/directory/list/room/{room}")).await.ok();
        assert_eq!(visibility(&old).await["visibility"], "private");
        assert_eq!(visibility(&new).await["visibility"], "public");
        let listed = server.get(&alice, "/publicRooms").await.ok();
        let listed: Vec<_> = listed["chunk"].as_array().unwrap().iter().map(|room| &room["room_id"]).collect();
        assert!(listed.contains(&&json!(new)) && !listed.contains(&&json!(old)));

        let closed = server.content(&alice, &old, "m.room.power_levels").await;
        assert_eq!((&closed["events_default"], &closed["invite"]), (&json!(50), &json!(50)));
        let levels = server.content(&alice, &new, "m.room.power_levels").await;
        assert_eq!(levels["events_default"], 0);
        server.say(&alice, &new, "here").await;
        server.set_state(&alice, &new, "m.room.name", "", json!({"name": "M"})).await.ok();
    }
}

#[tokio::test]
async fn those_who_were_there_find_the_new_room_and_those_who_were_banned_do_not_get_in() {
    let server = Server::start().await;
    let (alice, bob, carol) = (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let old = server.room(&alice, json!({"preset": "public_chat"})).await;
    server.join(&bob, &old).await.ok();
    let ban = json!({"user_id": carol.id, "reason": "B"});
    server.post(&alice, format!("/rooms/{old}/ban"), ban).await.ok();
    let new = server.upgraded(&alice, &old, "12").await;
    let ban = server.state(&alice, &new, "m.room.member", carol.id.as_str()).await.ok();
    assert_eq!(ban, json!({"membership": "ban", "reason": "B"}));
    server.join(&carol, &new).await.refused(403, "M_FORBIDDEN");
    let path = format!("/rooms/{old}/send/m.room.message/1");
    server.put(&bob, path, json!({"body": "x"})).await.refused(403, "M_FORBIDDEN");
    server.join(&bob, &new).await.ok();
    server.say(&bob, &new, "x").await;
    // Nothing but what a new room starts with: nobody was let in by the server.
    let page = server.get(&alice, format!("/rooms/{new}/messages?dir=f&limit=50")).await.ok();
    let members = types(&page["chunk"]).into_iter().filter(|kind| *kind == "m.room.member").count();
    assert_eq!(members, 3);
}

#[tokio::test]
async fn only_those_who_may_replace_a_room_do() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let old = server.room(&alice, json!({"preset": "public_chat", "room_version": "11"})).await;
    server.upgrade(&bob, &old, json!({"new_version": "12"})).await.refused(403, "M_FORBIDDEN");
    server.join(&bob, &old).await.ok();
    server.upgrade(&bob, &old, json!({"new_version": "12"})).await.refused(403, "M_FORBIDDEN");
    server.upgrade(&bob, "!nowhere:example.org", json!({"new_version": "12"})).await.refused(403, "M_FORBIDDEN");
    let unknown = json!({"new_version": "x"});
    server.upgrade(&alice, &old, unknown).await.refused(400, "M_UNSUPPORTED_ROOM_VERSION");
    server.upgrade(&alice, &old, json!({})).await.refused(400, "M_BAD_JSON");
    let wrong = json!({"new_version": "12", "additional_creators": ["x"]});
    server.upgrade(&alice, &old, wrong).await.refused(400, "M_BAD_JSON");
    server.state(&alice, &old, "m.room.tombstone", "").await.refused(404, "M_NOT_FOUND");
    let rooms = server.get(&alice, "/joined_rooms").await.ok();
    assert_eq!(rooms["joined_rooms"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn creators_have_no_level_where_they_need_none_and_one_where_they_do() {
    let server = Server::start().await;
    let (alice, bob, carol) = (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let users = json!({alice.id.as_str(): 100, bob.id.as_str(): 100, carol.id.as_str(): 50});
    let body = json!({
        "preset": "public_chat", "room_version": "11", "power_level_content_override": {"users": users},
    });
    let old = server.room(&alice, body).await;
    server.join(&bob, &old).await.ok();
    let body = json!({"new_version": "12", "additional_creators": [alice.id, alice.id, bob.id]});
    let answer = server.upgrade(&bob, &old, body).await.ok();
    let new = answer["replacement_room"].as_str().unwrap();
    let create = server.content(&bob, new, "m.room.create").await;
    assert_eq!(create["additional_creators"], json!([alice.id]));
    let levels = server.content(&bob, new, "m.room.power_levels").await;
    assert_eq!(levels["users"], json!({carol.id.as_str(): 50}));
    assert_eq!(levels["events"]["m.room.tombstone"], 150);

    // Additional creators are not taken along, unless they are named again.
    let next = server.upgraded(&bob, new, "12").await;
    assert_eq!(server.content(&bob, &next, "m.room.create").await.get("additional_creators"), None);
    let back = server.upgrade(&bob, new, json!({"new_version": "11", "additional_creators": [carol.id]})).await.ok();
    let back = back["replacement_room"].as_str().unwrap();
    let levels = server.content(&bob, back, "m.room.power_levels").await;
    let users = json!({alice.id.as_str(): 100, bob.id.as_str(): 100, carol.id.as_str(): 50});
    assert_eq!(levels["users"], users);
    assert_eq!(server.content(&bob, back, "m.room.create").await.get("additional_creators"), None);
}

#[tokio::test]
async fn who_may_replace_a_room_but_not_set_all_of_its_state_can_do_so() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let levels = json!({
        "users": {alice.id.as_str(): 100, bob.id.as_str(): 60}, "state_default": 90,
        "events": {"m.room.tombstone": 60, "m.room.power_levels": 100},
    });
    let body = json!({
        "preset": "public_chat", "room_version": "10", "name": "N", "power_level_content_override": levels,
    });
    let old = server.room(&alice, body).await;
    server.join(&bob, &old).await.ok();
    let new = server.upgraded(&bob, &old, "11").await;
    assert_eq!(server.content(&bob, &new, "m.room.name").await, json!({"name": "N"}));
    let levels = server.content(&bob, &new, "m.room.power_levels").await;
    assert_eq!(levels["users"], json!({alice.id.as_str(): 100, bob.id.as_str(): 60}));
    // The old room's levels are not theirs to change.
    let old = server.content(&bob, &old, "m.room.power_levels").await;
    assert_eq!(old["events_default"], 0);
}

#[tokio::test]
async fn a_users_settings_follow_them() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let old = server.room(&alice, json!({"preset": "public_chat"})).await;
    server.join(&bob, &old).await.ok();
    for user in [&alice, &bob] {
        server.put(user, format!("/user/{}/rooms/{old}/tags/u.x", user.id), json!({"order": 0.5})).await.ok();
        let direct = json!({"@c:example.org": [old]});
        server.put(user, format!("/user/{}/account_data/m.direct", user.id), direct).await.ok();
        server.put(user, format!("/pushrules/global/room/{old}"), json!({"actions": ["notify"]})).await.ok();
    }
    let new = server.upgraded(&alice, &old, "12").await;
    server.join(&bob, &new).await.ok();
    for user in [&alice, &bob] {
        let tags = server.get(user, format!("/user/{}/rooms/{new}/tags", user.id)).await.ok();
        assert_eq!(tags, json!({"tags": {"u.x": {"order": 0.5}}}));
        let direct = server.get(user, format!("/user/{}/account_data/m.direct", user.id)).await.ok();
        assert_eq!(direct, json!({"@c:example.org": [old, new]}));
        let rule = server.get(user, format!("/pushrules/global/room/{new}")).await.ok();
        assert_eq!((&rule["rule_id"], &rule["actions"]), (&json!(new), &json!(["notify"])));
        let rules = server.get(user, "/pushrules/").await.ok();
        assert_eq!(rules["global"]["room"].as_array().unwrap().len(), 2, "{rules}");
    }
    // What they change afterwards is theirs.
    let path = format!("/user/{}/rooms/{new}/tags/u.x", bob.id);
    server.request(Some(&bob), http::Method::DELETE, path, String::new()).await.ok();
    server.join(&bob, &new).await.ok();
    let tags = server.get(&bob, format!("/user/{}/rooms/{new}/tags", bob.id)).await.ok();
    assert_eq!(tags, json!({"tags": {}}));
}

#[tokio::test]
async fn settings_follow_into_no_room_that_only_says_it_replaces_another() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let old = server.room(&alice, json!({"preset": "public_chat"})).await;
    server.join(&bob, &old).await.ok();
    server.put(&bob, format!("/user/{}/rooms/{old}/tags/u.x", bob.id), json!({})).await.ok();
    let mallory = server.user("mallory").await;
    let creation = json!({"predecessor": {"room_id": old}});
    let body = json!({"preset": "public_chat", "creation_content": creation});
    let fake = server.room(&mallory, body.clone()).await;
    server.join(&bob, &fake).await.ok();
    let tags = server.get(&bob, format!("/user/{}/rooms/{fake}/tags", bob.id)).await.ok();
    assert_eq!(tags, json!({"tags": {}}));
    // By hand, both rooms say so.
    let real = server.room(&alice, body).await;
    let tombstone = json!({"body": "B", "replacement_room": real});
    server.set_state(&alice, &old, "m.room.tombstone", "", tombstone).await.ok();
    server.set_state(&bob, &real, "m.room.member", bob.id.as_str(), json!({"membership": "join"})).await.ok();
    let tags = server.get(&bob, format!("/user/{}/rooms/{real}/tags", bob.id)).await.ok();
    assert_eq!(tags, json!({"tags": {"u.x": {}}}));
}

#[tokio::test]
async fn many_bans_are_taken_along_too() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let ban = |n: usize| {
        let user = format!("@b{n:03}:example.org");
        json!({"type": "m.room.member", "state_key": user, "content": {"membership": "ban", "reason": n.to_string()}})
    };
    let bans: Vec<Value> = (0..303).map(ban).collect();
    let old = server.room(&alice, json!({"initial_state": bans})).await;
    let new = server.upgraded(&alice, &old, "12").await;
    let banned = async |n: usize| server.state(&alice, &new, "m.room.member", &format!("@b{n:03}:example.org")).await;
    assert_eq!(banned(299).await.ok(), json!({"membership": "ban", "reason": "299"}));
    // The last of them come when the room is there.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
        if banned(302).await.status == http::StatusCode::OK {
            break;
        }
    }
    assert_eq!(banned(302).await.ok(), json!({"membership": "ban", "reason": "302"}));
}

#[tokio::test]
async fn a_room_that_is_replaced_twice_leaves_its_aliases_with_the_first() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let body = json!({"preset": "public_chat", "visibility": "public", "room_alias_name": "twice"});
    let old = server.room(&alice, body).await;
    let (one, other) = tokio::join!(server.upgraded(&alice, &old, "11"), server.upgraded(&alice, &old, "12"));
    let found = server.get(&alice, "/directory/room/%23twice:example.org").await.ok();
    let (with, without) = if found["room_id"] == one.as_str() { (one, other) } else { (other, one) };
    let aliases = async |room: &str| server.get(&alice, format!("/rooms/{room}/aliases")).await.ok();
    assert_eq!(aliases(&with).await, json!({"aliases": ["#twice:example.org"]}));
    assert_eq!(aliases(&without).await, json!({"aliases": []}));
    let listed = server.get(&alice, "/publicRooms").await.ok();
    let listed: Vec<_> = listed["chunk"].as_array().unwrap().iter().map(|room| &room["room_id"]).collect();
    assert_eq!(listed, [&json!(with)]);
}

#[tokio::test]
async fn an_upgrade_that_is_asked_for_twice_happens_once() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let old = server.room(&alice, json!({})).await;
    let (first, second) = tokio::join!(server.upgraded(&alice, &old, "11"), server.upgraded(&alice, &old, "11"));
    assert_eq!(first, second);
    assert_eq!(server.upgraded(&alice, &old, "11").await, first);
    // Another version is another wish, and so is the same one later.
    assert_ne!(server.upgraded(&alice, &old, "10").await, first);
    let third = server.upgraded(&alice, &old, "11").await;
    server.0.clock.advance(std::time::Duration::from_mins(2));
    assert_ne!(server.upgraded(&alice, &old, "11").await, third);
}
