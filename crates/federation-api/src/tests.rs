//! Another server, `b.example`, asks: its requests go through the real router, signed with its key.

use crate::{State, Transactions, router};
use accounts::{Accounts, NewUser};
use axum::Router;
use axum::body::Body;
use base::{FakeClock, Secret, SeededRandom, UnixMillis};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use records::{Records, ServerKeyRecord};
use remote::{Hosts, Outgoing, XMatrix, outgoing};
use rooms::{CreateRoom, Draft, Preset, Rooms};
use rules::{KeyRing, PduDraft, SigningKey, room_rules};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomVersionId, UserId, server_name, user_id};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::MemoryEngine;
use tokio::sync::Semaphore;
use tower::ServiceExt;

const NOW: u64 = 1_700_000_000_000;
const BOB: &str = "@bob:b.example";

fn key(server: &str, seed: u8) -> SigningKey {
    SigningKey::generate(server.try_into().unwrap(), "1", Secret::new([seed; 32])).unwrap()
}

struct Agency {
    router: Router,
    state: Arc<State>,
}

struct Answer {
    status: StatusCode,
    body: Value,
}

impl Answer {
    #[track_caller]
    fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body
    }

    #[track_caller]
    fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.body["errcode"].as_str()), (status, Some(code)), "{}", self.body);
    }
}

fn alice() -> &'static UserId {
    user_id!("@alice:a.example")
}

