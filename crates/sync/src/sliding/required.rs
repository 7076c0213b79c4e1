//! The state of a room that a client wants, and what changed of it.

use crate::SyncError;
use base::EventNum;
use records::state_map::{Difference, StateRoot};
use rooms::RoomReader;
use std::collections::BTreeMap;
use sync_core::sliding::{Lookup, Wanted};

/// State by type and state key; none where it was removed.
pub type Places = BTreeMap<(String, String), Option<EventNum>>;

/// The state at a root that is wanted, but for what was known to be wanted before.
pub fn wanted_beyond(reader: &RoomReader, at: StateRoot, wanted: &Wanted, known: &Wanted) -> Result<Places, SyncError> {
    let Lookup { keys, kinds, all } = wanted.lookup_beyond(known);
    let is_new = |kind: &str, key: &str| wanted.matches(kind, key) && !known.matches(kind, key);
    let mut places = Places::new();
    if all {
        for entry in at.entries(reader.view()) {
            let entry = entry?;
            if is_new(&entry.kind, &entry.state_key) {
                places.insert((entry.kind, entry.state_key), Some(entry.event));
            }
        }
        return Ok(places);
    }
    for kind in &kinds {
        for entry in at.entries_of(reader.view(), kind, None) {
            let entry = entry?;
            if is_new(&entry.kind, &entry.state_key) {
                places.insert((entry.kind, entry.state_key), Some(entry.event));
            }
        }
    }
    let keys: Vec<_> = keys.into_iter().filter(|(kind, key)| is_new(kind, key)).collect();
    let asked: Vec<(&str, &str)> = keys.iter().map(|(kind, key)| (kind.as_str(), key.as_str())).collect();
    let found = at.get_many(reader.view(), &asked)?;
    places.extend(keys.into_iter().zip(found).filter(|(_, event)| event.is_some()));
    Ok(places)
}

/// What differs between two states.
pub fn differences(reader: &RoomReader, from: StateRoot, to: StateRoot) -> Result<Vec<Difference>, SyncError> {
    if from == to {
        return Ok(Vec::new());
    }
    from.diff(reader.view(), to).map(|difference| difference.map_err(SyncError::from)).collect()
}
