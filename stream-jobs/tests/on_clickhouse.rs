//! The stream job with its history on ClickHouse: the same values of the past as on Parquet, and no end of the job
//! while ClickHouse is away.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use arrow::{
    array::{AsArray, RecordBatch},
    compute::concat_batches,
    datatypes::Float64Type,
};
use features::{
    FeatureStore, Registry,
    offline::{self, HistoryError, HistoryOptions, OfflineStore, ScanFilter},
    online, past,
    store::Applied,
    versions::Versions,
};
use ingest::{
    Millis,
    catalogue::{Catalogue, UnknownFields},
    log::{Append, Log, LogOptions, Topic, embedded::EmbeddedLog},
    record::Record,
    servers::{
        self,
        proxy::{Network, Proxy},
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use stream_jobs::{Job, JobOptions};

const NOON: Millis = 1_767_268_800_000;
const MINUTE: Millis = 60_000;
const LIVE: &str = "CREATE FEATURE VIEW tasks ENTITY user_id WINDOWS (1 HOUR, 1 DAY)
    AS SELECT subject AS user_id, count(*) AS n, sum(minutes) AS m, avg(minutes * 1.1) AS a, last(project) AS p,
    last_n(project, 3) AS l FROM task_completed GROUP BY user_id;";
const LATER: &str = "CREATE FEATURE VIEW more ENTITY user_id WINDOWS (2 HOURS)
    AS SELECT subject AS user_id, stddev(minutes * 0.1) AS s, count(DISTINCT project) AS d, last_n(project, 2) AS l
    FROM task_completed GROUP BY user_id;";

struct Engine {
    registry: Arc<Registry>,
    log: Arc<EmbeddedLog>,
    features: FeatureStore,
    job: Job,
}

impl Engine {
    /// `None` where this build has no ClickHouse.
    fn open(dir: &Path, options: HistoryOptions, views: &str, job: JobOptions) -> Option<Engine> {
        let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
        let registry = Arc::new(Registry::from_texts(&catalogue, &[("views.sql", views)]).unwrap());
        let clock = options.clock.clone();
        let history = match offline::open(&options) {
            Err(HistoryError::Refused(m)) if m.contains("no store of this build") => {
                println!("skipped: no ClickHouse in this build");
                return None;
            }
            history => history.unwrap(),
        };
        let log_options = LogOptions { partitions: 2, ..LogOptions::default() };
        let log = Arc::new(EmbeddedLog::open(&dir.join("log"), log_options).unwrap());
        let online = online::open("embedded:", &online::OnlineOptions::new(registry.views().len())).unwrap();
        Versions::of(dir).settle(&registry, &*history).unwrap();
        let features = FeatureStore::new(registry.clone(), online.clone(), history, Applied::default());
        let job = Job::open(log.clone(), catalogue, &features, online, clock, job).unwrap();
        Some(Engine { registry, log, features, job })
    }

    fn drain(&mut self) {
        let mut reader = self.log.reader(Topic::Signals, &[0, 1], self.job.position()).unwrap();
        loop {
            let records = reader.poll(7).unwrap();
            if records.is_empty() {
                return;
            }
            self.job.apply(&records).unwrap();
        }
    }

    fn history(&self) -> &dyn OfflineStore {
        &**self.features.history()
    }

    fn table(&self, table: &str) -> RecordBatch {
        let all: Vec<RecordBatch> =
            self.history().stream(table, &ScanFilter::default()).unwrap().collect::<Result<_, _>>().unwrap();
        concat_batches(&all[0].schema(), &all).unwrap()
    }
}

/// Who, when, when it arrived, minutes, project.
type Signal = (String, Millis, Millis, i64, String);

async fn append(log: &EmbeddedLog, signals: &[Signal], from: usize) {
    let catalogue = Catalogue::load(&[]).unwrap();
    let kind = catalogue.get("task.completed").unwrap();
    let entry = |(i, (who, time, received, minutes, project)): (usize, &Signal)| {
        let data = serde_json::json!({"minutes": minutes, "project": project});
        let record = Record {
            kind: kind.name.clone(),
            id: format!("s{}", from + i),
            source: "test".into(),
            subject: who.clone(),
            time: *time,
            received_at: *received,
            data: kind.encode_value(&data, UnknownFields::Reject).unwrap().into(),
            extensions: vec![],
        };
        Append { subject: who.clone(), key: 0, payload: record.encode() }
    };
    let records = signals.iter().enumerate().map(entry).collect();
    log.append(Topic::Signals, records).await.unwrap();
}

/// People's signals out of order, some of which arrive long after they happened.
fn signals(rng: &mut StdRng, count: usize) -> Vec<Signal> {
    (0..count)
        .map(|i| {
            let time = NOON + i as Millis * MINUTE - rng.random_range(0..90) * MINUTE;
            let received = time + if rng.random_bool(0.2) { rng.random_range(0..300) * MINUTE } else { 5 };
            let who = format!("user-{}", rng.random_range(0..6));
            (who, time, received, rng.random_range(-5..60), format!("p'{}\\", rng.random_range(0..4)))
        })
        .collect()
}

/// Whole numbers and texts alike, floating numbers to 1e-9.
fn assert_alike(a: &RecordBatch, b: &RecordBatch, what: &str) {
    assert_eq!((a.num_rows(), a.schema().fields()), (b.num_rows(), b.schema().fields()), "{what}");
    for (field, (a, b)) in a.schema().fields().iter().zip(a.columns().iter().zip(b.columns())) {
        match a.as_primitive_opt::<Float64Type>() {
            Some(a) => {
                let b = b.as_primitive::<Float64Type>();
                for (a, b) in a.iter().zip(b) {
                    let near = |(a, b): (f64, f64)| {
                        (a - b).abs() <= 1e-9 * a.abs().max(1.0) || a.is_nan() && b.is_nan()
                    };
                    assert!(
                        a.is_some() == b.is_some() && a.zip(b).is_none_or(near),
                        "{what}: {field}: {a:?} {b:?}"
                    );
                }
            }
            // The instant at which a row was made is the one thing that may differ.
            None if field.name() == "written" => {}
            None => assert_eq!(a, b, "{what}: {field}"),
        }
    }
}

#[test]
fn the_past_is_the_same_as_on_parquet() {
    let Some(server) = servers::clickhouse() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let now = [(); 2].map(|()| Arc::new(AtomicI64::new(NOON + 1_000 * MINUTE)));
    let open = |i: usize, views: &str| {
        let now = now[i].clone();
        let clock: ingest::Clock = Arc::new(move || now.fetch_add(1, Ordering::SeqCst));
        let url = if i == 0 { "embedded:" } else { &server.url };
        let mut options = HistoryOptions::new(url, dirs[i].path(), clock);
        options.server.batch_time = Duration::from_millis(20);
        Engine::open(dirs[i].path(), options, views, JobOptions::new(dirs[i].path().join("state.redb")))
    };
    let mut rng = StdRng::seed_from_u64(7);
    let all = signals(&mut rng, 600);
    let mut engines = Vec::new();
    for i in 0..2 {
        let Some(mut engine) = open(i, LIVE) else { return };
        for (n, part) in all.chunks(150).enumerate() {
            runtime.block_on(append(&engine.log, part, n * 150));
            engine.drain();
            if n % 2 == 0 {
                runtime.block_on(engine.job.save()).unwrap();
            }
        }
        engines.push(engine);
    }
    let rows: Vec<(String, Millis)> = (0..300)
        .map(|_| {
            (format!("user-{}", rng.random_range(0..8)), NOON + rng.random_range(-60..700) * MINUTE + 30_000)
        })
        .collect();
    let compare = |engines: &[Engine]| {
        let joined = |e: &Engine, known| {
            let names: Vec<String> = e.registry.feature_names().collect();
            let prepared = e.registry.prepare(&names).unwrap();
            past::join(e.history(), &prepared, &rows, known).unwrap()
        };
        for known in [past::Known::ByThen, past::Known::ByNow] {
            let [a, b] = [0, 1].map(|i| joined(&engines[i], known));
            assert_eq!(a.with_late_signals, b.with_late_signals);
            assert!(known == past::Known::ByNow || a.with_late_signals > 0, "the test has late signals");
            assert_alike(&a.values, &b.values, "joined");
        }
        for (who, at) in &rows[..40] {
            let names: Vec<String> = engines[0].registry.feature_names().collect();
            let [a, b] = [0, 1].map(|i| {
                let prepared = engines[i].registry.prepare(&names).unwrap();
                format!(
                    "{:?}",
                    engines[i].features.read_as_of(&prepared, &[who.as_str()], *at).unwrap()[0].values
                )
            });
            assert_eq!(a, b, "{who} at {at}");
        }
    };
    // With rows in memory, in the spool and on the server.
    compare(&engines);
    assert_alike(&engines[0].table("task_completed"), &engines[1].table("task_completed"), "signals");
    assert_alike(&engines[0].table("features_tasks"), &engines[1].table("features_tasks"), "values");
    for engine in &mut engines {
        runtime.block_on(engine.job.save()).unwrap();
        engine.history().deliver(Duration::from_secs(30)).unwrap();
    }
    compare(&engines);
    drop(engines);
    // A view that comes later is filled from history.
    let views = format!("{LIVE}{LATER}");
    let mut engines: Vec<Engine> = (0..2).map(|i| open(i, &views).unwrap()).collect();
    for engine in &mut engines {
        runtime.block_on(engine.job.backfill(None, |_| ())).unwrap();
        engine.history().deliver(Duration::from_secs(30)).unwrap();
    }
    assert!(engines[1].table("features_more").num_rows() > 500);
    assert_alike(&engines[0].table("features_more"), &engines[1].table("features_more"), "backfilled");
    compare(&engines);
}

#[test]
fn the_job_outlasts_a_clickhouse_that_is_away_until_the_spool_is_full() {
    let Some(server) = servers::clickhouse() else { return };
    let proxy = Proxy::before(server.address());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let url = server.url.replace(&server.address().to_string(), &proxy.address().to_string());
    let mut options = HistoryOptions::new(&url, dir.path(), Arc::new(|| NOON));
    options.server.spool_bytes = 400_000;
    options.server.batch_time = Duration::from_millis(10);
    options.server.timeout = Duration::from_secs(2);
    let job = JobOptions {
        checkpoint_every: Duration::from_millis(100),
        history_buffer: 200_000,
        batch: 500,
        ..JobOptions::new(dir.path().join("state.redb"))
    };
    let Some(engine) = Engine::open(dir.path(), options, LIVE, job) else { return };
    let Engine { log, features, job, .. } = engine;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = runtime.spawn(job.run(stopped));
    proxy.set(Network::Dropping);
    let mut rng = StdRng::seed_from_u64(11);
    const ALL: usize = 20_000;
    for n in 0..ALL / 500 {
        runtime.block_on(append(&log, &signals(&mut rng, 500), n * 500));
    }
    let end = log.end(Topic::Signals);
    let applied = || features.applied().position();
    // It comes to rest before the end of the log, and lives.
    let (mut last, mut since, began) = (applied(), Instant::now(), Instant::now());
    while since.elapsed() < Duration::from_secs(3) {
        assert!(began.elapsed() < Duration::from_secs(40), "it does not stop reading: {}", applied());
        std::thread::sleep(Duration::from_millis(50));
        if applied() != last {
            (last, since) = (applied(), Instant::now());
        }
    }
    assert!(!running.is_finished() && !last.covers(&end), "at {last} of {end}");
    assert!(features.history().buffered_bytes() < 4_000_000);
    proxy.set(Network::Whole);
    let began = Instant::now();
    while !applied().covers(&end) {
        assert!(
            began.elapsed() < Duration::from_secs(50) && !running.is_finished(),
            "at {} of {end}",
            applied()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    stop.send(true).unwrap();
    runtime.block_on(running).unwrap().unwrap();
    let history = features.history();
    history.deliver(Duration::from_secs(30)).unwrap();
    assert_eq!(history.durable_position().unwrap(), end);
    let ids = ScanFilter { columns: Some(vec!["id".into()]), ..ScanFilter::default() };
    let rows: usize = history.stream("task_completed", &ids).unwrap().map(|b| b.unwrap().num_rows()).sum();
    assert_eq!(rows, ALL);
}
