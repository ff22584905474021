//! Values as bytes, the same on every machine and in every version, which compare as the values do.
//!
//! | kind | bytes |
//! |---|---|
//! | whole numbers of any width | 8, big-endian, the sign bit flipped |
//! | floats, decimals (as 64-bit floats) | 8, big-endian; all bits flipped below zero, else the sign bit; −0 is 0, every NaN is one and above infinity |
//! | instants and dates | milliseconds since 1970, as whole numbers |
//! | truth | 1: 0 or 1 |
//! | text | its UTF-8 |

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, StringArray,
        TimestampMillisecondArray,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::cast,
    datatypes::{DataType, Field, Float64Type, Int64Type, TimestampMillisecondType, UInt64Type},
};
use datafusion::common::{Result, plan_datafusion_err};

use crate::view::plan::canonical;

const SIGN: u64 = 1 << 63;

/// What kind of value a column holds; widths and encodings do not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Bool,
    Int,
    Float,
    Text,
    Time,
}

impl Kind {
    /// Refuses what is no single value.
    pub(super) fn of(function: &str, t: &DataType) -> Result<Kind> {
        let t = if let DataType::Dictionary(_, value) = t { value } else { t };
        Ok(match canonical(t) {
            Some(DataType::Boolean) => Kind::Bool,
            Some(DataType::Int64) => Kind::Int,
            Some(DataType::Float64) => Kind::Float,
            Some(DataType::Utf8) => Kind::Text,
            Some(DataType::Timestamp(..)) => Kind::Time,
            _ => {
                return Err(plan_datafusion_err!(
                    "{function} takes a number, text, boolean or timestamp, not {t}; pick a field of it or cast it"
                ));
            }
        })
    }

