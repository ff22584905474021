//! Reward models: what an action can be expected to earn in a context, learned with linfa.
//!
//! A ridge regression over the contexts of all actions, and one for each action over what the first one
//! leaves, so that an action taken seldom falls back on the others. Where rewards are 0 or 1, an action taken
//! often enough in both ways has a logistic regression instead.
//!
//! Models are cross-fitted: rows are dealt into folds, and a row is judged by a model that learned from the
//! other folds (Chernozhukov and others, "Double/debiased machine learning", 2018), so that no reward stands
//! on both sides of a difference.

use linfa::{
    DatasetBase,
    traits::{Fit, FitWith},
};
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2, ArrayView2};
use scorer::policy::RidgeParams;

/// Penalty of what all actions share.
const SHARED_PENALTY: f64 = 1.0;
/// Penalty of what an action has of its own.
const OWN_PENALTY: f64 = 10.0;
/// Rows of each kind that an action needs for a logistic regression.
const LEAST_OF_EACH: usize = 20;
const LOGISTIC_PENALTY: f64 = 1.0;
const LOGISTIC_STEPS: u64 = 60;
/// Bounds the work of learning: rows times the square of the inputs, for all folds together.
const WORK: usize = 600_000_000;

/// Rows to learn from. Inputs of all rows lie one after the other.
#[derive(Debug, Default, Clone)]
pub(super) struct Training {
    /// Number of inputs of a row.
    pub(super) width: usize,
    pub(super) inputs: Vec<f32>,
    pub(super) actions: Vec<u32>,
    pub(super) rewards: Vec<f64>,
    /// The fold in which each row is judged.
    pub(super) folds: Vec<u32>,
}

impl Training {
    /// How many rows of so many inputs are learned from; a sample of more tells the models hardly more.
    pub(super) fn most_rows(width: usize, folds: u32) -> usize {
        (WORK / (width * width * folds.max(1) as usize)).clamp(5_000, 200_000)
    }

    /// A model for each fold, learned from the rows of the others.
    pub(super) fn fit(&self, folds: u32) -> CrossFitted {
        let actions = self.actions.iter().map(|a| *a as usize + 1).max().unwrap_or(0);
        let one = |fold: u32| Model::learn(self, actions, |i| folds < 2 || self.folds[i] != fold);
        // Folds are learned side by side.
        let models = std::thread::scope(|scope| {
            let running: Vec<_> = (0..folds.max(1)).map(|fold| scope.spawn(move || one(fold))).collect();
            running.into_iter().map(|r| r.join().unwrap_or_else(|_| Model::nothing(self.width))).collect()
        });
        CrossFitted { models }
    }
}

/// One model a fold.
#[derive(Debug)]
pub(super) struct CrossFitted {
    models: Vec<Model>,
}

impl CrossFitted {
    /// What the model of a fold expects of an action.
    pub(super) fn expected(&self, fold: u32, action: u32, inputs: &[f32]) -> f64 {
        self.models[fold as usize % self.models.len()].expected(action, inputs)
    }
}

#[derive(Debug, Clone)]
struct Model {
    shared: Linear,
    /// For actions learned from, by number.
    own: Vec<Option<Linear>>,
    /// Least and greatest reward; nothing else is expected.
    range: (f64, f64),
}

#[derive(Debug, Clone)]
struct Linear {
    weights: Vec<f32>,
    logistic: bool,
}

impl Linear {
    fn at(&self, inputs: &[f32]) -> f64 {
        let sum: f32 = self.weights.iter().zip(inputs).map(|(w, x)| w * x).sum();
        let sum = f64::from(sum);
        if self.logistic { 1.0 / (1.0 + (-sum).exp()) } else { sum }
    }
}

impl Model {
    fn nothing(width: usize) -> Model {
        Model {
            shared: Linear { weights: vec![0.0; width], logistic: false },
            own: Vec::new(),
            range: (0.0, 0.0),
        }
    }

