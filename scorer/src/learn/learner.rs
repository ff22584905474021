//! The consumer that teaches the policy.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use ingest::{
    Clock, Millis,
    log::{Append, Appended, Log, LogError, LogRecord, Position, Topic},
    record::idempotency_key,
};
use parking_lot::Mutex;
use prost::Message;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{BATCH, RETRY};
use crate::{
    ScorerConfig, ScorerError,
    context::Layout,
    decide::Published,
    policy::{self, Action, Observation, Policy, Space},
    record::{Reward, SavedPolicy, names_hash},
    telemetry,
};

/// How often it is looked whether a snapshot is due.
const TICK: Duration = Duration::from_secs(5);

/// Teaches one policy from the topic of rewards, in log order, and publishes it. One of it runs for a policy.
pub struct Learner {
    log: Arc<dyn Log>,
    config: ScorerConfig,
    layout: Arc<Layout>,
    policy: Box<dyn Policy>,
    published: Published,
    scores: Arc<Scoreboard>,
    /// Everything below it is learned.
    position: Position,
    saved_version: u64,
    saved_at: Millis,
}

impl Learner {
    /// Takes up the latest snapshot in the log that fits the configuration, or starts untaught. Rewards after
    /// the snapshot are learned by [`Learner::catch_up`] or [`Learner::run`].
    pub fn restore(
        log: Arc<dyn Log>,
        config: &ScorerConfig,
        layout: Arc<Layout>,
        groups: Vec<String>,
        now: Millis,
    ) -> Result<Learner, ScorerError> {
        let space = Space { context: layout.context_len(), action: layout.action_len(), groups };
        let mut policy = policy::build(&config.policy, &space);
        let position = match last_saved(&*log, policy.name(), fingerprint(config, &layout))? {
            None => Position::default(),
            Some(saved) => match (policy.load(&saved.state), saved.rewards.parse()) {
                (Ok(()), Ok(position)) => position,
                (outcome, _) => {
                    let why = outcome.err().map(|e| e.to_string()).unwrap_or_default();
                    tracing::warn!(why, "the last snapshot is unusable; learning starts from all rewards");
                    policy = policy::build(&config.policy, &space);
                    Position::default()
                }
            },
        };
        let published = Arc::new(ArcSwap::from_pointee(policy.snapshot()));
        let (saved_version, scores) = (policy.version(), Arc::default());
        let config = config.clone();
        Ok(Learner { log, config, layout, policy, published, scores, position, saved_version, saved_at: now })
    }

    /// Where decisions find the policy.
    pub fn published(&self) -> Published {
        self.published.clone()
    }

    /// Rewards counted by policy, since the start of this process.
    pub fn scoreboard(&self) -> Arc<Scoreboard> {
        self.scores.clone()
    }

    /// How many rewards the policy has learned.
    pub fn version(&self) -> u64 {
        self.policy.version()
    }

    /// Everything below this position of the rewards is learned.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The policy's state, to the bit.
    pub fn state(&self) -> Vec<u8> {
        self.policy.save()
    }

    /// Learns what is in the log now, and publishes. Returns how many rewards were read.
    pub fn catch_up(&mut self) -> Result<usize, LogError> {
        let mut reader = self.log.reader(Topic::Rewards, &[0], &self.position)?;
        let mut read = 0;
        loop {
            let records = reader.poll(BATCH)?;
            if records.is_empty() {
                self.publish();
                return Ok(read);
            }
            read += records.len();
            self.learn(&records);
        }
    }

