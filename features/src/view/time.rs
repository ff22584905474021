//! Time in a view's SQL: `as_of()`, the instant a value holds for, and `local_time(t)`, what the person's
//! clock showed at `t`.
//!
//! What a person's time zone is, a view's SQL need not say: the planner adds it as a second argument. It is
//! the one of the newest `context.changed` that names one, by the time of the signal; before the first it is UTC.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, TimestampMillisecondArray},
    compute::cast,
    datatypes::{DataType, TimeUnit, TimestampMillisecondType},
};
use datafusion::{
    common::{DataFusionError, Result, exec_err},
    logical_expr::{
        ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
    },
};
use jiff::{Timestamp, tz::TimeZone};

/// Name of the column that stands for the instant a value holds for, in a view's outputs.
pub(crate) const AS_OF: &str = "__as_of";
/// Name of the column that stands for the person's time zone.
pub(crate) const ZONE: &str = "__zone";
/// The table that tells of time zones, and the column.
pub(crate) const ZONE_SOURCE: (&str, &str) = ("context_changed", "time_zone");

/// An instant as every table holds it.
pub(crate) fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()))
}

/// The time zone of this name; UTC for none and for one that is not known.
pub(crate) fn zone_named(name: Option<&str>) -> TimeZone {
    name.and_then(|n| TimeZone::get(n).ok()).unwrap_or(TimeZone::UTC)
}

/// The functions of this module.
pub(crate) fn functions() -> [ScalarUDF; 2] {
    let local = Signature::one_of(vec![TypeSignature::Any(1), TypeSignature::Any(2)], Volatility::Immutable);
    [
        ScalarUDF::new_from_impl(AsOf { signature: Signature::exact(vec![], Volatility::Stable) }),
        ScalarUDF::new_from_impl(LocalTime { signature: local }),
    ]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AsOf {
    signature: Signature,
}

impl ScalarUDFImpl for AsOf {
    fn name(&self) -> &str {
        "as_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(instant_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("as_of() has a meaning in a feature view's SELECT only")
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LocalTime {
    signature: Signature,
}

impl ScalarUDFImpl for LocalTime {
    fn name(&self) -> &str {
        "local_time"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments.first() {
            Some(DataType::Timestamp(_, Some(_)) | DataType::Null) => {
                Ok(DataType::Timestamp(TimeUnit::Millisecond, None))
            }
            other => Err(DataFusionError::Plan(format!(
                "local_time takes an instant, such as the column time; it was given {}",
                other.map_or("nothing".to_owned(), ToString::to_string)
            ))),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [times, zones] = &arrays[..] else {
            return exec_err!("local_time has a meaning in a feature view only");
        };
        Ok(ColumnarValue::Array(local_times(times, zones)?))
    }
}

fn local_times(times: &ArrayRef, zones: &ArrayRef) -> Result<ArrayRef> {
    let times = cast(times, &instant_type())?;
    let times = times.as_primitive::<TimestampMillisecondType>();
    let zones = zones.as_string::<i32>();
    let mut known: Option<(Option<&str>, TimeZone)> = None;
    let local = |i: usize| {
        let name = zones.is_valid(i).then(|| zones.value(i));
        if known.as_ref().is_none_or(|(n, _)| *n != name) {
            known = Some((name, zone_named(name)));
        }
        let time = times.is_valid(i).then(|| times.value(i))?;
        let zone = &known.as_ref()?.1;
        let offset = Timestamp::from_millisecond(time).ok().map_or(0, |t| zone.to_offset(t).seconds());
        Some(time + i64::from(offset) * 1_000)
    };
    let local: Vec<Option<i64>> = (0..times.len()).map(local).collect();
    Ok(Arc::new(TimestampMillisecondArray::from(local)))
}
