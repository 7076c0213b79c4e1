//! Delayed events through the router, with a clock that the test turns.

use super::send::send_due;
use crate::testing::{Answer, Server, User};
use base::Clock as _;
use serde_json::{Value, json};
use std::time::Duration;

const BASE: &str = "/_matrix/client/unstable/org.matrix.msc4140";

struct World {
    server: Server,
    alice: User,
    bob: User,
    room: String,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut crate::Config)) -> Self {
        let server = Server::with(|config, _| change(config)).await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        let created = server.post("/_matrix/client/v3/createRoom", Some(&alice.token), &json!({})).await.ok();
        Self { room: created["room_id"].as_str().unwrap().to_owned(), server, alice, bob }
    }

    async fn schedule(&self, txn: &str, body: Value) -> Answer {
        let path = format!("{BASE}/rooms/{}/delayed_event/x/{txn}", self.room);
        self.server.put(&path, Some(&self.alice.token), &body).await
    }

    async fn scheduled(&self, txn: &str, delay_ms: u64) -> String {
        let answer = self.schedule(txn, json!({"delay_ms": delay_ms, "content": {"n": txn}})).await.ok();
        answer["delay_id"].as_str().unwrap().to_owned()
    }

    async fn act(&self, id: &str, action: &str) -> Answer {
        self.server.post(&format!("{BASE}/delayed_events/{id}/{action}"), None, &json!({})).await
    }

    async fn show(&self, id: &str) -> Answer {
        self.server.get(&format!("{BASE}/delayed_events/{id}"), Some(&self.alice.token)).await
    }

    /// The ids of what waits.
    async fn waiting(&self, user: &User) -> Vec<String> {
        let all = self.server.get(&format!("{BASE}/delayed_events"), Some(&user.token)).await.ok();
        let all = all["delayed_events"].as_array().unwrap().clone();
        all.iter().map(|event| event["delay_id"].as_str().unwrap().to_owned()).collect()
    }

    async fn pass(&self, millis: u64) {
        self.server.clock.advance(Duration::from_millis(millis));
        send_due(&self.server.state).await.unwrap();
    }

    /// The events of the type of the tests, the oldest first.
    async fn sent(&self, user: &User) -> Vec<Value> {
        let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=50", self.room);
        let messages = self.server.get(&path, Some(&user.token)).await.ok();
        let events = messages["chunk"].as_array().unwrap().iter().rev();
        events.filter(|event| event["type"] == "x").cloned().collect()
    }
}

#[tokio::test]
async fn events_are_sent_when_their_time_has_come_in_its_order() {
    let world = World::new().await;
    let (late, early) = (world.scheduled("late", 2000).await, world.scheduled("early", 1000).await);
    assert_eq!(world.waiting(&world.alice).await, [early.clone(), late.clone()]);
    assert!(world.waiting(&world.bob).await.is_empty());
    world.pass(999).await;
    assert!(world.sent(&world.alice).await.is_empty());
    world.pass(5000).await;
    let sent = world.sent(&world.alice).await;
    let ids: Vec<_> = sent.iter().map(|event| event["unsigned"]["org.matrix.msc4140.delay_id"].clone()).collect();
    assert_eq!(ids, [early.clone(), late]);
    assert!(sent[0]["unsigned"].get("transaction_id").is_none());
    assert!(world.waiting(&world.alice).await.is_empty());
    let shown = world.show(&early).await.ok();
    let now = world.server.clock.now().0;
    assert_eq!((&shown["event_id"], &shown["finalised_ts"]), (&sent[0]["event_id"], &json!(now)));
    world
        .server
        .get(&format!("{BASE}/delayed_events/{early}"), Some(&world.bob.token))
        .await
        .refused(404, "M_NOT_FOUND");
    // Nobody else learns the id.
    let invite = format!("/_matrix/client/v3/rooms/{}/invite", world.room);
    world.server.post(&invite, Some(&world.alice.token), &json!({"user_id": world.bob.id})).await.ok();
    let join = format!("/_matrix/client/v3/rooms/{}/join", world.room);
    world.server.post(&join, Some(&world.bob.token), &json!({})).await.ok();
    assert!(world.sent(&world.bob).await[0]["unsigned"].get("org.matrix.msc4140.delay_id").is_none());
}

