//! The start: state and online store from the checkpoint, new views from history.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use features::{
    FeatureError, FeatureStore, View,
    history::PastEvents,
    online::{OnlineRow, OnlineStore},
};
use ingest::{
    Clock, Millis,
    catalogue::Catalogue,
    log::{Log, Partition, Position, Topic},
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
        let own = own_partitions(&options, partitions)?;
        of_this_log(&features.history().durable_position()?, &log.end(Topic::Signals), &own)?;
        let mut shards: Vec<Shard> = own.iter().map(|p| Shard::new(*p, &views)).collect();
        let place = |p: Partition| own.iter().position(|own| *own == p);
        let shard_of: Vec<Option<usize>> = (0..partitions).map(place).collect();
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
            if let Some(s) = place(p).map(|i| &mut shards[i]) {
                s.watermark = t;
            }
        }
        for (p, keys) in restored.seen {
            if let Some(s) = place(p).map(|i| &mut shards[i]) {
                s.seen.restore(keys.into_iter());
            }
        }
        let held = features.registry().held().clone();
        let mut spiller = Spiller::new(budget, held.clone(), checkpoint.chunks());
        for (view, row) in restored.rows {
            let p = ingest::log::partition_of(&row.entity, partitions);
            let Some(shard) = shard_of[p as usize] else { continue };
            spiller.note(&row);
            shards[shard].restore(view.id, row);
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
            shard_of,
            published: restored.position.clone(),
            waiting: None,
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
        let begun = job.fill_new_views(&restored.new_views)?;
        job.take_up(begun)?;
        Ok(job)
    }

    /// Views that came since the last run start from history, so that they do not begin empty. Answers their rows.
    fn fill_new_views(&mut self, fresh: &[Arc<View>]) -> Result<Vec<OnlineRow>, JobError> {
        let mut begun = Vec::new();
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
            begun.append(&mut changes.rows);
        }
        Ok(begun)
    }
}

/// Refuses a history that knows more of these partitions than the log has: its rows are of another log, and signals
/// of this one below its position would be left out as known.
fn of_this_log(history: &Position, end: &Position, own: &[Partition]) -> Result<(), JobError> {
    match own.iter().find(|p| history.get(**p) > end.get(**p)) {
        None => Ok(()),
        Some(partition) => Err(JobError::OtherLog {
            partition: *partition,
            history: history.get(*partition),
            end: end.get(*partition),
        }),
    }
}

/// The job's partitions among so many, each once, in order.
fn own_partitions(options: &JobOptions, partitions: u32) -> Result<Vec<Partition>, FeatureError> {
    let Some(named) = &options.partitions else { return Ok((0..partitions).collect()) };
    let own: BTreeSet<Partition> = named.iter().copied().collect();
    match own.iter().find(|p| **p >= partitions) {
        Some(p) => Err(FeatureError::Request(format!(
            "there is no partition {p}: the log has {partitions}, numbered from 0; name some of those"
        ))),
        None if own.is_empty() => Err(FeatureError::Request(
            "no partition is named; name at least one, or leave it out for all".into(),
        )),
        None => Ok(own.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_of_another_log_is_refused_and_not_taken_for_known() {
        let at = |text: &str| text.parse::<Position>().unwrap();
        let judged = |history: &str, end: &str, own: &[Partition]| of_this_log(&at(history), &at(end), own);
        assert!(judged("0:5,1:9", "0:5,1:9", &[0, 1]).is_ok());
        assert!(judged("0:5,1:9", "0:7,1:3", &[0]).is_ok(), "the other partition is another job's");
        let told = judged("0:5,1:9", "0:7", &[0, 1]).unwrap_err().to_string();
        assert!(told.contains("another log") && told.contains("history.url"), "{told}");
    }
}
