//! The consumer that turns impressions and reactions in the log into rewards in the log.

use std::{sync::Arc, time::Duration};

use ingest::{
    Clock,
    log::{Append, Log, LogError, LogRecord, Partition, Position, Topic},
    record::RecordRef,
};
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::{BATCH, Join, LearnConfig, RETRY, Settled};
use crate::{
    memory::Memory,
    record::{IMPRESSION, Impression, REACTION, Reaction, Reward},
    telemetry,
};

/// Name under which it commits how far it has come.
const CONSUMER: &str = "scorer-joiner";
/// How often open windows are looked at when the log is quiet.
const TICK: Duration = Duration::from_secs(1);

/// Reads signals, emits rewards. One of it runs for a log.
pub struct Joiner {
    log: Arc<dyn Log>,
    join: Join,
    memory: Arc<Memory>,
    clock: Clock,
    /// Committed last.
    from: Position,
}

impl Joiner {
    /// Goes on where it was; feeds what it reads into `memory` too.
    pub fn new(
        log: Arc<dyn Log>,
        config: &LearnConfig,
        memory: Arc<Memory>,
        clock: Clock,
    ) -> Result<Joiner, LogError> {
        let from = log.committed(CONSUMER, Topic::Signals)?;
        Ok(Joiner { log, join: Join::new(config, &from), memory, clock, from })
    }

    /// Runs until `stop`. Where it was is committed behind the oldest open impression, so after a restart it
    /// reads those again; rewards it emitted before are duplicates to the log.
    ///
    /// # Errors
    /// What only a person can mend; while the log is merely unavailable it keeps trying.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), LogError> {
        let partitions: Vec<Partition> = (0..self.log.partitions(Topic::Signals)).collect();
        let mut reader = self.log.reader(Topic::Signals, &partitions, &self.from)?;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut settled = Vec::new();
            tokio::select! {
                () = stop.cancelled() => return self.commit().await,
                records = reader.next(BATCH) => self.apply(&records?, &mut settled),
                _ = ticks.tick() => {
                    // The time is asked before the tail is: what came by then has been read after.
                    let now = (self.clock)();
                    loop {
                        let records = reader.poll(BATCH)?;
                        if records.is_empty() {
                            break;
                        }
                        self.apply(&records, &mut settled);
                    }
                    self.join.tick(now, &mut settled);
                    if !self.emit(std::mem::take(&mut settled), &stop).await? {
                        return Ok(());
                    }
                    self.commit().await?;
                }
            }
            if !self.emit(settled, &stop).await? {
                return Ok(());
            }
        }
    }

    /// Reads the same signals and remembers what was shown and how people reacted, until `stop`; makes no
    /// rewards. For a process that decides beside the one that learns.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn follow(self, stop: CancellationToken) -> Result<(), LogError> {
        let partitions: Vec<Partition> = (0..self.log.partitions(Topic::Signals)).collect();
        let mut reader = self.log.reader(Topic::Signals, &partitions, &self.from)?;
        while let Some(records) = stop.run_until_cancelled(reader.next(BATCH)).await {
            for r in &records? {
                let Ok(record) = RecordRef::decode(&r.subject, &r.payload) else { continue };
                self.remember(&record);
            }
        }
        Ok(())
    }

    fn apply(&mut self, records: &[LogRecord], settled: &mut Vec<Settled>) {
        for r in records {
            // Erased records and those of a newer program cannot be read; both have nothing to say here.
            let Ok(record) = RecordRef::decode(&r.subject, &r.payload) else { continue };
            self.remember(&record);
            self.join.apply(r.partition, r.offset, &record, settled);
        }
    }

    fn remember(&self, record: &RecordRef<'_>) {
        if record.kind == IMPRESSION {
            // Of this process's own the memory knows already, and a decision is much to read.
            if self.memory.knows(record.id) {
                return;
            }
            let Ok(seen) = Impression::decode(record.data) else { return };
            if let (Some(tip), Some(category)) = (seen.tip, seen.category) {
                self.memory.impression(record.id, record.subject, &tip, &category, record.time);
            }
        } else if record.kind == REACTION {
            let Ok(seen) = Reaction::decode(record.data) else { return };
            let kind = seen.reaction.and_then(|word| word.parse().ok());
            if let (Some(impression), Some(kind)) = (seen.impression, kind) {
                self.memory.reaction(&impression, kind, record.received_at);
            }
        }
    }

    /// `false` when the end came before the log took the rewards. Nothing must be committed then, so that
    /// they are joined again after the restart.
    async fn emit(&self, settled: Vec<Settled>, stop: &CancellationToken) -> Result<bool, LogError> {
        metrics::gauge!(telemetry::OPEN_IMPRESSIONS).set(self.join.open() as f64);
        if settled.is_empty() {
            return Ok(true);
        }
        let append = |s: &Settled| Append {
            subject: s.user.clone(),
            key: Reward::key(&s.reward.impression),
            payload: s.reward.encode_to_vec().into(),
        };
        loop {
            match self.log.append(Topic::Rewards, settled.iter().map(append).collect()).await {
                Ok(_) => return Ok(true),
                Err(LogError::Unavailable(why)) => {
                    tracing::warn!(why, "rewards wait for the log");
                    tokio::select! {
                        () = stop.cancelled() => return Ok(false),
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn commit(&mut self) -> Result<(), LogError> {
        let from = self.join.resume_from();
        if from != self.from {
            self.log.commit(CONSUMER, Topic::Signals, &from).await?;
            self.from = from;
        }
        Ok(())
    }
}