#[tokio::test]
async fn an_event_is_sent_once_whoever_sends_it_and_however_often() {
    let world = World::new().await;
    let id = world.scheduled("1", 1000).await;
    world.act(&id, "send").await.ok();
    world.act(&id, "send").await.ok();
    world.pass(5000).await;
    assert_eq!(world.sent(&world.alice).await.len(), 1);
    world.act(&id, "cancel").await.refused(409, "M_UNKNOWN");
    world.act(&id, "restart").await.refused(409, "M_UNKNOWN");
    // The same request is not another event.
    assert_eq!(world.scheduled("1", 1000).await, id);
    let due = world.scheduled("2", 1000).await;
    world.server.clock.advance(Duration::from_secs(2));
    let sent = tokio::join!(send_due(&world.server.state), world.act(&due, "send"), send_due(&world.server.state));
    assert!(sent.0.is_ok() && sent.2.is_ok());
    sent.1.ok();
    assert_eq!(world.sent(&world.alice).await.len(), 2);
}

#[tokio::test]
async fn a_restart_begins_the_wait_anew_and_a_cancelled_event_is_never_sent() {
    let world = World::new().await;
    let (kept, cancelled) = (world.scheduled("1", 1000).await, world.scheduled("2", 1000).await);
    world.pass(900).await;
    world.act(&kept, "restart").await.ok();
    world.act(&cancelled, "cancel").await.ok();
    world.act(&cancelled, "cancel").await.ok();
    world.act(&cancelled, "send").await.refused(409, "M_UNKNOWN");
    world.pass(900).await;
    assert!(world.sent(&world.alice).await.is_empty());
    assert_eq!(world.waiting(&world.alice).await, std::slice::from_ref(&kept));
    world.pass(100).await;
    assert_eq!(world.sent(&world.alice).await[0]["content"], json!({"n": "1"}));
    let shown = world.show(&cancelled).await.ok();
    assert_eq!((shown["finalised_ts"].is_u64(), shown.get("event_id"), shown.get("error")), (true, None, None));
    for action in ["restart", "send", "cancel"] {
        world.act("unknown", action).await.refused(404, "M_NOT_FOUND");
    }
    world.act(&kept, "delete").await.refused(404, "M_UNRECOGNIZED");
    let path = format!("{BASE}/delayed_events/{kept}");
    world.server.post(&path, Some(&world.bob.token), &json!({"action": "send"})).await.refused(404, "M_NOT_FOUND");
    world.server.post(&path, Some(&world.alice.token), &json!({"action": "send"})).await.ok();
}

