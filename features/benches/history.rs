//! Parquet history: a flush of a million rows, and the read of one person out of them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{path::Path, sync::Arc};

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array, UInt64Array,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use features::offline::{OfflineStore, Options, ParquetHistory, ScanFilter};
use ingest::log::Position;

const ROWS: u64 = 1_000_000;
const PEOPLE: u64 = 10_000;
const BATCH: u64 = 8_192;

/// Rows as the log brings them: people interleaved, time growing.
fn batch(from: u64, to: u64) -> RecordBatch {
    let text =
        |f: &dyn Fn(u64) -> String| Arc::new(StringArray::from_iter_values((from..to).map(f))) as ArrayRef;
    let time = TimestampMillisecondArray::from_iter_values((from..to).map(|o| o as i64 * 50))
        .with_timezone("+00:00");
    RecordBatch::try_from_iter(vec![
        ("id", text(&|o| format!("{o:016x}"))),
        ("source", text(&|_| "bench".into())),
        ("subject", text(&|o| format!("user-{:05}", (o * 7_919) % PEOPLE))),
        ("time", Arc::new(time.clone())),
        ("received_at", Arc::new(time)),
        ("partition", Arc::new(UInt32Array::from_iter_values((from..to).map(|_| 0)))),
        ("offset", Arc::new(UInt64Array::from_iter_values(from..to))),
        ("project", text(&|o| format!("project {}", o % 13))),
        ("minutes", Arc::new(Int64Array::from_iter_values((from..to).map(|o| (o % 90) as i64)))),
    ])
    .unwrap()
}

fn open(dir: &Path) -> ParquetHistory {
    ParquetHistory::open(dir, Options::new(Arc::new(|| 0))).unwrap()
}

fn at(offset: u64) -> Position {
    Position([(0, offset)].into())
}

fn history(c: &mut Criterion) {
    let batches: Vec<(u64, RecordBatch)> = (0..ROWS.div_ceil(BATCH))
        .map(|i| ((i + 1) * BATCH, batch(i * BATCH, ((i + 1) * BATCH).min(ROWS))))
        .collect();
    let mut group = c.benchmark_group("history");
    group.sample_size(10).throughput(Throughput::Elements(ROWS));
    group.bench_function("append and flush 1M rows", |b| {
        b.iter(|| {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path());
            for (_, batch) in &batches {
                store.append("task_completed", batch.clone()).unwrap();
            }
            store.flush(&at(ROWS)).unwrap();
        });
    });

    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (i, (end, batch)) in batches.iter().enumerate() {
        store.append("task_completed", batch.clone()).unwrap();
        if i % 10 == 9 {
            store.flush(&at(*end)).unwrap();
        }
    }
    store.flush(&at(ROWS + BATCH)).unwrap();
    let one = |who: u64| ScanFilter::window(&format!("user-{who:05}"), 10_000_000, 40_000_000);
    let mut who = 0;
    let mut read_one = |store: &ParquetHistory| {
        who = (who + 101) % PEOPLE;
        let rows: usize =
            store.scan("task_completed", &one(who)).unwrap().iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 60);
    };
    group.throughput(Throughput::Elements(1));
    group.sample_size(50).bench_function("one person, 13 files", |b| b.iter(|| read_one(&store)));
    while store.compact_step().unwrap() {}
    group.bench_function("one person, compacted", |b| b.iter(|| read_one(&store)));
    group.throughput(Throughput::Elements(ROWS)).sample_size(10);
    group.bench_function("stream 1M rows in order", |b| {
        b.iter(|| {
            let stream = store.stream("task_completed", &ScanFilter::default()).unwrap();
            assert_eq!(stream.map(|b| b.unwrap().num_rows() as u64).sum::<u64>(), ROWS);
        });
    });
}

criterion_group!(benches, history);
criterion_main!(benches);
