//! What users are told of what they have not read.

use super::*;
use crate::Marks;
use records::ReceiptKind;

/// A message with more in its content.
async fn send(world: &World, room: &RoomId, sender: &UserId, kind: &str, content: Value) -> OwnedEventId {
    let draft = Draft::message(sender.to_owned(), kind, to_raw_value(&content).unwrap());
    world.rooms.send(room, draft, None).await.unwrap()
}

async fn in_thread(world: &World, room: &RoomId, sender: &UserId, root: &OwnedEventId) -> OwnedEventId {
    let relation = json!({"rel_type": "m.thread", "event_id": root});
    send(world, room, sender, "m.room.message", json!({"body": "reply", "m.relates_to": relation})).await
}

async fn mention(world: &World, room: &RoomId, user: &UserId) -> OwnedEventId {
    send(world, room, &alice(), "m.room.message", json!({"body": "you", "m.mentions": {"user_ids": [user]}})).await
}

async fn read(
    world: &World,
    room: &RoomId,
    user: &UserId,
    event: &OwnedEventId,
    kind: ReceiptKind,
    thread: Option<&str>,
) {
    let mut marks = Marks { thread: thread.map(ToOwned::to_owned), ..Marks::default() };
    match kind {
        ReceiptKind::Public => marks.read = Some(event.clone()),
        ReceiptKind::Private => marks.read_private = Some(event.clone()),
    }
    world.syncs.mark(user, room, &marks).await.unwrap();
}

/// Notifications and highlights, as a room's section of a response has them.
fn counts(response: &Value, room: &RoomId) -> Option<(u64, u64)> {
    let counts = response["rooms"]["join"][room.as_str()].get("unread_notifications")?;
    Some((counts["notification_count"].as_u64().unwrap(), counts["highlight_count"].as_u64().unwrap()))
}

/// What was counted before must be what counting anew finds.
fn count(world: &World, room: &RoomId, user: &UserId) -> (u64, u64) {
    let known = unread(&world.syncs, world, room, user);
    let (records, rooms) = (world.records.clone(), world.rooms.clone());
    let fresh = Syncs::new(records, rooms, world.clock.clone(), Config::default());
    let anew = unread(&fresh, world, room, user);
    assert_eq!((&known.main, &known.threads), (&anew.main, &anew.threads));
    (known.total().notifications, known.total().highlights)
}

fn unread(syncs: &Syncs, world: &World, room: &RoomId, user: &UserId) -> crate::RoomCounts {
    let view = world.records.view();
    let reader = world.rooms.reader_by_id(&view, room).unwrap().unwrap();
    let reading = syncs.0.reading(&view, user).unwrap();
    reading.counts(&syncs.0, &reader).unwrap()
}

fn threads() -> Value {
    json!({"room": {"timeline": {"unread_thread_notifications": true}}})
}

#[tokio::test]
async fn messages_of_others_since_one_joined_are_unread_until_they_are_read() {
    let world = World::new().await;
    let room = world.room().await;
    world.say(&room, &alice(), "before").await;
    world.change(&room, &bob(), MembershipChange::Join).await;
    let b = world.sync(&bob(), None).await;
    assert_eq!(counts(&b, &room), Some((0, 0)));
    let first = world.say(&room, &alice(), "1").await;
    mention(&world, &room, &bob()).await;
    let b = world.sync(&bob(), Some(&b)).await;
    assert_eq!(counts(&b, &room), Some((2, 1)));
    assert_eq!(counts(&world.sync(&alice(), None).await, &room), Some((0, 0)), "one's own are not unread");

    read(&world, &room, &bob(), &first, ReceiptKind::Private, None).await;
    let b = world.sync(&bob(), Some(&b)).await;
    assert_eq!(counts(&b, &room), Some((1, 1)), "another device is told");
    let last = world.say(&room, &alice(), "2").await;
    assert_eq!(count(&world, &room, &bob()), (2, 1));
    read(&world, &room, &bob(), &last, ReceiptKind::Public, None).await;
    assert_eq!(count(&world, &room, &bob()), (0, 0));
    assert_eq!(counts(&world.sync(&bob(), None).await, &room), Some((0, 0)));
}

#[tokio::test]
async fn of_two_receipts_the_one_further_on_counts() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let mut events = Vec::new();
    for n in 0..4 {
        events.push(world.say(&room, &alice(), &n.to_string()).await);
    }
    read(&world, &room, &bob(), &events[2], ReceiptKind::Public, None).await;
    assert_eq!(count(&world, &room, &bob()), (1, 0));
    read(&world, &room, &bob(), &events[1], ReceiptKind::Private, None).await;
    assert_eq!(count(&world, &room, &bob()), (1, 0));
    read(&world, &room, &bob(), &events[3], ReceiptKind::Private, None).await;
    assert_eq!(count(&world, &room, &bob()), (0, 0));
}

