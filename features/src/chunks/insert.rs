//! Adding events to a tree, and dropping those no window can reach any more.

use super::{Arc, AtomicBool, Child, Chunk, Extent, Layout, Node, Root, Shape, Tree};
use crate::{
    error::FeatureError,
    events::{EventBuffer, EventList},
};
use ingest::Millis;

type Event<'e> = (Millis, &'e [u8]);

/// Makes the parts of a new tree.
struct Maker<'l> {
    layout: &'l Layout,
    next_id: u64,
}

impl Maker<'_> {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    fn chunk(&mut self, events: &EventBuffer) -> Child<Chunk> {
        let list = events.as_list();
        let mut bytes = Vec::with_capacity(events.byte_len());
        events.write_to(&mut bytes);
        let chunk = Chunk::new(self.id(), list, bytes.into(), &self.layout.held);
        let gap = |i: usize| list.time(i).saturating_sub(list.time(i - 1));
        let widest = (1..list.len()).map(gap).max().unwrap_or(0);
        let extent = Extent {
            count: list.len(),
            bytes: chunk.bytes as usize,
            first: chunk.first,
            last: chunk.last,
            widest,
        };
        Child { extent, states: None, to: Arc::new(chunk) }
    }

    /// Cuts events into chunks: full ones where more are added behind, else of equal size, with room for more.
    fn chunks(&mut self, events: &EventBuffer, at_end: bool, to: &mut Vec<Child<Chunk>>) {
        let list = events.as_list();
        for part in cut(list.len(), self.layout.chunk, at_end) {
            if part.len() == list.len() {
                to.push(self.chunk(events));
                continue;
            }
            let mut piece = EventBuffer::default();
            part.for_each(|i| piece.push(list.time(i), list.bytes(i)));
            to.push(self.chunk(&piece));
        }
    }

    fn nodes(&mut self, chunks: Vec<Child<Chunk>>, at_end: bool, to: &mut Vec<Child<Node>>) {
        for part in cut(chunks.len(), self.layout.node, at_end) {
            let chunks = chunks[part].to_vec();
            let Some(extent) = chunks.iter().map(|c| c.extent).reduce(Extent::and) else { continue };
            let node = Node { id: self.id(), saved: AtomicBool::new(false), chunks };
            to.push(Child { extent, states: None, to: Arc::new(node) });
        }
    }
}

/// Ranges of at most `most` that make up `0..count`.
fn cut(count: usize, most: usize, full: bool) -> impl Iterator<Item = std::ops::Range<usize>> {
    let parts = count.div_ceil(most);
    let size = if full { most } else { count.div_ceil(parts.max(1)) };
    (0..parts).map(move |i| (i * size).min(count)..((i + 1) * size).min(count)).filter(|r| !r.is_empty())
}

impl Tree {
    /// This tree's events later than `horizon` together with `new` ones; of a tree of many chunks, those of
    /// whole chunks are dropped. The first part of a tree that was empty is numbered `first_id`: numbers must
    /// not come again for the same entity, though it be forgotten in between.
    ///
    /// # Errors
    /// When events that lie on disk are needed and cannot be read.
    pub fn insert(
        &self,
        new: &mut [Event<'_>],
        horizon: Millis,
        layout: &Layout,
        first_id: u64,
    ) -> Result<Tree, FeatureError> {
        new.sort_unstable();
        let new = &new[new.partition_point(|(t, _)| *t <= horizon)..];
        match &self.0 {
            Shape::Empty => {
                Ok(plant(EventList::default(), new, horizon, Maker { layout, next_id: first_id }))
            }
            Shape::One(chunk) if new.is_empty() && chunk.first > horizon => Ok(self.clone()),
            Shape::One(chunk) => {
                let body = chunk.body()?;
                Ok(plant(chunk.list(&body), new, horizon, Maker { layout, next_id: chunk.id + 1 }))
            }
            Shape::Many(root) => grow(root, new, horizon, layout),
        }
    }
}

/// A tree of few events, and new ones.
fn plant(old: EventList<'_>, new: &[Event<'_>], horizon: Millis, mut maker: Maker<'_>) -> Tree {
    let merged = EventBuffer::merge(old, &mut new.to_vec(), horizon);
    if merged.is_empty() {
        return Tree::default();
    }
    if merged.len() <= maker.layout.chunk {
        return Tree(Shape::One(maker.chunk(&merged).to));
    }
    let (mut chunks, mut nodes) = (Vec::new(), Vec::new());
    maker.chunks(&merged, true, &mut chunks);
    maker.nodes(chunks, true, &mut nodes);
    Tree(Shape::Many(Arc::new(Root { next_id: maker.next_id, folded: None, nodes })))
}

