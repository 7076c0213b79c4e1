use super::*;
use crate::tests::{alice, bob, change, raw, reader, room_of, rooms, whole_timeline};
use crate::work::{Loaded, Work};
use crate::{Depth, Draft, MembershipChange, Piece, Preset, Rooms, StoredEvent, Wanted};
use base::{Random, SeededRandom};
use ruma::{RoomId, RoomVersionId};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

const EVERYWHERE: (Order, Order) = (Order(i64::MIN), Order(i64::MAX));

/// A run of drafts in a room whose task has not begun.
fn run(rooms: &Rooms, room: &RoomId) -> Work {
    let view = rooms.records().view();
    let num = view.room_num(room).unwrap().unwrap();
    let head = view.room_head(num).unwrap().unwrap();
    let rules = rules::room_rules(&head.version).unwrap();
    let core = room_core::Room::new(Some(room.to_owned()), head.version.clone(), rules);
    let loaded = Loaded::read(rooms.shared(), &view, head, core).unwrap();
    Work::new(rooms.shared_arc(), num, loaded, rooms.records().changes(&view))
}

async fn commit(rooms: &Rooms, mut work: Work) {
    work.finish().unwrap();
    let changes = std::mem::replace(&mut work.changes, rooms.no_changes());
    let stamps = rooms.records().commit(changes).await.unwrap();
    work.committed().publish(rooms.shared(), stamps);
}

fn related(sender: OwnedUserId, kind: &str, rel_type: &str, target: &EventId, key: &str) -> Draft {
    let relates_to = json!({"rel_type": rel_type, "event_id": target, "key": key});
    Draft::message(sender, kind, raw(&json!({"m.new_content": {}, "m.relates_to": relates_to})))
}

fn redaction(target: &EventId) -> Draft {
    let content = raw(&json!({}));
    Draft { redacts: Some(target.to_owned()), ..Draft::message(alice(), "m.room.redaction", content) }
}

/// What the timeline says of relations is what all the tables say.
fn check(rooms: &Rooms, room: &RoomId, seed: u64) {
    let reader = reader(rooms, room);
    let (view, num) = (reader.view(), reader.num());
    let events = whole_timeline(&reader);
    let mut children: HashMap<OwnedEventId, Vec<(Relation, &Arc<StoredEvent>)>> = HashMap::new();
    for event in &events {
        if let Some(relation) = Relation::of(&event.pdu) {
            children.entry(relation.target.clone()).or_default().push((relation, event));
        }
    }
    let mut threads = Vec::new();
    for event in &events {
        let id = &**event.pdu.event_id();
        let children = children.remove(id).unwrap_or_default();
        let of = |kind| children.iter().filter(move |(relation, _)| RelationKind::of(&relation.rel_type) == kind);
        let (latest, record) = view.related(num, id).unwrap().unwrap_or_default();
        for kind in RelationKind::ALL {
            let expected: Vec<_> = of(kind).map(|(_, child)| (child.order, child.num)).collect();
            assert_eq!(record.count(kind), u64::try_from(expected.len()).unwrap(), "seed {seed}");
            let rows = view.relations(num, id, kind, EVERYWHERE, Direction::Forward, 1000).unwrap();
            assert_eq!(rows.iter().map(|(order, row)| (*order, row.event)).collect::<Vec<_>>(), expected);
        }
        let piece = Piece { after: EVERYWHERE.0, up_to: EVERYWHERE.1, direction: Direction::Forward };
        let found = reader.children(id, Wanted::default(), Depth::Direct, piece, 1000).unwrap();
        let found: Vec<_> = found.events.iter().map(|event| event.num).collect();
        assert_eq!(found, children.iter().map(|(_, child)| child.num).collect::<Vec<_>>(), "seed {seed}");

        let mut repliers: BTreeMap<OwnedUserId, u64> = BTreeMap::new();
        for (_, child) in of(RelationKind::Thread) {
            *repliers.entry(child.pdu.sender().to_owned()).or_default() += 1;
            assert!(latest >= child.order, "seed {seed}");
        }
        assert_eq!(view.repliers(num, id, 1000).unwrap(), repliers.into_iter().collect::<Vec<_>>(), "seed {seed}");
        if let Some((_, last)) = of(RelationKind::Thread).next_back() {
            assert_eq!(last.order, latest, "seed {seed}");
            threads.push((latest, id.to_owned()));
        }

        for sender in [alice(), bob()] {
            let is_edit = |child: &&(Relation, &Arc<StoredEvent>)| {
                *child.1.pdu.sender() == *sender && child.1.pdu.kind_str() == "m.a"
            };
            let mut edits: Vec<_> = of(RelationKind::Replace).filter(is_edit).map(|(_, child)| child).collect();
            edits.sort_by_key(|edit| std::cmp::Reverse((edit.pdu.origin_server_ts(), edit.pdu.event_id().clone())));
            let edits: Vec<_> = edits.into_iter().map(|edit| edit.num).collect();
            assert_eq!(view.edits(num, id, &sender, "m.a", 1000).unwrap(), edits, "seed {seed}");
        }
    }
    threads.sort();
    threads.reverse();
    assert_eq!(view.threads(num, EVERYWHERE.1, 1000).unwrap(), threads, "seed {seed}");
}

