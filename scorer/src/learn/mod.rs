//! From reactions to a better policy.
//!
//! ```text
//! signals ──▶ Joiner ──▶ rewards ──▶ Learner ──▶ policies
//!             impression + reaction   in log order   snapshots
//! ```
//!
//! Both are consumers of the log and nothing else, so what a policy knows is a function of the log: the
//! joiner's output of the signals alone, the policy of the order of the rewards.

mod join;
mod joiner;
mod learner;

use serde::{Deserialize, Serialize};

pub use self::{
    join::{Join, Settled},
    joiner::Joiner,
    learner::{Learner, Score, Scoreboard},
};
use crate::record::ReactionKind;

/// How reactions become rewards, and how often the policy is saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearnConfig {
    /// A reaction counts for an impression when it arrives within this span; then the impression is ignored.
    pub window_minutes: f64,
    /// How long after the window an impression waits for records that were on their way, in seconds.
    pub grace_seconds: f64,
    /// What reactions are worth.
    pub rewards: RewardTable,
    /// A snapshot goes to the log after this many rewards …
    pub snapshot_rewards: u64,
    /// … or after this many minutes in which there were any.
    pub snapshot_minutes: f64,
}

impl Default for LearnConfig {
    fn default() -> Self {
        LearnConfig {
            window_minutes: 30.0,
            grace_seconds: 5.0,
            rewards: RewardTable::default(),
            snapshot_rewards: 5000,
            snapshot_minutes: 10.0,
        }
    }
}

/// What each outcome is worth, 0 to 1.
///
/// | outcome | worth | settles |
/// |---|---|---|
/// | accepted | 1 | at once |
/// | done | 1 | at once |
/// | dismissed | 0 | at once |
/// | muted | 0 | at once |
/// | snoozed | 0.3 | when another reaction settles, or when the window ends |
/// | ignored | 0 | when the window ends without a reaction |
///
/// With several reactions to one impression the first that settles decides; a snooze only counts when no
/// other reaction follows within the window. A reward once settled never changes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardTable {
    /// Liked, or will do it.
    pub accepted: f64,
    /// Did it.
    pub done: f64,
    /// Later.
    pub snoozed: f64,
    /// Not this one.
    pub dismissed: f64,
    /// Never again.
    pub muted: f64,
    /// No reaction.
    pub ignored: f64,
}

impl Default for RewardTable {
    fn default() -> Self {
        RewardTable { accepted: 1.0, done: 1.0, snoozed: 0.3, dismissed: 0.0, muted: 0.0, ignored: 0.0 }
    }
}

impl RewardTable {
    /// The worth of a reaction; `None` for none.
    pub fn of(&self, reaction: Option<ReactionKind>) -> f64 {
        match reaction {
            Some(ReactionKind::Accepted) => self.accepted,
            Some(ReactionKind::Done) => self.done,
            Some(ReactionKind::Snoozed) => self.snoozed,
            Some(ReactionKind::Dismissed) => self.dismissed,
            Some(ReactionKind::Muted) => self.muted,
            None => self.ignored,
        }
    }
}

/// Name of the outcome without a reaction.
pub const IGNORED: &str = "ignored";

/// How long a consumer waits before it tries again what the log did not do.
const RETRY: std::time::Duration = std::time::Duration::from_millis(500);
/// Records read at once.
const BATCH: usize = 1024;