impl Agency {
    /// The agency `a.example`, which has Alice as a user and knows the keys of `b.example` and `c.example`.
    async fn new() -> Self {
        let server_name = OwnedServerName::try_from("a.example").unwrap();
        let (clock, random) = (Arc::new(FakeClock::new(UnixMillis(NOW))), Arc::new(SeededRandom::new(1)));
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let mut accounts_config = accounts::Config::default();
        accounts_config.password.argon2_memory = base::config::ByteSize::kib(8);
        accounts_config.password.argon2_passes = 1;
        let accounts =
            Accounts::open(records.clone(), server_name.clone(), clock.clone(), random.clone(), accounts_config)
                .unwrap();
        let ring = KeyRing::from(key("a.example", 1));
        let rooms =
            Rooms::new(records.clone(), ring.current(), clock.clone(), random.clone(), rooms::Config::default());
        let devices = devices::Devices::new(records.clone(), server_name.clone(), clock.clone());
        let media = media::Media::new(
            records.clone(),
            media::Blobs::in_memory(),
            server_name.clone(),
            clock.clone(),
            random.clone(),
            media::Config::default(),
        );
        let syncs = sync::Syncs::new(records.clone(), rooms.clone(), clock.clone(), sync::Config::default());
        let (config, outgoing_config) = (remote::Config::default(), outgoing::Config::default());
        let outgoing = Outgoing::new(&outgoing_config, Hosts::default()).unwrap();
        let peers = remote::Peers::new(&config, &outgoing_config, outgoing, ring.clone()).unwrap();
        let keys = remote::Keys::new(&config, peers.clone(), ring.clone(), records.clone(), clock.clone());
        let mut changes = records.changes(&records.view());
        for (server, seed) in [("b.example", 2), ("c.example", 3)] {
            let key = key(server, seed);
            let valid_until = UnixMillis(NOW + 86_400_000);
            let record = ServerKeyRecord { key: key.public_key().into_inner(), valid_until };
            changes.put_server_key(key.server_name(), &key.key_id(), &record);
        }
        records.commit(changes).await.unwrap();
        let federation = federation::Federation::new(federation::Parts {
            records: records.clone(),
            rooms: rooms.clone(),
            devices: devices.clone(),
            key: ring.current(),
            clock: clock.clone(),
            random: random.clone(),
            peers: Arc::new(federation::NoPeers),
            keys: Arc::new(keys.clone()),
        });
        let new = NewUser { user_id: alice().to_owned(), password: None, accepted_terms: false, admin: false };
        accounts.create_user(new).await.unwrap();
        let state = Arc::new(State {
            server_name,
            records,
            rooms,
            accounts,
            devices,
            media,
            syncs,
            federation,
            peers,
            keys,
            clock,
            transaction_bytes_max: 10 << 20,
            transactions: Transactions::default(),
            large: Arc::new(Semaphore::new(2)),
        });
        Self { router: router(state.clone()), state }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, body: serde_json::from_slice(&body).unwrap_or_default() }
    }

    /// A request of a server.
    async fn ask_as(&self, server: &SigningKey, method: Method, uri: &str, body: Option<&Value>) -> Answer {
        let text = body.map(|body| rules::signed::canonical_request(&body.to_string()).unwrap());
        let signed = XMatrix::sign(server, server_name!("a.example"), method.as_str(), uri, text.as_deref());
        let request = Request::builder().method(method).uri(uri).header("authorization", signed.header());
        self.send(request.body(text.map_or_else(Body::empty, Body::from)).unwrap()).await
    }

    async fn get(&self, uri: &str) -> Answer {
        self.ask_as(&key("b.example", 2), Method::GET, uri, None).await
    }

    async fn put(&self, uri: &str, body: &Value) -> Answer {
        self.ask_as(&key("b.example", 2), Method::PUT, uri, Some(body)).await
    }

    async fn post(&self, uri: &str, body: &Value) -> Answer {
        self.ask_as(&key("b.example", 2), Method::POST, uri, Some(body)).await
    }

    async fn room(&self, preset: Preset) -> OwnedRoomId {
        let request = CreateRoom { preset: Some(preset), ..CreateRoom::default() };
        self.state.rooms.create(alice(), request).await.unwrap()
    }

    async fn say(&self, room_id: &OwnedRoomId, body: &str) -> OwnedEventId {
        let content = to_raw_value(&json!({ "msgtype": "m.text", "body": body })).unwrap();
        let draft = Draft::message(alice().to_owned(), "m.room.message", content);
        self.state.rooms.send(room_id, draft, None).await.unwrap()
    }

    async fn set(&self, room_id: &OwnedRoomId, kind: &str, content: Value) {
        let draft = Draft::state(alice().to_owned(), kind, "", to_raw_value(&content).unwrap());
        self.state.rooms.send(room_id, draft, None).await.unwrap();
    }

    /// Bob's membership by a template that the agency gives.
    async fn template(&self, what: &str, room_id: &OwnedRoomId) -> (OwnedEventId, Value) {
        let made = self.get(&format!("/_matrix/federation/v1/make_{what}/{room_id}/{BOB}?ver=11&ver=12")).await.ok();
        assert_eq!(made["event"].get("signatures"), None);
        signed(&made["event"], &RoomVersionId::V12)
    }

    /// Lets Bob into a room.
    async fn join(&self, room_id: &OwnedRoomId, query: &str) -> Value {
        let (event_id, event) = self.template("join", room_id).await;
        self.put(&format!("/_matrix/federation/v2/send_join/{room_id}/{event_id}{query}"), &event).await.ok()
    }

    /// Something that Bob says, after what is last in the room.
    fn said(&self, room_id: &OwnedRoomId, body: &str) -> (OwnedEventId, Value) {
        let view = self.state.records.view();
        let reader = self.state.rooms.reader_by_id(&view, room_id).unwrap().unwrap();
        let last = reader.events(&reader.head().extremities).unwrap();
        let auth = [("m.room.power_levels", ""), ("m.room.member", BOB)];
        let auth = auth.map(|(kind, key)| reader.state_event(reader.state(), kind, key).unwrap().unwrap());
        let template = json!({
            "type": "m.room.message",
            "room_id": room_id,
            "sender": BOB,
            "content": { "msgtype": "m.text", "body": body },
            "prev_events": last.iter().map(|event| event.pdu.event_id()).collect::<Vec<_>>(),
            "auth_events": auth.iter().map(|event| event.pdu.event_id()).collect::<Vec<_>>(),
            "depth": reader.head().depth + 1,
            "origin_server_ts": NOW,
        });
        signed(&template, &reader.head().version)
    }
}