    /// Runs until `stop`, then saves. A reward moves decisions as soon as it is read.
    ///
    /// # Errors
    /// What only a person can mend; while the log is merely unavailable it keeps trying.
    pub async fn run(mut self, clock: Clock, stop: CancellationToken) -> Result<(), LogError> {
        let mut reader = self.log.reader(Topic::Rewards, &[0], &self.position)?;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.save(clock()).await,
                records = reader.next(BATCH) => {
                    self.learn(&records?);
                    self.publish();
                }
                _ = ticks.tick() => {}
            }
            if self.save_is_due(clock()) {
                match self.save(clock()).await {
                    Ok(()) => {}
                    Err(LogError::Unavailable(why)) => {
                        tracing::warn!(why, "the policy's snapshot waits for the log");
                        tokio::time::sleep(RETRY).await;
                    }
                    Err(LogError::Refused(why)) => {
                        // Too large, say: decisions go on, and a restart learns from more rewards.
                        tracing::error!(why, "the log refused the policy's snapshot");
                        (self.saved_version, self.saved_at) = (self.policy.version(), clock());
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn learn(&mut self, records: &[LogRecord]) {
        let mut features = Vec::new();
        for record in records {
            self.position.advance(record.partition, record.offset);
            // An erased reward cannot be read, and must not be learned from.
            let Ok(reward) = Reward::decode(&record.payload[..]) else { continue };
            self.scores.count(&reward);
            if reward.names != self.layout.names_hash() || reward.context.len() != self.layout.names().len() {
                metrics::counter!(telemetry::REWARDS_FOREIGN).increment(1);
                continue;
            }
            let context = self.layout.inputs(&reward.context);
            let effort = reward.context.last().copied().unwrap_or_default();
            features.clear();
            self.layout.action(&reward.context, &reward.category, effort, &mut features);
            self.policy.learn(&Observation {
                context: context.view(),
                action: Action { tip: &reward.tip, group: &reward.category, features: &features },
                propensity: reward.propensity,
                reward: reward.reward,
            });
        }
    }

    fn publish(&mut self) {
        self.published.store(Arc::new(self.policy.snapshot()));
        let end = self.log.end(Topic::Rewards).get(0);
        metrics::gauge!(telemetry::LEARNER_LAG).set(end.saturating_sub(self.position.get(0)) as f64);
        metrics::gauge!(telemetry::POLICY_VERSION, "policy" => self.policy.name())
            .set(self.policy.version() as f64);
    }

    fn save_is_due(&self, now: Millis) -> bool {
        let new = self.policy.version().saturating_sub(self.saved_version);
        let waited = (now - self.saved_at) as f64 / 60_000.0;
        new >= self.config.learn.snapshot_rewards.max(1)
            || (new > 0 && waited >= self.config.learn.snapshot_minutes)
    }

    /// Writes a snapshot to the log, if anything was learned since the last.
    pub async fn save(&mut self, now: Millis) -> Result<(), LogError> {
        let (name, version) = (self.policy.name(), self.policy.version());
        if version == self.saved_version {
            return Ok(());
        }
        let fingerprint = fingerprint(&self.config, &self.layout);
        let saved = SavedPolicy {
            name: name.to_owned(),
            version,
            fingerprint,
            rewards: self.position.to_string(),
            taken_at: now,
            state: self.policy.save(),
        };
        let append = Append {
            subject: format!("policy/{name}"),
            key: idempotency_key("kairos/policy", &format!("{name}@{version}/{fingerprint:x}")),
            payload: saved.encode_to_vec().into(),
        };
        let outcomes = self.log.append(Topic::Policies, vec![append]).await?;
        if let Some(Appended::At(partition, offset)) = outcomes.first() {
            // A restart looks from here, and needs not read all snapshots ever taken.
            let here = Position([(*partition, *offset)].into());
            self.log.commit(&consumer(name, fingerprint), Topic::Policies, &here).await?;
            metrics::counter!(telemetry::SNAPSHOTS).increment(1);
        }
        (self.saved_version, self.saved_at) = (version, now);
        Ok(())
    }
}

/// Says whether a policy of this configuration can go on from a saved state: the same inputs, penalties and
/// seed. Exploration may change between snapshots.
fn fingerprint(config: &ScorerConfig, layout: &Layout) -> u64 {
    let p = &config.policy;
    let settings = [p.ridge.to_string(), p.tip_ridge.to_string(), p.tips_per_group.to_string()];
    layout.fingerprint() ^ names_hash(&settings).rotate_left(2)
}

fn consumer(name: &str, fingerprint: u64) -> String {
    format!("policy-{name}-{fingerprint:016x}")
}

fn last_saved(log: &dyn Log, name: &str, fingerprint: u64) -> Result<Option<SavedPolicy>, LogError> {
    let from = log.committed(&consumer(name, fingerprint), Topic::Policies)?;
    let mut reader = log.reader(Topic::Policies, &[0], &from)?;
    let mut last = None;
    loop {
        let records = reader.poll(16)?;
        if records.is_empty() {
            return Ok(last);
        }
        let saved = records.iter().filter_map(|r| SavedPolicy::decode(&r.payload[..]).ok());
        last = saved.filter(|s| s.name == name && s.fingerprint == fingerprint).last().or(last);
    }
}

/// Rewards by policy.
#[derive(Default)]
pub struct Scoreboard(Mutex<BTreeMap<String, Score>>);

/// What one policy's tips earned.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Score {
    /// Settled impressions.
    pub rewards: u64,
    /// Sum of their rewards.
    pub sum: f64,
    /// How many were accepted or done.
    pub accepted: u64,
}

impl Scoreboard {
    fn count(&self, reward: &Reward) {
        let mut scores = self.0.lock();
        let score = scores.entry(reward.policy.clone()).or_default();
        score.rewards += 1;
        score.sum += reward.reward;
        score.accepted += u64::from(matches!(reward.outcome.as_str(), "accepted" | "done"));
        let (policy, outcome) = (reward.policy.clone(), reward.outcome.clone());
        metrics::gauge!(telemetry::REWARD_SUM, "policy" => policy.clone()).set(score.sum);
        metrics::counter!(telemetry::REWARDS, "policy" => policy, "outcome" => outcome).increment(1);
    }

    /// By name of the policy.
    pub fn totals(&self) -> BTreeMap<String, Score> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests;
