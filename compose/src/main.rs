//! Kairos: a stream of personal signals in, one well-timed tip out. This is the one binary.
//!
//! | module | what |
//! |---|---|
//! | [`cli`], [`config`], [`roles`] | what is asked for: command line, settings, the table of roles |
//! | [`parts`], [`process`], [`ports`] | what is started: parts opened, tasks run, joined to the routes |
//! | [`run`], [`serve`], [`nightly`] | `kairos run`, what trains by night |
//! | [`watch`], [`lookout`], [`erasures`] | what looks after features, servers, and those who leave |
//! | [`demo`] | simulated people on the real program |
//! | [`replay`] | signals from files |
//! | [`bench`] | measurements beside their references |
//! | [`check`], [`commands`] | the smaller commands |
//! | [`clock`], [`logs`], [`telemetry`], [`progress`], [`client`], [`error`] | time, log lines, metrics, progress, HTTP client, errors |

mod bench;
mod check;
mod cli;
mod client;
mod clock;
mod commands;
mod config;
mod demo;
mod erasures;
mod error;
mod logs;
mod lookout;
mod nightly;
mod parts;
mod ports;
mod process;
mod progress;
mod replay;
mod roles;
mod run;
mod serve;
mod tables;
mod telemetry;
mod tiles;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use error::{Error, Result};

/// A third of the stream job's time was the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            e.exit_code()
        }
    }
}

fn start(cli: Cli) -> Result<()> {
    let settings = config::load(&cli.shared)?;
    let listen = cli.shared.listen;
    let serves = matches!(cli.command, Command::Run { .. } | Command::Demo(_));
    let connected = match &cli.command {
        #[cfg(feature = "ballista")]
        Command::Ballista(_) => true,
        Command::Features(command) => command.over_a_cluster(),
        _ => false,
    };
    // A connection that the other side closed must not end the process.
    if !serves && !connected {
        // So that `kairos … | head` ends quietly, as other commands do.
        sigpipe::reset();
    }
    logs::start(&settings.logs, !serves)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::Unavailable(format!("no threads to run on: {e}")))?
        .block_on(execute(settings, listen, cli.command))
}

/// `listen` is the address as given on the command line, which for some commands is not that of HTTP.
#[cfg_attr(not(feature = "ballista"), allow(unused_variables, reason = "for the cluster's processes alone"))]
async fn execute(settings: config::Settings, listen: Option<String>, command: Command) -> Result<()> {
    match command {
        Command::Run { roles } => run::run(&settings, &roles).await,
        Command::Demo(arguments) => demo::run(settings, arguments).await,
        Command::Replay(arguments) => replay::run(&settings, arguments).await,
        Command::Features(command) => commands::features::run(&settings, command).await,
        Command::Udf(command) => commands::udf::run(&settings, &command),
        Command::Arroyo(command) => commands::arroyo::run(&settings, &command).await,
        Command::Policy(command) => commands::policy::run(&settings, command).await,
        Command::Train(arguments) => commands::train::run(&settings, arguments).await,
        Command::Evaluate(arguments) => commands::evaluate::run(&settings, &arguments),
        Command::Bandit(arguments) => commands::bandit::run(arguments),
        Command::Explain { impression, json } => commands::explain::run(&settings, &impression, json),
        #[cfg(feature = "ballista")]
        Command::Ballista(command) => commands::ballista::run(&settings, listen, command).await,
        Command::Check => check::run(&settings),
        Command::Keys(command) => commands::keys::run(&settings, &command),
        Command::Log(command) => commands::log::run(&settings, command).await,
        Command::Users(command) => commands::users::run(&settings, command).await,
        Command::Bench(arguments) => bench::run(settings, arguments).await,
    }
}
