//! What the tips of each policy earned.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::Serialize;

use crate::{record::Reward, telemetry};

/// Rewards by policy.
#[derive(Default)]
pub struct Scoreboard(Mutex<BTreeMap<String, Score>>);

/// What one policy's tips earned.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Score {
    /// Settled impressions.
    pub rewards: u64,
    /// Sum of their rewards.
    pub sum: f64,
    /// How many were accepted or done.
    pub accepted: u64,
}

impl Scoreboard {
    pub(super) fn count(&self, reward: &Reward) {
        let mut scores = self.0.lock();
        let score = scores.entry(reward.policy.clone()).or_default();
        score.rewards += 1;
        score.sum += reward.reward;
        score.accepted += u64::from(matches!(reward.outcome.as_str(), "accepted" | "done"));
        let (policy, outcome) = (reward.policy.clone(), reward.outcome.clone());
        metrics::gauge!(telemetry::REWARD_SUM, "policy" => policy.clone()).set(score.sum);
        metrics::counter!(telemetry::REWARDS, "policy" => policy, "outcome" => outcome).increment(1);
    }

    /// By name of the policy.
    pub fn totals(&self) -> BTreeMap<String, Score> {
        self.0.lock().clone()
    }
}
