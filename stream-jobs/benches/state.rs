//! What state costs: a signal by length of window and history, an entity with a million signals, a checkpoint's pause,
//! a start, and bytes held.
//!
//! `cargo bench -p stream-jobs --bench state [-- curve|large|checkpoint|recovery|bytes …]`. `KAIROS_BENCH_STATE` is the number
//! of signals of `curve` (largest history) and `recovery`, 1,000,000 unless set; 10,000,000 gives the figures to hold.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arrow::array::RecordBatch;
use features::{FeatureStore, Registry, offline, online, online::OnlineStore, store::Applied};
use ingest::{
    catalogue::{Catalogue, SignalType, UnknownFields},
    record::Record,
};
use stream_jobs::{
    golden::Engine,
    shard::{Changes, Shard},
};

/// Counts what is allocated and not yet given back.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const START: i64 = 1_767_225_600_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn select(windows: &str) -> String {
    format!(
        "CREATE FEATURE VIEW v ENTITY user_id WINDOWS ({windows}) AS SELECT subject AS user_id, count(*) AS n, \
         sum(minutes) AS total, avg(minutes) AS mean, max(minutes) FILTER (WHERE minutes > 3) AS most, last(project) AS latest \
         FROM task_completed GROUP BY user_id;"
    )
}

struct Signals {
    kind: Arc<SignalType>,
    data: Vec<Vec<u8>>,
}

impl Signals {
    fn new(catalogue: &Catalogue) -> Self {
        let kind = catalogue.get("task.completed").unwrap().clone();
        let data = |minutes: u64| {
            let json = serde_json::json!({"minutes": minutes, "project": format!("p{}", minutes % 7)});
            kind.encode_value(&json, UnknownFields::Reject).unwrap()
        };
        let data = (0..90).map(data).collect();
        Signals { kind, data }
    }

    fn record(&self, i: u64, entities: u64, time: i64) -> Record {
        let h = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Record {
            kind: self.kind.name.clone(),
            id: format!("{i:012}"),
            source: "bench".to_owned(),
            subject: format!("user-{:07}", i % entities),
            time,
            received_at: time,
            data: self.data[(h % 90) as usize].clone().into(),
            extensions: vec![],
        }
    }

    fn batch(&self, range: std::ops::Range<u64>, entities: u64, time: impl Fn(u64) -> i64) -> RecordBatch {
        let mut builder = self.kind.builder();
        for i in range {
            builder.append(0, i, &self.record(i, entities, time(i))).unwrap();
        }
        builder.finish()
    }
}

fn setup(views: &str) -> (Arc<Catalogue>, Arc<Registry>, Signals) {
    let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
    let registry = Arc::new(Registry::from_texts(&catalogue, &[("bench.sql", views)]).unwrap());
    let signals = Signals::new(&catalogue);
    (catalogue, registry, signals)
}

fn most() -> u64 {
    std::env::var("KAIROS_BENCH_STATE").ok().and_then(|s| s.parse().ok()).unwrap_or(1_000_000)
}

/// Applies signals `range` in batches of `batch`; answers how long each took.
fn apply(
    shard: &mut Shard,
    signals: &Signals,
    range: std::ops::Range<u64>,
    (entities, batch): (u64, u64),
    time: impl Fn(u64) -> i64,
    mut put: impl FnMut(Changes),
) -> Vec<Duration> {
    let mut took = Vec::new();
    let mut i = range.start;
    while i < range.end {
        let next = (i + batch).min(range.end);
        let signals = signals.batch(i..next, entities, &time);
        let started = Instant::now();
        shard.watermark = shard.watermark.max(time(next - 1));
        let mut changes = Changes::default();
        shard.apply(&[("task_completed", &signals)], &mut changes).unwrap();
        took.push(started.elapsed());
        put(changes);
        i = next;
    }
    took
}

fn tell(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!(
        "{what}: p50 {:.1} µs, p99 {:.1} µs, max {:.1} µs ({} times)",
        at(0.5),
        at(0.99),
        at(1.0),
        took.len()
    );
}

/// Cost of a signal: one entity and a hundred, by window and by how many signals its history has.
fn curve() {
    println!("µs a signal, batches of one; histories of signals spread over 90 days");
    for entities in [1u64, 100] {
        for windows in ["1 HOUR", "1 DAY", "7 DAYS", "30 DAYS", "90 DAYS", "1 HOUR, 7 DAYS, 90 DAYS"] {
            let (_, registry, signals) = setup(&select(windows));
            let mut line = format!("{entities:>4} entities, {windows:<24}");
            let mut history = 10_000;
            while history <= most() {
                let time = move |i: u64| START + (i as i64) * 90 * DAY / history as i64;
                let mut shard = Shard::new(0, registry.views());
                apply(&mut shard, &signals, 0..history, (entities, 10_000), time, drop);
                let took = apply(&mut shard, &signals, history..history + 500, (entities, 1), time, drop);
                let total: Duration = took.iter().sum();
                line +=
                    &format!("  10^{}: {:>7.1}", (history as f64).log10(), total.as_secs_f64() * 1e6 / 500.0);
                history *= 10;
            }
            println!("{line}");
        }
    }
}

