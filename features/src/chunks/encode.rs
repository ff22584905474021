//! Trees as bytes. A **head** names the nodes, a node piece the chunks, and a chunk piece is the events; a tree of
//! one chunk has it in its head. A store that keeps pieces apart writes the new ones only; any other keeps one
//! value, the head with all pieces behind it. Little-endian throughout.
//!
//! - head: tag (0 empty, 1 one chunk, 2 nodes), then for one chunk: id (8), count (4), length of the events (4),
//!   the events; for nodes: next id (8), whether there are folded events (1) and those (count 8, last 8, states),
//!   count of nodes (4), and children.
//! - child: id (8), count (4), bytes (8), first (8), last (8), widest gap (8), states.
//! - states: length (4; all ones for none), bytes.
//! - node piece: count (4), children.

use std::{
    cell::LazyCell,
    collections::{HashMap, HashSet},
};

use super::{
    Arc, AtomicBool, Body, Child, Chunk, Extent, Folded, Held, Node, OnDisk, Relaxed, Root, Shape, States,
    Tree,
};
use parking_lot::RwLock;

use crate::{error::FeatureError, events::EventList};

/// Number of a node or chunk, never given twice to parts of the same entity and view.
pub type PieceId = u64;

/// A part of a tree that is stored by itself.
#[derive(Debug)]
pub struct Piece {
    /// Its number.
    pub id: PieceId,
    /// A node piece or a chunk's events.
    pub bytes: Arc<[u8]>,
}

impl Tree {
    /// Appends the head.
    ///
    /// # Errors
    /// When events that lie on disk are needed and cannot be read.
    pub fn write_head(&self, to: &mut Vec<u8>) -> Result<(), FeatureError> {
        match &self.0 {
            Shape::Empty => to.push(0),
            Shape::One(chunk) => {
                to.push(1);
                to.extend_from_slice(&chunk.id.to_le_bytes());
                to.extend_from_slice(&chunk.count.to_le_bytes());
                to.extend_from_slice(&chunk.bytes.to_le_bytes());
                to.extend_from_slice(&chunk.body()?);
            }
            Shape::Many(root) => {
                to.push(2);
                to.extend_from_slice(&root.next_id.to_le_bytes());
                to.push(u8::from(root.folded.is_some()));
                if let Some(folded) = &root.folded {
                    to.extend_from_slice(&(folded.count as u64).to_le_bytes());
                    to.extend_from_slice(&folded.last.to_le_bytes());
                    write_states(Some(&folded.states), to);
                }
                to.extend_from_slice(&(root.nodes.len() as u32).to_le_bytes());
                root.nodes.iter().for_each(|n| write_child(n.to.id, &n.extent, n.states.as_ref(), to));
            }
        }
        Ok(())
    }

    /// Numbers of its nodes.
    pub fn nodes(&self) -> HashSet<PieceId> {
        self.node_list().iter().map(|n| n.to.id).collect()
    }

    fn node_list(&self) -> &[Child<Node>] {
        match &self.0 {
            Shape::Many(root) => &root.nodes,
            _ => &[],
        }
    }

    /// The pieces of the nodes not in `stored`, and of their chunks those for which `wanted` says so.
    ///
    /// # Errors
    /// When a wanted chunk lies on disk and cannot be read.
    pub fn pieces(
        &self,
        stored: &HashSet<PieceId>,
        mut wanted: impl FnMut(PieceId) -> bool,
    ) -> Result<Vec<Piece>, FeatureError> {
        let mut pieces = Vec::new();
        for node in self.node_list().iter().filter(|n| !stored.contains(&n.to.id)) {
            let chunks = &node.to.chunks;
            let mut bytes = (chunks.len() as u32).to_le_bytes().to_vec();
            for c in chunks {
                write_child(c.to.id, &c.extent, c.states.as_ref(), &mut bytes);
                if wanted(c.to.id) {
                    pieces.push(Piece { id: c.to.id, bytes: c.to.body()? });
                }
            }
            pieces.push(Piece { id: node.to.id, bytes: bytes.into() });
        }
        Ok(pieces)
    }

    /// Appends the tree, whole.
    pub fn write_to(&self, to: &mut Vec<u8>) -> Result<(), FeatureError> {
        let at = to.len();
        to.extend_from_slice(&[0; 4]);
        self.write_head(to)?;
        let head = (to.len() - at - 4) as u32;
        to[at..at + 4].copy_from_slice(&head.to_le_bytes());
        for piece in self.pieces(&HashSet::new(), |_| true)? {
            to.extend_from_slice(&piece.id.to_le_bytes());
            to.extend_from_slice(&(piece.bytes.len() as u32).to_le_bytes());
            to.extend_from_slice(&piece.bytes);
        }
        Ok(())
    }

    /// Reads what [`write_to`](Self::write_to) wrote; `None` if the bytes are nothing of that kind.
    pub fn parse(bytes: &[u8], held: &Arc<Held>) -> Option<Tree> {
        let mut from = Cursor(bytes);
        let head = from.sized()?;
        let mut pieces: HashMap<PieceId, &[u8]> = HashMap::new();
        while !from.0.is_empty() {
            let id = from.u64()?;
            pieces.insert(id, from.sized()?);
        }
        let node = |id| pieces.get(&id).map(|b| b.to_vec());
        Tree::read(head, held, node, |id| Some(Body::Here(Arc::from(*pieces.get(&id)?), false)))
    }

