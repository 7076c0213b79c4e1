//! What is bundled with events, and what may not be sent because of what it relates to.

use super::{Server, User, enc};
use serde_json::{Value, json};

/// A room of alice's and bob's, and short ways to relate events in it.
pub(super) struct World {
    pub server: Server,
    pub alice: User,
    pub bob: User,
    pub room: String,
    sent: std::cell::Cell<u32>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(json!({"preset": "public_chat"})).await
    }

    pub async fn with(room: Value) -> Self {
        let server = Server::start().await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        let room = server.room(&alice, room).await;
        server.join(&bob, &room).await.ok();
        Self { server, alice, bob, room, sent: std::cell::Cell::new(0) }
    }

    pub async fn try_send(&self, user: &User, kind: &str, content: Value) -> super::Answer {
        self.sent.set(self.sent.get() + 1);
        self.server.put(user, &format!("/rooms/{}/send/{kind}/t{}", self.room, self.sent.get()), content).await
    }

    pub async fn send(&self, user: &User, kind: &str, content: Value) -> String {
        let answer = self.try_send(user, kind, content).await.ok();
        answer["event_id"].as_str().unwrap().to_owned()
    }

    pub async fn say(&self, user: &User, text: &str) -> String {
        self.send(user, "m.room.message", json!({"msgtype": "m.text", "body": text})).await
    }

    /// A message that relates to another event.
    pub async fn relate(&self, user: &User, rel_type: &str, target: &str, text: &str) -> String {
        self.send(user, "m.room.message", related(rel_type, target, text)).await
    }

    pub async fn edit(&self, user: &User, target: &str, text: &str) -> String {
        self.send(user, "m.room.message", edited(target, text)).await
    }

    pub async fn redact(&self, user: &User, event: &str) {
        self.sent.set(self.sent.get() + 1);
        let path = format!("/rooms/{}/redact/{}/t{}", self.room, enc(event), self.sent.get());
        self.server.put(user, &path, json!({})).await.ok();
    }

    pub async fn event(&self, user: &User, event: &str) -> Value {
        self.server.get(user, format!("/rooms/{}/event/{}", self.room, enc(event))).await.ok()
    }

    /// What is bundled with an event.
    pub async fn bundle(&self, user: &User, event: &str) -> Value {
        self.event(user, event).await["unsigned"]["m.relations"].clone()
    }

    pub async fn ignore(&self, user: &User, ignored: &User) {
        let path = format!("/user/{}/account_data/m.ignored_user_list", user.id);
        let content = json!({"ignored_users": {(ignored.id.as_str()): {}}});
        self.server.put(user, &path, content).await.ok();
    }
}

pub(super) fn related(rel_type: &str, target: &str, text: &str) -> Value {
    json!({"msgtype": "m.text", "body": text, "m.relates_to": {"rel_type": rel_type, "event_id": target}})
}

fn edited(target: &str, text: &str) -> Value {
    let mut content = related("m.replace", target, &format!("* {text}"));
    content["m.new_content"] = json!({"msgtype": "m.text", "body": text});
    content
}

fn reaction(target: &str, key: &str) -> Value {
    json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": target, "key": key}})
}

#[tokio::test]
async fn an_event_comes_with_its_newest_edit_and_its_own_content() {
    let world = World::new().await;
    let said = world.say(&world.alice, "one").await;
    assert_eq!(world.bundle(&world.bob, &said).await, Value::Null);
    world.edit(&world.alice, &said, "two").await;
    let last = world.edit(&world.alice, &said, "three").await;
    // None of these is a valid edit: another sender, another type, no new content.
    world.edit(&world.bob, &said, "four").await;
    world.send(&world.alice, "m.other", edited(&said, "five")).await;
    world.relate(&world.alice, "m.replace", &said, "six").await;
    let event = world.event(&world.bob, &said).await;
    assert_eq!(event["content"]["body"], "one");
    let edit = &event["unsigned"]["m.relations"]["m.replace"];
    assert_eq!((&edit["event_id"], &edit["content"]["m.new_content"]["body"]), (&json!(last), &json!("three")));
    assert_eq!((&edit["sender"], &edit["room_id"]), (&json!(world.alice.id), &json!(world.room)));
    // An edit of an edit is none.
    world.edit(&world.alice, &last, "seven").await;
    assert_eq!(world.bundle(&world.bob, &last).await, Value::Null);
}

#[tokio::test]
async fn a_redacted_edit_gives_way_to_the_one_before() {
    let world = World::new().await;
    let said = world.say(&world.alice, "one").await;
    let first = world.edit(&world.alice, &said, "two").await;
    let second = world.edit(&world.alice, &said, "three").await;
    world.redact(&world.alice, &second).await;
    assert_eq!(world.bundle(&world.bob, &said).await["m.replace"]["event_id"], json!(first));
    world.redact(&world.alice, &first).await;
    assert_eq!(world.bundle(&world.bob, &said).await, Value::Null);
}

