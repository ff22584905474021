//! `kairos features verify`: served values beside the same SQL as a batch over history.
//!
//! With `--url` the values are those a running server gives. Without, the data directory is taken and the
//! values are those the next start would begin with: the online store as the last checkpoint has it.

mod served;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use features::{Registry, offline::OfflineStore, past::Engine};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ingest::Millis;
use pipelines::verify::{Checker, Difference, Read, Served, sample};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::json;

use super::{history_to_read, instant, told};
use crate::{
    client::Client,
    clock,
    config::Settings,
    error::{Error, Result, on_file},
    parts::{Core, Features},
    run::process_seed,
};

/// Differences printed one by one.
const SHOWN: usize = 50;

/// What to verify.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Views; all when unset
    #[arg(id = "names_of_views", long = "view", value_name = "NAME")]
    views: Vec<String>,
    /// How many entities of each view to look at
    #[arg(long, default_value_t = 100, value_name = "N")]
    sample: usize,
    /// Chooses entities and instants; printed, so that a run can be repeated
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Look at this instant alone, RFC 3339; when unset, at now and at one instant of the past for each entity
    #[arg(long, value_name = "INSTANT")]
    at: Option<String>,
    /// Ask the server here, which runs on this data directory; its key is in KAIROS_API_KEY
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Where the SQL is run
    #[command(flatten)]
    pub(super) engine: super::EngineArgs,
}

/// What was found.
#[derive(Debug, Default)]
struct Report {
    entities: usize,
    values: usize,
    differences: Vec<Difference>,
}

/// What is the same for every comparison of a run.
struct Plan {
    checkers: Vec<Checker>,
    sample: usize,
    at: Option<Millis>,
    rng: StdRng,
    bar: ProgressBar,
    /// Runs the SQL in place of this process.
    engine: Option<Arc<dyn Engine>>,
}

/// Runs the command.
pub async fn run(settings: &Settings, registry: Registry, arguments: VerifyArgs) -> Result<()> {
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => process_seed()?,
    };
    let catalogue = crate::parts::catalogue(settings)?;
    let all = || registry.views().iter().map(|v| v.pinned_name()).collect();
    let names: Vec<String> = if arguments.views.is_empty() { all() } else { arguments.views };
    let checkers = names.iter().map(|name| Checker::new(&catalogue, &registry, name).map_err(told));
    let checkers: Vec<Checker> = checkers.collect::<Result<_>>()?;
    let views = checkers.iter().map(Checker::view);
    let engine = match arguments.engine.url {
        // Without one, history need not be there yet.
        None => None,
        Some(_) => {
            let history = history_to_read(settings)?;
            arguments.engine.open(settings, history, Arc::new(catalogue), &registry, views)?
        }
    };
    let plan = Plan {
        checkers,
        engine,
        sample: arguments.sample,
        at: arguments.at.map(|text| instant("--at", &text)).transpose()?,
        rng: StdRng::seed_from_u64(seed),
        bar: bar(),
    };
    let views = plan.checkers.len();
    let report = match arguments.url {
        Some(url) => served::compare(settings, plan, &Client::new(&url)?).await?,
        None => {
            let settings = settings.clone();
            // History is read from disk.
            let here = tokio::runtime::Handle::current();
            let stored = tokio::task::spawn_blocking(move || here.block_on(stored(&settings, plan)));
            stored.await.map_err(|e| Error::Broken(format!("the comparison stopped: {e}")))??
        }
    };
    tell(&report, views, seed, arguments.json)
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{prefix} [{wide_bar}] {pos}/{len}, {msg}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar
}

fn tell(report: &Report, views: usize, seed: u64, as_json: bool) -> Result<()> {
    let Report { entities, values, differences } = report;
    let different = differences.len();
    if as_json {
        let whole = json!({
            "views": views, "entities": entities, "values": values, "seed": seed, "differences": differences,
        });
        println!("{whole}");
    } else {
        for d in differences.iter().take(SHOWN) {
            let how = if d.read == Read::Now { "now" } else { "as of" };
            println!(
                "{} of {}, {how} {}: served {}, recomputed {}",
                d.feature,
                d.entity,
                json!(d.at).as_str().unwrap_or_default(),
                json!(d.served),
                json!(d.recomputed)
            );
        }
        if different > SHOWN {
            println!("and {} more", different - SHOWN);
        }
        println!(
            "{different} difference{} in {values} values of {entities} entities and {views} views (seed {seed})",
            if different == 1 { "" } else { "s" }
        );
    }
    if different > 0 {
        return Err(Error::Broken(format!("{different} of {values} values are not what their SQL gives")));
    }
    Ok(())
}

/// A copy of a file that goes away with this.
struct Copy(PathBuf);

impl Copy {
    /// Empty where there is no such file.
    fn of(file: &Path) -> Result<Copy> {
        let copy = file.with_extension("verify");
        if file.exists() {
            std::fs::copy(file, &copy).map_err(|e| on_file("copy the checkpoint to", &copy, &e))?;
        }
        Ok(Copy(copy))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Compares what is stored.
async fn stored(settings: &Settings, mut plan: Plan) -> Result<Report> {
    // Holds the data directory, so that nothing changes meanwhile.
    let core = Core::open(settings, clock::system()).map_err(|e| match e {
        Error::Unavailable(why) => Error::Unavailable(format!("{why}; with --url it asks that server")),
        other => other,
    })?;
    // Opening a job takes what no view needs out of its checkpoint, which is not for a comparison to do.
    let copy = Copy::of(&settings.checkpoint_file())?;
    let features = Features::over(settings, &core, history_to_read(settings)?, copy.0.clone())?;
    let store = &features.store;
    let history = store.history().as_ref();
    let mut report = Report::default();
    for checker in &plan.checkers {
        plan.bar.set_prefix(checker.view().name.to_string());
        let online = store.entities(checker.view()).await.map_err(told)?;
        let entities =
            sample::entities(history, &online, checker.view(), plan.sample, &mut plan.rng).map_err(told)?;
        plan.bar.inc_length(entities.len() as u64);
        let mut served = Vec::new();
        for entity in &entities {
            let at = match plan.at {
                Some(at) => at,
                None => {
                    let now = clock::now();
                    served.push(checker.served_now(store, entity, now).await.map_err(told)?);
                    sample::instant(history, checker.view(), entity, now, &mut plan.rng).map_err(told)?
                }
            };
            served.push(checker.served_as_of(store, entity, at).map_err(told)?);
            report.entities += 1;
            if plan.engine.is_none() {
                report.compare(checker, None, history, &std::mem::take(&mut served))?;
            }
            plan.bar.set_message(format!("{} differences", report.differences.len()));
            plan.bar.inc(1);
        }
        report.compare(checker, plan.engine.as_deref(), history, &served)?;
    }
    plan.bar.finish_and_clear();
    Ok(report)
}

impl Report {
    /// Compares what was served, by the engine at once, or here.
    fn compare(
        &mut self,
        checker: &Checker,
        engine: Option<&dyn Engine>,
        history: &dyn OfflineStore,
        served: &[Served],
    ) -> Result<()> {
        self.values += checker.names().len() * served.len();
        match engine {
            Some(_) if served.is_empty() => {}
            Some(engine) => {
                self.differences.extend(checker.compare_all(engine, history, served).map_err(told)?);
            }
            None => {
                for served in served {
                    self.differences.extend(checker.compare(history, served).map_err(told)?);
                }
            }
        }
        Ok(())
    }
}
