//! Writing: changing a tree by copying the paths that change, and building one from sorted entries.

use super::node::{NODE_BYTES_MAX, NODE_BYTES_MIN, Pair, Size, encode, split};
use super::{NewNodes, StateMapError, load, view};
use base::NodeNum;

/// A key and what it shall hold; `None` clears it.
pub(super) type KeyChange = (Vec<u8>, Option<u64>);

/// The root of the tree with these changes, whose keys rise strictly.
pub(super) fn apply<N: NewNodes>(
    nodes: &mut N,
    root: Option<NodeNum>,
    changes: &[KeyChange],
) -> Result<Option<NodeNum>, N::Error> {
    let (mut height, mut runs) = if let Some(num) = root {
        match apply_below(nodes, num, None, changes)? {
            Some(replaced) => replaced,
            None => return Ok(root),
        }
    } else {
        let mut runs = Vec::new();
        split(merge(Vec::new(), changes).unwrap_or_default(), &mut runs);
        (0, runs)
    };
    while runs.len() > 1 {
        let mut above = Vec::with_capacity(runs.len());
        for run in runs {
            above.extend(write(nodes, height, &run)?);
        }
        runs = Vec::new();
        split(above, &mut runs);
        height += 1;
    }
    let Some(run) = runs.pop() else { return Ok(None) };
    match run.as_slice() {
        [(_, only)] if height > 0 => lower_root(nodes, NodeNum(*only)).map(Some),
        _ => Ok(write(nodes, height, &run)?.map(|(_, num)| NodeNum(num))),
    }
}

/// A root has more than one child, or is a leaf.
fn lower_root<N: NewNodes>(nodes: &N, mut num: NodeNum) -> Result<NodeNum, N::Error> {
    loop {
        let bytes = load(nodes, num)?;
        let view = view(bytes.as_ref(), num, None)?;
        if view.height == 0 || view.count > 1 {
            return Ok(num);
        }
        let child = view.value(0).map_err(|reason| StateMapError::Corrupt { node: num, reason })?;
        super::view(load(nodes, NodeNum(child))?.as_ref(), NodeNum(child), Some(view.height))?;
        num = NodeNum(child);
    }
}

/// A child of a node that is being changed.
enum Slot {
    /// As it was.
    Kept(Pair),
    /// Changed, not written yet.
    Changed(Vec<Pair>),
}

/// The height of a node, and the runs of entries that replace it.
type Replaced = (u8, Vec<Vec<Pair>>);

/// The runs of entries that replace a node and that each fit one, with its height; `None` if nothing changes.
fn apply_below<N: NewNodes>(
    nodes: &mut N,
    num: NodeNum,
    above: Option<u8>,
    changes: &[KeyChange],
) -> Result<Option<Replaced>, N::Error> {
    let (height, pairs) = read(nodes, num, above)?;
    let mut runs = Vec::new();
    if height == 0 {
        let Some(merged) = merge(pairs, changes) else { return Ok(None) };
        split(merged, &mut runs);
        return Ok(Some((height, runs)));
    }

    let mut slots: Vec<Slot> = Vec::with_capacity(pairs.len() + 1);
    let mut rest = changes;
    let mut is_changed = false;
    let mut children = pairs.into_iter().peekable();
    while let Some((low, child)) = children.next() {
        let here = match children.peek() {
            Some((end, _)) => rest.partition_point(|(key, _)| key < end),
            None => rest.len(),
        };
        let (now, later) = rest.split_at(here);
        rest = later;
        let replaced = if now.is_empty() { None } else { apply_below(nodes, NodeNum(child), Some(height), now)? };
        match replaced {
            None => add_slot(nodes, height, &mut slots, Slot::Kept((low, child)))?,
            Some((_, runs)) => {
                is_changed = true;
                for run in runs {
                    add_slot(nodes, height, &mut slots, Slot::Changed(run))?;
                }
            }
        }
    }
    if !is_changed {
        return Ok(None);
    }
    let mut pairs = Vec::with_capacity(slots.len());
    for slot in slots {
        match slot {
            Slot::Kept(pair) => pairs.push(pair),
            Slot::Changed(run) => pairs.extend(write(nodes, height - 1, &run)?),
        }
    }
    split(pairs, &mut runs);
    Ok(Some((height, runs)))
}

/// Adds a child; where it or the one before it was changed and is too small, the two become one (or share
/// their entries evenly, if they are too large together).
fn add_slot<N: NewNodes>(nodes: &N, height: u8, slots: &mut Vec<Slot>, slot: Slot) -> Result<(), N::Error> {
    let is_small = |slot: &Slot| matches!(slot, Slot::Changed(run) if Size::of(run).bytes() < NODE_BYTES_MIN);
    match slots.pop() {
        Some(before) if is_small(&before) || is_small(&slot) => {
            let mut joined = slot_pairs(nodes, height, before)?;
            joined.extend(slot_pairs(nodes, height, slot)?);
            let mut runs = Vec::new();
            split(joined, &mut runs);
            slots.extend(runs.into_iter().map(Slot::Changed));
        }
        before => slots.extend(before.into_iter().chain([slot])),
    }
    Ok(())
}

