//! The state of a room as a persistent map from (event type, state key) to event.
//!
//! A [`StateRoot`] is one state of one room, for ever: changing it writes a handful of new nodes and
//! answers another root, and everything that did not change is shared between the two. So the state
//! before every event can be kept, read in a few node reads, and compared with another state by looking
//! only at where they differ.
//!
//! It is a copy-on-write B+ tree. Nodes are written once and never changed; each holds sorted entries
//! without the prefix and suffix that all of its keys share (a leaf of members stores neither their type
//! nor their server name), so that a leaf of 2 KiB has a hundred members or more.
//!
//! Entries are in the order of the pair of strings (type, state key).
//!
//! This module neither knows where nodes are kept nor numbers them ([`Nodes`], [`NewNodes`]), and it does
//! not remove nodes that no root needs any more.

mod below;
mod change;
mod node;
mod walk;

#[cfg(test)]
mod tests;

use base::{EventNum, NodeNum, limits};
use node::NodeView;
use serde::{Deserialize, Serialize};
pub use walk::{Differences, Entries};

/// The most entries that one page returns, whatever was asked for.
pub const PAGE_ENTRIES_MAX: usize = 10_000;

/// Where nodes are read.
pub trait Nodes {
    /// The bytes of a node: owned or shared.
    type Bytes: AsRef<[u8]>;
    /// Why a read failed.
    type Error: From<StateMapError>;

    /// The bytes that [`NewNodes::add`] was given for this number; `None` if there was no such call.
    fn node(&self, num: NodeNum) -> Result<Option<Self::Bytes>, Self::Error>;
}

/// Where nodes are written. What was added must be readable at once through the same value.
pub trait NewNodes: Nodes {
    /// Keeps a node under a number that was never used before. A node is a few KiB, and below 32 KiB
    /// with the longest keys.
    fn add(&mut self, bytes: Vec<u8>) -> Result<NodeNum, Self::Error>;
}

/// Why a state map could not be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateMapError {
    /// A node that another one refers to is not there.
    #[error("state node {0} is missing")]
    Missing(NodeNum),
    /// A node's bytes are not what this module writes.
    #[error("state node {node} is corrupt: {reason}")]
    Corrupt {
        /// Which node.
        node: NodeNum,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A type and state key are together longer than [`limits::KEY_BYTES_MAX`]. The event format rules
    /// keep both below that.
    #[error("the event type and state key are too long")]
    KeyTooLong,
    /// [`StateRoot::build`] was given entries that are not in strictly rising order.
    #[error("the entries are not sorted")]
    Unsorted,
}

/// One state of a room. The default is the empty state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StateRoot(pub Option<NodeNum>);

/// An entry of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateEntry {
    /// The event's type.
    pub kind: String,
    /// Its state key.
    pub state_key: String,
    /// The event.
    pub event: EventNum,
}

/// How two states differ at one place. At least one of the two events is there, and they are not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The event type.
    pub kind: String,
    /// The state key.
    pub state_key: String,
    /// The event in the first state.
    pub before: Option<EventNum>,
    /// The event in the second state.
    pub after: Option<EventNum>,
}

/// A part of a state's entries, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatePage {
    /// The entries. To go on, ask for what comes after the last one.
    pub entries: Vec<StateEntry>,
    /// Whether there are entries after these.
    pub more: bool,
}

