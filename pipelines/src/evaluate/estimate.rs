//! The statistics, from sums alone.

use std::collections::BTreeMap;

use rand::{Rng, RngCore};
use serde::Serialize;

use super::LoggedDecision;

/// 95 % of a normal distribution lie within this many standard deviations.
const Z: f64 = 1.959_964;

/// What a target would have earned, by the decisions of one logging policy or of all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// The policy judged.
    pub target: String,
    /// Whose decisions it is judged by.
    pub logged_by: String,
    /// How many there are.
    pub decisions: u64,
    /// Of how many people.
    pub people: u64,
    /// Mean reward a decision, by inverse propensities.
    pub ips: Figure,
    /// The same, self-normalized; absent where the target would have chosen nothing that was shown.
    pub snips: Option<Figure>,
    /// As many decisions of the target itself would tell about as much.
    pub effective_decisions: f64,
    /// The largest weight of one decision.
    pub largest_weight: f64,
    /// Mean weight: about 1, or the logged probabilities are wrong or the support is lacking.
    pub mean_weight: f64,
    /// Standard error of the mean weight.
    pub mean_weight_error: f64,
    /// Share of the target's choices that the log could have made. Below 1, both estimates are wrong by what
    /// the missing choices are worth.
    pub support: f64,
    /// Decisions in which the target could choose what the log never would.
    pub unsupported: u64,
    /// Decisions left out because the target answered with no distribution over the candidates.
    pub unanswered: u64,
}

/// A value with its two 95 % intervals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// The estimate.
    pub value: f64,
    /// Decisions taken as independent; needs two of them.
    pub normal: Option<Interval>,
    /// People taken as independent; needs two of them.
    pub bootstrap: Option<Interval>,
}

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether it holds a value.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    fn around(value: f64, error: f64) -> Interval {
        Interval { low: value - Z * error, high: value + Z * error }
    }
}

/// Sums over decisions; `w` is the weight, `r` the reward.
#[derive(Debug, Default)]
pub(super) struct Sums {
    n: f64,
    w: f64,
    w2: f64,
    wr: f64,
    w2r: f64,
    w2r2: f64,
    largest: f64,
    support: f64,
    unsupported: u64,
    unanswered: u64,
    // Ordered, so that a seed gives the same intervals again.
    people: BTreeMap<String, Person>,
}

/// The part of the sums that one person brings.
#[derive(Debug, Default, Clone, Copy)]
struct Person {
    n: f64,
    w: f64,
    wr: f64,
}

impl Sums {
    pub(super) fn add(&mut self, decision: &LoggedDecision, chosen: usize, wanted: Option<&[f64]>) {
        let Some(wanted) = wanted else {
            self.unanswered += 1;
            return;
        };
        let (w, r) = (wanted[chosen] / decision.propensity, decision.reward);
        self.n += 1.0;
        self.w += w;
        self.w2 += w * w;
        self.wr += w * r;
        self.w2r += w * w * r;
        self.w2r2 += w * w * r * r;
        self.largest = self.largest.max(w);
        let possible = decision.candidates.iter().zip(wanted).filter(|(c, _)| c.propensity > 0.0);
        let covered: f64 = possible.map(|(_, p)| p).sum();
        self.support += covered.min(1.0);
        self.unsupported += u64::from(covered < 1.0 - 1e-6);
        if !self.people.contains_key(&decision.user) {
            self.people.insert(decision.user.clone(), Person::default());
        }
        if let Some(person) = self.people.get_mut(&decision.user) {
            person.n += 1.0;
            person.w += w;
            person.wr += w * r;
        }
    }

    pub(super) fn estimate(
        &self,
        target: &str,
        logged_by: &str,
        resamples: u32,
        rng: &mut dyn RngCore,
    ) -> Estimate {
        let n = self.n;
        let (ips, snips) = (share(self.wr, n), share(self.wr, self.w));
        let enough = n >= 2.0;
        // Sample variances; rounding must not turn them negative.
        let bessel = n / (n - 1.0);
        let ips_error = (bessel * (share(self.w2r2, n) - ips * ips).max(0.0) / n).sqrt();
        let mean_weight = share(self.w, n);
        let weight_error = (bessel * (share(self.w2, n) - mean_weight * mean_weight).max(0.0) / n).sqrt();
        // The delta method for a ratio of means.
        let squares = (self.w2r2 - 2.0 * snips * self.w2r + snips * snips * self.w2).max(0.0);
        let snips_error = (bessel * squares).sqrt() / self.w;
        let (ips_bootstrap, snips_bootstrap) = self.bootstrap(resamples, rng);
        let figure = |value: f64, error: f64, bootstrap| Figure {
            value,
            normal: enough.then(|| Interval::around(value, error)),
            bootstrap,
        };
        Estimate {
            target: target.to_owned(),
            logged_by: logged_by.to_owned(),
            decisions: n as u64,
            people: self.people.len() as u64,
            ips: figure(ips, ips_error, ips_bootstrap),
            snips: (self.w > 0.0).then(|| figure(snips, snips_error, snips_bootstrap)),
            effective_decisions: share(self.w * self.w, self.w2),
            largest_weight: self.largest,
            mean_weight,
            mean_weight_error: if enough { weight_error } else { 0.0 },
            support: share(self.support, n),
            unsupported: self.unsupported,
            unanswered: self.unanswered,
        }
    }

    /// Draws people with replacement; intervals of IPS and SNIPS.
    fn bootstrap(&self, resamples: u32, rng: &mut dyn RngCore) -> (Option<Interval>, Option<Interval>) {
        let people: Vec<Person> = self.people.values().copied().collect();
        if people.len() < 2 {
            return (None, None);
        }
        let (mut ips, mut snips) = (Vec::new(), Vec::new());
        for _ in 0..resamples {
            let mut sum = Person::default();
            for _ in 0..people.len() {
                let person = people[rng.random_range(0..people.len())];
                sum.n += person.n;
                sum.w += person.w;
                sum.wr += person.wr;
            }
            ips.push(share(sum.wr, sum.n));
            if sum.w > 0.0 {
                snips.push(share(sum.wr, sum.w));
            }
        }
        (middle(ips), middle(snips))
    }
}

/// 0 of nothing.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Where the middle 95 % of the values lie, by nearest rank.
fn middle(mut values: Vec<f64>) -> Option<Interval> {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * values.len() as f64).ceil() as usize;
        values.get(rank.clamp(1, values.len().max(1)) - 1).copied()
    };
    Some(Interval { low: at(0.025)?, high: at(0.975)? })
}
