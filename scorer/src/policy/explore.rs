//! Exploration by a rule over predicted rewards.

use std::sync::Arc;

use ndarray::{Array2, ArrayView1};

use super::{
    Action, Distribution, Observation, Policy, PolicyConfig, PolicyName, Snapshot, Space, best_alone,
    linear::{Frozen, Linear, Sharing},
    with_floor,
};
use crate::ScorerError;

/// A linear model of rewards, and a rule that makes probabilities of its predictions:
///
/// | name | probability of a candidate |
/// |---|---|
/// | `epsilon` | all to the best, but for the uniform floor (Sutton and Barto, "Reinforcement learning", 2.2) |
/// | `softmax` | in proportion to `exp(prediction / width)` (the same, 2.8) |
/// | `squarecb` | `1 / (K + γ·gap)` to all but the best, which takes the rest; γ = `gamma`·√rewards (Foster and Rakhlin, "Beyond UCB: optimal and efficient contextual bandits with regression oracles", 2020, algorithm 1) |
pub struct Greedy {
    linear: Linear,
}

impl Greedy {
    /// Untaught.
    pub fn new(config: PolicyConfig, space: &Space) -> Greedy {
        Greedy { linear: Linear::new(config, space, Sharing::Group) }
    }
}

impl Policy for Greedy {
    fn name(&self) -> &'static str {
        self.linear.config().name.word()
    }

    fn version(&self) -> u64 {
        self.linear.learned()
    }

    fn learn(&mut self, observation: &Observation<'_>) -> bool {
        self.linear.learn(observation)
    }

    fn snapshot(&mut self) -> Arc<dyn Snapshot> {
        // Predictions alone: exploration needs nothing of a group.
        let frozen = self.linear.freeze(|_, _| Array2::zeros((0, 0)));
        Arc::new(GreedySnapshot { config: self.linear.config().clone(), frozen })
    }

    fn save(&self) -> Vec<u8> {
        self.linear.save()
    }

    fn load(&mut self, state: &[u8]) -> Result<(), ScorerError> {
        self.linear.load(state)
    }
}

struct GreedySnapshot {
    config: PolicyConfig,
    frozen: Frozen,
}

impl Snapshot for GreedySnapshot {
    fn name(&self) -> &'static str {
        self.config.name.word()
    }

    fn version(&self) -> u64 {
        self.frozen.learned
    }

    fn distribution(&self, context: ArrayView1<'_, f64>, actions: &[Action<'_>]) -> Distribution {
        let mut scores = vec![0.0; actions.len()];
        self.frozen.score(context, actions, |i, mean, _, _| scores[i] = f64::from(mean));
        let mut propensities = match self.config.name {
            PolicyName::Softmax => softmax(&scores, self.config.width),
            PolicyName::SquareCb => {
                inverse_gaps(&scores, self.config.gamma * (self.frozen.learned as f64).sqrt())
            }
            _ => best_alone(&scores),
        };
        with_floor(&mut propensities, self.config.floor_after(self.frozen.learned));
        Distribution { scores, propensities }
    }
}

fn softmax(scores: &[f64], temperature: f64) -> Vec<f64> {
    let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut shares: Vec<f64> = scores.iter().map(|s| ((s - best) / temperature).exp()).collect();
    let sum: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|s| *s /= sum);
    shares
}

fn inverse_gaps(scores: &[f64], gamma: f64) -> Vec<f64> {
    let Some(first) = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i) else {
        return Vec::new();
    };
    let (best, k) = (scores[first], scores.len() as f64);
    let mut shares: Vec<f64> = scores.iter().map(|s| 1.0 / (k + gamma * (best - s))).collect();
    shares[first] = 0.0;
    shares[first] = 1.0 - shares.iter().sum::<f64>();
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_by_hand() {
        let scores = [0.5, 0.9, 0.9, 0.1];
        assert_eq!(best_alone(&scores), [0.0, 0.5, 0.5, 0.0]);
        let shares = softmax(&[0.0, 2f64.ln()], 1.0);
        assert!((shares[1] - 2.0 / 3.0).abs() < 1e-12);
        let shares = inverse_gaps(&[0.5, 0.9, 0.1], 10.0);
        let rest = [1.0 / 7.0, 1.0 / 11.0];
        assert_eq!((shares[0], shares[2]), (rest[0], rest[1]));
        assert!((shares[1] - (1.0 - rest[0] - rest[1])).abs() < 1e-12);
        assert!(inverse_gaps(&[], 1.0).is_empty());
    }
}
