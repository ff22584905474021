//! Log lines: for a person on a terminal, one JSON object a line otherwise.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::{
    config::{LogFormat, Logs},
    error::{Error, Result},
};

/// Starts the log of this process, on stderr; answers of commands go to stdout.
///
/// `quiet` raises the bar to warnings for commands whose answer is the point; a level set by the operator wins.
pub fn start(settings: &Logs, quiet: bool) -> Result<()> {
    let level = settings.level.as_deref().unwrap_or(if quiet { "warn" } else { "info" });
    let filter = EnvFilter::try_new(level).map_err(|e| {
        Error::Setting(format!(
            "logs.level: `{level}` is no filter ({e}); write for example `info` or `warn,scorer=debug`"
        ))
    })?;
    let human = match settings.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    // A log line that cannot be written (a full disk behind stderr) is lost; complaining of it there would panic.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let started = if human {
        lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
    } else {
        lines.json().flatten_event(true).with_current_span(false).try_init()
    };
    started.map_err(|e| Error::Broken(format!("the log of this process could not start: {e}")))
}
