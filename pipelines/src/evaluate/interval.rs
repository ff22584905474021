//! Intervals of 95 %.
//!
//! | interval | takes for granted |
//! |---|---|
//! | normal | many rows, none of which outweighs the others; rows independent |
//! | bootstrap | the same, but rows only by people (see [`bootstrap`](super::bootstrap)) |
//! | Bernstein | rows independent, and bounds of weight and reward; holds for any number of rows, so it is wide |

use serde::Serialize;

/// 95 % of a normal distribution lie within this many standard deviations.
const Z: f64 = 1.959_964;
/// `ln(2/δ)` for each of two sides that share a δ of 5 %.
const LOG_TERM: f64 = 4.382_026_634_673_881;
/// Steps of a bisection, enough for all bits of a double.
const STEPS: usize = 80;

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

    /// From the least to the greatest.
    pub(super) fn covering(values: impl IntoIterator<Item = f64>) -> Interval {
        let none = Interval { low: f64::INFINITY, high: f64::NEG_INFINITY };
        values.into_iter().fold(none, |i, v| Interval { low: i.low.min(v), high: i.high.max(v) })
    }

    pub(super) fn width(&self) -> f64 {
        self.high - self.low
    }

    fn around(value: f64, half: f64) -> Interval {
        Interval { low: value - half, high: value + half }
    }
}

/// Mean and variance of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moments {
    pub(super) n: f64,
    pub(super) mean: f64,
    /// Of the sample, with Bessel's correction; 0 for fewer than two values.
    pub(super) variance: f64,
}

impl Moments {
    /// In two passes, so that nothing cancels.
    pub(super) fn of(values: impl Iterator<Item = f64> + Clone) -> Moments {
        let (n, sum) = values.clone().fold((0.0, 0.0), |(n, sum), v| (n + 1.0, sum + v));
        let mean = if n > 0.0 { sum / n } else { 0.0 };
        let squares: f64 = values.map(|v| (v - mean) * (v - mean)).sum();
        Moments { n, mean, variance: if n > 1.0 { squares / (n - 1.0) } else { 0.0 } }
    }

    /// Standard error of the mean.
    pub(super) fn error(&self) -> f64 {
        if self.n > 0.0 { (self.variance / self.n).sqrt() } else { 0.0 }
    }
}

/// Around `value`, whose rows differ as `influence` says; needs two rows.
pub(super) fn normal(value: f64, influence: &Moments) -> Option<Interval> {
    (influence.n > 1.0).then(|| Interval::around(value, Z * influence.error()))
}

/// Of the mean of independent values within a span of `range`: the empirical Bernstein bound of Maurer and
/// Pontil (2009, theorem 4), taken on both sides with half of the 5 % each.
pub(super) fn bernstein(values: &Moments, range: f64) -> Option<Interval> {
    (values.n > 1.0).then(|| Interval::around(values.mean, half_width(values.n, values.variance, range)))
}

fn half_width(n: f64, variance: f64, range: f64) -> f64 {
    (2.0 * variance * LOG_TERM / n).sqrt() + 7.0 * range * LOG_TERM / (3.0 * (n - 1.0))
}

/// What a self-normalised estimate is made of: `value = plain + e` with `e = mean(part) / mean(weight)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ratio {
    pub(super) n: f64,
    pub(super) value: f64,
    pub(super) weight: f64,
    pub(super) weight_variance: f64,
    /// Variance of the rows at `value`: of `plain + part − e·weight`.
    pub(super) variance: f64,
    /// Covariance of these with the weight.
    pub(super) covariance: f64,
    /// Span that a row can lie in, at any value in question.
    pub(super) range: f64,
}

/// Of a self-normalised estimate: every value that the data do not contradict.
///
/// The mean weight is 1 in expectation, so for the true value `v` the rows
/// `plain + part − (v − mean plain)·weight` have the mean of `plain`, and what they miss of it, they miss by no
/// more than the Bernstein bound. The values for which that holds are the interval; `within` bounds it.
pub(super) fn bernstein_of_ratio(ratio: &Ratio, within: Interval) -> Option<Interval> {
    if ratio.n <= 1.0 {
        return None;
    }
    let possible = |value: f64| {
        let away = value - ratio.value;
        let variance = ratio.variance - 2.0 * away * ratio.covariance + away * away * ratio.weight_variance;
        away.abs() * ratio.weight <= half_width(ratio.n, variance.max(0.0), ratio.range)
    };
    // Going outward, what is missed less what is allowed is concave: it turns positive once.
    let end = |far: f64| {
        if possible(far) {
            return far;
        }
        let (mut inside, mut outside) = (ratio.value, far);
        for _ in 0..STEPS {
            let middle = 0.5 * (inside + outside);
            *(if possible(middle) { &mut inside } else { &mut outside }) = middle;
        }
        inside
    };
    Some(Interval { low: end(within.low.min(ratio.value)), high: end(within.high.max(ratio.value)) })
}

/// Where the middle 95 % of the values lie, by nearest rank.
pub(super) fn middle(mut values: Vec<f64>) -> Option<Interval> {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * values.len() as f64).ceil() as usize;
        values.get(rank.clamp(1, values.len().max(1)) - 1).copied()
    };
    Some(Interval { low: at(0.025)?, high: at(0.975)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn moments_and_bernstein_by_hand() {
        let values = [0.0, 1.0, 1.0, 0.0];
        let m = Moments::of(values.iter().copied());
        near(m.mean, 0.5);
        near(m.variance, 1.0 / 3.0);
        let i = bernstein(&m, 1.0).unwrap();
        let l = 80f64.ln();
        near(i.high - 0.5, (2.0 / 3.0 * l / 4.0).sqrt() + 7.0 * l / 9.0);
        near(i.high + i.low, 1.0);
        near(LOG_TERM, l);
        assert_eq!(bernstein(&Moments::of([1.0].into_iter()), 1.0), None);
    }

    #[test]
    fn without_doubt_in_the_weights_the_ratio_has_the_interval_of_the_mean() {
        let ratio = Ratio {
            n: 1_000.0,
            value: 0.4,
            weight: 1.0,
            weight_variance: 0.0,
            variance: 0.24,
            covariance: 0.0,
            range: 1.0,
        };
        let within = Interval { low: 0.0, high: 1.0 };
        let found = bernstein_of_ratio(&ratio, within).unwrap();
        let mean = bernstein(&Moments { n: 1_000.0, mean: 0.4, variance: 0.24 }, 1.0).unwrap();
        near(found.low, mean.low);
        near(found.high, mean.high);
        let few = bernstein_of_ratio(&Ratio { n: 5.0, ..ratio }, within).unwrap();
        assert_eq!((few.low, few.high), (0.0, 1.0));
    }

    #[test]
    fn the_middle_is_by_nearest_rank() {
        let i = middle((1..=1000).rev().map(f64::from).collect()).unwrap();
        assert_eq!((i.low, i.high), (25.0, 975.0));
        assert_eq!(middle(Vec::new()), None);
    }
}
