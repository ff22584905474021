use serde::{Deserialize, Serialize};

use crate::{ScorerError, context::ContextConfig, learn::LearnConfig, policy::PolicyConfig, rules::Rules};

/// All settings of the scorer; the section `scorer` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScorerConfig {
    /// Who chooses.
    pub policy: PolicyConfig,
    /// By what.
    pub context: ContextConfig,
    /// When not.
    pub rules: Rules,
    /// How reactions become rewards.
    pub learn: LearnConfig,
    /// Share of people, 0 to 1, whose tips are chosen uniformly, to compare the policy with. Who they are
    /// depends on their ids alone.
    pub control_share: f64,
    /// Impressions kept in memory for reactions and fatigue.
    pub remembered_impressions: usize,
}

impl Default for ScorerConfig {
    fn default() -> Self {
        ScorerConfig {
            policy: PolicyConfig::default(),
            context: ContextConfig::default(),
            rules: Rules::default(),
            learn: LearnConfig::default(),
            control_share: 0.0,
            remembered_impressions: 200_000,
        }
    }
}

impl ScorerConfig {
    /// Whether every number makes sense; the error names the setting and what would be right.
    pub fn check(&self) -> Result<(), ScorerError> {
        let p = &self.policy;
        let positive = [
            ("scorer.policy.width", p.width),
            ("scorer.policy.ridge", p.ridge),
            ("scorer.policy.tip_ridge", p.tip_ridge),
            ("scorer.learn.window_minutes", self.learn.window_minutes),
        ];
        for (name, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(ScorerError::Config(format!("{name} is {value}; it must be a number above 0")));
            }
        }
        let rewards = self.learn.rewards;
        let shares = [
            ("scorer.control_share", self.control_share),
            ("scorer.policy.floor", p.floor),
            ("scorer.policy.floor_start", p.floor_start),
            ("scorer.learn.rewards.accepted", rewards.accepted),
            ("scorer.learn.rewards.done", rewards.done),
            ("scorer.learn.rewards.snoozed", rewards.snoozed),
            ("scorer.learn.rewards.dismissed", rewards.dismissed),
            ("scorer.learn.rewards.muted", rewards.muted),
            ("scorer.learn.rewards.ignored", rewards.ignored),
        ];
        for (name, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return Err(ScorerError::Config(format!("{name} is {value}; it must be from 0 to 1")));
            }
        }
        if p.floor == 0.0 {
            let text = "scorer.policy.floor is 0; it must be above, for a tip that can never be shown cannot \
                        be judged from the log";
            return Err(ScorerError::Config(text.into()));
        }
        Ok(())
    }
}
