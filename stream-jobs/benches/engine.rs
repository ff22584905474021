//! The engine: signals through ten views of three windows, and reads of twenty features.
//! The reference is DataFusion computing the same features as one batch over the same rows.
//!
//! `cargo bench -p stream-jobs`; the number of signals of the large run is `KAIROS_BENCH_SIGNALS` (1,000,000).
#![allow(missing_docs, clippy::unwrap_used)]

use std::{sync::Arc, time::Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::prelude::SessionContext;
use features::{FeatureStore, Registry, offline, online, online::OnlineStore, store::Applied};
use ingest::{catalogue::Catalogue, record::Record};
use stream_jobs::shard::{Changes, Shard};

const USERS: u64 = 10_000;
const START: i64 = 1_767_225_600_000;
const SPAN: i64 = 30 * 86_400_000;

fn views() -> String {
    (0..10)
        .map(|i| {
            format!(
                "CREATE FEATURE VIEW v{i} ENTITY user_id WINDOWS (1 HOUR, 24 HOURS, 7 DAYS) AS SELECT subject AS user_id, \
                 count(*) AS n, sum(minutes) AS total, avg(minutes) AS mean, max(minutes) FILTER (WHERE minutes > {i}) AS most \
                 FROM task_completed GROUP BY user_id;\n"
            )
        })
        .collect()
}

fn setup() -> (Arc<Catalogue>, Arc<Registry>) {
    let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
    let registry = Arc::new(Registry::from_texts(&catalogue, &[("bench.sql", &views())]).unwrap());
    (catalogue, registry)
}

/// Batches of `batch` signals of one type, of `USERS` people spread over thirty days, in order of time.
fn batches(catalogue: &Catalogue, signals: u64, batch: u64) -> Vec<arrow::array::RecordBatch> {
    let kind = catalogue.get("task.completed").unwrap();
    let mut builder = kind.builder();
    let mut out = Vec::new();
    let data = |minutes: u64| {
        let json = serde_json::json!({"minutes": minutes, "project": format!("p{}", minutes % 7)});
        kind.encode_value(&json, ingest::catalogue::UnknownFields::Reject).unwrap()
    };
    let encoded: Vec<Vec<u8>> = (0..90).map(data).collect();
    for i in 0..signals {
        let h = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let time = START + (i as i64) * SPAN / signals as i64;
        let record = Record {
            kind: "task.completed".to_owned(),
            id: format!("{i:012}"),
            source: "bench".to_owned(),
            subject: format!("user-{:05}", (h >> 32) % USERS),
            time,
            received_at: time,
            data: encoded[(h % 90) as usize].clone().into(),
            extensions: vec![],
        };
        builder.append(0, i, &record).unwrap();
        if (i + 1) % batch == 0 {
            out.push(builder.finish());
        }
    }
    if !builder.is_empty() {
        out.push(builder.finish());
    }
    out
}

/// Two shards on two threads, as the job runs them; answers the changed rows.
fn stream(registry: &Registry, halves: &[Vec<arrow::array::RecordBatch>; 2]) -> usize {
    std::thread::scope(|scope| {
        let work = halves.iter().enumerate().map(|(p, half)| {
            scope.spawn(move || {
                let mut shard = Shard::new(p as u32, registry.views());
                let mut rows = 0;
                for batch in half {
                    let times = batch.column_by_name("time").unwrap();
                    let newest = arrow::array::cast::AsArray::as_primitive::<
                        arrow::datatypes::TimestampMillisecondType,
                    >(times);
                    shard.watermark = shard.watermark.max(arrow::compute::max(newest).unwrap());
                    let mut changes = Changes::default();
                    shard.apply(&[("task_completed", batch)], &mut changes).unwrap();
                    rows += changes.rows.len();
                }
                rows
            })
        });
        work.collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).sum()
    })
}

/// The same features at the end of the data, as ten queries over all rows.
fn reference(all: &[arrow::array::RecordBatch]) -> usize {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let ctx = SessionContext::new_with_config(datafusion::prelude::SessionConfig::new().with_target_partitions(2));
        let table = datafusion::datasource::MemTable::try_new(all[0].schema(), vec![all.to_vec()]).unwrap();
        ctx.register_table("task_completed", Arc::new(table)).unwrap();
        let mut rows = 0;
        for i in 0..10 {
            let windows: Vec<String> = [3_600_000i64, 86_400_000, 604_800_000]
                .iter()
                .enumerate()
                .map(|(k, w)| {
                    let f = format!("time > to_timestamp_millis({}) ", START + SPAN - w);
                    format!(
                        "count(*) FILTER (WHERE {f}) AS n{k}, sum(minutes) FILTER (WHERE {f}) AS s{k}, \
                         avg(minutes) FILTER (WHERE {f}) AS a{k}, max(minutes) FILTER (WHERE {f} AND minutes > {i}) AS m{k}"
                    )
                })
                .collect();
            let sql = format!("SELECT subject, {} FROM task_completed GROUP BY subject", windows.join(", "));
            rows += ctx.sql(&sql).await.unwrap().collect().await.unwrap().iter().map(|b| b.num_rows()).sum::<usize>();
        }
        rows
    })
}

