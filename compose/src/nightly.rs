//! The shadow, trained anew each night.

use std::{sync::Arc, time::Duration};

use features::Registry;
use indicatif::ProgressBar;
use ingest::{Clock, Millis, log::Log};
use pipelines::train::{Window, policy};
use scorer::{
    learn::{Brief, Steering},
    policy::PolicyConfig,
};
use tokio_util::sync::CancellationToken;

use crate::{
    commands::train,
    config::Settings,
    parts::{self, Core, Scoring},
};

/// How often it is looked whether it is time.
const LOOK_EVERY: Duration = Duration::from_secs(20);
const HOUR_MS: Millis = 3_600_000;
const DAY_MS: Millis = 24 * HOUR_MS;

/// Trains the shadow at one hour of the day and registers its snapshot, from which the shadow goes on.
pub struct Nightly {
    hour: u8,
    days: Option<u32>,
    settings: Settings,
    shadow: PolicyConfig,
    log: Arc<dyn Log>,
    brief: Arc<Brief>,
    steering: Steering,
}

impl Nightly {
    /// Nothing where no hour is set.
    pub fn new(settings: &Settings, core: &Core, scoring: &Scoring, registry: &Registry) -> Option<Nightly> {
        let layout = scoring.scorer.parts().layout.clone();
        Some(Nightly {
            hour: settings.train.hour?,
            days: settings.train.days,
            settings: settings.clone(),
            shadow: settings.scorer.shadow.clone()?,
            log: core.log.clone(),
            brief: Arc::new(parts::brief(settings, &scoring.tips, layout, registry)),
            steering: scoring.learning.steering(),
        })
    }

    /// Runs until `stop`. A training that fails is told and tried again the next night; one that is cut goes on
    /// where it was, if the next start comes within its hour.
    pub async fn run(self, clock: Clock, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let nightly = Arc::new(self);
        let mut done: Option<Millis> = None;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let now = clock();
            let Some(day) = due(nightly.hour, now, done) else { continue };
            done = Some(day);
            if let Err(why) = nightly.clone().train(day, now, stop.clone()).await {
                tracing::error!(why, "the shadow was not trained; it is tried again tomorrow");
            }
        }
        Ok(())
    }

    async fn train(self: Arc<Self>, day: Millis, now: Millis, stop: CancellationToken) -> Result<(), String> {
        let from = self.days.map(|days| (day - i64::from(days)) * DAY_MS);
        let window = Window { from, to: None };
        let job = train::job(&self.settings, self.shadow.clone(), window);
        let (log, brief, teaching) = (self.log.clone(), self.brief.clone(), job.clone());
        let taught = tokio::task::spawn_blocking(move || {
            let unseen = ProgressBar::hidden();
            policy::teach(log, brief, &teaching, now, &unseen, || !stop.is_cancelled())
        });
        let Some(saved) = taught.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())? else {
            return Ok(());
        };
        let (name, version) = (saved.name.clone(), saved.version);
        self.steering.take_up(saved).await.map_err(|e| e.to_string())?;
        policy::forget(&job.progress_file).map_err(|e| e.to_string())?;
        tracing::info!(policy = name, version, "the shadow was trained");
        Ok(())
    }
}

/// The day, in days since 1970, whose training is due: its hour has come, and it has not been done.
fn due(hour: u8, now: Millis, done: Option<Millis>) -> Option<Millis> {
    let day = now.div_euclid(DAY_MS);
    let at = now.rem_euclid(DAY_MS) / HOUR_MS;
    (at == i64::from(hour) && done != Some(day)).then_some(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_once_in_its_hour_of_each_day() {
        let at = |day: i64, hour: i64, minute: i64| day * DAY_MS + hour * HOUR_MS + minute * 60_000;
        assert_eq!(due(3, at(9, 2, 59), None), None);
        assert_eq!(due(3, at(9, 3, 0), None), Some(9));
        assert_eq!(due(3, at(9, 3, 1), Some(9)), None, "done");
        assert_eq!(due(3, at(9, 4, 0), None), None, "too late, tomorrow again");
        assert_eq!(due(3, at(10, 3, 30), Some(9)), Some(10));
    }
}
