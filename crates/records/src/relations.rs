//! Relations: which events relate to which (client-server API, "Forming relationships between events").
//!
//! Everything is kept by the id of the event that is related to, its *target*: that event may not be known here.
//! One row of [`RELATED`] says whether anything relates to an event, so that for most events a single read that
//! ends in a bloom filter is the whole cost. Only relations that count are here: those of redacted events are
//! taken out.

use crate::codec::{self, RecordsError};
use crate::rooms::{order_part, read_order};
use crate::tables::{EDIT, RELATED, RELATION, RELATION_SENDER, THREAD};
use crate::{Changes, View};
use base::{EventNum, Order, RoomNum, Stamp, UnixMillis};
use ruma::{EventId, OwnedEventId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use store::key::{KeyBuilder, KeyReader};
use store::{Direction, Hole, Stamped};

/// The kinds of relations that are kept apart, each in the order of the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RelationKind {
    /// `m.thread`.
    Thread,
    /// `m.replace`.
    Replace,
    /// `m.annotation`.
    Annotation,
    /// `m.reference`.
    Reference,
    /// Any other `rel_type`.
    Other,
}

impl RelationKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Thread, Self::Replace, Self::Annotation, Self::Reference, Self::Other];

    /// The kind of a `rel_type`.
    #[must_use]
    pub fn of(rel_type: &str) -> Self {
        match rel_type {
            "m.thread" => Self::Thread,
            "m.replace" => Self::Replace,
            "m.annotation" => Self::Annotation,
            "m.reference" => Self::Reference,
            _ => Self::Other,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Thread => 1,
            Self::Replace => 2,
            Self::Annotation => 3,
            Self::Reference => 4,
            Self::Other => 5,
        }
    }
}

/// An event that relates to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationRecord {
    /// The event.
    pub event: EventNum,
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its sender.
    pub sender: OwnedUserId,
    /// Its `rel_type`, if the kind does not say it.
    pub rel_type: Option<String>,
}

/// What relates to an event, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelatedRecord {
    /// Events of its thread.
    pub thread: u64,
    /// `m.replace` relations, valid or not.
    pub replace: u64,
    /// `m.annotation` relations.
    pub annotation: u64,
    /// `m.reference` relations.
    pub reference: u64,
    /// All others.
    pub other: u64,
}

impl RelatedRecord {
    /// How many relations of a kind there are.
    #[must_use]
    pub fn count(&self, kind: RelationKind) -> u64 {
        match kind {
            RelationKind::Thread => self.thread,
            RelationKind::Replace => self.replace,
            RelationKind::Annotation => self.annotation,
            RelationKind::Reference => self.reference,
            RelationKind::Other => self.other,
        }
    }

    /// The number of a kind, to change it.
    pub fn count_mut(&mut self, kind: RelationKind) -> &mut u64 {
        match kind {
            RelationKind::Thread => &mut self.thread,
            RelationKind::Replace => &mut self.replace,
            RelationKind::Annotation => &mut self.annotation,
            RelationKind::Reference => &mut self.reference,
            RelationKind::Other => &mut self.other,
        }
    }
}

/// An event's place in the timeline, as the batch that writes it knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a stamp of these changes.
    New(u16),
    /// Known already: a backfilled event, or one of an earlier batch.
    Known(Order),
}

/// What tells one edit of an event from another, and which is newer (client-server API, "Event replacements"):
/// only those of the sender and the type of the event that is edited count.
#[derive(Clone, Copy, Debug)]
pub struct EditKey<'a> {
    /// Who sent the edit.
    pub sender: &'a UserId,
    /// The type of the edit.
    pub event_type: &'a str,
    /// When its sender says that it was sent.
    pub at: UnixMillis,
    /// Its id.
    pub event_id: &'a EventId,
}

/// What is counted by sender within one target.
const REPLIES: u8 = 1;
const ANNOTATIONS: u8 = 2;

fn related_key(room: RoomNum, target: &EventId) -> Vec<u8> {
    RELATED.key().number(room.0).text(target.as_str()).build()
}

fn relation_prefix(room: RoomNum, target: &EventId, kind: RelationKind) -> KeyBuilder {
    RELATION.key().number(room.0).text(target.as_str()).byte(kind.byte())
}

fn edit_prefix(room: RoomNum, target: &EventId, sender: &UserId, event_type: &str) -> KeyBuilder {
    EDIT.key().number(room.0).text(target.as_str()).text(sender.as_str()).text(event_type)
}

fn edit_key(room: RoomNum, target: &EventId, edit: EditKey<'_>) -> Vec<u8> {
    let prefix = edit_prefix(room, target, edit.sender, edit.event_type);
    prefix.number(edit.at.0).text(edit.event_id.as_str()).build()
}

