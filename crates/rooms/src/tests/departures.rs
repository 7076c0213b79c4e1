//! Those who were in a room, and those whose accounts have ended.

use super::*;

async fn end_account(rooms: &Rooms, user: &UserId) {
    let mut changes = rooms.no_changes();
    changes.end_account(user);
    changes.erase_events(user).unwrap();
    rooms.records().commit(changes).await.unwrap();
}

fn departing(rooms: &Rooms) -> Vec<OwnedUserId> {
    rooms.records().view().departing(100).unwrap()
}

#[tokio::test]
async fn whoever_declined_often_still_sees_what_they_saw() {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V12, Preset::PrivateChat).await;
    change(&rooms, &room, &alice(), MembershipChange::Invite { user: bob() }).await.unwrap();
    change(&rooms, &room, &bob(), MembershipChange::Join).await.unwrap();
    rooms.send(&room, message(alice(), "seen"), None).await.unwrap();
    change(&rooms, &room, &bob(), MembershipChange::Leave).await.unwrap();
    let left = last(&reader(&rooms, &room));
    rooms.send(&room, message(alice(), "unseen"), None).await.unwrap();
    for _ in 0..50 {
        change(&rooms, &room, &alice(), MembershipChange::Invite { user: bob() }).await.unwrap();
        change(&rooms, &room, &bob(), MembershipChange::Leave).await.unwrap();
    }
    let reader = reader(&rooms, &room);
    let departure = reader.departure(&bob()).unwrap().unwrap();
    assert_eq!(departure, Departure { at: left.order, state: left.record.state_after });
    let timeline = whole_timeline(&reader);
    let visible = reader.visible(&bob(), &timeline).unwrap();
    let seen: Vec<_> = timeline.into_iter().zip(visible).filter_map(|(event, sees)| sees.map(|_| event)).collect();
    assert_eq!(bodies(&seen), ["seen"]);
    assert_eq!(reader.departure(&alice()).unwrap(), None);
}

#[tokio::test]
async fn a_membership_that_was_resolved_away_is_a_departure() {
    let rooms = rooms().await;
    let room = room_with_carol(&rooms).await;
    let dave = owned_user_id!("@dave:there.example");
    let signing = key(owned_server_name!("there.example"), 2);
    // Dave enters on a fork where the room was still public, which is resolved against his ban on the other.
    let fork = last(&reader(&rooms, &room));
    rooms
        .send(&room, Draft::state(alice(), "m.room.join_rules", "", raw(&json!({"join_rule": "public", "n": 1}))), None)
        .await
        .unwrap();
    let (member, join) = (("m.room.member", Some(dave.as_str())), json!({"membership": "join"}));
    let joins = event_of(&signing, &dave, &reader(&rooms, &room), &fork, member, &join, 3);
    let joined = rooms.receive(&room, vec![joins]).await.unwrap().remove(0).unwrap();
    let now = reader(&rooms, &room);
    assert!(now.is_joined(&dave).unwrap());
    let record = now.membership(&dave).unwrap().unwrap().1;
    assert_eq!(record.entered, now.view().event_num(&joined).unwrap());

    let view = rooms.records().view();
    let head = view.room_head(now.num()).unwrap().unwrap();
    let loaded = Loaded::read(rooms.shared(), &view, head, room_core_of(&now)).unwrap();
    let changes = rooms.records().changes(&view);
    let mut work = Work::new(rooms.shared_arc(), now.num(), loaded, changes);
    let before = work.loaded.head.joined;
    let by = record.event;
    let nth = work.changes.stamp();
    work.member_gone(nth, &dave, by).unwrap();
    work.finish().unwrap();
    assert_eq!(work.loaded.head.joined, before - 1);
    let changes = std::mem::replace(&mut work.changes, rooms.no_changes());
    rooms.records().commit(changes).await.unwrap();
    let now = reader(&rooms, &room);
    let record = now.membership(&dave).unwrap().unwrap().1;
    assert_eq!((record.membership, record.event, record.entered), (Membership::Leave, by, None));
    assert!(now.departure(&dave).unwrap().is_some());
}

