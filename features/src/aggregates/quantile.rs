//! `approx_percentile_cont(x, p)` and `approx_median(x)`: quantiles of numbers, NULL and NaN left out.
//!
//! DDSketch (Masson, Rim, Lee 2019, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
//! guarantees"): counts in buckets whose width grows with the value, here 64 to each power of two. The bucket
//! of a float is the sign, exponent and first six bits of its mantissa, so that no logarithm, which machines
//! round differently, decides about it. Answers are interpolated between neighbouring ranks as
//! `percentile_cont` does; each neighbour is within 1/129 = 0.78 % of the true value of its rank.
//!
//! - Up to [`EXACT`] different values they are kept as they are, and the answer is exact.
//! - At most [`BUCKETS`] buckets are kept; beyond, the lowest share one. That takes values spread over 2^32
//!   with every bucket between in use, and then the low quantiles alone are wrong.
//!
//! The sketch is a function of the bag of values alone: order, splits and merges leave no trace.
//!
//! State: format 1, then 0 and for each value, ascending, the float (8 bytes, little-endian) and its count; or
//! 1 and for each bucket, ascending, the difference of its number from the last one's and its count.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array},
    compute::cast,
    datatypes::{DataType, Float64Type},
};
use datafusion::common::{Result, plan_err};

use super::{
    arguments::Arguments,
    codec::{Reader, put_number, put_signed},
    family::{Family, Function},
};

/// So many different values are kept exactly.
const EXACT: usize = 64;
/// So many buckets are kept.
const BUCKETS: usize = 2_048;
/// Bits of a float's mantissa that do not matter for its bucket.
const DROPPED: u32 = 46;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Quantile {
    Percentile,
    Median,
}

impl Function for Quantile {
    type Family = Quantiles;

    fn name(&self) -> &'static str {
        match self {
            Quantile::Percentile => "approx_percentile_cont",
            Quantile::Median => "approx_median",
        }
    }

    fn within_group(&self) -> bool {
        matches!(self, Quantile::Percentile)
    }

    fn returns(&self, arguments: &[DataType]) -> Result<DataType> {
        let x = match (self, arguments) {
            (Quantile::Percentile, [x, _]) | (Quantile::Median, [x]) => x,
            (Quantile::Percentile, _) => {
                return plan_err!(
                    "approx_percentile_cont takes a number and a share: approx_percentile_cont(x, 0.9)"
                );
            }
            (Quantile::Median, _) => return plan_err!("approx_median takes one argument"),
        };
        if !x.is_numeric() && !x.is_null() {
            return plan_err!("{} takes numbers, not {x}", self.name());
        }
        Ok(DataType::Float64)
    }

    fn family(&self, arguments: &Arguments<'_>) -> Result<Quantiles> {
        let share = match self {
            Quantile::Percentile => arguments.share(1)?,
            Quantile::Median => 0.5,
        };
        Ok(Quantiles { share: if arguments.descending() { 1.0 - share } else { share } })
    }
}

#[derive(Debug)]
pub(super) struct Quantiles {
    share: f64,
}

/// Values, ascending, and how often each came. Once rounded, a value stands for its bucket.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sketch {
    values: Vec<(f64, u64)>,
    rounded: bool,
}

impl Sketch {
    fn add(&mut self, value: f64, count: u64) {
        let value = if self.rounded { round(value) } else { value + 0.0 };
        match self.values.binary_search_by(|(v, _)| v.total_cmp(&value)) {
            Ok(at) => self.values[at].1 += count,
            Err(at) => {
                self.values.insert(at, (value, count));
                if !self.rounded && self.values.len() > EXACT {
                    self.round();
                } else if self.values.len() > BUCKETS {
                    // Together with what was lowest: which buckets are the highest does not depend on order.
                    let (_, lowest) = self.values.remove(0);
                    self.values[0].1 += lowest;
                }
            }
        }
    }

    fn round(&mut self) {
        self.rounded = true;
        let values = std::mem::take(&mut self.values);
        // Buckets ascend with values.
        for (value, count) in values {
            let value = round(value);
            match self.values.last_mut() {
                Some((last, known)) if *last == value => *known += count,
                _ => self.values.push((value, count)),
            }
        }
    }

    fn quantile(&self, share: f64) -> Option<f64> {
        interpolated(self.values.iter().copied(), share)
    }
}

/// The quantile of ascending values and their counts, between neighbouring ranks; `None` for none.
pub(super) fn interpolated(values: impl Iterator<Item = (f64, u64)> + Clone, share: f64) -> Option<f64> {
    let total: u64 = values.clone().map(|(_, n)| n).sum();
    let rank = share * total.checked_sub(1)? as f64;
    let ranked = |rank: u64| {
        let mut seen = 0;
        let mut values = values.clone();
        values.find(|(_, n)| {
            seen += n;
            seen > rank
        })
    };
    let ((low, _), (high, _)) = (ranked(rank.floor() as u64)?, ranked(rank.ceil() as u64)?);
    // Also right where both are infinite.
    Some(if low == high { low } else { low + (high - low) * rank.fract() })
}

