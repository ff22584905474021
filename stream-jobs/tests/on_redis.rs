//! The job with Redis as its online store: the same values as with the embedded one for the same signals, whatever
//! happens to the job and to Redis in between.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use features::{
    FeatureError, FeatureStore, Registry, Value,
    offline::{self, HistoryOptions},
    online::{self, OnlineOptions},
    store::Applied,
};
use ingest::{
    Millis,
    catalogue::Catalogue,
    log::{Append, Log, LogOptions, Partition, Position, Topic, embedded::EmbeddedLog},
    servers::{self, Server},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use stream_jobs::{
    Job, JobError, JobOptions,
    job::{CONSUMER, Eraser},
};
use support::{Signal, same};
use tokio::{sync::watch, task::JoinHandle};

const VIEWS: &str = "CREATE FEATURE VIEW tasks ENTITY user_id WINDOWS (1 HOUR, 1 DAY)
    AS SELECT subject AS user_id, count(*) AS n, last(project) AS latest, sum(minutes) AS minutes FROM task_completed GROUP BY user_id;
    CREATE FEATURE VIEW mood ENTITY user_id WINDOWS (7 DAYS)
    AS SELECT subject AS user_id, avg(mood) AS mean, stddev(mood) AS spread FROM mood_reported GROUP BY user_id;";
const NOON: Millis = 1_767_268_800_000;
const NOW: Millis = NOON + 3 * 3_600_000;
const PEOPLE: u32 = 40;
const PARTITIONS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(30);

/// A log, and what reads it.
struct World {
    dir: tempfile::TempDir,
    catalogue: Arc<Catalogue>,
    registry: Arc<Registry>,
    log: Arc<EmbeddedLog>,
    rng: StdRng,
    told: u32,
}

/// A job that runs.
struct Running {
    features: FeatureStore,
    eraser: Eraser,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), JobError>>,
}

impl World {
    fn new(seed: u64) -> World {
        let dir = tempfile::tempdir().unwrap();
        let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
        let registry = Arc::new(Registry::from_texts(&catalogue, &[("views.sql", VIEWS)]).unwrap());
        let options = LogOptions { partitions: PARTITIONS, ..LogOptions::default() };
        let log = Arc::new(EmbeddedLog::open(&dir.path().join("log"), options).unwrap());
        World { dir, catalogue, registry, log, rng: StdRng::seed_from_u64(seed), told: 0 }
    }

    /// Appends signals, some of them twice, some of them late.
    async fn tell(&mut self, count: u32) {
        let mut records = Vec::new();
        for _ in 0..count {
            let number = if self.rng.random_bool(0.05) { self.told / 2 } else { self.told };
            self.told += 1;
            let mut rng = StdRng::seed_from_u64(u64::from(number));
            let (kind, data) = if number.is_multiple_of(3) {
                ("mood.reported", serde_json::json!({"mood": rng.random_range(1..=10)}))
            } else {
                let project = format!("p{}", number % 4);
                ("task.completed", serde_json::json!({"project": project, "minutes": number % 50}))
            };
            let signal = Signal {
                id: format!("s{number}"),
                source: "test".to_owned(),
                kind: kind.to_owned(),
                subject: format!("u{}", rng.random_range(0..PEOPLE)),
                time: jiff::Timestamp::from_millisecond(NOON + rng.random_range(0..9_000_000)).unwrap(),
                data,
            };
            let record = signal.record(&self.catalogue);
            records.push(Append { subject: record.subject.clone(), key: 0, payload: record.encode() });
        }
        self.log.append(Topic::Signals, records).await.unwrap();
    }

    fn end(&self) -> Position {
        self.log.end(Topic::Signals)
    }

    /// A store of this URL for one process; `None` where this build has no such backend.
    fn store(&self, url: &str, dir: &str, holder: &str) -> Option<FeatureStore> {
        let options = OnlineOptions {
            partitions: PARTITIONS,
            holder: holder.into(),
            timeout: Duration::from_millis(150),
            lease: Duration::from_millis(500),
            claim_within: Duration::from_secs(3),
            ..OnlineOptions::new(self.registry.views().len())
        };
        let online = match online::open(url, &options) {
            Err(FeatureError::Request(_)) => {
                println!("skipped: built without Redis");
                return None;
            }
            opened => opened.unwrap(),
        };
        let clock: ingest::Clock = Arc::new(|| NOW);
        let history = HistoryOptions::new("embedded:", self.dir.path().join(dir), clock);
        let history = offline::open(&history).unwrap();
        Some(FeatureStore::new(self.registry.clone(), online, history, Applied::default()))
    }

