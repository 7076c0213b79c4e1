//! Servers whose requests to each other are calls. What a server answers is as short as the tests allow: the real
//! answers are the crate's of the server-server API.

use crate::{Call, EventKeys, Federation, Parts, PeerError, Peers};
use base::{Clock, FakeClock, Order, Random, Secret, SeededRandom, UnixMillis};
use bytes::Bytes;
use dashmap::DashMap;
use devices::Devices;
use futures::future::BoxFuture;
use records::Records;
use rooms::{CreateRoom, Draft, Preset, RoomReader, Rooms, StoredEvent};
use rules::{Checked, Pdu, SigningKey};
use ruma::room_version_rules::RoomVersionRules;
use ruma::signatures::PublicKeyMap;
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, RwLock};
use store::{Direction, MemoryEngine};

/// All servers.
#[derive(Default)]
pub(crate) struct Net {
    servers: DashMap<OwnedServerName, Server>,
    keys: RwLock<PublicKeyMap>,
    /// What was asked, as `from to path`.
    pub asked: Mutex<Vec<String>>,
    /// What decides which requests and answers are lost; nothing while all arrive.
    pub faults: Mutex<Option<SeededRandom>>,
    /// Paths that are not answered.
    pub silent: Mutex<Vec<String>>,
}

#[derive(Clone)]
pub(crate) struct Server {
    pub name: OwnedServerName,
    pub rooms: Rooms,
    pub records: Records,
    pub federation: Federation,
    pub key: Arc<SigningKey>,
    /// What has come beside events.
    pub edus: Arc<Mutex<Vec<Value>>>,
    pub clock: Arc<FakeClock>,
}

struct Line {
    net: Arc<Net>,
    from: OwnedServerName,
}

impl Peers for Line {
    fn send<'a>(&'a self, to: &'a ServerName, call: Call) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        Box::pin(async move {
            self.net.asked.lock().unwrap().push(format!("{} {to} {}", self.from, call.path_and_query));
            if self.net.silent.lock().unwrap().iter().any(|part| call.path_and_query.contains(part)) {
                return Err(PeerError::Unreachable("silent".to_owned()));
            }
            let fault = self.net.fault();
            match fault {
                Fault::Lost => return Err(PeerError::Unreachable("lost".to_owned())),
                Fault::Late => tokio::time::sleep(std::time::Duration::from_millis(3)).await,
                Fault::None | Fault::Unanswered | Fault::Doubled => {}
            }
            let server = self.net.servers.get(to).map(|server| server.clone());
            let server = server.ok_or_else(|| PeerError::Unreachable(to.to_string()))?;
            if fault == Fault::Doubled {
                drop(server.answer(&self.from, call.clone()).await);
            }
            let answer = server.answer(&self.from, call).await.map(|value| Bytes::from(value.to_string()));
            if fault == Fault::Unanswered { Err(PeerError::Unreachable("no answer".to_owned())) } else { answer }
        })
    }
}

/// What the network does to a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Lost,
    Unanswered,
    Doubled,
    Late,
}

struct AllKeys(Arc<Net>);

impl EventKeys for AllKeys {
    fn check<'a>(&'a self, events: Vec<String>, rules: &'a RoomVersionRules) -> BoxFuture<'a, Vec<Checked>> {
        let keys = self.0.keys.read().unwrap().clone();
        Box::pin(async move { events.iter().map(|event| rules::incoming::check(event, rules, &keys)).collect() })
    }
}

impl Net {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub async fn server(self: &Arc<Self>, name: &str) -> Server {
        let name = OwnedServerName::try_from(name).unwrap();
        let seed = u8::try_from(self.servers.len() + 1).unwrap();
        let key = SigningKey::generate(name.clone(), "1", Secret::new([seed; 32])).unwrap();
        self.keys.write().unwrap().extend(key.public_key_map());
        let key = Arc::new(key);
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let fake_clock = Arc::new(FakeClock::new(UnixMillis(1_700_000_000_000)));
        let clock: Arc<dyn Clock> = fake_clock.clone();
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(seed.into()));
        let rooms = Rooms::new(records.clone(), key.clone(), clock.clone(), random.clone(), rooms::Config::default());
        let federation = Federation::new(Parts {
            records: records.clone(),
            rooms: rooms.clone(),
            devices: Devices::new(records.clone(), name.clone(), clock.clone()),
            key: key.clone(),
            clock,
            random,
            peers: Arc::new(Line { net: self.clone(), from: name.clone() }),
            keys: Arc::new(AllKeys(self.clone())),
        });
        let server =
            Server { name: name.clone(), rooms, records, federation, key, edus: Arc::default(), clock: fake_clock };
        self.servers.insert(name, server.clone());
        server
    }

    fn fault(&self) -> Fault {
        let faults = self.faults.lock().unwrap();
        let Some(random) = &*faults else { return Fault::None };
        let mut byte = [0];
        random.fill(&mut byte);
        match byte[0] % 10 {
            0 | 1 => Fault::Lost,
            2 => Fault::Unanswered,
            3 => Fault::Doubled,
            4 | 5 => Fault::Late,
            _ => Fault::None,
        }
    }

    pub fn count(&self, part: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.contains(part)).count()
    }
}

