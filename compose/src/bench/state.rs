//! A large state: what a checkpoint costs the job, and how long a start from it takes.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ::ingest::{
    catalogue::UnknownFields,
    log::{Append, Log, LogRecord, Topic},
    record::Record,
};
use features::{FeatureStore, Registry};
use serde_json::json;
use stream_jobs::Job;

use super::{
    figures::{Bound, Figure},
    stream::VIEWS,
    subject::Directory,
};
use crate::{
    clock,
    config::Settings,
    demo::world::DAY,
    error::{Error, Result},
    parts::Core,
};

/// Signals a person has.
const EACH: usize = 100;
/// Signals appended, applied and saved together.
const STEP: usize = 500_000;
const BATCH: usize = 65_536;

/// Fills a job with a checkpoint every now and then, and starts it again.
pub async fn measure(settings: &Settings, signals: usize) -> Result<Vec<Figure>> {
    let data = Directory::new("state")?;
    let mut settings = settings.clone();
    settings.data.dir.clone_from(&data.0);
    let core = Core::open(&settings, clock::system())?;
    let mut made = Made::new(&core, signals)?;
    let (mut job, store) = open(&settings, &core)?;
    let mut longest = Duration::ZERO;
    let mut saving = Duration::ZERO;
    let partitions: Vec<u32> = (0..core.log.partitions(Topic::Signals)).collect();
    while made.append(&*core.log, STEP).await? > 0 {
        let mut reader = core.log.reader(Topic::Signals, &partitions, job.position())?;
        loop {
            let records: Vec<LogRecord> = reader.poll(BATCH)?;
            if records.is_empty() {
                break;
            }
            job.apply(&records).map_err(broken)?;
        }
        let began = Instant::now();
        let mut save = LongestPoll { future: Box::pin(job.save()), longest: Duration::ZERO };
        (&mut save).await.map_err(broken)?;
        longest = longest.max(save.longest);
        saving = saving.max(began.elapsed());
    }
    let resident = resident();
    let before = probe(&store, &core)?;
    drop((job, store));

    let began = Instant::now();
    let (job, store) = open(&settings, &core)?;
    let recovery = began.elapsed();
    if probe(&store, &core)? != before {
        return Err(broken("values differ after the start"));
    }
    drop(job);
    let millis = |d: Duration| d.as_secs_f64() * 1e3;
    let mut figures = vec![
        Figure::alone(format!("checkpoint of {STEP} new signals, longest stall"), millis(longest), "ms")
            .hold(Bound::AtMost(20.0)),
        Figure::alone(format!("checkpoint of {STEP} new signals, until durable"), millis(saving), "ms"),
        Figure::alone(format!("recovery of a state of {signals} signals"), recovery.as_secs_f64(), "s")
            .hold(Bound::AtMost(signals as f64 * 5e-7)),
    ];
    if let Some(bytes) = resident {
        figures.push(Figure::alone("resident memory with that state", bytes / signals as f64, "B/signal"));
    }
    Ok(figures)
}

fn broken(e: impl std::fmt::Display) -> Error {
    Error::Broken(format!("state: {e}"))
}

fn open(settings: &Settings, core: &Core) -> Result<(Job, FeatureStore)> {
    let registry = Arc::new(Registry::from_texts(&core.catalogue, &VIEWS).map_err(broken)?);
    super::stream::open(settings, core, registry)
}

/// Every feature of some people, to be compared.
fn probe(store: &FeatureStore, core: &Core) -> Result<Vec<Vec<features::Value>>> {
    let names: Vec<String> = store.registry().feature_names().collect();
    let prepared = store.registry().prepare(&names).map_err(broken)?;
    // One instant for both.
    let now = (core.clock)() / DAY * DAY;
    let people = (0..10).map(|i| store.read_here(&prepared, &format!("person-{i}"), now));
    people.map(|row| row.map(|row| row.values).map_err(broken)).collect()
}

/// A future that notes how long it kept its thread at a time: so long nothing else of the job could run.
struct LongestPoll<'f, T> {
    future: Pin<Box<dyn Future<Output = T> + 'f>>,
    longest: Duration,
}

impl<T> Future for LongestPoll<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let began = Instant::now();
        let answer = self.future.as_mut().poll(cx);
        self.longest = self.longest.max(began.elapsed());
        answer
    }
}

/// Makes signals straight for the log, as the door would have encoded them.
struct Made {
    /// Type and encoded values, in turn.
    kinds: Vec<(String, bytes::Bytes)>,
    people: usize,
    signals: usize,
    next: usize,
    begin: i64,
}

impl Made {
    fn new(core: &Core, signals: usize) -> Result<Made> {
        let kinds = [
            (
                "task.created",
                json!({"task": "t", "project": "p", "priority": "high", "estimate_minutes": 30}),
            ),
            ("task.completed", json!({"task": "t", "project": "p", "minutes": 25})),
            ("task.snoozed", json!({"task": "t", "times": 1})),
            ("steps.counted", json!({"steps": 900})),
            ("mood.reported", json!({"mood": 4, "stress": 2})),
            ("calendar.event", json!({"event": "e", "kind": "meeting", "minutes": 30, "attendees": 4})),
            ("code.pushed", json!({"repo": "r", "files": 3, "commits": 1})),
            ("mail.received", json!({"reply": true, "bulk": false})),
            ("listen.played", json!({"genre": "jazz", "minutes": 3.5})),
        ];
        let encode = |(name, data): (&str, serde_json::Value)| {
            let kind = core.catalogue.get(name).ok_or_else(|| broken(format!("{name} is not declared")))?;
            let data = kind.encode_value(&data, UnknownFields::Reject).map_err(broken)?;
            Ok((kind.name.clone(), data.into()))
        };
        Ok(Made {
            kinds: kinds.into_iter().map(encode).collect::<Result<_>>()?,
            people: (signals / EACH).max(1),
            signals,
            next: 0,
            begin: (core.clock)() - 7 * DAY,
        })
    }

    /// Appends the next signals; answers how many.
    async fn append(&mut self, log: &dyn Log, most: usize) -> Result<usize> {
        let until = (self.next + most).min(self.signals);
        let appends = (self.next..until).map(|n| {
            let (kind, data) = &self.kinds[n % self.kinds.len()];
            // A week of signals, in order of time.
            let time = self.begin + (n as f64 / self.signals as f64 * (7 * DAY) as f64) as i64;
            let record = Record {
                kind: kind.clone(),
                id: n.to_string(),
                source: "bench".to_owned(),
                subject: format!("person-{}", n % self.people),
                time,
                received_at: time,
                data: data.clone(),
                extensions: Vec::new(),
            };
            Append { subject: record.subject.clone(), key: record.key(), payload: record.encode() }
        });
        let appends: Vec<Append> = appends.collect();
        let count = appends.len();
        if count > 0 {
            log.append(Topic::Signals, appends).await?;
        }
        self.next = until;
        Ok(count)
    }
}

/// Bytes of memory this process holds, where the system tells.
fn resident() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kb| kb * 1024.0)
}
