//! The engine of golden cases, for tests that are not cases.
#![allow(dead_code, clippy::unwrap_used)]

pub mod functions;

use std::{
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    sync::Arc,
};

use features::{Registry, Value};
use ingest::{
    Millis,
    catalogue::{Catalogue, UnknownFields},
    log::{Log, Position, Topic},
    record::Record,
};
use stream_jobs::golden;

/// A signal to be.
#[derive(Debug, Clone)]
pub struct Signal {
    pub id: String,
    pub source: String,
    pub kind: String,
    pub subject: String,
    pub time: jiff::Timestamp,
    pub data: serde_json::Value,
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

/// The engine of golden cases, with a runtime of its own.
pub struct Engine {
    engine: golden::Engine,
    pub runtime: Arc<tokio::runtime::Runtime>,
}

impl Deref for Engine {
    type Target = golden::Engine;

    fn deref(&self) -> &golden::Engine {
        &self.engine
    }
}

impl DerefMut for Engine {
    fn deref_mut(&mut self) -> &mut golden::Engine {
        &mut self.engine
    }
}

impl Engine {
    pub fn new(dir: PathBuf, catalogue: Arc<Catalogue>, registry: Arc<Registry>, partitions: u32) -> Engine {
        let runtime = Arc::new(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
        let engine = golden::Engine::open(dir, catalogue, registry, partitions).unwrap();
        Engine { engine, runtime }
    }

    pub fn within(
        dir: PathBuf,
        catalogue: Arc<Catalogue>,
        registry: Arc<Registry>,
        partitions: u32,
        budget: usize,
    ) -> Engine {
        let runtime = Arc::new(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
        let engine = golden::Engine::open_within(dir, catalogue, registry, partitions, budget).unwrap();
        Engine { engine, runtime }
    }

    pub fn append(&self, signals: &[Signal]) {
        let records: Vec<_> = signals.iter().map(|s| s.record(&self.catalogue)).collect();
        self.runtime.block_on(self.engine.append(&records)).unwrap();
    }

    /// Applies what the log holds, `batch` records at a time, at most `limit` of them; false at the tail.
    pub fn drain(&mut self, batch: usize, limit: usize) -> bool {
        self.engine.drain(batch, limit).unwrap()
    }

    pub fn save(&mut self) {
        let runtime = self.runtime.clone();
        runtime.block_on(self.engine.save()).unwrap();
    }

    /// Ends without a checkpoint, as a crash does, and starts again from disk.
    pub fn crash(self) -> Engine {
        self.crash_and(|_| ())
    }

    /// As [`crash`](Self::crash), with something done to the directory in between.
    pub fn crash_and(self, meanwhile: impl FnOnce(&std::path::Path)) -> Engine {
        Engine { engine: self.engine.crash_and(meanwhile).unwrap(), runtime: self.runtime }
    }

    /// Its parts.
    pub fn into_parts(self) -> (golden::Engine, Arc<tokio::runtime::Runtime>) {
        (self.engine, self.runtime)
    }

    pub fn values(&self, entity: &str, now: Millis) -> Vec<(String, Value)> {
        let names: Vec<String> = self.registry.feature_names().collect();
        let prepared = self.registry.prepare(&names).unwrap();
        let row = self.features.read_here(&prepared, entity, now).unwrap();
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

/// A directory and all in it, in another place; one that is not there is empty.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let Ok(entries) = std::fs::read_dir(from) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &place);
        } else {
            std::fs::copy(entry.path(), place).unwrap();
        }
    }
}
