//! Sliding sync through the router.

use crate::testing::{Server, User};
use serde_json::{Value, json};

const STABLE: &str = "/_matrix/client/v4/sync";
const UNSTABLE: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";

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
        let create = json!({"preset": "public_chat", "name": "Town hall"});
        let created = server.post("/_matrix/client/v3/createRoom", Some(&alice.token), &create).await.ok();
        let room = created["room_id"].as_str().unwrap().to_owned();
        let path = format!("/_matrix/client/v3/rooms/{room}/join");
        server.post(&path, Some(&bob.token), &json!({})).await.ok();
        Self { server, alice, bob, room }
    }

    async fn say(&self, txn: &str) -> String {
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{txn}", self.room);
        let body = json!({"msgtype": "m.text", "body": txn});
        self.server.put(&path, Some(&self.alice.token), &body).await.ok()["event_id"].as_str().unwrap().to_owned()
    }

    async fn ask(&self, path: &str, body: Value) -> Value {
        self.server.post(path, Some(&self.bob.token), &body).await.ok()
    }

    fn of<'a>(&self, response: &'a Value) -> &'a Value {
        &response["rooms"][self.room.as_str()]
    }
}

fn kinds(events: &Value) -> Vec<&str> {
    let mut kinds: Vec<_> = events.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    kinds
}

#[tokio::test]
async fn the_accepted_form_has_everything_in_the_body() {
    let world = World::new().await;
    world.say("1").await;
    let required = json!({
        "include": [{"type": "m.room.create", "state_key": ""}, {"type": "m.room.name"}, {"state_key": world.bob.id}],
        "exclude": [{"type": "m.room.name"}],
        "lazy_members": true,
    });
    let body = |pos: &Value| {
        let list = json!({
            "timeline_limit": 1,
            "range": [0, 9],
            "required_state": required,
            "filters": {"is_invited": false, "room_types": [null], "not_room_types": ["m.space"]},
        });
        json!({
            "conn_id": "main", "pos": pos, "timeout": 0, "set_presence": "offline",
            "lists": {"rooms": list},
            "room_subscriptions": {world.room.as_str(): {"timeline_limit": 2, "required_state": {}}},
            "extensions": {"account_data": {"enabled": true}, "unknown": {"enabled": true}},
        })
    };
    let first = world.ask(STABLE, body(&Value::Null)).await;
    let room = world.of(&first);
    assert_eq!(
        (&room["membership"], &room["name"], &room["lists"]),
        (&json!("join"), &json!("Town hall"), &json!(["rooms"]))
    );
    assert_eq!(room["timeline"].as_array().unwrap().len(), 2);
    assert_eq!(kinds(&room["required_state"]), ["m.room.create", "m.room.member", "m.room.member"]);
    assert_eq!(first["extensions"]["account_data"]["global"][0]["type"], "m.push_rules");
    world.say("2").await;
    let second = world.ask(STABLE, body(&first["pos"])).await;
    assert_eq!(world.of(&second)["timeline"][0]["content"]["body"], "2");
    assert_eq!(second["lists"], json!({"rooms": {"count": 1}}));
}

