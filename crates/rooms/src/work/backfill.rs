//! Events from before what the room knows of its history, and events that are only referred to.

use super::Work;
use crate::RoomError;
use crate::glance::glance;
use crate::reader::kind_text;
use base::{EventNum, Order, UnixMillis};
use records::state_map::StateRoot;
use records::{EventRecord, EventStatus, LogEntry, Place};
use room_core::{Env, Facts, Input, Standing, Verdict, decide, needs};
use rules::{CheckedPdu, Pdu, redaction};
use ruma::OwnedEventId;
use std::collections::HashMap;
use std::sync::Arc;
use store::Direction;

/// An event that a run places before all that was known.
pub(super) struct Past {
    order: Order,
    num: EventNum,
    record: EventRecord,
    pdu: Arc<Pdu>,
}

impl Work {
    /// Takes in events from before what the room knows, oldest first. They get the places before the first of the
    /// timeline, and change nothing that is current. The state before each follows from the events that it
    /// follows, if all of them are known, and is looked up in `states` if not. An event that has a place already
    /// keeps it.
    pub fn backfill(
        &mut self,
        events: Vec<CheckedPdu>,
        states: &HashMap<OwnedEventId, Vec<OwnedEventId>>,
    ) -> Vec<Result<OwnedEventId, RoomError>> {
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let first = self.loaded.head.backfilled_to.0.saturating_sub(count);
        let mut placed = false;
        let mut outcomes = Vec::with_capacity(events.len());
        for (order, event) in (first..).zip(events) {
            let before = self.past.len();
            outcomes.push(self.past(Order(order), event, states));
            placed |= self.past.len() > before;
        }
        if placed {
            self.loaded.head.backfilled_to = Order(first);
            let to = Order(first.saturating_add(count).saturating_sub(1));
            let nth = self.changes.stamp();
            self.changes.log(nth, &LogEntry::Backfilled { room: self.num, from: Order(first), to });
        }
        outcomes
    }

    fn past(
        &mut self,
        order: Order,
        event: CheckedPdu,
        states: &HashMap<OwnedEventId, Vec<OwnedEventId>>,
    ) -> Result<OwnedEventId, RoomError> {
        let event_id = event.event_id().clone();
        if self.is_known(&event_id)? {
            return Ok(event_id);
        }
        let before = match (self.state_after(event.prev_events()), states.get(&event_id)) {
            (Err(RoomError::Missing(_)), Some(state)) => self.given_state(state, self.first_state()?)?,
            (state, _) => state?,
        };
        let input = Input::Past(event);
        let needs = needs(&self.loaded.room, &input)?;
        let facts = Facts {
            before: Some(self.state_facts_at(before, &needs.state)?),
            events: self.events(&needs.events)?,
            redactions: self.early_redactions(&event_id)?,
            ..Facts::default()
        };
        let env = Env { now: self.now, key: &self.shared.key, fresh: "" };
        let change = match decide(env, &self.loaded.room, input, &facts) {
            Verdict::Change(change) => change,
            Verdict::Refused(refusal) => return Err(refusal.into()),
            Verdict::Missing(ids) => return Err(RoomError::Missing(ids)),
        };
        self.whole(|work| {
            let (num, pdu, mut record) = work.new_record(&change, before)?;
            if change.standing != Standing::Accepted {
                work.changes.put_event_outside(num, &record);
                return Ok(());
            }
            if let Some((kind, key)) = &change.sets {
                let kind = kind_text(kind);
                record.replaces = before.get(&work.changes, &kind, key)?;
                record.state_after = before.set(&mut work.changes, &[(&kind, key, num)])?;
            }
            work.changes.prepend_event(order, num, &record, glance(&pdu, record.redacted_by.is_some()));
            work.relations.make(Place::Known(order), num, &pdu);
            work.changes.put_time_before(order, work.num, UnixMillis(pdu.origin_server_ts().0.into()), num);
            work.past.push(Past { order, num, record, pdu });
            work.redact_others(&change, num)
        })?;
        Ok(event_id)
    }

