//! The rooms as their callers see them, on the memory engine.

mod departures;
mod early_redactions;

use super::*;
use crate::reader::membership_of;
use crate::work::{Loaded, Work};
use base::Order;
use base::{FakeClock, Secret, SeededRandom, UnixMillis};
use records::RoomHead;
use rules::client_event::Format;
use rules::{Pdu, PduDraft};
use ruma::OwnedRoomId;
use ruma::events::room::member::MembershipState;
use ruma::{OwnedUserId, owned_server_name, owned_user_id, user_id};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use store::CommitError;
use store::{Direction, MemoryEngine};

pub(crate) fn key(server: OwnedServerName, seed: u8) -> SigningKey {
    SigningKey::generate(server, "1", Secret::new([seed; 32])).unwrap()
}

pub(crate) async fn rooms_and_clock() -> (Rooms, Arc<FakeClock>) {
    let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
    let clock = Arc::new(FakeClock::new(UnixMillis(1_700_000_000_000)));
    let key = Arc::new(key(owned_server_name!("here.example"), 1));
    (Rooms::new(records, key, clock.clone(), Arc::new(SeededRandom::new(1)), Config::default()), clock)
}

pub(crate) async fn rooms() -> Rooms {
    rooms_and_clock().await.0
}

pub(crate) fn alice() -> OwnedUserId {
    owned_user_id!("@alice:here.example")
}

pub(crate) fn bob() -> OwnedUserId {
    owned_user_id!("@bob:here.example")
}

pub(crate) fn raw(value: &serde_json::Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

pub(crate) fn message(sender: OwnedUserId, body: &str) -> Draft {
    Draft::message(sender, "m.room.message", raw(&json!({"msgtype": "m.text", "body": body})))
}

pub(crate) async fn room_of(rooms: &Rooms, version: RoomVersionId, preset: Preset) -> OwnedRoomId {
    let request = CreateRoom { version: Some(version), preset: Some(preset), ..CreateRoom::default() };
    rooms.create(&alice(), request).await.unwrap()
}

pub(crate) async fn change(
    rooms: &Rooms,
    room: &RoomId,
    sender: &UserId,
    change: MembershipChange,
) -> Result<(), RoomError> {
    rooms.change_membership(room, sender, change, None, None).await.map(drop)
}

pub(crate) fn reader(rooms: &Rooms, room: &RoomId) -> RoomReader {
    rooms.reader_by_id(&rooms.records().view(), room).unwrap().unwrap()
}

pub(crate) fn bodies(events: &[Arc<StoredEvent>]) -> Vec<String> {
    let content = |event: &Arc<StoredEvent>| serde_json::from_str(event.pdu.content().get()).ok();
    let body = |content: serde_json::Value| content.get("body").and_then(|body| body.as_str().map(ToOwned::to_owned));
    events.iter().filter_map(content).filter_map(body).collect()
}

pub(crate) fn whole_timeline(reader: &RoomReader) -> Vec<Arc<StoredEvent>> {
    reader.timeline(Order(i64::MIN), Order(i64::MAX), Direction::Forward, 10_000).unwrap()
}

#[tokio::test]
async fn a_room_of_every_version_takes_members_messages_and_redactions() {
    for version in rules::SUPPORTED {
        let rooms = rooms().await;
        let room = room_of(&rooms, version.clone(), Preset::PrivateChat).await;
        assert_eq!(room.server_name().is_none(), version == RoomVersionId::V12, "{version}");
        change(&rooms, &room, &alice(), MembershipChange::Invite { user: bob() }).await.unwrap();
        change(&rooms, &room, &bob(), MembershipChange::Join).await.unwrap();
        let sent = rooms.send(&room, message(bob(), "hello"), None).await.unwrap();
        let content = raw(&json!({"redacts": sent}));
        let redaction = Draft { redacts: Some(sent.clone()), ..Draft::message(alice(), "m.room.redaction", content) };
        let redaction = rooms.send(&room, redaction, None).await.unwrap();

        let reader = reader(&rooms, &room);
        assert_eq!((reader.head().joined, reader.head().invited), (2, 0));
        let event = reader.event_by_id(&sent).unwrap().unwrap();
        assert_eq!(event.pdu.content().get(), "{}", "{version}");
        let recipient = Recipient { user_id: &alice(), device_id: None, now: UnixMillis(1_700_000_000_500) };
        let client = reader.client_event(&event, recipient, None, Format::WithRoomId).unwrap();
        let client: serde_json::Value = serde_json::from_str(client.get()).unwrap();
        assert_eq!(client["unsigned"]["redacted_because"]["event_id"], json!(redaction));
        assert_eq!(client["unsigned"]["age"], json!(500));
        assert_eq!(client["room_id"], json!(room));
    }
}

#[tokio::test]
async fn a_repeated_transaction_answers_the_first_event() {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V12, Preset::PrivateChat).await;
    let txn = |id: &str| Some(Txn { device_id: "D".to_owned(), endpoint: "send".to_owned(), txn_id: id.to_owned() });
    let first = rooms.send(&room, message(alice(), "1"), txn("a")).await.unwrap();
    let (again, other) = tokio::join!(
        rooms.send(&room, message(alice(), "2"), txn("a")),
        rooms.send(&room, message(alice(), "3"), txn("b"))
    );
    assert_eq!(again.unwrap(), first);
    assert_ne!(other.unwrap(), first);
    assert_eq!(bodies(&whole_timeline(&reader(&rooms, &room))), ["1", "3"]);
}

