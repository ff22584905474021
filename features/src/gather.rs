//! Which events of many entities fall into which window, and the aggregates over them.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, UInt32Array},
    compute::{concat, take},
};
use datafusion::{
    logical_expr::{EmitTo, GroupsAccumulator},
    physical_expr::aggregate::AggregateFunctionExpr,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;
use ingest::Millis;

use crate::{
    kernel::{Aggregation, Kept},
    view::window::{Given, Window},
};

/// The events of several entities inside their longest windows, each with the ring it falls into.
///
/// Only rings that hold events are numbered: an accumulator takes a group it was never given for one whose
/// values were all accepted.
pub(crate) struct Gathered<'a> {
    pub bytes: Vec<&'a [u8]>,
    pub times: Vec<Millis>,
    /// Entity of each event, by its place among those asked for.
    pub owner: Vec<u32>,
    /// Ring of each event.
    ring: Vec<usize>,
    rings: usize,
    /// For each pair of a ring and a window that it belongs to: the ring, and the window's group.
    merge_rings: Vec<u32>,
    merge_groups: Vec<usize>,
    groups: usize,
    /// For each entity and window: its group, or `groups` when the window is empty.
    scatter: UInt32Array,
}

impl<'a> Gathered<'a> {
    /// `given` holds what edges depend on, for each entity.
    pub(crate) fn new(entities: &[Kept<'a>], windows: &[Window], given: &[Given]) -> Self {
        let mut g = Gathered {
            bytes: Vec::new(),
            times: Vec::new(),
            owner: Vec::new(),
            ring: Vec::new(),
            rings: 0,
            merge_rings: Vec::new(),
            merge_groups: Vec::new(),
            groups: 0,
            scatter: UInt32Array::from(Vec::<u32>::new()),
        };
        let mut scatter: Vec<Option<usize>> = Vec::with_capacity(entities.len() * windows.len());
        // Windows with their lower edges, the nearest first: what lies between two edges is a ring.
        let mut edges: Vec<(usize, usize)> = Vec::with_capacity(windows.len());
        let mut group_of: Vec<Option<usize>> = vec![None; windows.len()];
        for (owner, (kept, given)) in entities.iter().zip(given).enumerate() {
            let events = &kept.events;
            let upper = events.count_until(kept.at);
            edges.clear();
            edges.extend(
                windows.iter().enumerate().map(|(k, w)| (w.span.lower(events, upper, kept.at, given), k)),
            );
            edges.sort_unstable_by(|a, b| b.cmp(a));
            let first_ring = g.rings;
            let mut edge = upper;
            for (lower, k) in &edges {
                if *lower < edge {
                    for i in *lower..edge {
                        g.bytes.push(events.bytes(i));
                        g.times.push(events.time(i));
                        g.owner.push(owner as u32);
                        g.ring.push(g.rings);
                    }
                    g.rings += 1;
                    edge = *lower;
                }
                group_of[*k] = (first_ring < g.rings).then(|| {
                    for ring in first_ring..g.rings {
                        g.merge_rings.push(ring as u32);
                        g.merge_groups.push(g.groups);
                    }
                    g.groups += 1;
                    g.groups - 1
                });
            }
            scatter.extend(&group_of);
        }
        g.scatter = scatter.into_iter().map(|s| s.unwrap_or(g.groups) as u32).collect();
        g
    }

    /// One aggregate's value for every entity and window.
    pub(crate) fn aggregate(
        &self,
        a: &Aggregation,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<ArrayRef, datafusion::error::DataFusionError> {
        if self.rings == 0 {
            return Ok(take(&a.empty, &self.scatter, None)?);
        }
        let mut partial = accumulator(&a.expr)?;
        partial.update_batch(values, &self.ring, filter, self.rings)?;
        let dense = if self.merge_rings.len() == self.rings {
            // Every ring is a window of its own: nothing to merge.
            partial.evaluate(EmitTo::All)?
        } else {
            let states = partial.state(EmitTo::All)?;
            let pick = UInt32Array::from(self.merge_rings.clone());
            let mut picked = Vec::with_capacity(states.len());
            for s in &states {
                picked.push(take(s, &pick, None)?);
            }
            let mut merged = accumulator(&a.expr)?;
            merged.merge_batch(&picked, &self.merge_groups, self.groups)?;
            merged.evaluate(EmitTo::All)?
        };
        let with_empty = concat(&[dense.as_ref(), a.empty.as_ref()])?;
        Ok(take(&with_empty, &self.scatter, None)?)
    }
}

fn accumulator(
    e: &Arc<AggregateFunctionExpr>,
) -> Result<Box<dyn GroupsAccumulator>, datafusion::error::DataFusionError> {
    if e.groups_accumulator_supported() {
        e.create_groups_accumulator()
    } else {
        let e = e.clone();
        Ok(Box::new(GroupsAccumulatorAdapter::new(move || e.create_accumulator())))
    }
}