    fn expected(&self, action: u32, inputs: &[f32]) -> f64 {
        let own = self.own.get(action as usize).and_then(Option::as_ref);
        own.unwrap_or(&self.shared).at(inputs).clamp(self.range.0, self.range.1)
    }

    fn learn(training: &Training, actions: usize, learns: impl Fn(usize) -> bool) -> Model {
        let mut rows: Vec<usize> = (0..training.actions.len()).filter(|i| learns(*i)).collect();
        if rows.is_empty() {
            return Model::nothing(training.width);
        }
        rows.sort_by_key(|i| training.actions[*i]);
        let inputs = gather(training, &rows);
        let rewards: Array1<f64> = rows.iter().map(|i| training.rewards[*i]).collect();
        let range = rewards.iter().fold((f64::MAX, f64::MIN), |(l, h), r| (l.min(*r), h.max(*r)));
        let binary = rewards.iter().all(|r| *r == 0.0 || *r == 1.0);
        let mean = rewards.sum() / rows.len() as f64;
        let mut shared = ridge(SHARED_PENALTY, inputs.view(), &rewards - mean);
        shared[0] += mean;
        let left = &rewards - &inputs.dot(&shared);
        let mut own = vec![None; actions];
        let mut from = 0;
        while from < rows.len() {
            let action = training.actions[rows[from]];
            let to = from + rows[from..].partition_point(|i| training.actions[*i] == action);
            let part = inputs.slice(ndarray::s![from..to, ..]);
            let mut model = None;
            if binary {
                model = logistic(part, &rewards.slice(ndarray::s![from..to]).to_owned());
            }
            own[action as usize] = model.or_else(|| {
                let more = ridge(OWN_PENALTY, part, left.slice(ndarray::s![from..to]).to_owned());
                Some(linear(&(&more + &shared), false))
            });
            from = to;
        }
        Model { shared: linear(&shared, false), own, range }
    }
}

fn linear(weights: &Array1<f64>, logistic: bool) -> Linear {
    Linear { weights: weights.iter().map(|w| *w as f32).collect(), logistic }
}

fn gather(training: &Training, rows: &[usize]) -> Array2<f64> {
    let width = training.width;
    Array2::from_shape_fn((rows.len(), width), |(i, k)| f64::from(training.inputs[rows[i] * width + k]))
}

/// The weights; zeros where linfa refuses.
fn ridge(penalty: f64, inputs: ArrayView2<'_, f64>, targets: Array1<f64>) -> Array1<f64> {
    let width = inputs.ncols();
    let dataset = DatasetBase::new(inputs, targets);
    match (RidgeParams { penalty }).fit_with(None, &dataset) {
        Ok(model) => model.weights(0.0),
        Err(_) => Array1::zeros(width),
    }
}

/// Nothing where there are too few of either reward, or the search did not end well.
fn logistic(inputs: ArrayView2<'_, f64>, rewards: &Array1<f64>) -> Option<Linear> {
    let good = rewards.iter().filter(|r| **r == 1.0).count();
    if good < LEAST_OF_EACH || rewards.len() - good < LEAST_OF_EACH {
        return None;
    }
    // The first input is 1; linfa has an intercept of its own, without penalty.
    let dataset = DatasetBase::new(inputs.slice(ndarray::s![.., 1..]), rewards.mapv(|r| r == 1.0));
    let form = LogisticRegression::default().alpha(LOGISTIC_PENALTY).max_iterations(LOGISTIC_STEPS);
    let fitted = if inputs.ncols() == 1 {
        // The log odds, which is all that is left without inputs.
        return Some(linear(&Array1::from_elem(1, (good as f64 / (rewards.len() - good) as f64).ln()), true));
    } else {
        form.fit(&dataset).ok()?
    };
    let sign = if fitted.labels().pos.class { 1.0 } else { -1.0 };
    let mut weights = Array1::zeros(inputs.ncols());
    weights[0] = sign * fitted.intercept();
    weights.slice_mut(ndarray::s![1..]).assign(&(fitted.params() * sign));
    weights.iter().all(|w: &f64| w.is_finite()).then(|| linear(&weights, true))
}
