//! Rooms with many members, written down at once instead of being joined.

use base::EventNum;
use records::{EventRecord, EventStatus, Glance, Membership, MembershipRecord, Records};
use ruma::{EventId, OwnedEventId, OwnedUserId, RoomId};

/// How many members are written in one batch.
const AT_ONCE: usize = 2_000;

/// The member of this number.
pub fn user(number: usize) -> OwnedUserId {
    OwnedUserId::try_from(format!("@user{number}:bench.example")).expect("a user")
}

/// Adds the members of these numbers to a public room that nobody has written to yet, as if each had joined in turn.
/// Their events are neither hashed nor signed, which nobody asks of what is stored.
pub async fn seed(records: &Records, room_id: &RoomId, members: std::ops::Range<usize>) {
    let numbers: Vec<usize> = members.collect();
    for some in numbers.chunks(AT_ONCE) {
        let view = records.view();
        let num = view.room_num(room_id).expect("a store").expect("the room");
        let mut head = view.room_head(num).expect("a store").expect("its head");
        let mut last = head.extremities.first().copied().expect("an event");
        let mut last_id = event_id_of(&view, last);
        let mut changes = records.changes(&view);
        let state_before = head.state;
        let mut joined = Vec::with_capacity(some.len());
        for number in some {
            let (user, event) = (user(*number), changes.ids().event().expect("a number"));
            head.depth += 1;
            let json = format!(
                r#"{{"auth_events":[],"content":{{"displayname":"User {number}","membership":"join"}},"depth":{},"hashes":{{"sha256":"x"}},"origin_server_ts":1,"prev_events":["{last_id}"],"room_id":"{room_id}","sender":"{user}","signatures":{{}},"state_key":"{user}","type":"m.room.member"}}"#,
                head.depth
            );
            let event_id = <&EventId>::try_from(format!("$seeded{number}").as_str()).expect("an id").to_owned();
            joined.push((user, event, event_id.clone(), json));
            (last, last_id) = (event, event_id);
        }
        let entries: Vec<_> = joined.iter().map(|(user, event, ..)| ("m.room.member", user.as_str(), *event)).collect();
        head.state = state_before.set(&mut changes, &entries).expect("a state");
        for (user, event, event_id, json) in &joined {
            let nth = changes.stamp();
            let record = EventRecord {
                room: num,
                event_id: event_id.clone(),
                status: EventStatus::Accepted,
                state_before,
                state_after: head.state,
                resolved: None,
                replaces: None,
                redacted_by: None,
                sent_by: None,
                json: json.clone(),
            };
            changes.append_event(nth, *event, &record, Glance::default());
            let member = MembershipRecord {
                membership: Membership::Join,
                event: *event,
                sender: user.clone(),
                stripped_state: None,
                forgotten: false,
                previous: None,
                entered: Some(*event),
            };
            changes.put_membership(nth, user, num, &member).expect("a membership");
        }
        head.joined += u64::try_from(joined.len()).expect("few");
        head.extremities = vec![last];
        head.generation += 1;
        changes.put_room_head(num, &head).expect("a head");
        records.commit(changes).await.expect("a commit");
    }
}

fn event_id_of(view: &records::View, event: EventNum) -> OwnedEventId {
    view.event(event).expect("a store").expect("the event").1.event_id
}