/// Number of a value's bucket; numbers ascend with values.
fn bucket(value: f64) -> i64 {
    let number = (value.abs().to_bits() >> DROPPED) as i64;
    // Below the smallest normal float there is no relative accuracy to keep.
    let number = if value.is_subnormal() { 0 } else { number };
    if value < 0.0 { -number } else { number }
}

/// The value that stands for a bucket: as far from its upper as from its lower edge, relative to them.
fn middle(bucket: i64) -> f64 {
    let low = f64::from_bits(bucket.unsigned_abs() << DROPPED);
    if low == 0.0 || low.is_infinite() {
        return if bucket < 0 { -low } else { low };
    }
    let power = f64::from_bits(low.to_bits() & 0x7ff0_0000_0000_0000);
    let width = power / 64.0;
    let middle = low + width / (2.0 + width / low);
    if bucket < 0 { -middle } else { middle }
}

fn round(value: f64) -> f64 {
    middle(bucket(value))
}

impl Family for Quantiles {
    type Summary = Sketch;
    type Columns = Float64Array;

    const NAME: &'static str = "approx_percentile_cont";
    const FORMAT: u8 = 1;

    fn columns(&self, values: &[ArrayRef]) -> Result<Float64Array> {
        Ok(cast(&values[0], &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    }

    fn add(&self, to: &mut Sketch, columns: &Float64Array, row: usize) {
        if columns.is_valid(row) && !columns.value(row).is_nan() {
            to.add(columns.value(row), 1);
        }
    }

    fn merge(&self, to: &mut Sketch, state: &mut Reader<'_>) -> Result<()> {
        if state.byte()? == 0 {
            while !state.is_empty() {
                let value = f64::from_le_bytes(state.array()?);
                to.add(value, state.number()?);
            }
            return Ok(());
        }
        if !to.rounded {
            to.round();
        }
        let mut number = 0i64;
        while !state.is_empty() {
            number = number.saturating_add(state.signed()?);
            to.add(middle(number), state.number()?);
        }
        Ok(())
    }

    fn write(&self, sketch: &mut Sketch, to: &mut Vec<u8>) {
        to.push(u8::from(sketch.rounded));
        let mut last = 0;
        for (value, count) in &sketch.values {
            if sketch.rounded {
                let number = bucket(*value);
                put_signed(to, number - last);
                last = number;
            } else {
                to.extend_from_slice(&value.to_le_bytes());
            }
            put_number(to, *count);
        }
    }

    fn values(&self, sketches: &mut [Sketch]) -> Result<ArrayRef> {
        Ok(Arc::new(sketches.iter().map(|s| s.quantile(self.share)).collect::<Float64Array>()))
    }

    fn size(&self, sketch: &Sketch) -> usize {
        sketch.values.capacity() * size_of::<(f64, u64)>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(values: &[f64]) -> Sketch {
        let mut s = Sketch::default();
        values.iter().for_each(|v| s.add(*v, 1));
        s
    }

    proptest! {
        #[test]
        fn rounding_is_within_its_bound_and_settles(
            value in prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::INFINITE
        ) {
            let rounded = round(value);
            prop_assert!(rounded == value || (rounded / value - 1.0).abs() <= 1.0 / 129.0 + 1e-15, "{} {}", value, rounded);
            prop_assert_eq!(round(rounded), rounded);
            prop_assert_eq!(middle(bucket(value)), rounded);
        }

        #[test]
        fn quantiles_are_within_one_percent(
            mut values in prop::collection::vec(prop_oneof![0.001..1e6f64, -5e3..-0.01f64, (0..50).prop_map(f64::from)], 1..600),
            share in 0.0..=1.0f64,
        ) {
            let got = sketch(&values).quantile(share).unwrap();
            values.sort_by(f64::total_cmp);
            let rank = share * (values.len() - 1) as f64;
            let (low, high) = (values[rank.floor() as usize], values[rank.ceil() as usize]);
            let exact = low + (high - low) * rank.fract();
            prop_assert!((got - exact).abs() <= 0.01 * low.abs().max(high.abs()), "{} {}", got, exact);
            let distinct = { let mut d = values.clone(); d.dedup(); d.len() };
            if distinct <= EXACT {
                prop_assert_eq!(got, exact);
            }
        }
    }

    #[test]
    fn the_highest_buckets_survive_in_any_order() {
        let up: Vec<f64> = (0..6_000).map(|i| 1.016f64.powi(i - 3_000)).collect();
        let mut down = up.clone();
        down.reverse();
        let (a, b) = (sketch(&up), sketch(&down));
        assert_eq!(a, b);
        assert_eq!(a.values.len(), BUCKETS);
        assert_eq!(a.values.iter().map(|(_, n)| n).sum::<u64>(), 6_000);
        let p90 = a.quantile(0.9).unwrap();
        assert!((p90 / up[5_399] - 1.0).abs() < 0.03, "{p90}");
    }

    #[test]
    fn nothing_and_extremes() {
        assert_eq!(sketch(&[]).quantile(0.5), None);
        assert_eq!(sketch(&[7.0]).quantile(1.0), Some(7.0));
        assert_eq!(sketch(&[f64::INFINITY, f64::INFINITY]).quantile(0.3), Some(f64::INFINITY));
        assert_eq!(sketch(&[1.0, 2.0]).quantile(0.5), Some(1.5));
    }
}
