//! The events of one entity and view, in immutable chunks, so that an update and a value cost the same however
//! many events there are.
//!
//! A tree of two levels, sorted by (time, bytes): chunks of events, under nodes of chunks. An update copies the
//! chunks it touches and the path to them and shares all else with the tree before it, so that a reader's copy
//! stays as it was. A chunk that is not the last carries the **states** its events give the view's aggregates,
//! and a node that is not the last the merge of its chunks' states (see `kernel::seal`): a window takes the
//! events of the chunks its edges cut, and whole chunks and nodes between them as one state each. An entity of
//! few events is one chunk and carries no states.
//!
//! The events of a chunk may lie on disk alone ([`Chunk::spill`]); times and counts stay, so that only a chunk
//! which an edge cuts is ever read back.

mod chunk;
mod encode;
mod insert;
mod read;
mod source;
mod tiers;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use ingest::Millis;

use chunk::Body;
pub use chunk::{Chunk, ChunkSource, OnDisk};
pub(crate) use encode::{Cursor, inline_chunk, nodes_of};
pub use encode::{Piece, PieceId, chunks_of};
pub use read::{Part, TreeReader};
pub use source::Source;

/// How large the parts of a tree get, and where their memory is counted.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Most events in a chunk.
    pub chunk: usize,
    /// Most chunks in a node.
    pub node: usize,
    /// What the trees made with it hold.
    pub held: Arc<Held>,
}

impl Default for Layout {
    fn default() -> Self {
        Layout { chunk: 256, node: 64, held: Arc::default() }
    }
}

/// What chunks hold in memory and have put aside.
#[derive(Debug, Default)]
pub struct Held {
    memory: AtomicUsize,
    spilled: AtomicUsize,
    chunks: AtomicUsize,
}

impl Held {
    /// Bytes of events in memory.
    pub fn memory(&self) -> usize {
        self.memory.load(Relaxed)
    }

    /// Bytes of events that lie on disk alone.
    pub fn spilled(&self) -> usize {
        self.spilled.load(Relaxed)
    }

    /// Chunks of events, in memory or not.
    pub fn chunks(&self) -> usize {
        self.chunks.load(Relaxed)
    }
}

/// What is known of some events without looking at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    count: usize,
    /// Of all the events together.
    bytes: usize,
    first: Millis,
    last: Millis,
    /// Longest time between two neighbours.
    widest: Millis,
}

impl Extent {
    /// Of this and what follows it.
    fn and(self, next: Extent) -> Extent {
        Extent {
            count: self.count + next.count,
            bytes: self.bytes.saturating_add(next.bytes),
            first: self.first,
            last: next.last,
            widest: self.widest.max(next.widest).max(next.first.saturating_sub(self.last)),
        }
    }
}

/// States of all the view's aggregates, one row of `arrow::row` bytes.
pub(crate) type States = Arc<[u8]>;

/// A part of a tree, as its parent knows it.
#[derive(Debug)]
struct Child<T> {
    extent: Extent,
    states: Option<States>,
    to: Arc<T>,
}

impl<T> Clone for Child<T> {
    fn clone(&self) -> Self {
        Child { extent: self.extent, states: self.states.clone(), to: self.to.clone() }
    }
}

#[derive(Debug)]
struct Node {
    id: PieceId,
    saved: AtomicBool,
    chunks: Vec<Child<Chunk>>,
}

/// Events of which nothing but their states is left: only a window without a begin still holds them.
#[derive(Debug, Clone)]
struct Folded {
    count: usize,
    last: Millis,
    states: States,
}

#[derive(Debug, Clone)]
struct Root {
    next_id: PieceId,
    folded: Option<Folded>,
    nodes: Vec<Child<Node>>,
}

#[derive(Debug, Clone, Default)]
enum Shape {
    #[default]
    Empty,
    One(Arc<Chunk>),
    Many(Arc<Root>),
}

/// The events of one entity and view: an immutable snapshot, cheap to clone. See the module.
#[derive(Debug, Clone, Default)]
pub struct Tree(Shape);

impl Tree {
    /// How many events there are, those of which only states are left included.
    pub fn len(&self) -> usize {
        match &self.0 {
            Shape::Empty => 0,
            Shape::One(chunk) => chunk.count as usize,
            Shape::Many(root) => {
                let folded = root.folded.as_ref().map_or(0, |f| f.count);
                folded + root.nodes.iter().map(|n| n.extent.count).sum::<usize>()
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        matches!(self.0, Shape::Empty)
    }

    /// The newest event time.
    pub fn last(&self) -> Option<Millis> {
        match &self.0 {
            Shape::Empty => None,
            Shape::One(chunk) => Some(chunk.last),
            Shape::Many(root) => {
                root.nodes.last().map(|n| n.extent.last).or(root.folded.as_ref().map(|f| f.last))
            }
        }
    }

    fn chunks(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        let (one, many) = match &self.0 {
            Shape::Empty => (None, &[][..]),
            Shape::One(chunk) => (Some(chunk), &[][..]),
            Shape::Many(root) => (None, &root.nodes[..]),
        };
        one.into_iter().chain(many.iter().flat_map(|n| n.to.chunks.iter().map(|c| &c.to)))
    }

    /// Bytes of all its events, in memory or not, and of the states beside them.
    pub fn bytes(&self) -> (usize, usize) {
        let of = |s: &Option<States>| s.as_ref().map_or(0, |s| s.len());
        let states = match &self.0 {
            Shape::Many(root) => {
                let nodes = root.nodes.iter();
                let of_chunks = |n: &Child<Node>| n.to.chunks.iter().map(|c| of(&c.states)).sum::<usize>();
                root.folded.as_ref().map_or(0, |f| f.states.len())
                    + nodes.map(|n| of(&n.states) + of_chunks(n)).sum::<usize>()
            }
            _ => 0,
        };
        (self.chunks().map(|c| c.bytes as usize).sum(), states)
    }

    /// Notes that the checkpoint has all of it.
    pub fn mark_saved(&self) {
        if let Shape::Many(root) = &self.0 {
            for node in root.nodes.iter().filter(|n| !n.to.saved.swap(true, Relaxed)) {
                node.to.chunks.iter().for_each(|c| c.to.mark_saved());
            }
        } else {
            self.chunks().for_each(|c| c.mark_saved());
        }
    }

    /// Lets go of the events' bytes that the checkpoint has; answers how many bytes that were.
    pub fn spill(&self, to: &Arc<OnDisk>) -> usize {
        self.chunks().map(|c| c.spill(to)).sum()
    }
}
