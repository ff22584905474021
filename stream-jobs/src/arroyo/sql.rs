//! The SQL of a view for Arroyo, in the dialect of its version 0.16.
//!
//! From the inside out: records of the view's type, each (source, id) of a minute once; their data by type; the
//! view's conditions and the arguments of its aggregates; one row a person and minute. Both sinks repeat that
//! query, since Arroyo's chaining loses one of two edges that leave the same operator.

use std::fmt::Write;

use arrow::datatypes::DataType;
use features::{
    View,
    tiles::{Column, ColumnKind, TILE_MS, Tiling, key_prefix},
};
use ingest::catalogue::{Catalogue, SignalType};
use serde_json::Value as Json;

use super::{Places, Redis, Refusal};

/// The window of a tile, as Arroyo writes it.
pub const TUMBLE: &str = "tumble(INTERVAL '1 minute')";
/// The longest name of a topic in Fluvio.
const MAX_TOPIC: usize = 63;

/// Topic of a view's tiles. Fluvio's names have hyphens and no underscores.
pub fn tiles_topic(topic_prefix: &str, view: &str) -> String {
    format!("{topic_prefix}-tiles-{}", view.replace('_', "-"))
}

/// Table that stands for the topic of signals.
const SIGNALS: &str = "signals";
const REDIS: &str = "tiles_redis";
const TOPIC: &str = "tiles_topic";

/// All statements of a view.
pub(super) fn statements(view: &View, catalogue: &Catalogue, places: &Places) -> Result<String, Refusal> {
    let query = tiles_query(view, catalogue)?;
    let tiling = view.tiling.as_ref().map_err(|reason| refusal(view, reason.clone()))?;
    let name = &view.name;
    let topic = tiles_topic(&places.topic_prefix, name);
    if topic.len() > MAX_TOPIC {
        return Err(refusal(
            view,
            format!(
                "the topic of its tiles would be {topic}, of more than {MAX_TOPIC} letters; \
                                          give it a shorter name"
            ),
        ));
    }
    let mut sql = format!(
        "-- Tiles of the feature view {name}, version {}. Made by `kairos arroyo export`.\n\n",
        view.version_text
    );
    sql += &source(view, places);
    let fluvio = places.fluvio.as_ref().map(|e| ("endpoint", e.clone()));
    let (reach, redis) = match &places.redis {
        Redis::Address(url) => ("address", url),
        Redis::Profile(name) => ("connection_profile", name),
    };
    let hash = [
        ("connector", "redis".to_owned()),
        ("type", "sink".to_owned()),
        (reach, redis.clone()),
        ("target", "hash".to_owned()),
        ("target.key_prefix", key_prefix(&places.key_prefix, name)),
        ("target.key_column", "entity".to_owned()),
        ("target.field_column", "tile".to_owned()),
        ("format", "json".to_owned()),
    ];
    sql += &sink(REDIS, tiling, hash);
    let stream = [
        ("connector", "fluvio".to_owned()),
        ("type", "sink".to_owned()),
        ("topic", topic),
        ("format", "json".to_owned()),
    ];
    sql += &sink(TOPIC, tiling, stream.into_iter().chain(fluvio));
    for table in [REDIS, TOPIC] {
        let _ = write!(sql, "\nINSERT INTO {table}\n{query};\n");
    }
    Ok(sql)
}

/// The query of a view's tiles over the table `signals`.
///
/// # Errors
/// Arroyo cannot hold the view.
pub fn tiles_query(view: &View, catalogue: &Catalogue) -> Result<String, Refusal> {
    let tiling = view.tiling.as_ref().map_err(|reason| refusal(view, reason.clone()))?;
    let Some(declared) = catalogue.by_table(&view.table) else {
        return Err(refusal(
            view,
            format!("its table {} is not declared; declare it in signals.dirs", view.table),
        ));
    };
    let data = columns_of_data(view, tiling, declared)?;
    let names =
        declared.aliases.iter().chain([&declared.name]).map(|n| quoted(n)).collect::<Vec<_>>().join(", ");
    let once = format!(
        "SELECT \"subject\", \"source\", \"id\", {TUMBLE} AS window,\n\
         min(\"time\") AS \"time\", min(\"data\") AS \"data\"\n\
         FROM {SIGNALS}\nWHERE \"type\" IN ({names})\nGROUP BY 1, 2, 3, 4"
    );
    let mut typed =
        "SELECT \"subject\", \"source\", \"id\", window, CAST(\"time\" AS TIMESTAMP(3)) AS \"time\""
            .to_owned();
    for column in data {
        typed += ",\n";
        typed += &column;
    }
    let typed = format!("{typed}\nFROM (\n{}\n)", indented(&once));
    let mut inputs = "SELECT \"subject\", window, CAST(\"time\" AS BIGINT) AS at_ms".to_owned();
    for (i, input) in tiling.inputs.iter().enumerate() {
        let _ = write!(inputs, ",\n{input} AS x{i}");
    }
    let _ = write!(inputs, "\nFROM (\n{}\n)", indented(&typed));
    let filters: Vec<String> = tiling.filters.iter().map(|f| format!("({f})")).collect();
    if !filters.is_empty() {
        let _ = write!(inputs, "\nWHERE {}", filters.join(" AND "));
    }
    let mut rows = "SELECT \"subject\", window, max(at_ms) AS newest".to_owned();
    for column in &tiling.columns {
        let _ = write!(rows, ",\n{} AS {}", column.sql, column.name);
    }
    let rows = format!("{rows}\nFROM (\n{}\n)\nGROUP BY \"subject\", window", indented(&inputs));
    let columns: String = tiling.columns.iter().map(|c| format!(", {}", c.name)).collect();
    // Nanoseconds since the epoch as milliseconds.
    Ok(format!(
        "SELECT \"subject\" AS entity, CAST(CAST(window.start AS BIGINT) / 1000000 AS TEXT) AS tile,\n\
         {} AS version, newest{columns}\nFROM (\n{}\n)",
        quoted(&view.version_text),
        indented(&rows)
    ))
}

