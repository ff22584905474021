//! Which events of many entities fall into which window, and the aggregates over them.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, BooleanArray, UInt32Array},
    compute::{concat, take},
};
use datafusion::{
    error::DataFusionError,
    logical_expr::{EmitTo, GroupsAccumulator},
    physical_expr::aggregate::AggregateFunctionExpr,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;
use ingest::Millis;

use crate::{
    chunks::{Part, Source},
    events::{EventList, Timeline},
    kernel::{Aggregation, End, Kept},
    view::window::{Given, Window},
};

/// Marks the number of a part that has its states already.
const STATES: u32 = 1 << 31;

/// The events of several entities inside their longest windows, cut at the edges of all their windows: rings of
/// events between two edges, and whole chunks and nodes of which the states are known.
///
/// Only rings that hold events are numbered: an accumulator takes a group it was never given for one whose
/// values were all accepted.
pub(crate) struct Cuts<'a> {
    cuts: Vec<Cut<'a>>,
    /// States of whole parts.
    pub states: Vec<Arc<[u8]>>,
    rings: usize,
    /// For each pair of a ring or whole part and a window that it belongs to: the ring, or after all rings the
    /// part, and the window's group.
    merge_from: Vec<u32>,
    merge_groups: Vec<usize>,
    groups: usize,
    /// For each entity and window: its group, or `groups` when the window is empty.
    scatter: UInt32Array,
}

/// Some events of one ring.
struct Cut<'a> {
    owner: u32,
    ring: usize,
    list: Lies<'a>,
    from: usize,
    to: usize,
}

enum Lies<'a> {
    In(EventList<'a>),
    Chunk { body: Arc<[u8]>, count: usize },
}

