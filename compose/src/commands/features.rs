//! `kairos features list|read|join|verify`: from history, so that it works beside a running server too;
//! `kairos features test`: golden cases, without any data directory; `kairos features backfill|drop`: history
//! and versions of views, with the data directory held.

mod cases;
mod engine;
mod explain;
mod verify;
mod versions;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use clap::{Args, Subcommand};
use features::{
    Applied, FeatureError, FeatureRow, FeatureStore, Prepared, Registry, online,
    past::Here,
    quality::{FeatureQuality, Quality},
};
use indicatif::{ProgressBar, ProgressDrawTarget};
use pipelines::{
    PipelineError,
    join::{JoinJob, Known, Rows},
};
use serde_json::{Map, Value, json};

pub use engine::EngineArgs;

use super::{history_to_read, instant};
use crate::{
    clock,
    config::Settings,
    error::{Error, Result},
    parts,
};

/// What there is, and values.
#[derive(Debug, Subcommand)]
pub enum FeaturesCommand {
    /// The views, their features and what they mean
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Values of people at an instant, from history as of the last checkpoint
    Read {
        /// Whom to read
        #[arg(required = true, value_name = "ENTITY")]
        entities: Vec<String>,
        /// Features, as view.feature_window; may be given several times
        #[arg(long = "feature", value_name = "NAME")]
        features: Vec<String>,
        /// Whole views; all when neither is given
        #[arg(id = "names_of_views", long = "view", value_name = "NAME", conflicts_with = "features")]
        views: Vec<String>,
        /// The instant, RFC 3339; now when unset
        #[arg(long, value_name = "INSTANT")]
        as_of: Option<String>,
        /// Print JSON, one object a person
        #[arg(long)]
        json: bool,
    },
    /// Rows of (entity, instant) from a file, with the values features had then beside them
    Join(JoinArgs),
    /// Values of the past into history: of new and changed views, or again after late signals
    Backfill(versions::BackfillArgs),
    /// Remove an older version of a view, with its values
    Drop {
        /// The version, as view@version; `kairos features list` names them
        #[arg(value_name = "VIEW@VERSION")]
        version: String,
    },
    /// What a view does with its signals, what it keeps of them, and how many bytes that is
    Explain(explain::ExplainArgs),
    /// Golden cases: signals, and the values views must give; run straight, cut by a crash, shuffled, split
    Test(cases::TestArgs),
    /// Compare values as served with the same SQL run as a batch over history; exit status 1 when any differ
    Verify(verify::VerifyArgs),
}

/// What to join with what.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// Rows: a .csv, .ndjson or .parquet file
    #[arg(value_name = "FILE", required_unless_present = "table", conflicts_with = "table")]
    input: Option<PathBuf>,
    /// Rows of a table of history, such as impressions, each as of its time
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Where to write them with values; its form goes by its extension too
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Features, as view.feature_window; may be given several times
    #[arg(long = "feature", value_name = "NAME")]
    features: Vec<String>,
    /// Whole views; all when neither is given
    #[arg(id = "names_of_views", long = "view", value_name = "NAME", conflicts_with = "features")]
    views: Vec<String>,
    /// Column that names the entity [default: entity; subject for a table]
    #[arg(long, value_name = "COLUMN")]
    entity: Option<String>,
    /// Column with the instant: RFC 3339, or milliseconds since 1970 [default: as_of; time for a table]
    #[arg(long, value_name = "COLUMN")]
    as_of: Option<String>,
    /// Memory for rows and values, in MiB; more rows than fit are sorted on disk beside the output
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    memory: usize,
    /// Count every signal known today; otherwise only those that had arrived by a row's instant, as a
    /// training set wants
    #[arg(long)]
    with_hindsight: bool,
    /// Where values are made
    #[command(flatten)]
    engine: EngineArgs,
}

impl FeaturesCommand {
    /// Whether it keeps connections to a cluster while it prints.
    pub fn over_a_cluster(&self) -> bool {
        let engine = match self {
            FeaturesCommand::Join(arguments) => &arguments.engine,
            FeaturesCommand::Backfill(arguments) => &arguments.engine,
            FeaturesCommand::Verify(arguments) => &arguments.engine,
            _ => return false,
        };
        engine.url.is_some()
    }
}

/// Runs the command.
pub async fn run(settings: &Settings, command: FeaturesCommand) -> Result<()> {
    let registry = || parts::registry(settings, &parts::catalogue(settings)?);
    match command {
        FeaturesCommand::List { json } => list(settings, &registry()?, json),
        FeaturesCommand::Read { entities, features, views, as_of, json } => {
            let as_of = as_of.map(|text| instant("--as-of", &text)).transpose()?;
            let registry = registry()?;
            let prepared = prepare(&registry, &features, &views)?;
            let history = history_to_read(settings)?;
            let online = online::open("embedded:", &online::OnlineOptions::new(registry.views().len()))
                .map_err(told)?;
            let store = FeatureStore::new(Arc::new(registry), online, history, Applied::default());
            let rows =
                store.read_as_of(&prepared, &entities, as_of.unwrap_or_else(clock::now)).map_err(told)?;
            rows.iter().for_each(|row| print(row, &prepared.names, json));
            Ok(())
        }
        FeaturesCommand::Join(arguments) => join(settings, &registry()?, arguments),
        FeaturesCommand::Backfill(arguments) => versions::backfill(settings, &arguments).await,
        FeaturesCommand::Drop { version } => versions::drop_version(settings, &version),
        FeaturesCommand::Explain(arguments) => explain::run(settings, &registry()?, &arguments),
        FeaturesCommand::Test(arguments) => cases::run(settings, &arguments),
        FeaturesCommand::Verify(arguments) => verify::run(settings, registry()?, arguments).await,
    }
}

