//! Reading in order: all entries of a part of one tree, and the differences between two.

use super::node::Pair;
use super::{Difference, NUL_IN_KIND, Nodes, StateEntry, StateMapError, StateRoot, decode_key, load, view};
use base::{EventNum, NodeNum};
use std::vec;

/// A place in a tree from which everything that follows can be read. It holds what is left of one node a level.
struct Walk<'n, N: Nodes> {
    nodes: &'n N,
    /// From the root down. The front of the last level that has entries left is what comes next.
    levels: Vec<Level>,
}

struct Level {
    node: NodeNum,
    height: u8,
    /// A leaf's entries, or children with their smallest keys.
    rest: vec::IntoIter<Pair>,
}

/// What comes next in a walk.
enum Front<'a> {
    End,
    /// Everything below a child, whose smallest key is known.
    Child(&'a [u8], NodeNum, u8),
    Entry(&'a [u8], u64),
}

impl<'n, N: Nodes> Walk<'n, N> {
    /// A walk that has not read anything yet: its front is the root.
    fn of_all(nodes: &'n N, root: StateRoot) -> Result<Self, N::Error> {
        let mut walk = Self { nodes, levels: Vec::new() };
        if let Some(root) = root.0 {
            walk.enter(root, None, None)?;
        }
        Ok(walk)
    }

    /// A walk from a key on.
    fn from(nodes: &'n N, root: StateRoot, key: &[u8]) -> Result<Self, N::Error> {
        let mut walk = Self { nodes, levels: Vec::new() };
        if let Some(root) = root.0 {
            walk.enter(root, None, Some(key))?;
            while let Front::Child(low, ..) = walk.front() {
                if low >= key {
                    break;
                }
                walk.expand(Some(key))?;
            }
        }
        Ok(walk)
    }

    /// Reads a node; its entries come next, less those that end before `from`.
    fn enter(&mut self, num: NodeNum, above: Option<u8>, from: Option<&[u8]>) -> Result<(), N::Error> {
        let at = |reason| StateMapError::Corrupt { node: num, reason };
        let bytes = load(self.nodes, num)?;
        let view = view(bytes.as_ref(), num, above)?;
        let start = match from {
            None => 0,
            Some(key) if view.height > 0 => view.child_index_for(key).map_err(at)?,
            Some(key) => match view.search(key).map_err(at)? {
                Ok(index) | Err(index) => index,
            },
        };
        let rest = view.pairs_from(start).map_err(at)?.into_iter();
        self.levels.push(Level { node: num, height: view.height, rest });
        Ok(())
    }

    fn front(&mut self) -> Front<'_> {
        while self.levels.pop_if(|level| level.rest.as_slice().is_empty()).is_some() {}
        let Some(level) = self.levels.last() else { return Front::End };
        match level.rest.as_slice().first() {
            None => Front::End,
            Some((key, value)) if level.height == 0 => Front::Entry(key, *value),
            Some((key, value)) => Front::Child(key, NodeNum(*value), level.height - 1),
        }
    }

    /// Passes over what is at the front.
    fn skip(&mut self) -> Option<(NodeNum, Pair)> {
        let level = self.levels.last_mut()?;
        level.rest.next().map(|pair| (level.node, pair))
    }

    /// Replaces the child at the front by what is in it.
    fn expand(&mut self, from: Option<&[u8]>) -> Result<(), N::Error> {
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        let height = level.height;
        match level.rest.next() {
            Some((_, child)) => self.enter(NodeNum(child), Some(height), from),
            None => Ok(()),
        }
    }

    /// The next entry, and the node it is in.
    fn next_entry(&mut self) -> Result<Option<(NodeNum, Pair)>, N::Error> {
        loop {
            match self.front() {
                Front::End => return Ok(None),
                Front::Child(..) => self.expand(None)?,
                Front::Entry(..) => return Ok(self.skip()),
            }
        }
    }
}

/// The entries of a state, in order; see [`StateRoot::entries`].
pub struct Entries<'n, N: Nodes> {
    nodes: &'n N,
    place: Place<'n, N>,
    /// What all keys begin with: an encoded type, or nothing.
    prefix: Vec<u8>,
}

enum Place<'n, N: Nodes> {
    /// Nothing was read yet. The key is excluded.
    Start(StateRoot, Option<Vec<u8>>),
    Walking(Walk<'n, N>),
    Ended,
}

impl<'n, N: Nodes> Entries<'n, N> {
    /// Entries whose keys begin with `prefix` and come after `after`.
    pub(super) fn new(nodes: &'n N, root: StateRoot, prefix: Vec<u8>, after: Option<Vec<u8>>) -> Self {
        Self { nodes, place: Place::Start(root, after), prefix }
    }

    fn next_entry(&mut self) -> Result<Option<StateEntry>, N::Error> {
        let found = match &mut self.place {
            Place::Ended => return Ok(None),
            Place::Walking(walk) => walk.next_entry()?,
            Place::Start(root, after) => {
                let mut walk = Walk::from(self.nodes, *root, after.as_ref().unwrap_or(&self.prefix))?;
                let mut first = walk.next_entry()?;
                if let (Some((_, (key, _))), Some(after)) = (&first, after)
                    && key == after
                {
                    first = walk.next_entry()?;
                }
                self.place = Place::Walking(walk);
                first
            }
        };
        let Some((node, (key, event))) = found else { return Ok(None) };
        if !key.starts_with(&self.prefix) || (!self.prefix.is_empty() && is_longer_kind(&key, &self.prefix)) {
            return Ok(None);
        }
        let (kind, state_key) = names(node, &key)?;
        Ok(Some(StateEntry { kind, state_key, event: EventNum(event) }))
    }
}