fn large_run() {
    let signals: u64 =
        std::env::var("KAIROS_BENCH_SIGNALS").ok().and_then(|s| s.parse().ok()).unwrap_or(1_000_000);
    let (catalogue, registry) = setup();
    let all = batches(&catalogue, signals, 131_072);
    let split = |p: u32| -> Vec<_> {
        let hash = |s: &str| ingest::log::partition_of(s, 2) == p;
        let pick = |b: &arrow::array::RecordBatch| {
            let subjects =
                arrow::array::cast::AsArray::as_string::<i32>(b.column_by_name("subject").unwrap());
            let mask: arrow::array::BooleanArray = subjects.iter().map(|s| Some(hash(s.unwrap()))).collect();
            arrow::compute::filter_record_batch(b, &mask).unwrap()
        };
        all.iter().map(pick).collect()
    };
    let halves = [split(0), split(1)];
    for round in 1..=3 {
        let started = Instant::now();
        let rows = stream(&registry, &halves);
        let streamed = started.elapsed();
        let started = Instant::now();
        reference(&all);
        let batch = started.elapsed();
        println!(
            "round {round}: {signals} signals x 10 views x 3 windows: {:.2} s ({rows} rows written), DataFusion batch {:.2} s, ratio {:.2}",
            streamed.as_secs_f64(),
            batch.as_secs_f64(),
            streamed.as_secs_f64() / batch.as_secs_f64()
        );
    }
}

fn tile_update(c: &mut Criterion) {
    let (catalogue, registry) = setup();
    let mut group = c.benchmark_group("tile_update");
    for batch in [1u64, 100, 10_000] {
        let all = batches(&catalogue, 100_000, batch);
        let mut shard = Shard::new(0, registry.views());
        let mut next = all.iter().cycle();
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("10 views, batch of {batch}"), |b| {
            b.iter(|| {
                let mut changes = Changes::default();
                shard.apply(&[("task_completed", next.next().unwrap())], &mut changes).unwrap();
                changes.rows.len()
            });
        });
    }
    group.finish();
}

fn feature_read(c: &mut Criterion) {
    let (catalogue, registry) = setup();
    let dir = tempfile::tempdir().unwrap();
    let online = Arc::new(online::embedded::EmbeddedOnline::new(registry.views().len()));
    let history =
        offline::open(&offline::HistoryOptions::new("embedded:", dir.path(), Arc::new(|| 0))).unwrap();
    let store = FeatureStore::new(registry.clone(), online.clone(), history, Applied::default());
    let mut shard = Shard::new(0, registry.views());
    for batch in batches(&catalogue, 200_000, 20_000) {
        let mut changes = Changes::default();
        shard.watermark = START + SPAN;
        shard.apply(&[("task_completed", &batch)], &mut changes).unwrap();
        online.put_many(changes.rows).unwrap();
    }
    let now = START + SPAN;
    loop {
        let mut changes = Changes::default();
        shard.sweep(now, 100_000, &mut changes).unwrap();
        if changes.rows.is_empty() {
            break;
        }
        online.put_many(changes.rows).unwrap();
    }
    // Twenty features of five views, as a model would ask for them.
    let names: Vec<String> =
        (0..5).flat_map(|v| ["n_1h", "n_24h", "total_7d", "mean_7d"].map(|f| format!("v{v}.{f}"))).collect();
    let prepared = registry.prepare(&names).unwrap();
    let people: Vec<String> = (0..USERS).map(|u| format!("user-{u:05}")).collect();
    let mut next = people.iter().cycle();
    c.bench_function("read 20 features of one user", |b| {
        b.iter(|| store.read_here(&prepared, next.next().unwrap(), now).unwrap());
    });
    let later = now + 3_599_999;
    c.bench_function("read 20 features of one user, values to be aged", |b| {
        b.iter(|| store.read_here(&prepared, next.next().unwrap(), later).unwrap());
    });
    c.bench_function("read 20 features of 100 users", |b| {
        b.iter(|| futures::executor::block_on(store.read_now(&prepared, &people[..100], now)).unwrap());
    });
}

fn large(_: &mut Criterion) {
    large_run();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = tile_update, feature_read, large
}
criterion_main!(benches);
