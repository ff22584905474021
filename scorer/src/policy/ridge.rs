//! Ridge regression, one row at a time, in factored form.

use linfa::{
    DatasetBase,
    traits::{FitWith, PredictInplace},
};
use ndarray::{Array1, Array2, ArrayBase, ArrayView1, Axis, Data, Ix1, Ix2, s};

/// Penalised least squares: minimises `Σ (y − x·w)² + Σ λᵢ wᵢ²`.
///
/// Holds the upper Cholesky factor `U` of `Λ + Σ x xᵀ = Uᵀ U` and moves it by rank-one rotations (Gill,
/// Golub, Murray, Saunders, "Methods for modifying matrix factorizations", 1974). Unlike a Sherman-Morrison
/// inverse it cannot lose positive definiteness, however many rows it sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Ridge {
    /// Upper triangular; row `k` is contiguous, which is the order the rotation walks.
    factor: Array2<f64>,
    /// `U⁻ᵀ Σ y x`: the targets, rotated along with the factor.
    targets: Array1<f64>,
    /// `U⁻ᵀ Σ x`; lets the targets be centred afterwards by any constant, exactly.
    ones: Array1<f64>,
    rows: u64,
}

impl Ridge {
    /// With these penalties (all positive), one an input, and no rows yet.
    pub fn new(penalties: &[f64]) -> Ridge {
        let n = penalties.len();
        let mut factor = Array2::zeros((n, n));
        for (d, p) in factor.diag_mut().iter_mut().zip(penalties) {
            *d = p.sqrt();
        }
        Ridge { factor, targets: Array1::zeros(n), ones: Array1::zeros(n), rows: 0 }
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.targets.len()
    }

    /// Number of rows learned.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds an input, which was 0 in all rows so far.
    pub fn grow(&mut self, penalty: f64) {
        let n = self.inputs();
        let mut factor = Array2::zeros((n + 1, n + 1));
        factor.slice_mut(s![..n, ..n]).assign(&self.factor);
        factor[(n, n)] = penalty.sqrt();
        self.factor = factor;
        for v in [&mut self.targets, &mut self.ones] {
            let mut longer = Array1::zeros(n + 1);
            longer.slice_mut(s![..n]).assign(v);
            *v = longer;
        }
    }

    /// Learns one row: inputs `x` of length [`Ridge::inputs`], target `y`. O(n²).
    pub fn update(&mut self, x: ArrayView1<'_, f64>, y: f64) {
        self.rows += 1;
        let (mut x, mut y, mut one) = (x.to_vec(), y, 1.0);
        for (k, mut row) in self.factor.axis_iter_mut(Axis(0)).enumerate() {
            let Some(row) = row.as_slice_mut() else { continue };
            let (a, b) = (row[k], x[k]);
            if b == 0.0 {
                continue;
            }
            let r = (a * a + b * b).sqrt();
            let (cos, sin) = (a / r, b / r);
            row[k] = r;
            for (u, v) in row[k + 1..].iter_mut().zip(&mut x[k + 1..]) {
                rotate(u, v, cos, sin);
            }
            rotate(&mut self.targets[k], &mut y, cos, sin);
            rotate(&mut self.ones[k], &mut one, cos, sin);
        }
    }

    /// The weights for targets less `centre`. O(n²).
    pub fn weights(&self, centre: f64) -> Array1<f64> {
        let mut w: Vec<f64> = self.targets.iter().zip(&self.ones).map(|(t, one)| t - one * centre).collect();
        for (k, row) in self.factor.outer_iter().enumerate().rev() {
            let Some((diagonal, right)) = row.to_slice().and_then(|row| row[k..].split_first()) else {
                continue;
            };
            let (left, known) = w.split_at_mut(k + 1);
            left[k] = (left[k] - dot(right, known)) / diagonal;
        }
        Array1::from_vec(w)
    }

    /// `R = U⁻¹`, upper triangular. `R Rᵀ` is the inverse of `Λ + Σ x xᵀ`, so `|Rᵀ x|` is the standard error
    /// at `x`, and `R z` with standard normal `z` a draw of the weights' error, both for a noise of 1.
    pub fn error_factor(&self) -> Array2<f64> {
        let n = self.inputs();
        let mut inverse = vec![0.0; n * n];
        for (i, factor) in self.factor.outer_iter().enumerate().rev() {
            let (above, below) = inverse.split_at_mut((i + 1) * n);
            let row = &mut above[i * n..];
            let scale = 1.0 / factor[i];
            for (k, other) in (i + 1..n).zip(below.chunks_exact(n)) {
                let by = -scale * factor[k];
                if by != 0.0 {
                    row[k..].iter_mut().zip(&other[k..]).for_each(|(r, o)| *r += by * o);
                }
            }
            row[i] = scale;
        }
        Array2::from_shape_fn((n, n), |(i, j)| inverse[i * n + j])
    }

