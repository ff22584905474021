//! The running process: its tasks, started together and stopped in order.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use ingest::{
    auth::Gate,
    http::{HttpOptions, IngestState},
    log::Log,
};
use metrics_exporter_prometheus::PrometheusHandle;
use pipelines::verify::watch::Watch;
use rand::{SeedableRng, rngs::StdRng};
use scorer::memory::Memory;
use stream_jobs::job::Eraser;
use tokio::{sync, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    config::Settings,
    erasures,
    error::{Error, Result},
    lookout::Lookout,
    nightly::Nightly,
    parts::{Core, Features, Scoring},
    ports::{features::Reads, health, people::Everywhere, policies::Registry, tips::Tips},
    watch,
};

const STREAM: &str = "stream";
const JOINER: &str = "rewards";
const LEARNER: &str = "policy";
const MEMORY: &str = "memory";
const ERASURES: &str = "erasures";
const LOOKOUT: &str = "lookout";
const QUALITY: &str = "quality";
const VERIFY: &str = "verify";
const HOUSEKEEPING: &str = "retention";
const TRAINING: &str = "training";
/// How often the log is looked through for what need not be kept.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(600);
/// How often history is tidied up.
const TIDY_EVERY: Duration = Duration::from_secs(30);

/// Which tasks to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tasks {
    /// Signals are taken in over HTTP.
    pub ingest: bool,
    /// The job that keeps features fresh.
    pub stream: bool,
    /// How many samples a minute are compared with their SQL; 0 for none.
    pub verify_per_minute: u32,
    /// What learns.
    pub score: bool,
    /// What follows, to decide, a process that learns.
    pub follow: bool,
    /// What drops what is too old.
    pub retention: bool,
    /// What trains the shadow by night.
    pub train: bool,
}

