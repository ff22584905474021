//! How far the values of a day are from those of the week before: the population stability index,
//!
//!   PSI = Σ (p − q) · ln(p / q)
//!
//! over bins, `p` being a bin's share of the day and `q` its share of the week (Siddiqi, Credit Risk
//! Scorecards, 2006, from where the usual reading comes as well: below 0.1 nothing changed, above 0.25 much
//! did). It is the Jeffreys divergence: symmetric, and 0 for equal shares alone.

use super::shape::Shape;

/// Bins that the values of the week are cut into, about equally filled.
const BINS: usize = 10;

/// With fewer values than this on either side, the score would be mostly chance: its mean under no change is
/// about (bins − 1) (1/n + 1/m).
pub const LEAST: u64 = 500;

/// The index of `day` against `week`; `None` where either has too few values.
pub fn psi(day: &Shape, week: &Shape) -> Option<f64> {
    let (n, m) = (day.rows(), week.rows());
    if n < LEAST || m < LEAST {
        return None;
    }
    let mut bins = vec![(day.nulls, week.nulls)];
    let values = m - week.nulls;
    let (mut passed, mut open) = (0, (0, 0));
    let mut keys: Vec<i32> = day.buckets.keys().chain(week.buckets.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let of = |shape: &Shape| shape.buckets.get(&key).copied().unwrap_or(0);
        let (today, before) = (of(day), of(week));
        open = (open.0 + today, open.1 + before);
        passed += before;
        // A bin is full where the week has passed the next tenth of its values.
        if before > 0 && passed * BINS as u64 >= values * bins.len() as u64 {
            bins.push(open);
            open = (0, 0);
        }
    }
    // What lies beyond the week's greatest value belongs to its last bin, if it has any.
    match bins.last_mut() {
        Some(last) if values > 0 => *last = (last.0 + open.0, last.1 + open.1),
        _ => bins.push(open),
    }
    // Half a value more in every bin keeps an empty one from being infinitely unlikely.
    let share = |count: u64, total: u64| (count as f64 + 0.5) / (total as f64 + 0.5 * bins.len() as f64);
    let term = |(today, before): &(u64, u64)| {
        let (p, q) = (share(*today, n), share(*before, m));
        (p - q) * (p / q).ln()
    };
    Some(bins.iter().map(term).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(nulls: u64, buckets: impl IntoIterator<Item = (i32, u64)>) -> Shape {
        Shape { nulls, buckets: buckets.into_iter().collect() }
    }

    #[test]
    fn the_same_shape_does_not_drift_whatever_its_size() {
        let week = shape(100, (0..40).map(|k| (k, 1_000)));
        let day = shape(10, (0..40).map(|k| (k, 100)));
        assert!(psi(&day, &week).unwrap() < 1e-3);
    }

    #[test]
    fn a_shift_drifts_more_the_further_it_goes() {
        let week = shape(0, (0..40).map(|k| (k, 1_000)));
        let moved = |by: i32| psi(&shape(0, (by..40 + by).map(|k| (k, 100))), &week).unwrap();
        assert!(moved(1) < 0.1 && moved(1) > 0.0, "{}", moved(1));
        assert!(moved(12) > 0.25 && moved(30) > moved(12), "{} {}", moved(12), moved(30));
    }

    #[test]
    fn by_the_formula() {
        // Two bins of shares 1/2 and 1/2 against 1/4 and 3/4, and an empty one for NULL.
        let (day, week) = (shape(0, [(0, 5_000), (1, 5_000)]), shape(0, [(0, 2_500), (1, 7_500)]));
        let wanted = 0.25 * 2f64.ln() - 0.25 * (2.0f64 / 3.0).ln();
        assert!((psi(&day, &week).unwrap() - wanted).abs() < 1e-3);
        assert!((psi(&week, &day).unwrap() - wanted).abs() < 1e-3, "symmetric");
    }

    #[test]
    fn nulls_that_appear_are_drift_and_few_values_are_none() {
        let week = shape(0, [(7, 1_000)]);
        assert!(psi(&shape(500, [(7, 500)]), &week).unwrap() > 1.0);
        assert_eq!(psi(&shape(0, [(7, LEAST - 1)]), &week), None);
    }
}
