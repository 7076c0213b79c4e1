//! Aliases and the published room directory.

use super::{Server, User};
use http::Method;
use serde_json::json;

async fn room_of_two() -> (Server, User, User, String) {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({"preset": "public_chat"})).await;
    server.join(&bob, &room).await.ok();
    (server, alice, bob, room)
}

impl Server {
    async fn delete(&self, user: &User, path: &str) -> super::Answer {
        self.request(Some(user), Method::DELETE, path, String::new()).await
    }
}

const ALIAS: &str = "/directory/room/%23name:example.org";

#[tokio::test]
async fn members_name_their_room_and_everybody_can_ask_for_it() {
    let (server, alice, bob, room) = room_of_two().await;
    let carol = server.user("carol").await;
    let body = json!({"room_id": room});
    server.put(&carol, ALIAS, body.clone()).await.refused(403, "M_FORBIDDEN");
    server.put(&bob, ALIAS, body.clone()).await.ok();
    server.put(&alice, ALIAS, body).await.refused(409, "M_UNKNOWN");
    let answer = server.request(None, Method::GET, ALIAS, String::new()).await.ok();
    assert_eq!(answer, json!({"room_id": room, "servers": ["example.org"]}));
    let aliases = server.get(&alice, &format!("/rooms/{room}/aliases")).await.ok();
    assert_eq!(aliases, json!({"aliases": ["#name:example.org"]}));
    server.get(&carol, &format!("/rooms/{room}/aliases")).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn an_alias_is_this_servers_and_of_a_room_that_exists() {
    let (server, alice, _, room) = room_of_two().await;
    let put =
        |alias: &str, room: &str| server.put(&alice, format!("/directory/room/{alias}"), json!({"room_id": room}));
    put("name", &room).await.refused(400, "M_INVALID_PARAM");
    put("%23name:b.example", &room).await.refused(400, "M_INVALID_PARAM");
    put("%23a%20b:example.org", &room).await.refused(400, "M_INVALID_PARAM");
    put("%23:example.org", &room).await.refused(400, "M_INVALID_PARAM");
    put("%23name:example.org", "!nowhere:example.org").await.refused(404, "M_NOT_FOUND");
    put("%23name:example.org", "nowhere").await.refused(400, "M_BAD_JSON");
    server.get(&alice, "/directory/room/name").await.refused(400, "M_INVALID_PARAM");
    server.get(&alice, ALIAS).await.refused(404, "M_NOT_FOUND");
    server.get(&alice, "/directory/room/%23name:b.example").await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn whoever_made_an_alias_or_chooses_the_main_one_can_delete_it() {
    let (server, alice, bob, room) = room_of_two().await;
    let carol = server.user("carol").await;
    server.join(&carol, &room).await.ok();
    let body = json!({"room_id": room});
    server.put(&bob, ALIAS, body.clone()).await.ok();
    server.delete(&carol, ALIAS).await.refused(403, "M_FORBIDDEN");
    server.delete(&bob, ALIAS).await.ok();
    server.delete(&bob, ALIAS).await.refused(404, "M_NOT_FOUND");
    server.put(&bob, ALIAS, body).await.ok();
    server.delete(&alice, ALIAS).await.ok();
}

#[tokio::test]
async fn a_deleted_alias_is_no_longer_named_by_the_room() {
    let (server, alice, _, room) = room_of_two().await;
    server.put(&alice, ALIAS, json!({"room_id": room})).await.ok();
    let content = json!({"alias": "#name:example.org", "alt_aliases": ["#name:example.org"], "x": 1});
    server.set_state(&alice, &room, "m.room.canonical_alias", "", content).await.ok();
    server.delete(&alice, ALIAS).await.ok();
    let left = server.state(&alice, &room, "m.room.canonical_alias", "").await.ok();
    assert_eq!(left, json!({"alt_aliases": [], "x": 1}));
}

#[tokio::test]
async fn those_who_choose_the_main_alias_publish_the_room() {
    let (server, alice, bob, room) = room_of_two().await;
    let path = format!("/directory/list/room/{room}");
    let visibility = || server.request(None, Method::GET, &path, String::new());
    assert_eq!(visibility().await.ok(), json!({"visibility": "private"}));
    server.put(&bob, &path, json!({"visibility": "public"})).await.refused(403, "M_FORBIDDEN");
    server.put(&alice, &path, json!({})).await.ok();
    assert_eq!(visibility().await.ok(), json!({"visibility": "public"}));
    server.put(&alice, &path, json!({"visibility": "private"})).await.ok();
    server.put(&alice, &path, json!({"visibility": "private"})).await.ok();
    assert_eq!(visibility().await.ok(), json!({"visibility": "private"}));
    server.put(&alice, &path, json!({"visibility": "x"})).await.refused(400, "M_INVALID_PARAM");
    server.put(&alice, "/directory/list/room/!nowhere:example.org", json!({})).await.refused(404, "M_NOT_FOUND");
    let nowhere = "/directory/list/room/!nowhere:example.org";
    server.request(None, Method::GET, nowhere, String::new()).await.refused(404, "M_NOT_FOUND");
}
