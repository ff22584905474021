//! `kairos policy list`.

use clap::Subcommand;
use ingest::log::{Log, Position, Topic};
use prost::Message;
use scorer::record::SavedPolicy;
use serde_json::json;

use super::log_to_read;
use crate::{config::Settings, error::Result};

/// Policies and their snapshots.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Every snapshot in the log, oldest first
    List {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub fn run(settings: &Settings, command: &PolicyCommand) -> Result<()> {
    let PolicyCommand::List { json } = command;
    let log = log_to_read(settings)?;
    let mut reader = log.reader(Topic::Policies, &[0], &Position::default())?;
    if !json {
        println!("{:<12} {:>10} {:<26} {:>10} {:<16}", "policy", "rewards", "taken", "bytes", "inputs");
    }
    loop {
        let records = reader.poll(16)?;
        if records.is_empty() {
            return Ok(());
        }
        // A snapshot of a newer program cannot be read; the learner passes over it too.
        for saved in records.iter().filter_map(|r| SavedPolicy::decode(&r.payload[..]).ok()) {
            let taken = jiff::Timestamp::from_millisecond(saved.taken_at).unwrap_or_default();
            let inputs = format!("{:016x}", saved.fingerprint);
            if *json {
                let line = json!({
                    "policy": saved.name, "version": saved.version, "taken_at": taken.to_string(),
                    "bytes": saved.state.len(), "inputs": inputs,
                });
                println!("{line}");
            } else {
                let bytes = saved.state.len();
                println!(
                    "{:<12} {:>10} {:<26} {bytes:>10} {inputs:<16}",
                    saved.name,
                    saved.version,
                    taken.to_string()
                );
            }
        }
    }
}
