//! Rows for tests of history: a small table, batches of it, and what a store should answer.
#![allow(dead_code)]

#[cfg(feature = "clickhouse")]
pub mod clickhouse;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arrow::{
    array::{
        ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array,
        UInt64Array,
    },
    datatypes::{Int64Type, TimestampMillisecondType, UInt32Type, UInt64Type},
};
use features::offline::{OfflineStore, Options, ParquetHistory, ScanFilter};
use ingest::log::Position;

/// One row of the test table; `note` is a column that not every batch brings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub subject: String,
    pub time: i64,
    pub id: String,
    pub partition: u32,
    pub offset: u64,
    pub minutes: i64,
    pub note: Option<String>,
}

pub fn row(subject: &str, time: i64, offset: u64) -> Row {
    Row {
        subject: subject.into(),
        time,
        id: format!("id{offset}"),
        partition: 0,
        offset,
        minutes: time % 7,
        note: None,
    }
}

pub fn batch(rows: &[Row], with_note: bool) -> RecordBatch {
    let text = |f: fn(&Row) -> &str| Arc::new(StringArray::from_iter_values(rows.iter().map(f))) as ArrayRef;
    let times =
        TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| r.time)).with_timezone("+00:00");
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", text(|r| &r.id), false),
        ("source", text(|_| "test"), false),
        ("subject", text(|r| &r.subject), false),
        ("time", Arc::new(times), false),
        ("partition", Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.partition))), false),
        ("offset", Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.offset))), false),
        ("minutes", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.minutes))), true),
    ];
    if with_note {
        let notes: StringArray = rows.iter().map(|r| r.note.as_deref()).collect();
        columns.push(("note", Arc::new(notes), true));
    }
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

pub fn rows(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let notes = batch.column_by_name("note").map(|c| c.as_string::<i32>());
        for i in 0..batch.num_rows() {
            let note = notes.and_then(|n| n.iter().nth(i).flatten()).map(str::to_owned);
            rows.push(Row {
                subject: column("subject").as_string::<i32>().value(i).into(),
                time: column("time").as_primitive::<TimestampMillisecondType>().value(i),
                id: column("id").as_string::<i32>().value(i).into(),
                partition: column("partition").as_primitive::<UInt32Type>().value(i),
                offset: column("offset").as_primitive::<UInt64Type>().value(i),
                minutes: column("minutes").as_primitive::<Int64Type>().value(i),
                note,
            });
        }
    }
    rows
}

pub fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

/// Every row of a table by `scan`, after checking that `stream` gives the same rows, in order.
pub fn read(store: &dyn OfflineStore, table: &str, filter: &ScanFilter) -> Vec<Row> {
    let scanned = sorted(rows(&store.scan(table, filter).unwrap()));
    let streamed: Vec<RecordBatch> = store.stream(table, filter).unwrap().collect::<Result<_, _>>().unwrap();
    let streamed = rows(&streamed);
    assert!(streamed.is_sorted(), "a stream is ordered by entity, time, source, id");
    assert_eq!(scanned, streamed, "scan and stream agree");
    scanned
}

pub fn at(offset: u64) -> Position {
    Position([(0, offset)].into())
}

/// A clock that a test moves, and a store that uses it.
#[derive(Clone, Default)]
pub struct TestClock(pub Arc<AtomicI64>);

impl TestClock {
    pub fn options(&self) -> Options {
        let now = self.0.clone();
        Options::new(Arc::new(move || now.load(Ordering::SeqCst)))
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }

    pub fn open(&self, dir: &Path) -> ParquetHistory {
        ParquetHistory::open(dir, self.options()).unwrap()
    }
}

pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