fn refused(status: u16, errcode: &str) -> PeerError {
    PeerError::Refused { status, errcode: Some(errcode.to_owned()), error: errcode.to_owned(), retry_after: None }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

pub(crate) fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

impl Server {
    pub fn user(&self, name: &str) -> OwnedUserId {
        OwnedUserId::try_from(format!("@{name}:{}", self.name)).unwrap()
    }

    pub async fn room(&self, creator: &str, version: RoomVersionId) -> OwnedRoomId {
        let request = CreateRoom { version: Some(version), preset: Some(Preset::PublicChat), ..CreateRoom::default() };
        self.rooms.create(&self.user(creator), request).await.unwrap()
    }

    pub async fn say(&self, room: &RoomId, user: &str, body: &str) -> OwnedEventId {
        let content = raw(&json!({ "msgtype": "m.text", "body": body }));
        self.rooms.send(room, Draft::message(self.user(user), "m.room.message", content), None).await.unwrap()
    }

    pub async fn set(&self, room: &RoomId, user: &str, kind: &str, state_key: &str, content: &Value) -> OwnedEventId {
        let draft = Draft::state(self.user(user), kind, state_key, raw(content));
        self.rooms.send(room, draft, None).await.unwrap()
    }

    pub fn reader(&self, room: &RoomId) -> RoomReader {
        self.rooms.reader_by_id(&self.records.view(), room).unwrap().unwrap()
    }

    pub fn timeline(&self, room: &RoomId) -> Vec<Arc<StoredEvent>> {
        self.reader(room).timeline(Order(i64::MIN), Order(i64::MAX), Direction::Forward, 10_000).unwrap()
    }

    pub fn bodies(&self, room: &RoomId) -> Vec<String> {
        let events = self.timeline(room);
        let content = |event: &Arc<StoredEvent>| serde_json::from_str::<Value>(event.pdu.content().get()).unwrap();
        events.iter().filter_map(|event| content(event)["body"].as_str().map(ToOwned::to_owned)).collect()
    }

    pub fn state(&self, room: &RoomId) -> BTreeSet<String> {
        let reader = self.reader(room);
        reader.state_events(reader.state()).unwrap().iter().map(|event| event.pdu.event_id().to_string()).collect()
    }

    pub fn json(&self, room: &RoomId, event: &EventId) -> Box<RawValue> {
        let event = self.reader(room).event_by_id(event).unwrap().unwrap();
        RawValue::from_string(event.pdu.json().to_owned()).unwrap()
    }

    fn stored(&self, id: &EventId) -> Option<Pdu> {
        let view = self.records.view();
        let (_, record) = view.event(view.event_num(id).unwrap()?).unwrap()?;
        let head = view.room_head(record.room).unwrap()?;
        let rules = rules::room_rules(&head.version)?;
        Some(Pdu::parse_stored(record.event_id, record.json, &rules, false).unwrap())
    }

    fn auth_chain(&self, of: &[Pdu]) -> Vec<Pdu> {
        let mut chain: Vec<Pdu> = Vec::new();
        let mut open: Vec<OwnedEventId> = of.iter().flat_map(|pdu| pdu.auth_events().to_vec()).collect();
        while let Some(id) = open.pop() {
            if chain.iter().all(|pdu| *pdu.event_id() != id) {
                let pdu = self.stored(&id).unwrap();
                open.extend(pdu.auth_events().iter().cloned());
                chain.push(pdu);
            }
        }
        chain
    }

    fn state_before(&self, id: &EventId) -> Vec<Pdu> {
        let view = self.records.view();
        let (_, record) = view.event(view.event_num(id).unwrap().unwrap()).unwrap().unwrap();
        let entries: Vec<_> = record.state_before.entries(&view).map(|entry| entry.unwrap().event).collect();
        entries.iter().map(|num| self.stored(&view.event(*num).unwrap().unwrap().1.event_id).unwrap()).collect()
    }

    #[expect(clippy::too_many_lines, reason = "a table of short answers")]
    async fn answer(&self, from: &ServerName, call: Call) -> Result<Value, PeerError> {
        let path = call.path_and_query.split('?').next().unwrap().to_owned();
        let query: Vec<(String, String)> = call
            .path_and_query
            .split_once('?')
            .map(|(_, query)| query.split('&').map(|pair| pair.split_once('=').unwrap()).collect::<Vec<_>>())
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), decode(value)))
            .collect();
        let parts: Vec<String> = path.trim_start_matches("/_matrix/federation/").split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let body: Value = call.body.map(|body| serde_json::from_slice(&body).unwrap()).unwrap_or_default();
        let texts = |events: &[Pdu]| -> Vec<Value> {
            events.iter().map(|event| serde_json::from_str(event.json()).unwrap()).collect()
        };
        let event_id = || EventId::parse(&query.iter().find(|(name, _)| name == "event_id").unwrap().1).unwrap();
        match *parts {
            ["v1", make @ ("make_join" | "make_leave" | "make_knock"), room, user] => {
                let membership = make.trim_start_matches("make_");
                let room = OwnedRoomId::try_from(room).unwrap();
                let content = raw(&json!({ "membership": membership }));
                let user = OwnedUserId::try_from(user).unwrap();
                let draft = Draft::state(user.clone(), "m.room.member", user.as_str(), content);
                let event = self.rooms.prepare(&room, draft).await.map_err(|_| refused(403, "M_FORBIDDEN"))?;
                let event: Value = serde_json::from_str(event.json()).unwrap();
                Ok(json!({ "room_version": self.reader(&room).head().version, "event": event }))
            }
            ["v2", "send_join", room, _] => {
                let room = OwnedRoomId::try_from(room).unwrap();
                let id = self.take(from, &room, &body).await?;
                let state = self.state_before(&id);
                let chain = self.auth_chain(&state);
                Ok(json!({ "state": texts(&state), "auth_chain": texts(&chain), "origin": self.name }))
            }
            ["v2", "send_leave", room, _] => {
                let room = OwnedRoomId::try_from(room).unwrap();
                self.take(from, &room, &body).await?;
                Ok(json!({}))
            }
            ["v1", "send_knock", room, _] => {
                let room = OwnedRoomId::try_from(room).unwrap();
                self.take(from, &room, &body).await?;
                let shown = self.reader(&room).stripped_state(None).unwrap();
                let shown: Vec<Value> = shown.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
                Ok(json!({ "knock_room_state": shown }))
            }
            ["v2", "invite", ..] => {
                let version: RoomVersionId = serde_json::from_value(body["room_version"].clone()).unwrap();
                let rules = rules::room_rules(&version).unwrap();
                let mut object = serde_json::from_value(body["event"].clone()).unwrap();
                self.sign(&mut object, &rules);
                let text = serde_json::to_string(&object).unwrap();
                let checked = self.federation.0.keys.check(vec![text.clone()], &rules).await.pop();
                let Some(Checked::Whole(event)) = checked else { return Err(refused(403, "M_FORBIDDEN")) };
                let shown: Vec<Box<RawValue>> = body["invite_room_state"].as_array().unwrap().iter().map(raw).collect();
                match self.federation.invited(&version, event, &shown).await {
                    Ok(_) | Err(crate::FederationError::Room(rooms::RoomError::Outdated)) => {}
                    Err(error) => panic!("{error}"),
                }
                Ok(json!({ "event": object }))
            }
            ["v1", "get_missing_events", _] => {
                let ids = |field: &str| -> Vec<String> { serde_json::from_value(body[field].clone()).unwrap() };
                let (known, mut open) = (ids("earliest_events"), ids("latest_events"));
                let mut found: Vec<Pdu> = Vec::new();
                while let Some(id) = open.pop() {
                    let Some(event) = self.stored(&EventId::parse(&id).unwrap()) else { continue };
                    for prev in event.prev_events() {
                        if !known.contains(&prev.to_string())
                            && found.iter().all(|event| event.event_id() != prev)
                            && let Some(prev) = self.stored(prev)
                        {
                            open.push(prev.event_id().to_string());
                            found.push(prev);
                        }
                    }
                }
                found.sort_by_key(|event| std::cmp::Reverse(event.depth()));
                found.truncate(usize::try_from(body["limit"].as_u64().unwrap()).unwrap().min(10));
                Ok(json!({ "events": texts(&found) }))
            }
            ["v1", "state_ids", _] => {
                let state = self.state_before(&event_id());
                let chain = self.auth_chain(&state);
                let ids =
                    |events: &[Pdu]| -> Vec<OwnedEventId> { events.iter().map(|e| e.event_id().clone()).collect() };
                Ok(json!({ "pdu_ids": ids(&state), "auth_chain_ids": ids(&chain) }))
            }
            ["v1", "state", _] => {
                let state = self.state_before(&event_id());
                let chain = self.auth_chain(&state);
                Ok(json!({ "pdus": texts(&state), "auth_chain": texts(&chain) }))
            }
            ["v1", "send", _] => {
                let pdus: Vec<Box<RawValue>> = body["pdus"].as_array().unwrap().iter().map(raw).collect();
                self.edus.lock().unwrap().extend(body["edus"].as_array().cloned().unwrap_or_default());
                let outcomes = self.federation.receive(from, &pdus).await;
                let outcomes: serde_json::Map<String, Value> = outcomes
                    .into_iter()
                    .map(|(id, outcome)| {
                        (id.to_string(), outcome.map_or_else(|e| json!({ "error": e }), |()| json!({})))
                    })
                    .collect();
                Ok(json!({ "pdus": outcomes }))
            }
            ["v1", "event", id] => match self.stored(&EventId::parse(id).unwrap()) {
                Some(event) => Ok(json!({ "pdus": texts(&[event]) })),
                None => Err(refused(404, "M_NOT_FOUND")),
            },
            ["v1", "event_auth", _, id] => match self.stored(&EventId::parse(id).unwrap()) {
                Some(event) => Ok(json!({ "auth_chain": texts(&self.auth_chain(&[event])) })),
                None => Err(refused(404, "M_NOT_FOUND")),
            },
            ["v1", "backfill", _] => {
                let limit: usize = query.iter().find(|(name, _)| name == "limit").unwrap().1.parse().unwrap();
                let from = query.iter().filter(|(name, _)| name == "v");
                let mut open: Vec<OwnedEventId> = from.map(|(_, id)| EventId::parse(id).unwrap()).collect();
                let mut found: Vec<Pdu> = Vec::new();
                while let Some(id) = open.pop() {
                    if found.len() < limit
                        && found.iter().all(|event| *event.event_id() != id)
                        && let Some(event) = self.stored(&id)
                    {
                        open.extend(event.prev_events().iter().cloned());
                        found.push(event);
                    }
                }
                Ok(json!({ "pdus": texts(&found) }))
            }
            _ => Err(PeerError::Refused { status: 404, errcode: None, error: String::new(), retry_after: None }),
        }
    }

    fn sign(&self, object: &mut serde_json::Map<String, Value>, rules: &RoomVersionRules) {
        let canonical: ruma::CanonicalJsonObject = serde_json::from_value(Value::Object(object.clone())).unwrap();
        let mut redacted = ruma::canonical_json::redact(canonical, &rules.redaction, None).unwrap();
        redacted.remove("signatures");
        redacted.remove("unsigned");
        let text = serde_json::to_string(&redacted).unwrap();
        let signature = self.key.sign(text.as_bytes()).base64();
        object["signatures"][self.name.as_str()] = json!({ self.key.key_id(): signature });
    }

    async fn take(&self, from: &ServerName, room: &RoomId, event: &Value) -> Result<OwnedEventId, PeerError> {
        let rules = self.reader(room).rules().clone();
        let checked = self.federation.0.keys.check(vec![event.to_string()], &rules).await.pop();
        let Some(Checked::Whole(event)) = checked else { return Err(refused(400, "M_INVALID_PARAM")) };
        assert_eq!(event.sender().server_name(), from);
        let id = event.event_id().clone();
        let outcome = self.rooms.receive(room, vec![event]).await.unwrap().pop().unwrap();
        outcome.map_err(|_| refused(403, "M_FORBIDDEN"))?;
        match self.reader(room).event_by_id(&id).unwrap() {
            Some(_) => Ok(id),
            None => Err(refused(403, "M_FORBIDDEN")),
        }
    }
}