    fn job(
        &self,
        features: &FeatureStore,
        dir: &str,
        partitions: Option<Vec<Partition>>,
    ) -> Result<Job, JobError> {
        let options = JobOptions {
            checkpoint_every: Duration::from_millis(100),
            batch: 50,
            partitions,
            ..JobOptions::new(self.dir.path().join(dir).join("state.redb"))
        };
        let clock: ingest::Clock = Arc::new(|| NOW);
        std::fs::create_dir_all(self.dir.path().join(dir)).unwrap();
        Job::open(
            self.log.clone(),
            self.catalogue.clone(),
            features,
            features.online().clone(),
            clock,
            options,
        )
    }

    /// Runs a job of its own process.
    fn run(&self, url: &str, dir: &str, partitions: Option<Vec<Partition>>) -> Option<Running> {
        let features = self.store(url, dir, dir)?;
        let began = Instant::now();
        let job = loop {
            match self.job(&features, dir, partitions.clone()) {
                // A checkpoint of the job that was cut off may be on its way still.
                Err(JobError::Checkpoint { .. }) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                opened => break opened.unwrap(),
            }
        };
        let (stop, stopping) = watch::channel(false);
        let eraser = job.eraser();
        Some(Running { features, eraser, stop, task: tokio::spawn(job.run(stopping)) })
    }

    /// Every value of everybody.
    async fn values(&self, features: &FeatureStore) -> Vec<(String, Value)> {
        let names: Vec<String> = self.registry.feature_names().collect();
        let prepared = self.registry.prepare(&names).unwrap();
        let people: Vec<String> = (0..=PEOPLE).map(|i| format!("u{i}")).collect();
        let rows = features.read_now(&prepared, &people, NOW).await.unwrap();
        assert!(rows.iter().all(|row| !row.stale));
        let name = |who: &str, i: usize| format!("{who} {}", names[i]);
        let each = |row: &features::FeatureRow| {
            let values = row.values.iter().cloned().enumerate();
            values.map(|(i, v)| (name(&row.entity, i), v)).collect::<Vec<_>>()
        };
        rows.iter().flat_map(each).collect()
    }

    /// The same signals with the embedded store, all at once.
    async fn wanted(&self) -> Vec<(String, Value)> {
        let features = self.store("embedded:", "embedded", "embedded").unwrap();
        let mut job = self.job(&features, "embedded", None).unwrap();
        let all: Vec<Partition> = (0..PARTITIONS).collect();
        let mut reader = self.log.reader(Topic::Signals, &all, job.position()).unwrap();
        loop {
            let records = reader.poll(10_000).unwrap();
            if records.is_empty() {
                break;
            }
            job.apply(&records).unwrap();
        }
        self.values(&features).await
    }
}

impl Running {
    async fn reaches(&self, position: &Position) {
        self.features.wait_for(position, PATIENCE).await.unwrap();
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap().unwrap();
    }

