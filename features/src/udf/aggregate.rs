//! An aggregate user function as DataFusion sees it.
//!
//! The function gets a group's values all at once, so its state is those values: a list a group for each argument,
//! and one for each column of the ORDER BY. Values are put in that order before the call, so that no result
//! depends on the order of arrival or on how partial states were merged. A group without rows is NULL.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, UInt32Array, UInt64Array, new_null_array},
    buffer::OffsetBuffer,
    compute::{SortOptions, concat, filter, take},
    datatypes::{DataType, Field, FieldRef},
    row::{RowConverter, SortField},
};
use datafusion::{
    common::{ScalarValue, not_impl_err},
    error::DataFusionError,
    logical_expr::{
        Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::{AggregateOrderSensitivity, format_state_name},
    },
};

use super::plugin::Plugin;

type Result<T> = std::result::Result<T, DataFusionError>;

/// Called once a group.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct UserAggregate {
    plugin: Arc<Plugin>,
    signature: Signature,
}

impl UserAggregate {
    pub(super) fn new(plugin: Arc<Plugin>) -> Self {
        let types = plugin.source().arguments.iter().map(|a| a.data_type.clone()).collect();
        UserAggregate { signature: Signature::exact(types, Volatility::Immutable), plugin }
    }

    fn groups(&self, args: &AccumulatorArgs<'_>) -> Result<Groups> {
        if args.is_distinct {
            return not_impl_err!("{}(DISTINCT …)", self.name());
        }
        let keys = args.order_bys.iter().map(|o| Ok((o.expr.data_type(args.schema)?, o.options)));
        Ok(Groups::new(self.plugin.clone(), keys.collect::<Result<_>>()?))
    }
}

impl AggregateUDFImpl for UserAggregate {
    fn name(&self) -> &str {
        &self.plugin.source().name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.plugin.source().returns.clone())
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let arguments = self.plugin.source().arguments.iter().map(|a| a.data_type.clone());
        let keys = args.ordering_fields.iter().map(|f| f.data_type().clone());
        let name = |i| format_state_name(args.name, &format!("values_{i}"));
        let field = |(i, t): (usize, DataType)| Arc::new(Field::new(name(i), DataType::List(item(t)), true));
        Ok(arguments.chain(keys).enumerate().map(field).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One(self.groups(&args)?)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.groups(&args)?))
    }

    /// It sorts by itself; rows that come in order only make that cheaper.
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Beneficial
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        _beneficial_ordering: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }
}

fn item(t: DataType) -> FieldRef {
    Arc::new(Field::new_list_field(t, true))
}

/// The rows of many groups.
#[derive(Debug, Clone)]
struct Groups {
    plugin: Arc<Plugin>,
    /// Type and direction of each column of the ORDER BY.
    keys: Vec<(DataType, SortOptions)>,
    /// Arguments, then order keys; each in pieces.
    columns: Vec<Vec<ArrayRef>>,
    /// Group of each row.
    group: Vec<u32>,
    /// Number of groups.
    total: usize,
}

/// Rows by group and, inside one, in order.
struct Sorted {
    columns: Vec<ArrayRef>,
    /// Where each group ends.
    ends: OffsetBuffer<i32>,
}

impl Groups {
    fn new(plugin: Arc<Plugin>, keys: Vec<(DataType, SortOptions)>) -> Self {
        let columns = vec![Vec::new(); plugin.source().arguments.len() + keys.len()];
        Groups { plugin, keys, columns, group: Vec::new(), total: 0 }
    }

