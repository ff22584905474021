//! Off-policy evaluation: what another policy would have earned, told from the decisions that were logged.
//!
//! Every impression in the log has its candidates and the probability of each. Weighing a logged reward by
//! `w = π(tip) / p(tip)`, the target's probability of the tip shown over the logged one, makes the logged
//! decisions stand for the target's:
//!
//! | estimate | formula | property |
//! |---|---|---|
//! | IPS (Horvitz and Thompson, 1952) | `Σ w·r / n` | unbiased wherever the log supports the target; may leave 0 to 1 |
//! | SNIPS (Swaminathan and Joachims, 2015) | `Σ w·r / Σ w` | slightly biased, much steadier, stays within the rewards |
//!
//! Two 95 % intervals come with each. The *normal* one takes decisions as independent. The *bootstrap* one
//! (Efron, 1979, percentiles) draws whole people, so it also holds where the decisions of one person
//! resemble each other; with fewer than some twenty people it is too narrow. Where the two disagree, believe
//! the wider.
//!
//! An estimate is worth as much as the log supports it, so each says how: the effective sample size
//! `(Σ w)² / Σ w²` (Kish, 1965), the largest weight, the mean weight (1 is expected; far from it the logged
//! probabilities are wrong), and the share of the target's choices that the log could have made at all.
//!
//! | module | what |
//! |---|---|
//! | [`logged`] | decisions with what came of them, read from the log |
//! | [`target`] | the policies to judge |
//! | [`estimate`] | the statistics |

pub mod estimate;
pub mod logged;
mod report;
pub mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ingest::{
    Millis,
    log::{Log, LogError},
};
use rand::RngCore;
use serde::Serialize;

pub use self::{
    estimate::{Estimate, Figure, Interval},
    logged::{Candidate, LeftOut, LoggedDecision},
    target::Target,
};
use estimate::Sums;

/// How an evaluation is made.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Decisions younger than this, seen from the newest reward, are left out: until a reward's window is
    /// over, reactions are known and silences are not, which would flatter every tip.
    pub window: Millis,
    /// Samples of the bootstrap.
    pub resamples: u32,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Decisions judged.
    pub decisions: u64,
    /// When the first of them was shown, in milliseconds since the epoch.
    pub from: Option<Millis>,
    /// When the last of them was shown.
    pub to: Option<Millis>,
    /// What the log holds but no estimate rests on.
    pub left_out: LeftOut,
    /// One for each target and logging policy, and for all logging policies together where there are
    /// several.
    pub estimates: Vec<Estimate>,
}

/// Name under which the decisions of all logging policies are taken together.
pub const ALL: &str = "all";

/// Reads the decisions of a log, which may be open for reading only, and judges what the logging policies,
/// a uniform choice, and the logging policies without their exploration would earn.
///
/// # Errors
/// What the log says when it cannot be read.
pub fn evaluate_log(log: &dyn Log, options: &Options, rng: &mut dyn RngCore) -> Result<Evaluation, LogError> {
    let targets = [Target::as_logged(), Target::uniform(), Target::most_likely()];
    let mut evaluator = Evaluator::new(&targets);
    let left_out = logged::each_decision(log, options.window, |decision| evaluator.add(&decision))?;
    let mut evaluation = evaluator.finish(options.resamples, rng);
    evaluation.left_out = LeftOut { unusable: evaluation.left_out.unusable, ..left_out };
    Ok(evaluation)
}

/// Judges targets by decisions from anywhere.
pub fn evaluate(
    decisions: impl IntoIterator<Item = LoggedDecision>,
    targets: &[Target<'_>],
    resamples: u32,
    rng: &mut dyn RngCore,
) -> Evaluation {
    let mut evaluator = Evaluator::new(targets);
    decisions.into_iter().for_each(|decision| evaluator.add(&decision));
    evaluator.finish(resamples, rng)
}

/// Takes decisions one by one, and keeps sums of them only.
pub struct Evaluator<'a> {
    targets: &'a [Target<'a>],
    /// For each target, by logging policy.
    sums: Vec<BTreeMap<String, Sums>>,
    decisions: u64,
    span: Option<(Millis, Millis)>,
    unusable: u64,
}

impl<'a> Evaluator<'a> {
    /// Nothing seen yet.
    pub fn new(targets: &'a [Target<'a>]) -> Evaluator<'a> {
        let sums = targets.iter().map(|_| BTreeMap::new()).collect();
        Evaluator { targets, sums, decisions: 0, span: None, unusable: 0 }
    }

    /// Adds a decision; one whose record contradicts itself is counted and left out.
    pub fn add(&mut self, decision: &LoggedDecision) {
        let Some(chosen) = decision.chosen() else {
            self.unusable += 1;
            return;
        };
        self.decisions += 1;
        let at = decision.shown_at;
        self.span = Some(self.span.map_or((at, at), |(from, to)| (from.min(at), to.max(at))));
        for (target, by_policy) in self.targets.iter().zip(&mut self.sums) {
            let wanted = target.probabilities(decision);
            for policy in [decision.policy.as_str(), ALL] {
                if !by_policy.contains_key(policy) {
                    by_policy.insert(policy.to_owned(), Sums::default());
                }
                if let Some(sums) = by_policy.get_mut(policy) {
                    sums.add(decision, chosen, wanted.as_deref());
                }
            }
        }
    }

    /// The estimates.
    pub fn finish(self, resamples: u32, rng: &mut dyn RngCore) -> Evaluation {
        let mut estimates = Vec::new();
        for (target, by_policy) in self.targets.iter().zip(self.sums) {
            // With one logging policy, all together is that one again.
            let one = by_policy.len() == 2;
            for (policy, sums) in by_policy {
                if !(one && policy == ALL) {
                    estimates.push(sums.estimate(target.name(), &policy, resamples, rng));
                }
            }
        }
        Evaluation {
            decisions: self.decisions,
            from: self.span.map(|(from, _)| from),
            to: self.span.map(|(_, to)| to),
            left_out: LeftOut { unusable: self.unusable, ..LeftOut::default() },
            estimates,
        }
    }
}