    /// Takes in an event that others refer to. It has no place in the timeline, and no state.
    pub fn outlier(&mut self, event: CheckedPdu) -> Result<OwnedEventId, RoomError> {
        let event_id = event.event_id().clone();
        if self.changes.event_num(&event_id)?.is_some() {
            return Ok(event_id);
        }
        let input = Input::Outlier(event);
        let needs = needs(&self.loaded.room, &input)?;
        let facts = Facts { events: self.events(&needs.events)?, ..Facts::default() };
        let env = Env { now: self.now, key: &self.shared.key, fresh: "" };
        match decide(env, &self.loaded.room, input, &facts) {
            Verdict::Change(change) => self.whole(|work| {
                let (num, _, record) = work.new_record(&change, StateRoot::EMPTY)?;
                work.changes.put_event_outside(num, &record);
                Ok(event_id)
            }),
            Verdict::Refused(refusal) => Err(refusal.into()),
            Verdict::Missing(ids) => Err(RoomError::Missing(ids)),
        }
    }

    /// Whether what an event is to the room is decided already.
    pub(super) fn is_known(&self, event_id: &ruma::EventId) -> Result<bool, RoomError> {
        let Some(num) = self.changes.event_num(event_id)? else { return Ok(false) };
        Ok(self.changes.event(num)?.is_some_and(|record| record.status != EventStatus::Outlier))
    }

    /// The state before the first event of the timeline.
    fn first_state(&self) -> Result<StateRoot, RoomError> {
        let view = self.changes.view();
        let first = view.timeline(self.num, Order(i64::MIN), Order(i64::MAX), Direction::Forward, 1)?.pop();
        let first = first.map(|first| view.event(first.event)).transpose()?.flatten();
        Ok(first.map_or(StateRoot::EMPTY, |(_, record)| record.state_before))
    }

    /// The state of these events, as another server gave it. It shares with `base` what the two have in common.
    pub(super) fn given_state(&mut self, event_ids: &[OwnedEventId], base: StateRoot) -> Result<StateRoot, RoomError> {
        let (mut state, mut missing) = (HashMap::new(), Vec::new());
        for id in event_ids {
            let num = self.changes.event_num(id)?;
            let known = num.filter(|_| self.events(std::slice::from_ref(id)).is_ok_and(|found| !found.is_empty()));
            let pdu = known.map(|num| self.pdu(num)).transpose()?.flatten();
            match known.zip(pdu) {
                // What was rejected is in no state.
                Some((_, pdu)) if pdu.rejected() => {}
                Some((num, pdu)) => {
                    if let Some(key) = pdu.state_key() {
                        state.insert((pdu.kind_str().to_owned(), key.to_owned()), num);
                    }
                }
                None => missing.push(id.clone()),
            }
        }
        if !missing.is_empty() {
            return Err(RoomError::Missing(missing));
        }
        let mut edits = Vec::new();
        for entry in base.entries(&self.changes) {
            let entry = entry?;
            let key = (entry.kind, entry.state_key);
            match state.remove(&key) {
                Some(num) if num == entry.event => {}
                other => edits.push((key, other)),
            }
        }
        edits.extend(state.into_iter().map(|(key, num)| (key, Some(num))));
        let edits = edits.iter().map(|((kind, key), num)| (kind.as_str(), key.as_str(), *num));
        Ok(base.change(&mut self.changes, edits)?)
    }

    /// Redacts an event that this run places in the past. Whether it is one.
    pub(super) fn redact_past(&mut self, num: EventNum, by: EventNum) -> Result<bool, RoomError> {
        let Some(past) = self.past.iter_mut().find(|past| past.num == num) else { return Ok(false) };
        let pdu = redaction::redact(&past.pdu, &self.loaded.room.rules).map_err(RoomError::internal)?;
        pdu.json().clone_into(&mut past.record.json);
        past.record.redacted_by.get_or_insert(by);
        past.pdu = Arc::new(pdu);
        self.written.insert(num, past.pdu.clone());
        self.relations.break_new(num);
        self.changes.prepend_event(past.order, num, &past.record, glance(&past.pdu, true));
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
