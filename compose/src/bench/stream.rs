//! The stream job at full speed: signals waiting in the log, through ten views with three windows each, beside
//! the same features computed once as a batch.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use ::ingest::admit::Incoming;
use features::{Applied, FeatureStore, Registry, online};
use serde_json::json;
use stream_jobs::{Job, JobOptions};
use tokio::sync::watch;

use super::{
    batch,
    figures::{Bound, Figure},
    rows,
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
pub const VIEWS: [(&str, &str); 10] = [
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
const PEOPLE: usize = 10_000;
const BATCH: usize = 5_000;
/// A million signals in three seconds.
const SECONDS_A_SIGNAL: f64 = 3e-6;
/// Of the log, from end to end.
const SIGNALS_A_SECOND: f64 = 300_000.0;
/// A hundred times what a push into Feast's online store manages at its best (3,450 rows/s, beside Redis).
const HUNDRED_PUSHES: f64 = 345_000.0;
/// What streaming may cost over computing everything once.
const OVER_BATCH: f64 = 4.0;

/// What the stream is measured with.
#[derive(Debug, Clone, clap::Args)]
pub struct StreamArgs {
    /// Signals for `stream`
    #[arg(id = "stream_signals", long = "stream-signals", default_value_t = 1_000_000, value_name = "N")]
    pub signals: usize,
    /// Keep the rows of `stream` in this directory, as Parquet
    #[arg(long, value_name = "DIR")]
    pub rows: Option<PathBuf>,
    /// Another reference for `stream`: a program that is given the directory of rows and whose last line is
    /// JSON with `seconds`, such as `python docs/bench/polars_reference.py`
    #[arg(long, value_name = "COMMAND")]
    pub reference: Option<String>,
}

/// Fills a log, then lets a job that knows nothing yet apply it; then the same rows as Arrow batches, and as
/// one batch in the references.
pub async fn measure(settings: &Settings, arguments: &StreamArgs) -> Result<Vec<Figure>> {
    let signals = arguments.signals;
    let data = Directory::new("stream")?;
    let mut settings = settings.clone();
    settings.data.dir.clone_from(&data.0);
    let core = Core::open(&settings, clock::system())?;
    let position = fill(&core, signals).await?;
    let registry = Registry::from_texts(&core.catalogue, &VIEWS).map_err(broken)?;
    let registry = Arc::new(registry);
    let from_log = from_log(&settings, &core, registry.clone(), position).await?;

    let decoded = rows::decoded(&core)?;
    let online = online::open("embedded:", &online::OnlineOptions::new(VIEWS.len())).map_err(broken)?;
    let began = Instant::now();
    rows::apply_all(registry.views(), &*online, &decoded)?;
    let from_arrow = began.elapsed().as_secs_f64();

    let tables = rows::by_table(&decoded);
    let at = decoded.iter().flatten().map(|(newest, _)| *newest).max().unwrap_or_default();
    let datafusion = batch::datafusion(&core.catalogue, registry.views(), &tables, at).await?;
    let mut figures = vec![
        Figure::alone(format!("stream job, {signals} signals, 10 views x 3 windows"), from_log, "s"),
        Figure::alone("stream job, from the log", signals as f64 / from_log, "signals/s")
            .hold(Bound::AtLeast(SIGNALS_A_SECOND)),
        Figure::alone("stream job, from Arrow batches", from_arrow, "s")
            .hold(Bound::AtMost(signals as f64 * SECONDS_A_SIGNAL)),
        Figure::alone("stream job, from Arrow batches", signals as f64 / from_arrow, "signals/s")
            .hold(Bound::AtLeast(HUNDRED_PUSHES)),
    ];
    let mut fastest = ("one batch in DataFusion", datafusion);
    let kept = arguments.rows.clone().or_else(|| arguments.reference.as_ref().map(|_| data.0.join("rows")));
    if let Some(dir) = kept {
        batch::write(&dir, &tables, at)?;
        if let Some(command) = &arguments.reference {
            let other = batch::other(command, &dir)?;
            figures.push(Figure::alone("the same as one batch in the other reference", other, "s"));
            if other < fastest.1 {
                fastest = ("one batch in the other reference", other);
            }
        }
    }
    figures.push(Figure::alone("the same as one batch in DataFusion", datafusion, "s"));
    figures.push(
        Figure::alone("stream job, from Arrow batches, over one batch", from_arrow, "s")
            .beside(fastest.0, fastest.1)
            .hold(Bound::AtMost(OVER_BATCH)),
    );
    Ok(figures)
}

fn broken(e: impl std::fmt::Display) -> Error {
    Error::Broken(format!("stream: {e}"))
}

/// Seconds the whole job takes for what the log holds, decoding and history included.
async fn from_log(
    settings: &Settings,
    core: &Core,
    registry: Arc<Registry>,
    position: ::ingest::log::Position,
) -> Result<f64> {
    let (job, store) = open(settings, core, registry)?;
    let (stop, stopping) = watch::channel(false);
    let began = Instant::now();
    let running = tokio::spawn(job.run(stopping));
    store.wait_for(&position, Duration::from_secs(600)).await.map_err(broken)?;
    let seconds = began.elapsed().as_secs_f64();
    // The job holds the other end until it is told.
    let _ = stop.send(true);
    running.await.map_err(broken)?.map_err(broken)?;
    Ok(seconds)
}

/// The job over these views and the store it fills, in the data directory.
pub(super) fn open(settings: &Settings, core: &Core, registry: Arc<Registry>) -> Result<(Job, FeatureStore)> {
    let history = parts::history(settings, core.clock.clone())?;
    let online =
        online::open("embedded:", &online::OnlineOptions::new(registry.views().len())).map_err(broken)?;
    let store = FeatureStore::new(registry, online.clone(), history, Applied::default());
    let options = JobOptions::new(settings.data.dir.join("features.redb"));
    let (log, catalogue) = (core.log.clone(), core.catalogue.clone());
    let job = Job::open(log, catalogue, &store, online, core.clock.clone(), options).map_err(broken)?;
    Ok((job, store))
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
