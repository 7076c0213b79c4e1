//! State resolution version 1 (room version 1, "State resolution").

use super::{ResolveError, StateMap};
use crate::auth::{StateKey, authorize_with_state};
use crate::pdu::Pdu;
use ruma::events::StateEventType;
use ruma::room_version_rules::RoomVersionRules;
use ruma::{EventId, OwnedEventId};
use sha1::{Digest, Sha1};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The types that decide over others, in the order in which their conflicts are resolved.
const DECIDING: [StateEventType; 3] =
    [StateEventType::RoomPowerLevels, StateEventType::RoomJoinRules, StateEventType::RoomMember];

/// The state that results from `states`.
///
/// The conflicts of one type are resolved each by itself, against what was resolved before that type, so the
/// order among them does not matter.
pub(super) fn resolve(
    rules: &RoomVersionRules,
    states: &[StateMap<OwnedEventId>],
    fetch: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<StateMap<OwnedEventId>, ResolveError> {
    // A key that only some states have is no conflict: the states that have it agree.
    let mut values: BTreeMap<&StateKey, BTreeSet<&OwnedEventId>> = BTreeMap::new();
    for (key, event_id) in states.iter().flatten() {
        values.entry(key).or_default().insert(event_id);
    }
    let mut resolved = Resolved { rules, events: StateMap::new(), fetch };
    let mut conflicts: BTreeMap<&StateKey, Vec<Arc<Pdu>>> = BTreeMap::new();
    for (key, event_ids) in values {
        match event_ids.first() {
            Some(only) if event_ids.len() == 1 => {
                resolved.events.insert(key.clone(), (*only).clone());
            }
            _ => {
                conflicts.insert(key, resolved.sorted(event_ids)?);
            }
        }
    }
    for deciding in DECIDING {
        let of_type: Vec<_> = conflicts.extract_if(.., |key, _| key.0 == deciding).collect();
        let winners: Vec<_> =
            of_type.iter().filter_map(|(key, events)| Some((*key, resolved.last_allowed(key, events)?))).collect();
        resolved.extend(winners);
    }
    let winners: Vec<_> =
        conflicts.iter().filter_map(|(key, events)| Some((*key, resolved.highest_allowed(events)?))).collect();
    resolved.extend(winners);
    Ok(resolved.events)
}

/// What has been resolved so far.
struct Resolved<'a, F> {
    rules: &'a RoomVersionRules,
    events: StateMap<OwnedEventId>,
    fetch: F,
}

impl<F: Fn(&EventId) -> Option<Arc<Pdu>>> Resolved<'_, F> {
    /// The events by ascending depth, then descending SHA-1 of the event id.
    fn sorted(&self, event_ids: BTreeSet<&OwnedEventId>) -> Result<Vec<Arc<Pdu>>, ResolveError> {
        let missing = |event_id: &OwnedEventId| ResolveError::Missing(event_id.clone());
        let fetched = event_ids.into_iter().map(|id| (self.fetch)(id).ok_or_else(|| missing(id)));
        let mut events = fetched.collect::<Result<Vec<_>, _>>()?;
        events.sort_by_cached_key(|pdu| {
            (pdu.depth(), std::cmp::Reverse(Sha1::digest(pdu.event_id().as_str().as_bytes()).to_vec()))
        });
        Ok(events)
    }

    /// For the types that decide: the first event, replaced by each next one as long as that is allowed.
    fn last_allowed(&self, key: &StateKey, events: &[Arc<Pdu>]) -> Option<OwnedEventId> {
        let (first, others) = events.split_first()?;
        let mut winner = first;
        for event in others {
            let state = |kind: &StateEventType, state_key: &str| {
                if *kind == key.0 && state_key == key.1 {
                    return Some(Arc::clone(winner));
                }
                self.get(kind, state_key)
            };
            if authorize_with_state(self.rules, event, state).is_err() {
                break;
            }
            winner = event;
        }
        Some(winner.event_id().clone())
    }

    /// For all other types: the event of highest depth, and of those of lowest SHA-1, that is allowed.
    fn highest_allowed(&self, events: &[Arc<Pdu>]) -> Option<OwnedEventId> {
        let allowed = |event: &&Arc<Pdu>| {
            authorize_with_state(self.rules, event, |kind, state_key| self.get(kind, state_key)).is_ok()
        };
        events.iter().rev().find(allowed).map(|event| event.event_id().clone())
    }

    fn get(&self, kind: &StateEventType, state_key: &str) -> Option<Arc<Pdu>> {
        (self.fetch)(self.events.get(&(kind.clone(), state_key.to_owned()))?)
    }

    fn extend(&mut self, winners: Vec<(&StateKey, OwnedEventId)>) {
        self.events.extend(winners.into_iter().map(|(key, event_id)| (key.clone(), event_id)));
    }
}
