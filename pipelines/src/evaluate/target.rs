//! Policies to judge.

use super::LoggedDecision;

type Distribution<'a> = Box<dyn Fn(&LoggedDecision) -> Vec<f64> + 'a>;

/// A policy to judge: a name, and the probability it would give each candidate of a logged decision.
pub struct Target<'a> {
    name: String,
    distribution: Distribution<'a>,
}

impl<'a> Target<'a> {
    /// Any policy. The function sees context and candidates and answers with a probability for each
    /// candidate, in their order. It must not look at the tip chosen or at the reward.
    pub fn new(name: impl Into<String>, distribution: impl Fn(&LoggedDecision) -> Vec<f64> + 'a) -> Self {
        Target { name: name.into(), distribution: Box::new(distribution) }
    }

    /// The policy that made the decision. Every weight is 1, so the estimate is the mean of its rewards.
    pub fn as_logged() -> Self {
        Target::new("as logged", |d| d.candidates.iter().map(|c| c.propensity).collect())
    }

    /// Every candidate alike.
    pub fn uniform() -> Self {
        Target::new("uniform", |d| vec![1.0 / d.candidates.len() as f64; d.candidates.len()])
    }

    /// The logging policy without its exploration: always the candidate it held most likely; ties share.
    pub fn most_likely() -> Self {
        Target::new("most likely", |d| {
            let most = d.candidates.iter().map(|c| c.propensity).fold(0.0, f64::max);
            let best = |p: f64| p >= most * (1.0 - 1e-9);
            let count = d.candidates.iter().filter(|c| best(c.propensity)).count();
            let share = 1.0 / count.max(1) as f64;
            d.candidates.iter().map(|c| if best(c.propensity) { share } else { 0.0 }).collect()
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The probabilities, or nothing where the function's answer is no distribution over the candidates.
    pub(super) fn probabilities(&self, decision: &LoggedDecision) -> Option<Vec<f64>> {
        let probabilities = (self.distribution)(decision);
        let proper = probabilities.len() == decision.candidates.len() && is_distribution(&probabilities);
        proper.then_some(probabilities)
    }
}

/// Whether these are probabilities that sum to 1, but for rounding.
pub(super) fn is_distribution(probabilities: &[f64]) -> bool {
    let valid = probabilities.iter().all(|p| (0.0..=1.0 + 1e-9).contains(p));
    valid && (probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6
}
