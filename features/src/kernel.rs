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

pub mod describe;
mod evaluate;
mod seal;
mod tiles;

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::{DataType, Field, Schema, SchemaRef, TimestampMillisecondType},
    row::{RowConverter, RowParser, SortField},
};
use datafusion::{
    common::ScalarValue,
    physical_expr::{
        PhysicalExpr,
        aggregate::{AggregateExprBuilder, AggregateFunctionExpr},
        expressions::{Column, Literal},
        utils::collect_columns,
    },
};
use ingest::Millis;

use crate::{
    chunks::Source,
    contexts::Contexts,
    error::FeatureError,
    offline::schema::adapt,
    value::Value,
    view::{
        Definition,
        plan::{SelectPlan, canonical},
        source::{self, Origin, with_references},
        time::instant_type,
        window::{Span, Window},
    },
};

use seal::Sealer;

pub use crate::events::{EventList, Events};

/// What is kept of an entity, and the instant its values are wanted for.
#[derive(Debug, Clone)]
pub struct Kept<'a> {
    /// Its signals.
    pub events: Source<'a>,
    /// Its rows of the view's slowly changing tables, one list a table.
    pub contexts: Vec<EventList<'a>>,
    /// The instant.
    pub at: Millis,
}

/// Where an argument of an aggregate comes from.
#[derive(Debug, Clone)]
enum Argument {
    /// One of the inputs computed from an event.
    Input(usize),
    /// The event's time.
    Time,
    /// The same for every event.
    Constant(ScalarValue),
}

/// An end of a window's events, which come in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    First,
    Last,
}

#[derive(Debug)]
pub(crate) struct Aggregation {
    /// Of `first` and `last`, which end of a window they take.
    pub end: Option<End>,
    pub expr: Arc<AggregateFunctionExpr>,
    /// Whether its text argument is counted by numbers: see [`Codes`].
    pub coded: bool,
    arguments: Vec<Argument>,
    filter: Option<Argument>,
    /// One row: what it gives over nothing.
    pub empty: ArrayRef,
}

/// A view's SELECT, ready to run.
#[derive(Debug)]
pub(crate) struct Kernel {
    what: String,
    source: source::Source,
    /// What stands beside the signals and changes slowly.
    pub contexts: Contexts,
    /// Which of those tells of time zones.
    zone: Option<usize>,
    /// Conditions on a signal that can be checked when it comes.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    /// What is kept of a signal.
    stored: Vec<Arc<dyn PhysicalExpr>>,
    late: Option<Late>,
    converter: RowConverter,
    parser: RowParser,
    aggregations: Vec<Aggregation>,
    /// How chunks of events carry their states; `None` where they do not.
    sealer: Option<Sealer>,
    outputs: Vec<(Arc<dyn PhysicalExpr>, DataType)>,
    /// Whether an output changes with every instant.
    pub ages: bool,
    results: SchemaRef,
    windows: Vec<Window>,
    resolution: Millis,
}

/// Expressions that look at slowly changing tables. What those say as of a signal's time may become known
/// after the signal, so that such expressions are computed with the values, over the columns kept as they came.
#[derive(Debug)]
struct Late {
    /// The columns kept, as the joined row counts them.
    kept: Vec<usize>,
    inputs: Vec<Arc<dyn PhysicalExpr>>,
    filters: Vec<Arc<dyn PhysicalExpr>>,
}

