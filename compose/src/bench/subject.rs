//! The program under test: every role in this process, on a directory that goes away afterwards.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use ::ingest::{
    Clock,
    admit::{Door, Incoming},
    auth::{Gate, GateOptions, Keys},
    log::{Log, Topic},
};
use bytes::Bytes;
use features::FeatureStore;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use scorer::Scorer;
use serde_json::json;

use super::bare::{self, Server};
use crate::{
    clock,
    config::Settings,
    demo::world,
    error::{Error, Result},
    parts::Core,
    process::{self, Process, Tasks},
    telemetry,
};

/// People whose signals are there before the first measurement.
const PEOPLE: usize = 200;
/// How much of their life is there.
const PAST: i64 = 8 * world::DAY;

/// The running program.
pub struct Subject {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its door.
    pub door: Arc<Door>,
    /// Its log.
    pub log: Arc<dyn Log>,
    /// Its features.
    pub features: FeatureStore,
    /// Its time.
    pub clock: Clock,
    /// Its decisions.
    pub scorer: Scorer,
    /// People it knows.
    pub people: Vec<String>,
    process: Process,
    server: Server,
    data: Directory,
}

impl Subject {
    /// Starts it and lets it learn about some people.
    pub async fn start(mut settings: Settings) -> Result<Subject> {
        let data = Directory::new("subject")?;
        settings.data.dir.clone_from(&data.0);
        // What is measured is the decision, so no rule may answer instead of it.
        settings.scorer.rules.tips_per_hour = usize::MAX;
        settings.scorer.rules.tips_per_day = usize::MAX;
        settings.scorer.rules.dismissals = 0;
        // Nor may what was shown before make the choice smaller: it would be, after a second of this.
        settings.scorer.rules.keep_at_least = usize::MAX;
        let clock = clock::system();
        let gate = Gate::new(Keys::open(), GateOptions::default());
        let core = Core::open(&settings, clock.clone())?;
        let (door, log) = (core.door.clone(), core.log.clone());
        let tasks = Tasks { ingest: true, stream: true, score: true, ..Tasks::default() };
        let full = process::start_full(&settings, core, &gate, tasks, telemetry::start()?, 1)?;
        let server = bare::start(full.app).await?;
        let people = tell_past(&door, &full.features, clock()).await?;
        Ok(Subject {
            address: server.address,
            door,
            log,
            features: full.features,
            clock,
            scorer: full.scorer,
            people,
            process: full.process,
            server,
            data,
        })
    }

    /// Waits until everything admitted so far is in the features, so that one measurement leaves nothing to
    /// the next.
    pub async fn settle(&self) -> Result<()> {
        let end = self.log.end(Topic::Signals);
        let applied = self.features.wait_for(&end, Duration::from_secs(120)).await;
        applied.map_err(|e| Error::Unavailable(format!("the stream job does not keep up: {e}")))
    }

    /// The answer to one question as JSON.
    pub async fn ask(&self, path: &str, question: Bytes) -> Result<Bytes> {
        let broken = |e: &dyn std::fmt::Display| Error::Broken(format!("{path}: {e}"));
        let request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/json")
            .body(Full::new(question))
            .map_err(|e| broken(&e))?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.request(request).await.map_err(|e| broken(&e))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|e| broken(&e))?.to_bytes();
        if status != StatusCode::OK {
            return Err(broken(&format!("it answered {status}: {}", String::from_utf8_lossy(&body))));
        }
        Ok(body)
    }

    /// Stops it in order; its directory goes last.
    pub async fn stop(self) -> Result<()> {
        let Subject { door, features, log, scorer, process, server, data, .. } = self;
        server.stop().await?;
        process.stop().await?;
        drop((door, features, log, scorer));
        drop(data);
        Ok(())
    }
}

/// One signal as a service would post it.
pub fn signal(number: u64, subject: &str) -> Bytes {
    let signal = json!({
        "id": format!("bench-{number}"),
        "source": "bench",
        "type": "task.completed",
        "subject": subject,
        "data": {"task": format!("task-{number}"), "project": "bench", "minutes": number % 90 + 1, "priority": "high"},
    });
    signal.to_string().into()
}

async fn tell_past(door: &Door, features: &FeatureStore, now: i64) -> Result<Vec<String>> {
    let mut people = world::people(PEOPLE, 1, now - PAST);
    let mut lines: Vec<(i64, String)> = Vec::new();
    for person in &mut people {
        for signal in person.signals_until(now) {
            lines.push((signal.time, signal.envelope(person)));
        }
    }
    lines.sort_by_key(|(time, _)| *time);
    let mut position = ::ingest::log::Position::default();
    for batch in lines.chunks(1_000) {
        let items = batch.iter().map(|(_, line)| Incoming::Json(line.as_bytes())).collect();
        let admission = door.admit(now, items).await.map_err(|e| Error::Unavailable(e.to_string()))?;
        if let Some(refusal) = admission.rejected.first() {
            return Err(Error::Broken(format!("a signal of the bench was refused: {}", refusal.message)));
        }
        position = admission.position;
    }
    features
        .wait_for(&position, Duration::from_secs(60))
        .await
        .map_err(|e| Error::Unavailable(e.to_string()))?;
    Ok(people.into_iter().map(|p| p.id).collect())
}

/// A directory that goes away when dropped.
pub struct Directory(pub PathBuf);

impl Directory {
    /// Makes one under the system's directory for temporary files.
    pub fn new(name: &str) -> Result<Directory> {
        let dir = std::env::temp_dir().join(format!("kairos-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|e| crate::error::on_file("make", &dir, &e))?;
        Ok(Directory(dir))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(dir = %self.0.display(), error = %e, "the bench's data could not be removed");
        }
    }
}
