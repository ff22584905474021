//! Intervals that hold at every moment at once, so that one may look at them as often as one likes and stop
//! whenever one pleases (confidence sequences), for averages of quantities whose means may change.
//!
//! For values `y ≥ b` with predictions `ŷ ≤ b + 1` made before them, and any `0 ≤ λ < 1`,
//! `exp(λ Σ(y − μ) − ψ(λ) Σ(y − ŷ)²)` with `ψ(λ) = −ln(1 − λ) − λ` is a supermartingale, whatever the
//! conditional means `μ` are (Fan, Grama, Liu, 2015; Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform,
//! nonparametric, nonasymptotic confidence sequences", 2021, section 3.2). So is an average of it over
//! several `λ`, and by Ville's inequality it exceeds `1/α` at any time with probability at most `α`. That
//! bounds the running mean of the `μ` from below.
//!
//! Off-policy rewards fit without a bound on the weights: `w·r ≥ 0`, and for the difference to the policy that
//! logged, `(w − 1)·r ≥ −1`. The other side comes from the rewards turned round, `1 − r` (Waudby-Smith, Wu,
//! Ramdas, Karampatziakis, Mineiro, "Anytime-valid off-policy inference for contextual bandits", 2022,
//! sections 2 and 4; Karampatziakis, Mineiro, Ramdas, 2021). The average over fixed `λ` takes the place of the
//! predictable `λ` of Waudby-Smith and Ramdas (2023), which bound a weighted mean only: policies that learn
//! have no constant mean.

use super::Interval;

/// How many `λ`, each half of the one before.
const MIXED: i32 = 16;
/// Steps of a bisection, enough for all bits that matter.
const STEPS: usize = 60;

/// Bounds the running mean of values from below.
#[derive(Debug, Clone, Copy)]
struct Lower {
    /// No value is below it.
    least: f64,
    n: f64,
    sum: f64,
    variation: f64,
}

impl Lower {
    fn new(least: f64) -> Lower {
        Lower { least, n: 0.0, sum: 0.0, variation: 0.0 }
    }

    fn add(&mut self, value: f64) {
        // The mean so far, as if a value of 0 had come first.
        let predicted = (self.sum / (self.n + 1.0)).min(self.least + 1.0);
        self.variation += (value - predicted).powi(2);
        self.sum += value;
        self.n += 1.0;
    }

    /// Logarithm of the evidence against a mean of `m` or less.
    fn evidence(&self, m: f64) -> f64 {
        let excess = self.sum - self.n * m;
        let one = |k: i32| {
            let lambda = 0.5f64.powi(k + 1);
            lambda * excess - (-(-lambda).ln_1p() - lambda) * self.variation
        };
        let most = (0..MIXED).map(one).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = (0..MIXED).map(|k| (one(k) - most).exp()).sum();
        most + (sum / f64::from(MIXED)).ln()
    }

    /// Every mean below it is refuted, each at any time with probability at most `error` when true.
    fn bound(&self, error: f64) -> f64 {
        let enough = -error.ln();
        if self.n == 0.0 || self.evidence(self.least) < enough {
            return self.least;
        }
        // The evidence falls with the mean; at the mean of the values there is none.
        let (mut refuted, mut left) = (self.least, self.sum / self.n);
        for _ in 0..STEPS {
            let middle = 0.5 * (refuted + left);
            if self.evidence(middle) >= enough { refuted = middle } else { left = middle }
        }
        refuted
    }
}

/// What a policy earns beyond the one that logged, decision by decision.
#[derive(Debug, Clone, Copy)]
pub struct GainSequence {
    error: f64,
    gained: Lower,
    lost: Lower,
}

impl GainSequence {
    /// With this chance of an interval that is wrong at any time.
    pub fn new(error: f64) -> GainSequence {
        GainSequence { error, gained: Lower::new(-1.0), lost: Lower::new(-1.0) }
    }

    /// Takes the next decision: the policy's probability of the action taken over the logged one, and the
    /// reward, 0 to 1. Decisions come in the order in which they were made.
    pub fn add(&mut self, weight: f64, reward: f64) {
        self.gained.add((weight - 1.0) * reward);
        self.lost.add((weight - 1.0) * (1.0 - reward));
    }

    /// Where the mean gain of the decisions so far lies, within −1 to 1.
    pub fn interval(&self) -> Interval {
        let half = self.error / 2.0;
        Interval { low: self.gained.bound(half), high: -self.lost.bound(half) }
    }
}

/// The mean of rewards from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub struct MeanSequence {
    error: f64,
    earned: Lower,
    missed: Lower,
}

