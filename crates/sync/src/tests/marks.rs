//! Account data, receipts, read markers and typing.

use super::*;
use crate::Marks;

fn read(event: &OwnedEventId) -> Marks {
    Marks { read: Some(event.clone()), ..Marks::default() }
}

fn ephemeral<'a>(response: &'a Value, room: &RoomId, kind: &str) -> Vec<&'a Value> {
    let events = joined(response, room)["ephemeral"]["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    events.iter().filter(|event| event["type"] == kind).map(|event| &event["content"]).collect()
}

#[tokio::test]
async fn a_receipt_is_told_to_all_and_a_private_one_to_its_user() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let (first, second) = (world.say(&room, &alice(), "1").await, world.say(&room, &alice(), "2").await);
    let (mut a, mut b) = (world.sync(&alice(), None).await, world.sync(&bob(), None).await);
    let marks = Marks { read: Some(first.clone()), read_private: Some(second.clone()), ..Marks::default() };
    world.syncs.mark(&bob(), &room, &marks).await.unwrap();
    a = world.sync(&alice(), Some(&a)).await;
    let ts = json!({"ts": 1_700_000_000_000_u64});
    let public = json!({"m.read": {bob(): ts}});
    assert_eq!(ephemeral(&a, &room, "m.receipt"), [&json!({first.as_str(): public})]);
    assert_eq!(short(&joined(&a, &room)["timeline"]), [""; 0]);
    b = world.sync(&bob(), Some(&b)).await;
    let both = json!({first.as_str(): public, second.as_str(): {"m.read.private": {bob(): ts}}});
    assert_eq!(ephemeral(&b, &room, "m.receipt"), [&both]);

    // One that goes back changes nothing; one who joins is told all that are public.
    world.syncs.mark(&bob(), &room, &read(&second)).await.unwrap();
    world.syncs.mark(&bob(), &room, &read(&first)).await.unwrap();
    world.change(&room, &carol(), MembershipChange::Join).await;
    let c = world.sync(&carol(), None).await;
    assert_eq!(ephemeral(&c, &room, "m.receipt"), [&json!({second.as_str(): public})]);
    let no_receipts = json!({"room": {"ephemeral": {"not_types": ["m.receipt"]}}});
    let c = world.ask(filtered(&carol(), None, &no_receipts)).await;
    assert!(ephemeral(&c, &room, "m.receipt").is_empty());
}

#[tokio::test]
async fn receipts_of_threads_stand_beside_each_other() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let root = world.say(&room, &alice(), "root").await;
    let content = json!({"body": "reply", "m.relates_to": {"rel_type": "m.thread", "event_id": root}});
    let draft = Draft::message(alice(), "m.room.message", to_raw_value(&content).unwrap());
    let reply = world.rooms.send(&room, draft, None).await.unwrap();
    let before = world.sync(&bob(), None).await;
    let mark = async |event: &OwnedEventId, thread: Option<&str>| {
        let marks = Marks { thread: thread.map(ToOwned::to_owned), ..read(event) };
        world.syncs.mark(&bob(), &room, &marks).await
    };
    mark(&root, None).await.unwrap();
    mark(&root, Some("main")).await.unwrap();
    mark(&reply, Some(root.as_str())).await.unwrap();
    mark(&root, Some(root.as_str())).await.unwrap();
    let response = world.sync(&bob(), Some(&before)).await;
    let ts = 1_700_000_000_000_u64;
    let receipt = |event: &OwnedEventId, receipt: Value| json!({event.as_str(): {"m.read": {bob(): receipt}}});
    let expected = [
        receipt(&root, json!({"ts": ts})),
        receipt(&reply, json!({"ts": ts, "thread_id": root})),
        receipt(&root, json!({"ts": ts, "thread_id": "main"})),
    ];
    assert_eq!(ephemeral(&response, &room, "m.receipt"), expected.iter().collect::<Vec<_>>());

    for (event, thread) in [(&reply, "main"), (&reply, "$other"), (&root, "$other"), (&root, "")] {
        let refused = mark(event, Some(thread)).await;
        assert!(matches!(refused, Err(SyncError::InvalidParam(_))), "{event} {thread}");
    }
}