#[tokio::test]
async fn a_kicked_user_cannot_send() {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V11, Preset::PublicChat).await;
    change(&rooms, &room, &bob(), MembershipChange::Join).await.unwrap();
    rooms.send(&room, message(bob(), "in"), None).await.unwrap();
    change(&rooms, &room, &alice(), MembershipChange::Kick { user: bob() }).await.unwrap();
    let refused = rooms.send(&room, message(bob(), "out"), None).await;
    assert!(matches!(refused, Err(RoomError::Forbidden(_))), "{refused:?}");
    assert_eq!(bodies(&whole_timeline(&reader(&rooms, &room))), ["in"]);
}

#[tokio::test]
async fn setting_the_same_state_again_makes_no_event() {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V12, Preset::PrivateChat).await;
    let topic = |text: &str| Draft::state(alice(), "m.room.topic", "", raw(&json!({"topic": text})));
    let first = rooms.send(&room, topic("a"), None).await.unwrap();
    assert_eq!(rooms.send(&room, topic("a"), None).await.unwrap(), first);
    let second = rooms.send(&room, topic("b"), None).await.unwrap();
    assert_ne!(second, first);
    let reader = reader(&rooms, &room);
    let event = reader.event_by_id(&second).unwrap().unwrap();
    let replaced = reader.event(event.record.replaces.unwrap()).unwrap().unwrap();
    assert_eq!(*replaced.pdu.event_id(), first);
}

#[tokio::test]
async fn many_senders_at_once_are_all_in_the_timeline_and_in_one_line() {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
    let before = whole_timeline(&reader(&rooms, &room)).len();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let (rooms, room) = (rooms.clone(), room.clone());
        tasks.spawn(async move { rooms.send(&room, message(alice(), &number.to_string()), None).await.unwrap() });
    }
    let sent = tasks.join_all().await;
    let reader = reader(&rooms, &room);
    let timeline = whole_timeline(&reader);
    assert_eq!(timeline.len(), before + sent.len());
    for pair in timeline.windows(2) {
        assert_eq!(pair[1].pdu.prev_events(), [pair[0].pdu.event_id().clone()]);
        assert!(pair[0].order < pair[1].order);
    }
    assert_eq!(reader.head().extremities.len(), 1);
}

