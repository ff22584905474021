//! How sure decisions were: a histogram of propensities over the latest of them.

use std::collections::VecDeque;

use super::judge::Propensities;

/// Upper ends of the bins, each with its end; the last holds certainty.
pub const ENDS: [f64; 9] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 1.0];
/// Decisions counted.
const LATEST: usize = 1_000;

/// The latest propensities.
#[derive(Debug, Default)]
pub struct Spread(VecDeque<Propensities>);

impl Spread {
    /// Counts a decision and forgets the oldest beyond the bound.
    pub fn add(&mut self, propensities: Propensities) {
        self.0.push_front(propensities);
        self.0.truncate(LATEST);
    }

    /// Decisions counted.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// For each bin, the share of the propensities that `of` picks there are which falls there.
    pub fn shares(&self, of: impl Fn(&Propensities) -> Option<f64>) -> [f64; ENDS.len()] {
        let mut counts = [0u32; ENDS.len()];
        for propensity in self.0.iter().filter_map(of) {
            counts[ENDS.partition_point(|end| *end < propensity - 1e-12).min(ENDS.len() - 1)] += 1;
        }
        let all = counts.iter().sum::<u32>().max(1);
        counts.map(|n| f64::from(n) / f64::from(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_propensity_falls_into_one_bin() {
        let mut spread = Spread::default();
        for incumbent in [0.001, 0.005, 0.006, 0.3, 0.5, 1.0] {
            spread.add(Propensities { incumbent, shadow: None, uniform: 0.02 });
        }
        let sixth = |n: f64| n / 6.0;
        let expected = [2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 1.0].map(sixth);
        let shares = spread.shares(|p| Some(p.incumbent));
        assert!(shares.iter().zip(expected).all(|(s, e)| (s - e).abs() < 1e-12), "{shares:?}");
        assert!((spread.shares(|p| Some(p.uniform))[2] - 1.0).abs() < 1e-12);
        assert_eq!(spread.shares(|p| p.shadow), [0.0; ENDS.len()]);
    }

    #[test]
    fn only_the_latest_count() {
        let mut spread = Spread::default();
        for i in 0..2 * LATEST {
            let incumbent = if i < LATEST { 0.1 } else { 0.9 };
            spread.add(Propensities { incumbent, shadow: None, uniform: 0.1 });
        }
        assert_eq!(spread.len(), LATEST);
        assert!((spread.shares(|p| Some(p.incumbent))[8] - 1.0).abs() < 1e-9);
    }
}
