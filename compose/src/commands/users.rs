//! `kairos users export|erase`.

use std::io::Write;

use clap::Subcommand;

use super::history_to_read;
use crate::{
    clock,
    config::Settings,
    error::{Error, Result},
    parts::{Core, Features},
    ports,
    process::{Process, Tasks},
};

/// One person's data.
#[derive(Debug, Subcommand)]
pub enum UsersCommand {
    /// Everything kept about a person, one JSON object a line; as of the last checkpoint
    Export {
        /// The person, as `subject` in signals
        user: String,
    },
    /// Erase a person everywhere; needs the data directory for itself
    Erase {
        /// The person, as `subject` in signals
        user: String,
        /// Really
        #[arg(long)]
        yes: bool,
    },
}

/// Runs the command.
pub async fn run(settings: &Settings, command: UsersCommand) -> Result<()> {
    match command {
        UsersCommand::Export { user } => export(settings, &user),
        UsersCommand::Erase { user, yes: false } => {
            Err(Error::Input(format!("this erases everything about `{user}` for good; say `--yes` to do it")))
        }
        UsersCommand::Erase { user, yes: true } => erase(settings, &user).await,
    }
}

fn export(settings: &Settings, user: &str) -> Result<()> {
    let history = history_to_read(settings)?;
    let mut out = std::io::stdout().lock();
    ports::people::rows_of(&*history, user, |piece| out.write_all(&piece).is_ok())
        .map_err(|e| Error::Broken(e.to_string()))
}

async fn erase(settings: &Settings, user: &str) -> Result<()> {
    let core = Core::open(settings, clock::system())?;
    let log = core.log.clone();
    let features = Features::open(settings, &core)?;
    let eraser = features.job.eraser();
    let records = log.erase(user).await?;
    let process = Process::over(settings, core, Tasks { stream: true, ..Tasks::default() }, features);
    let rows = eraser.erase(user).await.map_err(Error::Unavailable)?;
    process.stop().await?;
    println!("{records} records of the log and {rows} rows of history are gone");
    Ok(())
}