#[tokio::test]
async fn a_redacted_event_has_no_edit_but_still_its_thread() {
    let world = World::new().await;
    let said = world.say(&world.alice, "one").await;
    world.edit(&world.alice, &said, "two").await;
    world.relate(&world.bob, "m.thread", &said, "reply").await;
    world.redact(&world.alice, &said).await;
    let bundle = world.bundle(&world.bob, &said).await;
    assert_eq!((&bundle["m.replace"], &bundle["m.thread"]["count"]), (&Value::Null, &json!(1)));
}

#[tokio::test]
async fn the_root_of_a_thread_tells_its_last_event_its_length_and_who_took_part() {
    let world = World::new().await;
    let root = world.say(&world.alice, "root").await;
    let first = world.relate(&world.alice, "m.thread", &root, "a").await;
    let second = world.relate(&world.alice, "m.thread", &root, "b").await;
    world.edit(&world.alice, &second, "c").await;
    let carol = world.server.user("carol").await;
    world.server.join(&carol, &world.room).await.ok();
    let thread = world.bundle(&world.bob, &root).await["m.thread"].clone();
    assert_eq!((&thread["count"], &thread["current_user_participated"]), (&json!(2), &json!(false)));
    assert_eq!(thread["latest_event"]["event_id"], json!(second));
    let edit = &thread["latest_event"]["unsigned"]["m.relations"]["m.replace"];
    assert_eq!(edit["content"]["m.new_content"]["body"], "c");
    assert_eq!(world.bundle(&world.alice, &root).await["m.thread"]["current_user_participated"], true);

    world.relate(&world.bob, "m.thread", &root, "d").await;
    assert_eq!(world.bundle(&world.bob, &root).await["m.thread"]["current_user_participated"], true);
    assert_eq!(world.bundle(&carol, &root).await["m.thread"]["count"], 3);
    assert_eq!(world.bundle(&carol, &root).await["m.thread"]["current_user_participated"], false);

    world.redact(&world.alice, &second).await;
    let thread = world.bundle(&carol, &root).await["m.thread"].clone();
    assert_eq!((&thread["count"], &thread["latest_event"]["content"]["body"]), (&json!(2), &json!("d")));
    world.redact(&world.alice, &first).await;
    let last = world.server.get(&world.bob, format!("/rooms/{}/messages?dir=b&limit=20", world.room)).await.ok();
    let event = last["chunk"].as_array().unwrap().iter().find(|event| event["event_id"] == json!(root)).unwrap();
    assert_eq!(event["unsigned"]["m.relations"]["m.thread"]["count"], 1);
}

#[tokio::test]
async fn references_are_told_in_their_order_and_annotations_are_not() {
    let world = World::new().await;
    let said = world.say(&world.alice, "one").await;
    let first = world.relate(&world.bob, "m.reference", &said, "a").await;
    let second = world.relate(&world.alice, "m.reference", &said, "b").await;
    world.send(&world.bob, "m.reaction", reaction(&said, "+")).await;
    let expected = json!({"m.reference": {"chunk": [{"event_id": first}, {"event_id": second}]}});
    assert_eq!(world.bundle(&world.bob, &said).await, expected);
    world.redact(&world.bob, &first).await;
    world.redact(&world.alice, &second).await;
    assert_eq!(world.bundle(&world.bob, &said).await, Value::Null);
}

#[tokio::test]
async fn those_who_are_ignored_count_for_nothing() {
    let world = World::new().await;
    let root = world.say(&world.alice, "root").await;
    let first = world.relate(&world.alice, "m.thread", &root, "a").await;
    world.relate(&world.bob, "m.thread", &root, "b").await;
    world.relate(&world.bob, "m.reference", &root, "c").await;
    let carol = world.server.user("carol").await;
    world.server.join(&carol, &world.room).await.ok();
    world.ignore(&carol, &world.bob).await;
    let bundle = world.bundle(&carol, &root).await;
    assert_eq!((&bundle["m.thread"]["count"], &bundle["m.reference"]), (&json!(1), &Value::Null));
    assert_eq!(bundle["m.thread"]["latest_event"]["event_id"], json!(first));
    // Who ignores themselves ignores nobody.
    world.ignore(&world.bob, &world.bob).await;
    assert_eq!(world.bundle(&world.bob, &root).await["m.thread"]["count"], 2);
}