/// Tasks under way.
pub struct Process {
    core: Core,
    /// Cancelled when a task ended that should not have.
    pub failed: CancellationToken,
    health: Arc<health::Parts>,
    stop_work: CancellationToken,
    stop_stream: sync::watch::Sender<bool>,
    workers: Vec<(&'static str, JoinHandle<()>)>,
    stream: Option<JoinHandle<()>>,
}

/// The parts and routes of a full process.
pub struct Full {
    /// The tasks.
    pub process: Process,
    /// Every route.
    pub app: Router,
    /// For whoever reads features beside the routes.
    pub features: features::FeatureStore,
    /// What can be said.
    pub tips: Arc<scorer::tips::TipCatalogue>,
    /// For whoever decides beside the routes.
    pub scorer: scorer::Scorer,
}

/// Starts everything there is.
pub fn start_full(
    settings: &Settings,
    core: Core,
    gate: &Gate,
    tasks: Tasks,
    metrics: PrometheusHandle,
    seed: u64,
) -> Result<Full> {
    let features = tasks.stream.then(|| Features::open(settings, &core)).transpose()?;
    let store = match &features {
        Some(features) => features.store.clone(),
        None => Features::elsewhere(settings, &core)?,
    };
    let scoring = Scoring::open(settings, &core, &store)?;
    let names = [
        (tasks.stream, STREAM),
        (tasks.score, JOINER),
        (tasks.follow, MEMORY),
        (tasks.score || tasks.follow, LEARNER),
    ];
    let names = names.into_iter().filter_map(|(runs, name)| runs.then_some(name)).collect();
    let health = Arc::new(health::Parts::new(core.log.clone(), store.applied().clone(), names));
    let state = api::AppState {
        features: Arc::new(Reads::new(store.clone())),
        recommends: Arc::new(Tips::new(scoring.scorer.clone(), core.log.clone(), seed)),
        policies: Arc::new(Registry::new(core.log.clone(), &scoring, settings.training_dir(), seed)),
        people: Arc::new(Everywhere::new(
            core.log.clone(),
            store.clone(),
            features.as_ref().map(|f| f.job.eraser()),
            scoring.memory.clone(),
        )),
        health: health.clone(),
        metrics,
        clock: core.clock.clone(),
        request_ids: Arc::new(api::observe::RequestIds::new(seed)),
        limits: api::Limits {
            answer_time: Duration::from_secs(settings.limits.request_seconds),
            ..api::Limits::default()
        },
    };
    let signals = if tasks.ingest { ingestion(settings, &core, gate) } else { OpenApiRouter::new() };
    let app = api::router(state, gate, signals);
    let (tips, scorer) = (scoring.tips.clone(), scoring.scorer.clone());
    let nightly = Nightly::new(settings, &core, &scoring, store.registry()).filter(|_| tasks.train);
    let (memory, eraser) = (scoring.memory.clone(), features.as_ref().map(|f| f.job.eraser()));
    let mut process = Process::start(core, health, tasks, features, Some(scoring));
    process.look_out(Some(store.clone()));
    process.follow_erasures(settings, &store, eraser, Some(memory));
    if let Some(nightly) = nightly {
        let task = nightly.run(process.core.clock.clone(), process.stop_work.clone());
        process.workers.push((TRAINING, process.spawn(TRAINING, task)));
    }
    Ok(Full { process, app, features: store, tips, scorer })
}

/// The routes of ingestion with their description.
pub fn ingestion(settings: &Settings, core: &Core, gate: &Gate) -> OpenApiRouter {
    let options = HttpOptions {
        max_body_bytes: settings.limits.body_bytes,
        timeout_ms: settings.limits.request_seconds * 1_000,
        ..HttpOptions::default()
    };
    let state = IngestState::new(core.door.clone(), gate.clone(), core.clock.clone(), options);
    ingest::http::router(state)
}

impl Process {
    /// Starts the tasks over these parts.
    pub fn start(
        core: Core,
        health: Arc<health::Parts>,
        tasks: Tasks,
        features: Option<Features>,
        scoring: Option<Scoring>,
    ) -> Process {
        let (stop_stream, stopping) = sync::watch::channel(false);
        let mut process = Process {
            failed: CancellationToken::new(),
            health,
            stop_work: CancellationToken::new(),
            stop_stream,
            workers: Vec::new(),
            stream: None,
            core,
        };
        if let Some(Features { store, job, quality_file }) = features {
            process.stream = Some(process.spawn(STREAM, on_a_thread(job.run(stopping))));
            process.watch(store.clone(), quality_file, tasks.verify_per_minute);
            process.tidy(store);
        }
        if let Some(Scoring { joiner, learning, .. }) = scoring {
            let (clock, stop) = (process.core.clock.clone(), process.stop_work.clone());
            if tasks.score {
                let joiner = process.spawn(JOINER, joiner.run(stop.clone()));
                let learning = process.spawn(LEARNER, learning.run(clock, stop));
                process.workers.extend([(JOINER, joiner), (LEARNER, learning)]);
            } else if tasks.follow {
                let memory = process.spawn(MEMORY, joiner.follow(stop.clone()));
                let learning = process.spawn(LEARNER, learning.follow(clock, stop));
                process.workers.extend([(MEMORY, memory), (LEARNER, learning)]);
            }
        }
        if tasks.retention {
            let task =
                retention(process.core.log.clone(), process.core.clock.clone(), process.stop_work.clone());
            let task = process.spawn(HOUSEKEEPING, task);
            process.workers.push((HOUSEKEEPING, task));
        }
        process
    }

    /// How this process is, for its routes.
    pub fn service(&self, settings: &Settings, metrics: PrometheusHandle, seed: u64) -> api::Service {
        api::Service {
            health: self.health.clone(),
            metrics,
            request_ids: Arc::new(api::observe::RequestIds::new(seed)),
            answer_time: Duration::from_secs(settings.limits.request_seconds),
        }
    }

    /// Looks whether what the process stands on answers: see [`lookout`].
    fn look_out(&mut self, features: Option<features::FeatureStore>) {
        let lookout = Lookout { log: self.core.log.clone(), features, health: self.health.clone() };
        let task = self.spawn(LOOKOUT, lookout.run(self.stop_work.clone()));
        self.workers.push((LOOKOUT, task));
    }

    /// Follows what other processes erase: see [`erasures`]. A log of this process alone erases by itself.
    fn follow_erasures(
        &mut self,
        settings: &Settings,
        features: &features::FeatureStore,
        eraser: Option<Eraser>,
        memory: Option<Arc<Memory>>,
    ) {
        if settings.log.url.starts_with("embedded:") {
            return;
        }
        let kept = erasures::Kept {
            log: self.core.log.clone(),
            job: eraser.map(|eraser| (eraser, settings.stream.name())),
            features: features.clone(),
            memory,
        };
        let task = self.spawn(ERASURES, kept.follow(self.stop_work.clone()));
        self.workers.push((ERASURES, task));
    }

