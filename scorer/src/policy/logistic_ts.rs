//! Logistic Thompson sampling with exact propensities.

use std::{collections::BTreeMap, sync::Arc};

use hashbrown::HashMap;
use ndarray::ArrayView1;
use prost::Message;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    Action, Distribution, Observation, Policy, PolicyConfig, Snapshot,
    columns::{Columns, slots_from_lists, slots_to_lists},
    logistic::{Logistic, sigmoid},
    with_floor,
};
use crate::ScorerError;

/// Posterior draws frozen in a snapshot.
const DRAWS: usize = 64;
/// Groups with a model; of further ones nothing is learned, so that memory is bounded.
const MOST_GROUPS: usize = 4096;
/// Learning rate of the policy's models.
const ALPHA: f64 = 0.3;

/// Logistic Thompson sampling: a logistic model a tip-group, weights drawn from a diagonal approximation of
/// the posterior (Chapelle and Li, 2011). As in [`super::LinTs`] a snapshot carries [`DRAWS`] draws, so the
/// probability of an action is exactly the share of draws in which it wins. Rewards outside 0 to 1 are
/// clamped.
pub struct LogisticTs {
    config: PolicyConfig,
    groups: BTreeMap<Arc<str>, Group>,
    learned: u64,
}

struct Group {
    model: Logistic,
    columns: Columns,
    slots: HashMap<Arc<str>, usize>,
    rows: u64,
    frozen: Option<Arc<FrozenGroup>>,
}

impl LogisticTs {
    /// Untaught.
    pub fn new(config: PolicyConfig) -> LogisticTs {
        LogisticTs { config, groups: BTreeMap::new(), learned: 0 }
    }
}

impl Policy for LogisticTs {
    fn name(&self) -> &'static str {
        "logistic"
    }

    fn version(&self) -> u64 {
        self.learned
    }

    fn learn(&mut self, seen: &Observation<'_>) -> bool {
        let (context, action) = (seen.context, seen.action);
        if !seen.reward.is_finite() || context.iter().chain(action.features).any(|v| !v.is_finite()) {
            return false;
        }
        if !self.groups.contains_key(action.group) && self.groups.len() >= MOST_GROUPS {
            return false;
        }
        if !self.groups.contains_key(action.group) {
            let (columns, Some(model)) = (Columns::new(false), Logistic::new(ALPHA, 1)) else { return false };
            let fresh = Group { model, columns, slots: HashMap::new(), rows: 0, frozen: None };
            self.groups.insert(action.group.into(), fresh);
        }
        let Some(group) = self.groups.get_mut(action.group) else { return false };
        group.columns.cover(context.len(), action.features.len());
        let own = action.tip != action.group && group.slots.len() < self.config.tips_per_group;
        if own && !group.slots.contains_key(action.tip) {
            let slot = group.columns.take();
            group.slots.insert(action.tip.into(), slot);
        }
        if group.model.weights().len() < group.columns.len() {
            group.model.grow(group.columns.len());
        }
        let mut x = Vec::new();
        let features: Vec<f32> = action.features.iter().map(|v| *v as f32).collect();
        group.columns.fill(&context.mapv(|v| v as f32).to_vec(), &features, &mut x);
        if let Some(slot) = group.slots.get(action.tip) {
            x[*slot] = 1.0;
        }
        let x: Vec<f64> = x.into_iter().map(f64::from).collect();
        group.model.learn(&x, seen.reward.clamp(0.0, 1.0));
        group.rows += 1;
        group.frozen = None;
        self.learned += 1;
        true
    }

    fn snapshot(&mut self) -> Arc<dyn Snapshot> {
        let seed = self.config.seed;
        let groups = self.groups.iter_mut().map(|(name, group)| {
            let frozen = group.frozen.take().unwrap_or_else(|| Arc::new(FrozenGroup::new(name, group, seed)));
            group.frozen = Some(frozen.clone());
            (name.clone(), frozen)
        });
        Arc::new(LogisticSnapshot {
            groups: groups.collect(),
            seed,
            learned: self.learned,
            floor: self.config.floor_after(self.learned),
        })
    }

    fn save(&self) -> Vec<u8> {
        let groups = self.groups.iter().map(|(name, group)| {
            let (tips, slots) = slots_to_lists(&group.slots);
            let (z, n) = group.model.parts();
            SavedGroup {
                name: name.to_string(),
                tips,
                slots,
                rows: group.rows,
                z: z.to_vec(),
                n: n.to_vec(),
                columns: group.columns.to_numbers(),
            }
        });
        Saved { learned: self.learned, groups: groups.collect() }.encode_to_vec()
    }

    fn load(&mut self, state: &[u8]) -> Result<(), ScorerError> {
        let damaged = |why: String| ScorerError::Snapshot(format!("the saved policy cannot be read: {why}"));
        let saved = Saved::decode(state).map_err(|e| damaged(e.to_string()))?;
        let mut groups = BTreeMap::new();
        for group in saved.groups {
            let name: Arc<str> = group.name.as_str().into();
            let read =
                restored(group).ok_or_else(|| damaged(format!("the numbers of `{name}` are not whole")))?;
            groups.insert(name, read);
        }
        (self.groups, self.learned) = (groups, saved.learned);
        Ok(())
    }
}