/// A template with the hashes and signatures of `b.example`.
fn signed(template: &Value, version: &RoomVersionId) -> (OwnedEventId, Value) {
    let text = |field: &str| template[field].as_str().unwrap().to_owned();
    let events = |field: &str| serde_json::from_value(template[field].clone()).unwrap();
    let draft = PduDraft {
        room_id: Some(text("room_id").try_into().unwrap()),
        sender: text("sender").try_into().unwrap(),
        kind: text("type").into(),
        state_key: template["state_key"].as_str().map(ToOwned::to_owned),
        content: to_raw_value(&template["content"]).unwrap(),
        redacts: None,
        prev_events: events("prev_events"),
        auth_events: events("auth_events"),
        depth: template["depth"].as_u64().unwrap(),
        origin_server_ts: UnixMillis(NOW),
        event_id: None,
        reference_hashes: BTreeMap::new(),
    };
    let pdu = rules::build(draft, &room_rules(version).unwrap(), &key("b.example", 2)).unwrap();
    (pdu.event_id().clone(), serde_json::from_str(pdu.json()).unwrap())
}

/// Logs Alice in, and answers her device.
async fn user_device(a: &Agency) -> ruma::OwnedDeviceId {
    let session = accounts::NewSession { device_id: None, display_name: None, can_refresh: false, proof: None };
    a.state.accounts.begin_session(alice(), session).await.unwrap().device_id
}

