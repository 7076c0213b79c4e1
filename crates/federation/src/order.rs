//! Events in the order of what they refer to.

use rules::{CheckedPdu, Pdu};
use ruma::OwnedEventId;
use std::collections::{HashMap, HashSet};

/// Events, each after those of them that `references` names. Each event is there once; those that refer to each other in
/// a circle, as no honest server's do, are left out.
pub(crate) fn in_order(events: Vec<CheckedPdu>, references: impl Fn(&Pdu) -> &[OwnedEventId]) -> Vec<CheckedPdu> {
    let mut by_id: HashMap<OwnedEventId, CheckedPdu> = HashMap::with_capacity(events.len());
    let mut ids = Vec::with_capacity(events.len());
    for event in events {
        let id = event.event_id().clone();
        if by_id.insert(id.clone(), event).is_none() {
            ids.push(id);
        }
    }
    // How many of the events each one still waits for, and who waits for it.
    let mut waits: HashMap<&OwnedEventId, usize> = HashMap::with_capacity(ids.len());
    let mut waiting: HashMap<&OwnedEventId, Vec<&OwnedEventId>> = HashMap::new();
    for id in &ids {
        let Some(event) = by_id.get(id) else { continue };
        let named: HashSet<&OwnedEventId> =
            references(event).iter().filter(|other| by_id.contains_key(*other)).collect();
        waits.insert(id, named.len());
        for other in named {
            if let Some((other, _)) = by_id.get_key_value(other) {
                waiting.entry(other).or_default().push(id);
            }
        }
    }
    let mut ready: std::collections::VecDeque<&OwnedEventId> =
        ids.iter().filter(|id| waits.get(id).is_some_and(|count| *count == 0)).collect();
    let mut order = Vec::with_capacity(ids.len());
    while let Some(id) = ready.pop_front() {
        order.push(id.clone());
        for other in waiting.get(id).into_iter().flatten() {
            if let Some(count) = waits.get_mut(*other) {
                *count -= 1;
                if *count == 0 {
                    ready.push_back(other);
                }
            }
        }
    }
    drop((waits, waiting, ready));
    order.iter().filter_map(|id| by_id.remove(id)).collect()
}

/// Events, each after those that it names as allowing it, and after the room's creation, which none has to name from
/// room version 12 on.
pub(crate) fn by_auth(mut events: Vec<CheckedPdu>) -> Vec<CheckedPdu> {
    events.sort_by_key(|event| event.kind_str() != "m.room.create");
    in_order(events, Pdu::auth_events)
}

/// Events, each after those that it follows.
pub(crate) fn by_prev(events: Vec<CheckedPdu>) -> Vec<CheckedPdu> {
    in_order(events, Pdu::prev_events)
}