    /// The state as plain numbers: the factor's upper triangle row by row, the targets, the ones.
    pub(super) fn to_numbers(&self) -> Vec<f64> {
        let n = self.inputs();
        let mut out = Vec::with_capacity(n * (n + 1) / 2 + 2 * n);
        for k in 0..n {
            out.extend(self.factor.slice(s![k, k..]));
        }
        out.extend(&self.targets);
        out.extend(&self.ones);
        out
    }

    /// The opposite of [`Ridge::to_numbers`]; `None` when the count or a value cannot be right.
    pub(super) fn from_numbers(n: usize, rows: u64, numbers: &[f64]) -> Option<Ridge> {
        let triangle = n.checked_mul(n + 1)? / 2;
        if numbers.len() != triangle + 2 * n || numbers.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let mut ridge = Ridge::new(&vec![1.0; n]);
        let mut rest = numbers;
        for k in 0..n {
            let (row, tail) = rest.split_at(n - k);
            ridge.factor.slice_mut(s![k, k..]).assign(&ArrayView1::from(row));
            rest = tail;
        }
        let (targets, ones) = rest.split_at(n);
        ridge.targets.assign(&ArrayView1::from(targets));
        ridge.ones.assign(&ArrayView1::from(ones));
        ridge.rows = rows;
        let sound = ridge.factor.diag().iter().all(|d| *d > 0.0);
        sound.then_some(ridge)
    }
}

/// In lanes, so that the compiler may use vector instructions.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = left.remainder().iter().zip(right.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in left.zip(right) {
        lanes.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
    }
    lanes.iter().sum::<f64>() + rest
}

#[inline]
fn rotate(u: &mut f64, v: &mut f64, cos: f64, sin: f64) {
    let (old_u, old_v) = (*u, *v);
    *u = cos * old_u + sin * old_v;
    *v = cos * old_v - sin * old_u;
}

/// What a [`Ridge`] starts from, for learning whole `linfa` datasets.
#[derive(Debug, Clone)]
pub struct RidgeParams {
    /// Penalty of every weight.
    pub penalty: f64,
}

/// Learns a dataset row by row, from nothing or on top of a model.
impl<'a, D, T> FitWith<'a, ArrayBase<D, Ix2>, ArrayBase<T, Ix1>, linfa::Error> for RidgeParams
where
    D: Data<Elem = f64>,
    T: Data<Elem = f64>,
{
    type ObjectIn = Option<Ridge>;
    type ObjectOut = Ridge;

    fn fit_with(
        &self,
        model: Option<Ridge>,
        dataset: &'a DatasetBase<ArrayBase<D, Ix2>, ArrayBase<T, Ix1>>,
    ) -> Result<Ridge, linfa::Error> {
        let width = dataset.records.ncols();
        if dataset.records.nrows() != dataset.targets.len() {
            return Err(linfa::Error::MismatchedShapes(dataset.records.nrows(), dataset.targets.len()));
        }
        let mut ridge = model.unwrap_or_else(|| Ridge::new(&vec![self.penalty; width]));
        if ridge.inputs() != width {
            return Err(linfa::Error::MismatchedShapes(ridge.inputs(), width));
        }
        for (x, y) in dataset.records.outer_iter().zip(&dataset.targets) {
            ridge.update(x, *y);
        }
        Ok(ridge)
    }
}

impl<D: Data<Elem = f64>> PredictInplace<ArrayBase<D, Ix2>, Array1<f64>> for Ridge {
    fn predict_inplace<'a>(&'a self, x: &'a ArrayBase<D, Ix2>, y: &mut Array1<f64>) {
        y.assign(&x.dot(&self.weights(0.0)));
    }

    fn default_target(&self, x: &ArrayBase<D, Ix2>) -> Array1<f64> {
        Array1::zeros(x.nrows())
    }
}

#[cfg(test)]
mod tests {
    use linfa::{Dataset, traits::Predict};
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    /// Solves `a w = b` by Gaussian elimination with pivoting: shares nothing with the code under test.
    fn fresh_solve(mut a: Array2<f64>, mut b: Array1<f64>) -> Array1<f64> {
        let n = b.len();
        for k in 0..n {
            let p = (k..n).max_by(|i, j| a[(*i, k)].abs().total_cmp(&a[(*j, k)].abs())).unwrap();
            for j in 0..n {
                a.swap((k, j), (p, j));
            }
            b.swap(k, p);
            for i in k + 1..n {
                let f = a[(i, k)] / a[(k, k)];
                for j in k..n {
                    a[(i, j)] -= f * a[(k, j)];
                }
                b[i] -= f * b[k];
            }
        }
        for k in (0..n).rev() {
            let known: f64 = (k + 1..n).map(|j| a[(k, j)] * b[j]).sum();
            b[k] = (b[k] - known) / a[(k, k)];
        }
        b
    }

