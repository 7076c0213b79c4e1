//! The published room directory, summaries, and events by their time.

use super::{Answer, Server, User, enc};
use crate::{Limits, testing};
use http::Method;
use serde_json::{Value, json};

async fn rooms_of(server: &Server, count: usize) -> (User, Vec<String>) {
    let alice = server.user("alice").await;
    let mut rooms = Vec::new();
    for n in 0..count {
        let body = json!({"visibility": "public", "name": format!("Room {n}"), "topic": format!("about {n}")});
        rooms.push(server.room(&alice, body).await);
    }
    (alice, rooms)
}

fn ids(page: &Value) -> Vec<&str> {
    page["chunk"].as_array().unwrap().iter().map(|room| room["room_id"].as_str().unwrap()).collect()
}

impl Server {
    async fn list(&self, query: &str) -> Answer {
        self.request(None, Method::GET, format!("/publicRooms{query}"), String::new()).await
    }
}

#[tokio::test]
async fn the_list_shows_what_clients_need_and_nothing_private() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    server.room(&alice, json!({"preset": "public_chat"})).await;
    let room = server
        .room(
            &alice,
            json!({
                "visibility": "public", "name": "Café", "topic": "Tea", "room_alias_name": "cafe", "room_version": "10",
                "initial_state": [
                    {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}},
                    {"type": "m.room.guest_access", "content": {"guest_access": "can_join"}},
                    {"type": "m.room.avatar", "content": {"url": "mxc://example.org/a"}},
                    {"type": "m.room.join_rules", "content": {"join_rule": "knock"}},
                ],
                "creation_content": {"type": "m.space"},
            }),
        )
        .await;
    let expected = json!({
        "chunk": [{
            "room_id": room, "name": "Café", "topic": "Tea", "canonical_alias": "#cafe:example.org",
            "avatar_url": "mxc://example.org/a", "join_rule": "knock", "room_type": "m.space",
            "world_readable": true, "guest_can_join": true, "num_joined_members": 1,
        }],
        "total_room_count_estimate": 1,
    });
    assert_eq!(server.list("").await.ok(), expected);
    assert_eq!(server.list("?server=example.org").await.ok(), expected);
    server.list("?server=b.example").await.refused(404, "M_NOT_FOUND");
    server.list("?server=%20").await.refused(400, "M_INVALID_PARAM");
    let bare = server.room(&alice, json!({"visibility": "public", "preset": "private_chat"})).await;
    let page = server.list("").await.ok();
    let shown = page["chunk"].as_array().unwrap().iter().find(|shown| shown["room_id"] == bare.as_str()).unwrap();
    let expected = json!({
        "room_id": bare, "join_rule": "invite", "world_readable": false, "guest_can_join": true,
        "num_joined_members": 1,
    });
    assert_eq!(*shown, expected);
}

#[tokio::test]
async fn the_list_follows_the_rooms() {
    let server = Server::start().await;
    let (alice, rooms) = rooms_of(&server, 3).await;
    let bob = server.user("bob").await;
    server.join(&bob, &rooms[1]).await.ok();
    let page = server.list("").await.ok();
    assert_eq!(ids(&page)[0], rooms[1]);
    assert_eq!(page["chunk"][0]["num_joined_members"], 2);
    server.set_state(&alice, &rooms[1], "m.room.name", "", json!({"name": "Other"})).await.ok();
    assert_eq!(server.list("").await.ok()["chunk"][0]["name"], "Other");
    let name = server.get(&alice, format!("/rooms/{}/state/m.room.name?format=event", rooms[1])).await.ok();
    let path = format!("/rooms/{}/redact/{}/1", rooms[1], enc(name["event_id"].as_str().unwrap()));
    server.put(&alice, path, json!({})).await.ok();
    assert_eq!(server.list("").await.ok()["chunk"][0].get("name"), None);
    // A room that nobody is in is of no use to anybody.
    server.leave(&bob, &rooms[1]).await.ok();
    server.leave(&alice, &rooms[1]).await.ok();
    let page = server.list("").await.ok();
    assert_eq!((ids(&page).contains(&rooms[1].as_str()), ids(&page).len()), (false, 2));
    assert_eq!(page["total_room_count_estimate"], 2);
    server.put(&alice, format!("/directory/list/room/{}", rooms[0]), json!({"visibility": "private"})).await.ok();
    assert_eq!(ids(&server.list("").await.ok()), [rooms[2].as_str()]);
}