fn replies_prefix(room: RoomNum, root: &EventId) -> KeyBuilder {
    RELATION_SENDER.key().number(room.0).text(root.as_str()).byte(REPLIES)
}

fn annotation_key(room: RoomNum, target: &EventId, sender: &UserId, digest: &[u8; 32]) -> Vec<u8> {
    let key = RELATION_SENDER.key().number(room.0).text(target.as_str()).byte(ANNOTATIONS);
    key.text(sender.as_str()).fixed(digest).build()
}

/// The key with a place at its end, which the commit fills in if it is new.
fn placed(prefix: KeyBuilder, place: Place) -> Stamped {
    match place {
        Place::Known(order) => order_part(prefix, order).build().into(),
        Place::New(nth) => {
            // As the order of a live event, with a hole in place of the number.
            let at = u32::try_from(prefix.len().saturating_add(1)).unwrap_or(u32::MAX);
            Stamped { bytes: order_part(prefix, Order(0)).build(), holes: vec![Hole { at, nth }] }
        }
    }
}

/// The range of the places after one and up to another, as [`View::timeline`] has it.
fn between(prefix: &KeyBuilder, after: Order, up_to: Order) -> Option<(Vec<u8>, Vec<u8>)> {
    let from = order_part(prefix.clone(), Order(after.0.checked_add(1)?)).build();
    let to = match up_to.0.checked_add(1) {
        Some(end) => order_part(prefix.clone(), Order(end)).build(),
        None => prefix.clone().prefix_range().1,
    };
    Some((from, to))
}

fn decode_related(bytes: &[u8]) -> Result<(Order, RelatedRecord), RecordsError> {
    let (stamp, record) = RELATED.decode_stamped(bytes)?;
    Ok((Order(stamp.0.cast_signed()), record))
}

impl View {
    /// What relates to an event in numbers, and the place of the last event of its thread. `None`: nothing does.
    pub fn related(&self, room: RoomNum, target: &EventId) -> Result<Option<(Order, RelatedRecord)>, RecordsError> {
        self.get_bytes(RELATED, &related_key(room, target))?.map(|bytes| decode_related(&bytes)).transpose()
    }

    /// What relates to each of these events, in numbers.
    pub fn related_many(
        &self,
        room: RoomNum,
        targets: &[&EventId],
    ) -> Result<Vec<Option<RelatedRecord>>, RecordsError> {
        let keys: Vec<_> = targets.iter().map(|target| related_key(room, target)).collect();
        let decode = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(decode_related).transpose();
        self.get_many(RELATED, &keys)?.iter().map(|bytes| Ok(decode(bytes)?.map(|(_, record)| record))).collect()
    }

    /// The relations of a kind to an event whose places are after `after` and up to `up_to`, from the end that
    /// `direction` starts with, at most `rows_max`.
    pub fn relations(
        &self,
        room: RoomNum,
        target: &EventId,
        kind: RelationKind,
        (after, up_to): (Order, Order),
        direction: Direction,
        rows_max: usize,
    ) -> Result<Vec<(Order, RelationRecord)>, RecordsError> {
        let Some(range) = between(&relation_prefix(room, target, kind), after, up_to) else { return Ok(Vec::new()) };
        let rows = self.scan(RELATION, range, direction, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let _room_target_and_kind = (reader.number(), reader.text(), reader.byte());
                let order = read_order(&mut reader).ok_or_else(|| RELATION.corrupt())?;
                Ok((order, RELATION.decode(value)?))
            })
            .collect()
    }

    /// The edits of an event by this sender and of this type, the newest first, at most `rows_max`.
    pub fn edits(
        &self,
        room: RoomNum,
        target: &EventId,
        sender: &UserId,
        event_type: &str,
        rows_max: usize,
    ) -> Result<Vec<EventNum>, RecordsError> {
        let range = edit_prefix(room, target, sender, event_type).prefix_range();
        let rows = self.scan(EDIT, range, Direction::Backward, rows_max)?;
        rows.iter().map(|(_, value)| EDIT.decode(value)).collect()
    }

    /// The roots of the threads of a room whose last event is at `up_to` or before, the latest first, with the
    /// place of their last event, at most `rows_max`.
    pub fn threads(
        &self,
        room: RoomNum,
        up_to: Order,
        rows_max: usize,
    ) -> Result<Vec<(Order, OwnedEventId)>, RecordsError> {
        let prefix = THREAD.key().number(room.0);
        let Some(range) = between(&prefix, Order(i64::MIN), up_to) else { return Ok(Vec::new()) };
        let rows = self.scan(THREAD, range, Direction::Backward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let order = reader.number().and_then(|_| read_order(&mut reader)).ok_or_else(|| THREAD.corrupt())?;
                Ok((order, THREAD.decode(value)?))
            })
            .collect()
    }

    /// How many events of a thread somebody sent, for each of these threads.
    pub fn replies_of(&self, room: RoomNum, roots: &[&EventId], sender: &UserId) -> Result<Vec<u64>, RecordsError> {
        let key = |root: &&EventId| replies_prefix(room, root).text(sender.as_str()).build();
        let keys: Vec<_> = roots.iter().map(key).collect();
        let counts = self.get_many(RELATION_SENDER, &keys)?;
        counts.iter().map(|count| count.as_deref().map_or(Ok(0), |count| RELATION_SENDER.decode(count))).collect()
    }

    /// Who sent the events of a thread, and how many each, at most `rows_max`.
    pub fn repliers(
        &self,
        room: RoomNum,
        root: &EventId,
        rows_max: usize,
    ) -> Result<Vec<(OwnedUserId, u64)>, RecordsError> {
        let range = replies_prefix(room, root).prefix_range();
        let rows = self.scan(RELATION_SENDER, range, Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let _room_root_and_what = (reader.number(), reader.text(), reader.byte());
                let sender = reader.text().and_then(|user| OwnedUserId::try_from(user).ok());
                Ok((sender.ok_or_else(|| RELATION_SENDER.corrupt())?, RELATION_SENDER.decode(value)?))
            })
            .collect()
    }
}

