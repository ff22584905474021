//! The one aggregation kernel: used by the stream job, by reads that age a value, and by reads of the past.
//!
//! An event is what a view keeps of a signal: its time and, as one row of `arrow::row` bytes, the columns
//! the aggregates need. Where an aggregate looks at the order (`first`, `last`), the bytes begin with
//! `source` and `id`; row bytes compare like the values, so sorting events by (time, bytes) is the total
//! order (time, source, id).
//!
//! Windows share their work: the events of one entity fall into rings between the lower edges of successive
//! windows, DataFusion's group accumulators make one partial state a ring, and the value of a window is the
//! merge of its rings. `state()` consumes an accumulator, so each is used once and dropped.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Int64Builder, RecordBatch, RecordBatchOptions,
        TimestampMillisecondArray, UInt32Array,
    },
    compute::{cast, concat, filter_record_batch, take},
    datatypes::{DataType, Field, Schema, SchemaRef, TimestampMillisecondType},
    row::{RowConverter, RowParser, SortField},
};
use datafusion::{
    common::ScalarValue,
    logical_expr::{EmitTo, GroupsAccumulator},
    physical_expr::{
        PhysicalExpr,
        aggregate::{AggregateExprBuilder, AggregateFunctionExpr},
        expressions::{Column, Literal},
    },
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;
use hashbrown::HashMap;
use ingest::Millis;

use crate::{
    error::FeatureError,
    offline::schema::adapt,
    value::Value,
    view::{
        Window,
        plan::{SelectPlan, canonical},
    },
};

pub use crate::events::{EventList, Events};

/// Where an argument of an aggregate comes from.
#[derive(Debug, Clone)]
enum Argument {
    /// A column of the event's row.
    Stored(usize),
    /// The event's time.
    Time,
    /// The same for every event.
    Constant(ScalarValue),
}

#[derive(Debug)]
struct Aggregation {
    expr: Arc<AggregateFunctionExpr>,
    /// Whether its text argument is counted by codes: see [`codes`].
    coded: bool,
    arguments: Vec<Argument>,
    filter: Option<Argument>,
    /// One row: what it gives over nothing.
    empty: ArrayRef,
}

/// A view's SELECT, ready to run.
#[derive(Debug)]
pub(crate) struct Kernel {
    what: String,
    /// Columns of the signal table, as the expressions below count them.
    input: SchemaRef,
    filters: Vec<Arc<dyn PhysicalExpr>>,
    stored: Vec<Arc<dyn PhysicalExpr>>,
    converter: RowConverter,
    parser: RowParser,
    aggregations: Vec<Aggregation>,
    outputs: Vec<(Arc<dyn PhysicalExpr>, DataType)>,
    results: SchemaRef,
    windows: Vec<Millis>,
}

impl Kernel {
    /// Also answers type and empty value of each output.
    pub(crate) fn new(
        what: &str,
        plan: &SelectPlan,
        windows: &[Window],
    ) -> Result<(Kernel, Vec<(DataType, Value)>), FeatureError> {
        let wrong = FeatureError::compute(what);
        let mut columns = Columns { stored: Vec::new(), schema: plan.input.clone() };
        if plan.ordered {
            // First, so that the bytes of equal times compare by (source, id).
            for name in ["source", "id"] {
                let index = plan.input.index_of(name).map_err(|e| wrong(e.into()))?;
                columns.argument(&(Arc::new(Column::new(name, index)) as _));
            }
        }
        let mut aggregations = Vec::new();
        for a in &plan.aggregates {
            let orderings = a.expr.order_bys().iter().map(|o| o.expr.clone());
            let arguments =
                a.expr.expressions().into_iter().chain(orderings).map(|e| columns.argument(&e)).collect();
            let filter = a.filter.as_ref().map(|f| columns.argument(f));
            let nothing = a.expr.create_accumulator().and_then(|mut acc| acc.evaluate()).map_err(&wrong)?;
            let empty = nothing.to_array().map_err(&wrong)?;
            let (expr, coded) = match counted_by_codes(&a.expr, &plan.input).map_err(&wrong)? {
                Some(by_codes) => (by_codes, true),
                None => (a.expr.clone(), false),
            };
            aggregations.push(Aggregation { expr, coded, arguments, filter, empty });
        }
        let mut types = Vec::new();
        for e in &columns.stored {
            types.push(SortField::new(e.data_type(&plan.input).map_err(&wrong)?));
        }
        let converter = RowConverter::new(types).map_err(|e| wrong(e.into()))?;
        let mut kernel = Kernel {
            what: what.to_owned(),
            input: plan.input.clone(),
            filters: plan.filters.clone(),
            stored: columns.stored,
            parser: converter.parser(),
            converter,
            aggregations,
            outputs: Vec::new(),
            results: plan.results.clone(),
            windows: windows.iter().map(|w| w.millis).collect(),
        };
        for (name, e) in &plan.outputs {
            let t = e.data_type(&plan.results).map_err(&wrong)?;
            let Some(t) = canonical(&t) else {
                return Err(FeatureError::Request(format!(
                    "`{name}` has the type {t}, which cannot be a feature value; cast it to a number, text, boolean or \
                     timestamp"
                )));
            };
            kernel.outputs.push((e.clone(), t));
        }
        let empties = kernel.finish(1, kernel.aggregations.iter().map(|a| a.empty.clone()).collect())?;
        let described = kernel
            .outputs
            .iter()
            .zip(&empties)
            .map(|((_, t), column)| (t.clone(), value_at(column, 0)))
            .collect();
        Ok((kernel, described))
    }

    fn wrong(&self) -> impl Fn(datafusion::error::DataFusionError) -> FeatureError {
        FeatureError::compute(&self.what)
    }

    /// The events of a batch of signals, in its order.
    pub(crate) fn project(&self, signals: &RecordBatch) -> Result<Events, FeatureError> {
        let wrong = self.wrong();
        let mut rows: Option<Vec<u32>> = None;
        // History may hold the columns of an older declaration: fewer, and in another order.
        let mut batch = adapt(signals, &self.input).map_err(|e| wrong(e.into()))?;
        for f in &self.filters {
            let mask = f.evaluate(&batch).and_then(|v| v.into_array(batch.num_rows())).map_err(&wrong)?;
            let mask = mask.as_boolean();
            let kept = |i: usize| mask.is_valid(i) && mask.value(i);
            rows = Some(match rows {
                None => (0..mask.len()).filter(|i| kept(*i)).map(|i| i as u32).collect(),
                Some(rows) => rows.iter().enumerate().filter(|(i, _)| kept(*i)).map(|(_, r)| *r).collect(),
            });
            batch = filter_record_batch(&batch, mask).map_err(|e| wrong(e.into()))?;
        }
        let rows = rows.unwrap_or_else(|| (0..signals.num_rows() as u32).collect());
        let mut columns = Vec::with_capacity(self.stored.len());
        for e in &self.stored {
            columns.push(e.evaluate(&batch).and_then(|v| v.into_array(batch.num_rows())).map_err(&wrong)?);
        }
        let bytes = if columns.is_empty() {
            None
        } else {
            Some(self.converter.convert_columns(&columns).map_err(|e| wrong(e.into()))?)
        };
        let times = batch
            .column_by_name("time")
            .map(|c| c.as_primitive::<TimestampMillisecondType>().values().to_vec())
            .unwrap_or_default();
        Ok(Events { rows, times, bytes })
    }

    /// Columns of values, one an output and window (windows outermost), one row an entity: the values at its
    /// instant over its events.
    pub(crate) fn evaluate(
        &self,
        entities: &[(EventList<'_>, Millis)],
    ) -> Result<Vec<ArrayRef>, FeatureError> {
        let wrong = self.wrong();
        let gathered = Gathered::new(entities, &self.windows);
        let stored = if self.stored.is_empty() {
            Vec::new()
        } else {
            let rows = gathered.bytes.iter().map(|b| self.parser.parse(b));
            self.converter.convert_rows(rows).map_err(|e| wrong(e.into()))?
        };
        let argument = |a: &Argument| -> Result<ArrayRef, FeatureError> {
            Ok(match a {
                Argument::Stored(i) => stored[*i].clone(),
                Argument::Time => {
                    Arc::new(TimestampMillisecondArray::from(gathered.times.clone()).with_timezone("+00:00"))
                }
                Argument::Constant(s) => s.to_array_of_size(gathered.times.len()).map_err(&wrong)?,
            })
        };
        let mut results = Vec::with_capacity(self.aggregations.len());
        for a in &self.aggregations {
            let mut values = Vec::with_capacity(a.arguments.len());
            for x in &a.arguments {
                values.push(argument(x)?);
            }
            if a.coded {
                values = values.iter().map(codes).collect();
            }
            let filter = a.filter.as_ref().map(&argument).transpose()?;
            let merged =
                gathered.aggregate(a, &values, filter.as_ref().map(|f| f.as_boolean())).map_err(&wrong)?;
            results.push(merged);
        }
        // Rows so far: every window of the first entity, then of the second, …
        let flat = self.finish(entities.len() * self.windows.len(), results)?;
        let mut columns = Vec::with_capacity(self.windows.len() * flat.len());
        for k in 0..self.windows.len() {
            let pick: UInt32Array =
                (0..entities.len()).map(|g| (g * self.windows.len() + k) as u32).collect();
            for column in &flat {
                columns.push(take(column, &pick, None).map_err(|e| wrong(e.into()))?);
            }
        }
        Ok(columns)
    }

    /// Applies the output expressions to the aggregates' results and brings them to their kept types.
    fn finish(&self, rows: usize, results: Vec<ArrayRef>) -> Result<Vec<ArrayRef>, FeatureError> {
        let wrong = self.wrong();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(loosened(&self.results), results, &options)
            .map_err(|e| wrong(e.into()))?;
        let finish_one = |(e, t): &(Arc<dyn PhysicalExpr>, DataType)| {
            let column = e.evaluate(&batch).and_then(|v| v.into_array(rows)).map_err(&wrong)?;
            cast(&column, t).map_err(|e| wrong(e.into()))
        };
        self.outputs.iter().map(finish_one).collect()
    }
}

/// `count(DISTINCT text)` with the text replaced by codes; `None` for any other aggregate.
fn counted_by_codes(
    e: &Arc<AggregateFunctionExpr>,
    input: &SchemaRef,
) -> Result<Option<Arc<AggregateFunctionExpr>>, datafusion::error::DataFusionError> {
    let arguments = e.expressions();
    let [argument] = &arguments[..] else { return Ok(None) };
    if e.fun().name() != "count" || !e.is_distinct() || argument.data_type(input)? != DataType::Utf8 {
        return Ok(None);
    }
    let schema = Arc::new(Schema::new(vec![Field::new("code", DataType::Int64, true)]));
    let by_codes =
        AggregateExprBuilder::new(Arc::new(e.fun().clone()), vec![Arc::new(Column::new("code", 0))])
            .schema(schema)
            .alias(e.name())
            .distinct()
            .build()?;
    Ok(Some(Arc::new(by_codes)))
}

/// A number for each text, the same for the same text, within this column. Text has no group accumulator for
/// distinct counts: DataFusion would set up a hash table of some kilobytes for every entity and window.
fn codes(texts: &ArrayRef) -> ArrayRef {
    let texts = texts.as_string::<i32>();
    let mut known: HashMap<&str, i64, ahash::RandomState> = HashMap::default();
    let mut coded = Int64Builder::with_capacity(texts.len());
    for text in texts {
        coded.append_option(text.map(|text| {
            let next = known.len() as i64;
            *known.entry(text).or_insert(next)
        }));
    }
    Arc::new(coded.finish())
}

/// An empty window is NULL even for aggregates that DataFusion declares never to be.
fn loosened(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

/// Collects the distinct columns an event must keep.
struct Columns {
    stored: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl Columns {
    fn argument(&mut self, e: &Arc<dyn PhysicalExpr>) -> Argument {
        if let Some(l) = e.downcast_ref::<Literal>() {
            return Argument::Constant(l.value().clone());
        }
        if e.downcast_ref::<Column>().is_some_and(|c| self.schema.field(c.index()).name() == "time") {
            return Argument::Time;
        }
        let known = self.stored.iter().position(|s| s == e);
        Argument::Stored(known.unwrap_or_else(|| {
            self.stored.push(e.clone());
            self.stored.len() - 1
        }))
    }
}

/// The events of several entities inside their longest windows, each with the ring it falls into.
///
/// Only rings that hold events are numbered: an accumulator takes a group it was never given for one whose
/// values were all accepted.
struct Gathered<'a> {
    bytes: Vec<&'a [u8]>,
    times: Vec<Millis>,
    /// Ring of each event.
    ring: Vec<usize>,
    rings: usize,
    /// For each pair of a ring and a window that it belongs to: the ring, and the window's group.
    merge_rings: Vec<u32>,
    merge_groups: Vec<usize>,
    groups: usize,
    /// For each entity and window: its group, or `groups` when the window is empty.
    scatter: UInt32Array,
}

impl<'a> Gathered<'a> {
    fn new(entities: &[(EventList<'a>, Millis)], windows: &[Millis]) -> Self {
        let mut g = Gathered {
            bytes: Vec::new(),
            times: Vec::new(),
            ring: Vec::new(),
            rings: 0,
            merge_rings: Vec::new(),
            merge_groups: Vec::new(),
            groups: 0,
            scatter: UInt32Array::from(Vec::<u32>::new()),
        };
        let mut scatter: Vec<Option<usize>> = Vec::with_capacity(entities.len() * windows.len());
        let mut rings_of: Vec<(usize, usize)> = Vec::new(); // (window index at which a ring enters, ring)
        for (events, at) in entities {
            rings_of.clear();
            let upper = events.count_until(*at);
            let mut edge = upper;
            for (k, w) in windows.iter().enumerate() {
                // The ring between this window's lower edge and the shorter window's.
                let lower = events.count_until(at - w);
                if lower < edge {
                    for i in lower..edge {
                        g.bytes.push(events.bytes(i));
                        g.times.push(events.time(i));
                        g.ring.push(g.rings);
                    }
                    rings_of.push((k, g.rings));
                    g.rings += 1;
                    edge = lower;
                }
                if rings_of.is_empty() {
                    scatter.push(None);
                } else {
                    for (_, ring) in &rings_of {
                        g.merge_rings.push(*ring as u32);
                        g.merge_groups.push(g.groups);
                    }
                    scatter.push(Some(g.groups));
                    g.groups += 1;
                }
            }
        }
        g.scatter = scatter.into_iter().map(|s| s.unwrap_or(g.groups) as u32).collect();
        g
    }

    /// One aggregate's value for every entity and window.
    fn aggregate(
        &self,
        a: &Aggregation,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<ArrayRef, datafusion::error::DataFusionError> {
        if self.rings == 0 {
            return Ok(take(&a.empty, &self.scatter, None)?);
        }
        let mut partial = accumulator(&a.expr)?;
        partial.update_batch(values, &self.ring, filter, self.rings)?;
        let dense = if self.merge_rings.len() == self.rings {
            // Every ring is a window of its own: nothing to merge.
            partial.evaluate(EmitTo::All)?
        } else {
            let states = partial.state(EmitTo::All)?;
            let pick = UInt32Array::from(self.merge_rings.clone());
            let mut picked = Vec::with_capacity(states.len());
            for s in &states {
                picked.push(take(s, &pick, None)?);
            }
            let mut merged = accumulator(&a.expr)?;
            merged.merge_batch(&picked, &self.merge_groups, self.groups)?;
            merged.evaluate(EmitTo::All)?
        };
        let with_empty = concat(&[dense.as_ref(), a.empty.as_ref()])?;
        Ok(take(&with_empty, &self.scatter, None)?)
    }
}

fn accumulator(
    e: &Arc<AggregateFunctionExpr>,
) -> Result<Box<dyn GroupsAccumulator>, datafusion::error::DataFusionError> {
    if e.groups_accumulator_supported() {
        e.create_groups_accumulator()
    } else {
        let e = e.clone();
        Ok(Box::new(GroupsAccumulatorAdapter::new(move || e.create_accumulator())))
    }
}

/// The value in a column of a kept type.
pub(crate) fn value_at(column: &ArrayRef, row: usize) -> Value {
    use arrow::datatypes::{Float64Type, Int64Type};
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Int64 => Value::Int(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Value::Float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Utf8 => Value::Text(column.as_string::<i32>().value(row).into()),
        DataType::Timestamp(..) => Value::Time(column.as_primitive::<TimestampMillisecondType>().value(row)),
        _ => Value::Null,
    }
}
