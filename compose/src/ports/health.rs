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

/// Name of the part that is the log.
pub const LOG: &str = "log";
/// Name of the part that is the online store.
pub const ONLINE: &str = "online";
/// Name of the part that is history.
pub const HISTORY: &str = "history";

/// The state of the parts of this process.
pub struct Parts {
    log: Arc<dyn Log>,
    applied: Applied,
    /// Tasks that run for the life of the process, and why those that ended did.
    ended: Mutex<BTreeMap<&'static str, String>>,
    tasks: Vec<&'static str>,
    /// What answers, and why what does not is away.
    answers: Mutex<BTreeMap<&'static str, Option<String>>>,
}

impl Parts {
    /// Watches the log and how far it is applied, and these tasks.
    pub fn new(log: Arc<dyn Log>, applied: Applied, tasks: Vec<&'static str>) -> Parts {
        Parts { log, applied, ended: Mutex::default(), tasks, answers: Mutex::default() }
    }

    /// Says that a task is over.
    pub fn task_ended(&self, task: &'static str, why: String) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).insert(task, why);
    }

    /// Says whether a part answers; `trouble` is why it does not.
    pub fn found(&self, part: &'static str, trouble: Option<String>) {
        let before =
            self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(part, trouble.clone());
        match (before.flatten(), trouble) {
            (None, Some(why)) => tracing::warn!(part, why, "a part does not answer"),
            (Some(_), None) => tracing::info!(part, "it answers again"),
            _ => {}
        }
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
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let records: u64 = self.log.end(Topic::Signals).0.values().sum();
        let part = |name: &'static str, well: String| {
            let trouble = answers.get(name).cloned().flatten();
            PartHealth { part: name.into(), ready: trouble.is_none(), detail: trouble.unwrap_or(well) }
        };
        let log = part(LOG, format!("{records} records"));
        let stores: Vec<_> = [ONLINE, HISTORY]
            .into_iter()
            .filter(|name| answers.contains_key(name))
            .map(|name| part(name, "answers".to_owned()))
            .collect();
        let tasks = self.tasks.iter().map(|task| {
            let over = ended.get(task);
            let detail = over.map_or_else(|| "runs".to_owned(), |why| format!("stopped: {why}"));
            PartHealth { part: (*task).to_owned(), ready: over.is_none(), detail }
        });
        [log, self.features()].into_iter().chain(stores).chain(tasks).collect()
    }
}
