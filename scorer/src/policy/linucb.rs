//! LinUCB: optimism by standard errors.

use std::sync::Arc;

use ndarray::ArrayView1;

use super::{
    Action, Distribution, Observation, Policy, PolicyConfig, PolicyName, Snapshot, Space, best_alone,
    linear::{Frozen, Linear, Sharing},
    with_floor,
};
use crate::ScorerError;

/// Chooses the action with the highest upper confidence bound (Li, Chu, Langford, Schapire, 2010), mixed
/// with a uniform floor so that every candidate has a true, positive probability. Equal bounds share theirs.
/// Hybrid by group ([`PolicyName::LinUcb`]), disjoint ([`PolicyName::LinUcbDisjoint`]) or shared over action
/// features ([`PolicyName::LinUcbShared`]).
pub struct LinUcb {
    linear: Linear,
    name: &'static str,
}

impl LinUcb {
    /// Untaught.
    pub fn new(config: PolicyConfig, space: &Space) -> LinUcb {
        let sharing = match config.name {
            PolicyName::LinUcbDisjoint => Sharing::Tip,
            PolicyName::LinUcbShared => Sharing::All,
            _ => Sharing::Group,
        };
        let name = config.name.word();
        LinUcb { linear: Linear::new(config, space, sharing), name }
    }
}

impl Policy for LinUcb {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> u64 {
        self.linear.learned()
    }

    fn learn(&mut self, observation: &Observation<'_>) -> bool {
        self.linear.learn(observation)
    }

    fn snapshot(&mut self) -> Arc<dyn Snapshot> {
        let frozen = self.linear.freeze(|_, ridge| ridge.error_factor().mapv(|v| v as f32));
        let config = self.linear.config();
        Arc::new(LinUcbSnapshot {
            name: self.name,
            width: config.width as f32,
            // The variance of a tip's own effect while nothing is known of it.
            unknown: (1.0 / config.tip_ridge) as f32,
            floor: config.floor_after(frozen.learned),
            frozen,
        })
    }

    fn save(&self) -> Vec<u8> {
        self.linear.save()
    }

    fn load(&mut self, state: &[u8]) -> Result<(), ScorerError> {
        self.linear.load(state)
    }
}

struct LinUcbSnapshot {
    name: &'static str,
    frozen: Frozen,
    width: f32,
    unknown: f32,
    floor: f64,
}

impl Snapshot for LinUcbSnapshot {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> u64 {
        self.frozen.learned
    }

    fn distribution(&self, context: ArrayView1<'_, f64>, actions: &[Action<'_>]) -> Distribution {
        let mut scores = vec![0.0; actions.len()];
        self.frozen.score(context, actions, |i, mean, error, known| {
            let variance = square(error) + if known { 0.0 } else { self.unknown };
            scores[i] = f64::from(mean + self.width * variance.sqrt());
        });
        let mut propensities = best_alone(&scores);
        with_floor(&mut propensities, self.floor);
        Distribution { scores, propensities }
    }
}

/// Squared length, in eight lanes so that the compiler may use vector instructions.
fn square(v: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let chunks = v.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().map(|x| x * x).sum();
    for chunk in chunks {
        for (l, x) in lanes.iter_mut().zip(chunk) {
            *l += x * x;
        }
    }
    lanes.iter().sum::<f32>() + rest
}
