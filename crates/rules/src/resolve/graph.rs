//! Walks over the events that name each other as `auth_events`. Iterative and bounded.

use super::{AUTH_CHAIN_EVENTS_MAX, ResolveError};
use crate::pdu::Pdu;
use ruma::{EventId, OwnedEventId};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// The most events that are kept at hand: one resolution asks for the same events many times.
const KEPT_EVENTS_MAX: usize = 10_000;

/// The events of a room, with those asked for lately at hand.
pub(super) struct Graph<F> {
    fetch: F,
    kept: RefCell<HashMap<OwnedEventId, Arc<Pdu>>>,
}

impl<F: Fn(&EventId) -> Option<Arc<Pdu>>> Graph<F> {
    pub(super) fn new(fetch: F) -> Self {
        Self { fetch, kept: RefCell::default() }
    }

    /// An event, if it is known.
    pub(super) fn fetch(&self, event_id: &EventId) -> Option<Arc<Pdu>> {
        if let Some(pdu) = self.kept.borrow().get(event_id) {
            return Some(Arc::clone(pdu));
        }
        let pdu = (self.fetch)(event_id)?;
        let mut kept = self.kept.borrow_mut();
        if kept.len() < KEPT_EVENTS_MAX {
            kept.insert(event_id.to_owned(), Arc::clone(&pdu));
        }
        Some(pdu)
    }

    fn need(&self, event_id: &EventId) -> Result<Arc<Pdu>, ResolveError> {
        self.fetch(event_id).ok_or_else(|| ResolveError::Missing(event_id.to_owned()))
    }

    /// The auth chain of these events: all events that they name, that those name, and so on. It refuses
    /// cycles, on which the library would not come to an end.
    pub(super) fn chain<'a>(
        &self,
        events: impl Iterator<Item = &'a OwnedEventId>,
    ) -> Result<HashSet<OwnedEventId>, ResolveError> {
        let mut chain = HashSet::new();
        self.visit(events, |_, auth_event| {
            chain.insert(auth_event.to_owned());
        })?;
        Ok(chain)
    }

    /// Takes out of `wanted` what is in the auth chain of `events`. Stops when nothing is left.
    pub(super) fn strike_out<'a>(
        &self,
        events: impl Iterator<Item = &'a OwnedEventId>,
        wanted: &mut BTreeSet<OwnedEventId>,
    ) -> Result<(), ResolveError> {
        let mut seen: HashSet<OwnedEventId> = HashSet::new();
        for event_id in events {
            let mut stack = vec![event_id.clone()];
            while let Some(event_id) = stack.pop() {
                if wanted.is_empty() {
                    return Ok(());
                }
                // Not kept at hand: these are many, and each is asked for once.
                let missing = || ResolveError::Missing(event_id.clone());
                let pdu = (self.fetch)(&event_id).ok_or_else(missing)?;
                for auth_event in pdu.auth_events() {
                    if seen.insert(auth_event.clone()) {
                        wanted.remove(auth_event);
                        stack.push(auth_event.clone());
                    }
                }
                if seen.len() > AUTH_CHAIN_EVENTS_MAX {
                    return Err(ResolveError::TooLong);
                }
            }
        }
        Ok(())
    }

    /// The conflicted state subgraph (room version 12, "State resolution"): the events on a path of auth
    /// events from one of `conflicted` to another, these included.
    pub(super) fn between(&self, conflicted: &BTreeSet<OwnedEventId>) -> Result<HashSet<OwnedEventId>, ResolveError> {
        let mut between: HashSet<OwnedEventId> = conflicted.iter().cloned().collect();
        // An event is reported when all that it names have been: whether they lead to a conflict is known.
        let mut order = Vec::new();
        self.visit(conflicted.iter(), |event_id, auth_event| {
            order.push((event_id.to_owned(), auth_event.to_owned()));
        })?;
        for (event_id, auth_event) in order {
            if between.contains(&auth_event) {
                between.insert(event_id);
            }
        }
        Ok(between)
    }

    /// Visits every event that can be reached once, those it names first, and reports each of its edges as
    /// (event, auth event).
    fn visit<'a>(
        &self,
        events: impl Iterator<Item = &'a OwnedEventId>,
        mut report: impl FnMut(&EventId, &EventId),
    ) -> Result<(), ResolveError> {
        enum Step {
            Enter(OwnedEventId),
            Leave(Arc<Pdu>),
        }

        let mut done: HashSet<OwnedEventId> = HashSet::new();
        let mut open: HashSet<OwnedEventId> = HashSet::new();
        for event_id in events {
            let mut stack = vec![Step::Enter(event_id.clone())];
            while let Some(step) = stack.pop() {
                match step {
                    Step::Enter(event_id) if done.contains(&event_id) => {}
                    Step::Enter(event_id) => {
                        if !open.insert(event_id.clone()) {
                            return Err(ResolveError::Cycle(event_id));
                        }
                        if done.len() + open.len() > AUTH_CHAIN_EVENTS_MAX {
                            return Err(ResolveError::TooLong);
                        }
                        let pdu = self.need(&event_id)?;
                        stack.push(Step::Leave(Arc::clone(&pdu)));
                        let next = pdu.auth_events().iter().filter(|id| !done.contains(*id));
                        stack.extend(next.cloned().map(Step::Enter));
                    }
                    Step::Leave(pdu) => {
                        open.remove(pdu.event_id());
                        done.insert(pdu.event_id().clone());
                        pdu.auth_events().iter().for_each(|auth_event| report(pdu.event_id(), auth_event));
                    }
                }
            }
        }
        Ok(())
    }
}