#[tokio::test]
async fn a_forgotten_room_is_marked_and_only_after_leaving() {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
    change(&rooms, &room, &bob(), MembershipChange::Join).await.unwrap();
    assert!(matches!(rooms.forget(&room, &bob()).await, Err(RoomError::InvalidParam(_))));
    change(&rooms, &room, &bob(), MembershipChange::Leave).await.unwrap();
    rooms.forget(&room, &bob()).await.unwrap();
    let (_, record) = reader(&rooms, &room).membership(&bob()).unwrap().unwrap();
    assert!(record.forgotten);
    change(&rooms, &room, &bob(), MembershipChange::Join).await.unwrap();
    let (_, record) = reader(&rooms, &room).membership(&bob()).unwrap().unwrap();
    assert!(!record.forgotten);
}

#[tokio::test]
async fn members_of_another_room_enter_a_restricted_one() {
    let rooms = rooms().await;
    let lobby = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
    let room = room_of(&rooms, RoomVersionId::V12, Preset::PrivateChat).await;
    let allow = json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": lobby}]});
    rooms.send(&room, Draft::state(alice(), "m.room.join_rules", "", raw(&allow)), None).await.unwrap();
    let refused = change(&rooms, &room, &bob(), MembershipChange::Join).await;
    assert!(matches!(refused, Err(RoomError::Forbidden(_))), "{refused:?}");
    change(&rooms, &lobby, &bob(), MembershipChange::Join).await.unwrap();
    change(&rooms, &room, &bob(), MembershipChange::Join).await.unwrap();
    assert!(reader(&rooms, &room).is_joined(&bob()).unwrap());
}

/// What those who left may see of a room with this visibility: bodies of messages around their stay.
async fn seen_by_bob(visibility: &str) -> Vec<String> {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V12, Preset::PrivateChat).await;
    let content = raw(&json!({"history_visibility": visibility}));
    rooms.send(&room, Draft::state(alice(), "m.room.history_visibility", "", content), None).await.unwrap();
    rooms.send(&room, message(alice(), "before"), None).await.unwrap();
    change(&rooms, &room, &alice(), MembershipChange::Invite { user: bob() }).await.unwrap();
    rooms.send(&room, message(alice(), "invited"), None).await.unwrap();
    change(&rooms, &room, &bob(), MembershipChange::Join).await.unwrap();
    rooms.send(&room, message(alice(), "joined"), None).await.unwrap();
    change(&rooms, &room, &bob(), MembershipChange::Leave).await.unwrap();
    rooms.send(&room, message(alice(), "left"), None).await.unwrap();
    let reader = reader(&rooms, &room);
    let timeline = whole_timeline(&reader);
    let visible = reader.visible(&bob(), &timeline).unwrap();
    let seen: Vec<_> = timeline.into_iter().zip(visible).filter_map(|(event, sees)| sees.map(|_| event)).collect();
    bodies(&seen)
}

#[tokio::test]
async fn who_left_sees_what_the_visibility_of_history_grants() {
    assert_eq!(seen_by_bob("joined").await, ["joined"]);
    assert_eq!(seen_by_bob("invited").await, ["invited", "joined"]);
    assert_eq!(seen_by_bob("shared").await, ["before", "invited", "joined"]);
    assert_eq!(seen_by_bob("world_readable").await, ["before", "invited", "joined", "left"]);
}

/// An event of a user of another server that follows these events of the room.
fn foreign(
    reader: &RoomReader,
    after: &StoredEvent,
    kind: &str,
    state_key: Option<&str>,
    content: &serde_json::Value,
    at: u64,
) -> CheckedPdu {
    let signing = key(owned_server_name!("there.example"), 2);
    event_of(&signing, user_id!("@carol:there.example"), reader, after, (kind, state_key), content, at)
}

