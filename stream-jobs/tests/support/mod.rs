//! A whole engine on a temporary directory, driven by hand: log, job, online store, history.
#![allow(dead_code, clippy::unwrap_used)]

use std::{path::PathBuf, sync::Arc};

use features::{FeatureStore, Registry, Value, offline, online, store::Applied};
use ingest::{
    Millis,
    catalogue::{Catalogue, UnknownFields},
    log::{Append, Log, Position, Topic, embedded::EmbeddedLog},
    record::Record,
};
use serde::Deserialize;
use stream_jobs::{Job, JobOptions};

/// A signal as the golden files write it.
#[derive(Debug, Clone, Deserialize)]
pub struct Signal {
    pub id: String,
    #[serde(default = "test_source")]
    pub source: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub subject: String,
    #[serde(deserialize_with = "instant")]
    pub time: jiff::Timestamp,
    #[serde(default)]
    pub data: serde_json::Value,
}

/// RFC 3339.
pub fn instant<'de, D: serde::Deserializer<'de>>(d: D) -> Result<jiff::Timestamp, D::Error> {
    String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
}

fn test_source() -> String {
    "test".to_owned()
}

impl Signal {
    pub fn record(&self, catalogue: &Catalogue) -> Record {
        let kind = catalogue.get(&self.kind).unwrap_or_else(|| panic!("{} is not declared", self.kind));
        let data = if self.data.is_null() { serde_json::json!({}) } else { self.data.clone() };
        let data = kind.encode_value(&data, UnknownFields::Reject).unwrap();
        let time = self.time.as_millisecond();
        Record {
            kind: kind.name.clone(),
            id: self.id.clone(),
            source: self.source.clone(),
            subject: self.subject.clone(),
            time,
            received_at: time,
            data: data.into(),
            extensions: vec![],
        }
    }
}

pub struct Engine {
    dir: PathBuf,
    pub catalogue: Arc<Catalogue>,
    pub registry: Arc<Registry>,
    pub log: Arc<EmbeddedLog>,
    pub features: FeatureStore,
    pub job: Job,
    pub runtime: Arc<tokio::runtime::Runtime>,
}

impl Engine {
    pub fn new(dir: PathBuf, catalogue: Arc<Catalogue>, registry: Arc<Registry>, partitions: u32) -> Engine {
        let runtime = Arc::new(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
        let options = ingest::log::LogOptions { partitions, ..Default::default() };
        let log = Arc::new(EmbeddedLog::open(&dir.join("log"), options).unwrap());
        Self::over(dir, catalogue, registry, log, runtime)
    }

    fn over(
        dir: PathBuf,
        catalogue: Arc<Catalogue>,
        registry: Arc<Registry>,
        log: Arc<EmbeddedLog>,
        runtime: Arc<tokio::runtime::Runtime>,
    ) -> Engine {
        let clock: ingest::Clock = Arc::new(|| 0);
        let online = online::open("embedded:", registry.views().len()).unwrap();
        let history = offline::open("embedded:", &dir, clock.clone()).unwrap();
        let features = FeatureStore::new(registry.clone(), online.clone(), history, Applied::default());
        let options = JobOptions::new(dir.join("state.redb"));
        let job = Job::open(log.clone(), catalogue.clone(), &features, online, clock, options).unwrap();
        Engine { dir, catalogue, registry, log, features, job, runtime }
    }

    pub fn append(&self, signals: &[Signal]) {
        let entry = |s: &Signal| {
            let record = s.record(&self.catalogue);
            // Without a key the log takes repeats, so that it is the job that must find them.
            Append { subject: s.subject.clone(), key: 0, payload: record.encode() }
        };
        let records = signals.iter().map(entry).collect();
        self.runtime.block_on(self.log.append(Topic::Signals, records)).unwrap();
    }

    /// Applies what the log holds, `batch` records at a time, at most `limit` of them; false at the tail.
    pub fn drain(&mut self, batch: usize, limit: usize) -> bool {
        let partitions: Vec<u32> = (0..self.log.partitions(Topic::Signals)).collect();
        let mut reader = self.log.reader(Topic::Signals, &partitions, self.job.position()).unwrap();
        let mut done = 0;
        while done < limit {
            let records = reader.poll(batch).unwrap();
            if records.is_empty() {
                return false;
            }
            self.job.apply(&records).unwrap();
            done += records.len();
        }
        true
    }

    pub fn save(&mut self) {
        let runtime = self.runtime.clone();
        runtime.block_on(self.job.save()).unwrap();
    }

    /// Ends without a checkpoint, as a crash does, and starts again from disk.
    pub fn crash(self) -> Engine {
        self.crash_and(|_| ())
    }

    /// As [`crash`](Self::crash), with something done to the directory in between.
    pub fn crash_and(self, meanwhile: impl FnOnce(&std::path::Path)) -> Engine {
        let Engine { dir, catalogue, registry, log, features, job, runtime } = self;
        drop((job, features));
        meanwhile(&dir);
        Engine::over(dir, catalogue, registry, log, runtime)
    }

    pub fn values(&self, entity: &str, now: Millis) -> Vec<(String, Value)> {
        let names: Vec<String> = self.registry.feature_names().collect();
        let prepared = self.registry.prepare(&names).unwrap();
        let row = self.features.read_one(&prepared, entity, now).unwrap();
        names.into_iter().zip(row.values).collect()
    }

    pub fn values_as_of(&self, entity: &str, at: Millis) -> Vec<(String, Value)> {
        let names: Vec<String> = self.registry.feature_names().collect();
        let prepared = self.registry.prepare(&names).unwrap();
        let row = self.features.read_as_of(&prepared, &[entity], at).unwrap().remove(0);
        names.into_iter().zip(row.values).collect()
    }

    pub fn end(&self) -> Position {
        self.log.end(Topic::Signals)
    }
}

/// Equal as the meaning of a feature demands: floats to 1e-9 relative, everything else exactly.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(x), Value::Float(y)) => {
            x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-9 * x.abs().max(y.abs())
        }
        _ => a == b,
    }
}
