//! The parts of the process, opened once, in the order in which they need one another.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arrow::record_batch::RecordBatch;
use features::{
    Applied, FeatureStore, Functions, Registry, View,
    offline::{self, Declared, HistoryOptions, OfflineStore},
    online::OnlineOptions,
    registry::Beside,
    versions::Versions,
};
use ingest::{
    Clock,
    admit::{Door, DoorOptions},
    auth::{Gate, GateOptions, Keys, Rate},
    catalogue::{Catalogue, SignalType},
    log::{self, Log, LogOptions, Topic},
};
use scorer::{
    Scorer,
    context::Layout,
    decide,
    learn::{Brief, Joiner, Learning},
    memory::Memory,
    tips::TipCatalogue,
};
use stream_jobs::{Job, JobOptions};

use crate::{
    config::Settings,
    error::{Error, Result, on_file},
    ports::scoring::{ContextFeatures, ThroughDoor},
    tables, tiles,
};

/// What every role stands on.
pub struct Core {
    /// The time.
    pub clock: Clock,
    /// Declared signal types.
    pub catalogue: Arc<Catalogue>,
    /// The log; held by this process alone.
    pub log: Arc<dyn Log>,
    /// The way into it.
    pub door: Arc<Door>,
}

/// Features, and the job that keeps them fresh.
pub struct Features {
    /// To read them.
    pub store: FeatureStore,
    /// Restored from its last checkpoint, not yet running.
    pub job: Job,
    /// Where the counts behind drift are kept.
    pub quality_file: PathBuf,
}

/// Decisions, and what learns.
pub struct Scoring {
    /// What can be said.
    pub tips: Arc<TipCatalogue>,
    /// Decides.
    pub scorer: Scorer,
    /// What was shown lately.
    pub memory: Arc<Memory>,
    /// Makes rewards.
    pub joiner: Joiner,
    /// Learns from them; publishes the policy that serves and its shadow.
    pub learning: Learning,
}

impl Core {
    /// Takes the data directory: a second process gets an error here.
    pub fn open(settings: &Settings, clock: Clock) -> Result<Core> {
        let dir = &settings.data.dir;
        std::fs::create_dir_all(dir).map_err(|e| on_file("make the data directory", dir, &e))?;
        let catalogue = Arc::new(catalogue(settings)?);
        let options = log_options(settings, &catalogue, &clock);
        let log = log::open(&settings.log.url, dir, options)?;
        let door = Arc::new(Door::new(catalogue.clone(), log.clone(), door_options(settings)));
        Ok(Core { clock, catalogue, log, door })
    }
}

impl Features {
    /// Opens both stores and restores the job's state.
    pub fn open(settings: &Settings, core: &Core) -> Result<Features> {
        let registry = registry(settings, &core.catalogue)?;
        let history = history(settings, core.clock.clone())?;
        versions(settings).settle(&registry, &*history).map_err(broken("the versions of feature views"))?;
        history.ensure(&declared(&core.catalogue, &registry)?).map_err(broken("history"))?;
        let url = &settings.online.url;
        Self::with(settings, core, registry, history, settings.checkpoint_file(), url)
    }

    /// The features of a process whose stream job runs elsewhere: both stores, and no job.
    pub fn elsewhere(settings: &Settings, core: &Core) -> Result<FeatureStore> {
        let registry = Arc::new(registry(settings, &core.catalogue)?);
        let history = history(settings, core.clock.clone())?;
        let options = online_options(settings, core, registry.views().len());
        let online = tiles::online(settings, &settings.online.url, &options, &registry, &core.clock);
        let online = online.map_err(broken("features"))?;
        Ok(FeatureStore::new(registry, online, history, Applied::default()))
    }

    /// The same over this history, which is only read, and this checkpoint, with values in this process alone.
    pub fn over(
        settings: &Settings,
        core: &Core,
        history: Arc<dyn OfflineStore>,
        checkpoint: PathBuf,
    ) -> Result<Features> {
        let registry = registry(settings, &core.catalogue)?;
        Self::with(settings, core, registry, history, checkpoint, "embedded:")
    }