impl Changes {
    /// Notes that an event relates to another.
    pub fn put_relation(
        &mut self,
        place: Place,
        room: RoomNum,
        target: &EventId,
        kind: RelationKind,
        record: &RelationRecord,
    ) {
        let key = placed(relation_prefix(room, target, kind), place);
        self.put_raw(RELATION, key, codec::encode(record).into());
    }

    /// Takes back [`Changes::put_relation`] of an earlier batch.
    pub fn clear_relation(&mut self, order: Order, room: RoomNum, target: &EventId, kind: RelationKind) {
        self.clear(RELATION, order_part(relation_prefix(room, target, kind), order).build());
    }

    /// Sets what relates to an event in numbers, and where the last event of its thread is.
    pub fn put_related(&mut self, latest: Place, room: RoomNum, target: &EventId, record: &RelatedRecord) {
        let key = related_key(room, target);
        if *record == RelatedRecord::default() {
            self.clear(RELATED, key);
            return;
        }
        match latest {
            Place::New(nth) => self.put_stamped(RELATED, key, nth, record),
            Place::Known(order) => {
                let value = codec::encode_at(Stamp(order.0.cast_unsigned()), record);
                self.put_raw(RELATED, key.into(), value.into());
            }
        }
    }

    /// Notes a valid edit of an event.
    pub fn put_edit(&mut self, room: RoomNum, target: &EventId, edit: EditKey<'_>, event: EventNum) {
        self.put(EDIT, edit_key(room, target, edit), &event);
    }

    /// Takes back [`Changes::put_edit`].
    pub fn clear_edit(&mut self, room: RoomNum, target: &EventId, edit: EditKey<'_>) {
        self.clear(EDIT, edit_key(room, target, edit));
    }

    /// Moves a thread in the list of the room's threads to the place of its last event; `None` for none.
    pub fn move_thread(&mut self, room: RoomNum, root: &EventId, before: Option<Order>, after: Option<Place>) {
        let prefix = THREAD.key().number(room.0);
        if let Some(before) = before {
            self.clear(THREAD, order_part(prefix.clone(), before).build());
        }
        if let Some(after) = after {
            self.put_raw(THREAD, placed(prefix, after), codec::encode(&root).into());
        }
    }

    /// Counts the events of a thread that somebody sent: so many more, or fewer.
    pub fn count_replies(
        &mut self,
        room: RoomNum,
        root: &EventId,
        sender: &UserId,
        more: i64,
    ) -> Result<(), RecordsError> {
        let key = replies_prefix(room, root).text(sender.as_str()).build();
        let count: u64 = self.get(RELATION_SENDER, &key)?.unwrap_or_default();
        match count.saturating_add_signed(more) {
            0 => self.clear(RELATION_SENDER, key),
            count => self.put(RELATION_SENDER, key, &count),
        }
        Ok(())
    }

    /// The event with which somebody has annotated another; the digest is of what the annotation says.
    pub fn annotation(
        &self,
        room: RoomNum,
        target: &EventId,
        sender: &UserId,
        digest: &[u8; 32],
    ) -> Result<Option<EventNum>, RecordsError> {
        self.get(RELATION_SENDER, &annotation_key(room, target, sender, digest))
    }

    /// Notes with which event somebody has annotated another.
    pub fn put_annotation(
        &mut self,
        room: RoomNum,
        target: &EventId,
        sender: &UserId,
        digest: &[u8; 32],
        event: EventNum,
    ) {
        self.put(RELATION_SENDER, annotation_key(room, target, sender, digest), &event);
    }

