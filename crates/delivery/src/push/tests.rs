//! Pushes as a gateway sees them: one that runs in the test, on a loopback address.

use super::{Config, Push, Sources};
use accounts::{Accounts, NewPusher, NewSession, NewUser};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Json, Router};
use base::{Secret, SeededRandom, SystemClock};
use records::{PusherKind, Records};
use remote::outgoing::{self, Outgoing};
use rooms::{CreateRoom, Draft, MembershipChange, Preset, Rooms};
use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId, owned_server_name};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::MemoryEngine;
use sync::{Marks, Syncs};
use tokio::sync::mpsc;

/// How long a push may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a gateway answers next; when there is nothing more, it accepts.
type Script = Arc<Mutex<VecDeque<(u16, Value)>>>;

struct Gateway {
    url: String,
    pushes: mpsc::UnboundedReceiver<Value>,
    script: Script,
}

impl Gateway {
    async fn new() -> Self {
        let (told, pushes) = mpsc::unbounded_channel();
        let script = Script::default();
        let answer = |State((told, script)): State<(mpsc::UnboundedSender<Value>, Script)>, Json(body): Json<Value>| {
            let next = script.lock().unwrap().pop_front().unwrap_or((200, json!({"rejected": []})));
            let _gone = told.send(body["notification"].clone());
            async move { (StatusCode::from_u16(next.0).unwrap(), Json(next.1)) }
        };
        let router = Router::new()
            .route("/_matrix/push/v1/notify", axum::routing::post(answer))
            .with_state((told, script.clone()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/_matrix/push/v1/notify", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, pushes, script }
    }

    fn will_answer(&self, status: u16, body: Value) {
        self.script.lock().unwrap().push_back((status, body));
    }

    async fn next(&mut self) -> Value {
        tokio::time::timeout(PATIENCE, self.pushes.recv()).await.expect("a push comes").unwrap()
    }

    /// The text of the next message that it is told of.
    async fn next_text(&mut self) -> String {
        loop {
            let push = self.next().await;
            if push.get("event_id").is_some() {
                return push["content"]["body"].as_str().unwrap_or_default().to_owned();
            }
        }
    }
}

struct World {
    sources: Sources,
    push: Option<Push>,
}

fn config() -> Config {
    Config { retry_first: Duration::from_millis(20), retry_max: Duration::from_millis(50), ..Config::default() }
}

impl World {
    async fn new() -> Self {
        let mut world = Self::paused().await;
        world.start(config());
        world
    }

    /// A world in which nothing is pushed yet.
    async fn paused() -> Self {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SeededRandom::new(1)));
        let name = owned_server_name!("here.example");
        let key = rules::SigningKey::generate(name.clone(), "1", Secret::new([1; 32])).unwrap();
        let rooms = Rooms::new(records.clone(), Arc::new(key), clock.clone(), random.clone(), rooms::Config::default());
        let syncs = Syncs::new(records.clone(), rooms.clone(), clock.clone(), sync::Config::default());
        let accounts =
            Accounts::open(records.clone(), name, clock.clone(), random.clone(), accounts::Config::default()).unwrap();
        let outgoing =
            outgoing::Config { allowed_ranges: vec!["127.0.0.0/8".parse().unwrap()], ..outgoing::Config::default() };
        let outgoing = Outgoing::new(&outgoing, remote::Hosts::default()).unwrap();
        let sources = Sources { records, rooms, syncs, accounts, outgoing, clock, random };
        Self { sources, push: None }
    }

    fn start(&mut self, config: Config) {
        self.push = Some(Push::start(self.sources.clone(), config));
    }

    async fn stop(&mut self) {
        let push = self.push.take().unwrap();
        push.shutdown();
        push.ended().await;
    }

    async fn user(&self, name: &str) -> (OwnedUserId, OwnedDeviceId) {
        let user_id = self.sources.accounts.user_id(name).unwrap();
        let user = NewUser { user_id: user_id.clone(), password: None, accepted_terms: false, admin: false };
        self.sources.accounts.create_user(user).await.unwrap();
        let login = self.sources.accounts.begin_session(&user_id, NewSession::default()).await.unwrap();
        (user_id, login.device_id)
    }

    /// A user with a pusher.
    async fn listener(&self, name: &str, gateway: &Gateway, extra: Value) -> OwnedUserId {
        let (user, device) = self.user(name).await;
        self.set_pusher(&user, &device, name, gateway, extra).await;
        user
    }

