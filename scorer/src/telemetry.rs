//! Names of the metrics of this crate.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Tips chosen, by `policy`.
pub const DECISIONS: &str = "kairos_scorer_decisions_total";
/// Requests answered with silence, by `reason`.
pub const SILENCES: &str = "kairos_scorer_silences_total";
/// Seconds from request to decision, features included.
pub const DECISION_SECONDS: &str = "kairos_scorer_decision_seconds";
/// Tips a decision could choose from.
pub const CANDIDATES: &str = "kairos_scorer_candidates";
/// Reactions taken, by `reaction`.
pub const REACTIONS: &str = "kairos_scorer_reactions_total";
/// Rewards joined, by `policy` and `outcome`.
pub const REWARDS: &str = "kairos_scorer_rewards_total";
/// Sum of rewards, by `policy`.
pub const REWARD_SUM: &str = "kairos_scorer_reward_sum";
/// Impressions whose window is still open.
pub const OPEN_IMPRESSIONS: &str = "kairos_scorer_open_impressions";
/// Rewards the learner could not learn from, because they were seen through another context.
pub const REWARDS_FOREIGN: &str = "kairos_scorer_rewards_foreign_total";
/// Rewards in the log that the policy has not learned yet.
pub const LEARNER_LAG: &str = "kairos_scorer_learner_lag";
/// Rewards the published policy rests on, by `policy`.
pub const POLICY_VERSION: &str = "kairos_scorer_policy_version";
/// Snapshots written to the log.
pub const SNAPSHOTS: &str = "kairos_scorer_snapshots_total";

/// Describes these metrics to the installed recorder.
pub fn describe() {
    describe_counter!(DECISIONS, Unit::Count, "Tips chosen, by policy");
    describe_counter!(SILENCES, Unit::Count, "Requests answered with silence, by reason");
    describe_histogram!(DECISION_SECONDS, Unit::Seconds, "From request to decision, features included");
    describe_histogram!(CANDIDATES, Unit::Count, "Tips a decision could choose from");
    describe_counter!(REACTIONS, Unit::Count, "Reactions taken, by reaction");
    describe_counter!(REWARDS, Unit::Count, "Rewards joined, by policy and outcome");
    describe_gauge!(REWARD_SUM, Unit::Count, "Sum of rewards, by policy");
    describe_gauge!(OPEN_IMPRESSIONS, Unit::Count, "Impressions whose window is still open");
    describe_counter!(REWARDS_FOREIGN, Unit::Count, "Rewards seen through another context, not learned");
    describe_gauge!(LEARNER_LAG, Unit::Count, "Rewards in the log that the policy has not learned yet");
    describe_gauge!(POLICY_VERSION, Unit::Count, "Rewards the published policy rests on, by policy");
    describe_counter!(SNAPSHOTS, Unit::Count, "Snapshots written to the log");
}
