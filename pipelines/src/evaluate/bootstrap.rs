//! The percentile bootstrap (Efron, 1979), for all estimators at once.

use rand::{Rng, RngCore, seq::SliceRandom};

use super::{
    estimators::{Estimator, Row, Thresholds},
    interval::{Interval, middle},
};

/// Most units drawn from. More of them are put together at random into this many, which leaves the spread of
/// a mean as it is to within half a percent and bounds the work.
const MOST_UNITS: usize = 20_000;

const KINDS: usize = Estimator::ALL.len();

/// What one unit brings to the sums.
#[derive(Debug, Clone, Copy, Default)]
struct Unit {
    rows: f64,
    weight: f64,
    reward: f64,
    plain: [f64; KINDS],
    weighted: [f64; KINDS],
}

impl Unit {
    fn add(&mut self, other: &Unit) {
        self.rows += other.rows;
        self.weight += other.weight;
        self.reward += other.reward;
        for k in 0..KINDS {
            self.plain[k] += other.plain[k];
            self.weighted[k] += other.weighted[k];
        }
    }
}

/// What the resamples give.
#[derive(Debug, Default)]
pub(super) struct Resampled {
    /// For each estimator in the order of [`Estimator::ALL`].
    pub(super) estimates: [Option<Interval>; KINDS],
    /// Of what DR says beyond the mean reward as logged, both from the same rows.
    pub(super) gain: Option<Interval>,
}

/// Intervals; none from fewer than two units.
///
/// Whole units are drawn with replacement: the rows of one person together, since they may resemble each
/// other. The reward model is not fitted anew, so its own doubt is not in the intervals.
pub(super) fn resample(
    rows: &[Row],
    thresholds: &Thresholds,
    resamples: u32,
    rng: &mut dyn RngCore,
) -> Resampled {
    let units = units(rows, thresholds, rng);
    if units.len() < 2 {
        return Resampled::default();
    }
    let mut values: [Vec<f64>; KINDS] = Default::default();
    let mut gains = Vec::new();
    for _ in 0..resamples {
        let mut sum = Unit::default();
        for _ in 0..units.len() {
            sum.add(&units[rng.random_range(0..units.len())]);
        }
        for (k, estimator) in Estimator::ALL.iter().enumerate() {
            let by = if estimator.normalises() { sum.weight } else { sum.rows };
            if by > 0.0 {
                values[k].push(sum.plain[k] / sum.rows + sum.weighted[k] / by);
            }
            if *estimator == Estimator::Dr {
                gains.push((sum.plain[k] + sum.weighted[k] - sum.reward) / sum.rows);
            }
        }
    }
    Resampled { estimates: values.map(middle), gain: middle(gains) }
}

fn units(rows: &[Row], thresholds: &Thresholds, rng: &mut dyn RngCore) -> Vec<Unit> {
    let people = rows.iter().map(|r| r.unit as usize + 1).max().unwrap_or(0);
    let mut place: Vec<u32> = (0..people as u32).collect();
    let count = people.min(MOST_UNITS);
    if people > count {
        place.shuffle(rng);
        place.iter_mut().for_each(|p| *p %= count as u32);
    }
    let mut units = vec![Unit::default(); count];
    for row in rows {
        let unit = &mut units[place[row.unit as usize] as usize];
        unit.rows += 1.0;
        unit.weight += row.weight;
        unit.reward += row.reward;
        for (k, estimator) in Estimator::ALL.iter().enumerate() {
            let (plain, weighted) = estimator.parts(row, thresholds);
            unit.plain[k] += plain;
            unit.weighted[k] += weighted;
        }
    }
    // Numbers of people none of whose rows is here.
    units.retain(|u| u.rows > 0.0);
    units
}
