//! Policies: who chooses the tip, with which probability, and how it learns.
//!
//! A policy has two sides. The writer ([`Policy`]) learns from rewards, alone and in order. It publishes
//! immutable [`Snapshot`]s, which any number of readers use at once to make decisions.
//!
//! A snapshot answers with the probabilities themselves, and the choice is drawn from them. So the
//! propensity logged with an impression is exact by construction, which is what off-policy evaluation needs.

mod columns;
mod config;
mod explore;
mod linear;
mod lints;
mod linucb;
mod logistic;
mod logistic_ts;
mod pool;
mod ridge;
mod uniform;

use std::sync::Arc;

pub use self::{
    config::{PolicyConfig, PolicyName, Space},
    explore::Greedy,
    lints::{DRAWS, LinTs},
    linucb::LinUcb,
    logistic_ts::LogisticTs,
    pool::Pool,
    ridge::{Ridge, RidgeParams},
    uniform::Uniform,
};
use crate::ScorerError;
use ndarray::ArrayView1;
use rand::{Rng, RngCore};

/// One tip as a policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct Action<'a> {
    /// Id of the tip. Each tip has an effect of its own, learned on top of its group's.
    pub tip: &'a str,
    /// Its category. Tips of one group share what is learned about contexts, so a new tip has a score.
    pub group: &'a str,
    /// Features of the action, of the length the policy was made for.
    pub features: &'a [f64],
}

/// What a policy learns from: what it saw, what was done, what came of it.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// The context, scaled, of the length the policy was made for.
    pub context: ArrayView1<'a, f64>,
    /// The tip that was shown.
    pub action: Action<'a>,
    /// Probability with which it was chosen. Kept for evaluation; the linear policies do not weigh by it,
    /// because a regression of the reward given the action is unbiased without.
    pub propensity: f64,
    /// What it was worth, 0 to 1.
    pub reward: f64,
}

/// The probabilities over some candidates, in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Distribution {
    /// What the policy holds of each candidate; only its order matters, and only within one decision.
    pub scores: Vec<f64>,
    /// The exact probability of choosing each; all positive, summing to 1.
    pub propensities: Vec<f64>,
}

impl Distribution {
    /// The candidate that `draw`, uniform in [0, 1), falls on; `None` without candidates.
    pub fn at(&self, draw: f64) -> Option<usize> {
        let mut below = 0.0;
        for (i, p) in self.propensities.iter().enumerate() {
            below += p;
            if draw < below {
                return Some(i);
            }
        }
        // Rounding may leave the sum a hair under 1.
        self.propensities.len().checked_sub(1)
    }
}

/// One choice among candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Index of the chosen candidate.
    pub index: usize,
    /// The random number behind the choice, uniform in [0, 1).
    pub draw: f64,
    /// What it was drawn from.
    pub distribution: Distribution,
}

impl Choice {
    /// The probability with which the chosen candidate was chosen.
    pub fn propensity(&self) -> f64 {
        self.distribution.propensities[self.index]
    }
}

/// Draws one of `actions`; `None` when there is none.
pub fn choose(
    snapshot: &dyn Snapshot,
    context: ArrayView1<'_, f64>,
    actions: &[Action<'_>],
    rng: &mut dyn RngCore,
) -> Option<Choice> {
    let distribution = snapshot.distribution(context, actions);
    let draw = rng.random::<f64>();
    distribution.at(draw).map(|index| Choice { index, draw, distribution })
}

/// Draws up to `k` of `actions` in order, for a channel that shows several: the first from the distribution
/// over all, each further one from the distribution over those left. A choice's index is into `actions`, and
/// its propensity is that of its place given the choices before it; the scores and propensities of its
/// distribution stand in the order of `actions`, 0 for those already taken.
pub fn choose_slate(
    snapshot: &dyn Snapshot,
    context: ArrayView1<'_, f64>,
    actions: &[Action<'_>],
    k: usize,
    rng: &mut dyn RngCore,
) -> Vec<Choice> {
    let mut left: Vec<usize> = (0..actions.len()).collect();
    let mut slate = Vec::with_capacity(k.min(actions.len()));
    while slate.len() < k {
        let candidates: Vec<Action<'_>> = left.iter().map(|i| actions[*i]).collect();
        let Some(choice) = choose(snapshot, context, &candidates, rng) else { break };
        let mut whole =
            Distribution { scores: vec![0.0; actions.len()], propensities: vec![0.0; actions.len()] };
        for (at, i) in left.iter().enumerate() {
            whole.scores[*i] = choice.distribution.scores[at];
            whole.propensities[*i] = choice.distribution.propensities[at];
        }
        let index = left.remove(choice.index);
        slate.push(Choice { index, draw: choice.draw, distribution: whole });
    }
    slate
}

/// The side of a policy that makes decisions: immutable, shared by all readers.
pub trait Snapshot: Send + Sync {
    /// Name of the policy.
    fn name(&self) -> &'static str;

    /// How many rewards it has learned from; with the name, identifies the snapshot.
    fn version(&self) -> u64;

    /// The probabilities over `actions`. A pure function of the snapshot and its arguments.
    fn distribution(&self, context: ArrayView1<'_, f64>, actions: &[Action<'_>]) -> Distribution;
}

/// The side of a policy that learns: one writer, fed in the order of the reward log.
pub trait Policy: Send {
    /// Name of the policy, lowercase.
    fn name(&self) -> &'static str;

    /// How many rewards it has learned from.
    fn version(&self) -> u64;

    /// Learns from one reward. Deterministic: the state depends on the sequence of observations alone.
    ///
    /// An observation of another length than the policy was made for is a mistake of the caller; it is
    /// ignored and answered with `false`.
    fn learn(&mut self, observation: &Observation<'_>) -> bool;

    /// What readers decide by from now on. A pure function of the state.
    fn snapshot(&mut self) -> Arc<dyn Snapshot>;

    /// The whole state, to the bit.
    fn save(&self) -> Vec<u8>;

    /// Takes over a state that [`Policy::save`] wrote; on an error the policy is as before.
    fn load(&mut self, state: &[u8]) -> Result<(), ScorerError>;
}

/// Makes an untaught policy.
pub fn build(config: &PolicyConfig, space: &Space) -> Box<dyn Policy> {
    match config.name {
        PolicyName::LinTs => Box::new(LinTs::new(config.clone(), space)),
        PolicyName::LinUcb | PolicyName::LinUcbDisjoint | PolicyName::LinUcbShared => {
            Box::new(LinUcb::new(config.clone(), space))
        }
        PolicyName::Epsilon | PolicyName::Softmax | PolicyName::SquareCb => {
            Box::new(Greedy::new(config.clone(), space))
        }
        PolicyName::Logistic => Box::new(LogisticTs::new(config.clone())),
        PolicyName::Pool => Box::new(Pool::new(config.clone())),
        PolicyName::Uniform => Box::new(Uniform),
    }
}

/// All to the highest score; equal ones share.
fn best_alone(scores: &[f64]) -> Vec<f64> {
    let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let winners = scores.iter().filter(|s| **s == best).count();
    let share = 1.0 / winners.max(1) as f64;
    scores.iter().map(|s| if *s == best { share } else { 0.0 }).collect()
}

/// Mixes a uniform floor into probabilities: `(1 − floor) · p + floor / n`.
fn with_floor(propensities: &mut [f64], floor: f64) {
    let each = floor / propensities.len().max(1) as f64;
    for p in propensities {
        *p = (1.0 - floor) * *p + each;
    }
}

#[cfg(test)]
mod tests;
