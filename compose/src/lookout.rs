//! Looks every second whether log, online store and history answer and how far values are behind, so that readiness
//! names the part that is away and values that grew old are marked stale.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use features::FeatureStore;
use ingest::log::{Log, Position, Topic};
use tokio_util::sync::CancellationToken;

use crate::ports::health::{HISTORY, LOG, ONLINE, Parts};

const EVERY: Duration = Duration::from_secs(1);
/// A part that has not answered within so long is away.
const PATIENCE: Duration = Duration::from_secs(5);
/// Values without a signal that has been in the log for so long are stale.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// What is looked at.
pub struct Lookout {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Features, where the process has them.
    pub features: Option<FeatureStore>,
    /// Who is told.
    pub health: Arc<Parts>,
}

impl Lookout {
    /// Looks until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut ends: VecDeque<(Instant, Position)> = VecDeque::new();
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if stop.run_until_cancelled(self.look(&mut ends)).await.is_none() {
                break;
            }
        }
        Ok(())
    }

    async fn look(&self, ends: &mut VecDeque<(Instant, Position)>) {
        let log = self.log.clone();
        let end = blocking(move || log.reachable().map(|()| log.end(Topic::Signals))).await;
        self.health.found(LOG, end.as_ref().err().cloned());
        let Some(features) = &self.features else { return };
        if features.online().resident().is_none() {
            let asked = tokio::time::timeout(PATIENCE, features.refresh()).await;
            let trouble = match asked {
                Ok(answer) => answer.err().map(|e| e.to_string()),
                Err(_) => Some(late()),
            };
            self.health.found(ONLINE, trouble);
        }
        let history = features.history().clone();
        self.health.found(HISTORY, blocking(move || history.reachable()).await.err());

        let now = Instant::now();
        if let Ok(end) = end {
            ends.push_back((now, end));
        }
        // The newest end that is old enough, and those after it.
        while ends.get(1).is_some_and(|(seen, _)| now.duration_since(*seen) >= STALE_AFTER) {
            ends.pop_front();
        }
        let due = ends.front().filter(|(seen, _)| now.duration_since(*seen) >= STALE_AFTER);
        features.set_behind(due.is_some_and(|(_, end)| !features.applied().position().covers(end)));
    }
}

/// Runs what may block on a thread for that, and no longer than [`PATIENCE`].
async fn blocking<T, E>(ask: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, String>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    match tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(ask)).await {
        Ok(Ok(answer)) => answer.map_err(|e| e.to_string()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(late()),
    }
}

fn late() -> String {
    format!("no answer within {} s", PATIENCE.as_secs())
}