    fn with(
        settings: &Settings,
        core: &Core,
        registry: Registry,
        history: Arc<dyn OfflineStore>,
        checkpoint: PathBuf,
        url: &str,
    ) -> Result<Features> {
        let registry = Arc::new(registry);
        let options = online_options(settings, core, registry.views().len());
        let online = tiles::online(settings, url, &options, &registry, &core.clock);
        let online = online.map_err(broken("features"))?;
        let store = FeatureStore::new(registry, online.clone(), history, Applied::default());
        let options = JobOptions {
            checkpoint_every: Duration::from_secs_f64(settings.stream.checkpoint_seconds),
            batch: settings.stream.batch,
            memory_budget: settings.stream.memory_mb << 20,
            partitions: settings.stream.partitions.clone(),
            ..JobOptions::new(checkpoint)
        };
        let (log, catalogue) = (core.log.clone(), core.catalogue.clone());
        let job = Job::open(log, catalogue, &store, online, core.clock.clone(), options)
            .map_err(broken("the stream job"))?;
        let quality_file = settings.quality_file();
        if let Err(e) = store.quality().load(&quality_file) {
            tracing::warn!(error = %e, file = %quality_file.display(), "the counts behind drift start anew");
        }
        Ok(Features { store, job, quality_file })
    }
}

impl Scoring {
    /// Reads the tips and takes up the last policy.
    pub fn open(settings: &Settings, core: &Core, features: &FeatureStore) -> Result<Scoring> {
        let config = settings.scorer.clone();
        let tips = Arc::new(tips(settings)?);
        let layout = Arc::new(layout(settings, &tips)?);
        let source = ContextFeatures::new(features.clone(), layout.features_to_read())
            .map_err(|e| Error::Setting(format!("tips and scorer.context name features: {e}")))?;
        let memory = Arc::new(Memory::new(config.remembered_impressions));
        memory.rebuild(&*core.log)?;
        let brief = brief(settings, &tips, layout.clone(), features.registry());
        let learning = learning(settings, core, brief)?;
        let joiner = Joiner::new(core.log.clone(), &config.learn, memory.clone(), core.clock.clone())?;
        let parts = decide::Parts {
            catalogue: tips.clone(),
            layout,
            features: Arc::new(source),
            sink: Arc::new(ThroughDoor(core.door.clone())),
            policy: learning.published(),
            shadow: learning.published_shadow(),
            memory: memory.clone(),
        };
        let scorer = Scorer::new(config, parts).map_err(refused)?;
        Ok(Scoring { tips, scorer, memory, joiner, learning })
    }
}

/// The policies, taught all that is in the log.
pub fn learning(settings: &Settings, core: &Core, brief: Brief) -> Result<Learning> {
    let now = (core.clock)();
    let mut learning =
        Learning::open(core.log.clone(), &settings.scorer, Arc::new(brief), now).map_err(refused)?;
    learning.catch_up()?;
    Ok(learning)
}

/// What policies decide by.
pub fn layout(settings: &Settings, tips: &TipCatalogue) -> Result<Layout> {
    Layout::new(&settings.scorer.context, tips).map_err(refused)
}

/// What every learner is told beside its policy.
pub fn brief(settings: &Settings, tips: &TipCatalogue, layout: Arc<Layout>, registry: &Registry) -> Brief {
    let read = layout.features_to_read().iter().filter_map(|name| name.split_once('.'));
    let views: BTreeSet<String> = read
        .filter_map(|(view, _)| registry.view(view))
        .map(|view| format!("{}@{}", view.name, view.version_text))
        .collect();
    Brief {
        learn: settings.scorer.learn.clone(),
        context: settings.scorer.context.clone(),
        layout,
        groups: tips.categories().into_iter().map(str::to_owned).collect(),
        code: env!("CARGO_PKG_VERSION").to_owned(),
        views: views.into_iter().collect(),
    }
}

/// The declared signal types.
pub fn catalogue(settings: &Settings) -> Result<Catalogue> {
    Catalogue::load(&settings.signals.dirs).map_err(|e| Error::Setting(format!("signal types:\n{e}")))
}

/// The feature views, older versions included.
pub fn registry(settings: &Settings, catalogue: &Catalogue) -> Result<Registry> {
    let kept = versions(settings).read().map_err(broken("the versions of feature views"))?;
    let (tables, functions) = (tables::load(settings)?, functions(settings)?);
    let beside = Beside { tables: &tables, functions, kept: &kept };
    Registry::load_with(catalogue, &settings.views_dirs(), &beside)
        .map_err(|e| Error::Setting(format!("feature views: {e}")))
}