impl<'a> Cuts<'a> {
    /// `given` holds what edges depend on, for each entity; whole parts are left as such where `states` says so.
    pub(crate) fn new(entities: &[Kept<'a>], windows: &[Window], given: &[Given], states: bool) -> Self {
        let mut all = Cuts {
            cuts: Vec::new(),
            states: Vec::new(),
            rings: 0,
            merge_from: Vec::new(),
            merge_groups: Vec::new(),
            groups: 0,
            scatter: UInt32Array::from(Vec::<u32>::new()),
        };
        let mut scatter: Vec<Option<usize>> = Vec::with_capacity(entities.len() * windows.len());
        // Windows with their lower edges, the nearest first.
        let mut edges: Vec<(usize, usize)> = Vec::with_capacity(windows.len());
        let mut group_of: Vec<Option<usize>> = vec![None; windows.len()];
        let mut parts = Vec::new();
        let mut found: Vec<u32> = Vec::new();
        for (owner, (kept, given)) in entities.iter().zip(given).enumerate() {
            let events = &kept.events;
            let upper = events.count_until(kept.at);
            edges.clear();
            edges.extend(
                windows.iter().enumerate().map(|(k, w)| (w.span.lower(events, upper, kept.at, given), k)),
            );
            edges.sort_unstable_by(|a, b| b.cmp(a));
            found.clear();
            let mut edge = upper;
            for (lower, k) in &edges {
                if *lower < edge {
                    let ring = all.rings;
                    match events {
                        Source::List(list) => {
                            all.add((owner, ring), Lies::In(*list), (*lower, edge), &mut found)
                        }
                        Source::Tree(tree) => {
                            tree.parts(*lower, edge, states, &mut parts);
                            parts.drain(..).for_each(|part| all.add_part((owner, ring), part, &mut found));
                        }
                    }
                    edge = *lower;
                }
                group_of[*k] = (!found.is_empty()).then(|| {
                    all.merge_from.extend_from_slice(&found);
                    all.merge_groups.extend(std::iter::repeat_n(all.groups, found.len()));
                    all.groups += 1;
                    all.groups - 1
                });
            }
            scatter.extend(&group_of);
        }
        all.scatter = scatter.into_iter().map(|s| s.unwrap_or(all.groups) as u32).collect();
        for from in all.merge_from.iter_mut().filter(|from| **from & STATES != 0) {
            *from = (*from & !STATES) + all.rings as u32;
        }
        all
    }

    /// Adds events between two edges, and to `found` the number of their ring when they are its first.
    fn add(
        &mut self,
        (owner, ring): (usize, usize),
        list: Lies<'a>,
        (from, to): (usize, usize),
        found: &mut Vec<u32>,
    ) {
        if self.rings == ring {
            found.push(ring as u32);
            self.rings += 1;
        }
        self.cuts.push(Cut { owner: owner as u32, ring, list, from, to });
    }

    fn add_part(&mut self, of: (usize, usize), part: Part, found: &mut Vec<u32>) {
        match part {
            Part::Events { body, count, from, to } => {
                self.add(of, Lies::Chunk { body, count }, (from, to), found);
            }
            Part::States(states) => {
                found.push(STATES | self.states.len() as u32);
                self.states.push(states);
            }
        }
    }

    /// One aggregate's value for every entity and window. `values` and `filter` have a row for each gathered
    /// event, whose rings are `ring`; `of_parts` are the aggregate's states of the whole parts.
    pub(crate) fn aggregate(
        &self,
        a: &Aggregation,
        values: &[ArrayRef],
        ring: &[usize],
        filter: Option<&BooleanArray>,
        of_parts: &[ArrayRef],
    ) -> Result<ArrayRef, DataFusionError> {
        if self.groups == 0 {
            return Ok(take(&a.empty, &self.scatter, None)?);
        }
        if let (Some(end), true, Some(value)) = (a.end, self.states.is_empty(), values.first()) {
            let dense = take(value, &self.at_end(end, value, a.expr.ignore_nulls(), ring, filter), None)?;
            let with_empty = concat(&[dense.as_ref(), a.empty.as_ref()])?;
            return Ok(take(&with_empty, &self.scatter, None)?);
        }
        let mut partial = accumulator(&a.expr)?;
        partial.update_batch(values, ring, filter, self.rings)?;
        let dense = if self.merge_from.len() == self.rings && self.states.is_empty() {
            // Every ring is a window of its own: nothing to merge.
            partial.evaluate(EmitTo::All)?
        } else {
            // One merge, in which every group takes part: an accumulator takes a group it was not given for one
            // whose states were all there.
            let pick = UInt32Array::from(self.merge_from.clone());
            let rings = if self.rings > 0 { partial.state(EmitTo::All)? } else { Vec::new() };
            let mut picked = Vec::new();
            for i in 0..rings.len().max(of_parts.len()) {
                let both = [rings.get(i), of_parts.get(i)].into_iter().flatten();
                let both: Vec<&dyn Array> = both.map(|s| s.as_ref()).collect();
                let all = concat(&both)?;
                picked.push(take(&all, &pick, None)?);
            }
            let mut merged = accumulator(&a.expr)?;
            merged.merge_batch(&picked, &self.merge_groups, self.groups)?;
            merged.evaluate(EmitTo::All)?
        };
        let with_empty = concat(&[dense.as_ref(), a.empty.as_ref()])?;
        Ok(take(&with_empty, &self.scatter, None)?)
    }
}

impl Cuts<'_> {
    /// For each group the event that is its first or last: those of a ring come in order, and the rings of a
    /// group the newest first. The same as the accumulators of `first` and `last` give, without comparing.
    fn at_end(
        &self,
        end: End,
        value: &ArrayRef,
        ignore_nulls: bool,
        ring: &[usize],
        filter: Option<&BooleanArray>,
    ) -> UInt32Array {
        let mut of_ring: Vec<Option<u32>> = vec![None; self.rings];
        for (i, ring) in ring.iter().enumerate() {
            let counts =
                filter.is_none_or(|f| f.is_valid(i) && f.value(i)) && !(ignore_nulls && value.is_null(i));
            if counts && (end == End::Last || of_ring[*ring].is_none()) {
                of_ring[*ring] = Some(i as u32);
            }
        }
        let mut of_group: Vec<Option<u32>> = vec![None; self.groups];
        for (from, group) in self.merge_from.iter().zip(&self.merge_groups) {
            let found = of_ring[*from as usize];
            let newer = of_group[*group];
            of_group[*group] = match end {
                End::Last => newer.or(found),
                End::First => found.or(newer),
            };
        }
        UInt32Array::from(of_group)
    }
}

/// The events of some cuts, side by side.
pub(crate) struct Gathered<'c> {
    pub bytes: Vec<&'c [u8]>,
    pub times: Vec<Millis>,
    /// Entity of each event, by its place among those asked for.
    pub owner: Vec<u32>,
    /// Ring of each event.
    pub ring: Vec<usize>,
}

impl<'c> Gathered<'c> {
    pub(crate) fn new(cuts: &'c Cuts<'_>) -> Self {
        let mut g = Gathered { bytes: Vec::new(), times: Vec::new(), owner: Vec::new(), ring: Vec::new() };
        for cut in &cuts.cuts {
            let list = match &cut.list {
                Lies::In(list) => *list,
                Lies::Chunk { body, count } => EventList::parse(*count, body).unwrap_or_default(),
            };
            for i in cut.from..cut.to {
                g.bytes.push(list.bytes(i));
                g.times.push(list.time(i));
                g.owner.push(cut.owner);
                g.ring.push(cut.ring);
            }
        }
        g
    }
}

pub(crate) fn accumulator(
    e: &Arc<AggregateFunctionExpr>,
) -> Result<Box<dyn GroupsAccumulator>, DataFusionError> {
    if e.groups_accumulator_supported() {
        e.create_groups_accumulator()
    } else {
        let e = e.clone();
        Ok(Box::new(GroupsAccumulatorAdapter::new(move || e.create_accumulator())))
    }
}
