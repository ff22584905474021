//! What a feature's value must be, computed the plain way: the view's SELECT as one batch query a window, run
//! by DataFusion over an entity's signals as they lie in history.
//!
//! It shares nothing with the engine but the parser of definitions and the registered SQL functions: no
//! kernel, no kept events, no partial states. Tests and `kairos features verify` compare the engine with it.
//!
//! | module | what |
//! |---|---|
//! | `everybody` | all entities at once, as a nightly job would compute them |
//! | `select` | the SELECT, rewritten to speak of one entity, window and instant |
//! | `beside` | tables joined to the signals, and time zones |
//! | `clock` | the days that a streak counts |
//! | `window` | where a window begins |
//! | [`spread`] | many entities and instants in one query, for a cluster |
//! | [`questions`] | which those are, as a table |
//! | `answers` | what came back for them |

mod answers;
mod beside;
mod clock;
mod everybody;
pub mod questions;
mod select;
pub mod spread;
mod window;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, RecordBatch, Scalar, StringArray, TimestampMillisecondArray, UInt32Array,
    },
    compute::{
        and, cast, concat_batches, filter_record_batch,
        kernels::cmp::{eq, gt, lt_eq},
        take_record_batch,
    },
    datatypes::{
        DataType, Float64Type, Int64Type, SchemaRef, TimeUnit, TimestampMillisecondType, UInt64Type,
    },
};
use datafusion::{
    datasource::MemTable,
    error::DataFusionError,
    execution::{
        FunctionRegistry,
        context::{SessionConfig, SessionContext},
    },
    logical_expr::{AggregateUDF, ScalarUDF},
};
use ingest::{Millis, catalogue::Catalogue, log::Position};

use crate::{
    aggregates,
    error::FeatureError,
    offline::{OfflineStore, ScanFilter, schema::adapt},
    udf::Functions,
    value::Value,
    view::{
        Definition,
        source::{ReferenceTable, VALID_FROM},
        time::functions,
    },
};
use select::Select;

/// The table that tells of people's time zones, and its column.
const ZONES: (&str, &str) = ("context_changed", "time_zone");

/// The batch recomputation of one view.
#[derive(Debug)]
pub struct Reference {
    definition: Definition,
    select: Select,
    /// The view's own table of signals, then those joined to it, then the one of time zones, with schemas.
    tables: Vec<(String, SchemaRef)>,
    /// Tables that are no signals.
    given: Vec<ReferenceTable>,
    zoned: bool,
    functions: Functions,
}

impl Reference {
    /// Makes ready what a definition says; `given` are the tables beside those of signals.
    ///
    /// # Errors
    /// `Request` when the SELECT is not one this can run as a batch.
    pub fn new(
        catalogue: &Catalogue,
        given: &[ReferenceTable],
        definition: &Definition,
    ) -> Result<Reference, FeatureError> {
        Self::calling(catalogue, given, &Functions::none(), definition)
    }

    /// The same for a definition that may call user functions.
    ///
    /// # Errors
    /// As [`Reference::new`].
    pub fn calling(
        catalogue: &Catalogue,
        given: &[ReferenceTable],
        functions: &Functions,
        definition: &Definition,
    ) -> Result<Reference, FeatureError> {
        let known = session(functions, 1)?;
        let is_aggregate = |name: &str| known.udaf(name).is_ok();
        let in_order = |name: &str| select::ORDERED.contains(&name) || functions.is_aggregate(name);
        let of = |name: &str| given.iter().find(|t| t.name == name);
        let by_signal = |name: &str| of(name).is_none_or(|t| t.rows.column_by_name(VALID_FROM).is_some());
        let select = Select::parse(definition, &is_aggregate, &in_order, &by_signal)?;
        let zoned = select.local || definition.windows.iter().any(window::goes_by_zone);
        let joined = select.joined.iter().map(|j| j.table.as_str());
        let mut names = vec![select.table.as_str()];
        names.extend(joined.chain(zoned.then_some(ZONES.0)).filter(|name| of(name).is_none()));
        let mut tables: Vec<(String, SchemaRef)> = Vec::new();
        for name in names {
            let kind = catalogue.by_table(name).ok_or_else(|| {
                FeatureError::Request(format!("{}: there is no table {name}", definition.name))
            })?;
            if tables.iter().all(|(known, _)| known != name) {
                tables.push((name.to_owned(), kind.schema.clone()));
            }
        }
        let given = given.iter().filter(|t| select.joined.iter().any(|j| j.table == t.name)).cloned();
        Ok(Reference {
            given: given.collect(),
            definition: definition.clone(),
            select,
            tables,
            zoned,
            functions: functions.clone(),
        })
    }