/// An event of any user that follows an event of the room.
pub(crate) fn event_of(
    signing: &SigningKey,
    sender: &UserId,
    reader: &RoomReader,
    after: &StoredEvent,
    (kind, state_key): (&str, Option<&str>),
    content: &serde_json::Value,
    at: u64,
) -> CheckedPdu {
    let content = raw(content);
    let keys = rules::auth::auth_events_for(reader.rules(), &kind.into(), sender, state_key, &content).unwrap();
    let state = after.record.state_after;
    let auth = keys.iter().filter_map(|(kind, key)| reader.state_event(state, &kind.to_string(), key).unwrap());
    let draft = PduDraft {
        room_id: Some(reader.room_id().to_owned()),
        sender: sender.to_owned(),
        kind: kind.into(),
        state_key: state_key.map(ToOwned::to_owned),
        content,
        redacts: None,
        prev_events: vec![after.pdu.event_id().clone()],
        auth_events: auth.map(|event| event.pdu.event_id().clone()).collect(),
        depth: after.pdu.depth() + 1,
        origin_server_ts: UnixMillis(at),
        event_id: None,
        reference_hashes: std::collections::BTreeMap::new(),
    };
    CheckedPdu::build(draft, reader.rules(), signing).unwrap()
}

pub(crate) fn last(reader: &RoomReader) -> Arc<StoredEvent> {
    whole_timeline(reader).pop().unwrap()
}

async fn room_with_carol(rooms: &Rooms) -> OwnedRoomId {
    let room = room_of(rooms, RoomVersionId::V11, Preset::PublicChat).await;
    let reader = reader(rooms, &room);
    let join = json!({"membership": "join"});
    let join = foreign(&reader, &last(&reader), "m.room.member", Some("@carol:there.example"), &join, 1);
    let received = rooms.receive(&room, vec![join]).await.unwrap();
    assert!(received[0].is_ok(), "{received:?}");
    room
}

#[tokio::test]
async fn events_of_another_server_on_a_fork_are_merged_and_followed() {
    let rooms = rooms().await;
    let room = room_with_carol(&rooms).await;
    let fork = last(&reader(&rooms, &room));
    rooms.send(&room, message(alice(), "ours"), None).await.unwrap();
    let at_fork = reader(&rooms, &room);
    let theirs = foreign(&at_fork, &fork, "m.room.message", None, &json!({"body": "theirs"}), 2);
    rooms.receive(&room, vec![theirs]).await.unwrap().remove(0).unwrap();
    let forked = reader(&rooms, &room);
    assert_eq!(forked.head().extremities.len(), 2);
    assert_eq!(forked.state(), fork.record.state_after);
    rooms.send(&room, message(alice(), "both"), None).await.unwrap();
    let merged = reader(&rooms, &room);
    assert_eq!(merged.head().extremities.len(), 1);
    assert_eq!(last(&merged).pdu.prev_events().len(), 2);
    assert_eq!(bodies(&whole_timeline(&merged)), ["ours", "theirs", "both"]);
}

#[tokio::test]
async fn an_event_from_before_a_ban_that_comes_after_it_is_soft_failed() {
    let rooms = rooms().await;
    let room = room_with_carol(&rooms).await;
    let fork = last(&reader(&rooms, &room));
    let carol = user_id!("@carol:there.example");
    change(&rooms, &room, &alice(), MembershipChange::Ban { user: carol.to_owned() }).await.unwrap();
    let late = foreign(&reader(&rooms, &room), &fork, "m.room.message", None, &json!({"body": "late"}), 2);
    let id = rooms.receive(&room, vec![late]).await.unwrap().remove(0).unwrap();
    let reader = reader(&rooms, &room);
    assert!(reader.event_by_id(&id).unwrap().is_none());
    assert!(bodies(&whole_timeline(&reader)).is_empty());
    assert_eq!(reader.head().extremities.len(), 1);
    assert!(rooms.records().view().event_num(&id).unwrap().is_some());
}

