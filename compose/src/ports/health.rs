//! Readiness, told from what the parts have achieved.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use api::ports::{Health, PartHealth};
use features::Applied;
use ingest::log::{Log, Topic};

/// Behind the log by more records than this, features are too old to be called ready.
const FAR_BEHIND: u64 = 100_000;

/// The state of the parts of this process.
pub struct Parts {
    log: Arc<dyn Log>,
    applied: Applied,
    /// Tasks that run for the life of the process, and why those that ended did.
    ended: Mutex<BTreeMap<&'static str, String>>,
    tasks: Vec<&'static str>,
}

impl Parts {
    /// Watches the log and how far it is applied, and these tasks.
    pub fn new(log: Arc<dyn Log>, applied: Applied, tasks: Vec<&'static str>) -> Parts {
        Parts { log, applied, ended: Mutex::default(), tasks }
    }

    /// Says that a task is over.
    pub fn task_ended(&self, task: &'static str, why: String) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).insert(task, why);
    }

    fn features(&self) -> PartHealth {
        let (end, at) = (self.log.end(Topic::Signals), self.applied.position());
        let behind: u64 = end.0.iter().map(|(p, o)| o.saturating_sub(at.get(*p))).sum();
        let ready = behind <= FAR_BEHIND;
        PartHealth { part: "features".into(), ready, detail: format!("{behind} records behind the log") }
    }
}

impl Health for Parts {
    fn parts(&self) -> Vec<PartHealth> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let records: u64 = self.log.end(Topic::Signals).0.values().sum();
        let log = PartHealth { part: "log".into(), ready: true, detail: format!("{records} records") };
        let tasks = self.tasks.iter().map(|task| {
            let over = ended.get(task);
            let detail = over.map_or_else(|| "runs".to_owned(), |why| format!("stopped: {why}"));
            PartHealth { part: (*task).to_owned(), ready: over.is_none(), detail }
        });
        [log, self.features()].into_iter().chain(tasks).collect()
    }
}
