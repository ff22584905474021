//! The tiles' SQL run by DataFusion: what Arroyo's operators mean, without its windows in time.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampNanosecondArray,
    },
    datatypes::{DataType, Int64Type},
};
use datafusion::{
    execution::context::{SessionConfig, SessionContext},
    logical_expr::{ColumnarValue, Volatility, create_udf},
};
use features::View;
use ingest::{Millis, catalogue::Catalogue, record::Record};
use serde_json::{Value as Json, json};
use stream_jobs::arroyo::sql;

/// The records of the topic as Arroyo reads them.
fn topic(catalogue: &Catalogue, records: &[Record]) -> RecordBatch {
    let text = |of: &dyn Fn(&Record) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(records.iter().map(of)))
    };
    let data = |r: &Record| catalogue.get(&r.kind).unwrap().decode_json(&r.data).unwrap().to_string();
    let times: TimestampNanosecondArray = records.iter().map(|r| Some(r.time * 1_000_000)).collect();
    RecordBatch::try_from_iter([
        ("id", text(&|r| r.id.clone())),
        ("source", text(&|r| r.source.clone())),
        ("type", text(&|r| r.kind.clone())),
        ("subject", text(&|r| r.subject.clone())),
        ("time", Arc::new(times) as ArrayRef),
        ("data", text(&data)),
    ])
    .unwrap()
}

/// Arroyo's functions on JSON.
fn json_functions(ctx: &SessionContext) {
    type Read = fn(&[Option<Json>]) -> ArrayRef;
    let of: [(&str, DataType, Read); 4] = [
        ("json_get_int", DataType::Int64, |v| {
            Arc::new(v.iter().map(|j| j.as_ref()?.as_i64()).collect::<Int64Array>())
        }),
        ("json_get_float", DataType::Float64, |v| {
            Arc::new(v.iter().map(|j| j.as_ref()?.as_f64()).collect::<Float64Array>())
        }),
        ("json_get_bool", DataType::Boolean, |v| {
            Arc::new(v.iter().map(|j| j.as_ref()?.as_bool()).collect::<BooleanArray>())
        }),
        ("json_get_str", DataType::Utf8, |v| {
            Arc::new(v.iter().map(|j| j.as_ref()?.as_str().map(str::to_owned)).collect::<StringArray>())
        }),
    ];
    for (name, returns, read) in of {
        let call = move |arguments: &[ColumnarValue]| {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let (texts, keys) = (arrays[0].as_string::<i32>(), arrays[1].as_string::<i32>());
            let found: Vec<Option<Json>> = texts
                .iter()
                .zip(keys)
                .map(|(t, k)| serde_json::from_str::<Json>(t?).ok()?.get(k?).cloned())
                .collect();
            Ok(ColumnarValue::Array(read(&found)))
        };
        let takes = vec![DataType::Utf8, DataType::Utf8];
        ctx.register_udf(create_udf(name, takes, returns, Volatility::Immutable, Arc::new(call)));
    }
}

/// Rows of tiles by entity, as they would stand in Redis.
pub type Tiles = BTreeMap<String, Vec<(Millis, String)>>;

/// Runs the query of a view's tiles.
pub fn tiles(view: &View, catalogue: &Catalogue, records: &[Record]) -> Tiles {
    let query = sql::tiles_query(view, catalogue).unwrap();
    let bin = "named_struct('start', date_bin(INTERVAL '1 minute', \"time\" - INTERVAL '1 millisecond'))";
    let batches = run(&query.replace(sql::TUMBLE, bin), topic(catalogue, records));
    let mut found = Tiles::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let schema = batch.schema();
            let cells =
                schema.fields().iter().zip(batch.columns()).map(|(f, c)| (f.name().clone(), cell(c, row)));
            let object: serde_json::Map<String, Json> = cells.filter(|(_, c)| !c.is_null()).collect();
            let start = object["tile"].as_str().unwrap().parse().unwrap();
            let entity = object["entity"].as_str().unwrap().to_owned();
            found.entry(entity).or_default().push((start, Json::Object(object).to_string()));
        }
    }
    found
}

fn run(sql: &str, topic: RecordBatch) -> Vec<RecordBatch> {
    let mut config = SessionConfig::new().with_target_partitions(2);
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    let ctx = SessionContext::new_with_config(config);
    json_functions(&ctx);
    ctx.register_batch("signals", topic).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = async { ctx.sql(sql).await?.collect().await };
    runtime.block_on(run).unwrap_or_else(|e| panic!("{e}\n{sql}"))
}

fn cell(column: &ArrayRef, row: usize) -> Json {
    if column.is_null(row) {
        return Json::Null;
    }
    match column.data_type() {
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).map(|i| cell(&items, i)).collect()
        }
        other => panic!("a column of tiles has the type {other}"),
    }
}
