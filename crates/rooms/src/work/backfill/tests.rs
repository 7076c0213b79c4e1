//! A room that this server came to late, and whose history it gets from another.

use super::*;
use crate::tests::{alice, bodies, event_of, key, message, raw, reader, rooms, whole_timeline};
use crate::work::{Loaded, Work};
use crate::{Backfill, Config, CreateRoom, Draft, Preset, Recipient, RoomReader, Rooms, StoredEvent};
use base::{FakeClock, SeededRandom, UnixMillis};
use records::state_map::StateRoot;
use records::{Membership, Records, RoomHead};
use room_core::Room;
use rules::client_event::Format;
use rules::{Checked, CheckedPdu};
use ruma::{OwnedRoomId, OwnedUserId, RoomVersionId, owned_server_name, owned_user_id};
use serde_json::json;
use store::MemoryEngine;

fn carol() -> OwnedUserId {
    owned_user_id!("@carol:there.example")
}

/// The other server, with Carol's room.
struct There {
    rooms: Rooms,
    room: OwnedRoomId,
}

impl There {
    async fn new(visibility: &str) -> Self {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let signing = Arc::new(key(owned_server_name!("there.example"), 2));
        let clock = Arc::new(FakeClock::new(UnixMillis(1_600_000_000_000)));
        let rooms = Rooms::new(records, signing, clock, Arc::new(SeededRandom::new(5)), Config::default());
        let request = CreateRoom {
            version: Some(RoomVersionId::V11),
            preset: Some(Preset::PublicChat),
            initial_state: vec![crate::InitialState {
                kind: "m.room.history_visibility".to_owned(),
                state_key: String::new(),
                content: raw(&json!({ "history_visibility": visibility })),
            }],
            ..CreateRoom::default()
        };
        let room = rooms.create(&carol(), request).await.unwrap();
        Self { rooms, room }
    }

    async fn say(&self, body: &str) -> OwnedEventId {
        self.rooms.send(&self.room, message(carol(), body), None).await.unwrap()
    }

    fn timeline(&self) -> Vec<Arc<StoredEvent>> {
        whole_timeline(&reader(&self.rooms, &self.room))
    }

    /// Events as they come over the network.
    fn checked(&self, events: &[Arc<StoredEvent>]) -> Vec<CheckedPdu> {
        let mut keys = key(owned_server_name!("here.example"), 1).public_key_map();
        keys.extend(key(owned_server_name!("there.example"), 2).public_key_map());
        let rules = reader(&self.rooms, &self.room).rules().clone();
        let check = |event: &Arc<StoredEvent>| match rules::incoming::check(event.pdu.json(), &rules, &keys) {
            Checked::Whole(event) | Checked::Redacted(event) => event,
            Checked::Drop(_) => panic!("{}", event.pdu.json()),
        };
        events.iter().map(check).collect()
    }

    /// The ids of the state before an event.
    fn state_before(&self, event: &StoredEvent) -> Vec<OwnedEventId> {
        let events = reader(&self.rooms, &self.room).state_events(event.record.state_before).unwrap();
        events.iter().map(|event| event.pdu.event_id().clone()).collect()
    }

    /// A server that knows the room from Alice's join on.
    async fn joined_from_here(&self) -> Rooms {
        let before = reader(&self.rooms, &self.room);
        let last = self.timeline().pop().unwrap();
        let signing = key(owned_server_name!("here.example"), 1);
        let member = ("m.room.member", Some("@alice:here.example"));
        let join = event_of(&signing, &alice(), &before, &last, member, &json!({"membership": "join"}), 7);
        self.rooms.receive(&self.room, vec![join]).await.unwrap().remove(0).unwrap();
        let join = self.timeline().pop().unwrap();

        let rooms = rooms().await;
        let num = rooms.records().ids().room().unwrap();
        let head = RoomHead {
            room_id: self.room.clone(),
            version: RoomVersionId::V11,
            extremities: Vec::new(),
            depth: join.pdu.depth(),
            state: StateRoot::EMPTY,
            joined: 0,
            invited: 0,
            backfilled_to: Order(0),
            generation: 0,
            relations: 0,
        };
        let room = Room::new(Some(self.room.clone()), RoomVersionId::V11, before.rules().clone());
        let changes = rooms.records().changes(&rooms.records().view());
        let mut work = Work::new(rooms.shared_arc(), num, Loaded::new(head, room), changes);
        let state = before.state_events(join.record.state_before).unwrap();
        let mut outliers = self.checked(&state);
        outliers.sort_by_key(|event| event.depth());
        for outlier in outliers {
            work.outlier(outlier).unwrap();
        }
        let states = HashMap::from([(join.pdu.event_id().clone(), self.state_before(&join))]);
        work.backfill(self.checked(std::slice::from_ref(&join)), &states).remove(0).unwrap();
        let (join_num, state, pdu) = {
            let past = work.past.last().unwrap();
            (past.num, past.record.state_after, past.pdu.clone())
        };
        work.loaded.head.state = state;
        work.loaded.head.extremities = vec![join_num];
        let nth = work.changes.stamp();
        work.member_changed(nth, (join_num, &pdu), join_num).unwrap();
        work.changes.put_room(&self.room, num).unwrap();
        work.finish().unwrap();
        let changes = std::mem::replace(&mut work.changes, rooms.no_changes());
        rooms.records().commit(changes).await.unwrap();
        rooms
    }

