//! What the scorer writes to the log, as protobuf messages.
//!
//! [`Impression`] and [`Reaction`] are the declared types of `ingest/signals/kairos.proto`, field by field;
//! [`Reward`], [`SavedPolicy`] and [`Serving`] are this crate's own and live in topics of their own.

mod policy;

use std::{fmt, str::FromStr};

use ingest::{Millis, record::idempotency_key};
use prost::Message;
use serde::{Deserialize, Serialize};

pub use self::policy::{SavedPart, SavedPolicy, ServedPolicy, Serving, Taught};
use crate::ScorerError;

/// Declared type of [`Impression`].
pub const IMPRESSION: &str = "impression";
/// Declared type of [`Reaction`].
pub const REACTION: &str = "reaction";
/// Who reports impressions.
pub const IMPRESSION_SOURCE: &str = "kairos/scorer";
/// Who reports reactions.
pub const REACTION_SOURCE: &str = "kairos/feedback";

/// A tip was shown.
#[derive(Clone, PartialEq, Message)]
pub struct Impression {
    /// Id of the tip.
    #[prost(string, optional, tag = "1")]
    pub tip: Option<String>,
    /// Its category.
    #[prost(string, optional, tag = "2")]
    pub category: Option<String>,
    /// Where it was shown.
    #[prost(string, optional, tag = "3")]
    pub channel: Option<String>,
    /// Name of the policy that chose it.
    #[prost(string, optional, tag = "4")]
    pub policy: Option<String>,
    /// How many rewards that policy had learned.
    #[prost(string, optional, tag = "5")]
    pub policy_version: Option<String>,
    /// Probability with which it was chosen.
    #[prost(double, optional, tag = "6")]
    pub propensity: Option<f64>,
    /// The random number behind the choice.
    #[prost(double, optional, tag = "7")]
    pub draw: Option<f64>,
    /// Names of the context's values.
    #[prost(string, repeated, tag = "8")]
    pub context_names: Vec<String>,
    /// The context as read, NaN where there was no value.
    #[prost(double, repeated, tag = "9")]
    pub context: Vec<f64>,
    /// Every tip that could have been chosen, in the order in which the draw walked them.
    #[prost(message, repeated, tag = "10")]
    pub candidates: Vec<Candidate>,
    /// What the context rests on.
    #[prost(message, repeated, tag = "11")]
    pub parts: Vec<Part>,
    /// The instant the context holds for.
    #[prost(message, optional, tag = "12")]
    pub as_of: Option<prost_types::Timestamp>,
    /// What the policy beside the one that chose made of the same candidates.
    #[prost(message, optional, tag = "13")]
    pub shadow: Option<Shadow>,
    /// On which side of which experiment the person is.
    #[prost(message, optional, tag = "14")]
    pub experiment: Option<Experiment>,
    /// The policy's state: see [`crate::learn::StateId`].
    #[prost(string, optional, tag = "15")]
    pub policy_state: Option<String>,
}

/// A tip that could have been chosen.
#[derive(Clone, PartialEq, Message)]
pub struct Candidate {
    /// Id of the tip.
    #[prost(string, optional, tag = "1")]
    pub tip: Option<String>,
    /// The policy's score of it.
    #[prost(double, optional, tag = "2")]
    pub score: Option<f64>,
    /// Probability of choosing it.
    #[prost(double, optional, tag = "3")]
    pub propensity: Option<f64>,
    /// The tip's category.
    #[prost(string, optional, tag = "4")]
    pub category: Option<String>,
    /// The effort it asks for, in minutes.
    #[prost(double, optional, tag = "5")]
    pub effort: Option<f64>,
}

/// What a policy that ran beside the one that chose would have done. Nobody was shown it.
#[derive(Clone, PartialEq, Message)]
pub struct Shadow {
    /// Its name.
    #[prost(string, optional, tag = "1")]
    pub policy: Option<String>,
    /// How many rewards it had learned.
    #[prost(string, optional, tag = "2")]
    pub policy_version: Option<String>,
    /// The tip it would have chosen.
    #[prost(string, optional, tag = "3")]
    pub tip: Option<String>,
    /// Its probability of that tip.
    #[prost(double, optional, tag = "4")]
    pub propensity: Option<f64>,
    /// Its probability of each candidate, in the order of the impression's candidates.
    #[prost(double, repeated, tag = "5")]
    pub propensities: Vec<f64>,
    /// The random number behind its choice.
    #[prost(double, optional, tag = "6")]
    pub draw: Option<f64>,
    /// Its state: see [`crate::learn::StateId`].
    #[prost(string, optional, tag = "7")]
    pub policy_state: Option<String>,
}

