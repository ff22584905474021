//! `kairos train`.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pipelines::{
    PipelineError,
    train::{
        Window,
        policy::{self, TeachJob},
        set::{self, Joined, SetJob},
    },
};
use scorer::{
    learn::registry::instant as written,
    policy::{PolicyConfig, PolicyName},
    record::SavedPolicy,
};
use serde_json::json;

use super::{history_to_read, instant, log_to_read, policy as policies};
use crate::{
    clock,
    config::Settings,
    error::{Error, Result},
    parts,
};

/// Rewards between two writings of how far a training has come.
pub const KEEP_EVERY: u64 = 50_000;

/// What to train, and from what.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The policy; the shadow's when unset, or else the one that serves. A policy that stands in the
    /// configuration is taken with its settings there, any other with the usual ones
    #[arg(long, value_name = "NAME")]
    policy: Option<PolicyName>,
    /// Write the decisions as a training set, too: .parquet, .csv or .ndjson
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Decisions from this instant on, RFC 3339
    #[arg(long, value_name = "INSTANT")]
    from: Option<String>,
    /// Decisions before this instant
    #[arg(long, value_name = "INSTANT")]
    to: Option<String>,
    /// Features of history beside the recorded context, each as it could be known when the tip was shown; may be
    /// given several times
    #[arg(long = "feature", value_name = "NAME", requires = "output")]
    features: Vec<String>,
    /// Only write the training set
    #[arg(long, requires = "output")]
    only_set: bool,
    /// Memory for the join of features, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    memory: usize,
    #[command(flatten)]
    place: policies::Place,
}

/// Runs the command. Where it was cut before, it goes on.
pub async fn run(settings: &Settings, arguments: TrainArgs) -> Result<()> {
    let bound = |name: &str, text: &Option<String>| text.as_ref().map(|t| instant(name, t)).transpose();
    let window = Window { from: bound("--from", &arguments.from)?, to: bound("--to", &arguments.to)? };
    if let Some(output) = &arguments.output {
        let rows = write_set(settings, &arguments, window, output)?;
        eprintln!("{rows} decisions written to {}", output.display());
    }
    if arguments.only_set {
        return Ok(());
    }
    let config = chosen(settings, arguments.policy);
    let log = log_to_read(settings)?;
    let tips = parts::tips(settings)?;
    let layout = parts::layout(settings, &tips)?.into();
    let registry = parts::registry(settings, &parts::catalogue(settings)?)?;
    let brief = Arc::new(parts::brief(settings, &tips, layout, &registry));
    let job = job(settings, config, window);
    let bar = bar("rewards");
    let taught = policy::teach(log, brief, &job, clock::now(), &bar, || true).map_err(told)?;
    let Some(saved) = taught else { return Err(Error::Unavailable("the training was stopped".into())) };
    register(settings, &arguments.place, &saved).await?;
    policy::forget(&job.progress_file).map_err(told)?;
    say(&saved, &arguments.place);
    Ok(())
}

/// How a policy is taught, and where it is kept how far that has come.
pub fn job(settings: &Settings, policy: PolicyConfig, window: Window) -> TeachJob {
    let progress_file = settings.training_dir().join(policy::progress_name(&policy, &window));
    TeachJob { policy, window, progress_file, keep_every: KEEP_EVERY }
}

fn chosen(settings: &Settings, name: Option<PolicyName>) -> PolicyConfig {
    let configured = settings.scorer.shadow.iter().chain([&settings.scorer.policy]);
    let mut fitting = configured.filter(|config| name.is_none_or(|name| config.name == name));
    let usual =
        || PolicyConfig { name: name.unwrap_or(settings.scorer.policy.name), ..PolicyConfig::default() };
    fitting.next().cloned().unwrap_or_else(usual)
}

fn write_set(
    settings: &Settings,
    arguments: &TrainArgs,
    window: Window,
    output: &std::path::Path,
) -> Result<u64> {
    let layout = parts::layout(settings, &parts::tips(settings)?)?;
    let learn = &settings.scorer.learn;
    let job = SetJob {
        window,
        settle: ((learn.window_minutes * 60.0 + learn.grace_seconds) * 1_000.0) as i64,
        context: layout.names(),
        output,
        memory: arguments.memory << 20,
    };
    let (log, bar) = (log_to_read(settings)?, bar("decisions"));
    if arguments.features.is_empty() {
        return set::write(&*log, &job, None, &bar).map_err(told);
    }
    let registry = parts::registry(settings, &parts::catalogue(settings)?)?;
    let features =
        registry.prepare(&arguments.features).map_err(|e| Error::Input(format!("--feature: {e}")))?;
    let history = history_to_read(settings)?;
    let joined = Joined { history: &*history, features: &features };
    set::write(&*log, &job, Some(&joined), &bar).map_err(told)
}

/// Puts the snapshot into the registry: here, or by the server that holds the data directory.
async fn register(settings: &Settings, place: &policies::Place, saved: &SavedPolicy) -> Result<()> {
    match policies::here(settings, place)? {
        Some(mut opened) => {
            opened.learning.take_up(saved.clone(), clock::now()).await.map_err(policies::told)
        }
        None => {
            let file = format!("{}.policy", saved.reference());
            let path = settings.training_dir().join(&file);
            policy::keep(&path, saved).map_err(told)?;
            policies::ask(settings, place, "register", &json!({ "file": file })).await?;
            policy::forget(&path).map_err(told)
        }
    }
}

fn say(saved: &SavedPolicy, place: &policies::Place) {
    let taught = saved.taught.clone().unwrap_or_default();
    let mean = (taught.rewards > 0).then(|| taught.sum / taught.rewards as f64);
    if place.json {
        let line = json!({
            "policy": saved.name, "version": saved.version, "state": saved.id, "parent": saved.parent,
            "from": taught.from.map(written), "to": taught.to.map(written), "mean_reward": mean,
        });
        println!("{line}");
        return;
    }
    let mean = mean.map_or("none".into(), |m| format!("{m:.4}"));
    println!(
        "{} learned {} rewards, {mean} in the mean; snapshot {}",
        saved.name,
        saved.version,
        saved.reference()
    );
}

fn bar(of: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let template =
        format!("{{msg}} {{wide_bar}} {{human_pos}}/{{human_len}} {of}, {{per_sec}}, {{eta}} left");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}

fn told(e: PipelineError) -> Error {
    match e {
        PipelineError::Log(e) => e.into(),
        PipelineError::Policy(e) => policies::told(e),
        PipelineError::Input { .. } | PipelineError::File { .. } => Error::Input(e.to_string()),
        PipelineError::Features(_) => Error::Broken(e.to_string()),
    }
}
