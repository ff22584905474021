//! Looking into a tree: where an instant falls among the events, and what stands between two places.

use std::cell::RefCell;

use ingest::Millis;

use super::{Arc, Child, Chunk, Shape, States, Tree};
use crate::{error::FeatureError, events::Timeline};

/// What stands between two places of a tree.
#[derive(Debug)]
pub enum Part {
    /// Some events of a chunk.
    Events {
        /// The bytes of the whole chunk.
        body: Arc<[u8]>,
        /// How many events that is.
        count: usize,
        /// The first of them that is meant,
        from: usize,
        /// and the first that is not any more.
        to: usize,
    },
    /// The states of a whole chunk, node, or what is left of folded ones.
    States(Arc<[u8]>),
}

/// A tree being read.
///
/// Should events that lie on disk not be readable, it goes on with the little it knows and tells
/// [`TreeReader::check`], which whoever uses what was read must ask.
#[derive(Debug)]
pub struct TreeReader<'t> {
    tree: &'t Tree,
    /// The chunks read from disk last: one edge is looked up several times.
    loaded: RefCell<Vec<(u64, Arc<[u8]>)>>,
    failed: RefCell<Option<FeatureError>>,
}

/// More edges than a view has windows, commonly.
const LOADED: usize = 12;

impl Tree {
    /// Begins to read.
    pub fn reader(&self) -> TreeReader<'_> {
        TreeReader { tree: self, loaded: RefCell::default(), failed: RefCell::default() }
    }
}

impl TreeReader<'_> {
    /// What went wrong so far.
    ///
    /// # Errors
    /// The first chunk that could not be read.
    pub fn check(&self) -> Result<(), FeatureError> {
        self.failed.borrow_mut().take().map_or(Ok(()), Err)
    }

    fn body(&self, chunk: &Chunk) -> Option<Arc<[u8]>> {
        if !chunk.is_spilled() {
            return chunk.body().ok();
        }
        let known = self.loaded.borrow().iter().find(|(id, _)| *id == chunk.id).map(|(_, b)| b.clone());
        if known.is_some() {
            return known;
        }
        match chunk.body() {
            Ok(body) => {
                let mut loaded = self.loaded.borrow_mut();
                if loaded.len() == LOADED {
                    loaded.remove(0);
                }
                loaded.push((chunk.id, body.clone()));
                Some(body)
            }
            Err(e) => {
                self.failed.borrow_mut().get_or_insert(e);
                None
            }
        }
    }

    fn count_in(&self, chunk: &Chunk, at: Millis) -> usize {
        if at >= chunk.last {
            chunk.count as usize
        } else if at < chunk.first {
            0
        } else {
            self.body(chunk).map_or(0, |b| chunk.list(&b).count_until(at))
        }
    }

    /// The parts that make up the events `from..to`: whole chunks and nodes as their states where `states`
    /// says so, and the rest as events.
    pub fn parts(&self, from: usize, to: usize, states: bool, out: &mut Vec<Part>) {
        let root = match &self.tree.0 {
            Shape::Many(root) => root,
            Shape::One(chunk) => return self.cut(chunk, 0, from, to, out),
            Shape::Empty => return,
        };
        let mut start = 0;
        if let Some(folded) = &root.folded {
            // It stands or falls as a whole: edges do not reach behind it.
            if from == 0 {
                out.push(Part::States(folded.states.clone()));
            }
            start = folded.count;
        }
        for node in &root.nodes {
            let (begin, end) = (start, start + node.extent.count);
            start = end;
            if end <= from || begin >= to {
                continue;
            }
            match whole(&node.states, states && from <= begin && end <= to) {
                Some(of_node) => out.push(Part::States(of_node)),
                None => self.parts_of_node(&node.to.chunks, begin, (from, to), states, out),
            }
        }
    }

    fn parts_of_node(
        &self,
        chunks: &[Child<Chunk>],
        mut start: usize,
        (from, to): (usize, usize),
        states: bool,
        out: &mut Vec<Part>,
    ) {
        for chunk in chunks {
            let (begin, end) = (start, start + chunk.extent.count);
            start = end;
            match whole(&chunk.states, states && from <= begin && end <= to) {
                Some(of_chunk) => out.push(Part::States(of_chunk)),
                None => self.cut(&chunk.to, begin, from, to, out),
            }
        }
    }

    /// The events of a chunk, which begins at event `begin`, that lie in `from..to`.
    fn cut(&self, chunk: &Chunk, begin: usize, from: usize, to: usize, out: &mut Vec<Part>) {
        let count = chunk.count as usize;
        let (from, to) = (from.max(begin) - begin, to.clamp(begin, begin + count) - begin);
        if from < to
            && let Some(body) = self.body(chunk)
        {
            out.push(Part::Events { body, count, from, to });
        }
    }

    /// The chunk that holds an event, and its place in it.
    fn locate(&self, i: usize) -> Option<(&Chunk, usize)> {
        match &self.tree.0 {
            Shape::Empty => None,
            Shape::One(chunk) => Some((chunk, i)),
            Shape::Many(root) => {
                let mut i = i.checked_sub(root.folded.as_ref().map_or(0, |f| f.count))?;
                for node in &root.nodes {
                    if i >= node.extent.count {
                        i -= node.extent.count;
                        continue;
                    }
                    for chunk in &node.to.chunks {
                        if i < chunk.extent.count {
                            return Some((&chunk.to, i));
                        }
                        i -= chunk.extent.count;
                    }
                }
                None
            }
        }
    }
}