impl Kernel {
    /// Also answers type and empty value of each output.
    pub(crate) fn new(
        d: &Definition,
        plan: SelectPlan,
    ) -> Result<(Kernel, Vec<(DataType, Value)>), FeatureError> {
        let what = &d.name;
        let wrong = FeatureError::compute(what);
        let input: SchemaRef = plan.source.joined.inner().clone();
        let time = plan.source.fact.index_of("time").map_err(|e| wrong(e.into()))?;
        let mut columns = Columns { inputs: Vec::new(), time };
        if plan.ordered {
            // First, so that the bytes of equal times compare by (source, id).
            for name in ["source", "id"] {
                let index = plan.source.fact.index_of(name).map_err(|e| wrong(e.into()))?;
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
            let (expr, coded) = match counted_by_codes(&a.expr, &input).map_err(&wrong)? {
                Some(by_codes) => (by_codes, true),
                None => (a.expr.clone(), false),
            };
            let end = match a.expr.fun().name() {
                "first_value" => Some(End::First),
                "last_value" => Some(End::Last),
                _ => None,
            };
            aggregations.push(Aggregation { end, expr, coded, arguments, filter, empty });
        }
        let origin = |c: &Column| &plan.source.origins[c.index()];
        let is_late = |e: &Arc<dyn PhysicalExpr>| {
            collect_columns(e).iter().any(|c| matches!(origin(c), Origin::Context(..)))
        };
        let (late_filters, filters): (Vec<_>, Vec<_>) = plan.filters.into_iter().partition(&is_late);
        if !late_filters.is_empty() && d.windows.iter().any(|w| matches!(w.span, Span::Session(_))) {
            return Err(FeatureError::Request(
                "a session is a run of the signals that WHERE lets through, which may not depend on a joined table; \
                 move that condition into FILTER (WHERE …)"
                    .to_owned(),
            ));
        }
        let (stored, late) = if late_filters.is_empty() && !columns.inputs.iter().any(is_late) {
            (columns.inputs, None)
        } else {
            let mut kept = Vec::new();
            for c in columns.inputs.iter().chain(&late_filters).flat_map(|e| {
                let mut found: Vec<_> = collect_columns(e).into_iter().collect();
                found.sort_by_key(Column::index);
                found
            }) {
                if !matches!(origin(&c), Origin::Context(..)) && !kept.contains(&c.index()) {
                    kept.push(c.index());
                }
            }
            let column =
                |i: &usize| Arc::new(Column::new(input.field(*i).name(), *i)) as Arc<dyn PhysicalExpr>;
            let stored = kept.iter().map(column).collect();
            (stored, Some(Late { kept, inputs: columns.inputs, filters: late_filters }))
        };
        let mut types = Vec::new();
        for e in &stored {
            types.push(e.data_type(&input).map_err(&wrong)?);
        }
        let sealer = match &late {
            // What a signal counts for may still change, as may what it is joined to.
            Some(_) => None,
            None => Sealer::new(&aggregations, &types).map_err(&wrong)?,
        };
        let types = types.into_iter().map(SortField::new).collect();
        let converter = RowConverter::new(types).map_err(|e| wrong(e.into()))?;
        let mut kernel = Kernel {
            what: what.clone(),
            contexts: Contexts::new(what, &plan.source)?,
            source: plan.source,
            zone: plan.zone,
            filters,
            stored,
            late,
            parser: converter.parser(),
            converter,
            sealer,
            aggregations,
            outputs: Vec::new(),
            ages: plan.ages,
            results: plan.results.clone(),
            windows: d.windows.clone(),
            resolution: d.resolution_ms,
        };
        for (name, e) in &plan.outputs {
            let t = e.data_type(&plan.results).map_err(&wrong)?;
            let Some(t) = canonical(&t) else {
                return Err(FeatureError::Request(format!(
                    "`{name}` has the type {t}, which cannot be a feature value; cast it to a number, text, boolean or \
                     timestamp, or a list of those"
                )));
            };
            kernel.outputs.push((e.clone(), t));
        }
        let nothing = kernel.aggregations.iter().map(|a| a.empty.clone()).collect();
        let empties = kernel.finish(nothing, &[None], &[None])?;
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
        let fact = adapt(signals, &self.source.fact).map_err(|e| wrong(e.into()))?;
        let mut batch = with_references(&self.source, &fact)?;
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

/// Collects the distinct inputs of the aggregates.
struct Columns {
    inputs: Vec<Arc<dyn PhysicalExpr>>,
    /// Place of the signals' time.
    time: usize,
}

impl Columns {
    fn argument(&mut self, e: &Arc<dyn PhysicalExpr>) -> Argument {
        if let Some(l) = e.downcast_ref::<Literal>() {
            return Argument::Constant(l.value().clone());
        }
        if e.downcast_ref::<Column>().is_some_and(|c| c.index() == self.time) {
            return Argument::Time;
        }
        let known = self.inputs.iter().position(|s| s == e);
        Argument::Input(known.unwrap_or_else(|| {
            self.inputs.push(e.clone());
            self.inputs.len() - 1
        }))
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
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            Value::List((0..items.len()).map(|i| value_at(&items, i)).collect())
        }
        _ => Value::Null,
    }
}
