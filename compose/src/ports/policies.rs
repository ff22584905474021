//! The registry of policies for the routes and for `kairos policy`: listed, promoted, rolled back.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use api::{ApiError, ports::Policies};
use async_trait::async_trait;
use ingest::log::{Log, LogError};
use pipelines::promote::{Gate, Report};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use scorer::{
    ScorerConfig, ScorerError,
    context::Layout,
    learn::{
        Steering,
        registry::{self, Entry, instant},
    },
    record::{SavedPolicy, ServedPolicy, Serving},
};
use serde_json::{Value, json};

use crate::parts::Scoring;

/// Samples of the bootstrap behind a promotion.
const RESAMPLES: u32 = 1_000;
/// Longest name of a file that is registered, in bytes.
const MOST_NAME: usize = 128;

/// The policies of this process.
pub struct Registry {
    log: Arc<dyn Log>,
    config: ScorerConfig,
    layout: Arc<Layout>,
    steering: Steering,
    training: PathBuf,
    rng: Mutex<StdRng>,
}

impl Registry {
    /// What `seed` begins draws the records that a promotion computes again; `training` is where trained
    /// snapshots are left.
    pub fn new(log: Arc<dyn Log>, scoring: &Scoring, training: PathBuf, seed: u64) -> Registry {
        let layout = scoring.scorer.parts().layout.clone();
        let (config, steering) = (scoring.scorer.config().clone(), scoring.learning.steering());
        Registry {
            log,
            config,
            layout,
            steering,
            training,
            rng: Mutex::new(StdRng::seed_from_u64(seed ^ 0x9a7e)),
        }
    }

    async fn judge(&self) -> Result<Report, ApiError> {
        let (log, config, layout) = (self.log.clone(), self.config.clone(), self.layout.clone());
        let mut rng = StdRng::from_rng(&mut *self.rng.lock().unwrap_or_else(PoisonError::into_inner));
        aside(move || judge(&*log, &config, &layout, &mut rng)).await
    }
}

#[async_trait]
impl Policies for Registry {
    async fn list(&self) -> Result<Value, ApiError> {
        let log = self.log.clone();
        aside(move || list(&*log)).await
    }

    async fn promote(&self, by: &str, dry_run: bool) -> Result<Value, ApiError> {
        let report = self.judge().await?;
        if dry_run || !report.promotable {
            return Ok(answer(&report, None));
        }
        let change = self.steering.promote(report.shadow_id, by.to_owned(), text(&report)).await;
        Ok(answer(&report, Some(&change.map_err(told)?)))
    }

    async fn rollback(&self, by: &str, version: Option<u64>) -> Result<Value, ApiError> {
        let change = self.steering.roll_back(version, by.to_owned()).await;
        Ok(told_change(&change.map_err(told)?))
    }

    async fn register(&self, file: &str) -> Result<(), ApiError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
        if file.starts_with('.') || !file.chars().all(plain) || file.len() > MOST_NAME {
            return Err(ApiError::Invalid(
                "`file` is no name of a snapshot; `kairos train` prints it".into(),
            ));
        }
        let path = self.training.join(file);
        let read = tokio::task::spawn_blocking(move || pipelines::train::policy::read(&path)).await;
        let saved = read
            .map_err(|e| ApiError::Internal(format!("reading a snapshot stopped: {e}")))?
            .map_err(|e| ApiError::Invalid(e.to_string()))?;
        self.steering.take_up(saved).await.map_err(told)
    }
}

/// Reads the log on a thread of its own.
async fn aside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|e| ApiError::Internal(format!("reading the policies stopped: {e}")))?
        .map_err(|e| ApiError::Unavailable(e.to_string()))
}

fn told(e: ScorerError) -> ApiError {
    match e {
        ScorerError::Invalid(_) | ScorerError::Config(_) | ScorerError::UnknownImpression(_) => {
            ApiError::Invalid(e.to_string())
        }
        ScorerError::Unavailable(_) | ScorerError::Log(_) => ApiError::Unavailable(e.to_string()),
        ScorerError::Snapshot(_) => ApiError::Internal(e.to_string()),
    }
}

/// Judges the shadow by a log.
pub fn judge(
    log: &dyn Log,
    config: &ScorerConfig,
    layout: &Layout,
    rng: &mut dyn RngCore,
) -> Result<Report, LogError> {
    Gate { config, layout, resamples: RESAMPLES }.judge(log, rng)
}

/// Every snapshot and every change of what serves.
pub fn list(log: &dyn Log) -> Result<Value, LogError> {
    let mut snapshots = Vec::new();
    registry::entries(log, 0, |_, entry| {
        if let Entry::Snapshot(saved) = entry {
            snapshots.push(told_snapshot(&saved));
        }
    })?;
    let changes: Vec<Value> = registry::changes(log)?.iter().map(told_change).collect();
    Ok(json!({ "snapshots": snapshots, "changes": changes }))
}

fn told_snapshot(saved: &SavedPolicy) -> Value {
    let taught = saved.taught.clone().unwrap_or_default();
    let mean = |sum: f64, n: u64| (n > 0).then(|| sum / n as f64);
    json!({
        "policy": saved.name,
        "version": saved.version,
        "state": saved.id,
        "taken_at": instant(saved.taken_at),
        "parent": (!saved.parent.is_empty()).then_some(&saved.parent),
        "trained": saved.trained,
        "window": {
            "from": taught.from.map(instant),
            "to": taught.to.map(instant),
            "from_position": taught.from_position,
            "to_position": saved.rewards,
        },
        "metrics": {
            "rewards": taught.rewards,
            "mean_reward": mean(taught.sum, taught.rewards),
            "own_rewards": taught.own,
            "own_mean_reward": mean(taught.own_sum, taught.own),
        },
        "code": saved.code,
        "views": saved.views,
        "settings": serde_json::from_str::<Value>(&saved.config).unwrap_or_default(),
        "bytes": saved.bytes,
        "inputs": format!("{:016x}", saved.fingerprint),
    })
}

/// A change of what serves.
pub fn told_change(change: &Serving) -> Value {
    let policy = |p: &Option<ServedPolicy>| {
        p.as_ref().map(|p| json!({"policy": p.name, "version": p.version, "state": p.id}))
    };
    json!({
        "action": change.action,
        "at": instant(change.at),
        "by": change.by,
        "serving": policy(&change.policy),
        "previous": policy(&change.previous),
        "why": serde_json::from_str::<Value>(&change.why).unwrap_or_default(),
    })
}

/// A report as kept with the change it led to.
pub fn text(report: &Report) -> String {
    serde_json::to_string(report).unwrap_or_default()
}

/// What came of asking for a promotion.
pub fn answer(report: &Report, change: Option<&Serving>) -> Value {
    let missing: Vec<&str> = report.missing().map(|c| c.name).collect();
    json!({
        "promoted": change.is_some(),
        "promotable": report.promotable,
        "missing": missing,
        "report": report,
        "change": change.map(told_change),
    })
}
