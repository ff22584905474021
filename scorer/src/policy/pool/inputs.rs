//! What the members of the pool see: values brought to one scale, and random features of them.

use std::f64::consts::TAU;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};

/// Values this many standard deviations from their mean count as that many.
const CLIP: f64 = 5.0;

/// Mean and spread of each input, learned online (Welford, "Note on a method for calculating corrected sums
/// of squares and products", 1962).
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Scaler {
    pub(super) rows: Vec<f64>,
    pub(super) means: Vec<f64>,
    pub(super) squares: Vec<f64>,
}

impl Scaler {
    pub(super) fn len(&self) -> usize {
        self.means.len()
    }

    /// Learns a row; inputs that join later begin here.
    pub(super) fn add<'a>(&mut self, row: impl Iterator<Item = &'a f64>) {
        for (i, value) in row.enumerate() {
            if i == self.means.len() {
                self.rows.push(0.0);
                self.means.push(0.0);
                self.squares.push(0.0);
            }
            self.rows[i] += 1.0;
            let off = value - self.means[i];
            self.means[i] += off / self.rows[i];
            self.squares[i] += off * (value - self.means[i]);
        }
    }

    /// The row in standard deviations from the mean; 0 for what is not known or never varied.
    pub(super) fn scaled<'a>(&self, row: impl Iterator<Item = &'a f64>) -> Vec<f32> {
        let one = |(i, value): (usize, &f64)| {
            let (Some(rows), Some(mean), Some(squares)) =
                (self.rows.get(i), self.means.get(i), self.squares.get(i))
            else {
                return 0.0;
            };
            let deviation = (squares / rows).sqrt();
            if deviation < 1e-9 { 0.0 } else { ((value - mean) / deviation).clamp(-CLIP, CLIP) as f32 }
        };
        row.enumerate().map(one).collect()
    }
}

/// Pairs of a cosine and a sine.
pub(super) const PAIRS: usize = 64;
/// Widths of the two kernels the pairs stand for, half of the pairs each.
const BANDWIDTHS: [f64; 2] = [1.0, 2.0];

/// Random Fourier features: a linear model of them is about one with a Gaussian kernel of the context (Rahimi
/// and Recht, "Random features for large-scale kernel machines", 2007).
///
/// The frequencies of an input are drawn from the seed and its number, so inputs may join.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fourier {
    seed: u64,
    /// [`PAIRS`] frequencies an input.
    frequencies: Vec<f32>,
}

impl Fourier {
    pub(super) fn new(seed: u64) -> Fourier {
        Fourier { seed, frequencies: Vec::new() }
    }

    /// Knows at least this many inputs.
    pub(super) fn cover(&mut self, inputs: usize) {
        while self.frequencies.len() < inputs * PAIRS {
            let input = self.frequencies.len() / PAIRS;
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(input as u64);
            self.frequencies.extend((0..PAIRS).map(|pair| {
                let normal: f64 = StandardNormal.sample(&mut rng);
                (normal * BANDWIDTHS[pair % 2]) as f32
            }));
        }
    }

    /// How many inputs it knows.
    pub(super) fn inputs(&self) -> usize {
        self.frequencies.len() / PAIRS
    }

    /// `2 · PAIRS` features of length 1 altogether, of a context whose size is about `size`.
    pub(super) fn features(&self, context: &[f32], size: f64) -> Vec<f32> {
        let mut angles = [0.0f32; PAIRS];
        for (value, row) in context.iter().zip(self.frequencies.chunks_exact(PAIRS)) {
            for (angle, frequency) in angles.iter_mut().zip(row) {
                *angle += value * frequency;
            }
        }
        let scale = (1.0 / PAIRS as f32).sqrt();
        let narrow = 1.0 / size.max(1.0) as f32;
        let mut out = Vec::with_capacity(2 * PAIRS);
        for angle in angles {
            // Kept small: beyond some turns a sine of single precision is noise.
            let (sin, cos) = (angle * narrow).rem_euclid(TAU as f32).sin_cos();
            out.extend([scale * cos, scale * sin]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_brought_to_one_scale() {
        let mut scaler = Scaler::default();
        for i in 0..100 {
            scaler.add([1000.0 + 10.0 * f64::from(i % 2), 7.0].iter());
        }
        assert_eq!(scaler.scaled([1010.0, 7.0, 3.0].iter()), [1.0, 0.0, 0.0]);
        assert_eq!(scaler.scaled([1e9].iter()), [CLIP as f32]);
        scaler.add([1.0, 1.0, 1.0].iter());
        assert_eq!(scaler.len(), 3);
    }

    #[test]
    fn features_resemble_a_gaussian_kernel() {
        let mut fourier = Fourier::new(1);
        fourier.cover(3);
        let at = |x: f32| fourier.features(&[x, 0.3, -0.2], 1.0);
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let here = at(0.0);
        assert!((product(&here, &here) - 1.0).abs() < 1e-5);
        for distance in [0.2f32, 0.5, 1.0, 2.0] {
            let kernel = |width: f32| (-(distance * width).powi(2) / 2.0).exp();
            let expected = (kernel(1.0) + kernel(2.0)) / 2.0;
            let got = product(&here, &at(distance));
            // 64 random pairs stray by about an eighth.
            assert!((got - expected).abs() < 0.25, "at {distance}: {got}, expected {expected}");
        }
        let short = fourier.clone();
        fourier.cover(4);
        assert_eq!(short.features(&[0.5, 0.1], 1.0), fourier.features(&[0.5, 0.1], 1.0));
    }
}
