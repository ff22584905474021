//! How far the log supports an answer, and what speaks against its propensities.

use serde::Serialize;

use super::{
    estimators::{Estimate, Estimator, Row, Thresholds},
    frequency::{Frequency, distance},
    interval::Moments,
};

/// Fewer effective rows than this are few.
const FEW: f64 = 100.0;
/// A mean weight this many standard errors from the support it should equal speaks of wrong propensities.
const FAR: f64 = 4.0;
/// An action chosen this many standard errors more or less often than its propensities say does too; more,
/// since there are many actions.
const FAR_FOR_ONE: f64 = 5.0;
/// Of one row in all weight.
const HEAVY_SHARE: f64 = 0.1;
/// Of the weight that a threshold takes away.
const CUT_SHARE: f64 = 0.05;
/// Most actions told one by one.
const MOST_TOLD: usize = 20;

/// What can be said of the log beside the estimates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnostics {
    /// As many decisions of the target itself would tell about as much as the weighted rows: `(Σ w)² / Σ w²`.
    pub effective_rows: f64,
    /// Share of the target's choices that the log could have made. Below 1, all but the direct method are
    /// wrong by what the missing choices are worth. In a file, what the log never took counts as missing.
    pub support: f64,
    /// Rows in which the target could choose what the log never would.
    pub unsupported_rows: u64,
    /// Mean weight: the support, or the propensities do not match.
    pub mean_weight: f64,
    /// Its standard error.
    pub mean_weight_error: f64,
    /// How many standard errors it is from the support; where it is below, with an error that allows for rare
    /// large weights which have not come.
    pub mean_weight_z: f64,
    /// The largest weight of a row.
    pub largest_weight: f64,
    /// Its share of all weight.
    pub largest_weight_share: f64,
    /// Which row that is, from 1 among those judged.
    pub largest_weight_row: u64,
    /// Rows heavier than the clip.
    pub clipped_rows: u64,
    /// Share of all weight that clipping takes away.
    pub clipped_share: f64,
    /// Rows heavier than the switch.
    pub switched_rows: u64,
    /// Their share of all weight.
    pub switched_share: f64,
    /// The smallest propensity of an action taken.
    pub smallest_propensity: f64,
    /// Mean of the rewards as logged: what the logging policy earned.
    pub mean_reward: f64,
    /// Share of the rewards' variance that the reward model explains in rows it did not learn from; below 0
    /// it is worse than their mean. Absent where all rewards are equal.
    pub model_explains: Option<f64>,
    /// The actions whose frequency is farthest from what their propensities say, at most 20.
    pub frequencies: Vec<Frequency>,
    /// What should keep one from trusting the estimates.
    pub warnings: Vec<Warning>,
}

/// A reason for doubt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Warning {
    /// Short, stable name.
    pub kind: &'static str,
    /// What is wrong and what follows.
    pub message: String,
}

impl Warning {
    pub(super) fn new(kind: &'static str, message: String) -> Warning {
        Warning { kind, message }
    }
}

/// What is known of the rows together, beside the rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) support: f64,
    /// The support was counted by what the log took; it could have taken more.
    pub(super) may_be_more: bool,
    pub(super) unsupported_rows: u64,
    pub(super) frequencies: Vec<Frequency>,
}

