//! `clock(t, zone)`: what a streak counts the days of. An instant shows on the person's clock as `local_time`
//! has it; a date, and a time without a zone, stand for themselves.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::{
    common::Result,
    logical_expr::{
        ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
    },
};

/// Its name.
pub(super) const CLOCK: &str = "__clock";

/// The function, given `local_time`.
pub(super) fn clock(local_time: ScalarUDF) -> ScalarUDF {
    let signature = Signature::new(TypeSignature::Any(2), Volatility::Immutable);
    ScalarUDF::new_from_impl(Clock { signature, local_time })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Clock {
    signature: Signature,
    local_time: ScalarUDF,
}

fn is_instant(t: Option<&DataType>) -> bool {
    matches!(t, Some(DataType::Timestamp(_, Some(_))))
}

impl ScalarUDFImpl for Clock {
    fn name(&self) -> &str {
        CLOCK
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let local = DataType::Timestamp(TimeUnit::Millisecond, None);
        Ok(match arguments.first() {
            t if is_instant(t) => local,
            t => t.cloned().unwrap_or(local),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if is_instant(args.args.first().map(|t| t.data_type()).as_ref()) {
            return self.local_time.invoke_with_args(args);
        }
        args.args
            .into_iter()
            .next()
            .map_or_else(|| datafusion::common::exec_err!("{CLOCK} takes a time and a zone"), Ok)
    }
}
