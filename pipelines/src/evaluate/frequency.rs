//! Whether actions were taken as often as their propensities say.

use serde::Serialize;

/// Actions chosen less often than this are not judged.
const LEAST_CHOSEN: u64 = 20;
/// A distance without an error to measure it by.
const ENDLESS: f64 = 1e6;

/// How often an action was taken, and how often its propensities say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Frequency {
    /// Its id.
    pub action: String,
    /// Rows in which it was taken.
    pub taken: u64,
    /// Rows in which it should have been.
    pub expected: f64,
    /// How many standard errors that is away.
    pub z: f64,
}

/// How many standard errors a mean of values from 0 to `most` lies from what it should be. Where it is too
/// small, rare large values may just not have come yet: then the error is the largest that such values can have.
pub(super) fn distance(mean: f64, right: f64, error: f64, n: usize, most: f64) -> f64 {
    let away = mean - right;
    if away.abs() < 1e-9 {
        return 0.0;
    }
    let unseen = if away < 0.0 { (right * (most - right).max(0.0) / n.max(1) as f64).sqrt() } else { 0.0 };
    (away / error.max(unseen)).clamp(-ENDLESS, ENDLESS)
}

/// Of an action taken `taken` times of `rows`, by the propensities of the rows in which it was taken: if it
/// was always on offer, `Σ 1/p` over those rows is the number of all rows in expectation. Nothing is said of
/// actions taken seldom. `most` is the largest `1/p` of any row.
pub(super) fn by_inverse(action: &str, rows: usize, inverse: &Inverse, most: f64) -> Option<Frequency> {
    if inverse.taken < LEAST_CHOSEN {
        return None;
    }
    let (n, taken) = (rows as f64, inverse.taken as f64);
    let mean = inverse.sum / n;
    let error = ((inverse.squares / n - mean * mean).max(0.0) / n).sqrt();
    Some(Frequency {
        action: action.to_owned(),
        taken: inverse.taken,
        expected: taken / mean,
        z: distance(mean, 1.0, error, rows, most),
    })
}

/// Sums of `1/p` over the rows in which an action was taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Inverse {
    pub(super) taken: u64,
    sum: f64,
    squares: f64,
}

impl Inverse {
    pub(super) fn add(&mut self, propensity: f64) {
        self.taken += 1;
        self.sum += 1.0 / propensity;
        self.squares += 1.0 / (propensity * propensity);
    }
}

/// Of an action that was taken `taken` times, with propensities that were logged also where it was not taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Offered {
    taken: u64,
    expected: f64,
    variance: f64,
}

impl Offered {
    pub(super) fn add(&mut self, propensity: f64, taken: bool) {
        self.taken += u64::from(taken);
        self.expected += propensity;
        self.variance += propensity * (1.0 - propensity).max(0.0);
    }

    pub(super) fn join(&mut self, other: &Offered) {
        self.taken += other.taken;
        self.expected += other.expected;
        self.variance += other.variance;
    }

    /// Nothing where too little was to be expected for a verdict.
    pub(super) fn frequency(&self, action: &str) -> Option<Frequency> {
        let away = self.taken as f64 - self.expected;
        let z = if away.abs() < 1e-6 { 0.0 } else { away / self.variance.sqrt() };
        (self.expected.max(self.taken as f64) >= LEAST_CHOSEN as f64).then(|| Frequency {
            action: action.to_owned(),
            taken: self.taken,
            expected: self.expected,
            z: z.clamp(-ENDLESS, ENDLESS),
        })
    }
}
