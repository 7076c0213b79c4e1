//! The records over the memory engine: what is written is read back, in order, and guarded.

use super::*;
use crate::state_map::StateRoot;
use base::{EventNum, Order, RoomNum, UnixMillis};
use ruma::{OwnedEventId, OwnedUserId, RoomVersionId, owned_room_id, owned_user_id, room_alias_id, user_id};
use store::{Batch, Direction, MemoryEngine, Write};

async fn open(engine: &Arc<MemoryEngine>) -> Result<Records, OpenError> {
    Records::open(engine.clone()).await
}

async fn records() -> Records {
    open(&Arc::new(MemoryEngine::new())).await.unwrap()
}

fn event(room: RoomNum, name: &str) -> EventRecord {
    EventRecord {
        room,
        event_id: OwnedEventId::try_from(format!("${name}:example.org")).unwrap(),
        status: EventStatus::Accepted,
        state_before: StateRoot::EMPTY,
        state_after: StateRoot::EMPTY,
        resolved: None,
        replaces: None,
        redacted_by: None,
        sent_by: None,
        json: format!("{{\"name\":\"{name}\"}}"),
    }
}

fn head(generation: u64) -> RoomHead {
    RoomHead {
        room_id: owned_room_id!("!room:example.org"),
        version: RoomVersionId::V12,
        extremities: vec![EventNum(1)],
        depth: 1,
        state: StateRoot::EMPTY,
        joined: 1,
        invited: 0,
        backfilled_to: Order(0),
        generation,
        relations: 0,
    }
}

fn membership(membership: Membership, previous: Option<Membership>) -> MembershipRecord {
    let sender = owned_user_id!("@alice:example.org");
    MembershipRecord {
        membership,
        event: EventNum(7),
        sender,
        stripped_state: None,
        forgotten: false,
        previous,
        entered: None,
    }
}

/// The names of the events of a piece of a room's timeline.
fn names(view: &View, after: i64, up_to: i64, direction: Direction, max: usize) -> Vec<String> {
    let entries = view.timeline(RoomNum(1), Order(after), Order(up_to), direction, max).unwrap();
    let nums: Vec<_> = entries.iter().map(|entry| entry.event).collect();
    let events = view.events(&nums).unwrap();
    for (entry, event) in entries.iter().zip(&events) {
        assert_eq!(entry.order, event.as_ref().unwrap().0, "an event knows its own place");
    }
    events.into_iter().map(|event| event.unwrap().1.json[9..10].to_owned()).collect()
}

#[tokio::test]
async fn a_timeline_reads_both_ways_with_what_was_backfilled_before_what_came_live() {
    let records = records().await;
    let mut changes = records.changes(&records.view());
    for name in ["c", "d"] {
        let nth = changes.stamp();
        let num = changes.ids().event().unwrap();
        changes.append_event(nth, num, &event(RoomNum(1), name), Glance::default());
    }
    for (order, name) in [(-1, "b"), (-2, "a")] {
        let num = changes.ids().event().unwrap();
        changes.prepend_event(Order(order), num, &event(RoomNum(1), name), Glance::default());
    }
    let nth = changes.stamp();
    let num = changes.ids().event().unwrap();
    changes.append_event(nth, num, &event(RoomNum(2), "x"), Glance::default());
    let stamps = records.commit(changes).await.unwrap();
    let view = records.view();
    let all = |direction, max| names(&view, i64::MIN, i64::MAX, direction, max);
    assert_eq!(all(Direction::Forward, 10), ["a", "b", "c", "d"]);
    assert_eq!(all(Direction::Backward, 10), ["d", "c", "b", "a"]);
    assert_eq!(all(Direction::Backward, 2), ["d", "c"]);
    let first = Order::from(stamps.first).0;
    assert_eq!(names(&view, -2, first, Direction::Forward, 10), ["b", "c"]);
    assert_eq!(names(&view, first, i64::MAX, Direction::Forward, 10), ["d"]);
    assert_eq!(names(&view, i64::MAX, i64::MAX, Direction::Forward, 10), Vec::<String>::new());
    let last = view.timeline_last(RoomNum(1), Order(-1)).unwrap().unwrap();
    assert_eq!(last.order, Order(-1));
}

