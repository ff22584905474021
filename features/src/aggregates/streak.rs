//! `streak(t)`: how many days in a row, up to the latest, have a signal. `t` is a date, or an instant, whose
//! day is that of the clock it is written in: local for a naive one, UTC else.
//!
//! The value is the latest day and the length in one number, `day * 2^20 + length`, days counted from 1970, so
//! that SQL takes it for the number it stands for; `streak_now(streak(t), now)` is the length as long as the
//! latest day is today or yesterday, and 0 after that. A view's planner puts `streak_now` around every
//! `streak`.
//!
//! State: format 1, then for each run of days, ascending, its first day (from the day after the last run's
//! end) and its length less one.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array},
    compute::cast,
    datatypes::{DataType, Int64Type, TimeUnit, TimestampMillisecondType},
};
use datafusion::{
    common::{Result, exec_datafusion_err, plan_err},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};

use super::{
    arguments::Arguments,
    codec::{Reader, put_number, put_signed},
    family::{Family, Function},
};

const DAY: i64 = 86_400_000;

/// More than the days of any history.
const LENGTHS: i64 = 1 << 20;

/// Whether values of a type have a day.
fn is_time(t: &DataType) -> bool {
    matches!(t, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null)
}

/// Days since 1970, by the clock the values are written in.
fn days(values: &ArrayRef) -> Result<Int64Array> {
    let zone = match values.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let millis = cast(values, &DataType::Timestamp(TimeUnit::Millisecond, zone))?;
    Ok(millis.as_primitive::<TimestampMillisecondType>().unary(|ms| ms.div_euclid(DAY)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Streak;

impl Function for Streak {
    type Family = DaysInARow;

    fn name(&self) -> &'static str {
        "streak"
    }

    fn returns(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [t] if is_time(t) => Ok(DataType::Int64),
            [t] => plan_err!("streak takes a timestamp or a date, not {t}"),
            _ => plan_err!("streak takes one argument"),
        }
    }

    fn family(&self, _: &Arguments<'_>) -> Result<DaysInARow> {
        Ok(DaysInARow)
    }
}

#[derive(Debug)]
pub(super) struct DaysInARow;

/// Runs of days, first and last, ascending, with a gap between any two.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Runs(Vec<(i64, i64)>);

impl Runs {
    fn add(&mut self, first: i64, last: i64) {
        // All runs that touch the new one melt with it.
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(start, _)| *start <= last.saturating_add(1));
        match self.0.get(from..to) {
            Some([one]) if one.0 <= first && last <= one.1 => {}
            Some([lowest, .., highest]) => {
                let melted = (lowest.0.min(first), highest.1.max(last));
                self.0.splice(from..to, [melted]);
            }
            Some([one]) => self.0[from] = (one.0.min(first), one.1.max(last)),
            _ => self.0.insert(from, (first, last)),
        }
    }
}

impl Family for DaysInARow {
    type Summary = Runs;
    type Columns = Int64Array;

    const NAME: &'static str = "streak";
    const FORMAT: u8 = 1;

    fn columns(&self, values: &[ArrayRef]) -> Result<Int64Array> {
        days(&values[0])
    }

    fn add(&self, to: &mut Runs, columns: &Int64Array, row: usize) {
        if columns.is_valid(row) {
            to.add(columns.value(row), columns.value(row));
        }
    }

    fn merge(&self, to: &mut Runs, state: &mut Reader<'_>) -> Result<()> {
        let mut next = 0i64;
        while !state.is_empty() {
            let first = next.saturating_add(state.signed()?);
            let last = first.saturating_add_unsigned(state.number()?);
            to.add(first, last);
            next = last.saturating_add(1);
        }
        Ok(())
    }

    fn write(&self, runs: &mut Runs, to: &mut Vec<u8>) {
        let mut next = 0;
        for (first, last) in &runs.0 {
            put_signed(to, first - next);
            put_number(to, (last - first) as u64);
            next = last + 1;
        }
    }

    fn values(&self, summaries: &mut [Runs]) -> Result<ArrayRef> {
        let value =
            |(first, last): &(i64, i64)| last.saturating_mul(LENGTHS).saturating_add(last - first + 1);
        Ok(Arc::new(summaries.iter().map(|r| r.0.last().map(value)).collect::<Int64Array>()))
    }

    fn size(&self, runs: &Runs) -> usize {
        runs.0.capacity() * size_of::<(i64, i64)>()
    }
}

/// `streak_now(streak(t), now)`: the length of a streak that is still alive, else 0.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct StreakNow {
    signature: Signature,
}

impl Default for StreakNow {
    fn default() -> Self {
        StreakNow { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for StreakNow {
    fn name(&self) -> &str {
        "streak_now"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Int64, now] if is_time(now) => Ok(DataType::Int64),
            _ => plan_err!(
                "streak_now takes the value of streak(t) and an instant: streak_now(streak(t), now)"
            ),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let [streaks, now] = &columns[..] else {
            return Err(exec_datafusion_err!("streak_now takes two arguments"));
        };
        let (streaks, today) = (streaks.as_primitive::<Int64Type>(), days(now)?);
        let lengths = (0..today.len()).map(|i| {
            if streaks.is_null(i) {
                return Some(0);
            }
            let (day, length) = (streaks.value(i).div_euclid(LENGTHS), streaks.value(i).rem_euclid(LENGTHS));
            today.is_valid(i).then(|| if today.value(i) <= day + 1 { length } else { 0 })
        });
        Ok(ColumnarValue::Array(Arc::new(lengths.collect::<Int64Array>())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_the_set_of_days(days in prop::collection::vec((-40..40i64, 0..5i64), 0..40)) {
            let mut runs = Runs::default();
            let mut set = std::collections::BTreeSet::new();
            for (first, more) in &days {
                runs.add(*first, first + more);
                set.extend(*first..=first + more);
            }
            let held: Vec<i64> = runs.0.iter().flat_map(|(a, b)| *a..=*b).collect();
            prop_assert_eq!(held, set.into_iter().collect::<Vec<_>>());
            prop_assert!(runs.0.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{:?}", runs);
        }
    }
}