#[tokio::test]
async fn what_one_may_not_see_is_not_counted() {
    let visibility = json!({"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}});
    let world = World::with(json!({"preset": "public_chat", "initial_state": [visibility]})).await;
    let root = world.say(&world.alice, "root").await;
    let first = world.relate(&world.alice, "m.thread", &root, "a").await;
    world.server.leave(&world.bob, &world.room).await.ok();
    world.relate(&world.alice, "m.thread", &root, "b").await;
    world.edit(&world.alice, &root, "c").await;
    world.relate(&world.alice, "m.reference", &root, "d").await;
    for _ in 0..2 {
        let bundle = world.bundle(&world.bob, &root).await;
        assert_eq!(bundle["m.thread"]["count"], 1);
        assert_eq!(bundle["m.thread"]["latest_event"]["event_id"], json!(first));
        assert_eq!((&bundle["m.replace"], &bundle["m.reference"]), (&Value::Null, &Value::Null));
        world.server.join(&world.bob, &world.room).await.ok();
    }
    assert_eq!(world.bundle(&world.alice, &root).await["m.thread"]["count"], 2);
}

#[tokio::test]
async fn a_reaction_is_given_once() {
    let world = World::new().await;
    let said = world.say(&world.alice, "one").await;
    let first = world.send(&world.bob, "m.reaction", reaction(&said, "+")).await;
    let again = || world.try_send(&world.bob, "m.reaction", reaction(&said, "+"));
    again().await.refused(400, "M_DUPLICATE_ANNOTATION");
    world.send(&world.bob, "m.reaction", reaction(&said, "-")).await;
    world.send(&world.bob, "m.other", reaction(&said, "+")).await;
    world.send(&world.alice, "m.reaction", reaction(&said, "+")).await;
    world.redact(&world.bob, &first).await;
    again().await.ok();
    again().await.refused(400, "M_DUPLICATE_ANNOTATION");
}

#[tokio::test]
async fn of_two_equal_reactions_at_once_one_is_refused() {
    let world = World::new().await;
    let said = world.say(&world.alice, "one").await;
    let send = || world.try_send(&world.bob, "m.reaction", reaction(&said, "+"));
    let (one, other) = tokio::join!(send(), send());
    assert_ne!(one.status, other.status);
}

#[tokio::test]
async fn a_thread_starts_from_what_relates_to_nothing() {
    let world = World::new().await;
    let root = world.say(&world.alice, "root").await;
    let reply = world.relate(&world.bob, "m.thread", &root, "a").await;
    let nested = world.try_send(&world.bob, "m.room.message", related("m.thread", &reply, "b")).await;
    nested.refused(400, "M_UNKNOWN");
    // A rich reply relates to an event, but in no way that has a type.
    let rich = json!({"msgtype": "m.text", "body": "r", "m.relates_to": {"m.in_reply_to": {"event_id": root}}});
    let rich = world.send(&world.bob, "m.room.message", rich).await;
    world.relate(&world.bob, "m.thread", &rich, "c").await;
    assert_eq!(world.bundle(&world.alice, &rich).await["m.thread"]["count"], 1);
    // Nobody knows this event, so nobody can say that it relates to another.
    world.relate(&world.bob, "m.thread", "$unknown", "d").await;
}

#[tokio::test]
async fn state_has_nothing_bundled() {
    let world = World::new().await;
    let answer = world.server.set_state(&world.alice, &world.room, "m.room.topic", "", json!({"topic": "T"})).await;
    let topic = answer.ok()["event_id"].as_str().unwrap().to_owned();
    world.relate(&world.bob, "m.thread", &topic, "a").await;
    assert_eq!(world.bundle(&world.bob, &topic).await, Value::Null);
}

#[tokio::test]
async fn a_sync_bundles_only_where_it_leaves_a_gap() {
    let world = World::new().await;
    let root = world.say(&world.alice, "root").await;
    world.relate(&world.bob, "m.thread", &root, "a").await;
    let timeline = |limit: u32| {
        let filter = json!({"room": {"timeline": {"limit": limit}}}).to_string();
        let (server, path) = (&world.server, format!("/sync?filter={}", enc(&filter)));
        let (room, alice) = (&world.room, &world.alice);
        async move { server.get(alice, path).await.ok()["rooms"]["join"][room]["timeline"].clone() }
    };
    let all = timeline(50).await;
    assert_eq!(all["limited"], false);
    let find = |events: &Value| {
        events.as_array().unwrap().iter().find(|event| event["event_id"] == json!(root)).unwrap().clone()
    };
    assert_eq!(find(&all["events"])["unsigned"]["m.relations"], Value::Null);
    let some = timeline(2).await;
    assert_eq!(some["limited"], true);
    let thread = &find(&some["events"])["unsigned"]["m.relations"]["m.thread"];
    assert_eq!((&thread["count"], thread["latest_event"].get("room_id")), (&json!(1), None));
}