    /// Lets a server learn a piece of the history.
    async fn tell(&self, rooms: &Rooms, piece: &[Arc<StoredEvent>]) -> Vec<Result<OwnedEventId, RoomError>> {
        let first = &piece[0];
        let states = HashMap::from([(first.pdu.event_id().clone(), self.state_before(first))]);
        let state = reader(&self.rooms, &self.room).state_events(first.record.state_before).unwrap();
        let mut outliers = self.checked(&state);
        outliers.sort_by_key(|event| event.depth());
        let piece = Backfill { events: self.checked(piece), outliers, states };
        rooms.backfill(&self.room, piece).await.unwrap()
    }
}

fn ids(events: &[Arc<StoredEvent>]) -> Vec<OwnedEventId> {
    events.iter().map(|event| event.pdu.event_id().clone()).collect()
}

fn seen(reader: &RoomReader, user: &ruma::UserId) -> Vec<String> {
    let timeline = whole_timeline(reader);
    let visible = reader.visible(user, &timeline).unwrap();
    let seen: Vec<_> = timeline.into_iter().zip(visible).filter_map(|(event, sees)| sees.map(|_| event)).collect();
    bodies(&seen)
}

#[tokio::test]
async fn history_that_is_learned_later_comes_before_what_is_known_and_changes_nothing_current() {
    let there = There::new("shared").await;
    for body in ["1", "2", "3", "4"] {
        there.say(body).await;
    }
    let here = there.joined_from_here().await;
    let history = there.timeline();
    let (older, newer) = history[..history.len() - 1].split_at(history.len() - 3);
    let head = reader(&here, &there.room).head().clone();

    for _ in 0..2 {
        assert!(there.tell(&here, newer).await.iter().all(Result::is_ok));
        let now = reader(&here, &there.room);
        assert_eq!(bodies(&whole_timeline(&now)), ["3", "4"]);
        assert_eq!((now.state(), &now.head().extremities), (head.state, &head.extremities));
    }
    for _ in 0..2 {
        assert!(there.tell(&here, older).await.iter().all(Result::is_ok));
    }
    let now = reader(&here, &there.room);
    assert_eq!(ids(&whole_timeline(&now)), ids(&history));
    assert!(whole_timeline(&now).windows(2).all(|pair| pair[0].order < pair[1].order));
    assert_eq!((now.state(), &now.head().extremities), (head.state, &head.extremities));
    assert_eq!(now.head().joined, head.joined);

    // What comes live goes on from there.
    there.say("5").await;
    let live = there.checked(&there.timeline()[history.len()..]);
    here.receive(&there.room, live).await.unwrap().remove(0).unwrap();
    let now = reader(&here, &there.room);
    assert_eq!(bodies(&whole_timeline(&now)), ["1", "2", "3", "4", "5"]);
    assert_eq!(now.head().extremities.len(), 1);
    here.send(&there.room, message(alice(), "6"), None).await.unwrap();
}