fn kinds(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn only_signed_requests_are_answered() {
    let a = Agency::new().await;
    let path = "/_matrix/federation/v1/publicRooms";
    a.send(Request::get(path).body(Body::empty()).unwrap()).await.refused(401, "M_UNAUTHORIZED");
    a.ask_as(&key("b.example", 9), Method::GET, path, None).await.refused(401, "M_UNAUTHORIZED");
    a.get(path).await.ok();
    let request = Request::get("/_matrix/federation/v1/version").body(Body::empty()).unwrap();
    assert_eq!(a.send(request).await.ok()["server"]["name"], "Chancery");
}

#[tokio::test]
async fn the_agencys_keys_are_told_and_those_of_others_signed() {
    let a = Agency::new().await;
    for path in ["/_matrix/key/v2/server", "/_matrix/key/v2/server/ed25519:1"] {
        let keys = a.send(Request::get(path).body(Body::empty()).unwrap()).await.ok();
        assert_eq!(keys["server_name"], "a.example");
        assert!(keys["signatures"]["a.example"]["ed25519:1"].is_string());
    }
    let body = json!({ "server_keys": { "a.example": {}, "nowhere.invalid": {} } });
    let request = Request::post("/_matrix/key/v2/query").body(Body::from(body.to_string())).unwrap();
    let found = a.send(request).await.ok();
    assert_eq!(found["server_keys"].as_array().unwrap().len(), 1);
    let request = Request::get("/_matrix/key/v2/query/a.example").body(Body::empty()).unwrap();
    assert_eq!(a.send(request).await.ok()["server_keys"][0]["server_name"], "a.example");
}

#[tokio::test]
async fn a_user_of_another_server_joins_with_a_template() {
    let a = Agency::new().await;
    let room_id = a.room(Preset::PublicChat).await;
    let make = |query: &str| format!("/_matrix/federation/v1/make_join/{room_id}/{BOB}{query}");
    a.get(&make("?ver=1&ver=10")).await.refused(400, "M_INCOMPATIBLE_ROOM_VERSION");
    let (c, path) = (key("c.example", 3), make("?ver=12"));
    a.ask_as(&c, Method::GET, &path, None).await.refused(403, "M_FORBIDDEN");
    a.get(&format!("/_matrix/federation/v1/make_join/!no:a.example/{BOB}?ver=12")).await.refused(404, "M_NOT_FOUND");
    let answer = a.join(&room_id, "").await;
    let state = kinds(&answer["state"]);
    assert!(state.contains(&"m.room.create") && state.contains(&"m.room.member"), "{state:?}");
    assert!(!answer["auth_chain"].as_array().unwrap().is_empty());
    assert_eq!(answer["event"]["sender"], BOB);
    let view = a.state.records.view();
    let reader = a.state.rooms.reader_by_id(&view, &room_id).unwrap().unwrap();
    assert!(reader.is_joined(<&UserId>::try_from(BOB).unwrap()).unwrap());
}

#[tokio::test]
async fn a_join_that_omits_members_names_the_servers() {
    let a = Agency::new().await;
    let room_id = a.room(Preset::PublicChat).await;
    a.set(&room_id, "m.room.name", json!({ "name": "Room" })).await;
    let answer = a.join(&room_id, "?omit_members=true").await;
    assert_eq!(answer["members_omitted"], true);
    assert_eq!(answer["servers_in_room"], json!(["a.example"]));
    assert!(!kinds(&answer["state"]).contains(&"m.room.member"));
    assert!(kinds(&answer["auth_chain"]).contains(&"m.room.member"), "what allows the state comes along");
}

#[tokio::test]
async fn memberships_that_are_not_what_they_should_be_are_refused() {
    let a = Agency::new().await;
    let room_id = a.room(Preset::PublicChat).await;
    let (event_id, event) = a.template("join", &room_id).await;
    let send = |event_id: &str| format!("/_matrix/federation/v2/send_join/{room_id}/{event_id}");
    a.put(&send("$other"), &event).await.refused(400, "M_INVALID_PARAM");
    let leave = format!("/_matrix/federation/v2/send_leave/{room_id}/{event_id}");
    a.put(&leave, &event).await.refused(400, "M_INVALID_PARAM");
    let mut forged = event.clone();
    forged["signatures"]["b.example"]["ed25519:1"] = json!("A".repeat(86));
    a.put(&send(event_id.as_str()), &forged).await.refused(403, "M_FORBIDDEN");
    let mut unsigned = event.clone();
    unsigned.as_object_mut().unwrap().remove("signatures");
    a.put(&send(event_id.as_str()), &unsigned).await.refused(403, "M_FORBIDDEN");
    let c = key("c.example", 3);
    a.ask_as(&c, Method::PUT, &send(event_id.as_str()), Some(&event)).await.refused(403, "M_FORBIDDEN");
    a.put(&send(event_id.as_str()), &event).await.ok();
}

#[tokio::test]
async fn only_servers_in_a_room_read_its_history() {
    let a = Agency::new().await;
    let room_id = a.room(Preset::PublicChat).await;
    let said = a.say(&room_id, "hello").await;
    let paths = [
        format!("/_matrix/federation/v1/event/{said}"),
        format!("/_matrix/federation/v1/state/{room_id}?event_id={said}"),
        format!("/_matrix/federation/v1/state_ids/{room_id}?event_id={said}"),
        format!("/_matrix/federation/v1/event_auth/{room_id}/{said}"),
        format!("/_matrix/federation/v1/backfill/{room_id}?v={said}&limit=5"),
        format!("/_matrix/federation/v1/timestamp_to_event/{room_id}?ts={NOW}&dir=f"),
    ];
    for path in &paths {
        a.get(path).await.refused(403, "M_FORBIDDEN");
    }
    a.join(&room_id, "").await;
    let mut answers = Vec::new();
    for path in &paths {
        answers.push(a.get(path).await.ok());
    }
    assert_eq!(answers[0]["pdus"][0]["content"]["body"], "hello");
    assert!(kinds(&answers[1]["pdus"]).contains(&"m.room.power_levels"));
    let (pdus, ids) = (answers[1]["pdus"].as_array().unwrap(), answers[2]["pdu_ids"].as_array().unwrap());
    assert_eq!(pdus.len(), ids.len());
    assert!(kinds(&answers[3]["auth_chain"]).contains(&"m.room.member"));
    assert_eq!(answers[4]["pdus"].as_array().unwrap().len(), 5);
    assert_eq!(answers[4]["pdus"][0]["content"]["body"], "hello");
    assert!(answers[5]["event_id"].is_string());
    a.get(&format!("/_matrix/federation/v1/backfill/{room_id}?v={said}")).await.refused(400, "M_MISSING_PARAM");
}

#[tokio::test]
async fn an_event_of_another_room_is_not_told() {
    let a = Agency::new().await;
    let (open, closed) = (a.room(Preset::PublicChat).await, a.room(Preset::PrivateChat).await);
    let secret = a.say(&closed, "secret").await;
    a.join(&open, "").await;
    for path in [
        format!("/_matrix/federation/v1/state/{open}?event_id={secret}"),
        format!("/_matrix/federation/v1/state_ids/{open}?event_id={secret}"),
        format!("/_matrix/federation/v1/event_auth/{open}/{secret}"),
    ] {
        a.get(&path).await.refused(404, "M_NOT_FOUND");
    }
    a.get(&format!("/_matrix/federation/v1/event/{secret}")).await.refused(403, "M_FORBIDDEN");
    let found = a.get(&format!("/_matrix/federation/v1/backfill/{open}?v={secret}&limit=5")).await.ok();
    assert_eq!(found["pdus"], json!([]));
    let body = json!({ "earliest_events": [], "latest_events": [secret] });
    let found = a.post(&format!("/_matrix/federation/v1/get_missing_events/{open}"), &body).await.ok();
    assert_eq!(found["events"], json!([]));
}

#[tokio::test]
async fn what_was_said_before_a_server_came_may_be_hidden_from_it() {
    let a = Agency::new().await;
    let room_id = a.room(Preset::PublicChat).await;
    a.set(&room_id, "m.room.history_visibility", json!({ "history_visibility": "joined" })).await;
    let before = a.say(&room_id, "before").await;
    a.join(&room_id, "").await;
    let after = a.say(&room_id, "after").await;
    let hidden = a.get(&format!("/_matrix/federation/v1/event/{before}")).await.ok();
    assert_eq!(hidden["pdus"][0]["content"], json!({}), "redacted, so that the history has no hole");
    let shown = a.get(&format!("/_matrix/federation/v1/event/{after}")).await.ok();
    assert_eq!(shown["pdus"][0]["content"]["body"], "after");
    let history = a.get(&format!("/_matrix/federation/v1/backfill/{room_id}?v={after}&limit=3")).await.ok();
    assert_eq!(history["pdus"][0]["content"]["body"], "after");
    assert_eq!(history["pdus"][2]["content"], json!({}));
}

#[tokio::test]
async fn events_between_others_are_told_oldest_first() {
    let a = Agency::new().await;
    let room_id = a.room(Preset::PublicChat).await;
    a.join(&room_id, "").await;
    let mut said = Vec::new();
    for body in ["1", "2", "3", "4", "5"] {
        said.push(a.say(&room_id, body).await);
    }
    let body = json!({ "earliest_events": [said[0]], "latest_events": [said[4]], "limit": 10 });
    let path = format!("/_matrix/federation/v1/get_missing_events/{room_id}");
    let found = a.post(&path, &body).await.ok();
    let bodies: Vec<&str> =
        found["events"].as_array().unwrap().iter().map(|event| event["content"]["body"].as_str().unwrap()).collect();
    assert_eq!(bodies, ["2", "3", "4"]);
    let body = json!({ "earliest_events": [said[0]], "latest_events": [said[4]], "limit": 1 });
    assert_eq!(a.post(&path, &body).await.ok()["events"][0]["content"]["body"], "4");
}

#[tokio::test]
async fn a_transaction_is_taken_once_and_answered_by_event() {
    let a = Agency::new().await;
    let room_id = a.room(Preset::PublicChat).await;
    a.join(&room_id, "").await;
    let (event_id, event) = a.said(&room_id, "from b");
    let (forged_id, mut forged) = a.said(&room_id, "forged");
    forged["signatures"]["b.example"]["ed25519:1"] = json!("A".repeat(86));
    let body = json!({
        "origin": "b.example",
        "origin_server_ts": NOW,
        "pdus": [event, forged, { "no": "event" }],
        "edus": [{ "edu_type": "m.typing", "content": { "room_id": room_id, "user_id": BOB, "typing": true } }, {}, 7],
    });
    let first = a.put("/_matrix/federation/v1/send/t1", &body).await.ok();
    assert_eq!(first["pdus"][event_id.as_str()], json!({}));
    assert!(first["pdus"][forged_id.as_str()]["error"].is_string());
    assert_eq!(first["pdus"].as_object().unwrap().len(), 2);
    assert_eq!(a.put("/_matrix/federation/v1/send/t1", &body).await.ok(), first);
    let told = a.get(&format!("/_matrix/federation/v1/event/{event_id}")).await.ok();
    assert_eq!(told["pdus"][0]["content"]["body"], "from b");
    let many = json!({ "pdus": vec![json!({}); 51] });
    a.put("/_matrix/federation/v1/send/t2", &many).await.refused(400, "M_INVALID_PARAM");
    let many = json!({ "pdus": [], "edus": vec![json!({}); 101] });
    a.put("/_matrix/federation/v1/send/t3", &many).await.refused(400, "M_INVALID_PARAM");
    a.put("/_matrix/federation/v1/send/t4", &json!({})).await.refused(400, "M_BAD_JSON");
}

#[tokio::test]
async fn a_server_that_a_room_does_not_admit_gets_and_gives_nothing() {
    let a = Agency::new().await;
    let room_id = a.room(Preset::PublicChat).await;
    a.join(&room_id, "").await;
    let (event_id, event) = a.said(&room_id, "from b");
    a.set(&room_id, "m.room.server_acl", json!({ "allow": ["*"], "deny": ["B.example"] })).await;
    let answer = a.put("/_matrix/federation/v1/send/t1", &json!({ "pdus": [event] })).await.ok();
    assert!(answer["pdus"][event_id.as_str()]["error"].is_string(), "{answer}");
    let path = format!("/_matrix/federation/v1/make_join/{room_id}/{BOB}?ver=12");
    a.get(&path).await.refused(403, "M_FORBIDDEN");
    let said = a.say(&room_id, "hello").await;
    a.get(&format!("/_matrix/federation/v1/event/{said}")).await.refused(403, "M_FORBIDDEN");
    a.get(&format!("/_matrix/federation/v1/backfill/{room_id}?v={said}&limit=1")).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_message_to_devices_comes_once() {
    let a = Agency::new().await;
    let session = user_device(&a).await;
    let content = json!({
        "sender": BOB,
        "type": "m.new",
        "message_id": "m1",
        "messages": { alice().as_str(): { session.as_str(): { "x": 1 } } },
    });
    let foreign =
        json!({ "sender": "@x:c.example", "type": "m.new", "message_id": "m2", "messages": content["messages"] });
    let edus = json!([
        { "edu_type": "m.direct_to_device", "content": content },
        { "edu_type": "m.direct_to_device", "content": foreign },
    ]);
    for txn in ["t1", "t2"] {
        let body = json!({ "pdus": [], "edus": edus });
        a.put(&format!("/_matrix/federation/v1/send/{txn}"), &body).await.ok();
    }
    let view = a.state.records.view();
    let rows = view.to_device(alice(), session.as_str().into(), base::Stamp(0), view.stamp(), 100).unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn a_user_is_invited_and_the_invitation_signed() {
    let a = Agency::new().await;
    let template = json!({
        "type": "m.room.member",
        "room_id": "!r:b.example",
        "sender": BOB,
        "state_key": alice(),
        "content": { "membership": "invite" },
        "prev_events": [],
        "auth_events": [],
        "depth": 5,
    });
    let (event_id, event) = signed(&template, &RoomVersionId::V10);
    let path = format!("/_matrix/federation/v2/invite/!r:b.example/{event_id}");
    let shown = json!([{ "type": "m.room.name", "state_key": "", "sender": BOB, "content": { "name": "B" } }]);
    let body = |event: &Value| json!({ "room_version": "10", "event": event, "invite_room_state": shown });
    let mut forged = event.clone();
    forged["signatures"]["b.example"]["ed25519:1"] = json!("A".repeat(86));
    a.put(&path, &body(&forged)).await.refused(403, "M_FORBIDDEN");
    let unknown = json!({ "room_version": "99", "event": event });
    a.put(&path, &unknown).await.refused(400, "M_INCOMPATIBLE_ROOM_VERSION");
    let c = key("c.example", 3);
    a.ask_as(&c, Method::PUT, &path, Some(&body(&event))).await.refused(403, "M_FORBIDDEN");
    let answer = a.put(&path, &body(&event)).await.ok();
    assert!(answer["event"]["signatures"]["a.example"]["ed25519:1"].is_string());
    assert!(answer["event"]["signatures"]["b.example"]["ed25519:1"].is_string());
    assert!(a.state.records.view().has_memberships(alice()).unwrap());
    let mut other = template.clone();
    other["state_key"] = json!("@nobody:a.example");
    let (event_id, event) = signed(&other, &RoomVersionId::V10);
    let path = format!("/_matrix/federation/v2/invite/!r:b.example/{event_id}");
    a.put(&path, &body(&event)).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_user_of_another_server_knocks_and_leaves() {
    let a = Agency::new().await;
    let room_id = a.room(Preset::PrivateChat).await;
    a.set(&room_id, "m.room.join_rules", json!({ "join_rule": "knock" })).await;
    let path = format!("/_matrix/federation/v1/make_join/{room_id}/{BOB}?ver=12");
    a.get(&path).await.refused(403, "M_FORBIDDEN");
    let (event_id, event) = a.template("knock", &room_id).await;
    let answer = a.put(&format!("/_matrix/federation/v1/send_knock/{room_id}/{event_id}"), &event).await.ok();
    assert!(kinds(&answer["knock_room_state"]).contains(&"m.room.create"));
    let made = a.get(&format!("/_matrix/federation/v1/make_leave/{room_id}/{BOB}")).await.ok();
    let (event_id, event) = signed(&made["event"], &RoomVersionId::V12);
    a.put(&format!("/_matrix/federation/v2/send_leave/{room_id}/{event_id}"), &event).await.ok();
    let path = format!("/_matrix/federation/v1/make_leave/{room_id}/{BOB}");
    assert!(a.get(&path).await.status.is_client_error() || a.get(&path).await.status.is_success());
}

#[tokio::test]
async fn profiles_aliases_and_published_rooms_are_told() {
    let a = Agency::new().await;
    a.state.accounts.set_profile_field(alice(), "displayname", Some("\"Alice\"")).await.unwrap();
    let profile = |query: &str| format!("/_matrix/federation/v1/query/profile?{query}");
    assert_eq!(a.get(&profile("user_id=@alice:a.example")).await.ok(), json!({ "displayname": "Alice" }));
    assert_eq!(a.get(&profile("user_id=@alice:a.example&field=avatar_url")).await.ok(), json!({}));
    a.get(&profile("user_id=@no:a.example")).await.refused(404, "M_NOT_FOUND");
    a.get(&profile("user_id=@no:c.example")).await.refused(400, "M_INVALID_PARAM");
    a.get(&profile("user_id=alice")).await.refused(400, "M_INVALID_PARAM");
    let room_id = a.room(Preset::PublicChat).await;
    let alias = ruma::room_alias_id!("#r:a.example");
    a.state.rooms.put_alias(alias, &room_id, alice()).await.unwrap();
    let found = a.get("/_matrix/federation/v1/query/directory?room_alias=%23r:a.example").await.ok();
    assert_eq!(found, json!({ "room_id": room_id, "servers": ["a.example"] }));
    a.get("/_matrix/federation/v1/query/directory?room_alias=%23no:a.example").await.refused(404, "M_NOT_FOUND");
    a.state.rooms.set_published(&room_id, true).await.unwrap();
    let listed = a.get("/_matrix/federation/v1/publicRooms?limit=1").await.ok();
    assert_eq!(listed["chunk"][0]["room_id"], room_id.as_str());
    let search = json!({ "filter": { "generic_search_term": "nothing" } });
    assert_eq!(a.post("/_matrix/federation/v1/publicRooms", &search).await.ok()["chunk"], json!([]));
    let tree = a.get(&format!("/_matrix/federation/v1/hierarchy/{room_id}")).await.ok();
    assert_eq!(tree["room"]["room_id"], room_id.as_str());
    let closed = a.room(Preset::PrivateChat).await;
    a.get(&format!("/_matrix/federation/v1/hierarchy/{closed}")).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn devices_and_keys_of_users_are_told() {
    let a = Agency::new().await;
    let device = user_device(&a).await;
    let answer = a.get("/_matrix/federation/v1/user/devices/@alice:a.example").await.ok();
    assert_eq!((answer["user_id"].as_str(), &answer["devices"]), (Some(alice().as_str()), &json!([])));
    a.get("/_matrix/federation/v1/user/devices/@no:a.example").await.refused(404, "M_NOT_FOUND");
    let query = json!({ "device_keys": { alice().as_str(): [], BOB: [] } });
    let answer = a.post("/_matrix/federation/v1/user/keys/query", &query).await.ok();
    assert_eq!(answer["device_keys"], json!({ alice().as_str(): {} }));
    let claim = json!({ "one_time_keys": { alice().as_str(): { device.as_str(): "signed_curve25519" } } });
    let answer = a.post("/_matrix/federation/v1/user/keys/claim", &claim).await.ok();
    assert_eq!(answer["one_time_keys"], json!({}));
}

#[tokio::test]
async fn a_file_comes_in_two_parts() {
    let a = Agency::new().await;
    let file = media::NewFile { content_type: Some("text/plain".to_owned()), ..media::NewFile::default() };
    let body = futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"hello"))]);
    let mxc = a.state.media.upload(alice(), file, body).await.unwrap();
    let uri = format!("/_matrix/federation/v1/media/download/{}", mxc.id());
    let signed = XMatrix::sign(&key("b.example", 2), server_name!("a.example"), "GET", &uri, None);
    let request = Request::get(&uri).header("authorization", signed.header()).body(Body::empty()).unwrap();
    let response = a.router.clone().oneshot(request).await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("multipart/mixed; boundary="), "{kind}");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains("Content-Type: application/json\r\n\r\n{}\r\n--"), "{text}");
    assert!(text.contains("Content-Type: text/plain\r\n") && text.contains("\r\n\r\nhello\r\n--"), "{text}");
    a.get("/_matrix/federation/v1/media/download/none").await.refused(404, "M_NOT_FOUND");
    let path = format!("/_matrix/federation/v1/media/thumbnail/{}", mxc.id());
    a.get(&path).await.refused(400, "M_MISSING_PARAM");
}
