//! Tiles from signals that are known: the same columns by the same SQL, on DataFusion. For signals that came too
//! late for the engine that makes tiles as they pass.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch},
    compute::{cast, concat_batches},
    datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMillisecondType},
};
use datafusion::{
    error::DataFusionError,
    execution::context::{SessionConfig, SessionContext},
};
use ingest::Millis;
use serde_json::{Map, Value as Json, json};

use super::{TILE_MS, Tiling};
use crate::{error::FeatureError, offline::schema::adapt, udf::Functions, view::View};

/// Column of the start of a signal's tile.
const START: &str = "tile_start";

/// A tile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Whom it is about.
    pub entity: String,
    /// Where it starts.
    pub start: Millis,
    /// Its row, one JSON object.
    pub row: String,
}

/// Start of the tile that holds a signal of this time: the last full minute before it.
pub fn start_of(time: Millis) -> Millis {
    let before = time.saturating_sub(1);
    before.saturating_sub(before.rem_euclid(TILE_MS))
}

impl View {
    /// The tiles of these rows of the view's table, each (source, id) once, in the order of entity and start.
    ///
    /// # Errors
    /// `Request` for a view that tiles cannot hold.
    pub fn make_tiles(
        &self,
        signals: &[RecordBatch],
        functions: &Functions,
    ) -> Result<Vec<Tile>, FeatureError> {
        let wrong = FeatureError::compute(&self.name);
        let tiling = self.tiled()?;
        let schema = self.kernel.signals();
        let adapted = signals.iter().map(|b| adapt(b, schema)).collect::<Result<Vec<_>, _>>();
        let all = adapted.and_then(|b| concat_batches(schema, &b)).and_then(|b| plain(&b));
        let all = all.map_err(|e| wrong(e.into()))?;
        if all.num_rows() == 0 {
            return Ok(Vec::new());
        }
        // Inside of a task, tokio's budget would run out while the task itself waits here.
        let sql = query(tiling);
        let run = tokio::task::unconstrained(run(&sql, all, functions));
        let batches = futures::executor::block_on(run).map_err(&wrong)?;
        Ok(batches.iter().flat_map(|b| self.rows_of(b, tiling)).collect())
    }

    fn rows_of(&self, batch: &RecordBatch, tiling: &Tiling) -> Vec<Tile> {
        let (entities, starts) =
            (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
        let row = |i: usize| {
            let mut object = Map::from_iter([
                ("entity".to_owned(), json!(entities.value(i))),
                ("tile".to_owned(), json!(starts.value(i).to_string())),
                ("version".to_owned(), json!(*self.version_text)),
                ("newest".to_owned(), cell(batch.column(2), i)),
            ]);
            let cells = tiling.columns.iter().zip(&batch.columns()[3..]);
            object.extend(
                cells.filter(|(_, c)| c.is_valid(i)).map(|(column, c)| (column.name.clone(), cell(c, i))),
            );
            Tile {
                entity: entities.value(i).to_owned(),
                start: starts.value(i),
                row: Json::Object(object).to_string(),
            }
        };
        (0..batch.num_rows()).map(row).collect()
    }
}

fn query(tiling: &Tiling) -> String {
    let inputs: String =
        tiling.inputs.iter().enumerate().map(|(i, sql)| format!(", {sql} AS x{i}")).collect();
    let columns: String = tiling.columns.iter().map(|c| format!(", {}", c.sql)).collect();
    let filters: Vec<String> = tiling.filters.iter().map(|f| format!("({f})")).collect();
    let filters =
        if filters.is_empty() { String::new() } else { format!(" WHERE {}", filters.join(" AND ")) };
    format!(
        "SELECT \"subject\", {START}, max(at_ms){columns} FROM (SELECT \"subject\", {START}, CAST(\"time\" AS BIGINT) AS \
         at_ms{inputs} FROM signals{filters}) GROUP BY \"subject\", {START} ORDER BY 1, 2"
    )
}

async fn run(
    sql: &str,
    signals: RecordBatch,
    functions: &Functions,
) -> Result<Vec<RecordBatch>, DataFusionError> {
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    let ctx = SessionContext::new_with_config(config);
    functions.register(&ctx).map_err(|e| DataFusionError::External(e.into()))?;
    ctx.register_batch("signals", signals)?;
    ctx.sql(sql).await?.collect().await
}

/// The signals with their tiles, instants without a zone as Arroyo has them.
fn plain(signals: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
    let zoneless = DataType::Timestamp(TimeUnit::Millisecond, None);
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in signals.schema().fields().iter().zip(signals.columns()) {
        let instant = matches!(field.data_type(), DataType::Timestamp(..));
        columns.push(if instant { cast(column, &zoneless)? } else { column.clone() });
        let kind = if instant { zoneless.clone() } else { field.data_type().clone() };
        fields.push(Field::new(field.name(), kind, true));
    }
    let times = signals.column_by_name("time").map(|t| t.as_primitive::<TimestampMillisecondType>());
    let starts = times.map(|t| t.values().iter().map(|t| start_of(*t)).collect::<Int64Array>());
    fields.push(Field::new(START, DataType::Int64, true));
    columns.push(Arc::new(starts.unwrap_or_else(|| Int64Array::new_null(signals.num_rows()))));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn cell(column: &ArrayRef, row: usize) -> Json {
    match column.data_type() {
        _ if column.is_null(row) => Json::Null,
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).map(|i| cell(&items, i)).collect()
        }
        _ => Json::Null,
    }
}
