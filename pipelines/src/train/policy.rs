//! Teaches a policy from the rewards in the log.

use std::{
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use indicatif::ProgressBar;
use ingest::{
    Millis,
    log::{Log, Position, Topic},
};
use prost::Message;
use scorer::{
    learn::{Brief, Learner, StateId, config_id, registry},
    policy::PolicyConfig,
    record::{Reward, SavedPolicy},
};

use super::Window;
use crate::PipelineError;

/// Rewards read at once.
const BATCH: usize = 1_024;

/// What to teach.
#[derive(Debug, Clone)]
pub struct TeachJob {
    /// The policy, as in the section `scorer.policy` of the configuration.
    pub policy: PolicyConfig,
    /// From which decisions.
    pub window: Window,
    /// Where it is kept how far it has come; another policy or window starts anew.
    pub progress_file: PathBuf,
    /// Rewards between two writings of it.
    pub keep_every: u64,
}

/// Teaches the policy all rewards of the window that the log has. `go_on` is asked now and then; when it says no,
/// what was learned is kept and the answer is `None`: the same job then goes on from there.
///
/// # Errors
/// A log or file that cannot be read or written.
pub fn teach(
    log: Arc<dyn Log>,
    brief: Arc<Brief>,
    job: &TeachJob,
    now: Millis,
    progress: &ProgressBar,
    go_on: impl Fn() -> bool,
) -> Result<Option<SavedPolicy>, PipelineError> {
    let mut learner = Learner::untaught(log.clone(), brief, job.policy.clone(), now)?;
    if !job.window.is_open() {
        learner.branch(job.window.lineage(), Position::default(), true);
    }
    if let Some(parent) = newest(&*log, learner.id())? {
        learner.follow(parent);
    }
    // The parent says which snapshots there were when it began.
    if let Some(kept) = kept(&job.progress_file)?.filter(|kept| kept.id == learner.id().to_string()) {
        learner.take_up(&kept)?;
        learner.follow(kept.parent);
    }
    progress.set_length(log.end(Topic::Rewards).get(0));
    let mut reader = log.reader(Topic::Rewards, &[0], learner.position())?;
    let mut since = 0;
    loop {
        let records = reader.poll(BATCH)?;
        if records.is_empty() {
            progress.finish();
            return Ok(Some(learner.snapshot(now)));
        }
        for record in &records {
            let reward = Reward::decode(&record.payload[..]).ok();
            let reward = reward.filter(|r| job.window.holds(r.shown_at));
            since += u64::from(reward.is_some());
            learner.take(record.offset, reward.as_ref());
        }
        progress.set_position(learner.position().get(0));
        let stopped = !go_on();
        if stopped || since >= job.keep_every {
            keep(&job.progress_file, &learner.snapshot(now))?;
            since = 0;
        }
        if stopped {
            return Ok(None);
        }
    }
}

/// Forgets what was kept of a job that is done.
///
/// # Errors
/// A file that cannot be removed.
pub fn forget(progress_file: &Path) -> Result<(), PipelineError> {
    match std::fs::remove_file(progress_file) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(PipelineError::file(progress_file)(e)),
        _ => Ok(()),
    }
}

/// The newest snapshot of this policy, whatever it learned from.
fn newest(log: &dyn Log, id: StateId) -> Result<Option<String>, PipelineError> {
    let mut last = None;
    registry::entries(log, 0, |_, entry| {
        if let registry::Entry::Snapshot(saved) = entry
            && saved.id.parse::<StateId>().is_ok_and(|other| other.policy == id.policy)
        {
            last = Some(saved.reference());
        }
    })?;
    Ok(last)
}

fn kept(file: &Path) -> Result<Option<SavedPolicy>, PipelineError> {
    match std::fs::read(file) {
        // What cannot be read was cut while it was written, and is made again.
        Ok(bytes) => Ok(SavedPolicy::decode(&bytes[..]).ok()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(PipelineError::file(file)(e)),
    }
}

/// Writes a snapshot to a file that appears under its name when it is whole.
///
/// # Errors
/// A file that cannot be written.
pub fn keep(file: &Path, saved: &SavedPolicy) -> Result<(), PipelineError> {
    let unfinished = file.with_extension("tmp");
    let written = || {
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let mut to = std::fs::File::create(&unfinished)?;
        to.write_all(&saved.encode_to_vec())?;
        to.sync_all()?;
        std::fs::rename(&unfinished, file)
    };
    written().map_err(PipelineError::file(file))
}

/// Reads a snapshot that [`keep`] wrote.
///
/// # Errors
/// A file that is not there or not whole.
pub fn read(file: &Path) -> Result<SavedPolicy, PipelineError> {
    kept(file)?.ok_or_else(|| PipelineError::input(file, "there is no snapshot of a policy in it"))
}

/// Name of the file in which the progress of a policy's training is kept.
pub fn progress_name(policy: &PolicyConfig, window: &Window) -> String {
    format!("{:016x}.progress", config_id(policy) ^ window.lineage())
}
