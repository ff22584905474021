//! `kairos features backfill|drop`: both change the data directory, so they need it for themselves.

use std::{sync::Arc, time::Duration};

use clap::Args;
use features::View;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{super::instant, told};
use crate::{
    clock,
    config::Settings,
    error::{Error, Result},
    parts::{self, Core, Features},
};

/// What to fill in.
#[derive(Debug, Args)]
pub struct BackfillArgs {
    /// Views, or versions as view@version; what is new or was cut off when none is named
    #[arg(id = "names_of_views", value_name = "VIEW")]
    views: Vec<String>,
    /// Values from this instant on, RFC 3339; from the beginning when unset
    #[arg(long, value_name = "INSTANT", requires = "names_of_views")]
    from: Option<String>,
    /// Values up to this instant
    #[arg(long, value_name = "INSTANT", requires = "names_of_views")]
    until: Option<String>,
    /// Where values are made
    #[command(flatten)]
    pub(super) engine: super::EngineArgs,
}

/// Longest that a backfill waits until others can read its rows.
const DELIVERY: Duration = Duration::from_secs(60);

/// Runs `features backfill`.
pub async fn backfill(settings: &Settings, arguments: &BackfillArgs) -> Result<()> {
    let bound = |name: &str, text: &Option<String>| text.as_ref().map(|t| instant(name, t)).transpose();
    let (from, until) = (bound("--from", &arguments.from)?, bound("--until", &arguments.until)?);
    let core = hold(settings)?;
    let Features { store, mut job, .. } = Features::open(settings, &core)?;
    let named: Vec<Arc<View>> = arguments
        .views
        .iter()
        .map(|name| store.registry().resolve(name).cloned().map_err(told))
        .collect::<Result<_>>()?;
    let broken = |e: stream_jobs::JobError| Error::Broken(e.to_string());
    for view in &named {
        job.add_backfill(view, from, until).map_err(broken)?;
    }
    if job.backfill_progress().is_none() {
        eprintln!("the history of every view is complete; name a view to compute it again");
        return Ok(());
    }
    let made = if named.is_empty() { store.registry().views().to_vec() } else { named.clone() };
    let history = store.history().clone();
    let engine =
        arguments.engine.open(settings, history, core.catalogue.clone(), store.registry(), made.iter())?;
    engine.into_iter().for_each(|engine| job.backfill_by(engine));
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(
        "{msg} {wide_bar} {human_pos}/{human_len} signals, {per_sec}, {eta} left",
    ) {
        bar.set_style(style);
    }
    let mut filled: Vec<String> = Vec::new();
    let views = (!named.is_empty()).then_some(named.as_slice());
    let done = job.backfill(views, |p| {
        if filled.last() != Some(&p.view) {
            filled.push(p.view.clone());
            bar.reset_eta();
        }
        bar.set_message(p.view);
        bar.set_length(p.total);
        bar.set_position(p.done);
    });
    done.await.map_err(broken)?;
    bar.finish_and_clear();
    if let Err(e) = store.history().deliver(DELIVERY) {
        eprintln!("{e}");
    }
    eprintln!("the history of {} is complete", filled.join(", "));
    Ok(())
}

/// Runs `features drop`.
pub fn drop_version(settings: &Settings, pinned: &str) -> Result<()> {
    if !pinned.contains('@') {
        return Err(Error::Input(format!(
            "`{pinned}` names no version; write it as view@version, `kairos features list` names them"
        )));
    }
    let core = hold(settings)?;
    let registry = parts::registry(settings, &core.catalogue)?;
    let dropped = parts::versions(settings).forget_pinned(&registry, pinned).map_err(told)?;
    // What is recorded no more goes from history and from the job's state.
    Features::open(settings, &core)?;
    println!("{dropped} is gone, with its values and state");
    Ok(())
}

fn hold(settings: &Settings) -> Result<Core> {
    Core::open(settings, clock::system()).map_err(|e| match e {
        Error::Unavailable(what) => Error::Unavailable(format!(
            "{what}; this command changes the data directory, so stop the server first (a running server backfills new \
             views by itself)"
        )),
        other => other,
    })
}
