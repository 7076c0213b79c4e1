//! Entering rooms through another server, and getting out again.

use super::net::{Net, Server};
use crate::{FederationError, Joining};
use records::Membership;
use rooms::{MembershipChange, RoomError};
use ruma::{OwnedEventId, OwnedUserId, RoomId, RoomVersionId};
use serde_json::{Value, json};

pub(crate) async fn join(
    server: &Server,
    room: &RoomId,
    user: &str,
    via: &Server,
) -> Result<OwnedEventId, FederationError> {
    let via = [via.name.clone()];
    let user = server.user(user);
    server.federation.join(Joining { room_id: room, user: &user, via: &via, reason: None, extra: None }).await
}

fn membership(server: &Server, room: &RoomId, user: &OwnedUserId) -> Option<Membership> {
    let reader = server.reader(room);
    reader.membership(user).unwrap().map(|(_, record)| record.membership)
}

#[tokio::test]
async fn a_room_of_every_version_can_be_entered_through_a_server_that_is_in_it() {
    for version in rules::SUPPORTED {
        let net = Net::new();
        let (a, b) = (net.server("a.example").await, net.server("b.example").await);
        let room = a.room("alice", version.clone()).await;
        a.say(&room, "alice", "before").await;
        join(&b, &room, "bob", &a).await.unwrap();
        assert_eq!(a.state(&room), b.state(&room), "{version}");
        assert_eq!((b.reader(&room).head().joined, a.reader(&room).head().joined), (2, 2));
        assert!(b.rooms.takes_part(&b.records.view(), &room).unwrap());
        // What is sent from there on follows what both have.
        let sent = b.say(&room, "bob", "hello").await;
        let outcomes = a.federation.receive(&b.name, &[b.json(&room, &sent)]).await;
        assert_eq!(outcomes.get(&sent), Some(&Ok(())), "{version}");
        assert_eq!(a.bodies(&room), ["before", "hello"]);
        assert_eq!(b.bodies(&room), ["hello"]);
        let servers = a.records.view().room_servers(a.reader(&room).num(), None, 10).unwrap();
        assert_eq!(servers.len(), 2);
    }
}

#[tokio::test]
async fn history_from_before_the_join_is_fetched() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let room = a.room("alice", RoomVersionId::V11).await;
    for nth in 0..30 {
        a.say(&room, "alice", &nth.to_string()).await;
    }
    join(&b, &room, "bob", &a).await.unwrap();
    assert!(b.bodies(&room).is_empty());
    assert!(b.federation.backfill(&room, 20).await.unwrap());
    let some = b.bodies(&room);
    assert!(some.len() >= 20 && some.last().is_some_and(|last| last == "29"), "{some:?}");
    while b.federation.backfill(&room, 20).await.unwrap() {}
    assert_eq!(b.bodies(&room), a.bodies(&room));
    assert_eq!(b.timeline(&room).len(), a.timeline(&room).len());
    assert!(!b.federation.backfill(&room, 20).await.unwrap(), "there is no more");
}

#[tokio::test]
async fn a_room_that_refuses_is_not_entered_and_says_why() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let room = a.room("alice", RoomVersionId::V11).await;
    a.set(&room, "alice", "m.room.join_rules", "", &json!({ "join_rule": "invite" })).await;
    let refused = join(&b, &room, "bob", &a).await.unwrap_err();
    assert!(refused.is_refusal("M_FORBIDDEN"), "{refused}");
    assert!(b.records.view().room_num(&room).unwrap().is_none());
    let nobody = join(&b, &room, "bob", &b).await.unwrap_err();
    assert!(matches!(nobody, FederationError::Peer(_) | FederationError::NobodyToAsk), "{nobody}");
}

#[tokio::test]
async fn an_invitation_comes_is_accepted_and_lets_the_user_in() {
    for version in [RoomVersionId::V1, RoomVersionId::V10, RoomVersionId::V12] {
        let net = Net::new();
        let (a, b) = (net.server("a.example").await, net.server("b.example").await);
        let room = a.room("alice", version.clone()).await;
        a.set(&room, "alice", "m.room.join_rules", "", &json!({ "join_rule": "invite" })).await;
        a.set(&room, "alice", "m.room.name", "", &json!({ "name": "Plans" })).await;
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let invited = a.federation.invite(&room, &alice, &bob, None, None).await.unwrap();
        assert!(invited.is_some());
        assert_eq!(membership(&a, &room, &bob), Some(Membership::Invite));
        assert_eq!(membership(&b, &room, &bob), Some(Membership::Invite), "{version}");
        let (_, record) = b.reader(&room).membership(&bob).unwrap().unwrap();
        let shown: Vec<Value> = serde_json::from_str(record.stripped_state.as_deref().unwrap()).unwrap();
        assert!(shown.iter().any(|event| event["content"]["name"] == "Plans"), "{shown:?}");
        assert!(shown.iter().any(|event| event["state_key"] == bob.as_str()), "{shown:?}");
        assert!(shown.iter().all(|event| event.get("signatures").is_none()));
        // Nobody has to say where the room is: whoever invited knows it.
        let joining = Joining { room_id: &room, user: &bob, via: &[], reason: None, extra: None };
        b.federation.join(joining).await.unwrap();
        assert_eq!(a.state(&room), b.state(&room));
        assert_eq!(membership(&b, &room, &bob), Some(Membership::Join));
    }
}

