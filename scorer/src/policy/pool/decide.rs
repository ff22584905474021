//! The deciding side of the pool.

use std::sync::Arc;

use hashbrown::HashMap;
use ndarray::ArrayView1;

use super::{
    head::View,
    member::{Kind, Lens, Seen},
};
use crate::policy::{Action, Distribution, Snapshot, best_alone, columns::Columns, with_floor};

/// Immutable; shares its models with the pool until they learn.
pub(super) struct PoolSnapshot {
    pub(super) lens: Lens,
    /// The members that have a say.
    pub(super) voices: Vec<Voice>,
    pub(super) low: f32,
    pub(super) range: f32,
    pub(super) learned: u64,
    pub(super) floor: f64,
}

/// A member with a say.
pub(super) struct Voice {
    pub(super) kind: Kind,
    pub(super) columns: Arc<Columns>,
    pub(super) index: Arc<HashMap<Arc<str>, usize>>,
    pub(super) views: Arc<Vec<Arc<View>>>,
    pub(super) share: f32,
    /// Its usual error, in the unit of the rewards.
    pub(super) deviation: f32,
}

impl Snapshot for PoolSnapshot {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn version(&self) -> u64 {
        self.learned
    }

    /// Scores are the members' predictions, each with its bonus, weighed; the best takes all but the floor.
    fn distribution(&self, context: ArrayView1<'_, f64>, actions: &[Action<'_>]) -> Distribution {
        let seen = self.lens.see(context.iter());
        let features: Vec<Vec<f32>> =
            actions.iter().map(|a| self.lens.action.scaled(a.features.iter())).collect();
        let whole: f32 = self.voices.iter().map(|v| v.share).sum();
        let mut scores = vec![0.0f32; actions.len()];
        for voice in &self.voices {
            voice.add(self, &seen, actions, &features, voice.share / whole, &mut scores);
        }
        let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
        let mut propensities = best_alone(&scores);
        with_floor(&mut propensities, self.floor);
        Distribution { scores, propensities }
    }
}

impl Voice {
    /// Adds `share` of this member's scores.
    fn add(
        &self,
        pool: &PoolSnapshot,
        seen: &Seen,
        actions: &[Action<'_>],
        features: &[Vec<f32>],
        share: f32,
        scores: &mut [f32],
    ) {
        let context = self.kind.context(seen);
        let mut inputs = Vec::new();
        self.columns.base(context, &mut inputs);
        let products = self.columns.products(context);
        let unknown = View::unknown(self.kind);
        // What the actions of one head have in common is computed once. The last is for unknown groups.
        let mut bases: Vec<Option<(f32, f32)>> = vec![None; self.views.len() + 1];
        for ((score, action), features) in scores.iter_mut().zip(actions).zip(features) {
            let at = self.index.get(self.kind.key(action.group)).copied().unwrap_or(self.views.len());
            let view = self.views.get(at).map_or(&unknown, |view| view);
            let base = bases[at].get_or_insert_with(|| (view.sum(&inputs), view.variance(&inputs)));
            let (mut sum, mut variance) = *base;
            let mut add = |place: usize, value: f32| {
                let (more, wider) = view.one(place, value);
                sum += more;
                variance += wider;
            };
            let features = self.kind.action(features);
            self.columns.action(features).for_each(|(place, value)| add(place, value));
            if let Some((first, sum)) = self.columns.crossed(&products, features) {
                sum.iter().enumerate().for_each(|(k, value)| add(first + k, *value));
            }
            let (own, spread) = view.own(action.tip, action.group);
            let mut mean = view.finish(sum) + own;
            if matches!(self.kind, Kind::Logistic(_)) {
                mean = pool.low + pool.range * mean;
            }
            *score += share * (mean + self.kind.width() * self.deviation * (variance + spread).sqrt());
        }
    }
}
