//! `kairos demo`: every role in one process, simulated people, and a page that shows whether it learns.
//!
//! | module | what |
//! |---|---|
//! | [`world`] | the people: how they live, what they like; pure functions of a seed |
//! | [`drive`] | lets them post signals, look for tips and react, over the program's own routes |
//! | [`stats`] | what came of the tips |
//! | [`time`] | the clock of the simulation |
//! | [`page`] | the page that shows it |
//! | [`lab`] | reward and regret against the truth, and a page that draws them |

mod drive;
mod lab;
mod page;
mod stats;
mod time;
pub mod world;

use std::{sync::Arc, time::Duration};

use clap::Args;
use ingest::auth::{Gate, GateOptions, Keys};
use scorer::{
    policy::{PolicyConfig, PolicyName},
    tips::Tip,
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    config::Settings,
    error::{Error, Result},
    parts::Core,
    process::{self, Tasks},
    run, serve, telemetry,
};
use drive::{Driver, Observed};
use lab::{Lab, Watcher};
use page::{AboutTip, Board};
use stats::Stats;
use world::DAY;

/// How the demo runs.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Simulated people
    #[arg(long, default_value_t = 300, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=5_000))]
    pub people: u32,
    /// How many minutes of a day pass in the simulation with each second; nights pass faster
    #[arg(long, default_value_t = 10.0, value_name = "MINUTES")]
    pub speed: f64,
    /// Seed of the people and of every choice
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Stop after this many seconds; runs until interrupted when unset
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<u64>,
}

/// How much of their life the people bring along.
const PAST: i64 = 8 * DAY;
/// Share of the people whose tips are chosen uniformly.
const CONTROL: f64 = 0.5;
/// Seconds of wall time in one point of the curve.
const STRETCH: f64 = 5.0;
/// A tip that takes this many minutes or more is the greatest effort.
const MOST_EFFORT_MINUTES: f64 = 30.0;

const WHAT: &str = "Half of the people, by a hash of their ids, get tips from the policy that learns; the other \
    half get a uniform choice among the tips that apply to them. Both halves go through the same rules, features \
    and reactions, and the policy learns from the reactions of both. A tip is taken up with a probability that \
    depends on the person's hidden tastes and on how they fare at that moment. The bands hold 95 %.";

/// Runs until interrupted.
pub async fn run(mut settings: Settings, arguments: DemoArgs) -> Result<()> {
    if !(0.1..=240.0).contains(&arguments.speed) {
        return Err(Error::Setting(format!(
            "--speed: {} is out of range; write 0.1 to 240",
            arguments.speed
        )));
    }
    // A directory of its own unless one is named, so that the demo never mixes with real data.
    // It is dropped last, after everything that keeps files in it.
    let _temporary = TemporaryData::unless_named(&mut settings)?;
    settings.scorer.control_share = CONTROL;
    let shadow = settings.scorer.shadow.take();
    settings.scorer.shadow = Some(shadow.unwrap_or_else(|| beside(&settings.scorer.policy)));
    let gate = Gate::new(Keys::open(), GateOptions::default());
    let listener = serve::bind(&settings, false).await?;
    let metrics = telemetry::start()?;
    let clock = time::clock(clock::now(), arguments.speed * 60.0);
    let core = Core::open(&settings, clock.clone())?;
    let log = core.log.clone();
    let tasks = Tasks { ingest: true, stream: true, score: true, retention: true, ..Tasks::default() };
    let full = process::start_full(&settings, core, &gate, tasks, metrics.clone(), arguments.seed)?;
    tokio::spawn(telemetry::upkeep(metrics));

    let people = world::people(arguments.people as usize, arguments.seed, clock() - PAST);
    let about = |tip: &Tip| {
        let effort = (f64::from(tip.effort) / MOST_EFFORT_MINUTES).min(1.0);
        AboutTip { category: tip.category.clone(), effort }
    };
    let (control, treated): (Vec<_>, Vec<_>) =
        people.iter().map(|p| p.id.clone()).partition(|id| full.scorer.in_control(id));
    tracing::info!(with_policy = treated.len(), uniform = control.len(), "people");
    let by_id = full.tips.iter().map(|tip| (tip.id.clone(), about(tip))).collect();
    let board = Arc::new(Board::new(by_id, WHAT.into(), treated, clock.clone(), Stats::new(STRETCH)));
    let lab = Arc::new(Lab::new(full.scorer.clone()));
    let app = full.app.clone().merge(page::router(board.clone())).merge(lab::page::router(lab.clone()));
    let stop = run::stop_signal(full.process.failed.clone())?;
    let address = listener.local_addr().map(|a| a.to_string()).unwrap_or_default();
    let drain = Duration::from_secs(settings.http.drain_seconds);
    let server = tokio::spawn(serve::serve(listener, app.clone(), stop.clone(), drain));

    let observed = Observed {
        watcher: Watcher::new(lab, &*log)?,
        tips: full.tips.iter().map(about).collect(),
        rewards: settings.scorer.learn.rewards,
    };
    let mut driver = Driver::new(full.app, people, clock, board.clone(), observed);
    tracing::info!(address, "listening");
    eprintln!("Posting the past {} days of {} people…", PAST / DAY, arguments.people);
    driver.catch_up().await?;
    say_where(&address, &board, &arguments);
    let lived = live(driver, &board, &stop, arguments.seconds).await;
    stop.cancel();
    let served = server.await.map_err(|e| Error::Broken(format!("the HTTP server stopped: {e}")))?;
    let stopped = run::stop_within(full.process, Duration::from_secs(30)).await;
    say_figures(&board);
    lived.and(served).and(stopped)
}

