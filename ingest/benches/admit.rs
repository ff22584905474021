//! The door: 500 small signals at once, checked only, and admitted into the embedded log with its fsync.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, sync::Arc};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ingest::{
    admit::{Door, DoorOptions, Incoming},
    catalogue::Catalogue,
    log::{self, LogOptions},
};

const BATCH: u64 = 500;
const NOW: i64 = 1_769_860_800_000;

/// A batch in which no signal is a repeat of an earlier one.
fn batch(next: &mut u64) -> Vec<String> {
    let first = *next;
    *next += BATCH;
    (first..*next)
        .map(|n| {
            format!(
                r#"{{"id":"task-{n}","source":"todo","type":"task.completed","subject":"user-{}","time":"2026-01-31T11:00:00Z","data":{{"minutes":25,"project":"home","priority":"high"}}}}"#,
                n % 300
            )
        })
        .collect()
}

fn items(texts: &[String]) -> Vec<Incoming<'_>> {
    texts.iter().map(|text| Incoming::from(text.as_str())).collect()
}

fn admit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log::open("embedded:", dir.path(), LogOptions::default()).unwrap();
    let door = Arc::new(Door::new(Arc::new(Catalogue::load(&[]).unwrap()), log, DoorOptions::default()));
    let mut next = 0;

    let mut group = criterion.benchmark_group("door");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("check", |bencher| {
        let texts = batch(&mut next);
        bencher.iter(|| black_box(door.check(NOW, items(&texts))));
    });
    group.bench_function("admit", |bencher| {
        bencher.iter_batched(
            || batch(&mut next),
            |texts| {
                let done = runtime.block_on(door.admit(NOW, items(&texts))).unwrap();
                assert_eq!(done.accepted as u64, BATCH);
            },
            BatchSize::SmallInput,
        );
    });
    // Eight callers at once share their fsyncs.
    group.throughput(Throughput::Elements(8 * BATCH));
    group.bench_function("admit, 8 callers", |bencher| {
        bencher.iter_batched(
            || (0..8).map(|_| batch(&mut next)).collect::<Vec<_>>(),
            |callers| {
                let tasks: Vec<_> = callers
                    .into_iter()
                    .map(|texts| {
                        let door = door.clone();
                        runtime.spawn(async move { door.admit(NOW, items(&texts)).await.unwrap().accepted })
                    })
                    .collect();
                let accepted: usize = tasks.into_iter().map(|task| runtime.block_on(task).unwrap()).sum();
                assert_eq!(accepted as u64, 8 * BATCH);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, admit);
criterion_main!(benches);