#[tokio::test]
async fn of_two_writers_of_one_room_the_second_is_told() {
    let records = records().await;
    let view = records.view();
    let (mut one, mut two) = (records.changes(&view), records.changes(&view));
    one.put_room_head(RoomNum(1), &head(1)).unwrap();
    two.put_room_head(RoomNum(1), &head(2)).unwrap();
    records.commit(one).await.unwrap();
    assert!(matches!(records.commit(two).await, Err(CommitError::Conflict)));
    assert_eq!(records.view().room_head(RoomNum(1)).unwrap().unwrap().generation, 1);
}

#[tokio::test]
async fn a_name_is_given_once() {
    let records = records().await;
    let view = records.view();
    let alias = room_alias_id!("#a:example.org");
    let record =
        AliasRecord { room_id: owned_room_id!("!room:example.org"), creator: owned_user_id!("@alice:example.org") };
    let (mut one, mut two) = (records.changes(&view), records.changes(&view));
    one.put_alias(alias, RoomNum(1), &record).unwrap();
    two.put_alias(alias, RoomNum(2), &record).unwrap();
    records.commit(one).await.unwrap();
    assert!(matches!(records.commit(two).await, Err(CommitError::Conflict)));
    let view = records.view();
    assert_eq!(view.room_aliases(RoomNum(1)).unwrap(), [alias]);
    let mut changes = records.changes(&view);
    changes.clear_alias(alias, RoomNum(1)).unwrap();
    records.commit(changes).await.unwrap();
    assert_eq!(records.view().alias(alias).unwrap(), None);
    assert!(records.view().room_aliases(RoomNum(1)).unwrap().is_empty());
}

#[tokio::test]
async fn a_member_is_listed_under_their_one_membership() {
    let records = records().await;
    let user = user_id!("@bob:example.org");
    let list = |membership| -> Vec<OwnedUserId> {
        let members = records.view().room_members(RoomNum(1), membership, None, 10).unwrap();
        members.into_iter().map(|(user, _)| user).collect()
    };
    let mut previous = None;
    let mut since = Vec::new();
    for now in [Membership::Invite, Membership::Join, Membership::Leave] {
        let mut changes = records.changes(&records.view());
        let nth = changes.stamp();
        changes.put_membership(nth, user, RoomNum(1), &membership(now, previous)).unwrap();
        since.push(records.commit(changes).await.unwrap().first);
        assert_eq!(list(now), [user]);
        assert!(previous.is_none_or(|previous| list(previous).is_empty()));
        previous = Some(now);
    }
    let rooms = records.view().memberships(user).unwrap();
    assert_eq!(rooms.len(), 1);
    assert_eq!((rooms[0].0, rooms[0].1, rooms[0].2.membership), (RoomNum(1), since[2], Membership::Leave));
}

#[tokio::test]
async fn members_come_in_pages() {
    let records = records().await;
    let mut changes = records.changes(&records.view());
    let nth = changes.stamp();
    let users: Vec<_> = (0..25).map(|n| OwnedUserId::try_from(format!("@user{n:02}:example.org")).unwrap()).collect();
    for user in &users {
        changes.put_membership(nth, user, RoomNum(1), &membership(Membership::Join, None)).unwrap();
    }
    records.commit(changes).await.unwrap();
    let view = records.view();
    let mut read: Vec<OwnedUserId> = Vec::new();
    loop {
        let page = view.room_members(RoomNum(1), Membership::Join, read.last().map(AsRef::as_ref), 10).unwrap();
        if page.is_empty() {
            break;
        }
        read.extend(page.into_iter().map(|(user, _)| user));
    }
    assert_eq!(read, users);
}

#[tokio::test]
async fn the_log_says_what_happened_after_a_stamp() {
    let records = records().await;
    let entry = |n| LogEntry::Event { room: RoomNum(n), event: EventNum(n), member: None };
    let mut stamps = Vec::new();
    for n in 0..3 {
        let mut changes = records.changes(&records.view());
        let nth = changes.stamp();
        changes.log(nth, &entry(n));
        stamps.push(records.commit(changes).await.unwrap().first);
    }
    let view = records.view();
    assert_eq!(view.log(stamps[0], view.stamp(), 10).unwrap(), [(stamps[1], entry(1)), (stamps[2], entry(2))]);
    assert_eq!(view.log(stamps[0], stamps[1], 10).unwrap(), [(stamps[1], entry(1))]);
    assert_eq!(view.log(view.stamp(), view.stamp(), 10).unwrap(), []);
}