    #[test]
    fn very_many_rank_one_updates_equal_a_fresh_solve() {
        // A change's run makes a hundred thousand, the nightly one ten million.
        let updates = std::env::var("KAIROS_RIDGE_UPDATES").ok().and_then(|n| n.parse().ok());
        let n = 12;
        let mut rng = SmallRng::seed_from_u64(1);
        let penalties: Vec<f64> = (0..n).map(|i| 0.5 + i as f64).collect();
        let mut ridge = Ridge::new(&penalties);
        let mut a = Array2::from_diag(&Array1::from(penalties));
        let (mut b, mut sums) = (Array1::<f64>::zeros(n), Array1::<f64>::zeros(n));
        for _ in 0..updates.unwrap_or(100_000) {
            // Nearly dependent inputs of very different size: what makes an updated inverse drift.
            let shared: f64 = rng.random_range(-1.0..1.0);
            let x = Array1::from_shape_fn(n, |i| {
                (shared + 1e-3 * rng.random_range(-1.0..1.0)) * 10f64.powi(i as i32 % 4 - 2)
            });
            let y: f64 = rng.random();
            ridge.update(x.view(), y);
            for i in 0..n {
                for j in 0..n {
                    a[(i, j)] += x[i] * x[j];
                }
            }
            b.scaled_add(y, &x);
            sums += &x;
        }
        let expected = fresh_solve(a.clone(), &b - &(&sums * 0.4));
        let got = ridge.weights(0.4);
        let worst = (&got - &expected).mapv(f64::abs).fold(0.0, |m: f64, v| m.max(*v));
        let size = expected.mapv(f64::abs).fold(0.0, |m: f64, v| m.max(*v));
        assert!(worst <= 1e-6 * size, "off by {worst} of {size}");

        // The error factor inverts the same matrix.
        let r = ridge.error_factor();
        let near_identity = a.dot(&r).dot(&r.t());
        let off = (&near_identity - &Array2::<f64>::eye(n)).mapv(f64::abs).fold(0.0, |m: f64, v| m.max(*v));
        assert!(off < 1e-6, "A R Rᵀ is off the identity by {off}");
    }

    #[test]
    fn an_input_that_joins_later_equals_one_that_was_there_and_zero() {
        let mut grown = Ridge::new(&[1.0, 2.0]);
        let mut whole = Ridge::new(&[1.0, 2.0, 3.0]);
        grown.update(ndarray::aview1(&[1.0, 0.5]), 1.0);
        whole.update(ndarray::aview1(&[1.0, 0.5, 0.0]), 1.0);
        grown.grow(3.0);
        grown.update(ndarray::aview1(&[1.0, -0.5, 1.0]), 0.0);
        whole.update(ndarray::aview1(&[1.0, -0.5, 1.0]), 0.0);
        assert_eq!(grown, whole);
    }

    #[test]
    fn numbers_bring_the_state_back_to_the_bit() {
        let mut ridge = Ridge::new(&[1.0, 0.1, 3.0]);
        ridge.update(ndarray::aview1(&[0.1, 0.2, 0.3]), 0.7);
        let numbers = ridge.to_numbers();
        assert_eq!(Ridge::from_numbers(3, 1, &numbers), Some(ridge));
        assert_eq!(Ridge::from_numbers(4, 1, &numbers), None);
        assert_eq!(Ridge::from_numbers(3, 1, &vec![f64::NAN; numbers.len()]), None);
    }

    #[test]
    fn learns_and_predicts_linfa_datasets() {
        let mut rng = SmallRng::seed_from_u64(2);
        let records = Array2::from_shape_fn((500, 3), |_| rng.random_range(-1.0..1.0));
        let truth = ndarray::array![0.5, -1.0, 2.0];
        let dataset = Dataset::new(records.clone(), records.dot(&truth));
        let params = RidgeParams { penalty: 1e-6 };
        let half = params.fit_with(None, &dataset).unwrap();
        let model = params.fit_with(Some(half), &dataset).unwrap();
        let predicted: Array1<f64> = model.predict(&records);
        assert_eq!(model.rows(), 1000);
        assert!((&predicted - &dataset.targets).iter().all(|e| e.abs() < 1e-4));
        let narrow = Dataset::new(Array2::<f64>::zeros((1, 2)), Array1::<f64>::zeros(1));
        assert!(params.fit_with(Some(model), &narrow).is_err());
    }
}
