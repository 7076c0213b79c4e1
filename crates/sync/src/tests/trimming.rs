//! A log that has lost its beginning.

use super::*;
use base::Stamp;

/// What bob is told after a token from before most of what happened, of a server whose log is whole or trimmed.
async fn told_after(trims: bool) -> Value {
    let world = World::new().await;
    let (first, second) = (world.room_with_bob().await, world.room_with_bob().await);
    let since = world.sync(&bob(), None).await;
    world.say(&first, &alice(), "missed").await;
    world.set(&second, &alice(), "m.room.topic", json!({"topic": "missed"})).await;
    world.store(&bob(), None, "org.example.data", &json!({"missed": true})).await;
    world.change(&second, &alice(), MembershipChange::Kick { user: bob() }).await;
    if trims {
        // As after a restart: nothing is remembered of who was active.
        let view = world.records.view();
        world.syncs.0.catch_up().unwrap();
        world.syncs.0.trim_log(0, 1).await.unwrap();
        assert_eq!(world.records.view().log_trimmed().unwrap(), view.stamp());
        assert!(world.records.view().log(Stamp(0), view.stamp(), 100).unwrap().is_empty());
        let rooms = world.rooms.clone();
        let again = Syncs::new(world.records.clone(), rooms, world.clock.clone(), Config::default());
        let answer = again.sync(request(&bob(), Some(token(&since)))).await.unwrap();
        return serde_json::from_slice(&answer).unwrap();
    }
    world.sync(&bob(), Some(&since)).await
}

#[tokio::test]
async fn a_token_from_before_the_log_begins_misses_nothing() {
    let (whole, trimmed) = (told_after(false).await, told_after(true).await);
    for told in [&whole, &trimmed] {
        let rooms = told["rooms"]["join"].as_object().unwrap();
        let bodies: Vec<_> = rooms.values().flat_map(|room| short(&room["timeline"])).collect();
        assert_eq!(bodies, ["missed"]);
        let left = told["rooms"]["leave"].as_object().unwrap();
        let events: Vec<_> = left.values().flat_map(|room| short(&room["timeline"])).collect();
        assert_eq!(events, ["m.room.topic", "m.room.member @bob:here.example"]);
        assert_eq!(short(&told["account_data"]), ["org.example.data"]);
    }
}

#[tokio::test]
async fn what_is_kept_of_the_log_stays_and_what_nobody_has_read_as_well() {
    let world = World::new().await;
    let room = world.room().await;
    for number in 0..20 {
        world.say(&room, &alice(), &number.to_string()).await;
    }
    world.syncs.0.catch_up().unwrap();
    let newest = world.records.view().stamp();
    world.syncs.0.trim_log(5, 100).await.unwrap();
    assert_eq!(world.records.view().log_trimmed().unwrap(), Stamp(0));
    world.syncs.0.trim_log(5, 10).await.unwrap();
    let view = world.records.view();
    assert_eq!(view.log_trimmed().unwrap(), Stamp(newest.0 - 5));
    assert_eq!(view.log(Stamp(newest.0 - 5), newest, 100).unwrap().len(), 5);

    // The task that follows the log has not run since: it must find what it has not read.
    let mut changes = world.records.changes(&view);
    changes.put_account_data(&alice(), None, "x", "{}").unwrap();
    world.records.commit(changes).await.unwrap();
    let followed = world.syncs.0.active.followed();
    world.syncs.0.trim_log(0, 1).await.unwrap();
    assert!(world.records.view().log_trimmed().unwrap() <= followed);
}

#[tokio::test]
async fn what_another_follower_has_not_read_stays() {
    let world = World::new().await;
    let room = world.room().await;
    let begun = world.records.view().stamp();
    let view = world.records.view();
    let mut changes = world.records.changes(&view);
    changes.set_follower("search", begun);
    changes.set_follower("push", begun.next());
    world.records.commit(changes).await.unwrap();
    for number in 0..20 {
        world.say(&room, &alice(), &number.to_string()).await;
    }
    world.syncs.0.catch_up().unwrap();
    world.syncs.0.trim_log(0, 1).await.unwrap();
    let view = world.records.view();
    assert_eq!(view.follower("push").unwrap(), Some(begun.next()));
    assert_eq!(view.log_trimmed().unwrap(), begun);

    let mut changes = world.records.changes(&view);
    changes.forget_follower("search");
    changes.forget_follower("push");
    world.records.commit(changes).await.unwrap();
    world.syncs.0.trim_log(0, 1).await.unwrap();
    assert!(world.records.view().log_trimmed().unwrap() > begun.next());
}
