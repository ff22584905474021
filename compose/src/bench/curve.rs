//! What a signal costs, by the length of the window and of the history behind it; and one entity with very
//! many signals.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use features::{
    Applied, FeatureStore, Registry,
    online::{self, OnlineStore},
};
use stream_jobs::shard::Shard;

use super::{
    figures::{Bound, Figure, Latencies},
    rows::{self, Steps},
    subject::Directory,
};
use crate::{
    clock,
    config::Settings,
    demo::world::{DAY, HOUR},
    error::{Error, Result},
    parts,
};

/// When the signals begin.
const BEGIN: i64 = 1_767_225_600_000;
/// How much time the history spans.
const PAST: i64 = 90 * DAY;
const PEOPLE: usize = 100;
/// Signals in a micro-batch while measuring, as a job that keeps up has them.
const TOGETHER: usize = 1_000;
const MEASURED: usize = 40_000;
const WINDOWS: [(&str, i64); 5] =
    [("1 hour", HOUR), ("1 day", DAY), ("7 days", 7 * DAY), ("30 days", 30 * DAY), ("90 days", 90 * DAY)];
/// How much dearer a signal may be at the far end of a curve than at its near end; costs that grow with
/// window or history would be dearer by hundreds.
const FLAT: f64 = 3.0;
/// Updates and reads of the one entity.
const UPDATES: usize = 500;
const READS: u32 = 2_000;

struct Engine {
    shard: Shard,
    online: Arc<dyn OnlineStore>,
    registry: Arc<Registry>,
    steps: Steps,
}

impl Engine {
    fn new(settings: &Settings, people: usize, window: i64, apart: f64) -> Result<Engine> {
        let catalogue = parts::catalogue(settings)?;
        let sql = format!(
            "CREATE FEATURE VIEW walked ENTITY user_id WINDOWS ({} SECONDS) AS SELECT subject AS user_id, count(*) AS n, \
             sum(steps) AS steps, avg(steps) AS mean, max(steps) AS most, last(steps) AS latest
             FROM steps_counted GROUP BY user_id;",
            window / 1_000
        );
        let registry = Arc::new(Registry::from_texts(&catalogue, &[("curve.sql", &sql)]).map_err(broken)?);
        Ok(Engine {
            shard: Shard::new(0, registry.views()),
            online: online::open("embedded:", &online::OnlineOptions::new(1)).map_err(broken)?,
            steps: Steps::new(&catalogue, people, BEGIN, apart)?,
            registry,
        })
    }

    /// Applies `signals`, `together` at a time; answers the longest micro-batch.
    fn apply(&mut self, signals: usize, together: usize) -> Result<Latencies> {
        let mut left = signals;
        let mut latencies = Latencies::default();
        while left > 0 {
            let batch = self.steps.next(together.min(left))?;
            let rows = batch.1.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>();
            left -= rows;
            let began = Instant::now();
            rows::apply(&mut self.shard, &*self.online, &batch)?;
            latencies.add(began.elapsed());
        }
        Ok(latencies)
    }
}

fn broken(e: impl std::fmt::Display) -> Error {
    Error::Broken(format!("curve: {e}"))
}

/// Microseconds a signal costs after `history` signals over [`PAST`], of [`PEOPLE`] people.
fn cost(settings: &Settings, window: i64, history: usize) -> Result<f64> {
    let mut engine = Engine::new(settings, PEOPLE, window, PAST as f64 / history as f64)?;
    engine.apply(history, usize::MAX)?;
    let began = Instant::now();
    engine.apply(MEASURED, TOGETHER)?;
    Ok(began.elapsed().as_secs_f64() * 1e6 / MEASURED as f64)
}

/// Two curves: over the window with a history of a million, and over the history with a window of 7 days.
pub fn measure(settings: &Settings, most: usize) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut near = None;
    for (label, window) in WINDOWS {
        let figure = Figure::alone(
            format!("cost of a signal, window of {label}"),
            cost(settings, window, most.min(1_000_000))?,
            "µs",
        );
        figures.push(flat(figure, &mut near));
    }
    near = None;
    let mut history = 10_000;
    while history <= most {
        let what = format!("cost of a signal, {history} before it");
        let figure = Figure::alone(what, cost(settings, 7 * DAY, history)?, "µs");
        figures.push(flat(figure, &mut near));
        history *= 10;
    }
    Ok(figures)
}

fn flat(figure: Figure, near: &mut Option<f64>) -> Figure {
    match *near {
        Some(first) => figure.beside("the near end", first).hold(Bound::AtMost(FLAT)),
        None => {
            *near = Some(figure.value);
            figure
        }
    }
}

/// One entity with so many signals in its window: updates by one signal each, and reads.
pub fn one_entity(settings: &Settings, signals: usize) -> Result<Vec<Figure>> {
    let mut engine = Engine::new(settings, 1, 90 * DAY, PAST as f64 / signals as f64 / 2.0)?;
    engine.apply(signals, usize::MAX)?;
    let mut updates = engine.apply(UPDATES, 1)?;

    let data = Directory::new("entity")?;
    let mut settings = settings.clone();
    settings.data.dir.clone_from(&data.0);
    let history = parts::history(&settings, clock::system())?;
    let store =
        FeatureStore::new(engine.registry.clone(), engine.online.clone(), history, Applied::default());
    let names: Vec<String> = engine.registry.feature_names().collect();
    let prepared = engine.registry.prepare(&names).map_err(broken)?;
    let newest = engine.shard.watermark;
    let read = |now: i64| -> Result<f64> {
        let began = Instant::now();
        for _ in 0..READS {
            black_box(store.read_here(black_box(&prepared), "person-0", now).map_err(broken)?);
        }
        Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(READS))
    };
    let fresh = read(newest)?;
    // A day later nothing has left the window, two months later most has.
    let later = read(newest + DAY)?.max(read(newest + 60 * DAY)?);
    let millis = |d: Option<Duration>| d.unwrap_or_default().as_secs_f64() * 1e3;
    let what = |text: &str| format!("one entity, {signals} signals in its window: {text}");
    Ok(vec![
        Figure::alone(what("read"), fresh, "µs").hold(Bound::AtMost(100.0)),
        Figure::alone(what("read when values have aged"), later, "µs").hold(Bound::AtMost(100.0)),
        Figure::alone(what("update, p50"), millis(updates.quantile(0.5)), "ms"),
        Figure::alone(what("update, longest"), millis(updates.quantile(1.0)), "ms").hold(Bound::AtMost(10.0)),
    ])
}