    /// The Arrow type its values come back in.
    pub(super) fn data_type(self) -> DataType {
        match self {
            Kind::Bool => DataType::Boolean,
            Kind::Int => DataType::Int64,
            Kind::Float => DataType::Float64,
            Kind::Text => DataType::Utf8,
            Kind::Time => DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, Some("+00:00".into())),
        }
    }

    /// The type of a list of them.
    pub(super) fn list_type(self) -> DataType {
        DataType::List(Arc::new(Field::new_list_field(self.data_type(), true)))
    }

    /// A column of lists from keys.
    pub(super) fn lists<'k>(
        self,
        lists: impl Iterator<Item = Option<Vec<Option<&'k [u8]>>>>,
    ) -> Result<ArrayRef> {
        let (mut keys, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
        for list in lists {
            valid.push(list.is_some());
            let list = list.unwrap_or_default();
            lengths.push(list.len());
            keys.extend(list);
        }
        let item = Arc::new(Field::new_list_field(self.data_type(), true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let nulls = Some(NullBuffer::from(valid)).filter(|n| n.null_count() > 0);
        Ok(Arc::new(ListArray::try_new(item, offsets, self.values(&keys), nulls)?))
    }

    fn values(self, keys: &[Option<&[u8]>]) -> ArrayRef {
        let keys = keys.iter().copied();
        match self {
            Kind::Bool => Arc::new(keys.map(|k| k.map(|k| k == [1])).collect::<BooleanArray>()),
            Kind::Int => Arc::new(keys.map(|k| k.map(int)).collect::<Int64Array>()),
            Kind::Float => Arc::new(keys.map(|k| k.map(float)).collect::<Float64Array>()),
            Kind::Text => Arc::new(keys.map(|k| k.map(String::from_utf8_lossy)).collect::<StringArray>()),
            Kind::Time => Arc::new(
                keys.map(|k| k.map(int)).collect::<TimestampMillisecondArray>().with_timezone("+00:00"),
            ),
        }
    }
}

fn word(key: &[u8]) -> u64 {
    key.try_into().map_or(SIGN, u64::from_be_bytes)
}

fn int(key: &[u8]) -> i64 {
    (word(key) ^ SIGN) as i64
}

pub(super) fn float(key: &[u8]) -> f64 {
    let bits = word(key);
    f64::from_bits(if bits & SIGN == 0 { !bits } else { bits ^ SIGN })
}

fn float_bits(f: f64) -> u64 {
    // −0 + 0 is 0.
    let bits = if f.is_nan() { f64::NAN.to_bits() & !SIGN } else { (f + 0.0).to_bits() };
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

/// A column whose values are read as keys.
#[derive(Debug)]
pub(super) enum Keys {
    Bool(BooleanArray),
    Int(Int64Array),
    Float(Float64Array),
    Text(StringArray),
    Time(TimestampMillisecondArray),
}

impl Keys {
    /// What the kept type cannot hold (whole numbers from 2^63 on) is NULL, as in every feature value.
    pub(super) fn new(kind: Kind, values: &ArrayRef) -> Result<Keys> {
        let values = cast(values, &kind.data_type())?;
        Ok(match kind {
            Kind::Bool => Keys::Bool(values.as_boolean().clone()),
            Kind::Int => Keys::Int(values.as_primitive::<Int64Type>().clone()),
            Kind::Float => Keys::Float(values.as_primitive::<Float64Type>().clone()),
            Kind::Text => Keys::Text(values.as_string().clone()),
            Kind::Time => Keys::Time(values.as_primitive::<TimestampMillisecondType>().clone()),
        })
    }

    /// For keys that are compared and never shown: every 64-bit number has one.
    pub(super) fn unshown(kind: Kind, values: &ArrayRef) -> Result<Keys> {
        match values.as_primitive_opt::<UInt64Type>() {
            Some(large) => Ok(Keys::Int(large.unary(|n| n as i64))),
            None => Keys::new(kind, values),
        }
    }

    /// The key of one value, made in `scratch` where it is not there already; `None` for NULL.
    pub(super) fn get<'k>(&'k self, row: usize, scratch: &'k mut [u8; 8]) -> Option<&'k [u8]> {
        let array: &dyn Array = match self {
            Keys::Bool(a) => a,
            Keys::Int(a) => a,
            Keys::Float(a) => a,
            Keys::Text(a) => a,
            Keys::Time(a) => a,
        };
        if array.is_null(row) {
            return None;
        }
        let word = match self {
            Keys::Bool(a) => return Some(if a.value(row) { &[1] } else { &[0] }),
            Keys::Text(a) => return Some(a.value(row).as_bytes()),
            Keys::Int(a) => a.value(row) as u64 ^ SIGN,
            Keys::Time(a) => a.value(row) as u64 ^ SIGN,
            Keys::Float(a) => float_bits(a.value(row)),
        };
        *scratch = word.to_be_bytes();
        Some(scratch)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::UInt64Array;

    use super::*;

    fn keys(array: ArrayRef) -> Vec<Option<Vec<u8>>> {
        let kind = Kind::of("test", array.data_type()).unwrap();
        let keys = Keys::new(kind, &array).unwrap();
        let all: Vec<_> = (0..array.len()).map(|i| keys.get(i, &mut [0; 8]).map(<[u8]>::to_vec)).collect();
        let back = kind.values(&all.iter().map(|k| k.as_deref()).collect::<Vec<_>>());
        assert_eq!(&back, &cast(&array, &kind.data_type()).unwrap());
        all
    }

    #[test]
    fn keys_sort_as_values_and_come_back() {
        let floats = [f64::NEG_INFINITY, -1e300, -1.5, -1e-300, 0.0, 5e-324, 2.0, f64::INFINITY];
        let got = keys(Arc::new(Float64Array::from(floats.to_vec())));
        assert!(got.is_sorted());
        let ints = keys(Arc::new(Int64Array::from(vec![i64::MIN, -1, 0, 1, i64::MAX])));
        assert!(ints.is_sorted());
        assert_eq!(
            ints[3],
            Some(vec![0x80, 0, 0, 0, 0, 0, 0, 1]),
            "the bytes are part of the state's format"
        );
        keys(Arc::new(StringArray::from(vec![Some("ż"), None, Some("")])));
        keys(Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])));
    }

    #[test]
    fn one_zero_and_one_nan() {
        let odd = Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY]);
        let keys = Keys::new(Kind::Float, &(Arc::new(odd) as _)).unwrap();
        let key = |i| keys.get(i, &mut [0; 8]).map(<[u8]>::to_vec);
        assert_eq!(key(0), key(1));
        assert_eq!(key(2), key(3));
        assert!(key(2) > key(4));
    }

    #[test]
    fn large_numbers_count_but_are_not_shown() {
        let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 1]));
        let key = |k: Keys| k.get(0, &mut [0; 8]).map(<[u8]>::to_vec);
        assert_eq!(key(Keys::new(Kind::Int, &large).unwrap()), None);
        assert!(key(Keys::unshown(Kind::Int, &large).unwrap()).is_some());
    }
}
