//! The stream job at full speed: signals waiting in the log, through ten views with three windows each.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::ingest::admit::Incoming;
use features::{Applied, FeatureStore, Registry, online};
use serde_json::json;
use stream_jobs::{Job, JobOptions};
use tokio::sync::watch;

use super::{
    figures::{Bound, Figure},
    subject::Directory,
};
use crate::{
    clock,
    config::Settings,
    demo::world::{DAY, MINUTE},
    error::{Error, Result},
    parts::{self, Core},
};

/// Shipped views over ten types of signals.
const VIEWS: [(&str, &str); 10] = [
    ("task_activity.sql", include_str!("../../../features/views/task_activity.sql")),
    ("task_load.sql", include_str!("../../../features/views/task_load.sql")),
    ("task_snoozes.sql", include_str!("../../../features/views/task_snoozes.sql")),
    ("movement.sql", include_str!("../../../features/views/movement.sql")),
    ("mood_trend.sql", include_str!("../../../features/views/mood_trend.sql")),
    ("stress.sql", include_str!("../../../features/views/stress.sql")),
    ("calendar_density.sql", include_str!("../../../features/views/calendar_density.sql")),
    ("code_rhythm.sql", include_str!("../../../features/views/code_rhythm.sql")),
    ("inbox.sql", include_str!("../../../features/views/inbox.sql")),
    ("listening.sql", include_str!("../../../features/views/listening.sql")),
];
const PEOPLE: usize = 2_000;
const BATCH: usize = 5_000;
/// A million signals in three seconds.
const SECONDS_A_SIGNAL: f64 = 3e-6;

/// Fills a log, then lets a job that knows nothing yet apply it.
pub async fn measure(settings: &Settings, signals: usize) -> Result<Vec<Figure>> {
    let broken = |e: &dyn std::fmt::Display| Error::Broken(format!("stream: {e}"));
    let data = Directory::new("stream")?;
    let mut settings = settings.clone();
    settings.data.dir.clone_from(&data.0);
    let clock = clock::system();
    let core = Core::open(&settings, clock.clone())?;
    let position = fill(&core, signals).await?;

    let registry = Arc::new(Registry::from_texts(&core.catalogue, &VIEWS).map_err(|e| broken(&e))?);
    let history = parts::history(&settings, clock.clone())?;
    let online = online::open("embedded:", VIEWS.len()).map_err(|e| broken(&e))?;
    let store = FeatureStore::new(registry, online.clone(), history, Applied::default());
    let options = JobOptions::new(data.0.join("features.redb"));
    let job = Job::open(core.log.clone(), core.catalogue.clone(), &store, online, clock, options)
        .map_err(|e| broken(&e))?;
    let (stop, stopping) = watch::channel(false);
    let began = Instant::now();
    let running = tokio::spawn(job.run(stopping));
    store.wait_for(&position, Duration::from_secs(600)).await.map_err(|e| broken(&e))?;
    let seconds = began.elapsed().as_secs_f64();
    // The job holds the other end until it is told.
    let _ = stop.send(true);
    running.await.map_err(|e| broken(&e))?.map_err(|e| broken(&e))?;
    Ok(vec![
        Figure::alone(format!("stream job, {signals} signals, 10 views x 3 windows"), seconds, "s")
            .hold(Bound::AtMost(signals as f64 * SECONDS_A_SIGNAL)),
        Figure::alone("stream job, signals through all views", signals as f64 / seconds, "signals/s"),
    ])
}

async fn fill(core: &Core, signals: usize) -> Result<::ingest::log::Position> {
    let now = (core.clock)();
    let mut lines = Vec::with_capacity(BATCH);
    let mut position = ::ingest::log::Position::default();
    for number in 0..signals {
        lines.push(line(number, signals, now));
        if lines.len() == BATCH || number + 1 == signals {
            let items = lines.iter().map(|l: &String| Incoming::Json(l.as_bytes())).collect();
            let admission =
                core.door.admit(now, items).await.map_err(|e| Error::Unavailable(format!("stream: {e}")))?;
            if let Some(refusal) = admission.rejected.first() {
                return Err(Error::Broken(format!("stream: a signal was refused: {}", refusal.message)));
            }
            for (partition, offset) in admission.position.0 {
                position.0.insert(partition, offset);
            }
            lines.clear();
        }
    }
    Ok(position)
}

fn line(number: usize, signals: usize, now: i64) -> String {
    let (kind, data) = match number % 9 {
        0 => (
            "task.created",
            json!({"task": number.to_string(), "project": "p", "priority": "high", "estimate_minutes": 30}),
        ),
        1 => ("task.completed", json!({"task": number.to_string(), "project": "p", "minutes": number % 90})),
        2 => ("task.snoozed", json!({"task": number.to_string(), "times": 1})),
        3 => ("steps.counted", json!({"steps": number % 2_000})),
        4 => ("mood.reported", json!({"mood": number % 5 + 1, "stress": number % 4 + 1})),
        5 => (
            "calendar.event",
            json!({"event": number.to_string(), "kind": "meeting", "minutes": 30, "attendees": 4}),
        ),
        6 => ("code.pushed", json!({"repo": "r", "files": number % 9, "commits": 1})),
        7 => ("mail.received", json!({"reply": number.is_multiple_of(3), "bulk": false})),
        _ => ("listen.played", json!({"genre": "jazz", "minutes": 3.5})),
    };
    // A week of signals in order of time, as a log holds them.
    let time = now - 7 * DAY - MINUTE + (number as f64 / signals as f64 * (7 * DAY) as f64) as i64;
    json!({
        "id": number.to_string(),
        "source": "bench",
        "type": kind,
        "subject": format!("person-{}", number * 7_919 % PEOPLE),
        "time": jiff::Timestamp::from_millisecond(time).unwrap_or_default().to_string(),
        "data": data,
    })
    .to_string()
}
