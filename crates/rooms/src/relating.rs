//! The relations that a run of decisions makes and breaks, noted as it goes and written once at its end: an event
//! of a run has no place yet that could be cleared, so what is redacted within the run must not be written at all.

use crate::RoomError;
use base::{EventNum, Order, RoomNum, UnixMillis};
use records::{Changes, EditKey, Place, RelatedRecord, RelationKind, RelationRecord};
use rules::Pdu;
use rules::relation::{Relation, can_replace};
use ruma::{EventId, OwnedEventId, OwnedUserId, UserId};
use std::collections::BTreeMap;
use store::Direction;

/// What is kept of an event that relates to another.
struct Child {
    num: EventNum,
    event_id: OwnedEventId,
    sender: OwnedUserId,
    event_type: String,
    at: UnixMillis,
    /// Whether it can replace its target, as far as it alone says.
    can_replace: bool,
    relation: Relation,
}

impl Child {
    fn of(num: EventNum, pdu: &Pdu) -> Option<Self> {
        let relation = Relation::of(pdu)?;
        Some(Self {
            num,
            event_id: pdu.event_id().clone(),
            sender: pdu.sender().to_owned(),
            event_type: pdu.kind_str().to_owned(),
            at: UnixMillis(pdu.origin_server_ts().0.into()),
            can_replace: can_replace(pdu),
            relation,
        })
    }

    fn kind(&self) -> RelationKind {
        RelationKind::of(&self.relation.rel_type)
    }

    /// How it is found as an edit, if it can be one.
    fn edit(&self) -> Option<EditKey<'_>> {
        let is_edit = self.can_replace && self.kind() == RelationKind::Replace;
        is_edit.then(|| EditKey {
            sender: &self.sender,
            event_type: &self.event_type,
            at: self.at,
            event_id: &self.event_id,
        })
    }

    fn digest(&self) -> Option<[u8; 32]> {
        self.relation.annotation_digest(&self.event_type)
    }
}

/// The relations of a run.
#[derive(Default)]
pub(crate) struct Relations {
    made: Vec<(Place, Child)>,
    broken: Vec<(Order, Child)>,
}

/// What a run does to the relations with one event.
#[derive(Default)]
struct Target {
    made: Vec<(Place, Child)>,
    broken: Vec<(Order, Child)>,
}

impl Relations {
    /// Notes the relation that an event has, if it has one.
    pub fn make(&mut self, place: Place, num: EventNum, pdu: &Pdu) {
        self.made.extend(Child::of(num, pdu).map(|child| (place, child)));
    }

    /// An event of an earlier run is redacted, which this is as it was before.
    pub fn break_known(&mut self, order: Order, num: EventNum, pdu: &Pdu) {
        // Redacted twice in a run it is read twice as it was before.
        if !self.broken.iter().any(|(_, child)| child.num == num) {
            self.broken.extend(Child::of(num, pdu).map(|child| (order, child)));
        }
    }

    /// An event of this run is redacted.
    pub fn break_new(&mut self, num: EventNum) {
        self.made.retain(|(_, child)| child.num != num);
    }

    /// Whether somebody has annotated an event in the same way already.
    pub fn has_annotation(
        &self,
        changes: &Changes,
        room: RoomNum,
        sender: &UserId,
        event_type: &str,
        relation: &Relation,
    ) -> Result<bool, RoomError> {
        let Some(digest) = relation.annotation_digest(event_type) else { return Ok(false) };
        let is_same = |child: &Child| {
            child.sender == sender && child.relation.target == relation.target && child.digest() == Some(digest)
        };
        if self.made.iter().any(|(_, child)| is_same(child)) {
            return Ok(true);
        }
        let known = changes.annotation(room, &relation.target, sender, &digest)?;
        Ok(known.is_some_and(|num| !self.broken.iter().any(|(_, child)| child.num == num)))
    }

