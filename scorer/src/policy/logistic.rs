//! Logistic regression online.

use linfa::{DatasetBase, dataset::Pr};
use linfa_ftrl::Ftrl;
use ndarray::{Array1, ArrayView2, aview1};
use serde_json::json;

/// A logistic model learned row by row with FTRL-proximal (McMahan and others, "Ad click prediction: a view
/// from the trenches", 2013), by `linfa-ftrl`. Begins at zero weights; targets are any from 0 to 1.
#[derive(Debug, Clone)]
pub(super) struct Logistic {
    model: Ftrl<f64>,
    weights: Array1<f64>,
}

/// The learning rate falls with `β + √n`, where `n` sums the squared gradients.
const BETA: f64 = 1.0;

impl Logistic {
    pub(super) fn new(alpha: f64, inputs: usize) -> Option<Logistic> {
        Self::from_parts(alpha, &vec![0.0; inputs], &vec![0.0; inputs])
    }

    /// From the sums of a model with this learning rate. `None` where they are no numbers.
    pub(super) fn from_parts(alpha: f64, z: &[f64], n: &[f64]) -> Option<Logistic> {
        let sound = z.len() == n.len()
            && z.iter().all(|v| v.is_finite())
            && n.iter().all(|v| v.is_finite() && *v >= 0.0);
        if !sound {
            return None;
        }
        // The only way `linfa-ftrl` has to begin elsewhere than at random.
        let array = |v: &[f64]| json!({"v": 1, "dim": [v.len()], "data": v});
        let whole = json!({
            "alpha": alpha, "beta": BETA, "l1_ratio": 0.0, "l2_ratio": 0.0, "z": array(z), "n": array(n),
        });
        let model: Ftrl<f64> = serde_json::from_value(whole).ok()?;
        let weights = model.get_weights();
        Some(Logistic { model, weights })
    }

    pub(super) fn parts(&self) -> (&Array1<f64>, &Array1<f64>) {
        (self.model.z(), self.model.n())
    }

    pub(super) fn weights(&self) -> &Array1<f64> {
        &self.weights
    }

    /// Adds inputs that were 0 so far.
    pub(super) fn grow(&mut self, inputs: usize) {
        let pad = |v: &Array1<f64>| {
            let mut longer = v.to_vec();
            longer.resize(inputs, 0.0);
            longer
        };
        let (z, n) = (pad(self.model.z()), pad(self.model.n()));
        if let Some(longer) = Self::from_parts(self.model.alpha(), &z, &n) {
            *self = longer;
        }
    }

    /// Learns that inputs `x`, as many as the model has, came to `y`, 0 to 1.
    pub(super) fn learn(&mut self, x: &[f64], y: f64) {
        let off = sigmoid(self.weights.dot(&aview1(x))) - y;
        // The gradient is (p − target)·x with a target of 0 or 1; this p makes it (prediction − y)·x.
        let (p, target) = if off >= 0.0 { (off, false) } else { (1.0 + off, true) };
        let Ok(row) = ArrayView2::from_shape((1, x.len()), x) else { return };
        let dataset = DatasetBase::new(row, Array1::from_elem(1, target));
        self.model.update(&dataset, aview1(&[Pr::new(p as f32)]));
        self.weights = self.model.get_weights();
    }

    /// Variance of each weight in a diagonal Laplace approximation: the inverse of the learning rate's
    /// denominator (Chapelle and Li, "An empirical evaluation of Thompson sampling", 2011, algorithm 3).
    pub(super) fn variances(&self) -> Array1<f64> {
        self.model.n().mapv(|n| self.model.alpha() / (BETA + n.sqrt()))
    }
}

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
