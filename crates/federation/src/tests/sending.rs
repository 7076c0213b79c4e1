//! What happens here is told to the servers that it concerns.

use super::entering::join;
use super::net::{Net, Server};
use devices::OutgoingMessages;
use rooms::MembershipChange;
use ruma::{RoomId, RoomVersionId};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Waits until something is so that other tasks do, a minute at most.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to be");
}

async fn until_same(a: &Server, b: &Server, room: &RoomId) {
    until(|| a.bodies(room) == b.bodies(room) && a.state(room) == b.state(room)).await;
}

#[tokio::test]
async fn what_happens_reaches_all_servers_of_the_room_in_order() {
    let net = Net::new();
    let (a, b, c) = (net.server("a.example").await, net.server("b.example").await, net.server("c.example").await);
    for server in [&a, &b, &c] {
        server.federation.start_sending();
    }
    let room = a.room("alice", RoomVersionId::V11).await;
    join(&b, &room, "bob", &a).await.unwrap();
    // C comes in by A, who has to tell B.
    join(&c, &room, "carol", &a).await.unwrap();
    until(|| b.reader(&room).head().joined == 3).await;
    for nth in 0..120 {
        a.say(&room, "alice", &nth.to_string()).await;
    }
    until_same(&a, &b, &room).await;
    until(|| c.bodies(&room) == a.bodies(&room)).await;
    b.say(&room, "bob", "from b").await;
    until(|| a.bodies(&room).len() == 121 && c.bodies(&room).len() == 121).await;
    // Whoever is put out of the room is told, and nothing more.
    let kick = MembershipChange::Kick { user: c.user("carol") };
    a.rooms.change_membership(&room, &a.user("alice"), kick, None, None).await.unwrap();
    until(|| !c.rooms.takes_part(&c.records.view(), &room).unwrap()).await;
    a.say(&room, "alice", "without carol").await;
    until(|| b.bodies(&room).len() == 122).await;
    assert_eq!(c.bodies(&room).len(), 121);
}

#[tokio::test]
async fn a_server_that_was_away_gets_everything_when_it_is_back() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let room = a.room("alice", RoomVersionId::V11).await;
    join(&b, &room, "bob", &a).await.unwrap();
    a.federation.start_sending();
    net.silent.lock().unwrap().push("/send/".to_owned());
    for nth in 0..300 {
        a.say(&room, "alice", &nth.to_string()).await;
    }
    until(|| net.count("/send/") > 0).await;
    // Where it has stopped is written down, and that the rest has come so far.
    until(|| !a.records.view().destinations(None, 10).unwrap().is_empty()).await;
    let tries = net.count("/send/");
    assert!(tries < 5, "it is left alone: {tries}");
    net.silent.lock().unwrap().clear();
    a.federation.heard_from(&b.name);
    until_same(&a, &b, &room).await;
    assert!(net.count("/send/") - tries < 20, "events are sent together");
    until(|| a.records.view().destinations(None, 10).unwrap().is_empty()).await;
}

#[tokio::test]
async fn what_was_not_delivered_when_the_server_stopped_is_delivered_when_it_starts() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let room = a.room("alice", RoomVersionId::V11).await;
    join(&b, &room, "bob", &a).await.unwrap();
    // The cursor is where it was when it first began; everything since is to be told.
    let mut changes = a.records.changes(&a.records.view());
    changes.set_follower(crate::sending::FOLLOWER, a.records.view().stamp());
    a.records.commit(changes).await.unwrap();
    a.say(&room, "alice", "while nobody was sending").await;
    a.federation.start_sending();
    until_same(&a, &b, &room).await;
}

#[tokio::test]
async fn messages_to_devices_wait_until_they_are_accepted() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    a.federation.start_sending();
    net.silent.lock().unwrap().push("/send/".to_owned());
    let device = BTreeMap::from([("PHONE".into(), r#"{"body":"secret"}"#.to_owned())]);
    let messages = OutgoingMessages { kind: "m.test".to_owned(), contents: BTreeMap::from([(b.user("bob"), device)]) };
    let devices = devices::Devices::new(a.records.clone(), a.name.clone(), a.clock.clone());
    devices.send(&a.user("alice"), &messages, None).await.unwrap();
    until(|| net.count("/send/") > 0).await;
    assert_eq!(a.records.view().outgoing_edus(&b.name, base::Stamp(0), 10).unwrap().len(), 1);
    net.silent.lock().unwrap().clear();
    a.federation.heard_from(&b.name);
    until(|| a.records.view().outgoing_edus(&b.name, base::Stamp(0), 10).unwrap().is_empty()).await;
    let edus = b.edus.lock().unwrap();
    assert_eq!(edus[0]["edu_type"], "m.direct_to_device");
    assert_eq!(edus[0]["content"]["messages"][b.user("bob").as_str()]["PHONE"], json!({ "body": "secret" }));
    assert_eq!(edus[0]["content"]["sender"], a.user("alice").as_str());
}

#[tokio::test]
async fn typing_is_told_now_or_never() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let room = a.room("alice", RoomVersionId::V11).await;
    join(&b, &room, "bob", &a).await.unwrap();
    a.federation.start_sending();
    a.federation.tell_typing(&room, &a.user("alice"), true).unwrap();
    until(|| !b.edus.lock().unwrap().is_empty()).await;
    let edus = b.edus.lock().unwrap().clone();
    assert_eq!(edus[0]["edu_type"], "m.typing");
    assert_eq!(edus[0]["content"], json!({ "room_id": room, "user_id": a.user("alice"), "typing": true }));
}
