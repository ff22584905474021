//! Views kept running in Arroyo. The id of a pipeline ends in a hash of its text, so that the same text is the same
//! pipeline: deploying it again changes nothing, and another text stops the pipeline before it with a checkpoint.
//!
//! A new pipeline reads the topic from its begin and writes each tile whole, so that the tiles of the one before are
//! replaced by equal ones, or by those of the new definition.

use std::time::Duration;

use serde_json::json;
use xxhash_rust::xxh3::Xxh3;

use super::{
    Pipeline,
    client::{Client, Deployed, How, Job},
};
use crate::error::JobError;

/// What deploying did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The same text runs already.
    Unchanged,
    /// The same text was stopped or had failed; it goes on from its last checkpoint.
    Resumed,
    /// It runs anew; the ids of those it took the place of.
    Created(Vec<String>),
}

/// How a view fares in Arroyo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Name of the pipeline.
    pub name: String,
    /// Its id.
    pub id: String,
    /// State of its job, such as `Running`; empty when it has none.
    pub state: String,
    /// Why it failed, or its latest error.
    pub error: Option<String>,
    /// Its last finished checkpoint: epoch, and when in microseconds since the epoch.
    pub checkpoint: Option<(u64, u64)>,
}

/// Waiting for a pipeline to stop.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Pause between two looks.
    pub pause: Duration,
    /// Looks before giving up.
    pub looks: u32,
}

impl Default for Patience {
    /// Five minutes: a checkpoint of all open tiles is written meanwhile.
    fn default() -> Self {
        Patience { pause: Duration::from_secs(1), looks: 300 }
    }
}

/// Name of a view's pipeline.
pub fn name(topic_prefix: &str, view: &str) -> String {
    super::sql::tiles_topic(topic_prefix, view)
}

fn id(name: &str, pipeline: &Pipeline) -> String {
    let mut hash = Xxh3::new();
    hash.update(pipeline.sql.as_bytes());
    for (function, text) in &pipeline.functions {
        hash.update(function.as_bytes());
        hash.update(text.as_bytes());
    }
    format!("{name}-{:016x}", hash.digest())
}

/// Brings a view to run in Arroyo with this text.
///
/// # Errors
/// Arroyo does not answer or refuses; what ran before goes on.
pub fn deploy(
    client: &Client,
    topic_prefix: &str,
    pipeline: &Pipeline,
    how: &How,
    patience: Patience,
) -> Result<Outcome, JobError> {
    let name = name(topic_prefix, &pipeline.view);
    let id = id(&name, pipeline);
    let all: Vec<Deployed> = client.pipelines()?.into_iter().filter(|p| p.name == name).collect();
    let same = all.iter().find(|p| p.id == id);
    if same.is_none() {
        client.validate(pipeline)?;
    }
    let mut replaced = Vec::new();
    for other in all.iter().filter(|p| p.id != id) {
        if halt(client, other, patience)? {
            replaced.push(other.id.clone());
        }
    }
    let Some(same) = same else {
        if let Err(e) = client.create(&id, &name, pipeline, how) {
            for before in &replaced {
                // The first error says more than one of bringing back what was before.
                let _ = client.change(before, json!({"stop": "none"}));
            }
            return Err(e);
        }
        return Ok(Outcome::Created(replaced));
    };
    if same.parallelism().is_some_and(|p| p != how.parallelism) {
        client.change(&id, json!({"parallelism": how.parallelism}))?;
    }
    if same.stop != "none" {
        client.change(&id, json!({"stop": "none"}))?;
        return Ok(Outcome::Resumed);
    }
    if client.jobs(&id)?.iter().any(|j| j.state == "Failed") {
        client.restart(&id)?;
        return Ok(Outcome::Resumed);
    }
    Ok(Outcome::Unchanged)
}

/// Stops the pipelines of these views, or of all when none is named, with a checkpoint; the ids of those that ran.
///
/// # Errors
/// Arroyo does not answer, or one does not stop in time.
pub fn stop(
    client: &Client,
    topic_prefix: &str,
    views: &[String],
    patience: Patience,
) -> Result<Vec<String>, JobError> {
    let (ours, named) =
        (name(topic_prefix, ""), views.iter().map(|v| name(topic_prefix, v)).collect::<Vec<_>>());
    let mut stopped = Vec::new();
    for pipeline in client.pipelines()? {
        let meant =
            if named.is_empty() { pipeline.name.starts_with(&ours) } else { named.contains(&pipeline.name) };
        if meant && halt(client, &pipeline, patience)? {
            stopped.push(pipeline.id);
        }
    }
    Ok(stopped)
}

/// Stops a pipeline and waits for it; whether it ran.
fn halt(client: &Client, pipeline: &Deployed, patience: Patience) -> Result<bool, JobError> {
    let ended = |jobs: &[Job]| jobs.iter().all(Job::ended);
    if ended(&client.jobs(&pipeline.id)?) {
        if pipeline.stop == "none" {
            // A job that failed would be started again by Arroyo's own recovery.
            client.change(&pipeline.id, json!({"stop": "checkpoint"}))?;
        }
        return Ok(false);
    }
    if pipeline.stop == "none" {
        client.change(&pipeline.id, json!({"stop": "checkpoint"}))?;
    }
    for _ in 0..patience.looks {
        std::thread::sleep(patience.pause);
        if ended(&client.jobs(&pipeline.id)?) {
            return Ok(true);
        }
    }
    Err(JobError::ArroyoAway(format!(
        "the pipeline {} did not stop in time; nothing took its place. Look at it with `kairos arroyo status`, and try \
         again",
        pipeline.id
    )))
}

/// How every pipeline of ours fares: those whose names begin as ours do, by name, the newest first.
///
/// # Errors
/// Arroyo does not answer.
pub fn status(client: &Client, topic_prefix: &str) -> Result<Vec<Status>, JobError> {
    let ours = name(topic_prefix, "");
    let mut all: Vec<Deployed> =
        client.pipelines()?.into_iter().filter(|p| p.name.starts_with(&ours)).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name).then(b.created_at.cmp(&a.created_at)));
    let mut found = Vec::with_capacity(all.len());
    for pipeline in all {
        let job = client.jobs(&pipeline.id)?.into_iter().next();
        let (mut error, mut checkpoint) = (None, None);
        if let Some(job) = &job {
            let latest = client.errors(&pipeline.id, &job.id)?.into_iter().max_by_key(|m| m.created_at);
            error = job.failure_reason.clone().map(|f| f.error).or(latest.map(|m| m.message));
            let done = client.checkpoints(&pipeline.id, &job.id)?;
            checkpoint = done.iter().filter_map(|c| Some((c.epoch, c.finish_time?))).max();
        }
        let state = job.map(|j| j.state).unwrap_or_default();
        found.push(Status { name: pipeline.name, id: pipeline.id, state, error, checkpoint });
    }
    Ok(found)
}