    async fn set_pusher(&self, user: &UserId, device: &OwnedDeviceId, key: &str, gateway: &Gateway, extra: Value) {
        let mut data = json!({"url": gateway.url});
        data.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let new = NewPusher {
            app_id: "app".to_owned(),
            pushkey: key.to_owned(),
            kind: PusherKind::Http,
            app_display_name: "App".to_owned(),
            device_display_name: "Phone".to_owned(),
            profile_tag: None,
            lang: "ru".to_owned(),
            data: data.to_string(),
            append: false,
        };
        self.sources.accounts.set_pusher(user, device, new).await.unwrap();
    }

    async fn room(&self, owner: &UserId, others: &[&UserId]) -> OwnedRoomId {
        let request =
            CreateRoom {
                preset: Some(Preset::PublicChat), name: Some("Приёмная".to_owned()), ..CreateRoom::default()
            };
        let room = self.sources.rooms.create(owner, request).await.unwrap();
        for other in others {
            self.change(&room, other, MembershipChange::Join).await;
        }
        room
    }

    async fn change(&self, room: &RoomId, user: &UserId, change: MembershipChange) {
        self.sources.rooms.change_membership(room, user, change, None, None).await.unwrap();
    }

    async fn say(&self, room: &RoomId, user: &UserId, content: Value) -> OwnedEventId {
        let draft = Draft::message(user.to_owned(), "m.room.message", to_raw_value(&content).unwrap());
        self.sources.rooms.send(room, draft, None).await.unwrap()
    }

    async fn text(&self, room: &RoomId, user: &UserId, body: &str) -> OwnedEventId {
        self.say(room, user, json!({"msgtype": "m.text", "body": body})).await
    }