#[tokio::test]
async fn a_ban_and_a_change_of_state_on_two_forks_resolve_to_the_ban() {
    let rooms = rooms().await;
    let room = room_with_carol(&rooms).await;
    let fork = last(&reader(&rooms, &room));
    let carol = user_id!("@carol:there.example");
    let name = json!({"membership": "join", "displayname": "Carol"});
    let rename = foreign(&reader(&rooms, &room), &fork, "m.room.member", Some(carol.as_str()), &name, 5);
    rooms.send(&room, message(alice(), "fork"), None).await.unwrap();
    rooms.receive(&room, vec![rename]).await.unwrap().remove(0).unwrap();
    change(&rooms, &room, &alice(), MembershipChange::Ban { user: carol.to_owned() }).await.unwrap();
    let reader = reader(&rooms, &room);
    let member = reader.state_event(reader.state(), "m.room.member", carol.as_str()).unwrap().unwrap();
    assert_eq!(membership_of(&member.pdu), MembershipState::Ban);
    assert_eq!(reader.head().joined, 1);
    assert_eq!(reader.membership(carol).unwrap().unwrap().1.membership, Membership::Ban);
}

#[tokio::test]
async fn an_event_whose_ancestors_are_unknown_names_them() {
    let rooms = rooms().await;
    let room = room_with_carol(&rooms).await;
    let reader = reader(&rooms, &room);
    let base = last(&reader);
    let first = foreign(&reader, &base, "m.room.message", None, &json!({"body": "1"}), 2);
    let hole = StoredEvent::new(
        base.num,
        base.order,
        base.record.clone(),
        Arc::new(Pdu::parse_stored(first.event_id().clone(), first.json(), reader.rules(), false).unwrap()),
    );
    let second = foreign(&reader, &hole, "m.room.message", None, &json!({"body": "2"}), 3);
    let missing = first.event_id().clone();
    let refused = rooms.receive(&room, vec![second]).await.unwrap().remove(0);
    assert!(matches!(&refused, Err(RoomError::Missing(ids)) if *ids == [missing]), "{refused:?}");
    let second = foreign(&reader, &hole, "m.room.message", None, &json!({"body": "2"}), 3);
    let received = rooms.receive(&room, vec![first, second]).await.unwrap();
    assert!(received.iter().all(Result::is_ok), "{received:?}");
}

#[tokio::test]
async fn an_event_may_follow_one_that_failed_softly_in_the_same_run() {
    let rooms = rooms().await;
    let room = room_with_carol(&rooms).await;
    let fork = last(&reader(&rooms, &room));
    let carol = user_id!("@carol:there.example");
    change(&rooms, &room, &alice(), MembershipChange::Ban { user: carol.to_owned() }).await.unwrap();
    let reader = reader(&rooms, &room);
    let first = foreign(&reader, &fork, "m.room.message", None, &json!({"body": "1"}), 2);
    let pdu = Pdu::parse_stored(first.event_id().clone(), first.json(), reader.rules(), false).unwrap();
    let after_first = StoredEvent::new(fork.num, fork.order, fork.record.clone(), Arc::new(pdu));
    let second = foreign(&reader, &after_first, "m.room.message", None, &json!({"body": "2"}), 3);
    let received = rooms.receive(&room, vec![first, second]).await.unwrap();
    assert!(received.iter().all(Result::is_ok), "{received:?}");
    assert!(bodies(&whole_timeline(&reader)).is_empty());
}

#[tokio::test]
async fn a_change_that_was_planned_on_an_old_membership_is_planned_again() {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
    change(&rooms, &room, &bob(), MembershipChange::Join).await.unwrap();
    let planned = rooms.plan_membership(&room, &alice(), &MembershipChange::Kick { user: bob() }, None, None);
    let (num, draft, basis) = planned.unwrap().unwrap();
    change(&rooms, &room, &alice(), MembershipChange::Ban { user: bob() }).await.unwrap();
    let basis = Some(basis);
    let late = rooms.tell(num, |reply| Command::Send { draft, txn: None, basis, reply }).await;
    assert!(matches!(late, Err(RoomError::Outdated)), "{late:?}");
    assert_eq!(reader(&rooms, &room).membership(&bob()).unwrap().unwrap().1.membership, Membership::Ban);
}

