//! Linear Thompson sampling with exact propensities.

use std::sync::Arc;

use ndarray::{Array2, ArrayView1};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    Action, Distribution, Observation, Policy, PolicyConfig, Ridge, Snapshot, Space,
    linear::{Frozen, Linear, Rows, Sharing},
    with_floor,
};
use crate::ScorerError;

/// Posterior draws frozen in a snapshot. Propensities are multiples of a 64th, before the floor.
pub const DRAWS: usize = 64;

/// Linear Thompson sampling (Agrawal and Goyal, "Thompson sampling for contextual bandits with linear
/// payoffs", 2013).
///
/// Sampling anew at each decision leaves the probability of the choice unknown. Instead a snapshot carries
/// [`DRAWS`] weight vectors drawn from the posterior. A decision follows one of them picked at random, so the
/// probability of an action is exactly the share of draws in which it wins, mixed with a uniform floor.
/// The draws are made from the seed, the group and how much it has learned: the same state gives the same
/// snapshot on any machine.
pub struct LinTs {
    linear: Linear,
    unknown: Arc<Rows>,
}

impl LinTs {
    /// Untaught.
    pub fn new(config: PolicyConfig, space: &Space) -> LinTs {
        let scale = config.width / config.tip_ridge.sqrt();
        let unknown = Arc::new(normals("unknown tips", config.seed, DRAWS).mapv(|z| (scale * z) as f32));
        LinTs { linear: Linear::new(config, space, Sharing::Group), unknown }
    }
}

impl Policy for LinTs {
    fn name(&self) -> &'static str {
        "lints"
    }

    fn version(&self) -> u64 {
        self.linear.learned()
    }

    fn learn(&mut self, observation: &Observation<'_>) -> bool {
        self.linear.learn(observation)
    }

    fn snapshot(&mut self) -> Arc<dyn Snapshot> {
        let (seed, width) = (self.linear.config().seed, self.linear.config().width);
        let frozen = self.linear.freeze(|name, ridge| posterior_errors(name, ridge, seed, width));
        let floor = self.linear.config().floor_after(frozen.learned);
        Arc::new(LinTsSnapshot { frozen, unknown: self.unknown.clone(), floor })
    }

    fn save(&self) -> Vec<u8> {
        self.linear.save()
    }

    fn load(&mut self, state: &[u8]) -> Result<(), ScorerError> {
        self.linear.load(state)
    }
}

/// For each input, by how much each draw's weight differs from the expected one.
fn posterior_errors(group: &str, ridge: &Ridge, seed: u64, width: f64) -> Rows {
    let z = normals(group, seed.wrapping_add(ridge.rows()), ridge.inputs());
    (ridge.error_factor().dot(&z) * width).mapv(|v| v as f32)
}

/// Standard normals, one row an input.
fn normals(name: &str, seed: u64, rows: usize) -> Array2<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(name.as_bytes(), seed));
    Array2::from_shape_simple_fn((rows, DRAWS), || StandardNormal.sample(&mut rng))
}

struct LinTsSnapshot {
    frozen: Frozen,
    /// Draws of the own effect of tips of which nothing is known; a tip's id says which row is its.
    unknown: Arc<Rows>,
    floor: f64,
}

impl Snapshot for LinTsSnapshot {
    fn name(&self) -> &'static str {
        "lints"
    }

    fn version(&self) -> u64 {
        self.frozen.learned
    }

    fn distribution(&self, context: ArrayView1<'_, f64>, actions: &[Action<'_>]) -> Distribution {
        let mut scores = vec![0.0; actions.len()];
        let mut best = [f32::NEG_INFINITY; DRAWS];
        let mut winner = [0u32; DRAWS];
        self.frozen.score(context, actions, |i, mean, errors, known| {
            scores[i] = f64::from(mean);
            let own = if known { &NOTHING } else { self.unknown_row(actions[i].tip) };
            let draws = errors.iter().zip(own).map(|(e, o)| mean + e + o);
            for ((best, winner), value) in best.iter_mut().zip(&mut winner).zip(draws) {
                if value > *best {
                    *best = value;
                    *winner = i as u32;
                }
            }
        });
        let mut propensities = vec![0.0; actions.len()];
        if !actions.is_empty() {
            for w in winner {
                propensities[w as usize] += 1.0 / DRAWS as f64;
            }
        }
        with_floor(&mut propensities, self.floor);
        Distribution { scores, propensities }
    }
}

static NOTHING: [f32; DRAWS] = [0.0; DRAWS];

impl LinTsSnapshot {
    fn unknown_row(&self, tip: &str) -> &[f32] {
        let row = xxh3_64_with_seed(tip.as_bytes(), 0) as usize % self.unknown.nrows();
        let all = self.unknown.as_slice().unwrap_or(&NOTHING);
        all.chunks_exact(DRAWS).nth(row).unwrap_or(&NOTHING)
    }
}
