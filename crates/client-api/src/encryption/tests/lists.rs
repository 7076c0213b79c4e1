//! Who is told whose devices changed.

use super::KeyMaker;
use crate::testing::{Server, User};
use serde_json::{Value, json};

struct World {
    server: Server,
    alice: User,
    bob: User,
}

fn users(response: &Value, list: &str) -> Vec<String> {
    let users = response["device_lists"][list].as_array();
    users.into_iter().flatten().map(|user| user.as_str().unwrap().to_owned()).collect()
}

impl World {
    async fn new() -> Self {
        let server = Server::new().await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        Self { server, alice, bob }
    }

    async fn room(&self, creator: &User) -> String {
        let body = json!({ "preset": "public_chat" });
        let room = self.server.post("/_matrix/client/v3/createRoom", Some(&creator.token), &body).await.ok();
        room["room_id"].as_str().unwrap().to_owned()
    }

    async fn act(&self, user: &User, room: &str, action: &str) {
        let path = format!("/_matrix/client/v3/rooms/{room}/{action}");
        self.server.post(&path, Some(&user.token), &json!({})).await.ok();
    }

    async fn new_keys(&self, user: &User, identity: u8) {
        let body = json!({ "device_keys": KeyMaker::of(user, identity).device_keys() });
        self.server.post("/_matrix/client/v3/keys/upload", Some(&user.token), &body).await.ok();
    }

    /// What a sync and `/keys/changes` tell since a response, which must be the same.
    async fn told(&self, user: &User, since: &Value) -> (Vec<String>, Vec<String>) {
        let response = self.server.sync_since(user, Some(since)).await;
        let told = (users(&response, "changed"), users(&response, "left"));
        let (from, to) = (since["next_batch"].as_str().unwrap(), response["next_batch"].as_str().unwrap());
        let path = format!("/_matrix/client/v3/keys/changes?from={from}&to={to}");
        let lists = json!({ "device_lists": self.server.get(&path, Some(&user.token)).await.ok() });
        assert_eq!((users(&lists, "changed"), users(&lists, "left")), told);
        told
    }
}

fn none() -> Vec<String> {
    Vec::new()
}

#[tokio::test]
async fn those_who_share_a_room_are_told_of_new_keys_and_nobody_else() {
    let world = World::new().await;
    let (alice, bob) = (&world.alice, &world.bob);
    let carol = world.server.user("carol").await;
    let room = world.room(alice).await;
    world.act(bob, &room, "join").await;
    let (a, b, c) = (
        world.server.sync_since(alice, None).await,
        world.server.sync_since(bob, None).await,
        world.server.sync_since(&carol, None).await,
    );
    world.new_keys(bob, 1).await;
    assert_eq!(world.told(alice, &a).await, (vec![bob.id.to_string()], none()));
    assert_eq!(world.told(bob, &b).await, (vec![bob.id.to_string()], none()));
    assert_eq!(world.told(&carol, &c).await, (none(), none()));
    // The same keys again are no change.
    let a = world.server.sync_since(alice, None).await;
    world.new_keys(bob, 1).await;
    assert_eq!(world.told(alice, &a).await, (none(), none()));
    world.server.post("/_matrix/client/v3/logout", Some(&bob.token), &json!({})).await.ok();
    assert_eq!(world.told(alice, &a).await, (vec![bob.id.to_string()], none()));
}

#[tokio::test]
async fn those_who_come_and_go_are_told_to_each_other() {
    let world = World::new().await;
    let (alice, bob) = (&world.alice, &world.bob);
    world.new_keys(bob, 1).await;
    let room = world.room(alice).await;
    let (a, b) = (world.server.sync_since(alice, None).await, world.server.sync_since(bob, None).await);
    world.act(bob, &room, "join").await;
    assert_eq!(world.told(alice, &a).await, (vec![bob.id.to_string()], none()));
    assert_eq!(world.told(bob, &b).await, (vec![alice.id.to_string()], none()));
    let (a, b) = (world.server.sync_since(alice, Some(&a)).await, world.server.sync_since(bob, Some(&b)).await);
    world.act(bob, &room, "leave").await;
    assert_eq!(world.told(alice, &a).await, (none(), vec![bob.id.to_string()]));
    assert_eq!(world.told(bob, &b).await, (none(), vec![alice.id.to_string()]));
    // Who has gone is nobody's business any more.
    let a = world.server.sync_since(alice, Some(&a)).await;
    world.new_keys(bob, 2).await;
    assert_eq!(world.told(alice, &a).await, (none(), none()));
    world.act(bob, &room, "join").await;
    assert_eq!(world.told(alice, &a).await, (vec![bob.id.to_string()], none()));
}

