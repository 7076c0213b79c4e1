//! Removing all of a room: what was said in it, its state, who was in it.
//!
//! First nobody finds the room any more; then its events go, oldest first, and with each the nodes of its states, so
//! that whoever is cut off goes on where they were. State maps share their nodes within a room only.

use crate::{RoomError, Rooms};
use base::{EventNum, Order, RoomNum, UnixMillis};
use records::{Changes, EventRecord, EventStatus, Membership, View};
use rules::Pdu;
use ruma::OwnedEventId;
use ruma::room_version_rules::RoomVersionRules;
use std::collections::HashSet;
use store::{CommitError, Direction};

/// How many members or events are removed in one batch.
const AT_ONCE: usize = 200;
/// How many bytes of writes make a batch full.
const BYTES_AT_ONCE: usize = base::limits::BATCH_BYTES_SOFT_MAX;
/// How often the head is looked up again because the room was written to meanwhile.
const ATTEMPTS_MAX: usize = 10;

const MEMBERSHIPS: [Membership; 5] =
    [Membership::Join, Membership::Invite, Membership::Knock, Membership::Leave, Membership::Ban];

impl Rooms {
    /// Removes all that is stored of a room, by its number: what users of this server were to it, its events, its
    /// state, its aliases, its place in the directory. Nobody is told; put its members out first. May be repeated
    /// until it succeeds.
    ///
    /// Events that no event of the timeline refers to, directly or through others that are not in it, are not found:
    /// rejected ones that nobody followed.
    pub async fn remove(&self, num: RoomNum) -> Result<(), RoomError> {
        let head = self.records().view().room_head(num)?;
        // Without a head its version is not known any more; all of them name what they refer to alike from 3 on.
        let version = head.as_ref().map_or_else(|| rules::DEFAULT_ROOM_VERSION, |head| head.version.clone());
        let rules = rules::room_rules(&version).ok_or_else(|| RoomError::UnsupportedVersion(version.to_string()))?;
        if head.is_some() {
            self.hide(num).await?;
        }
        self.remove_members(num).await?;
        self.remove_events(num, &rules).await?;
        let mut changes = self.no_changes();
        changes.remove_room_rows(num);
        self.records().commit(changes).await?;
        Ok(())
    }

    /// Lets nobody find the room any more, and ends its writer.
    async fn hide(&self, num: RoomNum) -> Result<(), RoomError> {
        for _ in 0..ATTEMPTS_MAX {
            let view = self.records().view();
            let Some(head) = view.room_head(num)? else { return Ok(()) };
            let mut changes = self.records().changes(&view);
            changes.publish(num, &head.room_id, None)?;
            for alias in view.room_aliases(num)? {
                changes.clear_alias(&alias, num)?;
            }
            changes.remove_head(num, &head)?;
            match self.records().commit(changes).await {
                Ok(_) => {
                    // Its task finds no head when it is asked next; it is not asked by who finds no room.
                    self.mailboxes().remove(&num);
                    return Ok(());
                }
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RoomError::Overloaded)
    }

    async fn remove_members(&self, num: RoomNum) -> Result<(), RoomError> {
        for membership in MEMBERSHIPS {
            loop {
                let view = self.records().view();
                let members = view.room_members(num, membership, None, AT_ONCE)?;
                if members.is_empty() {
                    break;
                }
                let mut changes = self.records().changes(&view);
                for (user, _) in members {
                    changes.remove_member(&user, num, membership);
                }
                self.records().commit(changes).await?;
            }
        }
        Ok(())
    }

    async fn remove_events(&self, num: RoomNum, rules: &RoomVersionRules) -> Result<(), RoomError> {
        loop {
            let view = self.records().view();
            let rows = view.timeline(num, Order(i64::MIN), Order(i64::MAX), Direction::Forward, AT_ONCE)?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut removal = Removal { rooms: self, num, rules, view, changes: self.no_changes() };
            let mut seen = HashSet::new();
            for row in rows {
                removal.remove(row.order, row.event, &mut seen).await?;
            }
            removal.flush().await?;
        }
    }
}

/// The events that an event refers to.
fn references(pdu: &Pdu) -> impl Iterator<Item = &OwnedEventId> {
    pdu.prev_events().iter().chain(pdu.auth_events())
}

/// The removal of some events, in as many batches as they need.
struct Removal<'a> {
    rooms: &'a Rooms,
    num: RoomNum,
    rules: &'a RoomVersionRules,
    view: View,
    changes: Changes,
}

