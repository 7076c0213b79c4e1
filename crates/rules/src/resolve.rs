//! The state of a room where its history parts (state resolution, versions 1, 2 and 2.1).
//!
//! Versions 2 and 2.1 are the library's; what it asks for, auth chains and the conflicted state subgraph, is
//! worked out here. Version 1, which only rooms of version 1 use, is a module of its own.

mod graph;
mod v1;

use crate::auth::StateKey;
use crate::pdu::Pdu;
use graph::Graph;
use ruma::room_version_rules::{RoomVersionRules, StateResolutionVersion};
use ruma::state_res::Error;
use ruma::state_res::utils::event_id_set::EventIdSet;
use ruma::{EventId, OwnedEventId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A room's state: an event for each type and state key.
pub type StateMap<T> = std::collections::HashMap<StateKey, T>;

/// The most events of auth chains that one resolution looks at.
pub const AUTH_CHAIN_EVENTS_MAX: usize = 2_000_000;

/// Why states cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// An event that is needed is not known.
    #[error("event {0} is needed but not known")]
    Missing(OwnedEventId),
    /// More than [`AUTH_CHAIN_EVENTS_MAX`] events would have to be looked at.
    #[error("the auth chains are longer than {AUTH_CHAIN_EVENTS_MAX} events")]
    TooLong,
    /// Events name each other as allowing them. No server can have accepted them all.
    #[error("the auth chain of {0} leads back to it")]
    Cycle(OwnedEventId),
    /// An event that others were accepted on cannot be read.
    #[error("{0}")]
    Malformed(String),
}

/// The state that results from `states`, in whatever order they come. `fetch` knows every event of the states
/// and of their auth chains; a rejected event must say so.
///
/// Without a conflict this costs a comparison of the states. With one, it walks the auth chains of the events
/// in conflict and, unless those are all the same, of the others until it is sure.
///
/// # Errors
///
/// [`ResolveError`].
pub fn resolve(
    rules: &RoomVersionRules,
    states: &[StateMap<OwnedEventId>],
    fetch: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<StateMap<OwnedEventId>, ResolveError> {
    match states {
        [] => return Ok(StateMap::new()),
        [only] => return Ok(only.clone()),
        [first, others @ ..] if others.iter().all(|state| state == first) => return Ok(first.clone()),
        _ => {}
    }
    let graph = Graph::new(fetch);
    let Some(v2) = rules.state_res.v2_rules() else {
        debug_assert_eq!(rules.state_res, StateResolutionVersion::V1);
        return v1::resolve(rules, states, |event_id| graph.fetch(event_id));
    };
    let chains = auth_chains(&graph, states)?;
    let subgraph = |conflicted: &StateMap<Vec<OwnedEventId>>| {
        let conflicted: BTreeSet<OwnedEventId> = conflicted.values().flatten().cloned().collect();
        graph.between(&conflicted).ok().map(|events| events.into_iter().collect::<EventIdSet<_>>())
    };
    ruma::state_res::resolve(&rules.authorization, v2, states, chains, |event_id| graph.fetch(event_id), subgraph)
        .map_err(|error| match error {
            Error::NotFound(event_id) => ResolveError::Missing(event_id),
            error => ResolveError::Malformed(error.to_string()),
        })
}

/// For each state a set of events that have the same auth difference as the states' full auth chains: what is
/// in the chain of an event that all states share is in every chain, so it is left out of all of them.
fn auth_chains<F: Fn(&EventId) -> Option<Arc<Pdu>>>(
    graph: &Graph<F>,
    states: &[StateMap<OwnedEventId>],
) -> Result<Vec<EventIdSet<OwnedEventId>>, ResolveError> {
    let shared = |key: &StateKey, event_id: &OwnedEventId| {
        states.iter().all(|state| state.get(key).is_some_and(|other| other == event_id))
    };
    let mut chains = Vec::with_capacity(states.len());
    for state in states {
        let own = state.iter().filter(|(key, event_id)| !shared(key, event_id)).map(|(_, event_id)| event_id);
        chains.push(graph.chain(own)?);
    }
    let in_some: BTreeSet<OwnedEventId> = chains.iter().flatten().cloned().collect();
    let mut difference: BTreeSet<OwnedEventId> =
        in_some.into_iter().filter(|event_id| !chains.iter().all(|chain| chain.contains(event_id))).collect();
    if let Some(first) = states.first() {
        let common = first.iter().filter(|(key, event_id)| shared(key, event_id)).map(|(_, event_id)| event_id);
        graph.strike_out(common, &mut difference)?;
    }
    for chain in &mut chains {
        chain.retain(|event_id| difference.contains(event_id));
    }
    Ok(chains.into_iter().map(|chain| chain.into_iter().collect()).collect())
}

#[cfg(test)]
mod tests;
