//! Backfills: pieces of them between micro-batches, or one after the other.

use std::sync::Arc;

use features::{FeatureError, View};
use ingest::Millis;

use super::Job;
use crate::{
    backfill::{Piece, Progress},
    error::JobError,
};

impl Job {
    pub(super) fn take_piece(&mut self, piece: Option<Result<Piece, FeatureError>>) -> Result<(), JobError> {
        match piece.transpose() {
            Ok(piece) => self.backfills.take(piece)?,
            Err(e) => {
                // Live values do not depend on it.
                tracing::error!(error = %e, "a backfill stopped; it goes on at the next start");
                self.backfills.put_off();
            }
        }
        Ok(())
    }

    /// Adds a backfill of a view over everything applied so far, or goes on with one for the same instants.
    pub fn add_backfill(
        &mut self,
        view: &Arc<View>,
        from: Option<Millis>,
        until: Option<Millis>,
    ) -> Result<(), JobError> {
        let mut below = self.history.durable_position()?;
        for (partition, offset) in self.position.0.iter().filter(|(_, o)| **o > 0) {
            below.advance(*partition, offset - 1);
        }
        Ok(self.backfills.add(view, from, until, below, (self.clock)())?)
    }

    /// Lets an engine make the values of backfills from here on, in place of this process.
    pub fn backfill_by(&mut self, engine: Arc<dyn features::past::Engine>) {
        self.backfills.by(engine);
    }

    /// Does the pending backfills of these views, or all that are pending, and makes them durable now and then.
    pub async fn backfill(
        &mut self,
        views: Option<&[Arc<View>]>,
        mut told: impl FnMut(Progress),
    ) -> Result<(), JobError> {
        if let Some(views) = views {
            self.backfills.only(views);
        }
        while self.backfill_step()? {
            self.backfills.progress().into_iter().for_each(&mut told);
            let full = self.history.buffered_bytes() > self.options.history_buffer;
            if full || self.saved_at.elapsed() >= self.options.checkpoint_every {
                self.save().await?;
            }
        }
        self.save().await
    }

    /// Makes one piece of a backfill; false when none is pending.
    pub fn backfill_step(&mut self) -> Result<bool, JobError> {
        let pending = self.backfills.pending();
        if pending {
            let piece = self.backfills.step().transpose()?;
            self.backfills.take(piece)?;
        }
        Ok(pending)
    }

    /// How far the backfill under way has come.
    pub fn backfill_progress(&self) -> Option<Progress> {
        self.backfills.progress()
    }
}
