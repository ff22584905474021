use serde::{Deserialize, Serialize};

use crate::{
    ScorerError,
    context::ContextConfig,
    experiment::ExperimentConfig,
    learn::{LearnConfig, config_id},
    policy::PolicyConfig,
    rules::Rules,
};

/// All settings of the scorer; the section `scorer` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScorerConfig {
    /// Who chooses.
    pub policy: PolicyConfig,
    /// Who runs beside it on the same decisions, learning from the same rewards, without being shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<PolicyConfig>,
    /// Shows the shadow's choice to some people after all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ExperimentConfig>,
    /// What a shadow must show before it is promoted.
    pub promotion: PromotionConfig,
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
            shadow: None,
            experiment: None,
            promotion: PromotionConfig::default(),
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
        check_policy("scorer.policy", &self.policy)?;
        if let Some(shadow) = &self.shadow {
            check_policy("scorer.shadow", shadow)?;
            if config_id(shadow) == config_id(&self.policy) {
                let text = "scorer.shadow is the same policy as scorer.policy; change one of its settings, or \
                            leave it out";
                return Err(ScorerError::Config(text.into()));
            }
        }
        if let Some(experiment) = &self.experiment {
            experiment.check()?;
            if self.shadow.is_none() {
                let text = "scorer.experiment shows the shadow's choices, and there is no scorer.shadow; \
                            configure one, or leave the experiment out";
                return Err(ScorerError::Config(text.into()));
            }
        }
        self.promotion.check()?;
        positive("scorer.learn.window_minutes", self.learn.window_minutes)?;
        let rewards = self.learn.rewards;
        for (name, value) in [
            ("scorer.control_share", self.control_share),
            ("scorer.learn.rewards.accepted", rewards.accepted),
            ("scorer.learn.rewards.done", rewards.done),
            ("scorer.learn.rewards.snoozed", rewards.snoozed),
            ("scorer.learn.rewards.dismissed", rewards.dismissed),
            ("scorer.learn.rewards.muted", rewards.muted),
            ("scorer.learn.rewards.ignored", rewards.ignored),
        ] {
            share(name, value)?;
        }
        Ok(())
    }
}

fn check_policy(section: &str, p: &PolicyConfig) -> Result<(), ScorerError> {
    positive(&format!("{section}.width"), p.width)?;
    positive(&format!("{section}.ridge"), p.ridge)?;
    positive(&format!("{section}.tip_ridge"), p.tip_ridge)?;
    positive(&format!("{section}.gamma"), p.gamma)?;
    positive(&format!("{section}.half_life"), p.half_life)?;
    share(&format!("{section}.floor_start"), p.floor_start)?;
    share(&format!("{section}.floor"), p.floor)?;
    if p.floor == 0.0 {
        return Err(ScorerError::Config(format!(
            "{section}.floor is 0; it must be above, for a tip that can never be shown cannot be judged from \
             the log"
        )));
    }
    Ok(())
}

fn positive(name: &str, value: f64) -> Result<(), ScorerError> {
    match value.is_finite() && value > 0.0 {
        true => Ok(()),
        false => Err(ScorerError::Config(format!("{name} is {value}; it must be a number above 0"))),
    }
}

fn share(name: &str, value: f64) -> Result<(), ScorerError> {
    match (0.0..=1.0).contains(&value) {
        true => Ok(()),
        false => Err(ScorerError::Config(format!("{name} is {value}; it must be from 0 to 1"))),
    }
}

/// What a shadow must show before `kairos policy promote` lets it serve; the section `scorer.promotion`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromotionConfig {
    /// Settled decisions of the incumbent with a record of the shadow, at least.
    pub decisions: u64,
    /// The most of them, the newest ones, that are looked at.
    pub at_most: u64,
    /// Decisions of the shadow itself that tell as much as the log does, at least (Kish's effective sample).
    pub effective_decisions: f64,
    /// Share of all weight that one decision may have, at most.
    pub largest_share: f64,
    /// Chance, 0 to 1, that the interval may be wrong at any time.
    pub error: f64,
    /// Records of the shadow computed again from its snapshots; each must come out the same to the bit.
    pub recomputed: usize,
}

impl Default for PromotionConfig {
    fn default() -> Self {
        PromotionConfig {
            decisions: 1_000,
            at_most: 200_000,
            effective_decisions: 200.0,
            largest_share: 0.05,
            error: 0.05,
            recomputed: 20,
        }
    }
}

impl PromotionConfig {
    fn check(&self) -> Result<(), ScorerError> {
        for (name, value) in [
            ("scorer.promotion.decisions", self.decisions as f64),
            ("scorer.promotion.at_most", self.at_most as f64),
            ("scorer.promotion.effective_decisions", self.effective_decisions),
            ("scorer.promotion.largest_share", self.largest_share),
            ("scorer.promotion.error", self.error),
            ("scorer.promotion.recomputed", self.recomputed as f64),
        ] {
            positive(name, value)?;
        }
        share("scorer.promotion.largest_share", self.largest_share)?;
        share("scorer.promotion.error", self.error)
    }
}