#[tokio::test]
async fn the_last_handle_ends_the_tasks_of_all_rooms() {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V12, Preset::PrivateChat).await;
    rooms.send(&room, message(alice(), "x"), None).await.unwrap();
    let left = rooms.downgrade();
    assert!(left.upgrade().is_some());
    drop(rooms);
    let ended = async {
        while left.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), ended).await.expect("before the tasks are idle");
}

/// A memory engine whose commits fail while it is told so.
struct Failing {
    engine: MemoryEngine,
    fails: std::sync::atomic::AtomicBool,
}

impl store::Engine for Failing {
    fn snapshot(&self) -> Arc<dyn store::Snapshot> {
        self.engine.snapshot()
    }

    fn commit(
        &self,
        batch: store::Batch,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<store::Stamps, CommitError>> + Send>> {
        if self.fails.load(std::sync::atomic::Ordering::SeqCst) {
            return Box::pin(async { Err(CommitError::Unknown) });
        }
        self.engine.commit(batch)
    }

    fn newest(&self) -> tokio::sync::watch::Receiver<base::Stamp> {
        self.engine.newest()
    }
}

#[tokio::test]
async fn what_was_not_committed_is_in_nobodys_memory() {
    let engine = Arc::new(Failing { engine: MemoryEngine::new(), fails: false.into() });
    let records = Records::open(engine.clone()).await.unwrap();
    let clock = Arc::new(FakeClock::new(UnixMillis(1)));
    let signing = Arc::new(key(owned_server_name!("here.example"), 1));
    let rooms = Rooms::new(records, signing, clock, Arc::new(SeededRandom::new(1)), Config::default());
    let room = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
    let first = rooms.send(&room, message(alice(), "1"), None).await.unwrap();
    engine.fails.store(true, std::sync::atomic::Ordering::SeqCst);
    let lost = rooms.send(&room, message(alice(), "2"), None).await;
    assert!(matches!(lost, Err(RoomError::Internal(_))), "{lost:?}");
    assert!(change(&rooms, &room, &bob(), MembershipChange::Join).await.is_err());
    engine.fails.store(false, std::sync::atomic::Ordering::SeqCst);
    let refused = rooms.send(&room, message(bob(), "3"), None).await;
    assert!(matches!(refused, Err(RoomError::Forbidden(_))), "{refused:?}");
    rooms.send(&room, message(alice(), "4"), None).await.unwrap();
    let reader = reader(&rooms, &room);
    assert_eq!(bodies(&whole_timeline(&reader)), ["1", "4"]);
    assert_eq!(last(&reader).pdu.prev_events(), [first]);
}

/// Takes a number below `below` off a seeded sequence.
fn draw(random: &SeededRandom, below: usize) -> usize {
    let mut bytes = [0; 4];
    base::Random::fill(random, &mut bytes);
    usize::try_from(u32::from_le_bytes(bytes)).unwrap() % below
}

/// A history with forks, as JSON in the order in which it came about, and the events that none follows.
async fn forked_history(random: &SeededRandom) -> (OwnedRoomId, Vec<String>, Vec<OwnedEventId>) {
    let rooms = rooms().await;
    let room = room_with_carol(&rooms).await;
    let levels = json!({"users": {alice(): 100, "@carol:there.example": 100}, "users_default": 0});
    rooms.send(&room, Draft::state(alice(), "m.room.power_levels", "", raw(&levels)), None).await.unwrap();
    let begun = reader(&rooms, &room);
    let mut history = whole_timeline(&begun);
    let mut followed = std::collections::HashSet::new();
    let first = history.len() - 1;
    for at in 0..12 {
        let after = history[first + draw(random, history.len() - first)].clone();
        let (kind, key, content) = match draw(random, 5) {
            0 => ("m.room.topic", Some(""), json!({"topic": at})),
            1 => ("m.room.name", Some(""), json!({"name": at})),
            2 => {
                let levels = json!({"users": {alice(): 100, "@carol:there.example": 100}, "users_default": at % 3});
                ("m.room.power_levels", Some(""), levels)
            }
            3 => ("m.room.member", Some("@carol:there.example"), json!({"membership": "join", "displayname": at})),
            _ => ("m.room.message", None, json!({"body": at})),
        };
        let now = reader(&rooms, &room);
        let event = foreign(&now, &after, kind, key, &content, 10 + at);
        let id = rooms.receive(&room, vec![event]).await.unwrap().remove(0).unwrap();
        followed.insert(after.pdu.event_id().clone());
        let now = reader(&rooms, &room);
        let num = now.view().event_num(&id).unwrap().unwrap();
        history.push(now.event(num).unwrap().unwrap());
    }
    let ends = history[first..].iter().map(|event| event.pdu.event_id().clone());
    let ends = ends.filter(|id| !followed.contains(id)).collect();
    (room, history.iter().map(|event| event.pdu.json().to_owned()).collect(), ends)
}

/// The state at some events of a room that learns of its history in this order.
async fn state_learned(room: &RoomId, order: &[String], at: &[OwnedEventId]) -> Vec<(String, String, OwnedEventId)> {
    let rooms = rooms().await;
    let version = RoomVersionId::V11;
    let rules = rules::room_rules(&version).unwrap();
    let head = RoomHead {
        room_id: room.to_owned(),
        version: version.clone(),
        extremities: Vec::new(),
        depth: 0,
        state: records::state_map::StateRoot::EMPTY,
        joined: 0,
        invited: 0,
        backfilled_to: Order(0),
        generation: 0,
        relations: 0,
    };
    let loaded = Loaded::new(head, room_core::Room::new(Some(room.to_owned()), version, rules.clone()));
    let changes = rooms.records().changes(&rooms.records().view());
    let mut work = Work::new(rooms.shared_arc(), rooms.records().ids().room().unwrap(), loaded, changes);
    let mut keys = key(owned_server_name!("here.example"), 1).public_key_map();
    keys.extend(key(owned_server_name!("there.example"), 2).public_key_map());
    let mut waiting: std::collections::VecDeque<&String> = order.iter().collect();
    for _ in 0..order.len() * order.len() {
        let Some(json) = waiting.pop_front() else { break };
        let rules::Checked::Whole(event) = rules::incoming::check(json, &rules, &keys) else { panic!("{json}") };
        match work.event(event, &HashMap::new()) {
            Err(RoomError::Missing(_)) => waiting.push_back(json),
            outcome => drop(outcome.unwrap()),
        }
    }
    assert!(waiting.is_empty(), "all of the history is learned");
    let state = work.state_after(at).unwrap();
    let entries: Vec<_> = state.entries(&work.changes).collect::<Result<_, _>>().unwrap();
    let id = |num| work.changes.event(num).unwrap().unwrap().event_id;
    entries.into_iter().map(|entry| (entry.kind, entry.state_key, id(entry.event))).collect()
}

#[tokio::test]
async fn the_state_at_some_events_is_the_same_whatever_order_they_came_in() {
    for seed in 0..12 {
        let random = SeededRandom::new(seed);
        let (room, history, ends) = forked_history(&random).await;
        let in_order = state_learned(&room, &history, &ends).await;
        assert!(in_order.len() >= 6, "seed {seed}");
        for _ in 0..3 {
            let mut shuffled = history.clone();
            for at in (1..shuffled.len()).rev() {
                shuffled.swap(at, draw(&random, at + 1));
            }
            let mut ends = ends.clone();
            ends.reverse();
            assert_eq!(state_learned(&room, &shuffled, &ends).await, in_order, "seed {seed}");
        }
    }
}
