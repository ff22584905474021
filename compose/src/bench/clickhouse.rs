//! Rows into ClickHouse through history, beside the client's own inserter with the same rows.

use std::time::{Duration, Instant};

use ::clickhouse::Client;
use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMillisecondType, UInt32Type, UInt64Type},
};
use features::offline::{self, Declared, HistoryOptions};
use ingest::log::Position;
use serde::Serialize;

use super::{
    figures::{Bound, Figure},
    rows::Steps,
};
use crate::{
    clock,
    config::Settings,
    error::{Error, Result},
    parts,
};

/// Rows of one seal.
const BATCH: usize = 500_000;
/// The database that is made and dropped again.
const DATABASE: &str = "kairos_bench";
/// Rows a second to hold.
const WANTED: f64 = 200_000.0;

/// A signal as the client's inserter takes it.
#[derive(::clickhouse::Row, Serialize)]
struct Row<'a> {
    id: &'a str,
    source: &'a str,
    subject: &'a str,
    time: i64,
    received_at: i64,
    partition: u32,
    offset: u64,
    steps: Option<i64>,
}

/// Inserts so many rows both ways.
pub async fn measure(settings: &Settings, rows: usize) -> Result<Vec<Figure>> {
    let url = settings.history.url.clone();
    let Some(place) =
        url.starts_with("http").then(|| url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/"))
    else {
        return Err(Error::Setting("bench clickhouse: name a ClickHouse in history.url".into()));
    };
    let catalogue = parts::catalogue(settings)?;
    let mut steps = Steps::new(&catalogue, 1_000, clock::system()() - 86_400_000, 20.0)?;
    let mut batches = Vec::new();
    while batches.iter().map(RecordBatch::num_rows).sum::<usize>() < rows {
        batches.extend(steps.next(BATCH)?.1.into_iter().map(|(_, rows)| rows));
    }
    let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let server = settings.history.server()?;
    let mut client = Client::default().with_url(&place).with_validation(false);
    if let Some(user) = &server.user {
        client = client.with_user(user);
    }
    if let Some(password) = &server.password {
        client = client.with_password(password.reveal());
    }
    let kind = catalogue.get("steps.counted").ok_or_else(|| broken("steps.counted is not declared"))?;
    let drop_all = format!("DROP DATABASE IF EXISTS {DATABASE} SYNC");
    client.query(&drop_all).execute().await.map_err(broken)?;

    let dir = std::env::temp_dir().join(format!("kairos-bench-{}", std::process::id()));
    let mut options = HistoryOptions::new(&format!("{place}/{DATABASE}"), &dir, clock::system());
    options.server = server;
    let declared =
        Declared { table: kind.table.clone(), schema: kind.schema.clone(), signal: Some(kind.name.clone()) };
    let given = batches.clone();
    let ours = tokio::task::spawn_blocking(move || -> Result<f64> {
        let history = offline::open(&options).map_err(broken)?;
        let began = Instant::now();
        history.ensure(std::slice::from_ref(&declared)).map_err(broken)?;
        let made = began.elapsed();
        let mut offset = 0;
        for batch in given {
            offset += batch.num_rows() as u64;
            history.append(&declared.table, batch).map_err(broken)?;
            history.flush(&Position([(0, offset)].into())).map_err(broken)?;
        }
        history.deliver(Duration::from_secs(600)).map_err(broken)?;
        Ok((began.elapsed() - made).as_secs_f64())
    });
    let ours = ours.await.map_err(broken)??;
    let _ = std::fs::remove_dir_all(&dir);

    let raw = client.clone().with_database(DATABASE);
    let arrived: u64 =
        raw.query("SELECT count() FROM steps_counted FINAL").fetch_one().await.map_err(broken)?;
    if arrived != count as u64 {
        return Err(broken(format!("{arrived} rows arrived of {count}")));
    }
    raw.query("CREATE TABLE bare AS steps_counted").execute().await.map_err(broken)?;
    let began = Instant::now();
    for batch in &batches {
        insert(&raw, batch).await?;
    }
    let bare = began.elapsed().as_secs_f64();
    client.query(&drop_all).execute().await.map_err(broken)?;
    let a_second = count as f64 / ours;
    Ok(vec![
        Figure::alone("rows into ClickHouse through history", a_second, "rows/s")
            .hold(Bound::AtLeast(WANTED)),
        Figure::alone("the same", a_second, "rows/s").beside("the client's inserter", count as f64 / bare),
    ])
}

async fn insert(client: &Client, batch: &RecordBatch) -> Result<()> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| broken(format!("no column {name}")));
    let text = |name: &str| Ok::<_, Error>(column(name)?.as_string::<i32>());
    let (id, source, subject) = (text("id")?, text("source")?, text("subject")?);
    let time = column("time")?.as_primitive::<TimestampMillisecondType>();
    let received = column("received_at")?.as_primitive::<TimestampMillisecondType>();
    let partition = column("partition")?.as_primitive::<UInt32Type>();
    let offset = column("offset")?.as_primitive::<UInt64Type>();
    let steps = column("steps")?.as_primitive::<Int64Type>();
    let mut insert = client.insert::<Row<'_>>("bare").await.map_err(broken)?;
    for i in 0..batch.num_rows() {
        let row = Row {
            id: id.value(i),
            source: source.value(i),
            subject: subject.value(i),
            time: time.value(i),
            received_at: received.value(i),
            partition: partition.value(i),
            offset: offset.value(i),
            steps: (!steps.is_null(i)).then(|| steps.value(i)),
        };
        insert.write(&row).await.map_err(broken)?;
    }
    insert.end().await.map_err(broken)
}

fn broken(e: impl std::fmt::Display) -> Error {
    Error::Broken(format!("bench clickhouse: {e}"))
}