/// Whether what looks like the end of the type in `prefix` is a NUL within a longer type.
fn is_longer_kind(key: &[u8], prefix: &[u8]) -> bool {
    key.get(prefix.len()) == Some(&NUL_IN_KIND)
}

fn names(node: NodeNum, key: &[u8]) -> Result<(String, String), StateMapError> {
    decode_key(key).ok_or(StateMapError::Corrupt { node, reason: "a key is not a type and a state key" })
}

impl<N: Nodes> Iterator for Entries<'_, N> {
    type Item = Result<StateEntry, N::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_entry().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.place = Place::Ended;
        }
        next
    }
}

/// The differences between two states, in order; see [`StateRoot::diff`].
pub struct Differences<'n, N: Nodes> {
    nodes: &'n N,
    roots: (StateRoot, StateRoot),
    walks: Option<(Walk<'n, N>, Walk<'n, N>)>,
    is_ended: bool,
}

/// What to do next with the two walks of a comparison.
enum Step {
    End,
    SkipBoth,
    ExpandBefore,
    ExpandAfter,
    ExpandBoth,
    OnlyBefore,
    OnlyAfter,
    Both,
}

impl<'n, N: Nodes> Differences<'n, N> {
    pub(super) fn new(nodes: &'n N, before: StateRoot, after: StateRoot) -> Self {
        Self { nodes, roots: (before, after), walks: None, is_ended: before == after }
    }

    fn next_difference(&mut self) -> Result<Option<Difference>, N::Error> {
        if self.is_ended {
            return Ok(None);
        }
        let walks = match self.walks.take() {
            Some(walks) => walks,
            None => (Walk::of_all(self.nodes, self.roots.0)?, Walk::of_all(self.nodes, self.roots.1)?),
        };
        let (before, after) = self.walks.insert(walks);
        loop {
            match step(&before.front(), &after.front()) {
                Step::End => return Ok(None),
                Step::SkipBoth => {
                    before.skip();
                    after.skip();
                }
                Step::ExpandBefore => before.expand(None)?,
                Step::ExpandAfter => after.expand(None)?,
                Step::ExpandBoth => {
                    before.expand(None)?;
                    after.expand(None)?;
                }
                Step::OnlyBefore => return difference(before.skip(), None),
                Step::OnlyAfter => return difference(None, after.skip()),
                Step::Both => return difference(before.skip(), after.skip()),
            }
        }
    }
}

/// A part is read only when it may hold something that the other side does not have at the same place:
/// the same child on both sides is passed over, and otherwise the side that starts earlier is read.
fn step(before: &Front<'_>, after: &Front<'_>) -> Step {
    use std::cmp::Ordering::{Equal, Greater, Less};
    match (before, after) {
        (Front::End, Front::End) => Step::End,
        (Front::End, Front::Entry(..)) => Step::OnlyAfter,
        (Front::Entry(..), Front::End) => Step::OnlyBefore,
        (Front::Child(_, left, _), Front::Child(_, right, _)) if left == right => Step::SkipBoth,
        (Front::Child(left, _, left_height), Front::Child(right, _, right_height)) => {
            match left.cmp(right).then_with(|| right_height.cmp(left_height)) {
                Less => Step::ExpandBefore,
                Greater => Step::ExpandAfter,
                Equal => Step::ExpandBoth,
            }
        }
        (Front::Entry(key, _), Front::Child(low, ..)) if key < low => Step::OnlyBefore,
        (Front::End | Front::Entry(..), Front::Child(..)) => Step::ExpandAfter,
        (Front::Child(low, ..), Front::Entry(key, _)) if key < low => Step::OnlyAfter,
        (Front::Child(..), Front::End | Front::Entry(..)) => Step::ExpandBefore,
        (Front::Entry(left, left_value), Front::Entry(right, right_value)) => match left.cmp(right) {
            Less => Step::OnlyBefore,
            Greater => Step::OnlyAfter,
            Equal if left_value == right_value => Step::SkipBoth,
            Equal => Step::Both,
        },
    }
}

fn difference<E: From<StateMapError>>(
    before: Option<(NodeNum, Pair)>,
    after: Option<(NodeNum, Pair)>,
) -> Result<Option<Difference>, E> {
    let Some((node, (key, _))) = before.as_ref().or(after.as_ref()) else { return Ok(None) };
    let (kind, state_key) = names(*node, key)?;
    let event = |side: Option<(NodeNum, Pair)>| side.map(|(_, (_, event))| EventNum(event));
    Ok(Some(Difference { kind, state_key, before: event(before), after: event(after) }))
}

impl<N: Nodes> Iterator for Differences<'_, N> {
    type Item = Result<Difference, N::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_difference().transpose();
        self.is_ended |= !matches!(next, Some(Ok(_)));
        next
    }
}
