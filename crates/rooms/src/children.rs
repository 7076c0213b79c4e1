//! The events that relate to another, in the order of the timeline (client-server API, "Relationships API").

use crate::{RoomError, RoomReader, StoredEvent};
use base::Order;
use records::{RelatedRecord, RelationKind, RelationRecord};
use rules::filter::RelationFilter;
use ruma::EventId;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use store::Direction;

/// How many steps relations are followed, if indirect ones are wanted too. The specification wants three.
pub const DEPTH_MAX: usize = 3;
/// How many events of each step are looked at for what relates to them: the newest of them.
const STEP_MAX: usize = 4_096;
/// How many relations to one event are looked at to find one by certain senders or of a certain type.
const RELATED_BY_MAX: usize = 1_024;

/// Which events are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Those that relate with this `rel_type`.
    pub rel_type: Option<&'a str>,
    /// Those of this type.
    pub event_type: Option<&'a str>,
}

/// How far relations are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Only events that relate to the target itself.
    Direct,
    /// Also those that relate to these, [`DEPTH_MAX`] steps at most.
    Indirect,
}

/// A piece of a timeline: what is after one place and up to another, seen from the end that the direction starts
/// with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The place before the first.
    pub after: Order,
    /// The place of the last.
    pub up_to: Order,
    /// The end to start with.
    pub direction: Direction,
}

impl Piece {
    /// What is left beyond an event.
    #[must_use]
    pub fn beyond(self, event: Order) -> Self {
        match self.direction {
            Direction::Forward => Self { after: event, ..self },
            Direction::Backward => Self { up_to: Order(event.0.saturating_sub(1)), ..self },
        }
    }

    /// The place where the piece starts.
    #[must_use]
    pub fn start(self) -> Order {
        match self.direction {
            Direction::Forward => self.after,
            Direction::Backward => self.up_to,
        }
    }

    fn has(self, order: Order) -> bool {
        self.after < order && order <= self.up_to
    }
}

/// What was found of a piece.
#[derive(Debug, Default)]
pub struct Found {
    /// The events, in the direction of the piece.
    pub events: Vec<Arc<StoredEvent>>,
    /// What of the piece was not looked at; nothing if all of it was.
    pub rest: Option<Piece>,
}

/// Rows of relations, and whether there are no more.
struct Rows {
    rows: Vec<(Order, RelationRecord)>,
    is_end: bool,
}

impl RoomReader {
    /// The events that relate to an event and are wanted, of a piece of the timeline, at most `events_max`. Who may
    /// see them is not looked at.
    pub fn children(
        &self,
        target: &EventId,
        wanted: Wanted<'_>,
        depth: Depth,
        piece: Piece,
        events_max: usize,
    ) -> Result<Found, RoomError> {
        match depth {
            Depth::Direct => self.direct(target, wanted, piece, events_max),
            Depth::Indirect => self.indirect(target, wanted, piece, events_max),
        }
    }

    fn direct(
        &self,
        target: &EventId,
        wanted: Wanted<'_>,
        piece: Piece,
        events_max: usize,
    ) -> Result<Found, RoomError> {
        let Some((_, related)) = self.view.related(self.num, target)? else { return Ok(Found::default()) };
        let Rows { rows, is_end } = self.rows(target, &related, wanted.rel_type, piece, events_max)?;
        let last = rows.last().map(|(order, _)| *order);
        let nums: Vec<_> =
            rows.into_iter().filter(|(_, row)| is_of(row, wanted.rel_type)).map(|(_, row)| row.event).collect();
        let mut events = self.events(&nums)?;
        events.retain(|event| wanted.event_type.is_none_or(|kind| event.pdu.kind_str() == kind));
        Ok(Found { events, rest: last.filter(|_| !is_end).map(|last| piece.beyond(last)) })
    }