impl Diagnostics {
    pub(super) fn of(rows: &[Row], thresholds: &Thresholds, known: Known) -> Diagnostics {
        let weights = Moments::of(rows.iter().map(|r| r.weight));
        let total: f64 = rows.iter().map(|r| r.weight).sum();
        let squares: f64 = rows.iter().map(|r| r.weight * r.weight).sum();
        let share = |part: f64| if total > 0.0 { part / total } else { 0.0 };
        let heaviest = rows.iter().enumerate().max_by(|a, b| a.1.weight.total_cmp(&b.1.weight));
        let (heaviest, largest) = heaviest.map_or((0, 0.0), |(i, r)| (i as u64 + 1, r.weight));
        let above = |limit: f64| rows.iter().filter(move |r| r.weight > limit);
        let rewards = Moments::of(rows.iter().map(|r| r.reward));
        let missed = Moments::of(rows.iter().map(|r| (r.reward - r.expected) * (r.reward - r.expected)));
        let scatter = rewards.variance * (rewards.n - 1.0) / rewards.n.max(1.0);
        let smallest = rows.iter().map(|r| r.propensity).fold(1.0, f64::min);
        let right = if known.may_be_more { weights.mean.clamp(known.support, 1.0) } else { known.support };
        let mut frequencies = known.frequencies;
        frequencies.sort_by(|a, b| b.z.abs().total_cmp(&a.z.abs()));
        frequencies.truncate(MOST_TOLD);
        Diagnostics {
            effective_rows: if squares > 0.0 { total * total / squares } else { 0.0 },
            support: known.support,
            unsupported_rows: known.unsupported_rows,
            mean_weight: weights.mean,
            mean_weight_error: weights.error(),
            mean_weight_z: distance(weights.mean, right, weights.error(), rows.len(), 1.0 / smallest),
            largest_weight: largest,
            largest_weight_share: share(largest),
            largest_weight_row: heaviest,
            clipped_rows: above(thresholds.clip).count() as u64,
            clipped_share: share(above(thresholds.clip).map(|r| r.weight - thresholds.clip).sum()),
            switched_rows: above(thresholds.switch).count() as u64,
            switched_share: share(above(thresholds.switch).map(|r| r.weight).sum()),
            smallest_propensity: smallest,
            mean_reward: rewards.mean,
            model_explains: (scatter > 0.0).then(|| 1.0 - missed.mean / scatter),
            frequencies,
            warnings: Vec::new(),
        }
    }

    /// Looks for reasons of doubt.
    pub(super) fn warn(&mut self, estimates: &[Estimate]) {
        let mut found = Vec::new();
        let mut say = |kind, message| found.push(Warning::new(kind, message));
        if self.unsupported_rows > 0 {
            say(
                "support",
                format!(
                    "in {} rows the target could choose what was never shown: {:.1} % of its choices",
                    self.unsupported_rows,
                    (1.0 - self.support) * 100.0
                ),
            );
        }
        if self.effective_rows < FEW {
            let rows = self.effective_rows;
            say(
                "few",
                format!("it rests on few decisions ({rows:.1} effective); wait for more before trusting it"),
            );
        }
        if self.mean_weight_z.abs() > FAR {
            say(
                "mean_weight",
                format!(
                    "the mean weight is {:.4}, far from the support of {:.4} (z {:.1}): the logged propensities may \
                     be wrong",
                    self.mean_weight, self.support, self.mean_weight_z
                ),
            );
        }
        for f in self.frequencies.iter().filter(|f| f.z.abs() > FAR_FOR_ONE) {
            say(
                "frequency",
                format!(
                    "action `{}` was taken in {} rows, by its propensities it should be {:.0} (z {:.1}): they \
                     may be wrong, or it was not always on offer",
                    f.action, f.taken, f.expected, f.z
                ),
            );
        }
        if self.largest_weight_share > HEAVY_SHARE && self.effective_rows > 0.0 {
            say(
                "largest_weight",
                format!(
                    "one row (number {} of those judged) has {:.0} % of all weight",
                    self.largest_weight_row,
                    self.largest_weight_share * 100.0
                ),
            );
        }
        if self.clipped_share > CUT_SHARE {
            let share = self.clipped_share * 100.0;
            say(
                "clipping",
                format!("clipping takes {share:.0} % of all weight; clipped IPS is that far biased"),
            );
        }
        if self.switched_share > CUT_SHARE {
            let share = self.switched_share * 100.0;
            say(
                "switching",
                format!("in rows with {share:.0} % of all weight switch-DR rests on the model alone"),
            );
        }
        let by = |e| estimates.iter().find(|f| f.estimator == e).and_then(|f| f.bootstrap);
        if let (Some(snips), Some(dr)) = (by(Estimator::Snips), by(Estimator::Dr))
            && (snips.high < dr.low || dr.high < snips.low)
        {
            say("disagreement", "the intervals of SNIPS and DR do not meet; trust neither".to_owned());
        }
        self.warnings.append(&mut found);
    }
}