    /// Starts the tasks that need neither features nor decisions.
    pub fn bare(core: Core, tasks: Tasks) -> Process {
        let health = Arc::new(health::Parts::new(core.log.clone(), features::Applied::default(), Vec::new()));
        let mut process = Process::start(core, health, tasks, None, None);
        process.look_out(None);
        process
    }

    /// Starts the tasks that need features but no decisions.
    pub fn over(settings: &Settings, core: Core, tasks: Tasks, features: Features) -> Process {
        let (store, eraser) = (features.store.clone(), features.job.eraser());
        let applied = store.applied().clone();
        let health = Arc::new(health::Parts::new(core.log.clone(), applied, vec![STREAM]));
        let mut process = Process::start(core, health, tasks, Some(features), None);
        process.look_out(Some(store.clone()));
        process.follow_erasures(settings, &store, Some(eraser), None);
        process
    }

    fn spawn<E: std::fmt::Display + Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> JoinHandle<()> {
        let (failed, health) = (self.failed.clone(), self.health.clone());
        tokio::spawn(async move {
            // Within a task of its own, so that a panic too is noticed and told.
            let why = match tokio::spawn(async move { task.await.map_err(|e| e.to_string()) }).await {
                Ok(Ok(())) => return,
                Ok(Err(why)) => why,
                Err(e) => format!("it panicked: {e}"),
            };
            tracing::error!(task = name, reason = why, "a task stopped; the process ends");
            health.task_ended(name, why);
            failed.cancel();
        })
    }

    /// Watches the features: see [`watch`].
    fn watch(&mut self, store: features::FeatureStore, quality_file: PathBuf, verify_per_minute: u32) {
        let (log, clock, stop) = (self.core.log.clone(), self.core.clock.clone(), self.stop_work.clone());
        let quality = watch::quality(store.clone(), log, clock.clone(), quality_file, stop.clone());
        self.workers.push((QUALITY, self.spawn(QUALITY, quality)));
        if verify_per_minute == 0 {
            return;
        }
        let watch = Watch::new(&self.core.catalogue, store, StdRng::seed_from_u64(clock() as u64));
        let verify = watch::verify(watch, verify_per_minute, clock, stop);
        self.workers.push((VERIFY, self.spawn(VERIFY, verify)));
    }

    /// Tidies up history on a thread that may be kept busy.
    fn tidy(&self, store: features::FeatureStore) {
        let stop = self.stop_work.clone();
        tokio::spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(TIDY_EVERY)).await.is_some() {
                let (history, stop) = (store.history().clone(), stop.clone());
                let tidied = tokio::task::spawn_blocking(move || {
                    while !stop.is_cancelled() && history.compact_step()? {}
                    Ok::<(), features::offline::HistoryError>(())
                });
                if let Ok(Err(e)) = tidied.await {
                    tracing::warn!(error = %e, "history could not be tidied up; reads go on");
                }
            }
        });
    }

    /// Stops in order: what decides and learns, then the job with a last checkpoint, then the log.
    pub async fn stop(self) -> Result<()> {
        self.core.door.drain().await;
        self.stop_work.cancel();
        for (name, worker) in self.workers {
            worker.await.map_err(|e| Error::Broken(format!("{name} did not stop in order: {e}")))?;
        }
        // The job may be gone already; then there is nobody to tell.
        let _ = self.stop_stream.send(true);
        if let Some(stream) = self.stream {
            stream.await.map_err(|e| Error::Broken(format!("{STREAM} did not stop in order: {e}")))?;
        }
        if self.failed.is_cancelled() {
            return Err(Error::Broken("a task stopped by itself; the log lines before say why".into()));
        }
        Ok(())
    }
}

async fn retention(
    log: Arc<dyn Log>,
    clock: ingest::Clock,
    stop: CancellationToken,
) -> Result<(), ingest::log::LogError> {
    while stop.run_until_cancelled(tokio::time::sleep(HOUSEKEEPING_EVERY)).await.is_some() {
        match log.enforce_retention(clock()).await {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "the log dropped what is too old"),
            Err(e) => {
                tracing::warn!(error = %e, "the log could not drop what is too old; it tries again later")
            }
        }
    }
    Ok(())
}

/// Runs a task that computes much on a thread of its own, so that requests do not wait behind it.
async fn on_a_thread<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> T {
    let here = tokio::runtime::Handle::current();
    match tokio::task::spawn_blocking(move || here.block_on(task)).await {
        Ok(done) => done,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        // The runtime is going away, and this task with it.
        Err(_) => std::future::pending().await,
    }
}