    /// Reads a head; `node` finds node pieces, and the events of chunks stay on disk.
    pub fn restore(
        head: &[u8],
        held: &Arc<Held>,
        node: impl FnMut(PieceId) -> Option<Vec<u8>>,
        on_disk: impl FnOnce() -> Arc<OnDisk>,
    ) -> Option<Tree> {
        let on_disk = LazyCell::new(on_disk);
        let tree = Tree::read(head, held, node, |_| Some(Body::There((*on_disk).clone())))?;
        tree.mark_saved();
        Some(tree)
    }

    fn read(
        head: &[u8],
        held: &Arc<Held>,
        mut node: impl FnMut(PieceId) -> Option<Vec<u8>>,
        body: impl Fn(PieceId) -> Option<Body>,
    ) -> Option<Tree> {
        let mut from = Cursor(head);
        match from.u8()? {
            0 => Some(Tree::default()),
            1 => {
                let (id, count) = (from.u64()?, from.u32()?);
                let bytes = from.sized()?;
                let list = EventList::parse(count as usize, bytes).filter(|l| !l.is_empty())?;
                Some(Tree(Shape::One(Arc::new(Chunk::new(id, list, bytes.into(), held)))))
            }
            2 => {
                let next_id = from.u64()?;
                let folded = match from.u8()? {
                    0 => None,
                    _ => Some(Folded {
                        count: from.u64().filter(|count| count >> 48 == 0)? as usize,
                        last: from.u64()? as i64,
                        states: from.states()??,
                    }),
                };
                let mut nodes = Vec::new();
                for _ in 0..from.u32()? {
                    let (id, extent, states) = from.child()?;
                    let piece = node(id)?;
                    let mut from = Cursor(&piece);
                    let mut chunks = Vec::new();
                    for _ in 0..from.u32()? {
                        let (id, extent, states) = from.child()?;
                        let body = body(id)?;
                        if let Body::Here(bytes, _) = &body {
                            EventList::parse(extent.count, bytes).filter(|_| bytes.len() == extent.bytes)?;
                        }
                        let to = Arc::new(Chunk::read(id, &extent, body, held));
                        chunks.push(Child { extent, states, to });
                    }
                    if chunks.iter().map(|c| c.extent).reduce(Extent::and) != Some(extent) {
                        return None;
                    }
                    let to = Arc::new(Node { id, saved: AtomicBool::new(false), chunks });
                    nodes.push(Child { extent, states, to });
                }
                Some(Tree(Shape::Many(Arc::new(Root { next_id, folded, nodes }))))
            }
            _ => None,
        }
    }
}

impl Chunk {
    fn read(id: PieceId, extent: &Extent, body: Body, held: &Arc<Held>) -> Chunk {
        let of = match &body {
            Body::Here(..) => &held.memory,
            Body::There(_) => &held.spilled,
        };
        of.fetch_add(extent.bytes, Relaxed);
        held.chunks.fetch_add(1, Relaxed);
        Chunk {
            id,
            count: extent.count as u32,
            bytes: extent.bytes as u32,
            first: extent.first,
            last: extent.last,
            body: RwLock::new(body),
            held: held.clone(),
        }
    }
}

/// The node pieces a stored head names.
pub(crate) fn nodes_of(head: &[u8]) -> Option<Vec<PieceId>> {
    let mut from = Cursor(head);
    if from.u8()? != 2 {
        return Some(Vec::new());
    }
    from.u64()?;
    if from.u8()? != 0 {
        from.u64()?;
        from.u64()?;
        from.states()?;
    }
    (0..from.u32()?).map(|_| from.child().map(|(id, ..)| id)).collect()
}

/// The chunk pieces a stored node names.
pub fn chunks_of(node: &[u8]) -> Option<Vec<PieceId>> {
    let mut from = Cursor(node);
    (0..from.u32()?).map(|_| from.child().map(|(id, ..)| id)).collect()
}

/// The events of a head that is one chunk of this number.
pub(crate) fn inline_chunk(head: &[u8], id: PieceId) -> Option<&[u8]> {
    let mut from = Cursor(head);
    if from.u8()? != 1 || from.u64()? != id {
        return None;
    }
    from.u32()?;
    from.sized()
}

fn write_states(states: Option<&States>, to: &mut Vec<u8>) {
    to.extend_from_slice(&states.map_or(u32::MAX, |s| s.len() as u32).to_le_bytes());
    to.extend_from_slice(states.map_or(&[], |s| s));
}

fn write_child(id: PieceId, extent: &Extent, states: Option<&States>, to: &mut Vec<u8>) {
    to.extend_from_slice(&id.to_le_bytes());
    to.extend_from_slice(&(extent.count as u32).to_le_bytes());
    to.extend_from_slice(&(extent.bytes as u64).to_le_bytes());
    for t in [extent.first, extent.last, extent.widest] {
        to.extend_from_slice(&t.to_le_bytes());
    }
    write_states(states, to);
}

/// Reads from the front.
pub(crate) struct Cursor<'b>(pub &'b [u8]);

impl<'b> Cursor<'b> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.fixed::<1>().map(|b| b[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.fixed().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.fixed().map(u64::from_le_bytes)
    }

    /// A length (4) and so many bytes.
    pub(crate) fn sized(&mut self) -> Option<&'b [u8]> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    fn states(&mut self) -> Option<Option<States>> {
        match self.u32()? {
            u32::MAX => Some(None),
            len => Some(Some(self.take(len as usize)?.into())),
        }
    }

    fn child(&mut self) -> Option<(PieceId, Extent, Option<States>)> {
        let id = self.u64()?;
        let (count, bytes) = (self.u32()? as usize, self.u64()? as usize);
        let mut time = || self.u64().map(|t| t as i64);
        let extent = Extent { count, bytes, first: time()?, last: time()?, widest: time()? };
        Some((id, extent, self.states()?)).filter(|_| count > 0)
    }
}