#[tokio::test]
async fn changes_show_what_they_write_and_their_view_does_not() {
    let records = records().await;
    let mut changes = records.changes(&records.view());
    let num = changes.ids().event().unwrap();
    let record = event(RoomNum(1), "a");
    changes.put_event_outside(num, &record);
    assert_eq!(changes.event(num).unwrap(), Some(record.clone()));
    assert_eq!(changes.event_num(&record.event_id).unwrap(), Some(num));
    assert_eq!(changes.view().event(num).unwrap(), None);
    let root = StateRoot::EMPTY.set(&mut changes, &[("m.room.name", "", num)]).unwrap();
    assert_eq!(root.get(&changes, "m.room.name", "").unwrap(), Some(num));
    records.commit(changes).await.unwrap();
    assert_eq!(root.get(&records.view(), "m.room.name", "").unwrap(), Some(num));
}

#[tokio::test]
async fn a_transaction_id_is_known_only_to_its_device_and_endpoint() {
    let records = records().await;
    let user = user_id!("@bob:example.org");
    let scope = TxnScope { user, device_id: "D", endpoint: "send/!a/m.room.message" };
    let event_id = OwnedEventId::try_from("$e:example.org").unwrap();
    let mut changes = records.changes(&records.view());
    changes.put_txn(scope, "1", UnixMillis(5), &event_id);
    records.commit(changes).await.unwrap();
    let view = records.view();
    assert_eq!(view.txn(scope, "1").unwrap(), Some((UnixMillis(5), event_id)));
    assert_eq!(view.txn(TxnScope { device_id: "E", ..scope }, "1").unwrap(), None);
    assert_eq!(view.txn(TxnScope { endpoint: "redact/!a/$b", ..scope }, "1").unwrap(), None);
}

#[tokio::test]
async fn transaction_ids_are_forgotten_by_their_age() {
    let records = records().await;
    let user = user_id!("@bob:example.org");
    let scope = TxnScope { user, device_id: "D", endpoint: "send/!a/m.room.message" };
    let event_id = OwnedEventId::try_from("$e:example.org").unwrap();
    let mut changes = records.changes(&records.view());
    for at in 1..=5 {
        changes.put_txn(scope, &at.to_string(), UnixMillis(at), &event_id);
    }
    records.commit(changes).await.unwrap();
    for cleared in [2, 1, 0] {
        let mut changes = records.changes(&records.view());
        assert_eq!(changes.clear_txns(UnixMillis(4), 2).unwrap(), cleared);
        records.commit(changes).await.unwrap();
    }
    let view = records.view();
    let known = (1..=5).filter(|at| view.txn(scope, &at.to_string()).unwrap().is_some());
    assert_eq!(known.collect::<Vec<_>>(), [4, 5]);
}

#[tokio::test]
async fn numbers_are_never_given_twice_also_over_a_restart_and_by_two_processes() {
    let engine = Arc::new(MemoryEngine::new());
    let mut seen = std::collections::HashSet::new();
    let (one, two) = (open(&engine).await.unwrap(), open(&engine).await.unwrap());
    for records in [&one, &two, &one, &open(&engine).await.unwrap()] {
        for _ in 0..100 {
            assert!(seen.insert(records.ids().event().unwrap()));
        }
    }
}

#[tokio::test]
async fn a_store_of_another_schema_is_refused_in_words() {
    for version in [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1] {
        let engine = Arc::new(MemoryEngine::new());
        open(&engine).await.unwrap();
        let value = codec::encode(&version);
        let key = tables::SCHEMA.key().build();
        let write = Write::Put { family: tables::SCHEMA.family, key: key.into(), value: value.into() };
        engine.commit(Batch { writes: vec![write], ..Batch::default() }).await.unwrap();
        let error = open(&engine).await.err().unwrap();
        match error {
            OpenError::Older { found } => assert_eq!(found, SCHEMA_VERSION - 1),
            OpenError::Newer { found } => assert_eq!(found, SCHEMA_VERSION + 1),
            ref other => panic!("{other}"),
        }
        assert!(error.to_string().contains(&format!("schema version {version}")), "{error}");
    }
}
