//! What watches the features beside the stream job: their quality on `/metrics`, and samples compared with
//! their SQL.

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use features::FeatureStore;
use ingest::{
    Clock, Millis,
    log::{Log, Position, Topic},
};
use metrics::gauge;
use pipelines::verify::watch::Watch;
use tokio_util::sync::CancellationToken;

/// How often the end of the log is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks between two exports to `/metrics`.
const EXPORT_EVERY: u32 = 5;
/// Looks between two saves of what was counted.
const SAVE_EVERY: u32 = 60;
/// Ends of the log remembered; beyond, the newest is moved on.
const ENDS: usize = 256;

/// How long the oldest record that is not applied has been seen to wait. It needs nothing of the job, so it
/// tells of one that hangs.
#[derive(Debug, Default)]
struct Unapplied(VecDeque<(Millis, Position)>);

impl Unapplied {
    /// What has waited, at `now`, given the end of the log and how far it is applied.
    fn look(&mut self, end: Position, applied: &Position, now: Millis) -> Millis {
        while self.0.front().is_some_and(|(_, end)| applied.covers(end)) {
            self.0.pop_front();
        }
        if !applied.covers(&end) && self.0.back().is_none_or(|(_, last)| *last != end) {
            if self.0.len() >= ENDS {
                self.0.pop_back();
            }
            self.0.push_back((now, end));
        }
        self.0.front().map_or(0, |(since, _)| now - since)
    }
}

/// Puts the quality of the features on `/metrics` and keeps what it rests on across restarts.
pub async fn quality(
    store: FeatureStore,
    log: Arc<dyn Log>,
    clock: Clock,
    file: PathBuf,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let mut unapplied = Unapplied::default();
    let mut looks = 0u32;
    let save = |store: FeatureStore, file: PathBuf| async move {
        let saved = tokio::task::spawn_blocking(move || store.quality().save(&file)).await;
        if let Ok(Err(e)) = saved {
            tracing::warn!(error = %e, "the counts behind drift were not saved; they are tried again later");
        }
    };
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        looks = looks.wrapping_add(1);
        let now = clock();
        let waiting = unapplied.look(log.end(Topic::Signals), &store.applied().position(), now);
        gauge!(stream_jobs::metrics::UNAPPLIED).set(waiting as f64 / 1e3);
        if looks.is_multiple_of(EXPORT_EVERY) {
            let store = store.clone();
            let _ = tokio::task::spawn_blocking(move || store.quality().export(now, waiting)).await;
        }
        if looks.is_multiple_of(SAVE_EVERY) {
            save(store.clone(), file.clone()).await;
        }
    }
    save(store, file).await;
    Ok(())
}

/// Compares one entity and view after another with their SQL, `per_minute` of them.
pub async fn verify(
    mut watch: Watch,
    per_minute: u32,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), tokio::task::JoinError> {
    let pause = Duration::from_secs(60) / per_minute.max(1);
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let now = clock();
        let here = tokio::runtime::Handle::current();
        watch = tokio::task::spawn_blocking(move || {
            // History is read from disk.
            here.block_on(watch.step(now));
            watch
        })
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position([(0, offset)].into())
    }

    #[test]
    fn what_waits_is_measured_from_when_it_was_first_seen() {
        let mut unapplied = Unapplied::default();
        assert_eq!(unapplied.look(at(5), &at(5), 100), 0);
        assert_eq!(unapplied.look(at(8), &at(5), 200), 0, "seen just now");
        assert_eq!(unapplied.look(at(9), &at(5), 1_200), 1_000);
        assert_eq!(unapplied.look(at(9), &at(8), 1_300), 100, "the first of them is applied");
        assert_eq!(unapplied.look(at(9), &at(9), 1_400), 0);
    }

    #[test]
    fn a_job_that_hangs_for_long_is_still_measured_from_the_first() {
        let mut unapplied = Unapplied::default();
        for i in 0..10_000 {
            unapplied.look(at(1 + i as u64), &at(0), i);
        }
        assert_eq!(unapplied.look(at(10_000), &at(0), 10_000), 10_000);
        assert!(unapplied.0.len() <= ENDS);
    }
}
