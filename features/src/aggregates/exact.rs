//! `percentile_cont(x, p)`: the exact quantile of numbers, interpolated between neighbouring ranks; NULL and
//! NaN left out. In place of DataFusion's, whose row accumulator merges the first of several states alone and
//! which interpolates to six digits.
//!
//! State: format 1, then for each different value, ascending, its key (8 bytes) and its count. It grows with
//! the number of different values.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, Float64Array},
    datatypes::DataType,
};
use datafusion::common::{Result, plan_err};

use super::{
    arguments::Arguments,
    codec::{Reader, put_number},
    family::{Family, Function},
    keys::{Keys, Kind, float},
    quantile::interpolated,
};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct PercentileCont;

impl Function for PercentileCont {
    type Family = AllValues;

    fn name(&self) -> &'static str {
        "percentile_cont"
    }

    fn within_group(&self) -> bool {
        true
    }

    fn returns(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [x, _] if x.is_numeric() || x.is_null() => Ok(DataType::Float64),
            [x, _] => plan_err!("percentile_cont takes numbers, not {x}"),
            _ => plan_err!("percentile_cont takes a number and a share: percentile_cont(x, 0.9)"),
        }
    }

    fn family(&self, arguments: &Arguments<'_>) -> Result<AllValues> {
        let share = arguments.share(1)?;
        Ok(AllValues { share: if arguments.descending() { 1.0 - share } else { share } })
    }
}

#[derive(Debug)]
pub(super) struct AllValues {
    share: f64,
}

/// How often each value came, by its key.
type Counts = BTreeMap<[u8; 8], u64>;

impl Family for AllValues {
    type Summary = Counts;
    type Columns = Keys;

    const NAME: &'static str = "percentile_cont";
    const FORMAT: u8 = 1;

    fn columns(&self, values: &[ArrayRef]) -> Result<Keys> {
        Keys::new(Kind::Float, &values[0])
    }

    fn add(&self, to: &mut Counts, columns: &Keys, row: usize) {
        let mut key = [0; 8];
        if columns.get(row, &mut key).is_some_and(|key| !float(key).is_nan()) {
            *to.entry(key).or_default() += 1;
        }
    }

    fn merge(&self, to: &mut Counts, state: &mut Reader<'_>) -> Result<()> {
        while !state.is_empty() {
            let key = state.array()?;
            *to.entry(key).or_default() += state.number()?;
        }
        Ok(())
    }

    fn write(&self, counts: &mut Counts, to: &mut Vec<u8>) {
        for (key, count) in counts {
            to.extend_from_slice(key);
            put_number(to, *count);
        }
    }

    fn values(&self, summaries: &mut [Counts]) -> Result<ArrayRef> {
        let quantile =
            |c: &Counts| interpolated(c.iter().map(|(key, count)| (float(key), *count)), self.share);
        Ok(Arc::new(summaries.iter().map(quantile).collect::<Float64Array>()))
    }

    fn size(&self, counts: &Counts) -> usize {
        counts.len() * 24
    }
}
