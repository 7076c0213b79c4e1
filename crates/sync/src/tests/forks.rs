//! Rooms whose history parts: what resolution makes of the state reaches clients, and not what it rejects.

use super::*;
use ::rooms::{RoomReader, StoredEvent};
use base::Order;
use rules::{CheckedPdu, PduDraft, SigningKey};
use std::collections::BTreeMap;
use store::Direction;

/// A user of another server.
pub fn dora() -> OwnedUserId {
    owned_user_id!("@dora:there.example")
}

fn their_key() -> SigningKey {
    rules::SigningKey::generate(owned_server_name!("there.example"), "1", Secret::new([2; 32])).unwrap()
}

/// An event of dora's that follows one event of the room.
pub fn foreign(
    reader: &RoomReader,
    after: &StoredEvent,
    kind: &str,
    state_key: Option<&str>,
    content: &Value,
    at: UnixMillis,
) -> CheckedPdu {
    let content = to_raw_value(content).unwrap();
    let keys = rules::auth::auth_events_for(reader.rules(), &kind.into(), &dora(), state_key, &content).unwrap();
    let state = after.record.state_after;
    let auth = keys.iter().filter_map(|(kind, key)| reader.state_event(state, &kind.to_string(), key).unwrap());
    let draft = PduDraft {
        room_id: Some(reader.room_id().to_owned()),
        sender: dora(),
        kind: kind.into(),
        state_key: state_key.map(ToOwned::to_owned),
        content,
        redacts: None,
        prev_events: vec![after.pdu.event_id().clone()],
        auth_events: auth.map(|event| event.pdu.event_id().clone()).collect(),
        depth: after.pdu.depth() + 1,
        origin_server_ts: at,
        event_id: None,
        reference_hashes: BTreeMap::new(),
    };
    CheckedPdu::build(draft, reader.rules(), &their_key()).unwrap()
}

impl World {
    /// The room as it is now.
    pub fn reader(&self, room: &RoomId) -> RoomReader {
        self.rooms.reader_by_id(&self.records.view(), room).unwrap().unwrap()
    }

    /// The newest events of a room, the newest first.
    pub fn newest(&self, room: &RoomId, events_max: usize) -> Vec<Arc<StoredEvent>> {
        self.reader(room).timeline(Order(i64::MIN), Order(i64::MAX), Direction::Backward, events_max).unwrap()
    }

    /// An event of dora's after another one comes in. Answers whether the room lets it in.
    pub async fn receive(
        &self,
        room: &RoomId,
        after: &StoredEvent,
        kind: &str,
        state_key: Option<&str>,
        content: &Value,
        at: UnixMillis,
    ) -> bool {
        let event = foreign(&self.reader(room), after, kind, state_key, content, at);
        self.rooms.receive(room, vec![event]).await.unwrap().remove(0).is_ok()
    }

    /// A room of alice's with bob and dora in it, where all of them may change the topic.
    pub async fn room_with_dora(&self) -> OwnedRoomId {
        let room = self.room_with_bob().await;
        let last = self.newest(&room, 1).remove(0);
        let join = json!({"membership": "join"});
        let at = UnixMillis(last.pdu.origin_server_ts().0.into());
        assert!(self.receive(&room, &last, "m.room.member", Some(dora().as_str()), &join, at).await);
        let levels = json!({"users": {dora(): 100, bob(): 50}, "events": {"m.room.topic": 50}});
        self.set(&room, &alice(), "m.room.power_levels", levels).await;
        room
    }
}

/// The topic that a client has in the end who knew `before` and applies an answer, and the topic that is true.
fn topics(before: &str, told: &Value, is_after: bool) -> String {
    let none = Vec::new();
    let events = |name: &str| told[name]["events"].as_array().unwrap_or(&none).clone();
    let applied = if is_after { events("state_after") } else { [events("state"), events("timeline")].concat() };
    let mut topics = applied.iter().filter(|event| event["type"] == "m.room.topic");
    topics.next_back().map_or(before.to_owned(), |event| event["content"]["topic"].as_str().unwrap().to_owned())
}

async fn check(world: &World, room: &RoomId, since: &Value, before: &str, truth: &str) {
    let topic = world.reader(room);
    let topic = topic.state_event(topic.state(), "m.room.topic", "").unwrap().unwrap();
    let topic: Value = serde_json::from_str(topic.pdu.content().get()).unwrap();
    assert_eq!(topic["topic"], truth, "what it resolves to");
    for state in [StateChoice::Before, StateChoice::After] {
        for limit in [0, 1, 10] {
            let filter = json!({"room": {"timeline": {"limit": limit}}});
            let request = SyncRequest { state, ..filtered(&bob(), Some(token(since)), &filter) };
            let response = world.ask(request).await;
            let told = joined(&response, room);
            assert_eq!(topics(before, told, state == StateChoice::After), truth, "{state:?} {limit} {told}");
            let again = SyncRequest { state, ..request_of(&response, &filter) };
            assert!(world.ask(again).await.get("rooms").is_none(), "told once");
        }
    }
}

fn request_of(response: &Value, filter: &Value) -> SyncRequest {
    filtered(&bob(), Some(token(response)), filter)
}

#[tokio::test]
async fn an_event_that_loses_does_not_change_what_clients_know() {
    let world = World::new().await;
    let room = world.room_with_dora().await;
    let fork = world.newest(&room, 1).remove(0);
    world.set(&room, &bob(), "m.room.topic", json!({"topic": "ours"})).await;
    let since = world.sync(&bob(), None).await;
    let theirs = json!({"topic": "theirs"});
    assert!(world.receive(&room, &fork, "m.room.topic", Some(""), &theirs, UnixMillis(1)).await);
    check(&world, &room, &since, "ours", "ours").await;
}

#[tokio::test]
async fn an_event_that_wins_is_told() {
    let world = World::new().await;
    let room = world.room_with_dora().await;
    let fork = world.newest(&room, 1).remove(0);
    world.set(&room, &bob(), "m.room.topic", json!({"topic": "ours"})).await;
    let since = world.sync(&bob(), None).await;
    let later = UnixMillis(u64::from(fork.pdu.origin_server_ts().0) + 1_000_000);
    assert!(world.receive(&room, &fork, "m.room.topic", Some(""), &json!({"topic": "theirs"}), later).await);
    check(&world, &room, &since, "ours", "theirs").await;
    // The next event of ours follows both.
    let since = world.sync(&bob(), None).await;
    world.say(&room, &alice(), "both").await;
    check(&world, &room, &since, "theirs", "theirs").await;
}

#[tokio::test]
async fn what_an_event_undoes_beside_it_is_told() {
    let world = World::new().await;
    let room = world.room_with_dora().await;
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "first"})).await;
    let fork = world.newest(&room, 1).remove(0);
    world.set(&room, &bob(), "m.room.topic", json!({"topic": "ours"})).await;
    let since = world.sync(&bob(), None).await;
    // Bob may not change the topic any more, and on another branch may not have done it.
    let levels = json!({"users": {dora(): 100}, "events": {"m.room.topic": 50}});
    assert!(world.receive(&room, &fork, "m.room.power_levels", Some(""), &levels, UnixMillis(5)).await);
    check(&world, &room, &since, "ours", "first").await;
}