#[tokio::test]
async fn state_and_memberships_can_be_delayed_and_permission_is_asked_for_when_they_are_sent() {
    let world = World::new().await;
    let room = &world.room;
    let state = format!("/_matrix/client/v3/rooms/{room}/state");
    let delayed = |path: String| format!("{path}?org.matrix.msc4140.delay=1000");
    let alice = Some(world.alice.token.as_str());
    let topic = json!({"topic": "later"});
    world.server.put(&delayed(format!("{state}/m.room.topic")), alice, &topic).await.ok();
    let leave = json!({"membership": "leave"});
    let leave_path = delayed(format!("{state}/m.room.member/{}", world.alice.id));
    let left = world.server.put(&leave_path, alice, &leave).await.ok();
    world.server.get(&format!("{state}/m.room.topic"), alice).await.refused(404, "M_NOT_FOUND");
    world.pass(1000).await;
    assert_eq!(world.server.get(&format!("{state}/m.room.topic"), alice).await.ok(), topic);
    let member = world.server.get(&format!("{state}/m.room.member/{}?format=event", world.alice.id), alice).await.ok();
    let left = left["delay_id"].as_str().unwrap();
    assert_eq!(
        (&member["content"]["membership"], &member["unsigned"]["org.matrix.msc4140.delay_id"]),
        (&json!("leave"), &json!(left))
    );
    let send = format!("/_matrix/client/v3/rooms/{room}/send/x/1?org.matrix.msc4140.delay=1000");
    world.server.put(&send, alice, &json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn what_cannot_be_sent_has_failed_with_the_error_that_its_sender_would_have_got() {
    let world = World::new().await;
    let id = world.scheduled("1", 1000).await;
    let leave = format!("/_matrix/client/v3/rooms/{}/leave", world.room);
    world.server.post(&leave, Some(&world.alice.token), &json!({})).await.ok();
    world.act(&id, "send").await.refused(403, "M_FORBIDDEN");
    assert_eq!(world.waiting(&world.alice).await, std::slice::from_ref(&id));
    world.pass(1000).await;
    let shown = world.show(&id).await.ok();
    assert_eq!((&shown["error"]["errcode"], shown.get("event_id")), (&json!("M_FORBIDDEN"), None));
    world.act(&id, "cancel").await.ok();
    // What became of it is known for a week.
    world.pass(7 * 24 * 3_600_000 + 1).await;
    world.show(&id).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn who_is_suspended_meanwhile_says_nothing_any_more() {
    let world = World::new().await;
    let id = world.scheduled("1", 1000).await;
    world.server.state.accounts.set_suspended(&world.alice.id, true).await.unwrap();
    world.act(&id, "send").await.refused(403, "M_USER_SUSPENDED");
    world.schedule("2", json!({"delay_ms": 1000, "content": {}})).await.refused(403, "M_USER_SUSPENDED");
    world.pass(1000).await;
    assert_eq!(world.show(&id).await.ok()["error"]["errcode"], "M_USER_SUSPENDED");
}

#[tokio::test]
async fn the_limits_of_the_settings_hold_and_are_told() {
    let world = World::with(|config| {
        config.delayed_events.scheduled_max = 2;
        config.delayed_events.delay_max = Duration::from_mins(1);
    })
    .await;
    let capabilities = world.server.get("/_matrix/client/v3/capabilities", Some(&world.alice.token)).await.ok();
    let told = &capabilities["capabilities"]["org.matrix.msc4140.delayed_events"];
    assert_eq!(*told, json!({"max_delay_ms": 60_000, "max_scheduled": 2}));
    world.schedule("0", json!({"delay_ms": 60_001, "content": {}})).await.refused(403, "M_FORBIDDEN");
    world.schedule("0", json!({"delay_ms": 0, "content": {}})).await.refused(400, "M_INVALID_PARAM");
    world.schedule("0", json!({"content": {}})).await.refused(400, "M_BAD_JSON");
    world.schedule("0", json!({"delay_ms": 1, "content": []})).await.refused(400, "M_BAD_JSON");
    let first = world.scheduled("1", 9_500).await;
    world.scheduled("2", 20_000).await;
    let refused = world.schedule("3", json!({"delay_ms": 1000, "content": {}})).await;
    refused.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(refused.headers["retry-after"], "10");
    world.act(&first, "cancel").await.ok();
    world.scheduled("3", 1000).await;

    let off = World::with(|config| config.delayed_events.scheduled_max = 0).await;
    off.schedule("1", json!({"delay_ms": 1000, "content": {}})).await.refused(403, "M_FORBIDDEN");
    let closed = World::with(|config| config.delayed_events.manage_without_login = false).await;
    let id = closed.scheduled("1", 1000).await;
    closed.act(&id, "send").await.refused(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn the_task_wakes_for_what_is_scheduled_and_ends_with_the_server() {
    let world = World::new().await;
    crate::start(&world.server.state);
    let (sender, mut sent) = tokio::sync::mpsc::channel(1);
    let mut newest = world.server.state.records.newest();
    let id = world.scheduled("1", 1000).await;
    world.server.clock.advance(Duration::from_secs(1));
    world.server.state.delayed.changed.notify_one();
    let state = world.server.state.clone();
    tokio::spawn(async move {
        while state.rooms.delayed(&id).unwrap().is_some_and(|record| record.fate.at().is_none()) {
            newest.changed().await.unwrap();
        }
        sender.send(()).await.unwrap();
    });
    tokio::time::timeout(Duration::from_secs(10), sent.recv()).await.unwrap().unwrap();
    assert_eq!(world.sent(&world.alice).await.len(), 1);
}