/// One entity with a million signals inside its longest window.
fn large() {
    const COUNT: u64 = 1_000_000;
    let (_, registry, signals) = setup(&select("1 HOUR, 7 DAYS, 30 DAYS"));
    let dir = tempfile::tempdir().unwrap();
    let online = Arc::new(online::embedded::EmbeddedOnline::new(1));
    let history =
        offline::open(&offline::HistoryOptions::new("embedded:", dir.path(), Arc::new(|| 0))).unwrap();
    let store = FeatureStore::new(registry.clone(), online.clone(), history, Applied::default());
    let mut shard = Shard::new(0, registry.views());
    let time = |i: u64| START + (i as i64) * 29 * DAY / COUNT as i64;
    let put = |c: Changes| online.put_many(c.rows).unwrap();
    let took = apply(&mut shard, &signals, 0..COUNT, (1, 1_000), time, put);
    tell("update with 1,000 signals while it grows", took);
    let took = apply(&mut shard, &signals, COUNT..COUNT + 20_000, (1, 1), time, put);
    tell("update with one signal", took);
    let late = |i: u64| START + (i as i64 % 25) * DAY;
    let took = apply(&mut shard, &signals, COUNT + 20_000..COUNT + 21_000, (1, 1), late, put);
    tell("update with one signal days late", took);
    let names: Vec<String> = registry.feature_names().collect();
    let prepared = registry.prepare(&names).unwrap();
    let now = time(COUNT + 20_000);
    let read = |step: i64| -> Vec<Duration> {
        let one = |k: i64| {
            let started = Instant::now();
            store.read_here(&prepared, "user-0000000", now + 1 + k * step).unwrap();
            started.elapsed()
        };
        (0..5_000).map(one).collect()
    };
    tell("read of finished values", read(0));
    tell("read of values to be aged", read(977));
}

fn engine(views: &str, dir: &std::path::Path) -> (Engine, Signals, tokio::runtime::Runtime) {
    let (catalogue, registry, signals) = setup(views);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let engine = runtime.block_on(async { Engine::open(dir.to_owned(), catalogue, registry, 2) }).unwrap();
    (engine, signals, runtime)
}

fn feed(
    engine: &mut Engine,
    signals: &Signals,
    runtime: &tokio::runtime::Runtime,
    count: u64,
    entities: u64,
) {
    for from in (0..count).step_by(100_000) {
        let time = |i: u64| START + (i as i64) * 6 * DAY / count as i64;
        let to = (from + 100_000).min(count);
        let records: Vec<_> = (from..to).map(|i| signals.record(i, entities, time(i))).collect();
        runtime.block_on(engine.append(&records)).unwrap();
        engine.drain(65_536, usize::MAX).unwrap();
    }
}

/// How long a checkpoint keeps the job from its signals, all of a million rows changed.
fn checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (mut engine, signals, runtime) = engine(&select("7 DAYS"), dir.path());
    for round in 1..=2 {
        feed(&mut engine, &signals, &runtime, 1_000_000, 1_000_000);
        let started = Instant::now();
        runtime.block_on(engine.job.start_saving()).unwrap();
        let pause = started.elapsed();
        runtime.block_on(engine.save()).unwrap();
        println!(
            "checkpoint {round} of 1,000,000 changed rows: pause {:.2} ms, durable after {:.2} s",
            pause.as_secs_f64() * 1e3,
            started.elapsed().as_secs_f64()
        );
    }
}

/// A start from a checkpoint.
fn recovery() {
    for (entities, what) in
        [(10_000, "10,000 entities"), (most() / 10, "ten signals an entity"), (1, "one entity")]
    {
        let dir = tempfile::tempdir().unwrap();
        let (mut engine, signals, runtime) = engine(&select("7 DAYS"), dir.path());
        feed(&mut engine, &signals, &runtime, most(), entities);
        runtime.block_on(engine.save()).unwrap();
        let crashed = Instant::now();
        let engine = runtime.block_on(async { engine.crash_and(|_| ()) }).unwrap();
        println!(
            "start from a state of {} signals, {what}: {:.2} s (log and history opened as well; {} rows)",
            most(),
            crashed.elapsed().as_secs_f64(),
            runtime.block_on(engine.features.entities(&engine.registry.views()[0])).unwrap().len()
        );
    }
}

/// Bytes an entity and view take with one signal each.
fn bytes() {
    const ENTITIES: u64 = 200_000;
    let (_, registry, signals) = setup(&select("1 HOUR, 7 DAYS"));
    for each in [1u64, 10, 100] {
        let online = online::embedded::EmbeddedOnline::new(1);
        let mut shard = Shard::new(0, registry.views());
        let before = LIVE.load(Relaxed);
        let count = ENTITIES * each / 10;
        let time = |i: u64| START + (i as i64) * DAY / count as i64;
        apply(&mut shard, &signals, 0..count, (ENTITIES / 10, 10_000), time, |c| {
            online.put_many(c.rows).unwrap()
        });
        drop(shard.take_dirty().collect::<Vec<_>>());
        let live = LIVE.load(Relaxed) - before;
        let events = registry.held().memory();
        println!(
            "{each} signals an entity: {:.0} bytes a row beside {:.0} of events and {} of finished values",
            (live - events) as f64 / shard.len() as f64 - (registry.views()[0].slots() * 9) as f64,
            events as f64 / shard.len() as f64,
            registry.views()[0].slots() * 9
        );
    }
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let all: [(&str, fn()); 5] = [
        ("bytes", bytes),
        ("large", large),
        ("curve", curve),
        ("checkpoint", checkpoint),
        ("recovery", recovery),
    ];
    for (name, run) in all.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name)) {
        println!("== {name}");
        run();
    }
}