#[tokio::test]
async fn what_is_kept_of_relations_is_what_the_timeline_says() {
    for seed in 0..8 {
        let random = SeededRandom::new(seed);
        let number = |below: usize| {
            let mut bytes = [0; 8];
            random.fill(&mut bytes);
            usize::try_from(u64::from_le_bytes(bytes) % 1_000).unwrap() % below
        };
        let rooms = rooms().await;
        let room = room_of(&rooms, RoomVersionId::V11, Preset::PublicChat).await;
        let mut work = run(&rooms, &room);
        let mut sent: Vec<OwnedEventId> = Vec::new();
        let member = |user: OwnedUserId| {
            Draft::state(user.clone(), "m.room.member", user.as_str(), raw(&json!({"membership": "join"})))
        };
        work.draft(member(bob()), None, None).unwrap();
        for _ in 0..120 {
            let sender = if number(2) == 0 { alice() } else { bob() };
            let kind = if number(3) == 0 { "m.b" } else { "m.a" };
            // Mostly of the first few events, so that much relates to one.
            let of = if number(3) == 0 { sent.len().max(1) } else { sent.len().clamp(1, 4) };
            let target = sent.get(number(of)).cloned();
            let outcome = match (target, number(9)) {
                (None, _) | (_, 0) => work.draft(Draft::message(sender, kind, raw(&json!({}))), None, None),
                (Some(target), 1 | 2) => work.draft(redaction(&target), None, None),
                (Some(target), what) => {
                    let types = ["m.thread", "m.thread", "m.replace", "m.annotation", "m.reference", "org.example.own"];
                    let key = if number(2) == 0 { "+" } else { "-" };
                    let rel_type = types.get(what - 3).unwrap();
                    work.draft(related(sender, kind, rel_type, &target, key), None, None)
                }
            };
            match outcome {
                Ok(event_id) => sent.push(event_id),
                Err(RoomError::DuplicateAnnotation | RoomError::InvalidRelation(_)) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
            // Runs of some length: what is related and redacted within one is as if it had never been.
            if number(6) == 0 {
                commit(&rooms, work).await;
                check(&rooms, &room, seed);
                work = run(&rooms, &room);
            }
        }
        commit(&rooms, work).await;
        check(&rooms, &room, seed);
    }
}

#[tokio::test]
async fn an_annotation_can_be_made_again_in_the_run_that_redacts_it() {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V11, Preset::PublicChat).await;
    let mut work = run(&rooms, &room);
    let target = work.draft(Draft::message(alice(), "m.a", raw(&json!({}))), None, None).unwrap();
    let react = || related(alice(), "m.reaction", "m.annotation", &target, "+");
    let mut last = work.draft(react(), None, None).unwrap();
    assert!(matches!(work.draft(react(), None, None), Err(RoomError::DuplicateAnnotation)));
    for _ in 0..2 {
        commit(&rooms, work).await;
        work = run(&rooms, &room);
        assert!(matches!(work.draft(react(), None, None), Err(RoomError::DuplicateAnnotation)));
        work.draft(redaction(&last), None, None).unwrap();
        last = work.draft(react(), None, None).unwrap();
        assert!(matches!(work.draft(react(), None, None), Err(RoomError::DuplicateAnnotation)));
    }
    commit(&rooms, work).await;
    check(&rooms, &room, 0);
}

#[tokio::test]
async fn what_relates_to_an_event_that_is_not_known_is_found_by_its_id() {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V11, Preset::PublicChat).await;
    change(&rooms, &room, &bob(), MembershipChange::Join).await.unwrap();
    let unknown = EventId::parse("$unknown").unwrap();
    let sent = rooms.send(&room, related(bob(), "m.a", "m.thread", &unknown, ""), None).await.unwrap();
    let reader = reader(&rooms, &room);
    let piece = Piece { after: EVERYWHERE.0, up_to: EVERYWHERE.1, direction: Direction::Backward };
    let found = reader.children(&unknown, Wanted::default(), Depth::Indirect, piece, 10).unwrap();
    assert_eq!(found.events.iter().map(|event| event.pdu.event_id()).collect::<Vec<_>>(), [&sent]);
    assert!(reader.threads(EVERYWHERE.1, 10).unwrap().iter().all(|thread| thread.root.is_none()));
}