#[tokio::test]
async fn pages_lead_through_the_list_and_back() {
    let server = Server::start().await;
    let (_, _) = rooms_of(&server, 5).await;
    let whole = server.list("").await.ok();
    let whole = ids(&whole);
    let first = server.list("?limit=2").await.ok();
    assert_eq!((ids(&first), first.get("prev_batch")), (whole[..2].to_vec(), None));
    let next = |page: &Value, token: &str| format!("?limit=2&since={}", page[token].as_str().unwrap());
    let second = server.list(&next(&first, "next_batch")).await.ok();
    assert_eq!(ids(&second), whole[2..4]);
    let third = server.list(&next(&second, "next_batch")).await.ok();
    assert_eq!((ids(&third), third.get("next_batch")), (whole[4..].to_vec(), None));
    let back = server.list(&next(&third, "prev_batch")).await.ok();
    assert_eq!(ids(&back), whole[2..4]);
    let start = server.list(&next(&back, "prev_batch")).await.ok();
    assert_eq!((ids(&start), start.get("prev_batch")), (whole[..2].to_vec(), None));
    assert_eq!(ids(&server.list(&next(&start, "next_batch")).await.ok()), whole[2..4]);
    // A page that ends with the list says so.
    assert_eq!(server.list("?limit=5").await.ok().get("next_batch"), None);
    for wrong in ["?since=x", "?since=bjEgeA", "?limit=-1", "?limit=x"] {
        server.list(wrong).await.refused(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn rooms_are_searched_by_text_and_type() {
    let server = Server::start().await;
    let (alice, rooms) = rooms_of(&server, 3).await;
    let space = server
        .room(
            &alice,
            json!({
                "visibility": "public", "name": "Отдел Кадров", "creation_content": {"type": "m.space"},
                "room_alias_name": "hr",
            }),
        )
        .await;
    let find = async |body: Value| server.post(&alice, "/publicRooms", body).await;
    let filter = async |filter: Value| find(json!({"filter": filter})).await.ok();
    assert_eq!(ids(&filter(json!({"generic_search_term": "ABOUT 2"})).await), [rooms[2].as_str()]);
    assert_eq!(ids(&filter(json!({"generic_search_term": "кадр"})).await), [space.as_str()]);
    assert_eq!(ids(&filter(json!({"generic_search_term": "#HR:"})).await), [space.as_str()]);
    assert_eq!(ids(&filter(json!({"generic_search_term": "room", "room_types": ["m.space"]})).await).len(), 0);
    assert_eq!(ids(&filter(json!({"room_types": ["m.space"]})).await), [space.as_str()]);
    assert_eq!(ids(&filter(json!({"room_types": [null]})).await).len(), 3);
    assert_eq!(ids(&filter(json!({"room_types": [null, "m.space"]})).await).len(), 4);
    assert_eq!(ids(&filter(json!({})).await).len(), 4);
    let page = find(json!({"limit": 2, "filter": {"generic_search_term": "about"}})).await.ok();
    let body = json!({"limit": 2, "since": page["next_batch"], "filter": {"generic_search_term": "about"}});
    let rest = find(body).await.ok();
    assert_eq!((ids(&page).len(), ids(&rest).len(), rest.get("next_batch")), (2, 1, None));

    find(json!({"include_all_networks": true})).await.ok();
    find(json!({"third_party_instance_id": "irc"})).await.refused(400, "M_INVALID_PARAM");
    let both = json!({"include_all_networks": true, "third_party_instance_id": "irc"});
    find(both).await.refused(400, "M_INVALID_PARAM");
    find(json!({"limit": "x"})).await.refused(400, "M_BAD_JSON");
    find(json!({"filter": {"generic_search_term": "x".repeat(2000)}})).await.refused(400, "M_INVALID_PARAM");
    server.post(&alice, "/publicRooms?server=b.example", json!({})).await.refused(404, "M_NOT_FOUND");
    server.request(None, Method::POST, "/publicRooms", "{}".to_owned()).await.refused(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn an_operator_can_keep_the_list_for_users() {
    let server = testing::Server::with(|config, _| config.directory_needs_login = true).await;
    let alice = server.user("alice").await;
    server.get("/_matrix/client/v3/publicRooms", None).await.refused(401, "M_MISSING_TOKEN");
    server.get("/_matrix/client/v3/publicRooms", Some(&alice.token)).await.ok();
    let limited = Server::with_limits(Limits { other: crate::Rate::new(0.001, 1), ..Limits::default() }).await;
    limited.list("").await.ok();
    limited.list("").await.refused(429, "M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn a_summary_is_for_those_who_could_come_in() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let space = server.room(&alice, json!({"preset": "public_chat", "creation_content": {"type": "m.space"}})).await;
    let allow = json!([{"type": "m.room_membership", "room_id": space}]);
    let restricted = server
        .room(
            &alice,
            json!({
                "room_version": "8", "room_alias_name": "r",
                "initial_state": [
                    {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}},
                    {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
                ],
            }),
        )
        .await;
    let private = server.room(&alice, json!({})).await;
    let summary = async |user: Option<&User>, name: &str| {
        server.get_at(user, format!("/v1/room_summary/{}?via=x", enc(name))).await
    };
    let expected = json!({
        "room_id": restricted, "canonical_alias": "#r:example.org", "join_rule": "restricted",
        "allowed_room_ids": [space], "encryption": "m.megolm.v1.aes-sha2", "room_version": "8",
        "world_readable": false, "guest_can_join": true, "num_joined_members": 1, "membership": "join",
    });
    assert_eq!(summary(Some(&alice), "#r:example.org").await.ok(), expected);
    let plain = summary(Some(&alice), &private).await.ok();
    assert_eq!((plain.get("allowed_room_ids"), &plain["membership"]), (None, &json!("join")));
    for name in [&restricted, &private, "!nowhere:example.org", "#nowhere:example.org"] {
        summary(Some(&bob), name).await.refused(404, "M_NOT_FOUND");
        summary(None, name).await.refused(404, "M_NOT_FOUND");
    }
    summary(None, "x").await.refused(400, "M_INVALID_PARAM");
    assert_eq!(summary(None, &space).await.ok().get("membership"), None);
    server.join(&bob, &space).await.ok();
    assert_eq!(summary(Some(&bob), &restricted).await.ok()["membership"], "leave");
    server.invite(&alice, &private, &bob).await.ok();
    assert_eq!(summary(Some(&bob), &private).await.ok()["membership"], "invite");
    server.act(&alice, &space, "ban", &bob).await.ok();
    summary(Some(&bob), &space).await.refused(404, "M_NOT_FOUND");
    for path in ["im.nheko.summary/summary/", "im.nheko.summary/rooms/"] {
        let end = if path.ends_with("rooms/") { "/summary" } else { "" };
        let path = format!("/unstable/{path}{}{end}", enc(&restricted));
        assert_eq!(server.get_at(Some(&alice), path).await.ok()["im.nheko.summary.room_version"], "8");
    }
}

#[tokio::test]
async fn the_event_closest_to_a_time_is_found_both_ways() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({"preset": "public_chat"})).await;
    let mut said = Vec::new();
    for text in ["a", "b", "c"] {
        server.0.clock.advance(std::time::Duration::from_mins(1));
        let id = server.say(&alice, &room, text).await;
        let event = server.get(&alice, format!("/rooms/{room}/event/{}", enc(&id))).await.ok();
        said.push((id, event["origin_server_ts"].as_u64().unwrap()));
    }
    let find = async |user: &User, at: u64, dir: &str| {
        server.get_at(Some(user), format!("/v1/rooms/{room}/timestamp_to_event?ts={at}&dir={dir}")).await
    };
    let answer = |n: usize| json!({"event_id": said[n].0, "origin_server_ts": said[n].1});
    assert_eq!(find(&alice, said[1].1, "f").await.ok(), answer(1));
    assert_eq!(find(&alice, said[1].1, "b").await.ok(), answer(1));
    assert_eq!(find(&alice, said[1].1 + 1, "f").await.ok(), answer(2));
    assert_eq!(find(&alice, said[1].1 - 1, "b").await.ok(), answer(0));
    let old = format!("/unstable/org.matrix.msc3030/rooms/{room}/timestamp_to_event?ts={}&dir=f", said[1].1);
    assert_eq!(server.get_at(Some(&alice), old).await.ok(), answer(1));
    find(&alice, said[2].1 + 1, "f").await.refused(404, "M_NOT_FOUND");
    find(&alice, 1, "b").await.refused(404, "M_NOT_FOUND");
    find(&bob, said[1].1, "f").await.refused(403, "M_FORBIDDEN");
    let path = |query: &str| format!("/v1/rooms/{room}/timestamp_to_event{query}");
    server.get_at(Some(&alice), path("?dir=f")).await.refused(400, "M_MISSING_PARAM");
    server.get_at(Some(&alice), path("?ts=1&dir=x")).await.refused(400, "M_INVALID_PARAM");
    server.get_at(Some(&alice), path("?ts=x&dir=f")).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn events_that_a_user_may_not_see_are_not_found_by_their_time() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let joined = json!([{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}]);
    let room = server.room(&alice, json!({"preset": "public_chat", "initial_state": joined})).await;
    let secret = server.say(&alice, &room, "secret").await;
    let secret = server.get(&alice, format!("/rooms/{room}/event/{}", enc(&secret))).await.ok();
    server.join(&bob, &room).await.ok();
    let path = format!("/v1/rooms/{room}/timestamp_to_event?ts={}&dir=f", secret["origin_server_ts"]);
    let found = server.get_at(Some(&bob), path).await.ok();
    let event = server.get(&bob, format!("/rooms/{room}/event/{}", enc(found["event_id"].as_str().unwrap()))).await;
    assert_eq!(event.ok()["type"], "m.room.member");
}