#[tokio::test]
async fn the_states_of_learned_history_are_those_that_it_had() {
    let there = There::new("shared").await;
    for name in ["a", "b"] {
        let named = Draft::state(carol(), "m.room.name", "", raw(&json!({ "name": name })));
        there.rooms.send(&there.room, named, None).await.unwrap();
        there.say(name).await;
    }
    let here = there.joined_from_here().await;
    let history = there.timeline();
    let outcomes = there.tell(&here, &history[history.len() - 4..history.len() - 1]).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let now = reader(&here, &there.room);
    let name_at = |event: &StoredEvent| {
        let event = now.state_event(event.record.state_after, "m.room.name", "").unwrap();
        event.map(|event| event.pdu.content().get().to_owned())
    };
    let found: Vec<_> = whole_timeline(&now).iter().map(|event| name_at(event)).collect();
    let (a, b) = (Some(r#"{"name":"a"}"#.to_owned()), Some(r#"{"name":"b"}"#.to_owned()));
    assert_eq!(found, [a, b.clone(), b.clone(), b]);
}

#[tokio::test]
async fn who_sees_learned_history_is_for_its_own_visibility_to_say() {
    for (visibility, expected) in [("shared", &["before"][..]), ("joined", &[]), ("world_readable", &["before"])] {
        let there = There::new(visibility).await;
        there.say("before").await;
        let here = there.joined_from_here().await;
        let history = there.timeline();
        there.tell(&here, &history[..history.len() - 1]).await;
        let now = reader(&here, &there.room);
        assert_eq!(seen(&now, &alice()), expected, "{visibility}");
        let stranger = owned_user_id!("@stranger:here.example");
        let open = visibility == "world_readable";
        assert_eq!(seen(&now, &stranger).len(), usize::from(open), "{visibility}");
        assert_eq!(now.membership(&carol()).unwrap(), None);
        assert_eq!(now.membership(&alice()).unwrap().unwrap().1.membership, Membership::Join);
    }
}

#[tokio::test]
async fn history_whose_state_nobody_gives_is_missing_its_ancestors() {
    let there = There::new("shared").await;
    there.say("1").await;
    let last = there.say("2").await;
    let here = there.joined_from_here().await;
    let history = there.timeline();
    let event = history.iter().find(|event| *event.pdu.event_id() == last).unwrap();
    let piece = || Backfill { events: there.checked(std::slice::from_ref(event)), ..Backfill::default() };
    let outcome = here.backfill(&there.room, piece()).await.unwrap().remove(0);
    assert!(matches!(&outcome, Err(RoomError::Missing(ids)) if ids == event.pdu.prev_events()), "{outcome:?}");
    // Of a state that is given, all events must be known.
    let unknown = history[history.len() - 3].pdu.event_id().clone();
    let states = HashMap::from([(last.clone(), vec![unknown.clone()])]);
    let outcome = here.backfill(&there.room, Backfill { states, ..piece() }).await.unwrap().remove(0);
    assert!(matches!(&outcome, Err(RoomError::Missing(ids)) if *ids == [unknown]), "{outcome:?}");
    assert_eq!(whole_timeline(&reader(&here, &there.room)).len(), 1);
}

#[tokio::test]
async fn learned_history_that_its_state_does_not_allow_is_rejected() {
    let there = There::new("shared").await;
    there.say("1").await;
    let here = there.joined_from_here().await;
    let history = there.timeline();
    let at = reader(&there.rooms, &there.room);
    let stranger = owned_user_id!("@eve:there.example");
    let signing = key(owned_server_name!("there.example"), 2);
    let last = &history[history.len() - 2];
    let body = json!({"body": "forged"});
    let forged = event_of(&signing, &stranger, &at, last, ("m.room.message", None), &body, 3);
    let id = forged.event_id().clone();
    let states = HashMap::from([(id.clone(), there.state_before(last))]);
    let piece = Backfill { events: vec![forged], states, ..Backfill::default() };
    here.backfill(&there.room, piece).await.unwrap().remove(0).unwrap();
    let now = reader(&here, &there.room);
    assert!(now.event_by_id(&id).unwrap().is_none());
    assert!(bodies(&whole_timeline(&now)).is_empty());
    let num = now.view().event_num(&id).unwrap().unwrap();
    assert_eq!(now.view().event(num).unwrap().unwrap().1.status, EventStatus::Rejected);
}

#[tokio::test]
async fn a_redaction_that_is_learned_before_its_target_takes_effect_on_it() {
    let there = There::new("shared").await;
    let secret = there.say("secret").await;
    let history = there.timeline();
    let unredacted = there.checked(&history[history.len() - 1..]);
    there.say("between").await;
    let content = raw(&json!({"redacts": secret}));
    let redaction = Draft { redacts: Some(secret.clone()), ..Draft::message(carol(), "m.room.redaction", content) };
    there.rooms.send(&there.room, redaction, None).await.unwrap();
    let here = there.joined_from_here().await;
    let history = there.timeline();
    there.tell(&here, &history[history.len() - 2..history.len() - 1]).await;
    let target = history.iter().find(|event| *event.pdu.event_id() == secret).unwrap();
    let states = HashMap::from([(secret.clone(), there.state_before(target))]);
    let piece = Backfill { events: unredacted, states, ..Backfill::default() };
    here.backfill(&there.room, piece).await.unwrap().remove(0).unwrap();
    let now = reader(&here, &there.room);
    let event = now.event_by_id(&secret).unwrap().unwrap();
    let recipient = Recipient { user_id: &alice(), device_id: None, now: UnixMillis(0) };
    let text = now.client_event(&event, recipient, None, Format::WithRoomId).unwrap();
    assert!(!text.get().contains("secret") && text.get().contains("redacted_because"), "{text}");
}

#[tokio::test]
async fn a_piece_of_history_has_a_size() {
    let there = There::new("shared").await;
    there.say("1").await;
    let here = there.joined_from_here().await;
    let event = &there.timeline()[..1];
    let events = (0..=crate::BACKFILL_EVENTS_MAX).flat_map(|_| there.checked(event)).collect();
    let outcome = here.backfill(&there.room, Backfill { events, ..Backfill::default() }).await;
    assert!(matches!(outcome, Err(RoomError::TooLarge(_))), "{outcome:?}");
}
