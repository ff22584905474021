//! Durable appends to the embedded log, each beside what the disk itself takes for the same bytes.
//!
//! `cargo bench -p ingest --bench log_append`; the directory is `TMPDIR`, which should be on a real disk.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a failed benchmark panics; the harness makes functions"
)]

use std::{fs::File, hint::black_box, io::Write, sync::Arc};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ingest::log::{Append, Log, LogOptions, Position, Topic, embedded::EmbeddedLog};
use tokio::runtime::Runtime;

const RECORD: usize = 200;
/// Single callers, callers at once, records of one batch.
const SHAPES: [(&str, usize, usize); 3] = [
    ("one caller, one record", 1, 1),
    ("64 callers, one record each", 64, 1),
    ("one caller, 500 records", 1, 500),
];

/// Records with fresh keys, so that every one of them is looked up and written.
struct Source(u128);

impl Source {
    fn batch(&mut self, records: usize) -> Vec<Append> {
        let payload = Bytes::from_static(&[7; RECORD]);
        (0..records)
            .map(|_| {
                self.0 += 1;
                Append { subject: format!("user-{}", self.0 % 1000), key: self.0, payload: payload.clone() }
            })
            .collect()
    }
}

fn appends(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap());
    let runtime = Runtime::new().unwrap();
    let mut source = Source(0);
    for (name, callers, records) in SHAPES {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements((callers * records) as u64));

        let mut file = File::create(dir.path().join("reference")).unwrap();
        let bytes = vec![7; callers * records * RECORD];
        group.bench_function("write and fdatasync of the same bytes", |b| {
            b.iter(|| {
                file.write_all(&bytes).unwrap();
                file.sync_data().unwrap();
            });
        });
        group.bench_function("append", |b| {
            b.iter(|| {
                let batches: Vec<_> = (0..callers).map(|_| source.batch(records)).collect();
                let calls = batches.into_iter().map(|batch| log.append(Topic::Signals, batch));
                for answer in runtime.block_on(futures::future::join_all(calls)) {
                    black_box(answer.unwrap());
                }
            });
        });
        group.finish();
    }
}

fn reading(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
    let runtime = Runtime::new().unwrap();
    let mut source = Source(0);
    for _ in 0..200 {
        runtime.block_on(log.append(Topic::Signals, source.batch(500))).unwrap();
    }
    let mut group = c.benchmark_group("100 000 records");
    group.throughput(Throughput::Elements(source.0 as u64));
    group.bench_function("read", |b| {
        b.iter(|| {
            let mut reader = log.reader(Topic::Signals, &[0, 1, 2, 3], &Position::default()).unwrap();
            let mut seen = 0;
            while let records = reader.poll(4096).unwrap()
                && !records.is_empty()
            {
                seen += records.len();
            }
            assert_eq!(seen as u128, source.0);
        });
    });
    group.finish();
}

criterion_group!(benches, appends, reading);
criterion_main!(benches);