fn restored(group: SavedGroup) -> Option<Group> {
    let columns = Columns::from_numbers(&group.columns)?;
    let model = Logistic::from_parts(ALPHA, &group.z, &group.n)?;
    let slots = slots_from_lists(&group.tips, &group.slots, columns.len())?;
    let fits = group.z.len() == columns.len();
    fits.then(|| Group { model, columns, slots, rows: group.rows, frozen: None })
}

struct FrozenGroup {
    /// Weights under each draw, [`DRAWS`] an input.
    draws: Vec<f32>,
    weights: Vec<f32>,
    columns: Columns,
    slots: HashMap<Arc<str>, usize>,
}

impl FrozenGroup {
    fn new(name: &str, group: &Group, seed: u64) -> FrozenGroup {
        let mut rng = normals(name, seed.wrapping_add(group.rows));
        let spread = group.model.variances().mapv(f64::sqrt);
        let draws = group
            .model
            .weights()
            .iter()
            .zip(&spread)
            .flat_map(|(w, s)| (0..DRAWS).map(|_| (w + s * rng()) as f32).collect::<Vec<f32>>());
        FrozenGroup {
            draws: draws.collect(),
            weights: group.model.weights().iter().map(|w| *w as f32).collect(),
            columns: group.columns.clone(),
            slots: group.slots.clone(),
        }
    }
}

fn normals(name: &str, seed: u64) -> impl FnMut() -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(name.as_bytes(), seed));
    move || StandardNormal.sample(&mut rng)
}

struct LogisticSnapshot {
    groups: HashMap<Arc<str>, Arc<FrozenGroup>>,
    seed: u64,
    learned: u64,
    floor: f64,
}

impl Snapshot for LogisticSnapshot {
    fn name(&self) -> &'static str {
        "logistic"
    }

    fn version(&self) -> u64 {
        self.learned
    }

    fn distribution(&self, context: ArrayView1<'_, f64>, actions: &[Action<'_>]) -> Distribution {
        let context: Vec<f32> = context.iter().map(|v| *v as f32).collect();
        let mut scores = vec![0.0; actions.len()];
        let mut best = [(f32::NEG_INFINITY, 0); DRAWS];
        let mut x = Vec::new();
        for (i, action) in actions.iter().enumerate() {
            let mut values = [0.0f32; DRAWS];
            let mut mean = 0.0f32;
            match self.groups.get(action.group) {
                Some(group) => {
                    let features: Vec<f32> = action.features.iter().map(|v| *v as f32).collect();
                    group.columns.fill(&context, &features, &mut x);
                    if let Some(slot) = group.slots.get(action.tip) {
                        x[*slot] = 1.0;
                    }
                    for ((v, w), draws) in x.iter().zip(&group.weights).zip(group.draws.chunks_exact(DRAWS)) {
                        if *v != 0.0 {
                            mean += v * w;
                            values.iter_mut().zip(draws).for_each(|(sum, draw)| *sum += v * draw);
                        }
                    }
                }
                // Of a group never seen only the prior of its constant is known.
                None => {
                    let mut rng = normals(action.tip, self.seed);
                    values.iter_mut().for_each(|value| *value = (ALPHA.sqrt() * rng()) as f32);
                }
            }
            scores[i] = sigmoid(f64::from(mean));
            for (best, value) in best.iter_mut().zip(values) {
                if value > best.0 {
                    *best = (value, i);
                }
            }
        }
        let mut propensities = vec![0.0; actions.len()];
        if !actions.is_empty() {
            best.iter().for_each(|(_, winner)| propensities[*winner] += 1.0 / DRAWS as f64);
        }
        with_floor(&mut propensities, self.floor);
        Distribution { scores, propensities }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Saved {
    #[prost(uint64, tag = "1")]
    learned: u64,
    #[prost(message, repeated, tag = "2")]
    groups: Vec<SavedGroup>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedGroup {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    tips: Vec<String>,
    #[prost(uint64, repeated, tag = "3")]
    slots: Vec<u64>,
    #[prost(uint64, tag = "4")]
    rows: u64,
    #[prost(double, repeated, tag = "5")]
    z: Vec<f64>,
    #[prost(double, repeated, tag = "6")]
    n: Vec<f64>,
    #[prost(uint32, repeated, tag = "7")]
    columns: Vec<u32>,
}