fn whole(states: &Option<States>, inside: bool) -> Option<States> {
    states.as_ref().filter(|_| inside).cloned()
}

impl Timeline for TreeReader<'_> {
    fn len(&self) -> usize {
        self.tree.len()
    }

    fn time(&self, i: usize) -> Millis {
        match self.locate(i) {
            Some((chunk, 0)) => chunk.first,
            Some((chunk, k)) if k + 1 == chunk.count as usize => chunk.last,
            Some((chunk, k)) => self.body(chunk).map_or(chunk.first, |b| chunk.list(&b).time(k)),
            None => match &self.tree.0 {
                Shape::Many(root) => root.folded.as_ref().map_or(0, |f| f.last),
                _ => 0,
            },
        }
    }

    fn count_until(&self, at: Millis) -> usize {
        let root = match &self.tree.0 {
            Shape::Empty => return 0,
            Shape::One(chunk) => return self.count_in(chunk, at),
            Shape::Many(root) => root,
        };
        let mut count = root.folded.as_ref().map_or(0, |f| f.count);
        let n = root.nodes.partition_point(|n| n.extent.last <= at);
        count += root.nodes[..n].iter().map(|n| n.extent.count).sum::<usize>();
        let Some(node) = root.nodes.get(n) else { return count };
        let chunks = &node.to.chunks;
        let c = chunks.partition_point(|c| c.extent.last <= at);
        count += chunks[..c].iter().map(|c| c.extent.count).sum::<usize>();
        count + chunks.get(c).map_or(0, |c| self.count_in(&c.to, at))
    }

    /// Skips whole nodes and chunks without a wide gap.
    fn run_start(&self, first: usize, upper: usize, gap: Millis) -> usize {
        let Shape::Many(root) = &self.tree.0 else {
            return match &self.tree.0 {
                Shape::One(chunk) => match self.body(chunk) {
                    Some(body) => chunk.list(&body).run_start(first, upper, gap),
                    None => first,
                },
                _ => first,
            };
        };
        let mut end = self.len();
        let mut next: Option<Millis> = None; // the time of the event before which we stand
        for node in root.nodes.iter().rev() {
            let mut chunk_end = end;
            end -= node.extent.count;
            if chunk_end.min(upper) <= first {
                break;
            }
            let joined =
                |next: Option<Millis>, last: Millis| next.is_none_or(|t| t.saturating_sub(last) <= gap);
            let clear =
                |widest: Millis, start: usize, stop: usize| widest <= gap && start >= first && stop <= upper;
            if joined(next, node.extent.last) && clear(node.extent.widest, end, chunk_end) {
                next = Some(node.extent.first);
                continue;
            }
            for chunk in node.to.chunks.iter().rev() {
                let stop = chunk_end;
                chunk_end -= chunk.extent.count;
                if chunk_end >= upper {
                    continue;
                }
                if stop <= first {
                    return first;
                }
                if stop <= upper && !joined(next, chunk.extent.last) {
                    return stop;
                }
                if clear(chunk.extent.widest, chunk_end, stop) {
                    next = Some(chunk.extent.first);
                    continue;
                }
                let Some(body) = self.body(&chunk.to) else { return first };
                let (from, to) = (first.max(chunk_end) - chunk_end, upper.min(stop) - chunk_end);
                let start = chunk.to.list(&body).run_start(from, to, gap);
                if start > from || from > 0 {
                    return chunk_end + start;
                }
                next = Some(chunk.extent.first);
            }
        }
        first.max(root.folded.as_ref().map_or(0, |f| f.count))
    }
}

impl Chunk {
    fn is_spilled(&self) -> bool {
        matches!(*self.body.read(), super::Body::There(_))
    }
}

impl Clone for TreeReader<'_> {
    fn clone(&self) -> Self {
        self.tree.reader()
    }
}
