//! Checkpoints: what they take, off the job's thread, and what is forgotten with them.

use std::time::Instant;

use ingest::{
    Millis,
    log::{Position, Topic},
};
use metrics::{counter, histogram};

use super::{CONSUMER, Job};
use crate::{entities::PARTS, error::JobError, metrics as names, shard::Changes};

impl Job {
    /// Once a day of event time, looks through the state for rows that left every window: a part at a time, so that
    /// it takes no long pause.
    pub(super) fn forget_old(&mut self) {
        let newest = self.shards.iter().map(|s| s.watermark).max().unwrap_or(Millis::MIN);
        if self.collecting.is_none() && newest.saturating_sub(self.collected_at) > 86_400_000 {
            self.collected_at = newest;
            self.collecting = Some(0);
        }
        let Some(part) = self.collecting else { return };
        self.collecting = Some(part + 1).filter(|next| *next < PARTS);
        let mut changes = Changes::default();
        self.shards.iter_mut().for_each(|s| s.forget_old(part, &mut changes));
        if let Err(e) = self.publish(changes) {
            tracing::error!(error = %e, "rows that left every window were not taken out of the online store");
        }
    }

    /// Starts a checkpoint, unless one is under way; collects the one before.
    pub async fn start_saving(&mut self) -> Result<(), JobError> {
        if self.saving.as_ref().is_some_and(|(_, s)| !s.is_finished()) || self.waiting.is_some() {
            return Ok(());
        }
        self.finish_saving().await?;
        let started = Instant::now();
        self.saved_at = started;
        let mut delta = self.unsaved.take().unwrap_or_default();
        for s in &mut self.shards {
            let horizon = s.horizon();
            delta.rows.extend(s.take_dirty());
            let horizon = s.seen.horizon(horizon);
            delta.seen.push((s.partition, s.seen.take_fresh()));
            delta.horizons.retain(|(p, _)| *p != s.partition);
            delta.horizons.push((s.partition, horizon));
            delta.watermarks.retain(|(p, _)| *p != s.partition);
            delta.watermarks.push((s.partition, s.watermark));
            s.seen.prune(horizon);
        }
        delta.notes.extend(self.backfills.take_notes());
        delta.position = self.position.clone();
        if let Err(e) = self.history.seal(&self.position) {
            tracing::error!(error = %e, "history could not be sealed; the checkpoint is tried again later");
            counter!(names::CHECKPOINT_FAILURES).increment(1);
            self.unsaved = Some(delta);
            return Ok(());
        }
        let (history, checkpoint, views) =
            (self.history.clone(), self.checkpoint.clone(), self.views.clone());
        let spiller = self.spiller.clone();
        let task = tokio::task::spawn_blocking(move || {
            // History first: if we die in between, the job replays from its older position, and history
            // leaves out what it has.
            let written = history.persist().map_err(|e| e.to_string());
            match written.and_then(|_| checkpoint.commit(&views, &delta).map_err(|e| e.to_string())) {
                Ok(()) => {
                    let mut spiller = spiller.lock();
                    let rows = delta.rows.iter().flat_map(|(_, rows)| rows.iter());
                    rows.for_each(|(_, row)| row.iter().for_each(|row| spiller.note(row)));
                    spiller.keep_budget();
                    Ok(delta.position.clone())
                }
                Err(e) => Err((delta, e)),
            }
        });
        self.saving = Some((started, task));
        histogram!(names::CHECKPOINT_PAUSE).record(started.elapsed().as_secs_f64());
        Ok(())
    }

    pub(super) async fn finish_saving(&mut self) -> Result<(), JobError> {
        let Some((started, task)) = self.saving.take() else { return Ok(()) };
        match task.await {
            Ok(Ok(position)) => {
                histogram!(names::CHECKPOINT).record(started.elapsed().as_secs_f64());
                if let Err(e) = self.log.commit(CONSUMER, Topic::Signals, &self.own(&position)).await {
                    tracing::warn!(error = %e, "the job's place in the log was not committed");
                }
                self.saved = position;
            }
            Ok(Err((delta, error))) => {
                tracing::error!(error, "a checkpoint failed; it is tried again");
                counter!(names::CHECKPOINT_FAILURES).increment(1);
                self.unsaved = Some(delta);
            }
            // What it held is gone, and a later checkpoint would leave a hole: only a start from the last one is whole.
            Err(e) => return Err(self.not_durable(format!("it was cut off: {e}"))),
        }
        Ok(())
    }

    /// What of a position is of this job's partitions.
    fn own(&self, position: &Position) -> Position {
        Position(self.shards.iter().map(|s| (s.partition, position.get(s.partition))).collect())
    }

    pub(super) fn not_durable(&self, reason: String) -> JobError {
        JobError::Checkpoint { file: self.options.checkpoint_file.display().to_string(), reason }
    }

    /// Makes everything applied so far durable.
    pub async fn save(&mut self) -> Result<(), JobError> {
        self.finish_saving().await?;
        if self.waiting.is_some() {
            return Err(self.not_durable("the online store has not taken every row yet".to_owned()));
        }
        self.start_saving().await?;
        self.finish_saving().await?;
        if self.unsaved.is_some() {
            return Err(self.not_durable("not durable; see the log for the cause".to_owned()));
        }
        Ok(())
    }
}
