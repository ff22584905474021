//! The estimators, on rows that hold all they need.

use rand::RngCore;
use serde::Serialize;

use super::{
    bootstrap,
    interval::{self, Interval, Moments, Ratio},
};

/// A logged decision as the estimators see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    /// The target's probability of the action taken over the logged one.
    pub(super) weight: f64,
    /// What was earned.
    pub(super) reward: f64,
    /// What the reward model expected of the action taken.
    pub(super) expected: f64,
    /// What it expects of the target: the mean over its choices.
    pub(super) direct: f64,
    /// The probability that was logged.
    pub(super) propensity: f64,
    /// Who: rows of one unit are drawn together.
    pub(super) unit: u32,
}

/// How an average of the target's rewards is made of rows. `w` is a row's weight, `r` its reward, `q` what a
/// reward model expects, `d` what it expects of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// `mean(w·r)`: inverse propensities (Horvitz and Thompson, 1952).
    Ips,
    /// `mean(min(w, clip)·r)` (Ionides, 2008).
    ClippedIps,
    /// `Σ w·r / Σ w`: self-normalised (Swaminathan and Joachims, 2015).
    Snips,
    /// `mean(d)`: the direct method.
    Dm,
    /// `mean(d + w·(r − q))`: doubly robust (Dudík, Langford, Li, 2011).
    Dr,
    /// `mean(d) + Σ w·(r − q) / Σ w`: doubly robust, self-normalised.
    Sndr,
    /// `mean(d + w·(r − q))`, the second part only where `w <= switch` (Wang, Agarwal, Dudík, 2017).
    SwitchDr,
}

/// Where the two biased estimators cut.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Thresholds {
    /// Largest weight that [`Estimator::ClippedIps`] gives.
    pub clip: f64,
    /// Largest weight with which [`Estimator::SwitchDr`] trusts a row more than the model.
    pub switch: f64,
}

impl Default for Thresholds {
    /// 10 and 10: a choice ten times as likely as it was.
    fn default() -> Self {
        Thresholds { clip: 10.0, switch: 10.0 }
    }
}

/// What an estimator says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Which.
    pub estimator: Estimator,
    /// Mean reward a decision of the target.
    pub value: f64,
    /// Rows taken as independent and many; needs two.
    pub normal: Option<Interval>,
    /// People taken as independent; needs two.
    pub bootstrap: Option<Interval>,
    /// Holds for few rows too; needs two.
    pub bernstein: Option<Interval>,
    /// As many decisions of the target itself would tell about as much (Kish, 1965), by the weights used.
    pub effective_rows: f64,
    /// What lies outside of all three intervals.
    pub not_covered: &'static str,
}

impl Estimator {
    /// All there are, in the order they are told.
    pub const ALL: [Estimator; 7] = [
        Estimator::Ips,
        Estimator::ClippedIps,
        Estimator::Snips,
        Estimator::Dm,
        Estimator::Dr,
        Estimator::Sndr,
        Estimator::SwitchDr,
    ];

    /// Its name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Estimator::Ips => "ips",
            Estimator::ClippedIps => "clipped_ips",
            Estimator::Snips => "snips",
            Estimator::Dm => "dm",
            Estimator::Dr => "dr",
            Estimator::Sndr => "sndr",
            Estimator::SwitchDr => "switch_dr",
        }
    }

    /// What lies outside of its intervals.
    pub fn not_covered(&self) -> &'static str {
        match self {
            Estimator::Ips | Estimator::Dr => {
                "choices the log never makes; weights larger than any in the log; wrong propensities"
            }
            Estimator::ClippedIps => "the bias of clipping: what rows heavier than the clip would have added",
            Estimator::Snips | Estimator::Sndr => {
                "choices the log never makes; a bias that falls with the rows; wrong propensities"
            }
            Estimator::Dm => "the error of the reward model, which no number of rows makes smaller",
            Estimator::SwitchDr => "the error of the reward model in rows heavier than the switch",
        }
    }

    pub(super) fn normalises(&self) -> bool {
        matches!(self, Estimator::Snips | Estimator::Sndr)
    }

    fn models(&self) -> bool {
        matches!(self, Estimator::Dm | Estimator::Dr | Estimator::Sndr | Estimator::SwitchDr)
    }

    /// The weight that the row gets.
    fn weight(&self, row: &Row, thresholds: &Thresholds) -> f64 {
        match self {
            Estimator::ClippedIps => row.weight.min(thresholds.clip),
            Estimator::SwitchDr if row.weight > thresholds.switch => 0.0,
            Estimator::Dm => 0.0,
            _ => row.weight,
        }
    }

    /// What the row adds to the mean, and what it adds in proportion to its weight.
    pub(super) fn parts(&self, row: &Row, thresholds: &Thresholds) -> (f64, f64) {
        let weight = self.weight(row, thresholds);
        if self.models() {
            (row.direct, weight * (row.reward - row.expected))
        } else {
            (0.0, weight * row.reward)
        }
    }

    fn effective_rows(&self, rows: &[Row], thresholds: &Thresholds) -> f64 {
        if *self == Estimator::Dm {
            return rows.len() as f64;
        }
        let weights = rows.iter().map(|r| self.weight(r, thresholds));
        let (sum, squares) = weights.fold((0.0, 0.0), |(s, q), w| (s + w, q + w * w));
        if squares > 0.0 { sum * sum / squares } else { 0.0 }
    }

    /// Nothing without rows, nor by self-normalisation where the target would have done nothing that was done.
    fn estimate(&self, rows: &[Row], thresholds: &Thresholds, bounds: &Bounds) -> Option<Estimate> {
        let n = rows.len() as f64;
        let parts = || rows.iter().map(|r| self.parts(r, thresholds));
        let weight = Moments::of(rows.iter().map(|r| r.weight));
        let plain = parts().map(|p| p.0).sum::<f64>() / n;
        let weighted = parts().map(|p| p.1).sum::<f64>() / n;
        let (value, normal, bernstein) = if self.normalises() {
            if weight.mean <= 0.0 {
                return None;
            }
            let ratio = weighted / weight.mean;
            let each = rows.iter().map(|row| {
                let (p, w) = self.parts(row, thresholds);
                p + w - ratio * row.weight
            });
            let spread = Moments::of(each.clone());
            // The delta method: the second part varies over the mean weight.
            let influence = Moments::of(rows.iter().map(|row| {
                let (p, w) = self.parts(row, thresholds);
                p + (w - ratio * row.weight) / weight.mean
            }));
            let product: f64 =
                each.zip(rows).map(|(v, r)| (v - spread.mean) * (r.weight - weight.mean)).sum();
            let value = plain + ratio;
            let parts = Ratio {
                n,
                value,
                weight: weight.mean,
                weight_variance: weight.variance,
                variance: spread.variance,
                covariance: product / (n - 1.0).max(1.0),
                range: bounds.span(self, thresholds),
            };
            let bernstein = interval::bernstein_of_ratio(&parts, bounds.reward);
            (value, interval::normal(value, &influence), bernstein)
        } else {
            let each = Moments::of(parts().map(|(p, w)| p + w));
            let bernstein = interval::bernstein(&each, bounds.span(self, thresholds));
            (plain + weighted, interval::normal(plain + weighted, &each), bernstein)
        };
        Some(Estimate {
            estimator: *self,
            value,
            normal,
            bootstrap: None,
            bernstein,
            effective_rows: self.effective_rows(rows, thresholds),
            not_covered: self.not_covered(),
        })
    }
}

