//! Events that come from other servers, and what they refer to.

use super::entering::join;
use super::net::{Net, raw};
use rooms::MembershipChange;
use ruma::RoomVersionId;
use serde_json::json;

#[tokio::test]
async fn what_was_missed_is_fetched_and_comes_in_order() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let room = a.room("alice", RoomVersionId::V11).await;
    join(&b, &room, "bob", &a).await.unwrap();
    for nth in 0..25 {
        a.say(&room, "alice", &nth.to_string()).await;
    }
    let last = a.say(&room, "alice", "last").await;
    let outcomes = b.federation.receive(&a.name, &[a.json(&room, &last)]).await;
    assert_eq!(outcomes.get(&last), Some(&Ok(())));
    assert_eq!(b.bodies(&room), a.bodies(&room));
    assert_eq!(net.count("state_ids"), 0, "nothing was missing but what could be had");
}

#[tokio::test]
async fn a_gap_that_is_not_filled_is_bridged_with_the_state_that_others_give() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let room = a.room("alice", RoomVersionId::V11).await;
    join(&b, &room, "bob", &a).await.unwrap();
    a.set(&room, "alice", "m.room.topic", "", &json!({ "topic": "new" })).await;
    for nth in 0..300 {
        a.say(&room, "alice", &nth.to_string()).await;
    }
    let last = a.say(&room, "alice", "last").await;
    let outcomes = b.federation.receive(&a.name, &[a.json(&room, &last)]).await;
    assert_eq!(outcomes.get(&last), Some(&Ok(())));
    let bodies = b.bodies(&room);
    assert!(bodies.len() < 250 && bodies.last().is_some_and(|body| body == "last"), "{}", bodies.len());
    assert_eq!(a.state(&room), b.state(&room));
}

#[tokio::test]
async fn an_event_whose_sender_does_not_give_what_it_follows_is_refused_and_may_come_again() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let room = a.room("alice", RoomVersionId::V11).await;
    join(&b, &room, "bob", &a).await.unwrap();
    let first = a.say(&room, "alice", "first").await;
    let second = a.say(&room, "alice", "second").await;
    net.silent.lock().unwrap().push("get_missing_events".to_owned());
    let outcomes = b.federation.receive(&a.name, &[a.json(&room, &second)]).await;
    assert!(outcomes[&second].is_err());
    assert_eq!(net.count("state_ids"), 0);
    let outcomes = b.federation.receive(&a.name, &[a.json(&room, &second), a.json(&room, &first)]).await;
    assert!(outcomes.values().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(b.bodies(&room), ["first", "second"]);
}

#[tokio::test]
async fn events_of_a_barred_server_are_refused() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let room = a.room("alice", RoomVersionId::V11).await;
    join(&b, &room, "bob", &a).await.unwrap();
    let sent = b.say(&room, "bob", "hello").await;
    let acl = json!({ "allow": ["*"], "deny": ["B.example"] });
    a.set(&room, "alice", "m.room.server_acl", "", &acl).await;
    let outcomes = a.federation.receive(&b.name, &[b.json(&room, &sent)]).await;
    assert!(outcomes[&sent].is_err());
    assert!(a.bodies(&room).is_empty());
}

#[tokio::test]
async fn what_is_forged_or_no_event_is_dropped_and_the_rest_is_not() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let room = a.room("alice", RoomVersionId::V11).await;
    join(&b, &room, "bob", &a).await.unwrap();
    let good = a.say(&room, "alice", "good").await;
    let mut forged: serde_json::Value = serde_json::from_str(a.json(&room, &good).get()).unwrap();
    forged["depth"] = json!(99);
    let nothing = [json!({}), json!({ "room_id": room }), json!({ "room_id": "!other:a.example" }), json!(7)];
    let mut pdus: Vec<_> = nothing.iter().map(raw).collect();
    pdus.extend([raw(&forged), a.json(&room, &good)]);
    let outcomes = b.federation.receive(&a.name, &pdus).await;
    assert_eq!(outcomes.get(&good), Some(&Ok(())));
    assert_eq!(outcomes.values().filter(|outcome| outcome.is_err()).count(), 1);
    assert_eq!(b.bodies(&room), ["good"]);
}

#[tokio::test]
async fn two_sides_that_go_on_by_themselves_agree_when_they_hear_of_each_other() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let room = a.room("alice", RoomVersionId::V10).await;
    join(&b, &room, "bob", &a).await.unwrap();
    let levels = json!({ "users": { a.user("alice"): 100, b.user("bob"): 50 }, "state_default": 50 });
    let levels = a.set(&room, "alice", "m.room.power_levels", "", &levels).await;
    b.federation.receive(&a.name, &[a.json(&room, &levels)]).await;
    // Each says something, and changes something.
    let kick = MembershipChange::Ban { user: b.user("eve") };
    let ours = [
        a.set(&room, "alice", "m.room.name", "", &json!({ "name": "a" })).await,
        a.rooms.change_membership(&room, &a.user("alice"), kick, None, None).await.unwrap().unwrap(),
        a.say(&room, "alice", "from a").await,
    ];
    let theirs = [
        b.set(&room, "bob", "m.room.topic", "", &json!({ "topic": "b" })).await,
        b.set(&room, "bob", "m.room.name", "", &json!({ "name": "b" })).await,
        b.say(&room, "bob", "from b").await,
    ];
    let to_b: Vec<_> = ours.iter().map(|id| a.json(&room, id)).collect();
    let to_a: Vec<_> = theirs.iter().map(|id| b.json(&room, id)).collect();
    let (at_b, at_a) = tokio::join!(b.federation.receive(&a.name, &to_b), a.federation.receive(&b.name, &to_a));
    assert!(at_a.values().chain(at_b.values()).all(Result::is_ok), "{at_a:?} {at_b:?}");
    assert_eq!(a.state(&room), b.state(&room));
    let joint = a.say(&room, "alice", "both").await;
    b.federation.receive(&a.name, &[a.json(&room, &joint)]).await;
    assert_eq!(b.reader(&room).head().extremities.len(), 1);
}
