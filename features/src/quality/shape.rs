//! The values of one feature on one day, as counts: small, mergeable, and enough to see that they changed.
//!
//! A number falls into one of four buckets an octave, by the first bits of its IEEE 754 form (as HdrHistogram
//! does), so a bucket's ends lie at most a quarter apart. A text falls into one of 64 by its hash; a truth is 0
//! or 1; an instant counts by its age, because instants themselves always move; a list counts by its length.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType},
};
use ingest::Millis;
use serde::{Deserialize, Serialize};

/// Buckets that texts fall into.
const TEXTS: u64 = 64;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// How many were NULL.
    pub nulls: u64,
    /// How many were in each bucket; buckets of numbers are in the order of the numbers.
    pub buckets: BTreeMap<i32, u64>,
}

impl Shape {
    /// How many values there were, NULLs included.
    pub fn rows(&self) -> u64 {
        self.nulls + self.buckets.values().sum::<u64>()
    }

    /// The share of NULLs; `None` before the first value.
    pub fn null_rate(&self) -> Option<f64> {
        let rows = self.rows();
        (rows > 0).then(|| self.nulls as f64 / rows as f64)
    }

    /// Counts these rows of a column of values, which hold as of the instants beside them.
    pub fn add(&mut self, column: &ArrayRef, rows: &[(usize, Millis)]) {
        let mut count = |bucket: &dyn Fn(usize, Millis) -> i32| {
            for (row, at) in rows {
                if column.is_null(*row) {
                    self.nulls += 1;
                } else {
                    *self.buckets.entry(bucket(*row, *at)).or_default() += 1;
                }
            }
        };
        match column.data_type() {
            DataType::Int64 => {
                let values = column.as_primitive::<Int64Type>();
                count(&|row, _| of_number(values.value(row) as f64));
            }
            DataType::Float64 => {
                let values = column.as_primitive::<Float64Type>();
                count(&|row, _| of_number(values.value(row)));
            }
            DataType::Boolean => {
                let values = column.as_boolean();
                count(&|row, _| i32::from(values.value(row)));
            }
            DataType::Utf8 => {
                let values = column.as_string::<i32>();
                count(&|row, _| (xxhash_rust::xxh3::xxh3_64(values.value(row).as_bytes()) % TEXTS) as i32);
            }
            DataType::Timestamp(..) => {
                let values = column.as_primitive::<TimestampMillisecondType>();
                count(&|row, at| of_number(at.saturating_sub(values.value(row)) as f64));
            }
            DataType::List(_) => {
                let values = column.as_list::<i32>();
                count(&|row, _| of_number(f64::from(values.value_length(row))));
            }
            _ => count(&|_, _| 0),
        }
    }

    /// Adds another day's counts.
    pub fn merge(&mut self, other: &Shape) {
        self.nulls += other.nulls;
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
    }
}

/// Sign, exponent and two bits of the fraction, ordered as the numbers are.
fn of_number(x: f64) -> i32 {
    // Both zeros are one.
    let bits = (x + 0.0).to_bits();
    let size = ((bits & !(1 << 63)) >> 50) as i32;
    if bits >> 63 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray, TimestampMillisecondArray};

    use super::*;

    fn shape(column: ArrayRef) -> Shape {
        let rows: Vec<_> = (0..column.len()).map(|i| (i, 1_000)).collect();
        let mut shape = Shape::default();
        shape.add(&column, &rows);
        shape
    }

    #[test]
    fn buckets_of_numbers_are_narrow_and_in_order() {
        let numbers = [-1e9, -2.0, -1e-3, -0.0, 0.0, 1e-3, 0.9, 1.0, 1.3, 5.0, 1e9, f64::INFINITY];
        let buckets: Vec<i32> = numbers.iter().map(|x| of_number(*x)).collect();
        assert!(buckets.is_sorted(), "{buckets:?}");
        assert_eq!(of_number(-0.0), of_number(0.0));
        assert_eq!(of_number(1.0), of_number(1.24));
        assert_ne!(of_number(1.0), of_number(1.26));
    }

    #[test]
    fn every_type_is_counted() {
        let numbers = shape(Arc::new(Float64Array::from(vec![Some(1.0), Some(1.1), None, Some(-3.0)])));
        assert_eq!((numbers.rows(), numbers.null_rate(), numbers.buckets.len()), (4, Some(0.25), 2));
        let texts = shape(Arc::new(StringArray::from(vec!["a", "a", "b"])));
        assert_eq!((texts.rows(), texts.buckets.len()), (3, 2));
        // By age: 1,000 − 0 and 1,000 − 1 are about the same.
        let times = shape(Arc::new(TimestampMillisecondArray::from(vec![0, 1])));
        assert_eq!(times.buckets.len(), 1);
        let mut both = numbers.clone();
        both.merge(&numbers);
        assert_eq!((both.rows(), both.nulls), (8, 2));
        assert_eq!(Shape::default().null_rate(), None);
    }
}