    /// As a SIGKILL would: no checkpoint, no claim let go.
    async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn assert_same(got: &[(String, Value)], wanted: &[(String, Value)]) {
    assert_eq!(got.len(), wanted.len());
    assert!(wanted.iter().filter(|(_, v)| *v != Value::Null && *v != Value::Int(0)).count() > 100);
    for ((name, got), (_, wanted)) in got.iter().zip(wanted) {
        assert!(same(got, wanted), "{name}: {got:?}, not {wanted:?}");
    }
}

fn checkpointed(world: &World) -> u64 {
    world.log.committed(CONSUMER, Topic::Signals).unwrap().0.values().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn values_are_those_of_the_embedded_store_whatever_happens() {
    let Some(mut server) = servers::redis().filter(Server::is_own) else { return };
    for seed in 0..3u64 {
        let mut world = World::new(seed);
        world.tell(300).await;
        let Some(job) = world.run(&server.url, "redis", None) else { return };
        job.reaches(&world.end()).await;
        // An API beside it: no job, the same values, and its own waiting.
        let beside = world.store(&server.url, "beside", "beside").unwrap();
        beside.wait_for(&world.end(), PATIENCE).await.unwrap();
        assert_same(&world.values(&beside).await, &world.wanted().await);
        one_round_trip(&server, &world, &beside).await;

        // Restarted in the middle, in order and not.
        world.tell(100).await;
        if seed == 0 {
            job.stop().await
        } else {
            job.crash().await
        }
        world.tell(100).await;
        let job = world.run(&server.url, "redis", None).unwrap();
        job.reaches(&world.end()).await;
        assert_same(&world.values(&beside).await, &world.wanted().await);

        // Killed in the middle, and back without its data while signals come.
        world.tell(100).await;
        server.kill();
        world.tell(200).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!job.task.is_finished(), "the job waits");
        let names: Vec<String> = world.registry.feature_names().collect();
        let prepared = world.registry.prepare(&names).unwrap();
        let row = beside.read_one(&prepared, "u1", NOW).await.unwrap();
        assert!(row.stale, "read before, and marked");
        let table = beside.read_table(&prepared, vec!["u1".into()], NOW).await.unwrap();
        assert_eq!((table.stale, table.position), (vec![true], Position::default()));
        server.start();
        world.tell(50).await;
        job.reaches(&world.end()).await;
        beside.wait_for(&world.end(), PATIENCE).await.unwrap();
        let wanted = world.wanted().await;
        settled(&world, &beside, &wanted).await;
        assert_same(&world.values(&job.features).await, &wanted);

        // Gone while the job is not there.
        job.crash().await;
        server.kill();
        server.start();
        let job = world.run(&server.url, "redis", None).unwrap();
        job.reaches(&world.end()).await;
        settled(&world, &beside, &wanted).await;
        job.stop().await;
    }
}

/// Waits until reads are answered by Redis again, and compares.
async fn settled(world: &World, features: &FeatureStore, wanted: &[(String, Value)]) {
    let began = Instant::now();
    let names: Vec<String> = world.registry.feature_names().collect();
    let prepared = world.registry.prepare(&names).unwrap();
    while !matches!(features.read_one(&prepared, "u1", NOW).await, Ok(row) if !row.stale) {
        assert!(began.elapsed() < PATIENCE, "still away");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_same(&world.values(features).await, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn jobs_share_the_partitions_and_never_one() {
    let Some(server) = servers::redis() else { return };
    let mut world = World::new(7);
    world.tell(400).await;
    let Some(first) = world.run(&server.url, "first", Some(vec![2, 0])) else { return };
    let second = world.run(&server.url, "second", Some(vec![1])).unwrap();
    let beside = world.store(&server.url, "beside", "beside").unwrap();
    beside.wait_for(&world.end(), PATIENCE).await.unwrap();
    // Each knows of the other what Redis says.
    first.reaches(&world.end()).await;
    let wanted = world.wanted().await;
    assert_same(&world.values(&beside).await, &wanted);

    let third = world.store(&server.url, "third", "third").unwrap();
    let Err(e) = world.job(&third, "third", Some(vec![1])) else { panic!("two jobs on partition 1") };
    assert!(e.to_string().contains("partition 1 is written by second"), "{e}");
    let Err(e) = world.job(&third, "third", Some(vec![3])) else { panic!("there is no partition 3") };
    assert!(e.to_string().contains("partition 3"), "{e}");
    second.stop().await;
    // Its state begins empty, and so does what it puts; the log has all.
    let third = world.run(&server.url, "third", Some(vec![1])).unwrap();
    world.tell(100).await;
    beside.wait_for(&world.end(), PATIENCE).await.unwrap();
    assert_same(&world.values(&beside).await, &world.wanted().await);
    first.stop().await;
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_checkpoint_holds_what_redis_did_not_take() {
    let Some(mut server) = servers::redis().filter(Server::is_own) else { return };
    let mut world = World::new(9);
    world.tell(200).await;
    let Some(job) = world.run(&server.url, "redis", None) else { return };
    job.reaches(&world.end()).await;
    let all = world.end().0.values().sum::<u64>();
    let began = Instant::now();
    while checkpointed(&world) < all {
        assert!(began.elapsed() < PATIENCE, "no checkpoint");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.kill();
    world.tell(200).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(checkpointed(&world), all, "the checkpoint waits for Redis");
    let e = job.eraser.erase("u1").await.unwrap_err();
    assert!(e.contains("erase again"), "{e}");
    // Stops in order all the same.
    job.stop().await;
    assert_eq!(checkpointed(&world), all);
    // Starts without Redis, and waits for it.
    let job = world.run(&server.url, "redis", None).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!job.task.is_finished());
    server.start();
    job.reaches(&world.end()).await;
    let wanted = world.wanted().await;
    settled(&world, &job.features, &wanted).await;

    // An erasure reaches Redis, and what others remember once told.
    world.log.erase("u1").await.unwrap();
    job.eraser.erase("u1").await.unwrap();
    let client = redis_keys(&server, "u1");
    assert_eq!(client, 0, "rows of an erased person");
    job.stop().await;
}

/// A read of everything about a person is one command.
async fn one_round_trip(server: &Server, world: &World, features: &FeatureStore) {
    let names: Vec<String> = world.registry.feature_names().collect();
    let prepared = world.registry.prepare(&names).unwrap();
    said(server, "CONFIG RESETSTAT");
    features.read_one(&prepared, "u1", NOW).await.unwrap();
    let stats = said(server, "INFO commandstats");
    assert!(stats.contains("cmdstat_mget:calls=1,") && !stats.contains("cmdstat_get:"), "{stats}");
}

/// What the server answers to a line.
fn said(server: &Server, line: &str) -> String {
    use std::io::{Read, Write};
    let mut connection = std::net::TcpStream::connect(server.address()).unwrap();
    connection.write_all(format!("{line}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    text
}

/// How many keys end with an entity, as the server itself says.
fn redis_keys(server: &Server, entity: &str) -> usize {
    let answer = said(server, &format!("KEYS *:{entity}"));
    answer.lines().next().unwrap().trim_start_matches('*').parse().unwrap()
}