fn slot_pairs<N: NewNodes>(nodes: &N, height: u8, slot: Slot) -> Result<Vec<Pair>, N::Error> {
    match slot {
        Slot::Kept((_, num)) => Ok(read(nodes, NodeNum(num), Some(height))?.1),
        Slot::Changed(run) => Ok(run),
    }
}

fn read<N: NewNodes>(nodes: &N, num: NodeNum, above: Option<u8>) -> Result<(u8, Vec<Pair>), N::Error> {
    let bytes = load(nodes, num)?;
    let view = view(bytes.as_ref(), num, above)?;
    let pairs = view.pairs().map_err(|reason| StateMapError::Corrupt { node: num, reason })?;
    Ok((view.height, pairs))
}

/// Writes a node, and answers what its parent holds for it. Without entries there is no node.
fn write<N: NewNodes>(nodes: &mut N, height: u8, run: &[Pair]) -> Result<Option<Pair>, N::Error> {
    let Some((low, _)) = run.first() else { return Ok(None) };
    let num = nodes.add(encode(height, run))?;
    Ok(Some((low.clone(), num.0)))
}

/// The entries of a leaf with the changes; `None` if they change nothing.
fn merge(pairs: Vec<Pair>, changes: &[KeyChange]) -> Option<Vec<Pair>> {
    let mut merged = Vec::with_capacity(pairs.len() + changes.len());
    let mut is_changed = false;
    let mut pairs = pairs.into_iter().peekable();
    for (key, value) in changes {
        while let Some(pair) = pairs.next_if(|(old, _)| old < key) {
            merged.push(pair);
        }
        let before = pairs.next_if(|(old, _)| old == key).map(|(_, value)| value);
        is_changed |= before != *value;
        merged.extend(value.map(|value| (key.clone(), value)));
    }
    merged.extend(pairs);
    is_changed.then_some(merged)
}

/// How full a built node is made, so that the first changes don't split it.
const BUILT_BYTES: usize = NODE_BYTES_MAX / 8 * 7;

/// Builds a tree bottom-up; each level has one node that is not yet written.
#[derive(Default)]
pub(super) struct Builder {
    levels: Vec<Level>,
    last: Option<Vec<u8>>,
}

#[derive(Default)]
struct Level {
    pairs: Vec<Pair>,
    size: Size,
}

impl Builder {
    /// Adds an entry, which must come after the last one.
    pub fn push<N: NewNodes>(&mut self, nodes: &mut N, key: Vec<u8>, value: u64) -> Result<(), N::Error> {
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(StateMapError::Unsorted.into());
        }
        self.last = Some(key.clone());
        self.push_at(nodes, 0, (key, value))
    }

    fn push_at<N: NewNodes>(&mut self, nodes: &mut N, height: u8, pair: Pair) -> Result<(), N::Error> {
        let index = usize::from(height);
        if self.levels.len() <= index {
            self.levels.resize_with(index + 1, Level::default);
        }
        let Some(level) = self.levels.get_mut(index) else { return Ok(()) };
        let mut size = level.size.clone();
        size.add(&pair.0, pair.1);
        if size.bytes() > BUILT_BYTES && level.pairs.len() >= 4 {
            let full = std::mem::take(level);
            level.size.add(&pair.0, pair.1);
            level.pairs.push(pair);
            let written = write(nodes, height, &full.pairs)?;
            return written.map_or(Ok(()), |written| self.push_at(nodes, height + 1, written));
        }
        level.size = size;
        level.pairs.push(pair);
        Ok(())
    }

    /// Writes what is left, and answers the root.
    pub fn finish<N: NewNodes>(mut self, nodes: &mut N) -> Result<Option<NodeNum>, N::Error> {
        let mut height = 0;
        loop {
            let index = usize::from(height);
            let is_top = self.levels.len() <= index + 1;
            let Some(level) = self.levels.get_mut(index) else { return Ok(None) };
            let pairs = std::mem::take(&mut level.pairs);
            match (is_top, pairs.as_slice()) {
                (true, [(_, only)]) if height > 0 => return Ok(Some(NodeNum(*only))),
                (true, _) => return Ok(write(nodes, height, &pairs)?.map(|(_, num)| NodeNum(num))),
                (false, _) => {
                    if let Some(written) = write(nodes, height, &pairs)? {
                        self.push_at(nodes, height + 1, written)?;
                    }
                }
            }
            height += 1;
        }
    }
}