/// The side of an experiment on which a person is.
#[derive(Clone, PartialEq, Message)]
pub struct Experiment {
    /// Name of the experiment.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// `incumbent`, `challenger` or `control`.
    #[prost(string, optional, tag = "2")]
    pub arm: Option<String>,
}

/// What the values of one view rest on.
#[derive(Clone, PartialEq, Message)]
pub struct Part {
    /// Name of the view.
    #[prost(string, optional, tag = "1")]
    pub view: Option<String>,
    /// Hash of its definition.
    #[prost(string, optional, tag = "2")]
    pub version: Option<String>,
    /// Log position.
    #[prost(string, optional, tag = "3")]
    pub position: Option<String>,
}

/// A person reacted to a tip.
#[derive(Clone, PartialEq, Message)]
pub struct Reaction {
    /// Id of the impression.
    #[prost(string, optional, tag = "1")]
    pub impression: Option<String>,
    /// Id of the tip.
    #[prost(string, optional, tag = "2")]
    pub tip: Option<String>,
    /// Its category.
    #[prost(string, optional, tag = "3")]
    pub category: Option<String>,
    /// A [`ReactionKind`].
    #[prost(string, optional, tag = "4")]
    pub reaction: Option<String>,
    /// Where it came from.
    #[prost(string, optional, tag = "5")]
    pub channel: Option<String>,
}

/// What an impression was worth, with all that a policy needs to learn from it.
#[derive(Clone, PartialEq, Message)]
pub struct Reward {
    /// Id of the impression; its idempotency key is made of it, so there is one reward for each.
    #[prost(string, tag = "1")]
    pub impression: String,
    /// Id of the tip.
    #[prost(string, tag = "2")]
    pub tip: String,
    /// Its category.
    #[prost(string, tag = "3")]
    pub category: String,
    /// 0 to 1.
    #[prost(double, tag = "4")]
    pub reward: f64,
    /// A [`ReactionKind`] or `ignored`.
    #[prost(string, tag = "5")]
    pub outcome: String,
    /// Probability with which the tip was chosen.
    #[prost(double, tag = "6")]
    pub propensity: f64,
    /// Who chose it.
    #[prost(string, tag = "7")]
    pub policy: String,
    /// The policy's version.
    #[prost(string, tag = "8")]
    pub policy_version: String,
    /// [`names_hash`] of the context's names.
    #[prost(fixed64, tag = "9")]
    pub names: u64,
    /// The context as the impression has it.
    #[prost(double, repeated, tag = "10")]
    pub context: Vec<f64>,
    /// When the tip was shown.
    #[prost(int64, tag = "11")]
    pub shown_at: Millis,
    /// When the reward was settled, by the log's time.
    #[prost(int64, tag = "12")]
    pub settled_at: Millis,
}

impl Reward {
    /// Idempotency key of the reward of an impression.
    pub fn key(impression: &str) -> u128 {
        idempotency_key("kairos/reward", impression)
    }
}

/// Identifies a list of names.
pub fn names_hash<S: AsRef<str>>(names: &[S]) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for name in names {
        hash.update(name.as_ref().as_bytes());
        hash.update(b"\n");
    }
    hash.digest()
}

/// How a person may react to a tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReactionKind {
    /// Liked it, or will do it.
    Accepted,
    /// Not this one, not now.
    Dismissed,
    /// Later.
    Snoozed,
    /// Did it.
    Done,
    /// Never again.
    Muted,
}

impl ReactionKind {
    /// Every reaction.
    pub const ALL: [ReactionKind; 5] = [
        ReactionKind::Accepted,
        ReactionKind::Dismissed,
        ReactionKind::Snoozed,
        ReactionKind::Done,
        ReactionKind::Muted,
    ];

    /// The word for it in requests and records.
    pub fn name(self) -> &'static str {
        match self {
            ReactionKind::Accepted => "accepted",
            ReactionKind::Dismissed => "dismissed",
            ReactionKind::Snoozed => "snoozed",
            ReactionKind::Done => "done",
            ReactionKind::Muted => "muted",
        }
    }
}

impl fmt::Display for ReactionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ReactionKind {
    type Err = ScorerError;

    fn from_str(word: &str) -> Result<Self, ScorerError> {
        ReactionKind::ALL.into_iter().find(|r| r.name() == word).ok_or_else(|| {
            let word: String = word.chars().take(40).collect();
            ScorerError::Invalid(format!(
                "`{word}` is no reaction; use accepted, dismissed, snoozed, done or muted"
            ))
        })
    }
}

#[cfg(test)]
mod tests;