#[tokio::test]
async fn a_user_whose_account_has_ended_enters_no_room() {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
    end_account(&rooms, &bob()).await;
    let refused = change(&rooms, &room, &bob(), MembershipChange::Join).await;
    assert!(matches!(refused, Err(RoomError::Forbidden(_))), "{refused:?}");
    let refused = rooms.create(&bob(), CreateRoom::default()).await;
    assert!(matches!(refused, Err(RoomError::Forbidden(_) | RoomError::InvalidRoomState(_))), "{refused:?}");
    rooms.leave_all(&bob()).await.unwrap();
    assert!(departing(&rooms).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_join_that_races_the_end_of_an_account_outlives_it() {
    for _ in 0..10 {
        let rooms = rooms().await;
        let room = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
        let mut racing = tokio::task::JoinSet::new();
        for number in 0..8 {
            let (rooms, room) = (rooms.clone(), room.clone());
            racing.spawn(async move {
                if number % 2 == 0 {
                    let _may_be_refused = rooms.create(&bob(), CreateRoom::default()).await;
                } else {
                    let _may_be_refused = change(&rooms, &room, &bob(), MembershipChange::Join).await;
                    // Nobody else suffers for it.
                    rooms.send(&room, message(alice(), &number.to_string()), None).await.unwrap();
                }
            });
        }
        end_account(&rooms, &bob()).await;
        rooms.leave_all(&bob()).await.unwrap();
        racing.join_all().await;
        let view = rooms.records().view();
        for (_, _, record) in view.memberships(&bob()).unwrap() {
            assert_eq!(record.membership, Membership::Leave);
        }
    }
}

#[tokio::test]
async fn what_a_stop_cut_off_is_finished_at_the_next_start() {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
    change(&rooms, &room, &bob(), MembershipChange::Join).await.unwrap();
    end_account(&rooms, &bob()).await;
    assert_eq!(departing(&rooms), [bob()]);
    assert!(reader(&rooms, &room).is_joined(&bob()).unwrap());

    let signing = Arc::new(key(owned_server_name!("here.example"), 1));
    let clock = Arc::new(FakeClock::new(UnixMillis(1_700_000_001_000)));
    let random = Arc::new(SeededRandom::new(2));
    let again = Rooms::new(rooms.records().clone(), signing, clock, random, Config::default());
    let mut newest = again.records().newest();
    let finished = async {
        while !departing(&again).is_empty() {
            newest.changed().await.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), finished).await.expect("the rooms are left");
    assert!(!reader(&again, &room).is_joined(&bob()).unwrap());
}

/// What a user reads of the messages of a room.
fn read(rooms: &Rooms, room: &RoomId, user: &UserId) -> Vec<String> {
    let reader = reader(rooms, room);
    let timeline = whole_timeline(&reader);
    let visible = reader.visible(user, &timeline).unwrap();
    let recipient = Recipient { user_id: user, device_id: None, now: UnixMillis(0) };
    let mut bodies = Vec::new();
    for (event, membership) in timeline.iter().zip(visible) {
        let Some(membership) = membership.filter(|_| *event.pdu.kind() == ruma::events::TimelineEventType::RoomMessage)
        else {
            continue;
        };
        let text = reader.client_event(event, recipient, Some(&membership), Format::WithRoomId).unwrap();
        let event: serde_json::Value = serde_json::from_str(text.get()).unwrap();
        bodies.push(event["content"]["body"].as_str().unwrap_or("redacted").to_owned());
    }
    bodies
}

#[tokio::test]
async fn newcomers_get_what_an_erased_user_wrote_redacted_and_members_keep_it() {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
    let users = [owned_user_id!("@back:here.example"), owned_user_id!("@gone:here.example")];
    let newcomer = owned_user_id!("@new:here.example");
    change(&rooms, &room, &bob(), MembershipChange::Join).await.unwrap();
    rooms.send(&room, message(bob(), "early"), None).await.unwrap();
    for user in &users {
        change(&rooms, &room, user, MembershipChange::Join).await.unwrap();
    }
    let sent = rooms.send(&room, message(bob(), "late"), None).await.unwrap();
    rooms.send(&room, message(alice(), "alice's"), None).await.unwrap();
    for user in &users {
        change(&rooms, &room, user, MembershipChange::Leave).await.unwrap();
    }
    end_account(&rooms, &bob()).await;
    rooms.leave_all(&bob()).await.unwrap();
    change(&rooms, &room, &newcomer, MembershipChange::Join).await.unwrap();
    change(&rooms, &room, &users[0], MembershipChange::Join).await.unwrap();

    assert_eq!(read(&rooms, &room, &alice()), ["early", "late", "alice's"]);
    assert_eq!(read(&rooms, &room, &users[0]), ["early", "late", "alice's"]);
    assert_eq!(read(&rooms, &room, &users[1]), ["early", "late", "alice's"]);
    assert_eq!(read(&rooms, &room, &newcomer), ["redacted", "redacted", "alice's"]);
    // The event itself is what it was: nobody has redacted it.
    let event = reader(&rooms, &room).event_by_id(&sent).unwrap().unwrap();
    assert!(event.record.redacted_by.is_none() && event.pdu.content().get().contains("late"));
}

#[tokio::test]
async fn the_state_of_a_room_outlives_the_account_of_who_set_it() {
    let rooms = rooms().await;
    let room = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
    rooms.send(&room, Draft::state(alice(), "m.room.name", "", raw(&json!({"name": "N"}))), None).await.unwrap();
    end_account(&rooms, &alice()).await;
    rooms.leave_all(&alice()).await.unwrap();
    change(&rooms, &room, &bob(), MembershipChange::Join).await.unwrap();
    let reader = reader(&rooms, &room);
    let content = |kind: &str, key: &str| {
        let event = reader.state_event(reader.state(), kind, key).unwrap().unwrap();
        let first = event.record.replaces.map(|num| reader.event(num).unwrap().unwrap()).unwrap_or(event);
        reader.copy_for(&bob(), &first, None).unwrap().content().get().to_owned()
    };
    assert_eq!(content("m.room.name", ""), r#"{"name":"N"}"#);
    assert_eq!(content("m.room.member", alice().as_str()), r#"{"membership":"join"}"#);
}

/// The room as decisions know it.
fn room_core_of(reader: &RoomReader) -> room_core::Room {
    let head = reader.head();
    room_core::Room::new(Some(head.room_id.clone()), head.version.clone(), reader.rules().clone())
}