fn grow(root: &Arc<Root>, new: &[Event<'_>], horizon: Millis, layout: &Layout) -> Result<Tree, FeatureError> {
    let mut maker = Maker { layout, next_id: root.next_id };
    let dropped = root.nodes.partition_point(|n| n.extent.last <= horizon);
    let kept = &root.nodes[dropped..];
    let old_chunk = |n: &Child<Node>| n.to.chunks[0].extent.last <= horizon;
    if new.is_empty() && dropped == 0 && !kept.first().is_some_and(old_chunk) {
        return Ok(Tree(Shape::Many(root.clone())));
    }
    let mut left = new;
    let mut nodes = Vec::with_capacity(kept.len() + 1);
    for (i, node) in kept.iter().enumerate() {
        let at_end = i + 1 == kept.len();
        let mine = share(&mut left, node.extent.last, at_end, || last_event(&node.to.chunks))?;
        let gone = node.to.chunks.partition_point(|c| c.extent.last <= horizon);
        if mine.is_empty() && gone == 0 {
            nodes.push(node.clone());
            continue;
        }
        let chunks = renew(&node.to.chunks[gone..], mine, at_end, &mut maker)?;
        maker.nodes(chunks, at_end, &mut nodes);
    }
    if root.folded.is_none() {
        match &nodes[..] {
            [] => return Ok(plant(EventList::default(), left, horizon, maker)),
            [node] if node.to.chunks.len() == 1 => {
                let chunk = &node.to.chunks[0].to;
                let body = chunk.body()?;
                return Ok(plant(chunk.list(&body), &[], horizon, maker));
            }
            _ => {}
        }
    } else if nodes.is_empty() && !left.is_empty() {
        let (mut chunks, merged) =
            (Vec::new(), EventBuffer::merge(EventList::default(), &mut left.to_vec(), horizon));
        maker.chunks(&merged, true, &mut chunks);
        maker.nodes(chunks, true, &mut nodes);
    }
    Ok(Tree(Shape::Many(Arc::new(Root { next_id: maker.next_id, folded: root.folded.clone(), nodes }))))
}

/// The chunks of a node with new events among them.
fn renew(
    old: &[Child<Chunk>],
    mut new: &[Event<'_>],
    at_end: bool,
    maker: &mut Maker<'_>,
) -> Result<Vec<Child<Chunk>>, FeatureError> {
    let mut chunks = Vec::with_capacity(old.len() + 1);
    for (i, chunk) in old.iter().enumerate() {
        let at_end = at_end && i + 1 == old.len();
        let last_of_node = i + 1 == old.len();
        let mine = share(&mut new, chunk.extent.last, last_of_node, || last_event(&old[i..=i]))?;
        if mine.is_empty() {
            chunks.push(chunk.clone());
            continue;
        }
        let body = chunk.to.body()?;
        let merged = EventBuffer::merge(chunk.to.list(&body), &mut mine.to_vec(), Millis::MIN);
        maker.chunks(&merged, at_end, &mut chunks);
    }
    Ok(chunks)
}

/// Takes from sorted events those that belong no later than a part which ends at `last`.
fn share<'a, 'e>(
    left: &mut &'a [Event<'e>],
    last: Millis,
    all: bool,
    last_bytes: impl Fn() -> Result<Vec<u8>, FeatureError>,
) -> Result<&'a [Event<'e>], FeatureError> {
    let mut end = if all { left.len() } else { left.partition_point(|(t, _)| *t < last) };
    if !all && left.get(end).is_some_and(|(t, _)| *t == last) {
        let bytes = last_bytes()?;
        end = left.partition_point(|e| *e <= (last, &bytes[..]));
    }
    let (mine, rest) = left.split_at(end);
    *left = rest;
    Ok(mine)
}

/// The bytes of the last event of some chunks.
fn last_event(chunks: &[Child<Chunk>]) -> Result<Vec<u8>, FeatureError> {
    let Some(chunk) = chunks.last() else { return Ok(Vec::new()) };
    let body = chunk.to.body()?;
    Ok(chunk.to.list(&body).bytes(chunk.to.count as usize - 1).to_vec())
}
