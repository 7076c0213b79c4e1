//! Connections: lost responses, restarts, positions, waiting.

use super::*;
use std::pin::pin;

#[tokio::test]
async fn what_was_told_is_not_told_again() {
    let world = World::new().await;
    let (room, quiet) = (world.room_with_bob().await, world.room_with_bob().await);
    let rules = list((0, 19), rule(5, &[("m.room.name", "")]));
    let first = world.slide(None, &rules).await;
    assert_eq!(told(&first).len(), 2);
    assert_eq!((&of(&first, &room)["initial"], &first["lists"]["all"]["count"]), (&json!(true), &json!(2)));
    assert_eq!(of(&first, &quiet)["num_live"], 0);
    world.say(&room, &alice(), "1").await;
    let second = world.slide(Some(&first), &rules).await;
    assert_eq!(told(&second), [room.as_str()]);
    let news = of(&second, &room);
    assert_eq!((brief(&news["timeline"]), &news["num_live"]), (vec!["1".to_owned()], &json!(1)));
    assert_eq!((news.get("initial"), news.get("required_state"), news.get("name")), (None, None, None));
    let third = world.slide(Some(&second), &rules).await;
    assert_eq!((&third["rooms"], &third["extensions"]), (&json!({}), &json!({})));
}

#[tokio::test]
async fn a_lost_response_is_told_again() {
    let mut world = World::new().await;
    let room = world.room_with_bob().await;
    let rules = list((0, 0), rule(5, &[]));
    let first = world.slide(None, &rules).await;
    let other = world.room_with_bob().await;
    world.say(&other, &alice(), "1").await;
    let lost = world.slide(Some(&first), &rules).await;
    assert_eq!(of(&lost, &other)["initial"], true);
    for _ in 0..2 {
        let again = world.slide(Some(&first), &rules).await;
        assert_eq!(of(&again, &other), of(&lost, &other));
        world.restart();
    }
    let next = world.slide(Some(&first), &rules).await;
    world.say(&room, &alice(), "2").await;
    let back = world.slide(Some(&next), &rules).await;
    assert_eq!((told(&back), of(&back, &room).get("initial")), (vec![room.as_str()], None));
    assert_eq!(brief(&of(&back, &room)["timeline"]), ["2"]);
}

#[tokio::test]
async fn a_connection_goes_on_after_a_restart() {
    let mut world = World::new().await;
    let rooms = [world.room_with_bob().await, world.room_with_bob().await, world.room_with_bob().await];
    let rules = list((0, 1), rule(5, &[("m.room.topic", "")]));
    let mut last = world.slide(None, &rules).await;
    assert_eq!(told(&last).len(), 2);
    for n in 0..6 {
        world.restart();
        let room = &rooms[n % 3];
        world.say(room, &alice(), &n.to_string()).await;
        last = world.slide(Some(&last), &rules).await;
        assert_eq!(told(&last), [room.as_str()], "{n}");
        // The first room was never in view before.
        assert_eq!(of(&last, room).get("initial").is_some(), n == 0, "{n}");
        assert_eq!(brief(&of(&last, room)["timeline"]).last().unwrap(), &n.to_string());
    }
}

#[tokio::test]
async fn a_position_is_good_for_its_own_connection_only() {
    let world = World::new().await;
    world.room_with_bob().await;
    let rules = list((0, 9), rule(1, &[]));
    let first = world.slide(None, &rules).await;
    let refused = async |request: SlidingRequest| {
        let error = world.syncs.sliding(request).await.unwrap_err();
        assert!(matches!(error, SyncError::UnknownPosition), "{error}");
    };
    refused(SlidingRequest { device_id: "OTHER".into(), ..sliding(Some(&first), &rules) }).await;
    refused(SlidingRequest { user_id: alice(), ..sliding(Some(&first), &rules) }).await;
    refused(SlidingRequest { connection: "other".to_owned(), ..sliding(Some(&first), &rules) }).await;
    refused(SlidingRequest { position: Some("nonsense".to_owned()), ..sliding(None, &rules) }).await;
    let restarted = world.slide(None, &rules).await;
    refused(sliding(Some(&first), &rules)).await;
    assert_eq!(told(&world.slide(Some(&restarted), &rules).await), [""; 0]);
}

#[tokio::test]
async fn a_position_before_the_last_confirmed_one_is_refused() {
    let world = World::new().await;
    let rules = list((0, 9), rule(1, &[]));
    let first = world.slide(None, &rules).await;
    world.room_with_bob().await;
    let second = world.slide(Some(&first), &rules).await;
    world.slide(Some(&second), &rules).await;
    let error = world.syncs.sliding(sliding(Some(&first), &rules)).await.unwrap_err();
    assert!(matches!(error, SyncError::UnknownPosition), "{error}");
}