#[tokio::test]
async fn an_invitation_is_rejected_with_or_without_the_other_server() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    for reachable in [true, false] {
        let room = a.room("alice", RoomVersionId::V11).await;
        a.federation.invite(&room, &alice, &bob, None, None).await.unwrap();
        if !reachable {
            net.silent.lock().unwrap().push("make_leave".to_owned());
        }
        b.federation.leave(&room, &bob, None).await.unwrap();
        assert_eq!(membership(&b, &room, &bob), Some(Membership::Leave));
        let expected = if reachable { Membership::Leave } else { Membership::Invite };
        assert_eq!(membership(&a, &room, &bob), Some(expected));
        assert!(b.federation.leave(&room, &bob, None).await.is_err(), "there is nothing to leave any more");
    }
}

#[tokio::test]
async fn an_invitation_that_is_taken_back_is_gone() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.room("alice", RoomVersionId::V11).await;
    a.federation.invite(&room, &alice, &bob, None, None).await.unwrap();
    let kick = MembershipChange::Kick { user: bob.clone() };
    let kicked = a.rooms.change_membership(&room, &alice, kick, None, None).await.unwrap().unwrap();
    let outcomes = b.federation.receive(&a.name, &[a.json(&room, &kicked)]).await;
    assert_eq!(outcomes.get(&kicked), Some(&Ok(())));
    assert_eq!(membership(&b, &room, &bob), Some(Membership::Leave));
}

#[tokio::test]
async fn one_knocks_and_is_let_in() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.room("alice", RoomVersionId::V11).await;
    a.set(&room, "alice", "m.room.join_rules", "", &json!({ "join_rule": "knock" })).await;
    let via = [a.name.clone()];
    let reason = Some("please".to_owned());
    b.federation.knock(Joining { room_id: &room, user: &bob, via: &via, reason, extra: None }).await.unwrap();
    assert_eq!(membership(&a, &room, &bob), Some(Membership::Knock));
    assert_eq!(membership(&b, &room, &bob), Some(Membership::Knock));
    a.federation.invite(&room, &alice, &bob, None, None).await.unwrap();
    assert_eq!(membership(&b, &room, &bob), Some(Membership::Invite));
    let joining = Joining { room_id: &room, user: &bob, via: &[], reason: None, extra: None };
    b.federation.join(joining).await.unwrap();
    assert_eq!(a.state(&room), b.state(&room));
}

#[tokio::test]
async fn who_has_left_comes_back_to_what_the_room_has_become() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let bob = b.user("bob");
    let room = a.room("alice", RoomVersionId::V11).await;
    join(&b, &room, "bob", &a).await.unwrap();
    let left = b.rooms.change_membership(&room, &bob, MembershipChange::Leave, None, None).await.unwrap().unwrap();
    a.federation.receive(&b.name, &[b.json(&room, &left)]).await;
    assert!(!b.rooms.takes_part(&b.records.view(), &room).unwrap());
    a.set(&room, "alice", "m.room.name", "", &json!({ "name": "New" })).await;
    a.say(&room, "alice", "missed").await;
    // Events of a room that this server is not in are nothing to it.
    let missed = a.say(&room, "alice", "missed again").await;
    let outcomes = b.federation.receive(&a.name, &[a.json(&room, &missed)]).await;
    assert!(outcomes.get(&missed).is_some_and(Result::is_err));
    join(&b, &room, "bob", &a).await.unwrap();
    assert_eq!(a.state(&room), b.state(&room));
    assert_eq!(b.reader(&room).head().joined, 2);
    let sent = b.say(&room, "bob", "back").await;
    let outcomes = a.federation.receive(&b.name, &[b.json(&room, &sent)]).await;
    assert_eq!(outcomes.get(&sent), Some(&Ok(())));
}

#[tokio::test]
async fn a_room_that_this_server_is_in_is_not_entered_twice() {
    let net = Net::new();
    let (a, b) = (net.server("a.example").await, net.server("b.example").await);
    let room = a.room("alice", RoomVersionId::V11).await;
    join(&b, &room, "bob", &a).await.unwrap();
    join(&b, &room, "carol", &a).await.unwrap();
    assert_eq!(a.state(&room), b.state(&room));
    let entry_of = |user: &str| membership(&b, &room, &b.user(user));
    assert_eq!((entry_of("bob"), entry_of("carol")), (Some(Membership::Join), Some(Membership::Join)));
    let gone = b.federation.leave(&room, &b.user("dave"), None).await.unwrap_err();
    assert!(matches!(gone, FederationError::Room(RoomError::NotFound(_))), "{gone}");
}
