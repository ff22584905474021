//! `min(x)` and `max(x)`: DataFusion's but for floats, where NaN is the greatest and infinities are themselves.
//! DataFusion's keep what came last beside a NaN, and the grouped ones take the largest float for infinity.

use std::{cmp::Ordering, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray},
    compute::cast,
    datatypes::{DataType, Float32Type, Float64Type},
};
use datafusion::{
    common::{Result, ScalarValue},
    functions_aggregate::min_max::{max_udaf, min_udaf},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature,
        function::AccumulatorArgs, utils::AggregateOrderSensitivity,
    },
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    /// DataFusion's.
    of_others: Arc<AggregateUDF>,
    better: Better,
}

pub(super) fn min() -> AggregateUDF {
    AggregateUDF::new_from_impl(Extreme { of_others: min_udaf(), better: Better(Ordering::Less) })
}

pub(super) fn max() -> AggregateUDF {
    AggregateUDF::new_from_impl(Extreme { of_others: max_udaf(), better: Better(Ordering::Greater) })
}

/// What a better value compares to a worse one as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Better(Ordering);

impl Better {
    fn than(self, old: f64, new: f64) -> bool {
        one_nan(new).total_cmp(&one_nan(old)) == self.0
    }

    /// What every value is at least as good as.
    fn worst(self) -> f64 {
        if self.0 == Ordering::Less { one_nan(f64::NAN) } else { f64::NEG_INFINITY }
    }
}

/// The one NaN, above infinity in the total order.
fn one_nan(f: f64) -> f64 {
    if f.is_nan() { f64::NAN.copysign(1.0) } else { f }
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        self.of_others.name()
    }

    fn signature(&self) -> &Signature {
        self.of_others.signature()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.of_others.coerce_types(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.of_others.return_type(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match args.return_type() {
            t @ (DataType::Float32 | DataType::Float64) => {
                Ok(Box::new(OfFloats { kept: t.clone(), value: None, better: self.better }))
            }
            _ => self.of_others.accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.of_others.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let (better, worst) = (self.better, self.better.worst());
        match args.return_type() {
            t @ DataType::Float64 => {
                let keep = move |kept: &mut f64, new: f64| {
                    if better.than(*kept, new) {
                        *kept = one_nan(new);
                    }
                };
                let groups = PrimitiveGroupsAccumulator::<Float64Type, _>::new(t, keep);
                Ok(Box::new(groups.with_starting_value(worst)))
            }
            t @ DataType::Float32 => {
                let keep = move |kept: &mut f32, new: f32| {
                    if better.than((*kept).into(), new.into()) {
                        *kept = one_nan(new.into()) as f32;
                    }
                };
                let groups = PrimitiveGroupsAccumulator::<Float32Type, _>::new(t, keep);
                Ok(Box::new(groups.with_starting_value(worst as f32)))
            }
            _ => self.of_others.create_groups_accumulator(args),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// One group's.
#[derive(Debug)]
struct OfFloats {
    kept: DataType,
    value: Option<f64>,
    better: Better,
}

impl Accumulator for OfFloats {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = cast(&values[0], &DataType::Float64)?;
        for new in values.as_primitive::<Float64Type>().iter().flatten() {
            if self.value.is_none_or(|old| self.better.than(old, new)) {
                self.value = Some(one_nan(new));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::Float64(self.value).cast_to(&self.kept)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::Float64Array,
        datatypes::{Field, Schema},
    };
    use datafusion::logical_expr::EmitTo;
    use datafusion::physical_expr::{aggregate::AggregateExprBuilder, expressions::Column};

    use super::*;

    /// By groups, and one by one.
    fn both(of: AggregateUDF, values: &[f64]) -> (f64, f64) {
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Float64, true)]));
        let e = AggregateExprBuilder::new(Arc::new(of), vec![Arc::new(Column::new("x", 0))])
            .schema(schema)
            .alias("m")
            .build()
            .unwrap();
        let column: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let mut groups = e.create_groups_accumulator().unwrap();
        groups.update_batch(std::slice::from_ref(&column), &vec![0; values.len()], None, 1).unwrap();
        let by_groups = groups.evaluate(EmitTo::All).unwrap();
        let mut one = e.create_accumulator().unwrap();
        one.update_batch(&[column]).unwrap();
        let ScalarValue::Float64(Some(alone)) = one.evaluate().unwrap() else { panic!("no value") };
        (by_groups.as_primitive::<Float64Type>().value(0), alone)
    }

    #[test]
    fn nan_is_greatest_and_infinity_is_itself() {
        let (nan, inf) = (-f64::NAN, f64::INFINITY);
        for values in [[nan, 1.0, 2.0], [1.0, nan, 2.0], [2.0, 1.0, nan]] {
            assert_eq!(both(min(), &values), (1.0, 1.0));
            let (a, b) = both(max(), &values);
            assert!(a.is_nan() && b.is_nan());
        }
        assert_eq!(both(min(), &[inf, inf]), (inf, inf));
        assert_eq!(both(max(), &[-inf]), (-inf, -inf));
        let (a, b) = both(min(), &[nan]);
        assert!(a.is_nan() && b.is_nan());
    }
}