    /// Writes them all. Answers whether there were any.
    pub fn write(&mut self, room: RoomNum, changes: &mut Changes) -> Result<bool, RoomError> {
        let mut targets: BTreeMap<OwnedEventId, Target> = BTreeMap::new();
        for (place, child) in self.made.drain(..) {
            targets.entry(child.relation.target.clone()).or_default().made.push((place, child));
        }
        for (order, child) in self.broken.drain(..) {
            targets.entry(child.relation.target.clone()).or_default().broken.push((order, child));
        }
        for (target, change) in &targets {
            change.write(room, target, changes)?;
        }
        Ok(!targets.is_empty())
    }
}

impl Target {
    fn write(&self, room: RoomNum, target: &EventId, changes: &mut Changes) -> Result<(), RoomError> {
        let (latest_before, mut record) = changes.view().related(room, target)?.unwrap_or_default();
        let latest_before = (record.thread > 0).then_some(latest_before);
        for (order, child) in &self.broken {
            Self::unwrite(*order, child, room, target, &mut record, changes)?;
        }
        for (place, child) in &self.made {
            let kind = child.kind();
            let row = RelationRecord {
                event: child.num,
                event_id: child.event_id.clone(),
                sender: child.sender.clone(),
                rel_type: (kind == RelationKind::Other).then(|| child.relation.rel_type.clone()),
            };
            changes.put_relation(*place, room, target, kind, &row);
            let count = record.count_mut(kind);
            *count = count.saturating_add(1);
            if kind == RelationKind::Thread {
                changes.count_replies(room, target, &child.sender, 1)?;
            }
            if let Some(edit) = child.edit() {
                changes.put_edit(room, target, edit, child.num);
            }
            if let Some(digest) = child.digest()
                && changes.annotation(room, target, &child.sender, &digest)?.is_none()
            {
                changes.put_annotation(room, target, &child.sender, &digest, child.num);
            }
        }
        let latest = self.latest(room, target, latest_before, changes)?;
        if latest != latest_before.map(Place::Known) {
            changes.move_thread(room, target, latest_before, latest);
        }
        changes.put_related(latest.unwrap_or(Place::Known(Order(0))), room, target, &record);
        Ok(())
    }

    fn unwrite(
        order: Order,
        child: &Child,
        room: RoomNum,
        target: &EventId,
        record: &mut RelatedRecord,
        changes: &mut Changes,
    ) -> Result<(), RoomError> {
        let kind = child.kind();
        changes.clear_relation(order, room, target, kind);
        let count = record.count_mut(kind);
        *count = count.saturating_sub(1);
        if kind == RelationKind::Thread {
            changes.count_replies(room, target, &child.sender, -1)?;
        }
        if let Some(edit) = child.edit() {
            changes.clear_edit(room, target, edit);
        }
        if let Some(digest) = child.digest()
            && changes.annotation(room, target, &child.sender, &digest)? == Some(child.num)
        {
            changes.clear_annotation(room, target, &child.sender, &digest);
        }
        Ok(())
    }

    /// Where the last event of the thread is afterwards.
    fn latest(
        &self,
        room: RoomNum,
        target: &EventId,
        before: Option<Order>,
        changes: &Changes,
    ) -> Result<Option<Place>, RoomError> {
        let is_thread = |child: &Child| child.kind() == RelationKind::Thread;
        let made = self.made.iter().filter(|(_, child)| is_thread(child)).map(|(place, _)| *place);
        let (mut newest, mut backfilled) = (None, None);
        for place in made {
            match place {
                Place::New(nth) => newest = newest.max(Some(nth)),
                Place::Known(order) => backfilled = backfilled.max(Some(order)),
            }
        }
        if let Some(nth) = newest {
            return Ok(Some(Place::New(nth)));
        }
        let broken: Vec<_> =
            self.broken.iter().filter(|(_, child)| is_thread(child)).map(|(order, _)| *order).collect();
        let left = match before {
            Some(before) if broken.contains(&before) => {
                let all = (Order(i64::MIN), Order(i64::MAX));
                let rows_max = broken.len().saturating_add(1);
                let view = changes.view();
                let rows = view.relations(room, target, RelationKind::Thread, all, Direction::Backward, rows_max)?;
                rows.into_iter().map(|(order, _)| order).find(|order| !broken.contains(order))
            }
            before => before,
        };
        Ok(left.max(backfilled).map(Place::Known))
    }
}

#[cfg(test)]
mod tests;