    /// The tables of signals it reads, the view's own first.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().map(|(name, _)| name.as_str())
    }

    /// The value of every feature for `entity` at `at`, windows outermost as [`crate::View::feature_names`]
    /// has them, over what `history` holds; of that only what stands in the log below `known`, where given.
    pub fn from_history(
        &self,
        history: &dyn OfflineStore,
        entity: &str,
        at: Millis,
        known: Option<&Position>,
    ) -> Result<Vec<Value>, FeatureError> {
        let filter = ScanFilter {
            subjects: Some(vec![entity.to_owned()]),
            until: Some(at),
            max_position: known.cloned(),
            ..ScanFilter::default()
        };
        self.values(|table| Ok(history.scan(table, &filter)?), entity, at)
    }

    /// As [`from_history`](Self::from_history), over the signals that a function gives for each table: any
    /// entity's, any time's, repeats and all.
    pub fn values(
        &self,
        signals: impl Fn(&str) -> Result<Vec<RecordBatch>, FeatureError>,
        entity: &str,
        at: Millis,
    ) -> Result<Vec<Value>, FeatureError> {
        let wrong = FeatureError::compute(&self.definition.name);
        let mut tables = Vec::with_capacity(self.tables.len());
        for (name, schema) in &self.tables {
            tables.push((name.as_str(), admitted(&signals(name)?, schema, entity, at).map_err(&wrong)?));
        }
        // Inside of a task, tokio's budget would run out while the task itself waits here.
        let run = tokio::task::unconstrained(self.run(&tables, at));
        futures::executor::block_on(run).map_err(wrong)
    }

    async fn run(&self, tables: &[(&str, RecordBatch)], at: Millis) -> Result<Vec<Value>, DataFusionError> {
        let ctx = session(&self.functions, 1).map_err(|e| DataFusionError::External(e.into()))?;
        let zones = match tables.iter().find(|(name, _)| self.zoned && *name == ZONES.0) {
            Some((_, rows)) => Some(beside::Zones::new(rows)?),
            None => None,
        };
        let main = beside::numbered(&tables[0].1, zones.as_ref())?;
        beside::join(&ctx, &self.select, &main, tables, &self.given).await?;
        let times = match self.definition.windows.iter().any(window::goes_by_signals) {
            true => {
                replace(&ctx, &self.select.table, main.clone())?;
                times(&ctx.sql(&self.select.times()).await?.collect().await?)
            }
            false => Vec::new(),
        };
        let here = zones.as_ref().and_then(|z| z.at(at));
        let sql = self.select.features(at, here).map_err(|e| DataFusionError::Plan(e.to_string()))?;
        let zone = beside::zone_named(here);
        // Every window ends at the same instant, so two of the same length hold the same signals.
        let mut known: HashMap<usize, Vec<Value>> = HashMap::new();
        let mut values = Vec::new();
        for w in &self.definition.windows {
            let after = window::opens_after(w, self.definition.resolution_ms, &zone, &times, at)
                .map_err(|e| DataFusionError::Plan(e.to_string()))?;
            let inside = later_than(&main, after)?;
            let of_window = match known.entry(inside.num_rows()) {
                Entry::Occupied(found) => found.into_mut(),
                Entry::Vacant(free) => {
                    replace(&ctx, &self.select.table, inside)?;
                    free.insert(one_row(&ctx.sql(&sql).await?.collect().await?)?)
                }
            };
            values.extend_from_slice(of_window);
        }
        Ok(values)
    }
}

/// The signals of the entity up to the instant, each (source, id) once: the first in the log.
fn admitted(
    signals: &[RecordBatch],
    schema: &SchemaRef,
    entity: &str,
    at: Millis,
) -> Result<RecordBatch, DataFusionError> {
    let mut found = Vec::with_capacity(signals.len());
    for batch in signals {
        let batch = adapt(batch, schema)?;
        let wanted = eq(named(&batch, "subject")?, &StringArray::new_scalar(entity))?;
        let wanted = and(&wanted, &lt_eq(named(&batch, "time")?, &instant(at))?)?;
        found.push(filter_record_batch(&batch, &wanted)?);
    }
    let all = concat_batches(schema, &found)?;
    let (sources, ids) = (named(&all, "source")?.as_string::<i32>(), named(&all, "id")?.as_string::<i32>());
    let offsets = named(&all, "offset")?.as_primitive::<UInt64Type>();
    let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
    order.sort_by_key(|i| offsets.value(*i as usize));
    let mut seen = HashSet::new();
    order.retain(|i| seen.insert((sources.value(*i as usize), ids.value(*i as usize))));
    Ok(take_record_batch(&all, &UInt32Array::from(order))?)
}

/// A session with the functions that views may use, on so many threads.
fn session(of_users: &Functions, threads: usize) -> Result<SessionContext, FeatureError> {
    let mut config = SessionConfig::new().with_target_partitions(threads);
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    let ctx = SessionContext::new_with_config(config);
    make_known(&ctx, of_users)?;
    Ok(ctx)
}

/// Makes the functions that views may use known to a session.
///
/// # Errors
/// A user function with the name of one that is built in.
pub fn make_known(ctx: &SessionContext, of_users: &Functions) -> Result<(), FeatureError> {
    for function in functions() {
        if function.name() == "local_time" {
            ctx.register_udf(clock::clock(function.clone()));
        }
        ctx.register_udf(function);
    }
    aggregates::register(ctx);
    of_users.register(ctx)
}

