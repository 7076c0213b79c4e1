//! Removing single events for good: what is older than a room keeps it, and what administrators want gone.
//!
//! State stays, since what came after it stands on it; so do the forward extremities, which the next event follows.
//! What refers to an event that is gone finds it unknown, as if it had never come here.

use crate::actor::Command;
use crate::work::Work;
use crate::{RoomError, Rooms};
use base::{EventNum, Order, RoomNum, UnixMillis};
use records::{EventStatus, LogEntry};
use ruma::RoomId;
use store::Direction;

/// How many events are removed in one batch.
pub const PURGED_AT_ONCE_MAX: usize = 256;

impl Rooms {
    /// Removes what was said in a room up to a place, the oldest first: of everybody, or of other servers' users only.
    /// Answers how many events are gone.
    pub async fn purge_history(&self, room_id: &RoomId, up_to: Order, local_events: bool) -> Result<usize, RoomError> {
        let Some(num) = self.records().view().room_num(room_id)? else {
            return Err(RoomError::NotFound("the room"));
        };
        let (mut after, mut purged) = (Order(i64::MIN), 0);
        loop {
            let view = self.records().view();
            let rows = view.timeline(num, after, up_to, Direction::Forward, PURGED_AT_ONCE_MAX)?;
            let Some(last) = rows.last() else { return Ok(purged) };
            after = last.order;
            let mut events: Vec<EventNum> = rows.iter().map(|row| row.event).collect();
            if !local_events {
                let Some(reader) = self.reader(&view, num)? else { return Ok(purged) };
                let others = reader.events(&events)?.into_iter();
                let others = others.filter(|event| event.pdu.sender().server_name() != self.server_name());
                events = others.map(|event| event.num).collect();
            }
            purged += self.purge(num, events).await?;
        }
    }

    /// Removes events of a room, at most [`PURGED_AT_ONCE_MAX`]. Those that stay in any case are passed over. Answers
    /// how many are gone.
    pub(crate) async fn purge(&self, num: RoomNum, events: Vec<EventNum>) -> Result<usize, RoomError> {
        if events.is_empty() {
            return Ok(0);
        }
        self.tell(num, |reply| Command::Purge { events, reply }).await
    }
}

impl Work {
    /// Removes events; see [`Rooms::purge`].
    pub(crate) fn purge(&mut self, events: &[EventNum]) -> Result<usize, RoomError> {
        let mut gone = Vec::new();
        for num in events {
            let num = *num;
            if self.loaded.head.extremities.contains(&num) || self.purged.contains(&num) {
                continue;
            }
            // What this very run has written is not there yet.
            let Some((order, record)) = self.changes.view().event(num)? else { continue };
            if record.room != self.num || record.status != EventStatus::Accepted || order == Order(0) {
                continue;
            }
            let Some(pdu) = self.pdu(num)? else { continue };
            if pdu.state_key().is_some() {
                continue;
            }
            if record.redacted_by.is_none() {
                self.relations.break_known(order, num, &pdu);
            }
            self.changes.remove_event(order, num, &record, UnixMillis(pdu.origin_server_ts().0.into()));
            self.rewritten.push(num);
            self.purged.insert(num);
            gone.push(num);
        }
        let count = gone.len();
        if count > 0 {
            let nth = self.changes.stamp();
            self.changes.log(nth, &LogEntry::Purged { room: self.num, events: gone });
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{alice, bob, message, raw, reader, room_of, rooms};
    use crate::{Draft, MembershipChange, Preset, Rooms};
    use base::{Order, UnixMillis};
    use records::RelationKind;
    use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId};
    use serde_json::json;
    use store::Direction;

    async fn scene() -> (Rooms, OwnedRoomId, Vec<OwnedEventId>) {
        let rooms = rooms().await;
        let room = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
        let mut said = Vec::new();
        for text in ["one", "two", "three", "four"] {
            said.push(rooms.send(&room, message(alice(), text), None).await.unwrap());
        }
        (rooms, room, said)
    }

    fn order(rooms: &Rooms, room: &OwnedRoomId, event: &OwnedEventId) -> Order {
        reader(rooms, room).event_by_id(event).unwrap().unwrap().order
    }

    fn bodies(rooms: &Rooms, room: &OwnedRoomId) -> Vec<String> {
        let reader = reader(rooms, room);
        let events = reader.timeline(Order(i64::MIN), Order(i64::MAX), Direction::Forward, 100).unwrap();
        let messages = events.iter().filter(|event| event.pdu.state_key().is_none());
        messages.map(|event| event.pdu.content().get().split('"').nth(3).unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn what_was_said_is_gone_and_state_and_the_newest_event_stay() {
        let (rooms, room, said) = scene().await;
        let state = reader(&rooms, &room).state_events(reader(&rooms, &room).state()).unwrap().len();
        let up_to = order(&rooms, &room, &said[2]);
        assert_eq!(rooms.purge_history(&room, up_to, true).await.unwrap(), 3);
        assert_eq!(bodies(&rooms, &room), ["four"]);
        let reader_now = reader(&rooms, &room);
        assert!(reader_now.event_by_id(&said[0]).unwrap().is_none());
        assert_eq!(reader_now.state_events(reader_now.state()).unwrap().len(), state);
        let view = rooms.records().view();
        let timed = view.events_from_time(reader_now.num(), UnixMillis(0), None, Direction::Forward, 100).unwrap();
        let events = reader_now.timeline(Order(i64::MIN), Order(i64::MAX), Direction::Forward, 100).unwrap();
        assert_eq!(timed.len(), events.len(), "the index by time has what the timeline has");
        // The newest is what the next event follows.
        assert_eq!(rooms.purge_history(&room, Order(i64::MAX), true).await.unwrap(), 0);
        rooms.send(&room, message(alice(), "five"), None).await.unwrap();
        rooms.change_membership(&room, &bob(), MembershipChange::Join, None, None).await.unwrap();
        assert_eq!(rooms.purge_history(&room, Order(i64::MAX), true).await.unwrap(), 2);
        assert_eq!(bodies(&rooms, &room), [""; 0]);
    }

    #[tokio::test]
    async fn what_related_to_others_is_counted_no_more() {
        let (rooms, room, said) = scene().await;
        let content = json!({
            "body": "reply",
            "m.relates_to": { "rel_type": "m.thread", "event_id": said[0] },
        });
        let reply = Draft::message(alice(), "m.room.message", raw(&content));
        let reply = rooms.send(&room, reply, None).await.unwrap();
        rooms.send(&room, message(alice(), "last"), None).await.unwrap();
        let num = reader(&rooms, &room).num();
        let count = || {
            let related = rooms.records().view().related(num, &said[0]).unwrap();
            related.map_or(0, |(_, related)| related.count(RelationKind::Thread))
        };
        assert_eq!(count(), 1);
        let up_to = order(&rooms, &room, &reply);
        rooms.purge_history(&room, up_to, true).await.unwrap();
        assert_eq!(count(), 0);
        assert!(reader(&rooms, &room).threads(Order(i64::MAX), 10).unwrap().is_empty());
    }
}
