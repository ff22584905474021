//! Who predicts best, and whether the world has changed.

use prost::Message;

/// Weights fall with `exp(−excess)`: by how much a member's squared errors exceed the leader's, in this many
/// variances of the rewards. Two would be Bayesian were the leader right and knew nothing; more is for members
/// that all are wrong somewhere.
const TOLERANCE: f64 = 8.0;
/// A member with less than this share of the leader's weight has no say.
const SAY: f64 = 0.02;

/// Discounted one-step errors of the members. The shares are those of exponentially weighted prediction
/// (Cesa-Bianchi and Lugosi, "Prediction, learning, and games", 2006, 2.1) with discounted losses.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Referee {
    /// Discounted sum of squared errors, a member each.
    #[prost(double, repeated, tag = "1")]
    losses: Vec<f64>,
    /// Discounted number of errors.
    #[prost(double, tag = "2")]
    seen: f64,
    #[prost(message, required, tag = "3")]
    drift: Drift,
    /// Smallest reward seen, or 0.
    #[prost(double, tag = "4")]
    pub(super) low: f64,
    /// Largest reward seen, or 1.
    #[prost(double, tag = "5")]
    pub(super) high: f64,
    #[prost(double, tag = "6")]
    rewards: f64,
    #[prost(double, tag = "7")]
    mean: f64,
    /// Sum of squared distances from the mean.
    #[prost(double, tag = "8")]
    squares: f64,
}

impl Referee {
    pub(super) fn new(members: usize) -> Referee {
        Referee { losses: vec![0.0; members], high: 1.0, ..Referee::default() }
    }

    pub(super) fn members(&self) -> usize {
        self.losses.len()
    }

    fn range(&self) -> f64 {
        self.high - self.low
    }

    /// Learns range and spread of rewards.
    pub(super) fn reward(&mut self, reward: f64) {
        self.rewards += 1.0;
        let off = reward - self.mean;
        self.mean += off / self.rewards;
        self.squares += off * (reward - self.mean);
        self.low = self.low.min(reward);
        self.high = self.high.max(reward);
    }

    /// Learns by how much each member was wrong about a reward. `true` when the leader has got so much worse
    /// of late that what is known must belong to another world; then everything begins anew.
    pub(super) fn judge(&mut self, predictions: &[f64], reward: f64, half_life: f64) -> bool {
        let leader = self.leader();
        let keep = 0.5f64.powf(1.0 / half_life.max(1.0));
        self.seen = self.seen * keep + 1.0;
        let mut of_leader = 0.0;
        for (i, (loss, prediction)) in self.losses.iter_mut().zip(predictions).enumerate() {
            let error = (prediction.clamp(self.low, self.high) - reward).powi(2);
            *loss = *loss * keep + error;
            if i == leader {
                of_leader = error;
            }
        }
        let changed = self.drift.add(of_leader);
        if changed {
            let members = self.members();
            *self =
                Referee { losses: vec![0.0; members], seen: 0.0, drift: Drift::default(), ..self.clone() };
        }
        changed
    }

    /// The member with the smallest error; the first before any.
    pub(super) fn leader(&self) -> usize {
        self.losses.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i)
    }

    /// Each member's say, the leader's being 1.
    pub(super) fn shares(&self) -> Vec<f64> {
        let best = self.losses.get(self.leader()).copied().unwrap_or_default();
        let variance = (self.squares + 0.25 * self.range().powi(2)) / (self.rewards + 1.0);
        let share = |loss: &f64| {
            let share = ((best - loss) / (TOLERANCE * variance)).exp();
            if share < SAY { 0.0 } else { share }
        };
        // Before any error is known the first member, which needs no context, is as good as any.
        if self.seen == 0.0 {
            return (0..self.members()).map(|i| f64::from(u8::from(i == 0))).collect();
        }
        self.losses.iter().map(share).collect()
    }

    /// A member's usual error, in the unit of the rewards; begins at half their range.
    pub(super) fn deviation(&self, member: usize) -> f64 {
        let loss = self.losses.get(member).copied().unwrap_or_default();
        ((loss + 0.25 * self.range().powi(2)) / (self.seen + 1.0)).sqrt()
    }
}

/// Errors of the short run, in numbers of them.
const SHORT: f64 = 72.0;
/// Errors of the long run.
const LONG: f64 = 2000.0;
/// Errors seen before any change can be told.
const PATIENCE: f64 = 300.0;
/// A short run is a change when its mean is this unlikely, in standard deviations of a normal one.
const UNLIKELY: f64 = 6.0;

/// Tells when errors become larger than chance allows: two running means, and Bernstein's inequality for
/// the difference (Maurer and Pontil, "Empirical Bernstein bounds and sample variance penalization", 2009).
#[derive(Clone, PartialEq, Message)]
struct Drift {
    #[prost(double, tag = "1")]
    seen: f64,
    #[prost(double, tag = "2")]
    short: f64,
    #[prost(double, tag = "3")]
    long: f64,
    #[prost(double, tag = "4")]
    variance: f64,
    #[prost(double, tag = "5")]
    largest: f64,
}

impl Drift {
    fn add(&mut self, error: f64) -> bool {
        self.seen += 1.0;
        let rate = |span: f64| (1.0 / self.seen).max(1.0 / span);
        let (short, long) = (rate(SHORT), rate(LONG));
        self.largest = self.largest.max(error);
        self.short += (error - self.short) * short;
        let off = error - self.long;
        self.long += off * long;
        self.variance += (off * off - self.variance) * long;
        // A mean with weights that fall by 1 − 1/n has the variance of 2n − 1 plain ones.
        let runs = 2.0 * SHORT - 1.0;
        let chance = UNLIKELY * (self.variance / runs).sqrt() + UNLIKELY.powi(2) / 6.0 * self.largest / runs;
        self.seen > PATIENCE && self.short > 1.3 * self.long && self.short - self.long > chance
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn the_best_predictor_leads_and_the_worst_has_no_say() {
        let mut referee = Referee::new(3);
        assert_eq!(referee.shares(), [1.0, 0.0, 0.0]);
        for _ in 0..50 {
            assert!(!referee.judge(&[0.5, 0.9, 0.0], 1.0, 100.0));
        }
        assert_eq!(referee.leader(), 1);
        let shares = referee.shares();
        assert!(shares[1] == 1.0 && shares[2] == 0.0 && shares[0] < 0.02, "{shares:?}");
        assert!(referee.deviation(1) < referee.deviation(0));
    }

    #[test]
    fn a_change_is_told_and_chance_is_not() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut referee = Referee::new(1);
        let coin = |rng: &mut SmallRng, p: f64| f64::from(u8::from(rng.random::<f64>() < p));
        for _ in 0..200_000 {
            let reward = coin(&mut rng, 0.02);
            assert!(!referee.judge(&[0.0], reward, 600.0), "rare errors come in runs by chance");
        }
        let after = (0..1000).position(|_| {
            let reward = coin(&mut rng, 0.5);
            referee.judge(&[0.0], reward, 600.0)
        });
        assert!(after.is_some_and(|n| n < 150), "told after {after:?}");
    }
}