/// The names of all these functions: a session elsewhere must take them from the same program.
///
/// # Errors
/// As [`make_known`].
pub fn functions_of(of_users: &Functions) -> Result<FunctionSet, FeatureError> {
    let ctx = session(of_users, 1)?;
    let scalars = functions().into_iter().map(|f| f.name().to_owned()).chain([clock::CLOCK.to_owned()]);
    let aggregates: Vec<_> = aggregates::aggregates().iter().map(|f| f.name().to_owned()).collect();
    let mut known = FunctionSet::default();
    let of_users = of_users.sources().map(|s| s.name.clone());
    for name in scalars.chain([aggregates::streak_now().name().to_owned()]).chain(aggregates).chain(of_users)
    {
        if let Ok(f) = ctx.udf(&name) {
            known.scalars.push(f);
        }
        if let Ok(f) = ctx.udaf(&name) {
            known.aggregates.push(f);
        }
    }
    Ok(known)
}

/// Functions of ours and of users.
#[derive(Debug, Clone, Default)]
pub struct FunctionSet {
    /// Once a row.
    pub scalars: Vec<Arc<ScalarUDF>>,
    /// Once a group.
    pub aggregates: Vec<Arc<AggregateUDF>>,
}

/// Puts a table in the place of the one of that name.
fn replace(ctx: &SessionContext, name: &str, rows: RecordBatch) -> Result<(), DataFusionError> {
    ctx.deregister_table(name)?;
    ctx.register_table(name, Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))?;
    Ok(())
}

fn instant(at: Millis) -> Scalar<TimestampMillisecondArray> {
    Scalar::new(TimestampMillisecondArray::from(vec![at]).with_timezone("+00:00"))
}

fn named<'a>(batch: &'a RecordBatch, column: &str) -> Result<&'a ArrayRef, DataFusionError> {
    batch.column_by_name(column).ok_or_else(|| DataFusionError::Plan(format!("no column {column}")))
}

fn later_than(batch: &RecordBatch, after: Millis) -> Result<RecordBatch, DataFusionError> {
    Ok(filter_record_batch(batch, &gt(named(batch, "time")?, &instant(after))?)?)
}

/// The times of the signals that pass the view's WHERE, oldest first.
fn times(answer: &[RecordBatch]) -> Vec<Millis> {
    let column = |b: &RecordBatch| b.column(0).as_primitive::<TimestampMillisecondType>().values().to_vec();
    let mut times: Vec<Millis> = answer.iter().flat_map(column).collect();
    times.sort_unstable();
    times
}

fn one_row(answer: &[RecordBatch]) -> Result<Vec<Value>, DataFusionError> {
    match answer.iter().find(|b| b.num_rows() > 0) {
        Some(row) => row.columns().iter().map(|c| value(c, 0)).collect(),
        None => Err(DataFusionError::Plan("the batch query gave no row".to_owned())),
    }
}

/// A value of a column of features.
///
/// # Errors
/// A type that no feature has.
pub fn value_at(column: &ArrayRef, row: usize) -> Result<Value, FeatureError> {
    value(column, row).map_err(FeatureError::compute("a column of features"))
}

fn value(column: &ArrayRef, row: usize) -> Result<Value, DataFusionError> {
    use DataType::*;
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    let one = column.slice(row, 1);
    Ok(match column.data_type() {
        Null => Value::Null,
        Boolean => Value::Bool(one.as_boolean().value(0)),
        t if t.is_integer() => Value::Int(cast(&one, &Int64)?.as_primitive::<Int64Type>().value(0)),
        t if t.is_floating() || t.is_decimal() => {
            Value::Float(cast(&one, &Float64)?.as_primitive::<Float64Type>().value(0))
        }
        Utf8 | LargeUtf8 | Utf8View => Value::Text(cast(&one, &Utf8)?.as_string::<i32>().value(0).into()),
        Timestamp(..) | Date32 | Date64 => {
            let utc = Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
            Value::Time(cast(&one, &utc)?.as_primitive::<TimestampMillisecondType>().value(0))
        }
        // The difference of two instants, in milliseconds.
        Duration(TimeUnit::Millisecond) => {
            Value::Int(cast(&one, &Int64)?.as_primitive::<Int64Type>().value(0))
        }
        List(item) | LargeList(item) | FixedSizeList(item, _) => {
            let one = cast(&one, &List(item.clone()))?;
            let items = one.as_list::<i32>().value(0);
            Value::List((0..items.len()).map(|i| value(&items, i)).collect::<Result<_, _>>()?)
        }
        other => return Err(DataFusionError::NotImplemented(format!("a feature of the type {other}"))),
    })
}

/// Whether two values are the same feature value: numbers with a fraction to 1e-9 of their size (and as much
/// in all where they all but vanish, as sums of opposite signs do), everything else exactly.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(x), Value::Float(y)) => {
            x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-9 * x.abs().max(y.abs()).max(1.0)
        }
        (Value::List(x), Value::List(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        _ => a == b,
    }
}