/// Definitions that ran on the data directory.
pub fn versions(settings: &Settings) -> Versions {
    Versions::of(&settings.data.dir)
}

/// The user functions.
pub fn functions(settings: &Settings) -> Result<Functions> {
    Functions::load(&settings.udfs_dir()).map_err(|e| Error::Setting(format!("user functions: {e}")))
}

/// The tips.
pub fn tips(settings: &Settings) -> Result<TipCatalogue> {
    TipCatalogue::load(&settings.tips.files).map_err(|e| Error::Setting(format!("tips: {e}")))
}

/// The history, to be written.
pub fn history(settings: &Settings, clock: Clock) -> Result<Arc<dyn OfflineStore>> {
    open_history(settings, clock, false)
}

/// The history beside the process that writes it.
pub fn history_to_read(settings: &Settings, clock: Clock) -> Result<Arc<dyn OfflineStore>> {
    open_history(settings, clock, true)
}

fn open_history(settings: &Settings, clock: Clock, read_only: bool) -> Result<Arc<dyn OfflineStore>> {
    let server = settings.history.server()?;
    let options = HistoryOptions::new(&settings.history.url, &settings.data.dir, clock);
    offline::open(&HistoryOptions { read_only, server, ..options }).map_err(broken("history"))
}

/// The tables that are to be there for others to find, before they have rows.
fn declared(catalogue: &Catalogue, registry: &Registry) -> Result<Vec<Declared>> {
    let of_type = |kind: &Arc<SignalType>| Declared {
        table: kind.table.clone(),
        schema: kind.schema.clone(),
        signal: Some(kind.name.clone()),
    };
    let of_view = |view: &Arc<View>| {
        let empty = RecordBatch::new_empty(view.history_schema());
        let schema = view.stamped(&empty, 0).map_err(broken("features"))?.schema();
        Ok(Declared { table: view.history_table(), schema, signal: None })
    };
    let types = catalogue.types().map(of_type).map(Ok);
    types.chain(registry.views().iter().map(of_view)).collect()
}

/// The keys, where there is a file of them.
pub fn gate(settings: &Settings) -> Result<Gate> {
    let file = settings.keys_file();
    let keys = if settings.auth.keys_file.is_some() || Path::new(&file).exists() {
        Keys::load(&file).map_err(|e| Error::Setting(format!("auth.keys_file: {e}")))?
    } else {
        Keys::open()
    };
    let rate = |per_second: Option<f64>| {
        per_second.map(|r| Rate { per_second: r, burst: (2.0 * r).ceil().max(1.0) as u32 })
    };
    let limits = &settings.limits;
    let options =
        GateOptions { key_rate: rate(limits.key_per_second), address_rate: rate(limits.address_per_second) };
    Ok(Gate::new(keys, options))
}

fn online_options(settings: &Settings, core: &Core, views: usize) -> OnlineOptions {
    settings.online.options(views, core.log.partitions(Topic::Signals))
}

fn log_options(settings: &Settings, catalogue: &Arc<Catalogue>, clock: &Clock) -> LogOptions {
    LogOptions {
        partitions: settings.log.partitions,
        retain_age: settings.retention.days.map(|days| Duration::from_secs(days * 86_400)),
        retain_bytes: settings.retention.bytes,
        catalogue: Some(catalogue.clone()),
        clock: Some(clock.clone()),
        fluvio: settings.log.fluvio(),
        ..LogOptions::default()
    }
}

fn door_options(settings: &Settings) -> DoorOptions {
    DoorOptions {
        unknown_fields: settings.signals.unknown_fields,
        future_times: settings.signals.future_times,
        future_bound_ms: i64::try_from(settings.signals.future_seconds.saturating_mul(1_000))
            .unwrap_or(i64::MAX),
        ..DoorOptions::default()
    }
}

fn broken<E: std::fmt::Display>(part: &'static str) -> impl Fn(E) -> Error {
    move |e| Error::Broken(format!("{part} cannot be opened: {e}"))
}

fn refused(e: scorer::ScorerError) -> Error {
    Error::Setting(format!("scorer: {e}"))
}