#[tokio::test]
async fn threads_are_counted_apart_for_those_who_ask() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let root = world.say(&room, &alice(), "root").await;
    let first = in_thread(&world, &room, &alice(), &root).await;
    in_thread(&world, &room, &alice(), &root).await;
    let reference = json!({"body": "x", "m.relates_to": {"rel_type": "m.reference", "event_id": first}});
    send(&world, &room, &alice(), "m.room.message", reference).await;
    let main = mention(&world, &room, &bob()).await;

    assert_eq!(counts(&world.sync(&bob(), None).await, &room), Some((5, 1)));
    let apart = world.ask(filtered(&bob(), None, &threads())).await;
    assert_eq!(counts(&apart, &room), Some((2, 1)));
    let of_threads = |response: &Value| joined(response, &room)["unread_thread_notifications"].clone();
    let expected = |n: u64| json!({root.as_str(): {"notification_count": n, "highlight_count": 0}});
    assert_eq!(of_threads(&apart), expected(3));

    read(&world, &room, &bob(), &first, ReceiptKind::Public, Some(root.as_str())).await;
    assert_eq!(count(&world, &room, &bob()), (4, 1));
    read(&world, &room, &bob(), &root, ReceiptKind::Public, Some("main")).await;
    assert_eq!(count(&world, &room, &bob()), (3, 1));
    assert_eq!(of_threads(&world.ask(filtered(&bob(), None, &threads())).await), expected(2));
    read(&world, &room, &bob(), &main, ReceiptKind::Public, None).await;
    assert_eq!(count(&world, &room, &bob()), (0, 0));
    assert_eq!(of_threads(&world.ask(filtered(&bob(), None, &threads())).await), Value::Null);
}

#[tokio::test]
async fn sending_marks_the_thread_as_read() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let root = world.say(&room, &alice(), "root").await;
    in_thread(&world, &room, &alice(), &root).await;
    assert_eq!(count(&world, &room, &bob()), (2, 0));
    in_thread(&world, &room, &bob(), &root).await;
    assert_eq!(count(&world, &room, &bob()), (1, 0));
    world.say(&room, &bob(), "mine").await;
    assert_eq!(count(&world, &room, &bob()), (0, 0));
    world.say(&room, &alice(), "next").await;
    assert_eq!(count(&world, &room, &bob()), (1, 0));
}

#[tokio::test]
async fn what_is_redacted_is_not_unread_any_more() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let (kept, gone) = (mention(&world, &room, &bob()).await, mention(&world, &room, &bob()).await);
    let plain = world.say(&room, &alice(), "plain").await;
    assert_eq!(count(&world, &room, &bob()), (3, 2));
    for event in [&gone, &plain] {
        let content = to_raw_value(&json!({"redacts": event})).unwrap();
        let mut draft = Draft::message(alice(), "m.room.redaction", content);
        draft.redacts = Some(event.clone());
        world.rooms.send(&room, draft, None).await.unwrap();
    }
    assert_eq!(count(&world, &room, &bob()), (1, 1));
    read(&world, &room, &bob(), &kept, ReceiptKind::Public, None).await;
    assert_eq!(count(&world, &room, &bob()), (0, 0));
}

#[tokio::test]
async fn rules_and_ignored_users_decide_what_counts() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    world.say(&room, &alice(), "1").await;
    send(&world, &room, &alice(), "m.room.message", json!({"body": "2", "msgtype": "m.notice"})).await;
    send(&world, &room, &alice(), "m.reaction", json!({})).await;
    assert_eq!(count(&world, &room, &bob()), (1, 0));
    let nowhere = rules::push::Place::default();
    let rule = |actions: Value| rules::push::NewRule {
        actions: serde_json::from_value(actions).unwrap(),
        ..Default::default()
    };
    let kind = rules::push::Kind::Room;
    let put = async |actions: Value| {
        let change = |rules: &mut rules::push::Ruleset| rules.put(kind, room.as_str(), rule(actions.clone()), &nowhere);
        world.syncs.change_push_rules(&bob(), change).await.unwrap();
    };
    put(json!([])).await;
    assert_eq!(count(&world, &room, &bob()), (0, 0));
    put(json!(["notify", {"set_tweak": "highlight"}])).await;
    // Notices and reactions are silenced by rules that override.
    assert_eq!(count(&world, &room, &bob()), (1, 1));
    world.store(&bob(), None, "m.ignored_user_list", &json!({"ignored_users": {alice().as_str(): {}}})).await;
    assert_eq!(count(&world, &room, &bob()), (0, 0));
    world.say(&room, &alice(), "3").await;
    assert_eq!(count(&world, &room, &bob()), (0, 0));
}

#[tokio::test]
async fn a_change_of_ones_profile_reads_nothing_and_coming_back_reads_all() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    world.say(&room, &alice(), "1").await;
    assert_eq!(count(&world, &room, &bob()), (1, 0));
    let content = to_raw_value(&json!({"membership": "join", "displayname": "Bobby"})).unwrap();
    let draft = Draft { state_key: Some(bob().to_string()), ..Draft::message(bob(), "m.room.member", content) };
    world.rooms.send(&room, draft, None).await.unwrap();
    assert_eq!(count(&world, &room, &bob()), (1, 0));
    world.change(&room, &bob(), MembershipChange::Leave).await;
    assert_eq!(count(&world, &room, &bob()), (0, 0));
    world.change(&room, &bob(), MembershipChange::Join).await;
    assert_eq!(count(&world, &room, &bob()), (0, 0));
}

#[tokio::test]
async fn what_is_counted_is_bounded() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    for n in 0..=crate::counts::UNREAD_MAX {
        world.say(&room, &alice(), &n.to_string()).await;
    }
    let most = u64::try_from(crate::counts::UNREAD_MAX).unwrap();
    assert_eq!(count(&world, &room, &bob()), (most, 0));
    world.say(&room, &alice(), "more").await;
    assert_eq!(count(&world, &room, &bob()), (most, 0));
}
