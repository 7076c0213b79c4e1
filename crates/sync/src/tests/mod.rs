//! Syncs as their callers see them, on the memory engine.

mod costs;
mod counts;
mod devices;
mod forks;
mod histories;
mod ignored;
mod marks;
mod rooms;
mod sliding;
mod trimming;
mod waiting;

use crate::{Config, FilterChoice, StateChoice, SyncError, SyncRequest, Syncs};
use ::rooms::{CreateRoom, MembershipChange, Preset, Rooms, Txn};
use base::{FakeClock, Secret, SeededRandom, UnixMillis};
use records::Records;
use room_core::Draft;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId, owned_server_name, owned_user_id};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::MemoryEngine;

pub struct World {
    pub records: Records,
    pub rooms: Rooms,
    pub syncs: Syncs,
    pub clock: Arc<FakeClock>,
}

pub fn alice() -> OwnedUserId {
    owned_user_id!("@alice:here.example")
}

pub fn bob() -> OwnedUserId {
    owned_user_id!("@bob:here.example")
}

pub fn carol() -> OwnedUserId {
    owned_user_id!("@carol:here.example")
}

/// A request of a user's one device that does not wait.
pub fn request(user: &UserId, since: Option<&str>) -> SyncRequest {
    SyncRequest {
        user_id: user.to_owned(),
        device_id: "DEVICE".into(),
        since: since.map(|since| since.parse().unwrap()),
        filter: None,
        full_state: false,
        state: StateChoice::Before,
        timeout: Duration::ZERO,
    }
}

pub fn filtered(user: &UserId, since: Option<&str>, filter: &Value) -> SyncRequest {
    SyncRequest { filter: Some(FilterChoice::of_parameter(&filter.to_string())), ..request(user, since) }
}

impl World {
    pub async fn new() -> Self {
        Self::over(Arc::new(MemoryEngine::new())).await
    }

    /// A world whose records are in this engine.
    pub async fn over(engine: Arc<dyn store::Engine>) -> Self {
        let records = Records::open(engine).await.unwrap();
        let clock = Arc::new(FakeClock::new(UnixMillis(1_700_000_000_000)));
        let key = rules::SigningKey::generate(owned_server_name!("here.example"), "1", Secret::new([1; 32])).unwrap();
        let random = Arc::new(SeededRandom::new(1));
        let rooms = Rooms::new(records.clone(), Arc::new(key), clock.clone(), random, ::rooms::Config::default());
        let syncs = Syncs::new(records.clone(), rooms.clone(), clock.clone(), Config::default());
        Self { records, rooms, syncs, clock }
    }

    /// A room of alice's that everybody may join.
    pub async fn room(&self) -> OwnedRoomId {
        let request = CreateRoom { preset: Some(Preset::PublicChat), ..CreateRoom::default() };
        self.rooms.create(&alice(), request).await.unwrap()
    }

    /// A room of alice's with bob in it.
    pub async fn room_with_bob(&self) -> OwnedRoomId {
        let room = self.room().await;
        self.change(&room, &bob(), MembershipChange::Join).await;
        room
    }

    pub async fn change(&self, room: &RoomId, sender: &UserId, change: MembershipChange) {
        self.rooms.change_membership(room, sender, change, None, None).await.unwrap();
    }

    pub async fn say(&self, room: &RoomId, sender: &UserId, body: &str) -> OwnedEventId {
        let content = to_raw_value(&json!({"msgtype": "m.text", "body": body})).unwrap();
        self.rooms.send(room, Draft::message(sender.to_owned(), "m.room.message", content), None).await.unwrap()
    }

    pub async fn say_as(&self, room: &RoomId, sender: &UserId, device: &str, txn_id: &str) -> OwnedEventId {
        let content = to_raw_value(&json!({"body": txn_id})).unwrap();
        let txn = Txn { device_id: device.to_owned(), endpoint: "send".to_owned(), txn_id: txn_id.to_owned() };
        self.rooms.send(room, Draft::message(sender.to_owned(), "m.room.message", content), Some(txn)).await.unwrap()
    }

    pub async fn set(&self, room: &RoomId, sender: &UserId, kind: &str, content: Value) -> OwnedEventId {
        let content = to_raw_value(&content).unwrap();
        self.rooms.send(room, Draft::state(sender.to_owned(), kind, "", content), None).await.unwrap()
    }

    pub async fn store(&self, user: &UserId, room: Option<&RoomId>, kind: &str, content: &Value) {
        let mut changes = self.records.changes(&self.records.view());
        changes.put_account_data(user, room, kind, &content.to_string()).unwrap();
        self.records.commit(changes).await.unwrap();
    }

    pub async fn ask(&self, request: SyncRequest) -> Value {
        serde_json::from_slice(&self.syncs.sync(request).await.unwrap()).unwrap()
    }

    pub async fn sync(&self, user: &UserId, since: Option<&Value>) -> Value {
        self.ask(request(user, since.map(token))).await
    }
}

/// The token of a response.
pub fn token(response: &Value) -> &str {
    response["next_batch"].as_str().unwrap()
}

/// What a response says of a joined room.
pub fn joined<'a>(response: &'a Value, room: &RoomId) -> &'a Value {
    &response["rooms"]["join"][room.as_str()]
}

/// Events in short: a message's body, else the type, and the state key if there is one.
pub fn short(events: &Value) -> Vec<String> {
    let short = |event: &Value| match (event["content"]["body"].as_str(), event["state_key"].as_str()) {
        (Some(body), _) => body.to_owned(),
        (None, Some("") | None) => event["type"].as_str().unwrap().to_owned(),
        (None, Some(key)) => format!("{} {key}", event["type"].as_str().unwrap()),
    };
    events["events"].as_array().unwrap_or(&Vec::new()).iter().map(short).collect()
}

pub async fn refused(world: &World, request: SyncRequest) -> SyncError {
    world.syncs.sync(request).await.unwrap_err()
}