impl StateRoot {
    /// The state without entries.
    pub const EMPTY: Self = Self(None);

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_none()
    }

    /// The event at (type, state key). Reads one node a level: three for 100,000 entries.
    pub fn get<N: Nodes>(self, nodes: &N, kind: &str, state_key: &str) -> Result<Option<EventNum>, N::Error> {
        let key = encode_key(kind, state_key);
        let mut height = None;
        let mut next = self.0;
        while let Some(num) = next {
            let bytes = load(nodes, num)?;
            let view = view(bytes.as_ref(), num, height)?;
            let at = |reason| StateMapError::Corrupt { node: num, reason };
            if view.height == 0 {
                let found = view.search(&key).map_err(at)?;
                return Ok(found.ok().map(|index| view.value(index)).transpose().map_err(at)?.map(EventNum));
            }
            height = Some(view.height);
            next = view.child_for(&key).map_err(at)?;
        }
        Ok(None)
    }

    /// The events at several places, in the order of the question. Each node is read once.
    pub fn get_many<N: Nodes>(self, nodes: &N, keys: &[(&str, &str)]) -> Result<Vec<Option<EventNum>>, N::Error> {
        let mut wanted: Vec<(Vec<u8>, usize)> =
            keys.iter().enumerate().map(|(index, (kind, key))| (encode_key(kind, key), index)).collect();
        wanted.sort_unstable();
        let mut found = vec![None; keys.len()];
        if let Some(root) = self.0 {
            find_all(nodes, root, None, &wanted, &mut found)?;
        }
        Ok(found)
    }

    /// The state with these entries set, and the others as they were. The last of several settings of
    /// one place wins. Nothing is written and the root is the same if that changes nothing.
    pub fn set<N: NewNodes>(self, nodes: &mut N, changes: &[(&str, &str, EventNum)]) -> Result<Self, N::Error> {
        self.change(nodes, changes.iter().map(|(kind, key, event)| (*kind, *key, Some(*event))))
    }

    /// The state without these entries.
    pub fn remove<N: NewNodes>(self, nodes: &mut N, keys: &[(&str, &str)]) -> Result<Self, N::Error> {
        self.change(nodes, keys.iter().map(|(kind, key)| (*kind, *key, None)))
    }

    /// The state with each of these places set (`Some`) or cleared (`None`), all in one copy of the paths
    /// that lead to them. The last of several changes of one place wins.
    pub fn change<'a, N, I>(self, nodes: &mut N, changes: I) -> Result<Self, N::Error>
    where
        N: NewNodes,
        I: IntoIterator<Item = (&'a str, &'a str, Option<EventNum>)>,
    {
        let mut encoded = Vec::new();
        for (kind, state_key, event) in changes {
            encoded.push((checked_key(kind, state_key)?, event.map(|event| event.0)));
        }
        // The sort is stable, so the last change of a place is the last of its run.
        encoded.sort_by(|(left, _), (right, _)| left.cmp(right));
        encoded.reverse();
        encoded.dedup_by(|(left, _), (right, _)| left == right);
        encoded.reverse();
        Ok(Self(change::apply(nodes, self.0, &encoded)?))
    }

    /// A state of all these entries, which must come in strictly rising order of (type, state key).
    /// Holds one node a level in memory, so the iterator may be as long as it likes.
    pub fn build<K, N, I>(nodes: &mut N, entries: I) -> Result<Self, N::Error>
    where
        K: AsRef<str>,
        N: NewNodes,
        I: IntoIterator<Item = (K, K, EventNum)>,
    {
        let mut builder = change::Builder::default();
        for (kind, state_key, event) in entries {
            builder.push(nodes, checked_key(kind.as_ref(), state_key.as_ref())?, event.0)?;
        }
        Ok(Self(builder.finish(nodes)?))
    }

    /// All entries in order, read as they are asked for. After an error there are no more.
    pub fn entries<N: Nodes>(self, nodes: &N) -> Entries<'_, N> {
        Entries::new(nodes, self, Vec::new(), None)
    }

    /// The entries of one type in the order of their state keys; those after a given state key, if there is one.
    pub fn entries_of<'n, N: Nodes>(self, nodes: &'n N, kind: &str, after: Option<&str>) -> Entries<'n, N> {
        let after = after.map(|state_key| encode_key(kind, state_key));
        Entries::new(nodes, self, encode_key(kind, ""), after)
    }

    /// A page of all entries, starting after a given one.
    pub fn page<N: Nodes>(
        self,
        nodes: &N,
        after: Option<(&str, &str)>,
        entries_max: usize,
    ) -> Result<StatePage, N::Error> {
        let after = after.map(|(kind, state_key)| encode_key(kind, state_key));
        take_page(Entries::new(nodes, self, Vec::new(), after), entries_max)
    }

    /// A page of the entries of one type, starting after a given state key.
    pub fn page_of<N: Nodes>(
        self,
        nodes: &N,
        kind: &str,
        after: Option<&str>,
        entries_max: usize,
    ) -> Result<StatePage, N::Error> {
        take_page(self.entries_of(nodes, kind, after), entries_max)
    }

    /// How this state differs from a later or any other one, in order. Parts that the two share are not
    /// read, so for states that were made from each other the work grows with the differences only.
    /// After an error there are no more.
    pub fn diff<N: Nodes>(self, nodes: &N, after: Self) -> Differences<'_, N> {
        Differences::new(nodes, self, after)
    }
}