#[tokio::test]
async fn marks_are_for_members_and_for_events_of_the_room() {
    let world = World::new().await;
    let (room, other) = (world.room_with_bob().await, world.room().await);
    let elsewhere = world.say(&other, &alice(), "1").await;
    let refused = world.syncs.mark(&carol(), &room, &Marks::default()).await;
    assert!(matches!(refused, Err(SyncError::Forbidden(_))));
    let marker = Marks { fully_read: Some(elsewhere.clone()), ..Marks::default() };
    for marks in [read(&elsewhere), marker] {
        let refused = world.syncs.mark(&bob(), &room, &marks).await;
        assert!(matches!(refused, Err(SyncError::InvalidParam(_))));
    }
    assert!(matches!(world.syncs.typing(&carol(), &room, Some(None)), Err(SyncError::Forbidden(_))));
}

#[tokio::test]
async fn the_read_marker_is_account_data_of_the_room() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let event = world.say(&room, &alice(), "1").await;
    let before = world.sync(&bob(), None).await;
    let marks = Marks { fully_read: Some(event.clone()), ..Marks::default() };
    world.syncs.mark(&bob(), &room, &marks).await.unwrap();
    let response = world.sync(&bob(), Some(&before)).await;
    let expected = json!([{"type": "m.fully_read", "content": {"event_id": event}}]);
    assert_eq!(joined(&response, &room)["account_data"]["events"], expected);
    assert!(joined(&world.sync(&alice(), None).await, &room)["account_data"]["events"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn account_data_is_told_when_it_changes_and_with_everything() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let before = world.sync(&bob(), None).await;
    let kinds = |events: &Value| -> Vec<String> {
        let events = events["events"].as_array().cloned().unwrap_or_default();
        events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&before["account_data"]), ["m.push_rules"]);
    assert!(before["account_data"]["events"][0]["content"]["global"]["override"].is_array());
    world.store(&bob(), None, "m.direct", &json!({"x": []})).await;
    world.store(&bob(), Some(&room), "m.tag", &json!({"tags": {}})).await;
    let response = world.sync(&bob(), Some(&before)).await;
    assert_eq!(kinds(&response["account_data"]), ["m.direct"]);
    assert_eq!(kinds(&joined(&response, &room)["account_data"]), ["m.tag"]);
    assert!(world.sync(&bob(), Some(&response)).await.get("account_data").is_none());
    let all = world.sync(&bob(), None).await;
    assert_eq!(kinds(&all["account_data"]), ["m.direct", "m.push_rules"]);
    assert_eq!(kinds(&joined(&all, &room)["account_data"]), ["m.tag"]);
    let none = json!({"account_data": {"types": []}, "room": {"account_data": {"types": []}}});
    let filtered = world.ask(filtered(&bob(), Some(token(&before)), &none)).await;
    assert!(filtered.get("account_data").is_none() && filtered.get("rooms").is_none());
}

#[tokio::test]
async fn who_types_is_told_until_they_stop_or_leave() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let typing = |response: &Value| -> Option<Value> {
        ephemeral(response, &room, "m.typing").first().map(|content| content["user_ids"].clone())
    };
    let mut a = world.sync(&alice(), None).await;
    assert_eq!(typing(&a), None);
    world.syncs.typing(&bob(), &room, Some(None)).unwrap();
    a = world.sync(&alice(), Some(&a)).await;
    assert_eq!(typing(&a), Some(json!([bob()])));
    assert_eq!(typing(&world.sync(&alice(), Some(&a)).await), None);
    assert_eq!(typing(&world.sync(&alice(), None).await), Some(json!([bob()])), "those who come later see it too");
    world.syncs.typing(&bob(), &room, None).unwrap();
    a = world.sync(&alice(), Some(&a)).await;
    assert_eq!(typing(&a), Some(json!([])));

    world.syncs.typing(&bob(), &room, Some(Some(Duration::from_hours(1)))).unwrap();
    a = world.sync(&alice(), Some(&a)).await;
    world.change(&room, &bob(), MembershipChange::Leave).await;
    world.syncs.0.catch_up().unwrap();
    a = world.sync(&alice(), Some(&a)).await;
    assert_eq!(typing(&a), Some(json!([])));
}
