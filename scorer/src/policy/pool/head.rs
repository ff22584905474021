//! One model of one group of actions.

use std::{collections::BTreeMap, sync::Arc};

use ndarray::Array1;

use super::member::Kind;
use crate::policy::{
    Ridge,
    logistic::{Logistic, sigmoid},
};

/// Rewards of a tip before its own effect counts as much as what its group says.
const TIP_PRIOR: f32 = 4.0;
/// Tips of a group with an effect of their own.
const TIPS: usize = 256;

/// The learning side.
#[derive(Clone)]
pub(super) struct Head {
    pub(super) model: Model,
    /// Rewards and the sum of what the model left unexplained, by tip.
    pub(super) tips: Arc<BTreeMap<Arc<str>, (f32, f32)>>,
    pub(super) rows: u64,
    /// When it learned last, in turns of its member.
    pub(super) turn: u64,
}

#[derive(Clone)]
pub(super) enum Model {
    /// Ridge regression, and the sum of squares of each input.
    Ridge(Ridge, Vec<f32>),
    Logistic(Logistic),
}

/// The deciding side: immutable.
#[derive(Debug, Clone)]
pub(super) struct View {
    weights: Vec<f32>,
    /// Variance of each weight were the inputs independent: one over its penalty and sum of squares. Cheap,
    /// and wide where inputs go together, which explores a little more than the exact bound.
    variances: Vec<f32>,
    /// Of inputs that join later.
    unknown: f32,
    logistic: bool,
    tips: Arc<BTreeMap<Arc<str>, (f32, f32)>>,
}

impl Head {
    pub(super) fn new(kind: Kind, inputs: usize) -> Head {
        let model = match kind {
            Kind::Logistic(alpha) => Logistic::new(alpha, inputs).map(Model::Logistic),
            _ => None,
        };
        let ridge =
            || Model::Ridge(Ridge::new(&vec![kind.ridge(); inputs]), vec![kind.ridge() as f32; inputs]);
        Head { model: model.unwrap_or_else(ridge), tips: Arc::default(), rows: 0, turn: 0 }
    }

    /// Learns a row and says what readers see from now on. For a logistic model `share` is the reward as a
    /// share of the rewards' range.
    pub(super) fn learn(
        &mut self,
        kind: Kind,
        x: &[f32],
        own: Option<&str>,
        reward: f64,
        share: f64,
    ) -> View {
        self.rows += 1;
        let wide: Array1<f64> = x.iter().map(|v| f64::from(*v)).collect();
        match &mut self.model {
            Model::Ridge(ridge, squares) => {
                while ridge.inputs() < x.len() {
                    ridge.grow(kind.ridge());
                    squares.push(kind.ridge() as f32);
                }
                ridge.update(wide.view(), reward);
                squares.iter_mut().zip(x).for_each(|(sum, v)| *sum += v * v);
            }
            Model::Logistic(model) => {
                if model.weights().len() < x.len() {
                    model.grow(x.len());
                }
                if let Some(x) = wide.as_slice() {
                    model.learn(x, share);
                }
            }
        }
        if let Some(tip) = own {
            let target = if matches!(self.model, Model::Logistic(_)) { share } else { reward };
            let left = target as f32 - self.view(kind).mean(x);
            let tips = Arc::make_mut(&mut self.tips);
            if tips.contains_key(tip) || tips.len() < TIPS {
                let (rows, sum) = tips.entry(tip.into()).or_default();
                *rows += 1.0;
                *sum += left;
            }
        }
        self.view(kind)
    }

    pub(super) fn view(&self, kind: Kind) -> View {
        let narrow = |v: &Array1<f64>| v.iter().map(|w| *w as f32).collect();
        let (weights, variances, logistic) = match &self.model {
            Model::Ridge(ridge, squares) => {
                (narrow(&ridge.weights(0.0)), squares.iter().map(|s| 1.0 / s).collect(), false)
            }
            Model::Logistic(model) => (narrow(model.weights()), Vec::new(), true),
        };
        View { weights, variances, logistic, tips: self.tips.clone(), unknown: (1.0 / kind.ridge()) as f32 }
    }
}

impl View {
    /// Of a group never learned from.
    pub(super) fn unknown(kind: Kind) -> View {
        let logistic = matches!(kind, Kind::Logistic(_));
        let unknown = (1.0 / kind.ridge()) as f32;
        View { weights: Vec::new(), variances: Vec::new(), unknown, logistic, tips: Arc::default() }
    }

    /// The prediction for inputs `x` without the tip's own effect.
    pub(super) fn mean(&self, x: &[f32]) -> f32 {
        self.finish(dot(&self.weights, x))
    }

    /// What the sum of weighted inputs means.
    pub(super) fn finish(&self, sum: f32) -> f32 {
        if self.logistic { sigmoid(f64::from(sum)) as f32 } else { sum }
    }

    /// Weighted sum of inputs.
    pub(super) fn sum(&self, x: &[f32]) -> f32 {
        dot(&self.weights, x)
    }

    /// Variance of that sum, in squares of the error of one reward.
    pub(super) fn variance(&self, x: &[f32]) -> f32 {
        let later = x.get(self.variances.len()..).unwrap_or(&[]);
        dot_squares(&self.variances, x) + self.unknown * later.iter().map(|v| v * v).sum::<f32>()
    }

    /// What one more input adds to sum and variance.
    pub(super) fn one(&self, place: usize, value: f32) -> (f32, f32) {
        let weight = self.weights.get(place).copied().unwrap_or(0.0);
        let variance = self.variances.get(place).copied().unwrap_or(self.unknown);
        (weight * value, variance * value * value)
    }

    /// A tip's own effect and its variance.
    pub(super) fn own(&self, tip: &str, group: &str) -> (f32, f32) {
        if tip == group {
            return (0.0, 0.0);
        }
        match self.tips.get(tip) {
            Some((rows, sum)) => (sum / (rows + TIP_PRIOR), 1.0 / (rows + TIP_PRIOR)),
            None => (0.0, 1.0 / TIP_PRIOR),
        }
    }
}

/// Lanes, so that the compiler may use vector instructions without changing the order of the sum.
const LANES: usize = 8;

fn dot(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, |a, b| a * b)
}

fn dot_squares(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, |a, b| a * (b * b))
}

#[inline(always)]
fn lanes(a: &[f32], b: &[f32], of: impl Fn(f32, f32) -> f32) -> f32 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    let mut sums = [0.0f32; LANES];
    let (left, right) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = left.remainder().iter().zip(right.remainder()).map(|(a, b)| of(*a, *b)).sum();
    for (a, b) in left.zip(right) {
        for ((s, a), b) in sums.iter_mut().zip(a).zip(b) {
            *s += of(*a, *b);
        }
    }
    sums.iter().sum::<f32>() + rest
}