fn take_page<N: Nodes>(mut entries: Entries<'_, N>, entries_max: usize) -> Result<StatePage, N::Error> {
    let mut page = StatePage::default();
    let entries_max = entries_max.min(PAGE_ENTRIES_MAX);
    for entry in entries.by_ref().take(entries_max) {
        page.entries.push(entry?);
    }
    page.more = entries.next().transpose()?.is_some();
    Ok(page)
}

/// Looks up sorted keys below a node.
fn find_all<N: Nodes>(
    nodes: &N,
    num: NodeNum,
    above: Option<u8>,
    wanted: &[(Vec<u8>, usize)],
    found: &mut [Option<EventNum>],
) -> Result<(), N::Error> {
    let bytes = load(nodes, num)?;
    let view = view(bytes.as_ref(), num, above)?;
    let at = |reason| StateMapError::Corrupt { node: num, reason };
    if view.height == 0 {
        for (key, index) in wanted {
            if let (Ok(entry), Some(place)) = (view.search(key).map_err(at)?, found.get_mut(*index)) {
                *place = Some(EventNum(view.value(entry).map_err(at)?));
            }
        }
        return Ok(());
    }
    let mut rest = wanted;
    while let Some((first, _)) = rest.first() {
        let index = view.child_index_for(first).map_err(at)?;
        let here = match view.key_if_any(index + 1).map_err(at)? {
            Some(end) => rest.partition_point(|(key, _)| *key < end).max(1),
            None => rest.len(),
        };
        let (now, later) = rest.split_at(here);
        find_all(nodes, NodeNum(view.value(index).map_err(at)?), Some(view.height), now, found)?;
        rest = later;
    }
    Ok(())
}

/// The bytes of a node that must be there.
fn load<N: Nodes>(nodes: &N, num: NodeNum) -> Result<N::Bytes, N::Error> {
    nodes.node(num)?.ok_or_else(|| StateMapError::Missing(num).into())
}

/// A node's bytes, understood. `above` is the height of the node that led here: heights fall by one, so
/// that corrupt nodes can't lead in circles.
fn view(bytes: &[u8], num: NodeNum, above: Option<u8>) -> Result<NodeView<'_>, StateMapError> {
    let view = NodeView::parse(bytes).map_err(|reason| StateMapError::Corrupt { node: num, reason })?;
    match above {
        Some(above) if above.checked_sub(1) != Some(view.height) => {
            Err(StateMapError::Corrupt { node: num, reason: "its height is not its parent's less one" })
        }
        _ => Ok(view),
    }
}

/// Ends the type within a key. A NUL within the type is followed by [`NUL_IN_KIND`], a byte that UTF-8
/// never contains; so keys are in the order of (type, state key) whatever the strings contain.
const KIND_END: u8 = 0;
const NUL_IN_KIND: u8 = 0xff;

fn encode_key(kind: &str, state_key: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(kind.len() + 1 + state_key.len());
    for byte in kind.bytes() {
        key.push(byte);
        if byte == KIND_END {
            key.push(NUL_IN_KIND);
        }
    }
    key.push(KIND_END);
    key.extend_from_slice(state_key.as_bytes());
    key
}

fn checked_key(kind: &str, state_key: &str) -> Result<Vec<u8>, StateMapError> {
    let key = encode_key(kind, state_key);
    if key.len() > limits::KEY_BYTES_MAX { Err(StateMapError::KeyTooLong) } else { Ok(key) }
}

/// The type and state key of a key; `None` if nothing was encoded like this.
fn decode_key(key: &[u8]) -> Option<(String, String)> {
    let mut kind = Vec::new();
    let mut rest = key;
    loop {
        let end = rest.iter().position(|byte| *byte == KIND_END)?;
        let (part, after) = rest.split_at_checked(end)?;
        kind.extend_from_slice(part);
        rest = after.get(1..)?;
        if rest.first() != Some(&NUL_IN_KIND) {
            break;
        }
        kind.push(KIND_END);
        rest = rest.get(1..)?;
    }
    Some((String::from_utf8(kind).ok()?, String::from_utf8(rest.to_vec()).ok()?))
}