impl Removal<'_> {
    /// Removes an event with its states, and before it those that it refers to and that are in no timeline: once it is
    /// gone nobody finds them.
    async fn remove(
        &mut self,
        order: Order,
        event: EventNum,
        seen: &mut HashSet<base::NodeNum>,
    ) -> Result<(), RoomError> {
        let Some((_, record)) = self.view.event(event)? else {
            // Cut off between the two: its row of the timeline alone is left.
            self.changes.clear_place(self.num, order);
            return Ok(());
        };
        let pdu = self.parse(&record);
        let mut outside: Vec<(EventNum, EventRecord, Option<Pdu>)> = Vec::new();
        let mut known: HashSet<EventNum> = HashSet::from([event]);
        let mut referred: Vec<_> = pdu.iter().flat_map(references).cloned().collect();
        while let Some(id) = referred.pop() {
            let Some(num) = self.view.event_num(&id)? else { continue };
            if !known.insert(num) {
                continue;
            }
            let Some((_, other)) = self.view.event(num)? else { continue };
            if other.room != self.num || other.status == EventStatus::Accepted {
                continue;
            }
            let other_pdu = self.parse(&other);
            referred.extend(other_pdu.iter().flat_map(references).cloned());
            outside.push((num, other, other_pdu));
        }
        for (num, other, other_pdu) in outside.into_iter().rev() {
            self.remove_one(Order(0), num, &other, other_pdu.as_ref(), seen).await?;
        }
        self.remove_one(order, event, &record, pdu.as_ref(), seen).await
    }

    async fn remove_one(
        &mut self,
        order: Order,
        event: EventNum,
        record: &EventRecord,
        pdu: Option<&Pdu>,
        seen: &mut HashSet<base::NodeNum>,
    ) -> Result<(), RoomError> {
        let roots = [Some(record.state_before), Some(record.state_after), record.resolved];
        for root in roots.into_iter().flatten() {
            for node in root.nodes(&self.view, seen)? {
                self.changes.remove_node(node);
                if self.changes.bytes() >= BYTES_AT_ONCE {
                    self.flush().await?;
                }
            }
        }
        let at = pdu.map_or(UnixMillis(0), |pdu| UnixMillis(pdu.origin_server_ts().0.into()));
        self.changes.remove_event(order, event, record, at);
        if self.changes.bytes() >= BYTES_AT_ONCE {
            self.flush().await?;
        }
        Ok(())
    }

    fn parse(&self, record: &EventRecord) -> Option<Pdu> {
        let rejected = record.status == EventStatus::Rejected;
        Pdu::parse_stored(record.event_id.clone(), record.json.clone(), self.rules, rejected).ok()
    }

    async fn flush(&mut self) -> Result<(), RoomError> {
        let changes = std::mem::replace(&mut self.changes, self.rooms.no_changes());
        if !changes.is_empty() {
            self.rooms.records().commit(changes).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{alice, bob, message, raw, reader, room_of, rooms};
    use crate::{Draft, MembershipChange, Preset};
    use ruma::RoomVersionId;
    use serde_json::json;
    use std::collections::HashSet;

    #[tokio::test]
    async fn nothing_is_left_of_a_room_and_all_of_the_others() {
        let rooms = rooms().await;
        let room = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
        let other = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
        rooms.change_membership(&room, &bob(), MembershipChange::Join, None, None).await.unwrap();
        for n in 0..300 {
            let topic = raw(&json!({ "topic": n.to_string() }));
            rooms.send(&room, Draft::state(alice(), "m.room.topic", n.to_string(), topic), None).await.unwrap();
        }
        let said = rooms.send(&room, message(alice(), "hello"), None).await.unwrap();
        rooms.set_published(&room, true).await.unwrap();
        let alias = ruma::room_alias_id!("#a:here.example");
        rooms.put_alias(alias, &room, &alice()).await.unwrap();
        let before = reader(&rooms, &room);
        let state = before.state();
        assert!(state.nodes(before.view(), &mut HashSet::new()).unwrap().len() > 1);
        let num = before.num();
        drop(before);
        rooms.remove(num).await.unwrap();
        // Once more: as after a stop in the middle.
        rooms.remove(num).await.unwrap();

        let view = rooms.records().view();
        assert!(view.room_num(&room).unwrap().is_none() && view.room_head(num).unwrap().is_none());
        assert!(view.event_num(&said).unwrap().is_none() && view.alias(alias).unwrap().is_none());
        assert!(view.memberships(&bob()).unwrap().is_empty());
        assert_eq!((view.listed_count().unwrap(), view.is_published(num).unwrap()), (0, false));
        assert!(state.nodes(&view, &mut HashSet::new()).unwrap().is_empty());
        assert!(rooms.send(&room, message(alice(), "hello"), None).await.is_err());
        let other_state = reader(&rooms, &other).state();
        assert!(!reader(&rooms, &other).state_events(other_state).unwrap().is_empty());
        rooms.send(&other, message(alice(), "hello"), None).await.unwrap();
    }
}
