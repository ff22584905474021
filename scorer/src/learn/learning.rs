//! The consumer that teaches the policies: the one that serves, and the one in its shadow.

mod changes;
mod roles;

use std::{sync::Arc, time::Duration};

use ingest::{
    Clock, Millis,
    log::{Log, LogError, LogRecord, Position, Topic},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::roles::Roles;
use self::roles::seats;
use super::{
    BATCH, Brief, Learner, RETRY, Scoreboard, Steering,
    learner::decoded,
    registry,
    steering::{self, Order},
};
use crate::{ScorerConfig, ScorerError, decide::Published, policy::PolicyConfig, telemetry};

/// How often it is looked whether a snapshot is due.
const TICK: Duration = Duration::from_secs(5);

/// Teaches the policy that serves and its shadow from the topic of rewards, in log order, and publishes both.
/// One of it runs for a log.
///
/// Which policy serves is a function of the log and the configuration: the one configured, unless a
/// [`Serving`] record made since says otherwise. So a restart finds the same policies in the same places, and
/// a change is made by writing that record and then doing what a restart would do.
pub struct Learning {
    log: Arc<dyn Log>,
    brief: Arc<Brief>,
    configured: PolicyConfig,
    configured_shadow: Option<PolicyConfig>,
    incumbent: Learner,
    shadow: Option<Learner>,
    published: Published,
    published_shadow: Option<Published>,
    scores: Arc<Scoreboard>,
    steering: Steering,
    orders: mpsc::Receiver<Order>,
    /// Of the topic of policies, what was there before the seats were taken.
    seated_at: Position,
}

impl Learning {
    /// Takes up the latest snapshots in the log that fit, or starts untaught. Rewards after the snapshots are
    /// learned by [`Learning::catch_up`] or [`Learning::run`].
    pub fn open(
        log: Arc<dyn Log>,
        config: &ScorerConfig,
        brief: Arc<Brief>,
        now: Millis,
    ) -> Result<Learning, ScorerError> {
        let seated_at = log.end(Topic::Policies);
        let (configured, configured_shadow) = (config.policy.clone(), config.shadow.clone());
        let (incumbent, shadow) = seats(&log, &configured, configured_shadow.as_ref(), &brief, now)?;
        let (published, published_shadow) = (incumbent.published(), shadow.as_ref().map(Learner::published));
        let (steering, orders) = steering::channel();
        Ok(Learning {
            log,
            brief,
            configured,
            configured_shadow,
            incumbent,
            shadow,
            published,
            published_shadow,
            scores: Arc::default(),
            steering,
            orders,
            seated_at,
        })
    }

    /// Where decisions find the policy that serves, whichever that is.
    pub fn published(&self) -> Published {
        self.published.clone()
    }

    /// Where they find the one in its shadow, if one is configured.
    pub fn published_shadow(&self) -> Option<Published> {
        self.published_shadow.clone()
    }

    /// Rewards counted by policy, since the start of this process.
    pub fn scoreboard(&self) -> Arc<Scoreboard> {
        self.scores.clone()
    }

    /// The way to give it orders while it runs.
    pub fn steering(&self) -> Steering {
        self.steering.clone()
    }

    /// The policy that serves.
    pub fn incumbent(&self) -> &Learner {
        &self.incumbent
    }

    /// The policy in its shadow.
    pub fn shadow(&self) -> Option<&Learner> {
        self.shadow.as_ref()
    }

    /// Learns what is in the log now, and publishes.
    pub fn catch_up(&mut self) -> Result<(), LogError> {
        self.incumbent.catch_up()?;
        self.shadow.as_mut().map_or(Ok(0), Learner::catch_up)?;
        self.tell_lag();
        Ok(())
    }

    /// Runs until `stop`, then saves. A reward moves decisions as soon as it is read. A promotion made by
    /// another process holds here as soon as it is in the log.
    ///
    /// # Errors
    /// What only a person can mend; while the log is merely unavailable it keeps trying.
    pub async fn run(self, clock: Clock, stop: CancellationToken) -> Result<(), LogError> {
        self.run_as(true, clock, stop).await
    }

    /// As [`run`](Self::run) beside a process that runs it: learns the same rewards in the same order, so that
    /// decisions of both processes follow the same policy, and saves no snapshots.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn follow(self, clock: Clock, stop: CancellationToken) -> Result<(), LogError> {
        self.run_as(false, clock, stop).await
    }

    async fn run_as(mut self, saves: bool, clock: Clock, stop: CancellationToken) -> Result<(), LogError> {
        let behind = self.shadow.iter().map(Learner::position).chain([self.incumbent.position()]);
        let from = behind.min_by_key(|p| p.get(0)).cloned().unwrap_or_default();
        let mut rewards = self.log.reader(Topic::Rewards, &[0], &from)?;
        let mut policies = self.log.reader(Topic::Policies, &[0], &self.seated_at)?;
        if saves {
            // What decisions follow has its snapshot in the log before anything is learned on top.
            let registered = self.register(clock()).await;
            self.saved(registered, clock()).await?;
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return if saves { self.save(clock()).await } else { Ok(()) },
                records = rewards.next(BATCH) => self.learn(&records?),
                records = policies.next(BATCH) => self.take_seats(&records?, clock()),
                order = self.orders.recv() => {
                    if let Some(order) = order {
                        self.obey(order, clock()).await;
                    }
                }
                _ = ticks.tick() => {}
            }
            if saves {
                let now = clock();
                let saved = self.save_due(now).await;
                self.saved(saved, now).await?;
            }
        }
    }

    /// Does what a restart would do, where the log says that other policies serve than before.
    fn take_seats(&mut self, written: &[LogRecord], now: Millis) {
        if written.iter().any(registry::changes_seats)
            && let Err(e) = self.reseat(now)
        {
            tracing::error!(error = %e, "a change of what serves could not be followed; decisions go on as before");
        }
    }

    fn learners(&mut self) -> impl Iterator<Item = &mut Learner> {
        std::iter::once(&mut self.incumbent).chain(&mut self.shadow)
    }

    fn learn(&mut self, records: &[LogRecord]) {
        let rewards: Vec<_> = records.iter().map(|r| (r.offset, decoded(r))).collect();
        rewards.iter().filter_map(|(_, reward)| reward.as_ref()).for_each(|r| self.scores.count(r));
        for learner in self.learners() {
            rewards.iter().for_each(|(offset, reward)| learner.take(*offset, reward.as_ref()));
            learner.publish();
        }
        self.tell_lag();
    }

    fn tell_lag(&self) {
        let end = self.log.end(Topic::Rewards).get(0);
        let behind = end.saturating_sub(self.incumbent.position().get(0));
        metrics::gauge!(telemetry::LEARNER_LAG).set(behind as f64);
    }

    /// Decides what becomes of an attempt to save.
    async fn saved(&mut self, outcome: Result<(), LogError>, now: Millis) -> Result<(), LogError> {
        match outcome {
            Err(LogError::Unavailable(why)) => {
                tracing::warn!(why, "the policy's snapshot waits for the log");
                tokio::time::sleep(RETRY).await;
                Ok(())
            }
            Err(LogError::Refused(why)) => {
                // Decisions go on, and a restart learns from more rewards.
                tracing::error!(why, "the log refused the policy's snapshot");
                self.learners().for_each(|l| l.give_up_saving(now));
                Ok(())
            }
            other => other,
        }
    }

    async fn register(&mut self, now: Millis) -> Result<(), LogError> {
        registry::keep_near(&*self.log).await?;
        self.save(now).await
    }

    async fn save_due(&mut self, now: Millis) -> Result<(), LogError> {
        for learner in self.learners().filter(|l| l.save_is_due(now)) {
            learner.save(now).await?;
        }
        Ok(())
    }

    /// Writes snapshots to the log, where anything was learned since the last.
    pub async fn save(&mut self, now: Millis) -> Result<(), LogError> {
        for learner in self.learners() {
            learner.save(now).await?;
        }
        Ok(())
    }

    async fn obey(&mut self, order: Order, now: Millis) {
        // Who no longer waits for an answer needs none.
        match order {
            Order::Promote { shadow, by, why, answer } => {
                let _ = answer.send(self.promote(shadow, by, why, now).await);
            }
            Order::RollBack { version, by, answer } => {
                let _ = answer.send(self.roll_back(version, by, now).await);
            }
            Order::TakeUp { saved, answer } => {
                let _ = answer.send(self.take_up(*saved, now).await);
            }
        }
    }

    /// Does what a restart would do.
    fn reseat(&mut self, now: Millis) -> Result<(), ScorerError> {
        let shadow = self.configured_shadow.as_ref();
        let (mut incumbent, mut shadow) = seats(&self.log, &self.configured, shadow, &self.brief, now)?;
        incumbent.catch_up()?;
        if let (Some(shadow), Some(published)) = (&mut shadow, &self.published_shadow) {
            shadow.catch_up()?;
            let challenger = self.configured_shadow.as_ref() == Some(shadow.config());
            shadow.publish_at(published.clone(), challenger);
        }
        incumbent.publish_at(self.published.clone(), false);
        (self.incumbent, self.shadow) = (incumbent, shadow);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
