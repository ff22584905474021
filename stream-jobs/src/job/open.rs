//! The start: state and online store from the checkpoint, new views from history.

use std::{sync::Arc, time::Instant};

use features::{FeatureStore, View, history::PastEvents, online::OnlineStore};
use ingest::{
    Clock, Millis,
    catalogue::Catalogue,
    log::{Log, Topic},
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{Job, JobOptions};
use crate::{
    backfill::Backfills,
    checkpoint::Checkpoint,
    error::JobError,
    shard::{Changes, Shard},
    spill::Spiller,
};

impl Job {
    /// Opens the checkpoint and restores state and online store from it.
    pub fn open(
        log: Arc<dyn Log>,
        catalogue: Arc<Catalogue>,
        features: &FeatureStore,
        online: Arc<dyn OnlineStore>,
        clock: Clock,
        options: JobOptions,
    ) -> Result<Self, JobError> {
        let views = features.registry().views().to_vec();
        let mut checkpoint = Checkpoint::open(&options.checkpoint_file, options.state_hook.as_ref())?;
        let partitions = log.partitions(Topic::Signals);
        let mut shards: Vec<Shard> = (0..partitions).map(|p| Shard::new(p, &views)).collect();
        let budget = options.memory_budget;
        let mut restored = checkpoint.load(&views, budget)?;
        if !features.history().durable_position()?.covers(&restored.position) {
            // History is written before the checkpoint, so it was lost or moved away since. Only the log has
            // what both need.
            tracing::warn!("history is behind the checkpoint; both are built again from the log");
            drop(checkpoint);
            checkpoint = Checkpoint::start_over(&options.checkpoint_file, options.state_hook.as_ref())?;
            restored = checkpoint.load(&views, budget)?;
        }
        for (p, t) in restored.watermarks {
            if let Some(s) = shards.get_mut(p as usize) {
                s.watermark = t;
            }
        }
        for (p, keys) in restored.seen {
            if let Some(s) = shards.get_mut(p as usize) {
                s.seen.restore(keys.into_iter());
            }
        }
        let held = features.registry().held().clone();
        let mut spiller = Spiller::new(budget, held.clone(), checkpoint.chunks());
        for (view, row) in restored.rows {
            let p = ingest::log::partition_of(&row.entity, partitions);
            spiller.note(&row);
            shards[p as usize].restore(view.id, row);
        }
        let (eraser, erasures) = mpsc::channel(16);
        let backfills = Backfills::open(features.history().clone(), &views, &restored.notes, clock())?;
        let mut job = Job {
            log,
            catalogue,
            online,
            history: features.history().clone(),
            applied: features.applied().clone(),
            quality: features.quality().clone(),
            clock,
            options,
            checkpoint: Arc::new(checkpoint),
            heard: vec![Instant::now(); shards.len()],
            shards,
            saved: restored.position.clone(),
            position: restored.position,
            saving: None,
            unsaved: None,
            saved_at: Instant::now(),
            collected_at: Millis::MIN,
            collecting: None,
            held,
            spiller: Arc::new(Mutex::new(spiller)),
            erasures,
            eraser,
            backfills,
            views,
        };
        job.fill_new_views(&restored.new_views)?;
        for s in &job.shards {
            job.online.put_many(s.rows().collect())?;
        }
        job.applied.advance(&job.position);
        Ok(job)
    }

    /// Views that came since the last run start from history, so that they do not begin empty.
    pub(super) fn fill_new_views(&mut self, fresh: &[Arc<View>]) -> Result<(), JobError> {
        for view in fresh {
            let oldest = self.shards.iter().map(|s| s.watermark).min().unwrap_or(Millis::MIN);
            let after = oldest.saturating_sub(view.horizon());
            let past = PastEvents::between(&*self.history, view, None, after, None)?;
            let mut changes = Changes::default();
            for shard in &mut self.shards {
                shard.fill(view, &past, &mut changes)?;
            }
            let rows = changes.rows.len();
            tracing::info!(view = %view.name, entities = rows, "a new view was filled from history");
        }
        Ok(())
    }
}
