//! A whole engine in one directory, driven by hand: log, job, online store, history.

use std::{path::PathBuf, sync::Arc};

use features::{
    FeatureStore, Registry, offline,
    online::{self, OnlineOptions},
    store::Applied,
};
use ingest::{
    catalogue::Catalogue,
    log::{Append, Log, LogOptions, Topic, embedded::EmbeddedLog},
    record::Record,
};

use crate::{Job, JobOptions, error::JobError};

/// See the module. Time stands still in it: reads name their instant.
pub struct Engine {
    dir: PathBuf,
    memory_budget: usize,
    /// The types of its signals.
    pub catalogue: Arc<Catalogue>,
    /// The views it keeps.
    pub registry: Arc<Registry>,
    /// Its log.
    pub log: Arc<EmbeddedLog>,
    /// To read values.
    pub features: FeatureStore,
    /// The job, which moves only when told.
    pub job: Job,
}

impl Engine {
    /// An engine on this directory, new or as a run before left it.
    pub fn open(
        dir: PathBuf,
        catalogue: Arc<Catalogue>,
        registry: Arc<Registry>,
        partitions: u32,
    ) -> Result<Engine, JobError> {
        let budget = JobOptions::new(dir.clone()).memory_budget;
        Self::open_within(dir, catalogue, registry, partitions, budget)
    }

    /// The same, with at most so many bytes of events in memory once they are in a checkpoint.
    pub fn open_within(
        dir: PathBuf,
        catalogue: Arc<Catalogue>,
        registry: Arc<Registry>,
        partitions: u32,
        memory_budget: usize,
    ) -> Result<Engine, JobError> {
        let options = LogOptions { partitions, ..LogOptions::default() };
        let log = Arc::new(EmbeddedLog::open(&dir.join("log"), options)?);
        Self::over(dir, catalogue, registry, log, memory_budget)
    }

    fn over(
        dir: PathBuf,
        catalogue: Arc<Catalogue>,
        registry: Arc<Registry>,
        log: Arc<EmbeddedLog>,
        memory_budget: usize,
    ) -> Result<Engine, JobError> {
        let clock: ingest::Clock = Arc::new(|| 0);
        let online = online::open("embedded:", &OnlineOptions::new(registry.views().len()))?;
        let history =
            offline::open(&features::offline::HistoryOptions::new("embedded:", &dir, clock.clone()))?;
        let features = FeatureStore::new(registry.clone(), online.clone(), history, Applied::default());
        let options = JobOptions { memory_budget, ..JobOptions::new(dir.join("state.redb")) };
        let job = Job::open(log.clone(), catalogue.clone(), &features, online, clock, options)?;
        Ok(Engine { dir, memory_budget, catalogue, registry, log, features, job })
    }

    /// Appends records without keys: the log takes repeats, so that it is the job that must find them.
    pub async fn append(&self, records: &[Record]) -> Result<(), JobError> {
        if records.is_empty() {
            return Ok(());
        }
        let entry = |r: &Record| Append { subject: r.subject.clone(), key: 0, payload: r.encode() };
        self.log.append(Topic::Signals, records.iter().map(entry).collect()).await?;
        Ok(())
    }

    /// Applies what the log holds, `batch` records at a time, until `limit` of them are done; false at the
    /// tail.
    pub fn drain(&mut self, batch: usize, limit: usize) -> Result<bool, JobError> {
        let partitions: Vec<u32> = (0..self.log.partitions(Topic::Signals)).collect();
        let mut reader = self.log.reader(Topic::Signals, &partitions, self.job.position())?;
        let mut done = 0;
        while done < limit {
            let records = reader.poll(batch)?;
            if records.is_empty() {
                return Ok(false);
            }
            self.job.apply(&records)?;
            done += records.len();
        }
        Ok(true)
    }

    /// A checkpoint.
    pub async fn save(&mut self) -> Result<(), JobError> {
        self.job.save().await
    }

    /// Ends without a checkpoint, as a crash does, and starts again from disk.
    pub fn crash(self) -> Result<Engine, JobError> {
        self.crash_and(|_| ())
    }

    /// As [`crash`](Self::crash), with something done to the directory in between.
    pub fn crash_and(self, meanwhile: impl FnOnce(&std::path::Path)) -> Result<Engine, JobError> {
        let Engine { dir, memory_budget, catalogue, registry, log, features, job } = self;
        drop((job, features));
        meanwhile(&dir);
        Engine::over(dir, catalogue, registry, log, memory_budget)
    }
}
