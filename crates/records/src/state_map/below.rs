//! The nodes of which a state is made, for who removes it.

use super::{Nodes, StateMapError, StateRoot, view};
use base::NodeNum;
use std::collections::HashSet;

impl StateRoot {
    /// The nodes of the state that are there and not among `seen`, to which they are added: each after all that are
    /// below it. Who removes them in this order may stop anywhere, since a node that is gone has none below it.
    pub fn nodes<N: Nodes>(self, nodes: &N, seen: &mut HashSet<NodeNum>) -> Result<Vec<NodeNum>, N::Error> {
        let mut found = Vec::new();
        if let Some(root) = self.0 {
            collect(nodes, root, None, seen, &mut found)?;
        }
        Ok(found)
    }
}

/// The height of a tree bounds the depth of this: each level has one less, and the root at most 255.
fn collect<N: Nodes>(
    nodes: &N,
    num: NodeNum,
    above: Option<u8>,
    seen: &mut HashSet<NodeNum>,
    found: &mut Vec<NodeNum>,
) -> Result<(), N::Error> {
    if !seen.insert(num) {
        return Ok(());
    }
    let Some(bytes) = nodes.node(num)? else { return Ok(()) };
    let node = view(bytes.as_ref(), num, above)?;
    if node.height > 0 {
        for (_, child) in node.pairs().map_err(|reason| StateMapError::Corrupt { node: num, reason })? {
            collect(nodes, NodeNum(child), Some(node.height), seen, found)?;
        }
    }
    found.push(num);
    Ok(())
}