/// Within what rows lie, for the bound that needs to know.
struct Bounds {
    /// 0 to 1 where the rewards seen are, else from the least to the greatest.
    reward: Interval,
    /// What the model expects of actions and of targets.
    model: Interval,
    /// The largest weight.
    weight: f64,
}

impl Bounds {
    fn of(rows: &[Row], largest_weight: Option<f64>) -> Bounds {
        let seen = Interval::covering(rows.iter().map(|r| r.reward));
        let unit = Interval { low: 0.0, high: 1.0 };
        let fits = unit.contains(seen.low) && unit.contains(seen.high);
        let heaviest = rows.iter().map(|r| r.weight).fold(0.0, f64::max);
        Bounds {
            reward: if fits { unit } else { seen },
            model: Interval::covering(rows.iter().flat_map(|r| [r.expected, r.direct])),
            weight: largest_weight.unwrap_or(heaviest).max(heaviest),
        }
    }

    fn span(&self, estimator: &Estimator, thresholds: &Thresholds) -> f64 {
        let weight = match estimator {
            Estimator::Dm => 0.0,
            Estimator::ClippedIps => thresholds.clip,
            Estimator::SwitchDr => thresholds.switch,
            _ => self.weight,
        };
        // An endless threshold is no bound.
        let weight = if weight.is_finite() { weight } else { self.weight };
        let (plain, part) = if estimator.models() {
            let error =
                Interval { low: self.reward.low - self.model.high, high: self.reward.high - self.model.low };
            (self.model.width(), error)
        } else if estimator.normalises() {
            // A row adds its weight times what its reward is above or below the value in question.
            (0.0, Interval { low: 0.0, high: self.reward.width() })
        } else {
            (0.0, self.reward)
        };
        plain + weight * (part.high.max(0.0) - part.low.min(0.0))
    }
}

/// What the target earns beyond what was earned: DR less the mean reward as logged, on the same rows, so that
/// what both share cancels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gain {
    /// The difference.
    pub value: f64,
    /// Rows taken as independent and many; needs two.
    pub normal: Option<Interval>,
    /// People taken as independent; needs two.
    pub bootstrap: Option<Interval>,
}

/// Every estimate the rows allow, and the gain. `largest_weight` is the largest that could have come, where that is known.
pub(super) fn all(
    rows: &[Row],
    thresholds: &Thresholds,
    resamples: u32,
    largest_weight: Option<f64>,
    rng: &mut dyn RngCore,
) -> (Vec<Estimate>, Option<Gain>) {
    if rows.is_empty() {
        return (Vec::new(), None);
    }
    let bounds = Bounds::of(rows, largest_weight);
    let resampled = bootstrap::resample(rows, thresholds, resamples, rng);
    let estimates = Estimator::ALL
        .iter()
        .zip(resampled.estimates)
        .filter_map(|(e, bootstrap)| Some(Estimate { bootstrap, ..e.estimate(rows, thresholds, &bounds)? }));
    let gains = rows.iter().map(|r| {
        let (plain, weighted) = Estimator::Dr.parts(r, thresholds);
        plain + weighted - r.reward
    });
    let each = Moments::of(gains);
    let normal = interval::normal(each.mean, &each);
    (estimates.collect(), Some(Gain { value: each.mean, normal, bootstrap: resampled.gain }))
}
