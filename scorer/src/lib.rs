//! Chooses one tip for one person, and learns from the reaction.
//!
//! [`Scorer::recommend`](decide::Scorer::recommend) reads the person's features, gathers the tips that apply,
//! lets the policy choose one with a known probability, and sends the impression to the log.
//! [`Scorer::feedback`](decide::Scorer::feedback) takes the reaction. Two consumers of the log close the
//! circle: [`learn::Joiner`] makes rewards of impressions and reactions, [`learn::Learning`] teaches the policy
//! that serves and its shadow, and publishes both. Nothing here reads the clock or makes its own random numbers.
//!
//! | module | what |
//! |---|---|
//! | [`tips`], [`predicate`], [`why`] | the catalogue: what can be said, when it applies, why it comes |
//! | [`context`] | features and the moment as a policy's inputs |
//! | [`rules`], [`memory`] | when to be silent, what to leave out; what was shown lately |
//! | [`policy`] | who chooses: the pool of models, LinUCB, Thompson sampling, SquareCB and others |
//! | [`decide`], [`feedback`] | the decision, the reaction |
//! | [`bandit`] | the same policies for any program: named values, JSON lines |
//! | [`experiment`] | who gets whose tips |
//! | [`learn`] | rewards, learning, snapshots, the registry of policies |
//! | [`explain`] | a past decision, told from its record |
//! | [`record`] | what is written to the log |
//! | [`telemetry`] | names of the metrics |

pub mod bandit;
mod config;
pub mod context;
pub mod decide;
mod error;
pub mod experiment;
pub mod explain;
pub mod feedback;
pub mod learn;
pub mod memory;
pub mod policy;
pub mod predicate;
pub mod record;
pub mod rules;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod tips;
pub mod why;

pub use config::{PromotionConfig, ScorerConfig};
pub use decide::{Answer, Decision, Scorer};
pub use error::ScorerError;