    fn types(&self) -> impl Iterator<Item = DataType> + '_ {
        let arguments = self.plugin.source().arguments.iter().map(|a| a.data_type.clone());
        arguments.chain(self.keys.iter().map(|(t, _)| t.clone()))
    }

    fn push(&mut self, columns: Vec<ArrayRef>, groups: impl Iterator<Item = usize>, total: usize) {
        for (pieces, column) in self.columns.iter_mut().zip(columns) {
            pieces.push(column);
        }
        self.group.extend(groups.map(|g| g as u32));
        self.total = self.total.max(total);
    }

    /// Takes out the groups to emit, in order.
    fn sorted(&mut self, emit: EmitTo) -> Result<Sorted> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (t, pieces) in self.types().zip(&self.columns) {
            columns.push(match &pieces[..] {
                [] => new_null_array(&t, 0),
                [one] => one.clone(),
                many => concat(&many.iter().map(|a| a.as_ref()).collect::<Vec<_>>())?,
            });
        }
        let emitted = match emit {
            EmitTo::All => self.total,
            EmitTo::First(n) => n,
        };
        let group = std::mem::take(&mut self.group);
        let mut order: Vec<u32> =
            (0..group.len() as u32).filter(|i| (group[*i as usize] as usize) < emitted).collect();
        let keys = &columns[columns.len() - self.keys.len()..];
        if keys.is_empty() {
            order.sort_by_key(|i| group[*i as usize]);
        } else {
            let fields = self.keys.iter().map(|(t, o)| SortField::new_with_options(t.clone(), *o));
            let rows = RowConverter::new(fields.collect())?.convert_columns(keys)?;
            let place = |i: u32| (group[i as usize], rows.row(i as usize));
            order.sort_by(|a, b| place(*a).cmp(&place(*b)));
        }
        let mut lengths = vec![0; emitted];
        for i in &order {
            lengths[group[*i as usize] as usize] += 1;
        }
        self.total -= emitted;
        let staying: UInt32Array =
            (0..group.len() as u32).filter(|i| group[*i as usize] as usize >= emitted).collect();
        self.group = staying.values().iter().map(|i| group[*i as usize] - emitted as u32).collect();
        for (pieces, column) in self.columns.iter_mut().zip(&columns) {
            pieces.clear();
            if !staying.is_empty() {
                pieces.push(take(column, &staying, None)?);
            }
        }
        let order = UInt32Array::from(order);
        let columns = columns.iter().map(|c| take(c, &order, None)).collect::<std::result::Result<_, _>>()?;
        Ok(Sorted { columns, ends: OffsetBuffer::from_lengths(lengths) })
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let Some(mask) = opt_filter else {
            self.push(values.to_vec(), group_indices.iter().copied(), total_num_groups);
            return Ok(());
        };
        let columns = values.iter().map(|v| filter(v, mask)).collect::<std::result::Result<_, _>>()?;
        let kept = mask.iter().zip(group_indices).filter(|(m, _)| *m == Some(true)).map(|(_, g)| *g);
        self.push(columns, kept, total_num_groups);
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sorted = self.sorted(emit_to)?;
        let arguments = &sorted.columns[..self.plugin.source().arguments.len()];
        // The last one stands for every group without rows.
        let mut results = Vec::new();
        let mut picks = Vec::with_capacity(sorted.ends.len());
        for span in sorted.ends.windows(2) {
            let (from, len) = (span[0] as usize, (span[1] - span[0]) as usize);
            if len == 0 {
                picks.push(None);
                continue;
            }
            let values: Vec<_> = arguments.iter().map(|a| a.slice(from, len)).collect();
            picks.push(Some(results.len() as u32));
            results.push(self.plugin.call(&values)?);
        }
        if results.is_empty() {
            return Ok(new_null_array(&self.plugin.source().returns, picks.len()));
        }
        let results = concat(&results.iter().map(|a| a.as_ref()).collect::<Vec<_>>())?;
        Ok(take(&results, &UInt32Array::from(picks), None)?)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let sorted = self.sorted(emit_to)?;
        let list = |c: ArrayRef| -> Result<ArrayRef> {
            Ok(Arc::new(ListArray::try_new(item(c.data_type().clone()), sorted.ends.clone(), c, None)?))
        };
        sorted.columns.into_iter().map(list).collect()
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        let lists: Vec<&ListArray> = values.iter().map(|v| v.as_list::<i32>()).collect();
        let Some(first) = lists.first() else { return Ok(()) };
        let span = |row: usize| {
            let from = first.value_offsets()[row] as u64;
            if first.is_null(row) { from..from } else { from..first.value_offsets()[row + 1] as u64 }
        };
        let mut columns = Vec::with_capacity(lists.len());
        for list in &lists {
            // Each state was made with the same lengths in all its lists, but not at the same offsets.
            let rows = (0..list.len()).flat_map(|row| {
                let from = list.value_offsets()[row] as u64;
                let span = span(row);
                from..from + (span.end - span.start)
            });
            columns.push(take(list.values(), &UInt64Array::from_iter_values(rows), None)?);
        }
        let groups = group_indices.iter().enumerate().flat_map(|(row, g)| span(row).map(move |_| *g));
        let groups: Vec<usize> = groups.collect();
        self.push(columns, groups.into_iter(), total_num_groups);
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let mut each = Groups::new(self.plugin.clone(), self.keys.clone());
        let rows = values.first().map_or(0, |v| v.len());
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), opt_filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        let pieces: usize = self.columns.iter().flatten().map(|a| a.get_array_memory_size()).sum();
        size_of::<Self>() + pieces + self.group.capacity() * size_of::<u32>()
    }
}

/// One group.
#[derive(Debug)]
struct One(Groups);

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |v| v.len());
        self.0.update_batch(values, &vec![0; rows], None, 1)
    }

    /// May be called again after more rows, so it works on a copy; columns are shared, not copied.
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut groups = self.0.clone();
        groups.total = 1;
        ScalarValue::try_from_array(&groups.evaluate(EmitTo::All)?, 0)
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.total = 1;
        self.0.state(EmitTo::All)?.iter().map(|s| ScalarValue::try_from_array(s, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |s| s.len());
        self.0.merge_batch(states, &vec![0; rows], 1)
    }
}
