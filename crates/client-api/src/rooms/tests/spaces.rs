//! What a space holds.

use super::{Answer, Server, User};
use serde_json::{Value, json};

impl Server {
    async fn space(&self, user: &User, name: &str, join_rule: &str) -> String {
        let rules = json!([{"type": "m.room.join_rules", "content": {"join_rule": join_rule}}]);
        let body = json!({"name": name, "creation_content": {"type": "m.space"}, "initial_state": rules});
        self.room(user, body).await
    }

    async fn put_in(&self, user: &User, space: &str, room: &str, mut content: Value) {
        content["via"] = json!(["example.org"]);
        self.set_state(user, space, "m.space.child", room, content).await.ok();
    }

    async fn tree(&self, user: &User, space: &str, query: &str) -> Answer {
        self.get_at(Some(user), format!("/v1/rooms/{space}/hierarchy{query}")).await
    }
}

fn names(page: &Value) -> Vec<&str> {
    page["rooms"].as_array().unwrap().iter().map(|room| room["name"].as_str().unwrap()).collect()
}

fn links<'a>(page: &'a Value, name: &str) -> Vec<&'a str> {
    let rooms = page["rooms"].as_array().unwrap();
    let room = rooms.iter().find(|room| room["name"] == name).unwrap();
    room["children_state"].as_array().unwrap().iter().map(|link| link["state_key"].as_str().unwrap()).collect()
}

/// Root has A, S and B, A and B suggested; S has T, and T has C and, against the rules, Root.
async fn tree() -> (Server, User, [String; 6]) {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let root = server.space(&alice, "Root", "public").await;
    let (sub, deep) = (server.space(&alice, "S", "public").await, server.space(&alice, "T", "public").await);
    let a = server.room(&alice, json!({"name": "A", "preset": "public_chat"})).await;
    let b = server.room(&alice, json!({"name": "B", "preset": "public_chat"})).await;
    let c = server.room(&alice, json!({"name": "C", "preset": "public_chat"})).await;
    server.put_in(&alice, &root, &a, json!({"suggested": true})).await;
    server.put_in(&alice, &root, &sub, json!({})).await;
    server.put_in(&alice, &root, &b, json!({"suggested": true})).await;
    server.put_in(&alice, &root, "!elsewhere:b.example", json!({})).await;
    server.put_in(&alice, &sub, &deep, json!({})).await;
    server.put_in(&alice, &deep, &c, json!({})).await;
    server.put_in(&alice, &deep, &root, json!({})).await;
    // Only spaces have children.
    server.put_in(&alice, &a, &c, json!({})).await;
    (server, alice, [root, sub, deep, a, b, c])
}

#[tokio::test]
async fn a_tree_is_walked_depth_first_and_loops_end() {
    let (server, alice, [root, sub, deep, a, b, c]) = tree().await;
    let whole = server.tree(&alice, &root, "").await.ok();
    assert_eq!(names(&whole), ["Root", "A", "S", "T", "C", "B"]);
    assert_eq!(links(&whole, "Root"), [&a, &sub, &b, "!elsewhere:b.example"]);
    assert_eq!(links(&whole, "T"), [&c, &root]);
    assert_eq!(links(&whole, "A"), [""; 0]);
    assert_eq!((&whole["rooms"][2]["room_type"], whole.get("next_batch")), (&json!("m.space"), None));
    let link = &whole["rooms"][2]["children_state"][0];
    assert!(link["origin_server_ts"].is_u64() && link.get("event_id").is_none(), "{link}");
    assert_eq!((&link["state_key"], &link["type"]), (&json!(deep), &json!("m.space.child")));
    let old = format!("/unstable/org.matrix.msc2946/rooms/{root}/hierarchy");
    assert_eq!(server.get_at(Some(&alice), old).await.ok(), whole);
}