    /// Takes back [`Changes::put_annotation`].
    pub fn clear_annotation(&mut self, room: RoomNum, target: &EventId, sender: &UserId, digest: &[u8; 32]) {
        self.clear(RELATION_SENDER, annotation_key(room, target, sender, digest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use ruma::{event_id, owned_user_id, user_id};
    use std::sync::Arc;
    use store::MemoryEngine;

    const ROOM: RoomNum = RoomNum(1);

    fn row(num: u64) -> RelationRecord {
        RelationRecord {
            event: EventNum(num),
            event_id: OwnedEventId::try_from(format!("$e{num}")).unwrap(),
            sender: owned_user_id!("@a:a.example"),
            rel_type: None,
        }
    }

    #[tokio::test]
    async fn relations_of_backfilled_events_come_before_those_of_live_ones() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let target = event_id!("$target");
        let mut changes = records.changes(&records.view());
        let (first, second) = (changes.stamp(), changes.stamp());
        let places = [
            (Place::New(second), 4),
            (Place::Known(Order(-1)), 2),
            (Place::New(first), 3),
            (Place::Known(Order(-2)), 1),
        ];
        for (place, num) in places {
            changes.put_relation(place, ROOM, target, RelationKind::Thread, &row(num));
        }
        // Neither another kind nor another event whose id begins alike is among them.
        changes.put_relation(Place::New(first), ROOM, target, RelationKind::Reference, &row(5));
        changes.put_relation(Place::New(first), ROOM, event_id!("$target2"), RelationKind::Thread, &row(6));
        let stamps = records.commit(changes).await.unwrap();
        let read = |after: i64, up_to: i64, direction: Direction| -> Vec<u64> {
            let range = (Order(after), Order(up_to));
            let rows = records.view().relations(ROOM, target, RelationKind::Thread, range, direction, 10).unwrap();
            rows.into_iter().map(|(_, row)| row.event.0).collect()
        };
        assert_eq!(read(i64::MIN, i64::MAX, Direction::Forward), [1, 2, 3, 4]);
        assert_eq!(read(i64::MIN, i64::MAX, Direction::Backward), [4, 3, 2, 1]);
        assert_eq!(read(-2, Order::from(stamps.first).0, Direction::Forward), [2, 3]);

        let mut changes = records.changes(&records.view());
        changes.clear_relation(Order(-1), ROOM, target, RelationKind::Thread);
        changes.clear_relation(stamps.first.into(), ROOM, target, RelationKind::Thread);
        records.commit(changes).await.unwrap();
        assert_eq!(read(i64::MIN, i64::MAX, Direction::Forward), [1, 4]);
    }

    #[tokio::test]
    async fn the_newest_edit_is_the_one_with_the_latest_time_and_then_the_greatest_id() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let target = event_id!("$target");
        let (alice, bob) = (user_id!("@a:a.example"), user_id!("@b:a.example"));
        let mut changes = records.changes(&records.view());
        for (num, sender, at, event_id) in [
            (1, alice, 5, event_id!("$a")),
            (2, alice, 7, event_id!("$b")),
            (3, alice, 7, event_id!("$a")),
            (4, bob, 9, event_id!("$c")),
        ] {
            let edit = EditKey { sender, event_type: "m.a", at: UnixMillis(at), event_id };
            changes.put_edit(ROOM, target, edit, EventNum(num));
        }
        records.commit(changes).await.unwrap();
        let edits = records.view().edits(ROOM, target, alice, "m.a", 10).unwrap();
        assert_eq!(edits, [EventNum(2), EventNum(3), EventNum(1)]);
        assert_eq!(records.view().edits(ROOM, target, alice, "m.b", 10).unwrap(), []);
    }

    #[tokio::test]
    async fn a_thread_is_listed_once_where_its_last_event_is() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let (one, two) = (event_id!("$one"), event_id!("$two"));
        let mut at = Vec::new();
        for root in [one, two] {
            let mut changes = records.changes(&records.view());
            let nth = changes.stamp();
            changes.move_thread(ROOM, root, None, Some(Place::New(nth)));
            at.push(Order::from(records.commit(changes).await.unwrap().last));
        }
        let listed = || -> Vec<OwnedEventId> {
            let threads = records.view().threads(ROOM, Order(i64::MAX), 10).unwrap();
            threads.into_iter().map(|(_, root)| root).collect()
        };
        assert_eq!(listed(), [two, one]);
        let mut changes = records.changes(&records.view());
        let nth = changes.stamp();
        changes.move_thread(ROOM, one, at.first().copied(), Some(Place::New(nth)));
        changes.move_thread(ROOM, two, at.last().copied(), None);
        records.commit(changes).await.unwrap();
        assert_eq!(listed(), [one]);
    }
}
