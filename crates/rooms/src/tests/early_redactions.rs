//! Redactions that come before what they redact.

use super::*;

const MESSAGE: (&str, Option<&str>) = ("m.room.message", None);

/// What becomes of a message that comes after its redaction by Carol, who has no power here.
async fn redacted_early(sender: &UserId, signing: &SigningKey, in_one_batch: bool) -> (String, bool) {
    let rooms = rooms().await;
    let room = room_with_carol(&rooms).await;
    if sender.localpart() != "carol" {
        let (before, now) = (last(&reader(&rooms, &room)), reader(&rooms, &room));
        let (member, join) = (("m.room.member", Some(sender.as_str())), json!({"membership": "join"}));
        let join = event_of(signing, sender, &now, &before, member, &join, 1);
        rooms.receive(&room, vec![join]).await.unwrap().remove(0).unwrap();
    }
    let (before, now) = (last(&reader(&rooms, &room)), reader(&rooms, &room));
    let target = event_of(signing, sender, &now, &before, MESSAGE, &json!({"body": "secret"}), 2);
    let id = target.event_id().clone();
    let redaction = foreign(&now, &before, "m.room.redaction", None, &json!({"redacts": id}), 3);
    let redaction_id = redaction.event_id().clone();
    if in_one_batch {
        let received = rooms.receive(&room, vec![redaction, target]).await.unwrap();
        assert!(received.iter().all(Result::is_ok), "{received:?}");
    } else {
        rooms.receive(&room, vec![redaction]).await.unwrap().remove(0).unwrap();
        rooms.receive(&room, vec![target]).await.unwrap().remove(0).unwrap();
    }
    let reader = reader(&rooms, &room);
    let event = reader.event_by_id(&id).unwrap().unwrap();
    let by = event.record.redacted_by.map(|num| reader.event(num).unwrap().unwrap().pdu.event_id().clone());
    assert!(by.is_none_or(|by| by == redaction_id));
    let waiting = reader.view().pending_redactions(reader.num(), &id).unwrap();
    (event.pdu.content().get().to_owned(), waiting.is_empty())
}

#[tokio::test]
async fn a_redaction_takes_effect_though_it_comes_first() {
    let signing = key(owned_server_name!("there.example"), 2);
    for in_one_batch in [false, true] {
        let found = redacted_early(user_id!("@carol:there.example"), &signing, in_one_batch).await;
        assert_eq!(found, ("{}".to_owned(), true), "{in_one_batch}");
    }
}

#[tokio::test]
async fn a_redaction_that_may_not_redact_what_comes_later_does_not() {
    let signing = key(owned_server_name!("elsewhere.example"), 3);
    let found = redacted_early(user_id!("@dave:elsewhere.example"), &signing, false).await;
    assert_eq!(found.0, r#"{"body":"secret"}"#);
}

#[tokio::test]
async fn the_same_states_are_resolved_once() {
    let rooms = rooms().await;
    let room = room_with_carol(&rooms).await;
    let fork = last(&reader(&rooms, &room));
    rooms.send(&room, Draft::state(alice(), "m.room.topic", "", raw(&json!({"topic": "a"}))), None).await.unwrap();
    let ours = last(&reader(&rooms, &room));
    let carol = Some("@carol:there.example");
    let rename = json!({"membership": "join", "displayname": "C"});
    let rename = foreign(&reader(&rooms, &room), &fork, "m.room.member", carol, &rename, 5);
    let theirs = rooms.receive(&room, vec![rename]).await.unwrap().remove(0).unwrap();
    let resolved = reader(&rooms, &room).state();
    let (mut tip, now) = (reader(&rooms, &room).event_by_id(&theirs).unwrap().unwrap(), reader(&rooms, &room));
    assert_ne!(resolved, tip.record.state_after);
    assert_ne!(resolved, ours.record.state_after);
    for number in 0..5 {
        let message = foreign(&now, &tip, "m.room.message", None, &json!({"body": number}), 6);
        let id = rooms.receive(&room, vec![message]).await.unwrap().remove(0).unwrap();
        let now = reader(&rooms, &room);
        assert_eq!(now.head().extremities.len(), 2);
        // Resolved anew, it would be an equal state of new nodes.
        assert_eq!(now.state(), resolved);
        tip = now.event_by_id(&id).unwrap().unwrap();
    }
}