fn prepare(registry: &Registry, features: &[String], views: &[String]) -> Result<Prepared> {
    let prepared = match (features.is_empty(), views.is_empty()) {
        (false, _) => registry.prepare(features),
        (true, false) => registry.prepare_views(views),
        (true, true) => registry.prepare(&registry.feature_names().collect::<Vec<_>>()),
    };
    prepared.map_err(told)
}

fn join(settings: &Settings, registry: &Registry, arguments: JoinArgs) -> Result<()> {
    let prepared = prepare(registry, &arguments.features, &arguments.views)?;
    let history = history_to_read(settings)?;
    let known = if arguments.with_hindsight { Known::ByNow } else { Known::ByThen };
    let catalogue = Arc::new(parts::catalogue(settings)?);
    let stored = prepared.stored().names.clone();
    let views = stored.iter().filter_map(|name| registry.resolve(name.rsplit_once('.')?.0).ok());
    let engine = arguments.engine.open(settings, history.clone(), catalogue, registry, views)?;
    let here = Here(&*history);
    let (input, entity, as_of) = match (arguments.input, arguments.table) {
        (Some(file), _) => (Rows::File(file), "entity", "as_of"),
        (None, Some(table)) => (Rows::Table(table), "subject", "time"),
        (None, None) => return Err(Error::Input("name a file of rows, or a --table of history".into())),
    };
    let job = JoinJob {
        input,
        output: arguments.output,
        entity: arguments.entity.unwrap_or_else(|| entity.to_owned()),
        as_of: arguments.as_of.unwrap_or_else(|| as_of.to_owned()),
        known,
        memory: arguments.memory << 20,
    };
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let engine = engine.as_deref().unwrap_or(&here);
    let report = pipelines::join::run_on(engine, &*history, &prepared, &job, &bar).map_err(|e| match e {
        PipelineError::Features(e) => told(e),
        other => Error::Input(other.to_string()),
    })?;
    eprintln!("{} rows written to {}", report.rows, job.output.display());
    if report.with_late_signals > 0 {
        eprintln!(
            "{} of them leave out signals that arrived only after their instant; --with-hindsight counts those",
            report.with_late_signals
        );
    }
    Ok(())
}

fn list(settings: &Settings, registry: &Registry, json: bool) -> Result<()> {
    let views = registry.describe();
    let seen = quality(settings, registry);
    if json {
        let mut views = serde_json::to_value(&views).map_err(|e| Error::Broken(e.to_string()))?;
        for feature in views.as_array_mut().into_iter().flatten().filter_map(|v| v["features"].as_array_mut())
        {
            for feature in feature {
                let seen = feature["name"].as_str().and_then(|name| seen.get(name)).copied();
                let FeatureQuality { null_rate, drift } = seen.unwrap_or_default();
                (feature["null_rate"], feature["drift"]) = (json!(null_rate), json!(drift));
            }
        }
        let text = serde_json::to_string_pretty(&views).map_err(|e| Error::Broken(e.to_string()))?;
        println!("{text}");
        return Ok(());
    }
    for view in views {
        let version = if view.current { "" } else { ", an older version" };
        let name = format!("{}@{}", view.view, view.version);
        println!("{name} (from {}, windows {}{version})", view.table, view.windows.join(", "));
        println!("  {}", view.description.replace('\n', "\n  "));
        for feature in view.features {
            let seen = seen.get(&feature.name).copied().unwrap_or_default();
            let nulls = seen.null_rate.map(|r| format!(", NULL {:.1} %", 100.0 * r)).unwrap_or_default();
            let drift = seen.drift.map(|d| format!(", drift {d:.3}")).unwrap_or_default();
            println!("    {:<52} {:?}{nulls}{drift}", feature.name, feature.kind);
        }
    }
    Ok(())
}

/// What was counted of each feature up to the last minute, by its name; nothing where no server ever ran.
fn quality(settings: &Settings, registry: &Registry) -> HashMap<String, FeatureQuality> {
    let views: Vec<_> = registry.current().cloned().collect();
    let quality = Quality::new(&views);
    if let Err(e) = quality.load(&settings.quality_file()) {
        eprintln!("note: the counts behind NULLs and drift cannot be read: {e}");
    }
    let of_view = |v: &Arc<features::View>| {
        let seen = quality.report(v, clock::now()).map(|q| q.features).unwrap_or_default();
        let names: Vec<String> = v.feature_names().map(|f| format!("{}.{f}", v.name)).collect();
        names.into_iter().zip(seen)
    };
    views.iter().flat_map(of_view).collect()
}

fn print(row: &FeatureRow, names: &[Arc<str>], as_json: bool) {
    let as_of = jiff::Timestamp::from_millisecond(row.as_of).unwrap_or_default();
    if as_json {
        let values: Map<String, Value> =
            names.iter().zip(&row.values).map(|(name, value)| (name.to_string(), json!(value))).collect();
        println!("{}", json!({"entity": row.entity, "as_of": as_of.to_string(), "values": values}));
        return;
    }
    println!("{} at {as_of}", row.entity);
    for (name, value) in names.iter().zip(&row.values) {
        println!("  {name:<52} {}", json!(value));
    }
}

/// An error of features, by what the person at the terminal can do.
pub fn told(e: FeatureError) -> Error {
    match e {
        FeatureError::Request(_) | FeatureError::Definition { .. } => Error::Input(e.to_string()),
        FeatureError::Unavailable(_)
        | FeatureError::Gone(_)
        | FeatureError::Lost(_)
        | FeatureError::Fenced(_)
        | FeatureError::NotYet(..) => Error::Unavailable(e.to_string()),
        FeatureError::Damaged(_) | FeatureError::Compute { .. } => Error::Broken(e.to_string()),
    }
}
