//! What all our aggregates have in common: a summary a group, written as one Binary column, and the ways
//! DataFusion asks for them.

use std::{fmt::Debug, hash::Hash, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue, exec_datafusion_err, plan_err},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::{AggregateOrderSensitivity, format_state_name},
    },
};

use super::{arguments::Arguments, codec::Reader};

/// An aggregate as SQL names it.
pub(super) trait Function: Debug + Eq + Hash + Send + Sync + 'static {
    type Family: Family;

    fn name(&self) -> &'static str;

    /// Whether it goes by (time, source, id), which then come behind its arguments.
    fn ordered(&self) -> bool {
        false
    }

    /// Whether `f(p) WITHIN GROUP (ORDER BY x)` is another way to say `f(x, p)`.
    fn within_group(&self) -> bool {
        false
    }

    /// The type of its value; refuses arguments it cannot take, with the reason.
    fn returns(&self, arguments: &[DataType]) -> Result<DataType>;

    /// The family for these arguments.
    fn family(&self, arguments: &Arguments<'_>) -> Result<Self::Family>;
}

/// How summaries of one kind are filled, merged, written and read out.
pub(super) trait Family: Debug + Send + Sync + 'static {
    type Summary: Default + Debug + Send + Sync;
    /// The columns of a batch, made ready.
    type Columns;

    /// Whose states these are, for errors.
    const NAME: &'static str;
    /// First byte of every state. Another layout takes another byte, and the byte of an old one is not used again.
    const FORMAT: u8;

    fn columns(&self, values: &[ArrayRef]) -> Result<Self::Columns>;
    fn add(&self, to: &mut Self::Summary, columns: &Self::Columns, row: usize);
    /// Takes in a state, its format byte already read.
    fn merge(&self, to: &mut Self::Summary, state: &mut Reader<'_>) -> Result<()>;
    /// Writes a state behind its format byte.
    fn write(&self, summary: &mut Self::Summary, to: &mut Vec<u8>);
    /// The values of summaries, one row each.
    fn values(&self, summaries: &mut [Self::Summary]) -> Result<ArrayRef>;
    /// Bytes on the heap, roughly.
    fn size(&self, summary: &Self::Summary) -> usize;
}

/// The function for DataFusion.
pub(super) fn udaf<F: Function>(function: F) -> AggregateUDF {
    let signature = Signature::variadic_any(Volatility::Immutable);
    AggregateUDF::new_from_impl(Udaf { function, signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Udaf<F> {
    function: F,
    signature: Signature,
}

impl<F: Function> Udaf<F> {
    fn groups(&self, args: &AccumulatorArgs<'_>) -> Result<Groups<F::Family>> {
        let name = self.function.name();
        if args.is_distinct {
            return plan_err!("{name}(DISTINCT …) is not supported");
        }
        if self.function.ordered() && args.order_bys.len() != 3 {
            return plan_err!("{name} goes by (time, source, id) and needs all three");
        }
        let family = self.function.family(&Arguments { name, args })?;
        Ok(Groups { family, summaries: Vec::new() })
    }
}

impl<F: Function> AggregateUDFImpl for Udaf<F> {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.function.returns(arguments)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "state"), DataType::Binary, false))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let mut groups = self.groups(&args)?;
        groups.grow(1);
        Ok(Box::new(Single(groups)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.groups(&args)?))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        // The order is in the columns that come along; rows may come in any.
        if self.function.ordered() {
            AggregateOrderSensitivity::SoftRequirement
        } else {
            AggregateOrderSensitivity::Insensitive
        }
    }

    fn with_beneficial_ordering(self: Arc<Self>, _: bool) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }

    fn supports_within_group_clause(&self) -> bool {
        self.function.within_group()
    }
}

/// Summaries of many groups.
#[derive(Debug)]
struct Groups<F: Family> {
    family: F,
    summaries: Vec<F::Summary>,
}

impl<F: Family> Groups<F> {
    fn grow(&mut self, total: usize) {
        if self.summaries.len() < total {
            self.summaries.resize_with(total, F::Summary::default);
        }
    }

    fn write_all(family: &F, summaries: &mut [F::Summary]) -> ArrayRef {
        let mut states = BinaryBuilder::with_capacity(summaries.len(), summaries.len() * 32);
        let mut bytes = Vec::new();
        for summary in summaries {
            bytes.clear();
            bytes.push(F::FORMAT);
            family.write(summary, &mut bytes);
            states.append_value(&bytes);
        }
        Arc::new(states.finish())
    }
}

impl<F: Family> GroupsAccumulator for Groups<F> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        let columns = self.family.columns(values)?;
        for (row, group) in group_indices.iter().enumerate() {
            if filter.is_none_or(|f| f.is_valid(row) && f.value(row)) {
                self.family.add(&mut self.summaries[*group], &columns, row);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], group_indices: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let states = states
            .first()
            .and_then(|s| s.as_binary_opt::<i32>())
            .ok_or_else(|| exec_datafusion_err!("the state of {} is one Binary column", F::NAME))?;
        for (state, group) in states.iter().zip(group_indices) {
            let Some(state) = state else { continue };
            let mut state = Reader::new(F::NAME, state);
            if state.byte()? != F::FORMAT {
                return Err(state.damaged());
            }
            self.family.merge(&mut self.summaries[*group], &mut state)?;
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.family.values(&mut emit_to.take_needed(&mut self.summaries))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Self::write_all(&self.family, &mut emit_to.take_needed(&mut self.summaries))])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let columns = self.family.columns(values)?;
        let mut summaries = Vec::new();
        for row in 0..values.first().map_or(0, Array::len) {
            let mut summary = F::Summary::default();
            if filter.is_none_or(|f| f.is_valid(row) && f.value(row)) {
                self.family.add(&mut summary, &columns, row);
            }
            summaries.push(summary);
        }
        Ok(vec![Self::write_all(&self.family, &mut summaries)])
    }

    fn size(&self) -> usize {
        let fixed = self.summaries.capacity() * size_of::<F::Summary>();
        fixed + self.summaries.iter().map(|s| self.family.size(s)).sum::<usize>()
    }
}

/// The summary of one group.
#[derive(Debug)]
struct Single<F: Family>(Groups<F>);

impl<F: Family> Accumulator for Single<F> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, Array::len);
        self.0.update_batch(values, &vec![0; rows], None, 1)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, Array::len);
        GroupsAccumulator::merge_batch(&mut self.0, states, &vec![0; rows], 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let values = self.0.family.values(&mut self.0.summaries)?;
        ScalarValue::try_from_array(&values, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let states = Groups::write_all(&self.0.family, &mut self.0.summaries);
        Ok(vec![ScalarValue::try_from_array(&states, 0)?])
    }

    fn size(&self) -> usize {
        GroupsAccumulator::size(&self.0)
    }
}
