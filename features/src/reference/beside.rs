//! What stands beside the signals of a view: rows of other tables as of each signal, and time zones.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray, UInt32Array, UInt64Array},
    compute::{filter_record_batch, is_not_null, take_record_batch},
    datatypes::{Field, Schema, TimestampMillisecondType},
};
use datafusion::{error::DataFusionError, execution::context::SessionContext};
use ingest::Millis;
use jiff::tz::TimeZone;

use super::{
    ZONES, named, replace,
    select::{NTH, Select, ZONE},
};
use crate::view::source::{ReferenceTable, VALID_FROM};

/// The changes of a person's time zone.
pub(super) struct Zones {
    rows: RecordBatch,
    /// Times and row numbers, in the order (time, source, id).
    order: Vec<(Millis, u32)>,
}

impl Zones {
    /// Of the rows of the table that tells of them.
    pub(super) fn new(rows: &RecordBatch) -> Result<Zones, DataFusionError> {
        let rows = filter_record_batch(rows, &is_not_null(named(rows, ZONES.1)?)?)?;
        Ok(Zones { order: in_order(&rows)?, rows })
    }

    /// The name of the zone at an instant; `None` before the first.
    pub(super) fn at(&self, at: Millis) -> Option<&str> {
        let row = newest(&self.order, at)?;
        Some(self.rows.column_by_name(ZONES.1)?.as_string_opt::<i32>()?.value(row as usize))
    }
}

/// The time zone of this name; UTC for none and for an unknown one.
pub(super) fn zone_named(name: Option<&str>) -> TimeZone {
    name.and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC)
}

/// Rows by time, then source, then id.
fn in_order(rows: &RecordBatch) -> Result<Vec<(Millis, u32)>, DataFusionError> {
    let times = named(rows, "time")?.as_primitive::<TimestampMillisecondType>();
    let (sources, ids) = (named(rows, "source")?.as_string::<i32>(), named(rows, "id")?.as_string::<i32>());
    let mut order: Vec<usize> = (0..rows.num_rows()).collect();
    order.sort_by_key(|i| (times.value(*i), sources.value(*i), ids.value(*i)));
    Ok(order.into_iter().map(|i| (times.value(i), i as u32)).collect())
}

/// The last row that is not later than an instant.
fn newest(order: &[(Millis, u32)], at: Millis) -> Option<u32> {
    order.iter().rev().find(|(time, _)| *time <= at).map(|(_, row)| *row)
}

/// The signals with a number each, and the zone in which each happened.
pub(super) fn numbered(signals: &RecordBatch, zones: Option<&Zones>) -> Result<RecordBatch, DataFusionError> {
    let times = named(signals, "time")?.as_primitive::<TimestampMillisecondType>();
    let zone: StringArray = times.values().iter().map(|t| zones.and_then(|z| z.at(*t))).collect();
    let nth = UInt64Array::from_iter_values(0..signals.num_rows() as u64);
    let zoned = with_column(signals, ZONE, Arc::new(zone), true)?;
    with_column(&zoned, NTH, Arc::new(nth), false)
}

fn with_column(
    rows: &RecordBatch,
    name: &str,
    column: arrow::array::ArrayRef,
    nullable: bool,
) -> Result<RecordBatch, DataFusionError> {
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(name, column.data_type().clone(), nullable)));
    let mut columns = rows.columns().to_vec();
    columns.push(column);
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Registers the tables that the view joins: of those that change, the row that holds for each signal.
pub(super) async fn join(
    ctx: &SessionContext,
    select: &Select,
    main: &RecordBatch,
    tables: &[(&str, RecordBatch)],
    given: &[ReferenceTable],
) -> Result<(), DataFusionError> {
    for joined in &select.joined {
        let rows = match given.iter().find(|t| t.name == joined.table) {
            None => {
                let found = tables.iter().find(|(name, _)| *name == joined.table);
                let missing = || DataFusionError::Plan(format!("no signals of {}", joined.table));
                as_of(main, &found.ok_or_else(missing)?.1)?
            }
            Some(table) if table.rows.column_by_name(VALID_FROM).is_none() => table.rows.clone(),
            Some(table) => {
                replace(ctx, &select.table, main.clone())?;
                replace(ctx, &joined.table, table.rows.clone())?;
                let frame = ctx.sql(&select.valid(joined)).await?.drop_columns(&["__newest"])?;
                let schema = Arc::new(frame.schema().as_arrow().clone());
                arrow::compute::concat_batches(&schema, &frame.collect().await?)?
            }
        };
        replace(ctx, &joined.table, rows)?;
    }
    Ok(())
}

/// For each signal the newest row that is not later, with the signal's number.
fn as_of(main: &RecordBatch, rows: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
    let times = named(main, "time")?.as_primitive::<TimestampMillisecondType>();
    let order = in_order(rows)?;
    let found = times.values().iter().enumerate();
    let (nth, picked): (Vec<u64>, Vec<u32>) =
        found.filter_map(|(nth, t)| Some((nth as u64, newest(&order, *t)?))).unzip();
    let rows = take_record_batch(rows, &UInt32Array::from(picked))?;
    with_column(&rows, NTH, Arc::new(UInt64Array::from(nth)), false)
}
