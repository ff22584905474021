//! From reactions to a better policy.
//!
//! ```text
//! signals ──▶ Joiner ──▶ rewards ──▶ Learning ──▶ policies
//!             impression + reaction   in log order    snapshots, which one serves
//! ```
//!
//! Both are consumers of the log and nothing else, so what a policy knows is a function of the log: the
//! joiner's output of the signals alone, the policy of the order of the rewards.
//!
//! | module | what |
//! |---|---|
//! | [`join`](Join), [`joiner`](Joiner) | rewards from impressions and reactions |
//! | [`learner`](Learner) | one policy and its snapshots |
//! | [`learning`](Learning), [`steering`](Steering) | the policy that serves and its shadow; promotion, return |
//! | [`registry`] | every snapshot in the log, and which policy serves |
//! | [`identity`](StateId) | names of policies and of their states |
//! | [`replay`] | distributions of long ago, computed again |

mod identity;
mod join;
mod joiner;
mod learner;
mod learning;
pub mod registry;
pub mod replay;
mod scoreboard;
mod steering;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::{
    identity::{StateId, config_id},
    join::{Join, Settled},
    joiner::Joiner,
    learner::{GoOn, Learner},
    learning::{Learning, Roles},
    scoreboard::{Score, Scoreboard},
    steering::Steering,
};
use crate::{
    context::{ContextConfig, Layout},
    record::ReactionKind,
};

/// What every learner of a process is told beside its policy.
#[derive(Debug, Clone)]
pub struct Brief {
    /// When to save.
    pub learn: LearnConfig,
    /// What the layout is made of.
    pub context: ContextConfig,
    /// How contexts become inputs.
    pub layout: Arc<Layout>,
    /// The categories known beforehand.
    pub groups: Vec<String>,
    /// Version of the program, for the registry.
    pub code: String,
    /// `view@version` of each feature view that the context reads, for the registry.
    pub views: Vec<String>,
}

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