/// Another policy than this one, to run in its shadow.
fn beside(policy: &PolicyConfig) -> PolicyConfig {
    let name = match policy.name {
        PolicyName::LinTs => PolicyName::LinUcb,
        _ => PolicyName::LinTs,
    };
    PolicyConfig { name, ..PolicyConfig::default() }
}

async fn live(driver: Driver, board: &Board, stop: &CancellationToken, seconds: Option<u64>) -> Result<()> {
    let over = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    let tell = async {
        let mut tick = tokio::time::interval(Duration::from_secs(15));
        tick.tick().await;
        loop {
            tick.tick().await;
            let (bandit, uniform) = board.with(|stats| stats.recent(6));
            eprintln!("{}", line("last half minute", &bandit, &uniform));
        }
    };
    tokio::select! {
        ended = driver.live() => ended,
        () = stop.cancelled() => Ok(()),
        () = over => Ok(()),
        () = tell => Ok(()),
    }
}

fn say_where(address: &str, board: &Board, arguments: &DemoArgs) {
    let somebody = board.people.first().map_or("ada", String::as_str);
    println!();
    println!("  http://{address}/demo   whether it learns, live");
    println!("  http://{address}/lab    what it earns and what it knows, against the truth");
    println!("  http://{address}/       the tip page; be one of the people with /?user={somebody}");
    println!("  http://{address}/metrics and /openapi.json for programs");
    println!();
    println!("{} people, one second is {} minutes. Ctrl-C ends it.", arguments.people, arguments.speed);
}

fn say_figures(board: &Board) {
    let (bandit, uniform) = board.with(|stats| stats.recent(6));
    println!("{}", line("last half minute", &bandit, &uniform));
    let (bandit, uniform) = board.with(|stats| stats.totals());
    println!("{}", line("since the start", &bandit, &uniform));
}

fn line(when: &str, bandit: &stats::Share, uniform: &stats::Share) -> String {
    let say = |s: &stats::Share| match s.rate {
        Some(rate) => {
            format!("{:.1} % ({:.1} to {:.1}, n = {})", 100.0 * rate, 100.0 * s.low, 100.0 * s.high, s.shown)
        }
        None => "no tips".into(),
    };
    format!("{when}: taken up from the policy {}, from a uniform choice {}", say(bandit), say(uniform))
}

/// A data directory that goes away with the demo.
struct TemporaryData(Option<std::path::PathBuf>);

impl TemporaryData {
    fn unless_named(settings: &mut Settings) -> Result<TemporaryData> {
        if settings.data != crate::config::Data::default() {
            return Ok(TemporaryData(None));
        }
        let dir = std::env::temp_dir().join(format!("kairos-demo-{}", std::process::id()));
        settings.data.dir.clone_from(&dir);
        Ok(TemporaryData(Some(dir)))
    }
}

impl Drop for TemporaryData {
    fn drop(&mut self) {
        if let Some(dir) = &self.0
            && let Err(e) = std::fs::remove_dir_all(dir)
        {
            tracing::warn!(dir = %dir.display(), error = %e, "the demo's data could not be removed");
        }
    }
}