#[tokio::test]
async fn a_walk_can_be_bounded() {
    let (server, alice, [root, _, deep, ..]) = tree().await;
    let shallow = server.tree(&alice, &root, "?max_depth=1").await.ok();
    assert_eq!(names(&shallow), ["Root", "A", "S", "B"]);
    assert_eq!(links(&shallow, "S"), [&deep]);
    assert_eq!(names(&server.tree(&alice, &root, "?max_depth=0").await.ok()), ["Root"]);
    let suggested = server.tree(&alice, &root, "?suggested_only=true").await.ok();
    assert_eq!(names(&suggested), ["Root", "A", "B"]);
    assert_eq!(links(&suggested, "Root").len(), 2);
    for wrong in ["?limit=0", "?limit=-1", "?limit=x", "?max_depth=-1", "?from=x", "?suggested_only=x"] {
        server.tree(&alice, &root, wrong).await.refused(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn a_walk_goes_on_where_a_page_ended() {
    let (server, alice, [root, ..]) = tree().await;
    let first = server.tree(&alice, &root, "?limit=4&max_depth=9").await.ok();
    assert_eq!(names(&first), ["Root", "A", "S", "T"]);
    let token = first["next_batch"].as_str().unwrap();
    let rest = server.tree(&alice, &root, &format!("?from={token}")).await.ok();
    assert_eq!((names(&rest), rest.get("next_batch")), (vec!["C", "B"], None));
    let same = format!("?from={token}&max_depth=9&suggested_only=false&limit=1");
    assert_eq!(names(&server.tree(&alice, &root, &same).await.ok()), ["C"]);
    for other in ["max_depth=8", "suggested_only=true"] {
        server.tree(&alice, &root, &format!("?from={token}&{other}")).await.refused(400, "M_INVALID_PARAM");
    }
    let all = server.tree(&alice, &root, "?limit=6").await.ok();
    assert_eq!((names(&all).len(), all.get("next_batch")), (6, None));
}

#[tokio::test]
async fn only_rooms_that_a_user_may_know_of_are_shown() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let root = server.space(&alice, "Root", "public").await;
    let hidden = server.space(&alice, "Hidden", "invite").await;
    let inner = server.room(&alice, json!({"name": "Inner", "preset": "public_chat"})).await;
    let knock = json!([{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]);
    let knockable = server.room(&alice, json!({"name": "Knock", "initial_state": knock})).await;
    let allow = json!([{"type": "m.room_membership", "room_id": root}]);
    let rules = json!([{"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}]);
    let members = server.room(&alice, json!({"name": "Members", "initial_state": rules})).await;
    for room in [&hidden, &knockable, &members] {
        server.put_in(&alice, &root, room, json!({})).await;
    }
    server.put_in(&alice, &hidden, &inner, json!({})).await;
    let seen = async || {
        let page = server.tree(&bob, &root, "").await.ok();
        names(&page).into_iter().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(seen().await, ["Root", "Knock"]);
    server.join(&bob, &root).await.ok();
    assert_eq!(seen().await, ["Root", "Knock", "Members"]);
    server.invite(&alice, &hidden, &bob).await.ok();
    assert_eq!(seen().await, ["Root", "Hidden", "Inner", "Knock", "Members"]);
    server.act(&alice, &root, "ban", &bob).await.ok();
    server.tree(&bob, &root, "").await.refused(403, "M_FORBIDDEN");
    server.tree(&bob, "!nowhere:example.org", "").await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn children_come_in_the_order_of_the_specification() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let root = server.space(&alice, "Root", "public").await;
    let orders = [
        ("late", json!({})),
        ("b", json!({"order": "b"})),
        ("none", json!({"order": "\u{e4}"})),
        ("a", json!({"order": " "})),
    ];
    let long = "x".repeat(51);
    for (name, content) in orders.into_iter().chain([("last", json!({"order": long})), ("b2", json!({"order": "b"}))]) {
        let room = server.room(&alice, json!({"name": name, "preset": "public_chat"})).await;
        server.put_in(&alice, &root, &room, content).await;
    }
    let page = server.tree(&alice, &root, "").await.ok();
    assert_eq!(names(&page), ["Root", "a", "b", "b2", "late", "none", "last"]);
    // A link without servers is none.
    let first = links(&page, "Root")[0];
    server.set_state(&alice, &root, "m.space.child", first, json!({})).await.ok();
    assert_eq!(names(&server.tree(&alice, &root, "").await.ok()), ["Root", "b", "b2", "late", "none", "last"]);
}