    /// Looks at the tree of relations anew for each piece. What relates to one of more than [`STEP_MAX`] events is
    /// found only if that is among the newest of them.
    fn indirect(
        &self,
        target: &EventId,
        wanted: Wanted<'_>,
        piece: Piece,
        events_max: usize,
    ) -> Result<Found, RoomError> {
        let Some((_, related)) = self.view.related(self.num, target)? else { return Ok(Found::default()) };
        let mut tree: BTreeMap<Order, RelationRecord> = BTreeMap::new();
        let mut seen: HashSet<base::EventNum> = HashSet::new();
        // Up to where the piece is known, for it may have more of the first step than are looked at.
        let first = self.rows(target, &related, wanted.rel_type, piece, STEP_MAX)?;
        let rest = first.rows.last().filter(|_| !first.is_end).map(|(order, _)| piece.beyond(*order));
        let mut step = first.rows;
        // What comes after a place may relate to what is before it.
        let before = Piece { after: Order(i64::MIN), up_to: piece.after, direction: Direction::Backward };
        if piece.after > before.after {
            step.extend(self.rows(target, &related, wanted.rel_type, before, STEP_MAX)?.rows);
        }
        for depth in 1..=DEPTH_MAX {
            step.retain(|(_, row)| is_of(row, wanted.rel_type) && row.event_id != *target && seen.insert(row.event));
            self.retain_type(&mut step, wanted.event_type)?;
            let parents: Vec<&EventId> = step.iter().map(|(_, row)| &*row.event_id).collect();
            let related = if depth < DEPTH_MAX { self.view.related_many(self.num, &parents)? } else { Vec::new() };
            let mut next = Vec::new();
            for (parent, related) in parents.iter().zip(related) {
                let Some(related) = related else { continue };
                let left = STEP_MAX.saturating_sub(next.len());
                let all = Piece { after: Order(i64::MIN), up_to: Order(i64::MAX), direction: Direction::Backward };
                next.extend(self.rows(parent, &related, wanted.rel_type, all, left)?.rows);
            }
            tree.extend(step.into_iter().filter(|(order, _)| piece.has(*order)));
            step = next;
        }
        if let Some(rest) = rest {
            tree.retain(|order, _| !rest.has(*order));
        }
        let mut rows: Vec<_> = tree.into_iter().collect();
        if piece.direction == Direction::Backward {
            rows.reverse();
        }
        let is_more = rows.len() > events_max;
        rows.truncate(events_max);
        let last = rows.last().map(|(order, _)| *order);
        let rest = if is_more { last.map(|last| piece.beyond(last)) } else { rest };
        let nums: Vec<_> = rows.into_iter().map(|(_, row)| row.event).collect();
        Ok(Found { events: self.events(&nums)?, rest })
    }

    fn retain_type(&self, rows: &mut Vec<(Order, RelationRecord)>, event_type: Option<&str>) -> Result<(), RoomError> {
        let Some(event_type) = event_type else { return Ok(()) };
        let nums: Vec<_> = rows.iter().map(|(_, row)| row.event).collect();
        let events = self.events(&nums)?;
        let of_type = events.iter().filter(|event| event.pdu.kind_str() == event_type);
        let of_type: HashSet<_> = of_type.map(|event| event.num).collect();
        rows.retain(|(_, row)| of_type.contains(&row.event));
        Ok(())
    }

    /// The relations to an event within a piece, all kinds of them merged by their places, or those of the kind that
    /// has this `rel_type`.
    fn rows(
        &self,
        target: &EventId,
        related: &RelatedRecord,
        rel_type: Option<&str>,
        piece: Piece,
        rows_max: usize,
    ) -> Result<Rows, RoomError> {
        let kind = rel_type.map(RelationKind::of);
        let kinds = RelationKind::ALL.into_iter().filter(|one| kind.is_none_or(|kind| kind == *one));
        let mut rows = Vec::new();
        // One more tells whether there are more.
        let wanted = rows_max.saturating_add(1);
        for kind in kinds.filter(|kind| related.count(*kind) > 0) {
            let range = (piece.after, piece.up_to);
            rows.extend(self.view.relations(self.num, target, kind, range, piece.direction, wanted)?);
        }
        match piece.direction {
            Direction::Forward => rows.sort_unstable_by_key(|(order, _)| *order),
            Direction::Backward => rows.sort_unstable_by_key(|(order, _)| std::cmp::Reverse(*order)),
        }
        let is_end = rows.len() <= rows_max;
        rows.truncate(rows_max);
        Ok(Rows { rows, is_end })
    }

    /// Which of these events others relate to as the filter wants it (MSC3440, `related_by_senders` and
    /// `related_by_rel_types`).
    pub fn are_related_by(&self, events: &[Arc<StoredEvent>], filter: &RelationFilter) -> Result<Vec<bool>, RoomError> {
        let ids: Vec<&EventId> = events.iter().map(|event| &**event.pdu.event_id()).collect();
        let related = self.view.related_many(self.num, &ids)?;
        ids.iter().zip(related).map(|(id, related)| self.is_related_by(id, related, filter)).collect()
    }

    fn is_related_by(
        &self,
        target: &EventId,
        related: Option<RelatedRecord>,
        filter: &RelationFilter,
    ) -> Result<bool, RoomError> {
        let Some(related) = related else { return Ok(false) };
        for kind in RelationKind::ALL.into_iter().filter(|kind| related.count(*kind) > 0) {
            // Of a kind that is not wanted nothing is read; of the others, what has no name of its own.
            let types = filter.related_by_rel_types.as_deref();
            let types: Option<Vec<_>> =
                types.map(|types| types.iter().filter(|one| RelationKind::of(one) == kind).collect());
            if types.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            let is_wanted = |row: &RelationRecord| {
                filter.related_by_senders.as_ref().is_none_or(|senders| senders.contains(&row.sender))
                    && types.as_ref().is_none_or(|types| types.iter().any(|one| is_of(row, Some(one))))
            };
            let all = (Order(i64::MIN), Order(i64::MAX));
            let rows = self.view.relations(self.num, target, kind, all, Direction::Backward, RELATED_BY_MAX)?;
            if rows.iter().any(|(_, row)| is_wanted(row)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a relation that was found among those of a kind is of this `rel_type`.
fn is_of(row: &RelationRecord, rel_type: Option<&str>) -> bool {
    match (&row.rel_type, rel_type) {
        (Some(found), Some(wanted)) => found == wanted,
        (None, _) | (_, None) => true,
    }
}
