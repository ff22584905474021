//! Off-policy evaluation: what another policy would have earned, told from decisions that were logged.
//!
//! A logged decision has its action, the probability `p` with which the logging policy took it, and a reward
//! `r`. Weighing the reward by `w = π(action) / p`, the target's probability over the logged one, makes the
//! logged decisions stand for the target's. A reward model, learned from the log, can stand in for what was
//! never tried; the doubly robust estimators put both together, and are right when either is.
//!
//! [`Estimator`] lists the estimators with their sources, [`Interval`]s come in three kinds
//! ([`interval`]), [`Diagnostics`] tells how far the log supports an answer at all. Decisions come from the
//! log of Kairos ([`evaluate_log`], [`evaluate`]) or from a file of anybody's ([`file`]).
//!
//! | module | what |
//! |---|---|
//! | [`logged`] | decisions with what came of them, read from the log |
//! | [`target`] | the policies to judge by them |
//! | `decisions` | the decisions weighed, target by target |
//! | [`file`] | any logged data: JSONL, CSV, Parquet |
//! | `estimators`, `interval`, `bootstrap` | the statistics |
//! | `encode`, `model`, `learned` | the reward models |
//! | `diagnostics`, `frequency`, `charts`, `report` | what is told beside the estimates |

mod bootstrap;
mod charts;
mod decisions;
mod diagnostics;
mod encode;
mod estimators;
pub mod file;
mod frequency;
mod interval;
mod learned;
pub mod logged;
mod model;
mod report;
pub mod sequential;
pub mod target;
#[cfg(test)]
mod tests;

use ingest::{
    Millis,
    log::{Log, LogError},
};
use rand::RngCore;
use serde::Serialize;

pub use self::{
    charts::{Charts, Histogram, Running},
    diagnostics::{Diagnostics, Warning},
    estimators::{Estimate, Estimator, Gain, Thresholds},
    frequency::Frequency,
    interval::Interval,
    logged::{Candidate, LeftOut, LoggedDecision},
    target::Target,
};
use self::{decisions::Evaluator, diagnostics::Known, estimators::Row, learned::Survey};

/// How an evaluation is made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Options {
    /// Decisions of Kairos's log that are younger than this, seen from the newest reward, are left out: until
    /// a reward's window is over, reactions are known and silences are not, which would flatter every tip.
    pub window: Millis,
    /// Samples of the bootstrap.
    pub resamples: u32,
    /// Folds of the cross-fitting, at least 2.
    pub folds: u32,
    /// Where weights are cut.
    pub thresholds: Thresholds,
}

impl Default for Options {
    fn default() -> Self {
        Options { window: 0, resamples: 1_000, folds: 5, thresholds: Thresholds::default() }
    }
}

/// A target judged by the decisions of one logging policy or of all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// The policy judged.
    pub target: String,
    /// Whose decisions it is judged by.
    pub logged_by: String,
    /// How many there are.
    pub rows: u64,
    /// Of how many people; rows, where people are not told apart.
    pub people: u64,
    /// Decisions left out because the target answered with no distribution over the candidates.
    pub unanswered: u64,
    /// In the order of [`Estimator::ALL`].
    pub estimates: Vec<Estimate>,
    /// What the target earns beyond what was earned.
    pub gain: Option<Gain>,
    /// How far all that is to be believed.
    pub diagnostics: Diagnostics,
    /// What a report draws.
    #[serde(skip)]
    pub charts: Charts,
}

impl Judgement {
    /// What one estimator says; nothing without rows, and nothing by self-normalisation where the target would
    /// have chosen nothing that was shown.
    pub fn estimate(&self, estimator: Estimator) -> Option<&Estimate> {
        self.estimates.iter().find(|e| e.estimator == estimator)
    }

    fn of(
        names: [&str; 2],
        rows: &[Row],
        known: Rest,
        options: &Options,
        rng: &mut dyn RngCore,
    ) -> Judgement {
        let [target, logged_by] = names.map(str::to_owned);
        let (estimates, gain) =
            estimators::all(rows, &options.thresholds, options.resamples, known.largest_weight, rng);
        let mut diagnostics = Diagnostics::of(rows, &options.thresholds, known.known);
        if known.unanswered > 0 {
            diagnostics.warnings.push(Warning::new(
                "unanswered",
                format!("no distribution over the candidates in {} decisions", known.unanswered),
            ));
        }
        if !rows.is_empty() {
            diagnostics.warn(&estimates);
        }
        Judgement {
            target,
            logged_by,
            rows: rows.len() as u64,
            people: known.people,
            unanswered: known.unanswered,
            estimates,
            gain,
            diagnostics,
            charts: Charts::of(rows),
        }
    }
}

/// What a judgement needs beside its rows.
#[derive(Debug, Default)]
struct Rest {
    known: Known,
    people: u64,
    unanswered: u64,
    /// The largest weight that could have come, where it is known.
    largest_weight: Option<f64>,
}

/// What came out of Kairos's log.
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
    pub judgements: Vec<Judgement>,
}

/// Name under which the decisions of all logging policies are taken together.
pub const ALL: &str = "all";

/// Reads the decisions of a log, which may be open for reading only, and judges what the logging policies,
/// a uniform choice, and the logging policies without their exploration would earn.
///
/// The log is read twice: the reward models learn from a sample of it first.
///
/// # Errors
/// What the log says when it cannot be read.
pub fn evaluate_log(log: &dyn Log, options: &Options, rng: &mut dyn RngCore) -> Result<Evaluation, LogError> {
    let targets = [Target::as_logged(), Target::uniform(), Target::most_likely()];
    let mut survey = Survey::default();
    logged::each_decision(log, options.window, |decision| survey.see(&decision, rng))?;
    let mut evaluator = Evaluator::new(&targets, survey.learn(options.folds));
    let left_out = logged::each_decision(log, options.window, |decision| evaluator.add(&decision))?;
    let mut evaluation = evaluator.finish(options, rng);
    evaluation.left_out = LeftOut { unusable: evaluation.left_out.unusable, ..left_out };
    Ok(evaluation)
}

/// Judges targets by decisions from anywhere, all told: each target by each logging policy's.
pub fn evaluate(
    decisions: &[LoggedDecision],
    targets: &[Target<'_>],
    options: &Options,
    rng: &mut dyn RngCore,
) -> Evaluation {
    let mut survey = Survey::default();
    decisions.iter().for_each(|decision| survey.see(decision, rng));
    let mut evaluator = Evaluator::new(targets, survey.learn(options.folds));
    decisions.iter().for_each(|decision| evaluator.add(decision));
    evaluator.finish(options, rng)
}

/// Judges one target by decisions of one logging policy, or of several taken together: what a gate asks.
/// [`Judgement::estimate`] has the estimates with their lower bounds, [`Judgement::gain`] the difference to
/// what was earned. Nothing where no decision could be weighed.
pub fn judge(
    decisions: &[LoggedDecision],
    target: Target<'_>,
    options: &Options,
    rng: &mut dyn RngCore,
) -> Option<Judgement> {
    let mut judgements = evaluate(decisions, &[target], options, rng).judgements;
    let together = judgements.iter().position(|j| j.logged_by == ALL).unwrap_or(0);
    (together < judgements.len()).then(|| judgements.swap_remove(together)).filter(|j| j.rows > 0)
}
