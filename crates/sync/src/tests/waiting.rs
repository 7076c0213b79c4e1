//! Waiting, and being woken.

use super::*;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const LONG: Duration = Duration::from_secs(30);

/// A sync that waits; it waits indeed when this returns.
async fn wait(world: &World, user: &UserId, since: &Value) -> JoinHandle<Value> {
    let request = SyncRequest { timeout: LONG, ..request(user, Some(token(since))) };
    let (syncs, before) = (world.syncs.clone(), world.syncs.waiting());
    let task = tokio::spawn(async move { serde_json::from_slice(&syncs.sync(request).await.unwrap()).unwrap() });
    while world.syncs.waiting() == before {
        tokio::task::yield_now().await;
    }
    task
}

#[tokio::test(start_paused = true)]
async fn a_sync_in_whose_time_nothing_happens_answers_in_the_end() {
    let world = World::new().await;
    let room = world.room().await;
    let before = world.sync(&bob(), None).await;
    let (started, waiting) = (Instant::now(), wait(&world, &bob(), &before).await);
    // Not bob's room.
    world.say(&room, &alice(), "1").await;
    let response = waiting.await.unwrap();
    let fields: Vec<_> = response.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["device_one_time_keys_count", "device_unused_fallback_key_types", "next_batch"]);
    assert_eq!(started.elapsed().as_secs(), LONG.as_secs());
    assert_eq!(world.syncs.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_wakes_the_members_and_nobody_else() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let (b, c) = (world.sync(&bob(), None).await, world.sync(&carol(), None).await);
    let started = Instant::now();
    let (bob_waits, carol_waits) = (wait(&world, &bob(), &b).await, wait(&world, &carol(), &c).await);
    world.say(&room, &alice(), "1").await;
    assert_eq!(short(&joined(&bob_waits.await.unwrap(), &room)["timeline"]), ["1"]);
    assert!(started.elapsed() < Duration::from_secs(1));
    assert!(carol_waits.await.unwrap().get("rooms").is_none());
    assert!(started.elapsed() >= LONG);
}

#[tokio::test(start_paused = true)]
async fn invitations_receipts_typing_and_account_data_wake_too() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let other = world.room().await;
    let event = world.say(&room, &alice(), "1").await;
    let started = Instant::now();
    let mut b = world.sync(&bob(), None).await;

    let waiting = wait(&world, &bob(), &b).await;
    world.change(&other, &alice(), MembershipChange::Invite { user: bob() }).await;
    b = waiting.await.unwrap();
    assert!(b["rooms"]["invite"][other.as_str()].is_object());

    let waiting = wait(&world, &bob(), &b).await;
    let marks = crate::Marks { read: Some(event), ..crate::Marks::default() };
    world.syncs.mark(&alice(), &room, &marks).await.unwrap();
    b = waiting.await.unwrap();
    assert_eq!(joined(&b, &room)["ephemeral"]["events"][0]["type"], "m.receipt");

    let waiting = wait(&world, &bob(), &b).await;
    world.syncs.typing(&alice(), &room, Some(None)).unwrap();
    b = waiting.await.unwrap();
    assert_eq!(joined(&b, &room)["ephemeral"]["events"][0]["content"]["user_ids"], json!([alice()]));

    let waiting = wait(&world, &bob(), &b).await;
    world.store(&bob(), None, "m.direct", &json!({})).await;
    b = waiting.await.unwrap();
    assert_eq!(b["account_data"]["events"][0]["type"], "m.direct");
    assert!(started.elapsed() < Duration::from_secs(1));

    let waiting = wait(&world, &bob(), &b).await;
    world.clock.advance(Duration::from_secs(31));
    b = waiting.await.unwrap();
    assert_eq!(joined(&b, &room)["ephemeral"]["events"][0]["content"]["user_ids"], json!([]));
    assert!(started.elapsed() < LONG, "it is noticed that alice's time to type is up");
}

#[tokio::test(start_paused = true)]
async fn one_who_has_just_joined_is_woken_by_the_room_and_one_who_left_is_not() {
    let world = World::new().await;
    let room = world.room().await;
    let mut b = world.sync(&bob(), None).await;
    let waiting = wait(&world, &bob(), &b).await;
    world.change(&room, &bob(), MembershipChange::Join).await;
    b = waiting.await.unwrap();
    assert!(joined(&b, &room).is_object());
    let waiting = wait(&world, &bob(), &b).await;
    world.say(&room, &alice(), "1").await;
    b = waiting.await.unwrap();
    assert_eq!(short(&joined(&b, &room)["timeline"]), ["1"]);
    world.change(&room, &bob(), MembershipChange::Leave).await;
    b = world.sync(&bob(), Some(&b)).await;
    let (started, waiting) = (Instant::now(), wait(&world, &bob(), &b).await);
    world.say(&room, &alice(), "2").await;
    assert!(waiting.await.unwrap().get("rooms").is_none());
    assert!(started.elapsed() >= LONG);
}

#[tokio::test(start_paused = true)]
async fn what_the_filter_leaves_out_does_not_end_the_wait() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let before = world.sync(&bob(), None).await;
    // Nor does it change how much is unread.
    let filter = json!({"room": {"timeline": {"not_types": ["m.reaction"]}}});
    let request = SyncRequest { timeout: LONG, ..filtered(&bob(), Some(token(&before)), &filter) };
    let syncs = world.syncs.clone();
    let task = tokio::spawn(async move { syncs.sync(request).await.unwrap() });
    while world.syncs.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    let draft = Draft::message(alice(), "m.reaction", to_raw_value(&json!({})).unwrap());
    world.rooms.send(&room, draft, None).await.unwrap();
    let response: Value = serde_json::from_slice(&task.await.unwrap()).unwrap();
    assert!(response.get("rooms").is_none() && started.elapsed() >= LONG);
    let next: crate::SyncToken = token(&response).parse().unwrap();
    assert_eq!(next.stamp, world.records.view().stamp(), "what was looked at need not be looked at again");
}