/// The topic of signals. The event time is a millisecond before a signal's own, so that a tile holds the signal at
/// its end and not the one at its start, as windows do.
fn source(view: &View, places: &Places) -> String {
    let wait = places.wait_ms.min(view.definition.lateness_ms);
    let mut with = vec![
        ("connector", "fluvio".to_owned()),
        ("type", "source".to_owned()),
        ("topic", format!("{}-signals", places.topic_prefix)),
        ("source.offset", "earliest".to_owned()),
        ("format", "json".to_owned()),
        ("bad_data", "drop".to_owned()),
    ];
    with.extend(places.fluvio.as_ref().map(|e| ("endpoint", e.clone())));
    format!(
        "CREATE TABLE {SIGNALS} (\n  \"id\" TEXT NOT NULL,\n  \"source\" TEXT NOT NULL,\n  \"type\" TEXT NOT NULL,\n  \
         \"subject\" TEXT NOT NULL,\n  \"time\" TIMESTAMP NOT NULL,\n  \"data\" JSON,\n  \
         event_time TIMESTAMP NOT NULL GENERATED ALWAYS AS (\"time\" - INTERVAL '1 millisecond'),\n  \
         WATERMARK FOR event_time AS (\"time\" - INTERVAL '{} milliseconds')\n) WITH (\n{}\n);\n",
        wait + 1,
        options(with)
    )
}

fn sink(table: &str, tiling: &Tiling, with: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let column = |c: &Column| {
        let kind = match c.kind {
            ColumnKind::Int => "BIGINT",
            ColumnKind::Text => "TEXT",
            ColumnKind::Bool => "BOOLEAN",
            ColumnKind::Texts => "TEXT[]",
        };
        format!(",\n  {} {kind}", c.name)
    };
    let columns: String = tiling.columns.iter().map(column).collect();
    format!(
        "\nCREATE TABLE {table} (\n  entity TEXT NOT NULL,\n  tile TEXT NOT NULL,\n  version TEXT,\n  newest \
         BIGINT{columns}\n) WITH (\n{}\n);\n",
        options(with)
    )
}

fn options(with: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let option = |(name, value): (&str, String)| match name.contains('.') {
        true => format!("  '{name}' = {}", quoted(&value)),
        false => format!("  {name} = {}", quoted(&value)),
    };
    with.into_iter().map(option).collect::<Vec<_>>().join(",\n")
}

/// The fields a view reads, taken out of the JSON of `data` with their types.
fn columns_of_data(view: &View, tiling: &Tiling, declared: &SignalType) -> Result<Vec<String>, Refusal> {
    let schema = declared.json_schema();
    let column = |name: &String| {
        let unfit = |what: &str| {
            refusal(
                view,
                format!(
                    "it reads {}.{name}, {what}, which its tiles cannot take out of JSON; declare a plain \
                                   field beside it, or keep the view on the embedded engine",
                    view.table
                ),
            )
        };
        let field = declared.schema.field_with_name(name).map_err(|e| refusal(view, e.to_string()))?;
        let property = &schema["properties"][name];
        let key = quoted(name);
        let int = format!("json_get_int(\"data\", {key})");
        let text = format!("json_get_str(\"data\", {key})");
        let sql = match field.data_type() {
            DataType::Int64 if property["type"] == "string" => return Err(unfit("a duration")),
            DataType::UInt64 => return Err(unfit("an unsigned number of 64 bits")),
            DataType::Int32 | DataType::Int64 | DataType::UInt32 => int,
            DataType::Boolean => format!("json_get_bool(\"data\", {key})"),
            DataType::Float32 => format!("CAST({} AS REAL)", float(&key)),
            DataType::Float64 => float(&key),
            // A number without a name stands for itself.
            DataType::Utf8 if property["enum"] != Json::Null => {
                format!("coalesce({text}, CAST({int} AS TEXT))")
            }
            DataType::Utf8 => text,
            // What is no time, by the hand of another producer, is NULL.
            DataType::Timestamp(..) => format!("TRY_CAST({text} AS TIMESTAMP(3))"),
            DataType::Binary => return Err(unfit("bytes")),
            other => return Err(unfit(&format!("of the type {other}"))),
        };
        Ok(format!("{sql} AS \"{name}\""))
    };
    tiling.reads.iter().map(column).collect()
}

/// JSON says NaN and infinities as text.
fn float(key: &str) -> String {
    let known =
        ["NaN", "Infinity", "-Infinity"].map(|t| format!("WHEN '{t}' THEN CAST('{t}' AS DOUBLE)")).join(" ");
    format!("coalesce(json_get_float(\"data\", {key}), CASE json_get_str(\"data\", {key}) {known} END)")
}

fn refusal(view: &View, reason: String) -> Refusal {
    Refusal { view: view.name.to_string(), reason }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn indented(sql: &str) -> String {
    sql.lines().map(|l| format!("  {l}")).collect::<Vec<_>>().join("\n")
}

const _: () = assert!(TILE_MS == 60_000, "TUMBLE says a minute");
