//! Which parts of a tree still lack their states, and which can do without their events.

use ingest::Millis;

use super::{Arc, Chunk, Folded, Shape, States, Tree};

/// A chunk that waits for its states: its place (node, chunk), and the chunk.
pub(crate) type Unsealed = ((usize, usize), Arc<Chunk>);

impl Tree {
    /// All chunks but the last that have no states yet.
    pub(crate) fn unsealed_chunks(&self) -> Vec<Unsealed> {
        let Shape::Many(root) = &self.0 else { return Vec::new() };
        let last_node = root.nodes.len().saturating_sub(1);
        let mut found = Vec::new();
        for (n, node) in root.nodes.iter().enumerate().filter(|(_, node)| node.states.is_none()) {
            let chunks = &node.to.chunks;
            let full = if n == last_node { chunks.len() - 1 } else { chunks.len() };
            let open = chunks[..full].iter().enumerate().filter(|(_, c)| c.states.is_none());
            found.extend(open.map(|(c, chunk)| ((n, c), chunk.to.clone())));
        }
        found
    }

    /// Only a tree just made can be given states: what others hold stays as it is.
    pub(crate) fn seal_chunk(&mut self, (n, c): (usize, usize), states: States) {
        if let Shape::Many(root) = &mut self.0
            && let Some(root) = Arc::get_mut(root)
            && let Some(node) = Arc::get_mut(&mut root.nodes[n].to)
        {
            node.chunks[c].states = Some(states);
        }
    }

    /// All nodes but the last that have no states yet, with those of their chunks.
    pub(crate) fn unsealed_nodes(&self) -> Vec<(usize, Vec<States>)> {
        let Shape::Many(root) = &self.0 else { return Vec::new() };
        let full = &root.nodes[..root.nodes.len().saturating_sub(1)];
        let open = full.iter().enumerate().filter(|(_, node)| node.states.is_none());
        let of_chunks = |(n, node): (usize, &super::Child<super::Node>)| {
            let states: Option<Vec<_>> = node.to.chunks.iter().map(|c| c.states.clone()).collect();
            states.map(|s| (n, s))
        };
        open.filter_map(of_chunks).collect()
    }

    pub(crate) fn seal_node(&mut self, n: usize, states: States) {
        if let Shape::Many(root) = &mut self.0
            && let Some(root) = Arc::get_mut(root)
        {
            root.nodes[n].states = Some(states);
        }
    }

    /// The states of the nodes before the last that end at or before `before`, after those folded already;
    /// nothing if there is no such node.
    pub(crate) fn foldable(&self, before: Millis) -> Option<Vec<States>> {
        let Shape::Many(root) = &self.0 else { return None };
        let full = &root.nodes[..root.nodes.len().saturating_sub(1)];
        let old = full.iter().take_while(|n| n.extent.last <= before && n.states.is_some());
        let old: Vec<States> = old.filter_map(|n| n.states.clone()).collect();
        let folded = root.folded.iter().map(|f| f.states.clone());
        (!old.is_empty()).then(|| folded.chain(old).collect())
    }

    /// Puts `states` in the place of what [`foldable`](Self::foldable) gave.
    pub(crate) fn fold(&mut self, before: Millis, states: States) {
        let Shape::Many(root) = &mut self.0 else { return };
        let root = Arc::make_mut(root);
        let full = root.nodes.len().saturating_sub(1);
        let old =
            root.nodes[..full].iter().take_while(|n| n.extent.last <= before && n.states.is_some()).count();
        let (mut count, mut last) = root.folded.as_ref().map_or((0, Millis::MIN), |f| (f.count, f.last));
        for node in root.nodes.drain(..old) {
            count += node.extent.count;
            last = last.max(node.extent.last);
        }
        root.folded = Some(Folded { count, last, states });
    }
}
