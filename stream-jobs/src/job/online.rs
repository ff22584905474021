//! Rows on their way to the online store, which may be away, or come back without what it had.
//!
//! While rows wait, nothing is read from the log and no checkpoint begins: a checkpoint never holds what the online
//! store has not taken, so that a start from it needs to put again only what the log still says.

use std::time::{Duration, Instant};

use features::{FeatureError, online::OnlineRow};
use ingest::{
    Millis,
    log::{Partition, Position, Topic},
};
use metrics::{counter, histogram};

use super::Job;
use crate::{error::JobError, metrics as names};

/// Pause after the first failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Rows put at once when a store is filled.
const AT_ONCE: usize = 8_192;

/// What the online store has not taken.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    rows: Vec<OnlineRow>,
    /// Whether rows put before may be gone, and the store is to be asked what it has.
    refill: bool,
    /// Arrival of the oldest signal behind the rows.
    oldest_arrival: Option<Millis>,
    failures: u32,
    /// When it is tried again.
    pub(super) next: Option<Instant>,
}

impl Job {
    /// The partitions that are this job's.
    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.shards.iter().map(|s| s.partition).collect()
    }

    /// How far those have come.
    pub(super) fn own_position(&self) -> Position {
        Position(self.shards.iter().map(|s| (s.partition, self.position.get(s.partition))).collect())
    }

    /// Takes up the partitions: fills what the store does not have of them, and puts rows it cannot have yet.
    pub(super) fn take_up(&mut self, rows: Vec<OnlineRow>) -> Result<(), JobError> {
        self.waiting = Some(Waiting { rows, refill: true, ..Waiting::default() });
        self.settle().map(|_| ())
    }

    /// Puts rows, or keeps them until they can be put.
    pub(super) fn put(&mut self, rows: Vec<OnlineRow>) -> Result<(), JobError> {
        if let Some(waiting) = &mut self.waiting {
            waiting.rows.extend(rows);
            return Ok(());
        }
        if self.online.resident().is_some() {
            return Ok(self.online.put_many(rows)?);
        }
        match self.online.put_many(rows.clone()) {
            Ok(()) => Ok(()),
            Err(e) => self.put_off(Waiting { rows, ..Waiting::default() }, e),
        }
    }

    /// Tells readers how far the rows are, whose oldest signal arrived then.
    pub(super) fn announce(&mut self, oldest_arrival: Option<Millis>) -> Result<(), JobError> {
        if let Some(waiting) = &mut self.waiting {
            waiting.oldest_arrival = waiting.oldest_arrival.into_iter().chain(oldest_arrival).min();
            return Ok(());
        }
        let position = self.own_position();
        match self.online.advance(&position) {
            Ok(()) => {
                self.now_readable(position, oldest_arrival);
                Ok(())
            }
            Err(e) => self.put_off(Waiting { oldest_arrival, ..Waiting::default() }, e),
        }
    }

    /// Tries to put what waits; whether nothing does any more.
    pub(super) fn settle(&mut self) -> Result<bool, JobError> {
        let Some(mut waiting) = self.waiting.take() else { return Ok(true) };
        let position = self.own_position();
        let done = match waiting.refill {
            true => self.refill(),
            false => Ok(()),
        };
        waiting.refill &= done.is_err();
        let done = done
            .and_then(|()| self.online.put_many(waiting.rows.clone()))
            .and_then(|()| self.online.advance(&position));
        match done {
            Ok(()) => {
                if waiting.failures > 0 {
                    tracing::info!(failures = waiting.failures, "the online store takes rows again");
                }
                self.now_readable(position, waiting.oldest_arrival);
                Ok(true)
            }
            Err(e) => self.put_off(waiting, e).map(|()| false),
        }
    }

    /// Keeps what could not be put, if trying again can help.
    fn put_off(&mut self, mut waiting: Waiting, e: FeatureError) -> Result<(), JobError> {
        match e {
            FeatureError::Unavailable(_) => {}
            FeatureError::Lost(_) => waiting.refill = true,
            other => return Err(other.into()),
        }
        counter!(names::ONLINE_FAILURES).increment(1);
        if waiting.failures == 0 {
            tracing::warn!(error = %e, "the online store takes no rows; the job waits for it");
        }
        let pause = FIRST_PAUSE * 2u32.pow(waiting.failures.min(10));
        waiting.next = Some(Instant::now() + pause.min(LONGEST_PAUSE));
        waiting.failures += 1;
        self.waiting = Some(waiting);
        Ok(())
    }

    /// Puts all rows of those partitions that the store does not have whole.
    fn refill(&self) -> Result<(), FeatureError> {
        let whole = self.online.claim(self.checkpoint.id(), &self.partitions())?;
        // More than the log has is of another log, or of a backup's future.
        let end = self.log.end(Topic::Signals);
        let may = |p: Partition| self.published.get(p)..=end.get(p);
        let has = |p: Partition| whole.0.get(&p).is_some_and(|next| may(p).contains(next));
        let lacking: Vec<_> = self.shards.iter().filter(|s| !has(s.partition)).collect();
        self.online.clear(&lacking.iter().map(|s| s.partition).collect::<Vec<_>>())?;
        for shard in &lacking {
            let mut rows = shard.rows().peekable();
            while rows.peek().is_some() {
                self.online.put_many(rows.by_ref().take(AT_ONCE).collect())?;
            }
        }
        if self.online.resident().is_none() {
            let rows: usize = lacking.iter().map(|s| s.len()).sum();
            tracing::info!(partitions = lacking.len(), rows, "the online store was filled from the state");
        }
        Ok(())
    }

    fn now_readable(&mut self, position: Position, oldest_arrival: Option<Millis>) {
        self.applied.advance(&position);
        self.published = position;
        if let Some(t) = oldest_arrival {
            histogram!(names::FRESHNESS).record(((self.clock)() - t).max(0) as f64 / 1e3);
        }
    }
}
