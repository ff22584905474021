//! People alike, found by k-means over their contexts.

use linfa::{DatasetBase, traits::Fit};
use linfa_clustering::KMeans;
use ndarray::{Array2, ArrayView1};

/// How many kinds of people.
pub(super) const SEGMENTS: usize = 8;

/// Kinds of people, by `linfa-clustering`: k-means (Lloyd, 1982) begun by k-means++ (Arthur and
/// Vassilvitskii, 2007). Which kind a context belongs to lets someone new be given what people alike took.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Segments {
    /// One row a segment.
    centroids: Option<Array2<f64>>,
}

impl Segments {
    /// Of these contexts, all of one length; none where they are too few or too much alike.
    pub(super) fn of(contexts: &[Vec<f32>]) -> Segments {
        let width = contexts.iter().map(Vec::len).max().unwrap_or(0);
        if width == 0 || contexts.len() < 4 * SEGMENTS {
            return Segments::default();
        }
        let value = |(i, j): (usize, usize)| contexts[i].get(j).map_or(0.0, |v| f64::from(*v));
        let records = Array2::from_shape_fn((contexts.len(), width), value);
        // The library's own generator begins from a fixed seed.
        let fitted = KMeans::params(SEGMENTS).n_runs(3).max_n_iterations(20).tolerance(1e-3);
        let fitted = fitted.fit(&DatasetBase::from(records)).ok();
        Segments { centroids: fitted.map(|model| model.centroids().clone()) }
    }

    /// One for the segment of this context and 0 for the others; nothing before there are any.
    pub(super) fn indicator(&self, context: &[f32]) -> Vec<f32> {
        let Some(centroids) = &self.centroids else { return Vec::new() };
        let distance = |centroid: ArrayView1<'_, f64>| -> f64 {
            let values = context.iter().chain(std::iter::repeat(&0.0f32));
            centroid.iter().zip(values).map(|(c, v)| (c - f64::from(*v)).powi(2)).sum()
        };
        let distances = centroids.outer_iter().map(distance).enumerate();
        let nearest = distances.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(i, _)| i);
        let mut out = vec![0.0; SEGMENTS];
        out[nearest] = 1.0;
        out
    }

    /// Width, and the centroids one after the other.
    pub(super) fn to_numbers(&self) -> (usize, Vec<f64>) {
        match &self.centroids {
            Some(centroids) => (centroids.ncols(), centroids.iter().copied().collect()),
            None => (0, Vec::new()),
        }
    }

    /// The opposite of [`Segments::to_numbers`].
    pub(super) fn from_numbers(width: usize, numbers: Vec<f64>) -> Option<Segments> {
        if width == 0 {
            return numbers.is_empty().then(Segments::default);
        }
        Some(Segments { centroids: Some(Array2::from_shape_vec((SEGMENTS, width), numbers).ok()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_alike_are_of_one_segment() {
        let contexts: Vec<Vec<f32>> = (0..80)
            .map(|i| vec![(i % SEGMENTS) as f32, (i % SEGMENTS * i % SEGMENTS) as f32 * 1e-3])
            .collect();
        let segments = Segments::of(&contexts);
        let first = segments.indicator(&contexts[0]);
        assert_eq!(first.iter().sum::<f32>(), 1.0);
        assert_eq!(segments.indicator(&contexts[SEGMENTS]), first);
        assert_ne!(segments.indicator(&contexts[SEGMENTS - 1]), first);
        let (width, numbers) = segments.to_numbers();
        assert_eq!(Segments::from_numbers(width, numbers), Some(segments));
        assert_eq!(Segments::of(&contexts[..3]), Segments::default());
    }
}
