//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{bench::BenchArgs, commands, config::LogFormat, demo::DemoArgs, replay::ReplayArgs, roles::Role};

/// Turns a stream of personal signals into one well-timed tip.
#[derive(Debug, Parser)]
#[command(name = "kairos", version, arg_required_else_help = true)]
pub struct Cli {
    /// Settings every command shares.
    #[command(flatten)]
    pub shared: Shared,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags every command takes; each stands above the environment and the file.
#[derive(Debug, Args, Default)]
pub struct Shared {
    /// Settings file [default: kairos.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory [setting: data.dir]
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// More signal types: a directory of .proto files [setting: signals.dirs]
    #[arg(long, global = true, value_name = "DIR")]
    pub signals: Vec<PathBuf>,
    /// More feature views: a directory of .sql files [setting: views.dirs]
    #[arg(long, global = true, value_name = "DIR")]
    pub views: Vec<PathBuf>,
    /// More tips: a TOML file [setting: tips.files]
    #[arg(long, global = true, value_name = "FILE")]
    pub tips: Vec<PathBuf>,
    /// Address to serve HTTP on [setting: http.listen]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// How log lines look [setting: logs.format]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve: every role in one process, or the roles named
    Run {
        /// Roles to start; all when none is named
        #[arg(value_enum, value_name = "ROLE")]
        roles: Vec<Role>,
    },
    /// Watch it learn: simulated people, every role in one process, a page that shows the lift
    Demo(DemoArgs),
    /// Feed signals from files of one JSON signal a line (.gz and .zst too; - is standard input)
    Replay(ReplayArgs),
    /// Ask for features (what there is, values now or at an instant, rows for a training set), and test views
    #[command(subcommand)]
    Features(commands::features::FeaturesCommand),
    /// Functions of your own for feature views, in Rust
    #[command(subcommand)]
    Udf(commands::udf::UdfCommand),
    /// Feature views on Arroyo: their SQL, deployed and looked at
    #[command(subcommand)]
    Arroyo(commands::arroyo::ArroyoCommand),
    /// Policies and their snapshots
    #[command(subcommand)]
    Policy(commands::policy::PolicyCommand),
    /// Teach a policy from the log and register its snapshot; write a training set of logged decisions
    Train(commands::train::TrainArgs),
    /// What other policies would have earned, by the decisions in the log or in any file of logged decisions
    Evaluate(commands::evaluate::EvaluateArgs),
    /// The policies for any program: choices and rewards as JSON lines, or one pass over a reward table
    Bandit(commands::bandit::BanditArgs),
    /// Why a tip was shown: context, candidates, scores, propensities, policy version
    Explain {
        /// Id of the impression, as `POST /v1/recommend` gave it
        impression: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Scheduler and executors that make features for many rows
    #[cfg(feature = "ballista")]
    #[command(subcommand)]
    Ballista(commands::ballista::BallistaCommand),
    /// Check the settings and open every backend once
    Check,
    /// API keys
    #[command(subcommand)]
    Keys(commands::keys::KeysCommand),
    /// The log: move what an embedded one holds to the one configured
    #[command(subcommand)]
    Log(commands::log::LogCommand),
    /// One person's data
    #[command(subcommand)]
    Users(commands::users::UsersCommand),
    /// Measure this machine, each figure beside its reference
    Bench(BenchArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_takes_its_arguments() {
        for line in [
            "run",
            "run ingest api --data d --listen 127.0.0.1:1",
            "demo --people 10 --speed 5",
            "replay a.gz - --batch 10 --rejects r --signals dir",
            "features read ada --view sleep_debt --as-of 2020-01-01T00:00:00Z",
            "features test cases more --complete --at 2020-01-01T00:00:00Z --at 2020-01-02T00:00:00Z",
            "udf add mine.rs ewma",
            "udf add --shipped",
            "features backfill work --from 2020-01-01T00:00:00Z",
            "features drop work@0123456789abcdef",
            "features join rows.csv --output out.parquet --memory 64",
            "features join --table impressions --output out.parquet --feature work@0123.n_1h",
            "features join rows.csv --output out.parquet --engine ballista://h:1 --staging d --jobs 4 --timeout 9",
            #[cfg(feature = "ballista")]
            "ballista scheduler --listen 127.0.0.1:1 --patience 5",
            #[cfg(feature = "ballista")]
            "ballista executor --scheduler h:1 --slots 2 --work d --memory 64",
            "features explain stress.reports_7d --json",
            "policy list",
            "arroyo export --out dir task_activity stress",
            "arroyo deploy",
            "arroyo load",
            "arroyo status --json",
            "arroyo stop stress",
            "evaluate --json --seed 3",
            "evaluate --logs rows.jsonl --policy linucb --html report.html",
            "evaluate --logs rows.jsonl --clip inf --switch 5 --folds 3 --resamples 500",
            "train --policy linucb --output set.parquet --from 2020-01-01T00:00:00Z --feature work.n_1h",
            "policy promote --dry-run --json",
            "policy rollback 1200 --url http://127.0.0.1:1",
            "explain 00 --json",
            "bandit --stdio --policy uniform --seed 3 --rounds 10",
            "bandit run --data table.csv --policy lints --seed 3 --seeds 2 --in-order --log l.jsonl --json",
            "check",
            "keys new phone --scope ingest --scope read",
            "log copy --from kairos-data",
            "users erase ada --yes",
            "bench freshness --load 20000",
            "bench ingest stream --stream-signals 10 --rows d --reference python --json",
            "bench state curve entity --state-signals 10 --curve-signals 10",
        ] {
            let words = std::iter::once("kairos").chain(line.split(' '));
            if let Err(e) = Cli::try_parse_from(words) {
                panic!("`kairos {line}`: {e}");
            }
        }
    }
}
