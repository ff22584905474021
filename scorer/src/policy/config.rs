//! Which policy, and how it explores.

use serde::{Deserialize, Serialize};

/// What a policy's inputs look like at first. Contexts and action features may grow from call to call: inputs
/// that are missing count as 0, and new ones join when first learned from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Space {
    /// Length of the context.
    pub context: usize,
    /// Length of the action features.
    pub action: usize,
    /// The groups known beforehand; others join when first learned from.
    pub groups: Vec<String>,
}

/// Which policy, and how it explores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// Which one.
    pub name: PolicyName,
    /// Width of exploration: the standard deviation given to the reward in Thompson sampling, the number of
    /// standard errors added in LinUCB, the temperature of softmax. The pool scales its own by its errors.
    pub width: f64,
    /// Penalty of the weights a group shares.
    pub ridge: f64,
    /// Penalty of each tip's own effect; larger trusts the group longer.
    pub tip_ridge: f64,
    /// Share of decisions taken uniformly at the start. It falls with the rewards learned …
    pub floor_start: f64,
    /// … down to this.
    pub floor: f64,
    /// How many tips of a group may have an effect of their own; further ones get their group's score.
    pub tips_per_group: usize,
    /// How sharply SquareCB prefers the best: γ is this times the root of the rewards learned.
    pub gamma: f64,
    /// Rewards after which what the pool knows of its members' errors has lost half its weight.
    pub half_life: f64,
    /// Seed of the posterior draws and of the pool's random features.
    pub seed: u64,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        PolicyConfig {
            name: PolicyName::Pool,
            width: 0.2,
            ridge: 1.0,
            tip_ridge: 4.0,
            floor_start: 0.002,
            floor: 0.001,
            tips_per_group: 64,
            gamma: 20.0,
            half_life: 600.0,
            seed: 0,
        }
    }
}

impl PolicyConfig {
    /// Share of decisions taken uniformly after `learned` rewards.
    pub fn floor_after(&self, learned: u64) -> f64 {
        let falling = self.floor_start / (1.0 + learned as f64 / 100.0);
        falling.max(self.floor).clamp(0.0, 1.0)
    }
}

/// The policies there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PolicyName {
    /// Every candidate alike; learns nothing.
    Uniform,
    /// The best by a linear model, but for a share of uniform choices.
    Epsilon,
    /// Likelier the better by a linear model, by the exponential of the score.
    Softmax,
    /// Upper confidence bounds of a linear model a group, hybrid with each tip's own effect.
    LinUcb,
    /// Upper confidence bounds of a linear model a tip.
    LinUcbDisjoint,
    /// Upper confidence bounds of one linear model over context, action features and their products.
    LinUcbShared,
    /// Linear Thompson sampling.
    LinTs,
    /// Logistic Thompson sampling.
    Logistic,
    /// Inverse-gap sampling.
    SquareCb,
    /// Several models on one log, weighed by how well they predict.
    Pool,
}

impl PolicyName {
    /// Every policy.
    pub const ALL: [PolicyName; 10] = [
        PolicyName::Pool,
        PolicyName::LinUcb,
        PolicyName::LinUcbDisjoint,
        PolicyName::LinUcbShared,
        PolicyName::LinTs,
        PolicyName::Logistic,
        PolicyName::SquareCb,
        PolicyName::Softmax,
        PolicyName::Epsilon,
        PolicyName::Uniform,
    ];

    /// The word for it in settings and records.
    pub fn word(self) -> &'static str {
        match self {
            PolicyName::Uniform => "uniform",
            PolicyName::Epsilon => "epsilon",
            PolicyName::Softmax => "softmax",
            PolicyName::LinUcb => "linucb",
            PolicyName::LinUcbDisjoint => "linucb_disjoint",
            PolicyName::LinUcbShared => "linucb_shared",
            PolicyName::LinTs => "lints",
            PolicyName::Logistic => "logistic",
            PolicyName::SquareCb => "squarecb",
            PolicyName::Pool => "pool",
        }
    }
}

impl std::fmt::Display for PolicyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

impl std::str::FromStr for PolicyName {
    type Err = crate::ScorerError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        PolicyName::ALL.into_iter().find(|p| p.word() == word).ok_or_else(|| {
            let known = PolicyName::ALL.map(PolicyName::word).join(", ");
            let word: String = word.chars().take(40).collect();
            crate::ScorerError::Invalid(format!("`{word}` is no policy; there are {known}"))
        })
    }
}

impl TryFrom<String> for PolicyName {
    type Error = crate::ScorerError;

    fn try_from(word: String) -> Result<Self, Self::Error> {
        word.parse()
    }
}

impl From<PolicyName> for String {
    fn from(name: PolicyName) -> String {
        name.word().to_owned()
    }
}