#[tokio::test]
async fn the_connections_of_a_device_are_few() {
    let mut world = World::new().await;
    let rules = list((0, 9), rule(1, &[]));
    let begin = |n: usize| SlidingRequest { connection: n.to_string(), ..sliding(None, &rules) };
    let mut positions = Vec::new();
    for n in 0..20 {
        world.clock.advance(Duration::from_secs(1));
        positions.push(world.slide_with(begin(n)).await);
    }
    assert_eq!(world.records.view().sliding_connections(&bob(), "DEVICE".into()).unwrap().len(), 16);
    world.restart();
    let again = |n: usize| SlidingRequest { connection: n.to_string(), ..sliding(Some(&positions[n]), &rules) };
    assert!(matches!(world.syncs.sliding(again(0)).await, Err(SyncError::UnknownPosition)));
    assert!(world.syncs.sliding(again(19)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_what_is_in_view() {
    let world = World::new().await;
    let (room, other) = (world.room_with_bob().await, world.room_with_bob().await);
    let only = Rules { subscriptions: [(room.clone(), rule(5, &[]))].into(), ..Rules::default() };
    let first = world.slide(None, &only).await;
    let wait = |position: &Value| SlidingRequest { timeout: Duration::from_secs(30), ..sliding(Some(position), &only) };
    let mut waiting = pin!(world.slide_with(wait(&first)));
    let short = Duration::from_secs(5);
    assert!(tokio::time::timeout(short, &mut waiting).await.is_err());
    world.say(&other, &alice(), "not for this connection").await;
    assert!(tokio::time::timeout(short, &mut waiting).await.is_err());
    world.say(&room, &alice(), "1").await;
    let second = waiting.await;
    assert_eq!(brief(&of(&second, &room)["timeline"]), ["1"]);
    let nothing = world.slide_with(wait(&second)).await;
    assert_eq!(nothing["rooms"], json!({}), "it has timed out");
}

#[tokio::test(start_paused = true)]
async fn a_newer_request_takes_the_connection_over() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let rules = list((0, 9), rule(5, &[]));
    let first = world.slide(None, &rules).await;
    let wait = SlidingRequest { timeout: Duration::from_secs(30), ..sliding(Some(&first), &rules) };
    let mut older = pin!(world.slide_with(wait));
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut older).await.is_err());
    let wider = Rules { subscriptions: [(room.clone(), rule(50, &[]))].into(), ..rules.clone() };
    let newer = world.slide(Some(&first), &wider).await;
    assert_eq!(
        (&older.await["pos"], &newer["rooms"][room.as_str()]["expanded_timeline"]),
        (&first["pos"], &json!(true))
    );
    world.say(&room, &alice(), "1").await;
    assert_eq!(told(&world.slide(Some(&newer), &wider).await), [room.as_str()]);
}

#[tokio::test]
async fn what_takes_place_out_of_view_is_told_when_the_room_comes_back() {
    let world = World::new().await;
    let (room, other) = (world.room_with_bob().await, world.room_with_bob().await);
    let rules = |range| list(range, rule(5, &[("m.room.topic", "")]));
    let first = world.slide(None, &rules((0, 1))).await;
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "T"})).await;
    world.say(&room, &alice(), "1").await;
    world.say(&other, &alice(), "2").await;
    let second = world.slide(Some(&first), &rules((0, 0))).await;
    assert_eq!(told(&second), [other.as_str()]);
    let third = world.slide(Some(&second), &rules((0, 1))).await;
    assert_eq!(told(&third), [room.as_str()]);
    let back = of(&third, &room);
    assert_eq!(
        (back.get("initial"), brief(&back["timeline"])),
        (None, vec!["m.room.topic".to_owned(), "1".to_owned()])
    );
    assert_eq!((brief(&back["required_state"]), &back["num_live"]), (vec!["m.room.topic".to_owned()], &json!(0)));
}

#[tokio::test]
async fn requests_beyond_the_limits_are_refused() {
    let world = World::new().await;
    let many = (0..=100).map(|n| (n.to_string(), ListRule::default())).collect();
    let rules = Rules { lists: many, ..Rules::default() };
    assert!(matches!(world.syncs.sliding(sliding(None, &rules)).await, Err(SyncError::InvalidParam(_))));
    let long = SlidingRequest { connection: "x".repeat(256), ..sliding(None, &Rules::default()) };
    assert!(matches!(world.syncs.sliding(long).await, Err(SyncError::InvalidParam(_))));
}