    fn count(&self, which: impl Fn(&super::Figures) -> u64) -> u64 {
        which(&self.push.as_ref().unwrap().figures())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_told_of_a_message() {
    let (world, mut gateway) = (World::new().await, Gateway::new().await);
    let (alice, _) = world.user("alice").await;
    let bob = world.listener("bob", &gateway, json!({"custom": {"x": 1}})).await;
    let room = world.room(&alice, &[&bob]).await;
    let event = world.text(&room, &alice, "Привет").await;
    let push = gateway.next().await;
    let set_at = world.sources.accounts.pushers(&bob).unwrap()[0].record.set_at.0 / 1000;
    let expected = json!({
        "event_id": event,
        "room_id": room,
        "type": "m.room.message",
        "sender": alice,
        "room_name": "Приёмная",
        "content": {"msgtype": "m.text", "body": "Привет"},
        "counts": {"unread": 1},
        "prio": "high",
        "devices": [{
            "app_id": "app",
            "pushkey": "bob",
            "pushkey_ts": set_at,
            "data": {"custom": {"x": 1}},
            "tweaks": {"sound": "default"},
        }],
    });
    assert_eq!(push, expected);
    world.text(&room, &bob, "own").await;
    assert_eq!(gateway.next().await["counts"], json!({"unread": 0}), "what they answered to, they have read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_wants_ids_gets_no_content() {
    let (world, mut gateway) = (World::new().await, Gateway::new().await);
    let (alice, _) = world.user("alice").await;
    let bob = world.listener("bob", &gateway, json!({"format": "event_id_only"})).await;
    let room = world.room(&alice, &[&bob]).await;
    let event = world.text(&room, &alice, "secret").await;
    let mut push = gateway.next().await;
    let device = push["devices"][0].take();
    assert_eq!(device["data"], json!({"format": "event_id_only"}));
    assert!(device.get("tweaks").is_none());
    let expected = json!({
        "event_id": event, "room_id": room, "counts": {"unread": 1}, "prio": "high", "devices": [null],
    });
    assert_eq!(push, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_those_are_told_whom_their_rules_notify() {
    let (world, mut gateway) = (World::new().await, Gateway::new().await);
    let (alice, _) = world.user("alice").await;
    let (bob, carol) =
        (world.listener("bob", &gateway, json!({})).await, world.listener("carol", &gateway, json!({})).await);
    let room = world.room(&alice, &[&bob, &carol]).await;
    let silent =
        |rules: &mut rules::push::Ruleset| rules.set_enabled(rules::push::Kind::Underride, ".m.rule.message", false);
    world.sources.syncs.change_push_rules(&carol, silent).await.unwrap();
    world.text(&room, &alice, "for bob").await;
    world.say(&room, &alice, json!({"body": "for both", "m.mentions": {"user_ids": [carol, bob]}})).await;
    world.say(&room, &bob, json!({"msgtype": "m.notice", "body": "for nobody"})).await;
    let mut told = Vec::new();
    while told.len() < 3 {
        let push = gateway.next().await;
        if push.get("event_id").is_some() {
            let tweaks = push["devices"][0]["tweaks"].clone();
            told.push((push["devices"][0]["pushkey"].clone(), push["content"]["body"].clone(), tweaks));
        }
    }
    told.sort_by_key(|(who, what, _)| (what.to_string(), who.to_string()));
    let loud = json!({"highlight": true, "sound": "default"});
    assert_eq!(told[0], (json!("bob"), json!("for bob"), json!({})));
    assert_eq!(told[1], (json!("bob"), json!("for both"), loud.clone()));
    assert_eq!(told[2], (json!("carol"), json!("for both"), loud));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_is_told_to_whom_it_invites() {
    let (world, mut gateway) = (World::new().await, Gateway::new().await);
    let (alice, _) = world.user("alice").await;
    let bob = world.listener("bob", &gateway, json!({})).await;
    let room = world.room(&alice, &[]).await;
    world.change(&room, &alice, MembershipChange::Invite { user: bob.clone() }).await;
    let push = gateway.next().await;
    assert_eq!((&push["type"], &push["user_is_target"]), (&json!("m.room.member"), &json!(true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_fails_is_sent_again_before_those_that_follow() {
    let (world, mut gateway) = (World::new().await, Gateway::new().await);
    let (alice, _) = world.user("alice").await;
    let bob = world.listener("bob", &gateway, json!({})).await;
    let room = world.room(&alice, &[&bob]).await;
    for (status, body) in [(502, json!({})), (200, json!([])), (429, json!({}))] {
        gateway.will_answer(status, body);
    }
    for text in ["1", "2", "3"] {
        world.text(&room, &alice, text).await;
    }
    let mut told = Vec::new();
    for _ in 0..6 {
        told.push(gateway.next_text().await);
    }
    assert_eq!(told, ["1", "1", "1", "1", "2", "3"]);
    assert_eq!(world.count(|figures| figures.failed.load(Ordering::Relaxed)), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pusher_that_its_gateway_rejects_is_removed() {
    let (world, mut gateway) = (World::new().await, Gateway::new().await);
    let (alice, _) = world.user("alice").await;
    let bob = world.listener("bob", &gateway, json!({})).await;
    let (bob_again, device) = (bob.clone(), {
        let login = world.sources.accounts.begin_session(&bob, NewSession::default()).await.unwrap();
        login.device_id
    });
    world.set_pusher(&bob_again, &device, "other", &gateway, json!({})).await;
    let room = world.room(&alice, &[&bob]).await;
    gateway.will_answer(200, json!({"rejected": ["bob", "other"]}));
    world.text(&room, &alice, "1").await;
    let rejected = gateway.next().await["devices"][0]["pushkey"].clone();
    gateway.next().await;
    world.text(&room, &alice, "2").await;
    let second = gateway.next().await;
    assert_ne!(second["devices"][0]["pushkey"], rejected, "only what was asked about is rejected");
    let left = world.sources.accounts.pushers(&bob).unwrap();
    assert_eq!(
        left.iter().map(|pusher| json!(pusher.pushkey)).collect::<Vec<_>>(),
        [second["devices"][0]["pushkey"].clone()]
    );
    assert_eq!(world.count(|figures| figures.rejected.load(Ordering::Relaxed)), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_brings_the_badge_up_to_date() {
    let (world, mut gateway) = (World::new().await, Gateway::new().await);
    let (alice, _) = world.user("alice").await;
    let bob = world.listener("bob", &gateway, json!({})).await;
    let (first, second) = (world.room(&alice, &[&bob]).await, world.room(&alice, &[&bob]).await);
    world.text(&first, &alice, "1").await;
    assert_eq!(gateway.next().await["counts"]["unread"], 1);
    let last = world.text(&second, &alice, "2").await;
    assert_eq!(gateway.next().await["counts"]["unread"], 2);
    let marks = Marks { read_private: Some(last), ..Marks::default() };
    world.sources.syncs.mark(&bob, &second, &marks).await.unwrap();
    let push = gateway.next().await;
    assert_eq!(push["counts"], json!({"unread": 1}));
    assert!(push.get("event_id").is_none() && push["prio"] == "low");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_were_not_answered_are_counted() {
    let (world, mut gateway) = (World::new().await, Gateway::new().await);
    let (alice, _) = world.user("alice").await;
    let bob = world.listener("bob", &gateway, json!({})).await;
    let room = world.room(&alice, &[&bob]).await;
    let content = to_raw_value(&json!({"call_id": "c", "version": "1"})).unwrap();
    let draft = Draft::message(alice.clone(), "m.call.invite", content);
    world.sources.rooms.send(&room, draft, None).await.unwrap();
    let push = gateway.next().await;
    assert_eq!((&push["counts"], &push["prio"]), (&json!({"unread": 1, "missed_calls": 1}), &json!("high")));
    assert_eq!(push["devices"][0]["tweaks"], json!({"sound": "ring"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_before_its_turn_came_is_not_told() {
    let (mut world, mut gateway) = (World::paused().await, Gateway::new().await);
    world.start(config());
    world.stop().await;
    let (alice, _) = world.user("alice").await;
    let bob = world.listener("bob", &gateway, json!({})).await;
    let room = world.room(&alice, &[&bob]).await;
    let first = world.text(&room, &alice, "read").await;
    world.sources.syncs.mark(&bob, &room, &Marks { read: Some(first), ..Marks::default() }).await.unwrap();
    world.text(&room, &alice, "not read").await;
    world.start(config());
    assert_eq!(gateway.next_text().await, "not read");
    assert_eq!(world.count(|figures| figures.dropped.load(Ordering::Relaxed)), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_while_nothing_was_pushed_is_told_afterwards_in_order() {
    let (mut world, mut gateway) = (World::new().await, Gateway::new().await);
    let (alice, _) = world.user("alice").await;
    let bob = world.listener("bob", &gateway, json!({})).await;
    let room = world.room(&alice, &[&bob]).await;
    world.text(&room, &alice, "before").await;
    assert_eq!(gateway.next_text().await, "before");
    world.stop().await;
    world.text(&room, &alice, "meanwhile").await;
    world.start(config());
    world.text(&room, &alice, "after").await;
    let mut told = vec![gateway.next_text().await, gateway.next_text().await];
    if told.first().is_some_and(|first| first == "before") {
        // Nobody knew yet that the gateway had taken it.
        told.remove(0);
        told.push(gateway.next_text().await);
    }
    assert_eq!(told, ["meanwhile", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_does_not_answer_keeps_nobody_waiting() {
    let (world, mut gateway) = (World::new().await, Gateway::new().await);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = Gateway {
        url: format!("http://{}/_matrix/push/v1/notify", silent.local_addr().unwrap()),
        ..Gateway::new().await
    };
    let (alice, _) = world.user("alice").await;
    let mut others = Vec::new();
    for n in 0..20 {
        others.push(world.listener(&format!("silent{n}"), &silent, json!({})).await);
    }
    let bob = world.listener("zoe", &gateway, json!({})).await;
    let mut members: Vec<&UserId> = others.iter().map(AsRef::as_ref).collect();
    members.push(&bob);
    let room = world.room(&alice, &members).await;
    world.text(&room, &alice, "1").await;
    world.text(&room, &alice, "2").await;
    assert_eq!([gateway.next_text().await, gateway.next_text().await], ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_is_held_in_memory_is_read_again_when_the_gateway_is_there() {
    let (world, mut gateway) = (World::new().await, Gateway::new().await);
    let (alice, _) = world.user("alice").await;
    let bob = world.listener("bob", &gateway, json!({})).await;
    let room = world.room(&alice, &[&bob]).await;
    for _ in 0..3 {
        gateway.will_answer(503, json!({}));
    }
    for n in 0..40 {
        world.text(&room, &alice, &n.to_string()).await;
    }
    let mut told: Vec<usize> = Vec::new();
    while told.last() != Some(&39) {
        told.push(gateway.next_text().await.parse().unwrap());
    }
    told.dedup();
    assert_eq!(told, (0..40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_not_kept_for_pushes_when_there_are_none() {
    let mut world = World::paused().await;
    world.start(config());
    world.stop().await;
    assert!(world.sources.records.view().follower("push").unwrap().is_some());
    world.start(Config { enabled: false, ..config() });
    world.stop().await;
    assert!(world.sources.records.view().follower("push").unwrap().is_none());
}