#[tokio::test]
async fn the_unstable_form_has_its_place_in_the_query() {
    let world = World::new().await;
    world.say("1").await;
    let list = json!({
        "ranges": [[0, 9]], "timeline_limit": 1, "filters": {"is_invite": false},
        "required_state": [["m.room.create", ""], ["m.room.member", "$ME"], ["m.room.member", "$LAZY"]],
    });
    let body = json!({"conn_id": "main", "txn_id": "t", "lists": {"rooms": list}, "extensions": {"typing": {"enabled": true}}});
    let first = world.ask(&format!("{UNSTABLE}?timeout=30000"), body.clone()).await;
    assert_eq!((&first["txn_id"], &first["lists"]["rooms"]["count"]), (&json!("t"), &json!(1)));
    let room = world.of(&first);
    assert_eq!(kinds(&room["required_state"]), ["m.room.create", "m.room.member", "m.room.member"]);
    assert_eq!((&room["initial"], room.get("membership")), (&json!(true), None));
    world.say("2").await;
    let pos = first["pos"].as_str().unwrap();
    let second = world.ask(&format!("{UNSTABLE}?pos={pos}&set_presence=unavailable"), body.clone()).await;
    assert_eq!(world.of(&second)["timeline"][0]["content"]["body"], "2");
    let mut other = body;
    other["conn_id"] = json!("other");
    let error = world.server.post(&format!("{UNSTABLE}?pos={pos}"), Some(&world.bob.token), &other).await;
    error.refused(400, "M_UNKNOWN_POS");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    let world = World::new().await;
    let token = Some(world.bob.token.as_str());
    let required = json!({});
    let list = |list: Value| json!({"lists": {"l": list}});
    for (body, code) in [
        (json!({"pos": "nonsense"}), "M_UNKNOWN_POS"),
        (json!({"set_presence": "asleep"}), "M_INVALID_PARAM"),
        (list(json!({"timeline_limit": 1})), "M_BAD_JSON"),
        (list(json!({"required_state": required})), "M_BAD_JSON"),
        (list(json!({"timeline_limit": 1, "required_state": required, "range": [3, 2]})), "M_INVALID_PARAM"),
        (list(json!({"timeline_limit": 1, "required_state": required, "range": [1]})), "M_BAD_JSON"),
        (list(json!({"timeline_limit": -1, "required_state": required})), "M_BAD_JSON"),
        (json!({"room_subscriptions": {"no room": {"timeline_limit": 1, "required_state": required}}}), "M_BAD_JSON"),
        (json!({"extensions": {"receipts": 7}}), "M_BAD_JSON"),
        (json!({"timeout": "soon"}), "M_BAD_JSON"),
    ] {
        world.server.post(STABLE, token, &body).await.refused(400, code);
    }
    for query in ["timeout=x", "set_presence=asleep"] {
        let path = format!("{UNSTABLE}?{query}");
        world.server.post(&path, token, &json!({})).await.refused(400, "M_INVALID_PARAM");
    }
    world.server.post(&format!("{UNSTABLE}?pos=s1_2"), token, &json!({})).await.refused(400, "M_UNKNOWN_POS");
    world.server.post(STABLE, None, &json!({})).await.refused(401, "M_MISSING_TOKEN");
    world.server.get(STABLE, token).await.refused(405, "M_UNRECOGNIZED");
    let empty = world.ask(STABLE, json!({})).await;
    assert_eq!((&empty["rooms"], &empty["lists"], &empty["extensions"]), (&json!({}), &json!({}), &json!({})));
}

#[tokio::test]
async fn a_position_is_where_messages_are_read_from() {
    let world = World::new().await;
    world.say("1").await;
    let body = json!({"lists": {"l": {"timeline_limit": 1, "required_state": {}, "range": [0, 0]}}});
    let first = world.ask(STABLE, body).await;
    world.say("2").await;
    for from in [&first["pos"], &world.of(&first)["prev_batch"]] {
        let path =
            format!("/_matrix/client/v3/rooms/{}/messages?dir=f&limit=1&from={}", world.room, from.as_str().unwrap());
        let page = world.server.get(&path, Some(&world.bob.token)).await.ok();
        let expected = if from == &first["pos"] { "2" } else { "1" };
        assert_eq!(page["chunk"][0]["content"]["body"], expected);
    }
}

#[tokio::test]
async fn who_logs_in_anew_begins_anew() {
    let world = World::new().await;
    let body = json!({"lists": {"l": {"timeline_limit": 1, "required_state": {}, "range": [0, 0]}}});
    let first = world.ask(STABLE, body).await;
    let other = world.server.log_in("bob").await;
    let again = json!({"pos": first["pos"]});
    world.server.post(STABLE, Some(&other.token), &again).await.refused(400, "M_UNKNOWN_POS");
    world.server.post("/_matrix/client/v3/logout", Some(&world.bob.token), &json!({})).await.ok();
    let stored = world.server.state.records.view().sliding_connections(&world.bob.id, world.bob.device.as_str().into());
    assert!(stored.unwrap().is_empty());
}