#[tokio::test]
async fn who_leaves_one_room_of_two_has_not_gone() {
    let world = World::new().await;
    let (alice, bob) = (&world.alice, &world.bob);
    let rooms = [world.room(alice).await, world.room(alice).await];
    for room in &rooms {
        world.act(bob, room, "join").await;
    }
    let (a, b) = (world.server.sync_since(alice, None).await, world.server.sync_since(bob, None).await);
    world.act(bob, &rooms[0], "leave").await;
    assert_eq!(world.told(alice, &a).await, (none(), none()));
    assert_eq!(world.told(bob, &b).await, (none(), none()));
    world.act(bob, &rooms[1], "leave").await;
    assert_eq!(world.told(alice, &a).await, (none(), vec![bob.id.to_string()]));
}

#[tokio::test]
async fn a_change_of_a_profile_is_no_change_of_devices() {
    let world = World::new().await;
    let (alice, bob) = (&world.alice, &world.bob);
    let room = world.room(alice).await;
    world.act(bob, &room, "join").await;
    let a = world.server.sync_since(alice, None).await;
    let path = format!("/_matrix/client/v3/profile/{}/displayname", bob.id);
    world.server.put(&path, Some(&bob.token), &json!({ "displayname": "Robert" })).await.ok();
    assert_eq!(world.told(alice, &a).await, (none(), none()));
}

#[tokio::test]
async fn a_new_key_wakes_those_who_wait() {
    let world = World::new().await;
    let (alice, bob) = (&world.alice, &world.bob);
    let room = world.room(alice).await;
    world.act(bob, &room, "join").await;
    let before = world.server.sync_since(alice, None).await;
    let since = before["next_batch"].as_str().unwrap();
    let path = format!("/_matrix/client/v3/sync?timeout=20000&since={since}");
    let (answer, ()) = tokio::join!(world.server.get(&path, Some(&alice.token)), world.new_keys(bob, 1));
    assert_eq!(users(&answer.ok(), "changed"), [bob.id.to_string()]);
}

#[tokio::test]
async fn a_device_that_is_renamed_has_changed() {
    let world = World::new().await;
    let alice = &world.alice;
    let path = format!("/_matrix/client/v3/devices/{}", alice.device);
    let before = world.server.sync_since(alice, None).await;
    world.server.put(&path, Some(&alice.token), &json!({ "display_name": "A" })).await.ok();
    assert_eq!(world.told(alice, &before).await, (none(), none()));
    world.new_keys(alice, 1).await;
    let before = world.server.sync_since(alice, Some(&before)).await;
    world.server.put(&path, Some(&alice.token), &json!({ "display_name": "B" })).await.ok();
    assert_eq!(world.told(alice, &before).await, (vec![alice.id.to_string()], none()));
}

#[tokio::test]
async fn changes_are_asked_for_between_two_tokens() {
    let world = World::new().await;
    let token = Some(world.alice.token.as_str());
    let path = "/_matrix/client/v3/keys/changes";
    world.server.get(path, token).await.refused(400, "M_MISSING_PARAM");
    world.server.get(&format!("{path}?from=s1_1"), token).await.refused(400, "M_MISSING_PARAM");
    world.server.get(&format!("{path}?from=x&to=s1_1"), token).await.refused(400, "M_INVALID_PARAM");
    world.server.get(&format!("{path}?from=s1_1&to=s1_1"), None).await.refused(401, "M_MISSING_TOKEN");
}
