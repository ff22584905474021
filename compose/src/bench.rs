//! `kairos bench`: whole-process measurements, each beside its reference in the same run.
//!
//! The program under test runs in this process, on a data directory of its own, behind its real HTTP server
//! on loopback; the load comes from a thread of its own. Both share the machine, as the references do.
//!
//! | module | what |
//! |---|---|
//! | [`load`] | the load generator |
//! | [`bare`] | reference servers |
//! | [`figures`] | latencies, ratios, the table |
//! | [`subject`] | the program under test |
//! | [`rows`] | signals as Arrow batches |
//! | [`batch`] | the same features as one batch elsewhere |
//! | `fluvio`, `redis` | the log on a cluster, features on a server |
//! | `clickhouse` | rows into ClickHouse |
//! | [`ingest`], [`freshness`], [`recommend`], [`reads`], [`stream`], [`curve`], [`state`] | what is measured |

mod bare;
mod batch;
#[cfg(feature = "clickhouse")]
mod clickhouse;
mod curve;
mod figures;
#[cfg(feature = "fluvio")]
mod fluvio;
mod freshness;
mod ingest;
mod load;
mod reads;
mod recommend;
#[cfg(feature = "redis")]
mod redis;
mod rows;
mod state;
mod stream;
mod subject;

use clap::{Args, ValueEnum};

use crate::{
    config::Settings,
    error::{Error, Result},
};
use figures::Figure;
use subject::Subject;

/// What to measure, and for how long.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure; everything when none is named
    #[arg(value_enum, value_name = "WHAT")]
    pub what: Vec<What>,
    /// Seconds for each side of each comparison
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
    /// Signals a second that come in beside those that `freshness` measures
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub load: u32,
    /// What `stream` is measured with
    #[command(flatten)]
    pub stream: stream::StreamArgs,
    /// Signals for `state`
    #[arg(long, default_value_t = 10_000_000, value_name = "N")]
    pub state_signals: usize,
    /// Longest history of `curve`, in signals; that of `entity` is a million, or this if it is less
    #[arg(long, default_value_t = 10_000_000, value_name = "N")]
    pub curve_signals: usize,
    /// Rows for `clickhouse`
    #[arg(long, default_value_t = 2_000_000, value_name = "N")]
    pub clickhouse_rows: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Something that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Signals in: one a request beside a bare handler, and in durable batches of 500
    Ingest,
    /// From durable accept to readable value
    Freshness,
    /// Tips at half load
    Recommend,
    /// Twenty features of one person, beside a handler that returns the same bytes
    Features,
    /// Signals through ten views with three windows each, beside the same features as one batch
    Stream,
    /// The cost of a signal over the length of the window and of the history
    Curve,
    /// One entity with a million signals in its window
    Entity,
    /// Checkpoints and recovery of a large state
    State,
    /// The log on the Fluvio cluster that `log.url` names, beside the client's own producer and consumer
    Fluvio,
    /// Features in the Redis of `online.url`, beside the raw client; only when named, and alone
    Redis,
    /// Rows into the ClickHouse of `history.url`, beside its client's inserter
    Clickhouse,
}

impl What {
    /// Whether it is measured on a program that runs.
    fn needs_server(self) -> bool {
        matches!(self, What::Ingest | What::Freshness | What::Recommend | What::Features)
    }
}

/// Measures and prints.
pub async fn run(settings: Settings, arguments: BenchArgs) -> Result<()> {
    if !(0.1..=600.0).contains(&arguments.seconds) {
        return Err(Error::Setting(format!(
            "--seconds: {} is out of range; write 0.1 to 600",
            arguments.seconds
        )));
    }
    let what = if arguments.what.is_empty() { What::value_variants() } else { &arguments.what };
    let seconds = arguments.seconds;
    let mut figures = Vec::new();
    if what.iter().any(|w| w.needs_server()) {
        let subject = Subject::start(settings.clone()).await?;
        for what in what.iter().filter(|w| w.needs_server()) {
            subject.settle().await?;
            figures.extend(match what {
                What::Ingest => ingest::measure(&subject, seconds).await?,
                What::Freshness => {
                    let servers = subject.features.online().resident().is_none();
                    freshness::measure(&subject, seconds, arguments.load, servers).await?
                }
                What::Recommend => recommend::measure(&subject, seconds).await?,
                What::Features => reads::measure(&subject, seconds).await?,
                _ => Vec::new(),
            });
        }
        subject.stop().await?;
    }
    if what.contains(&What::Stream) {
        figures.extend(stream::measure(&settings, &arguments.stream).await?);
    }
    if what.contains(&What::Curve) {
        figures.extend(curve::measure(&settings, arguments.curve_signals)?);
    }
    if what.contains(&What::Entity) {
        figures.extend(curve::one_entity(&settings, arguments.curve_signals.min(1_000_000))?);
    }
    if what.contains(&What::State) {
        figures.extend(state::measure(&settings, arguments.state_signals).await?);
    }
    if what.contains(&What::Fluvio)
        && (!arguments.what.is_empty() || settings.log.url.starts_with("fluvio://"))
    {
        figures.extend(on_fluvio(&settings).await?);
    }
    if arguments.what.contains(&What::Redis) {
        figures.extend(on_redis(&settings, seconds).await?);
    }
    if what.contains(&What::Clickhouse)
        && (!arguments.what.is_empty() || settings.history.url.starts_with("http"))
    {
        figures.extend(on_clickhouse(&settings, arguments.clickhouse_rows).await?);
    }
    print(&figures, arguments.json)
}

#[cfg(feature = "fluvio")]
async fn on_fluvio(settings: &Settings) -> Result<Vec<Figure>> {
    fluvio::measure(settings).await
}

#[cfg(not(feature = "fluvio"))]
async fn on_fluvio(_: &Settings) -> Result<Vec<Figure>> {
    Err(Error::Setting("bench fluvio: this build has no Fluvio backend (cargo feature `fluvio`)".into()))
}

#[cfg(feature = "redis")]
async fn on_redis(settings: &Settings, seconds: f64) -> Result<Vec<Figure>> {
    redis::run(settings, seconds).await
}

#[cfg(not(feature = "redis"))]
async fn on_redis(_: &Settings, _: f64) -> Result<Vec<Figure>> {
    Err(Error::Setting("bench redis: this build has no Redis backend (cargo feature `redis`)".into()))
}

#[cfg(feature = "clickhouse")]
async fn on_clickhouse(settings: &Settings, rows: usize) -> Result<Vec<Figure>> {
    clickhouse::measure(settings, rows).await
}

#[cfg(not(feature = "clickhouse"))]
async fn on_clickhouse(_: &Settings, _: usize) -> Result<Vec<Figure>> {
    Err(Error::Setting("bench clickhouse: this build has no ClickHouse (cargo feature `clickhouse`)".into()))
}

fn print(figures: &[Figure], json: bool) -> Result<()> {
    if json {
        let text = serde_json::to_string_pretty(figures).map_err(|e| Error::Broken(e.to_string()))?;
        println!("{text}");
    } else {
        figures.iter().for_each(|figure| println!("{figure}"));
    }
    Ok(())
}