#[tokio::test(start_paused = true)]
async fn shutdown_answers_all_who_wait() {
    let world = World::new().await;
    let _room = world.room_with_bob().await;
    let before = world.sync(&bob(), None).await;
    let started = Instant::now();
    let (first, second) = (wait(&world, &bob(), &before).await, wait(&world, &bob(), &before).await);
    assert_eq!(world.syncs.waiting(), 2);
    world.syncs.shutdown();
    assert_eq!(first.await.unwrap()["next_batch"], before["next_batch"]);
    second.await.unwrap();
    let late = SyncRequest { timeout: LONG, ..request(&bob(), Some(token(&before))) };
    world.ask(late).await;
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_user_who_does_not_sync_any_more_is_dropped() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let before = world.sync(&bob(), None).await;
    assert_eq!(world.syncs.active_users(), 1);
    world.clock.advance(crate::active::ACTIVE_FOR);
    world.sync(&alice(), None).await;
    world.say(&room, &alice(), "1").await;
    world.syncs.0.catch_up().unwrap();
    world.syncs.0.active.sweep(base::Clock::now(&*world.clock));
    assert_eq!(world.syncs.active_users(), 1, "alice alone");
    // When they are back, they have missed nothing.
    assert_eq!(short(&joined(&world.sync(&bob(), Some(&before)).await, &room)["timeline"]), ["1"]);
}

#[tokio::test]
async fn the_memory_of_a_wait_is_small() {
    let world = World::new().await;
    let future = world.syncs.sync(request(&bob(), None));
    assert!(std::mem::size_of_val(&future) <= 1024, "{}", std::mem::size_of_val(&future));
}

#[tokio::test(start_paused = true)]
async fn one_who_was_away_for_long_takes_a_turn_and_one_who_was_not_does_not() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let before = world.sync(&bob(), None).await;
    world.say(&room, &alice(), "1").await;
    let (records, rooms) = (world.records.clone(), world.rooms.clone());
    let syncs = Syncs::with_log_read_max(records, rooms, world.clock.clone(), Config::default(), 1);
    let turns = u32::try_from(Config::default().initial_syncs_max).unwrap();
    let all_turns = syncs.0.long.clone().acquire_many_owned(turns).await.unwrap();

    let now = world.syncs.token().to_string();
    syncs.sync(request(&alice(), Some(&now))).await.unwrap();
    let long = syncs.sync(request(&bob(), Some(token(&before))));
    tokio::pin!(long);
    assert!(tokio::time::timeout(LONG, &mut long).await.is_err(), "all rooms are looked at, so it needs a turn");
    drop(all_turns);
    let response: Value = serde_json::from_slice(&long.await.unwrap()).unwrap();
    assert_eq!(short(&joined(&response, &room)["timeline"]), ["1"]);
    assert_eq!(syncs.0.long.available_permits(), Config::default().initial_syncs_max, "the turn is given back");
}

#[tokio::test]
async fn who_was_noted_is_woken_even_if_the_rest_of_the_log_cannot_be_read() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    world.sync(&bob(), None).await;
    let active = world.syncs.0.active.enter(&bob(), UnixMillis(0), || world.records.view()).unwrap().unwrap();
    let room = world.records.view().room_num(&room).unwrap().unwrap();
    for at in 1..=2 {
        let woken = active.notify.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        let mut to_wake = crate::active::ToWake::default();
        world.syncs.0.active.note_room(room, crate::active::Happening::Event, base::Stamp(at), &mut to_wake);
        // As when an error leaves the function that notes.
        drop(to_wake);
        assert!(tokio::time::timeout(Duration::ZERO, woken).await.is_ok(), "woken by note {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_the_same_share_what_is_put_together() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let before = world.sync(&bob(), None).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(wait(&world, &bob(), &before).await);
    }
    assert_eq!(world.syncs.0.same.len(), 1);
    let request = SyncRequest { device_id: "OTHER".into(), ..request(&bob(), Some(token(&before))) };
    let request = SyncRequest { timeout: LONG, ..request };
    let syncs = world.syncs.clone();
    let other = tokio::spawn(async move { syncs.sync(request).await.unwrap() });
    while world.syncs.waiting() < 6 {
        tokio::task::yield_now().await;
    }
    let assembled = world.syncs.assembled();
    world.say(&room, &alice(), "1").await;
    for task in waiting {
        assert_eq!(short(&joined(&task.await.unwrap(), &room)["timeline"]), ["1"]);
    }
    let other: Value = serde_json::from_slice(&other.await.unwrap()).unwrap();
    assert_eq!(short(&joined(&other, &room)["timeline"]), ["1"]);
    assert_eq!(world.syncs.assembled() - assembled, 2, "one for each device");
    assert_eq!(world.syncs.0.same.len(), 0, "nothing is kept when all are answered");

    // Who asks later is told what happened later.
    world.say(&room, &alice(), "2").await;
    assert_eq!(short(&joined(&world.sync(&bob(), Some(&before)).await, &room)["timeline"]), ["1", "2"]);
}
