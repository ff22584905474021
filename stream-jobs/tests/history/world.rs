//! Signals of some people, and an engine over a directory that can be copied, cut off and opened again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use arrow::{array::AsArray, datatypes::Int64Type, datatypes::TimestampMillisecondType};
use features::{
    FeatureStore, Registry, Value,
    offline::{self, ScanFilter},
    online,
    registry::Beside,
    store::Applied,
    versions::Versions,
};
use ingest::{
    Millis,
    catalogue::{Catalogue, UnknownFields},
    log::{Append, Log, LogOptions, Topic, embedded::EmbeddedLog},
    record::Record,
};
use stream_jobs::{Job, JobOptions};

use crate::support::copy_dir;

pub const NOON: Millis = 1_767_268_800_000;
pub const HOUR: Millis = 3_600_000;
pub const MINUTE: Millis = 60_000;

#[derive(Debug, Clone)]
pub struct Signal {
    pub who: String,
    pub time: Millis,
    pub minutes: i64,
    pub number: usize,
}

/// People with signals some minutes apart, in the order in which they come.
pub fn signals(people: usize, each: usize) -> Vec<Signal> {
    let mut all: Vec<Signal> = (0..people)
        .flat_map(|p| {
            (0..each).map(move |i| Signal {
                who: format!("user-{p:03}"),
                time: NOON + (i as Millis) * 7 * MINUTE + (p as Millis) * 11,
                minutes: ((p * 31 + i * 17) % 50) as i64,
                number: 0,
            })
        })
        .collect();
    all.sort_by_key(|s| s.time);
    all.iter_mut().enumerate().for_each(|(i, s)| s.number = i);
    all
}

/// The sum of minutes over the hour before each signal, or their number: by the definition alone.
pub fn plainly(signals: &[Signal], of: fn(&Signal) -> i64) -> BTreeMap<(String, Millis), i64> {
    let value = |at: &Signal| {
        let inside = |s: &&Signal| s.who == at.who && at.time - HOUR < s.time && s.time <= at.time;
        signals.iter().filter(inside).map(of).sum()
    };
    signals.iter().map(|s| ((s.who.clone(), s.time), value(s))).collect()
}

pub struct World {
    pub dir: PathBuf,
    pub catalogue: Arc<Catalogue>,
    pub now: Arc<AtomicI64>,
    pub runtime: tokio::runtime::Runtime,
}

pub struct Engine {
    pub registry: Arc<Registry>,
    pub log: Arc<EmbeddedLog>,
    pub features: FeatureStore,
    pub job: Job,
}

impl World {
    pub fn new(dir: &Path) -> World {
        World {
            dir: dir.to_owned(),
            catalogue: Arc::new(Catalogue::load(&[]).unwrap()),
            now: Arc::new(AtomicI64::new(NOON + 100 * HOUR)),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    pub fn registry(&self, views: &str) -> Arc<Registry> {
        let kept = Versions::of(&self.dir).read().unwrap();
        let beside = Beside { kept: &kept, ..Beside::default() };
        Arc::new(Registry::from_texts_with(&self.catalogue, &[("views.sql", views)], &beside).unwrap())
    }

    /// As a process does that finds these views in its directories. Time goes on by a second.
    pub fn open(&self, views: &str) -> Engine {
        let registry = self.registry(views);
        let now = self.now.clone();
        now.fetch_add(1_000, Ordering::SeqCst);
        let clock: ingest::Clock = Arc::new(move || now.fetch_add(1, Ordering::SeqCst));
        let options = LogOptions { partitions: 2, ..LogOptions::default() };
        let log = Arc::new(EmbeddedLog::open(&self.dir.join("log"), options).unwrap());
        let online = online::open("embedded:", &online::OnlineOptions::new(registry.views().len())).unwrap();
        let history =
            offline::open(&features::offline::HistoryOptions::new("embedded:", &self.dir, clock.clone()))
                .unwrap();
        Versions::of(&self.dir).settle(&registry, &*history).unwrap();
        let features = FeatureStore::new(registry.clone(), online.clone(), history, Applied::default());
        let options = JobOptions::new(self.dir.join("state.redb"));
        let job = Job::open(log.clone(), self.catalogue.clone(), &features, online, clock, options).unwrap();
        Engine { registry, log, features, job }
    }

    pub fn append(&self, engine: &Engine, signals: &[Signal]) {
        let kind = self.catalogue.get("task.completed").unwrap();
        let entry = |s: &Signal| {
            let data = serde_json::json!({"minutes": s.minutes});
            let record = Record {
                kind: kind.name.clone(),
                id: format!("s{}", s.number),
                source: "test".into(),
                subject: s.who.clone(),
                time: s.time,
                received_at: s.time,
                data: kind.encode_value(&data, UnknownFields::Reject).unwrap().into(),
                extensions: vec![],
            };
            Append { subject: s.who.clone(), key: 0, payload: record.encode() }
        };
        let records = signals.iter().map(entry).collect();
        self.runtime.block_on(engine.log.append(Topic::Signals, records)).unwrap();
    }

    pub fn save(&self, engine: &mut Engine) {
        self.runtime.block_on(engine.job.save()).unwrap();
    }

    /// A directory like this one, in another place.
    pub fn copy(&self, to: &Path) -> World {
        copy_dir(&self.dir, to);
        let world = World::new(to);
        world.now.store(self.now.load(Ordering::SeqCst), Ordering::SeqCst);
        world
    }
}

impl Engine {
    /// Applies at most `limit` records, one at a time, so that each leaves a row in history.
    pub fn drain(&mut self, limit: usize) -> bool {
        let partitions: Vec<u32> = (0..self.log.partitions(Topic::Signals)).collect();
        let mut reader = self.log.reader(Topic::Signals, &partitions, self.job.position()).unwrap();
        for _ in 0..limit {
            let records = reader.poll(1).unwrap();
            if records.is_empty() {
                return false;
            }
            self.job.apply(&records).unwrap();
        }
        true
    }

    /// The rows of a table of values, with a check that no person and instant comes twice.
    pub fn rows(&self, table: &str) -> BTreeMap<(String, Millis), i64> {
        let mut rows = BTreeMap::new();
        for batch in self.features.history().stream(table, &ScanFilter::default()).unwrap() {
            let batch = batch.unwrap();
            let times = batch.column(1).as_primitive::<TimestampMillisecondType>();
            let values = batch.column_by_name("n_1h").unwrap().as_primitive::<Int64Type>();
            for i in 0..batch.num_rows() {
                let key = (batch.column(0).as_string::<i32>().value(i).to_owned(), times.value(i));
                assert!(rows.insert(key.clone(), values.value(i)).is_none(), "{key:?} stands there twice");
            }
        }
        rows
    }

    pub fn now(&self, name: &str, who: &str, at: Millis) -> Value {
        let prepared = self.registry.prepare(&[name]).unwrap();
        self.features.read_here(&prepared, who, at).unwrap().values.remove(0)
    }

    pub fn as_of(&self, name: &str, who: &str, at: Millis) -> Value {
        let prepared = self.registry.prepare(&[name]).unwrap();
        self.features.read_as_of(&prepared, &[who], at).unwrap().remove(0).values.remove(0)
    }

    pub fn version(&self, current: bool) -> String {
        self.registry.versions("tasks").find(|v| v.current == current).unwrap().version_text.to_string()
    }
}

pub fn one(_: &Signal) -> i64 {
    1
}

pub fn minutes(s: &Signal) -> i64 {
    s.minutes
}