impl MeanSequence {
    /// With this chance of an interval that is wrong at any time.
    pub fn new(error: f64) -> MeanSequence {
        MeanSequence { error, earned: Lower::new(0.0), missed: Lower::new(0.0) }
    }

    /// Takes the next reward.
    pub fn add(&mut self, reward: f64) {
        self.earned.add(reward);
        self.missed.add(1.0 - reward);
    }

    /// How many it took.
    pub fn count(&self) -> u64 {
        self.earned.n as u64
    }

    /// Where the mean of the expected rewards so far lies.
    pub fn interval(&self) -> Interval {
        let half = self.error / 2.0;
        Interval { low: self.earned.bound(half), high: 1.0 - self.missed.bound(half) }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    const ERROR: f64 = 0.1;
    const RUNS: u64 = 300;
    const LENGTH: usize = 1_500;

    /// Plays a log of uniform choices among four actions whose worth drifts, judged for a policy that learns
    /// greedily from it. Calls `look` after every decision with the sequence, the true mean gain so far and
    /// the plain mean and standard error of the gains.
    fn play(seed: u64, mut look: impl FnMut(usize, &GainSequence, f64, (f64, f64))) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut sequence = GainSequence::new(ERROR);
        let mut learned = [(0.0f64, 1.0f64); 4];
        let (mut truth, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for t in 0..LENGTH {
            let drift = (t as f64 / 300.0).sin() * 0.2;
            let worth = [0.3 + drift, 0.3 - drift, 0.3, 0.3];
            let mean = |a: usize| -> f64 { learned[a].0 / learned[a].1 };
            let best = (0..4).max_by(|a, b| mean(*a).total_cmp(&mean(*b))).unwrap();
            let target = |a: usize| if a == best { 0.85 } else { 0.05 };
            let action = rng.random_range(0..4);
            let reward = f64::from(u8::from(rng.random::<f64>() < worth[action]));
            let weight = target(action) / 0.25;
            sequence.add(weight, reward);
            truth += (0..4).map(|a| (target(a) - 0.25) * worth[a]).sum::<f64>();
            learned[action] = (learned[action].0 + reward, learned[action].1 + 1.0);
            let gain = (weight - 1.0) * reward;
            (sum, squares) = (sum + gain, squares + gain * gain);
            let n = (t + 1) as f64;
            let error = ((squares / n - (sum / n).powi(2)).max(0.0) / n).sqrt();
            look(t + 1, &sequence, truth / n, (sum / n, error));
        }
    }

    #[test]
    fn the_interval_holds_at_every_moment_at_once_and_the_usual_one_does_not() {
        let (mut wrong, mut usual_wrong) = (0, 0);
        for seed in 0..RUNS {
            let (mut ever, mut usual_ever) = (false, false);
            play(seed, |t, sequence, truth, (mean, error)| {
                // Evidence says the same as the bounds, without the bisection.
                let against = -(ERROR / 2.0).ln();
                ever |=
                    sequence.gained.evidence(truth) >= against || sequence.lost.evidence(-truth) >= against;
                usual_ever |= t > 30 && (mean - truth).abs() > 1.645 * error;
            });
            wrong += u64::from(ever);
            usual_wrong += u64::from(usual_ever);
        }
        // Three standard errors of a share of 0.1 in 300 runs are 0.052.
        assert!(wrong as f64 / RUNS as f64 <= ERROR + 0.052, "{wrong} of {RUNS}");
        assert!(usual_wrong as f64 / RUNS as f64 > 0.3, "looked at all the time: {usual_wrong} of {RUNS}");
    }

    #[test]
    fn the_bounds_are_where_the_evidence_says_and_close_in() {
        let mut widths = Vec::new();
        play(7, |t, sequence, truth, _| {
            if t % 500 == 0 {
                let Interval { low, high } = sequence.interval();
                assert!(low <= truth && truth <= high, "{low} {truth} {high}");
                assert!((sequence.gained.evidence(low) + (ERROR / 2.0).ln()).abs() < 1e-6);
                widths.push(high - low);
            }
        });
        assert!(widths.windows(2).all(|w| w[1] < w[0]) && widths[2] < 0.4, "{widths:?}");
    }

    #[test]
    fn nothing_seen_says_nothing_and_a_mean_is_found() {
        let empty = GainSequence::new(ERROR).interval();
        assert_eq!((empty.low, empty.high), (-1.0, 1.0));
        let mut mean = MeanSequence::new(ERROR);
        let mut rng = SmallRng::seed_from_u64(3);
        (0..4_000).for_each(|_| mean.add(f64::from(u8::from(rng.random::<f64>() < 0.3))));
        let Interval { low, high } = mean.interval();
        assert!(low > 0.25 && low < 0.3 && high > 0.3 && high < 0.35, "{low} {high}");
    }
}
