//! Arguments of an aggregate that must be constants.

use arrow::datatypes::DataType;
use datafusion::{
    common::{Result, ScalarValue, plan_datafusion_err},
    logical_expr::function::AccumulatorArgs,
    physical_expr::expressions::Literal,
};

/// The arguments an aggregate was called with.
pub(super) struct Arguments<'a> {
    pub name: &'static str,
    pub args: &'a AccumulatorArgs<'a>,
}

impl Arguments<'_> {
    pub(super) fn data_type(&self, i: usize) -> &DataType {
        self.args.expr_fields[i].data_type()
    }

    /// Whether `WITHIN GROUP (ORDER BY x DESC)` was written.
    pub(super) fn descending(&self) -> bool {
        self.args.order_bys.first().is_some_and(|o| o.options.descending)
    }

    fn literal(&self, i: usize, t: &DataType) -> Option<ScalarValue> {
        let value = self.args.exprs.get(i)?.downcast_ref::<Literal>()?.value().cast_to(t).ok()?;
        (!value.is_null()).then_some(value)
    }

    /// A constant argument: how many, at most `most`.
    pub(super) fn count(&self, i: usize, most: usize) -> Result<usize> {
        let given = match self.literal(i, &DataType::Int64) {
            Some(ScalarValue::Int64(Some(n))) => usize::try_from(n).ok(),
            _ => None,
        };
        given.filter(|n| (1..=most).contains(n)).ok_or_else(|| {
            plan_datafusion_err!(
                "{} needs a constant whole number from 1 to {most} as argument {}",
                self.name,
                i + 1
            )
        })
    }

    /// A constant argument: a share.
    pub(super) fn share(&self, i: usize) -> Result<f64> {
        let given = match self.literal(i, &DataType::Float64) {
            Some(ScalarValue::Float64(p)) => p,
            _ => None,
        };
        given.filter(|p| (0.0..=1.0).contains(p)).ok_or_else(|| {
            plan_datafusion_err!("{} needs a constant share from 0 to 1 as argument {}", self.name, i + 1)
        })
    }
}
