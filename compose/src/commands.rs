//! The smaller commands, one module each.

pub mod arroyo;
#[cfg(feature = "ballista")]
pub mod ballista;
pub mod bandit;
pub mod evaluate;
pub mod explain;
pub mod features;
pub mod keys;
pub mod log;
pub mod policy;
pub mod train;
pub mod udf;
pub mod users;

use std::sync::Arc;

use ::features::offline::OfflineStore;
use ingest::log::{Log, embedded::EmbeddedLog};

use crate::{
    clock,
    config::Settings,
    error::{Error, Result},
    parts::{self, Core},
};

/// The log, to be read beside a running server.
pub fn log_to_read(settings: &Settings) -> Result<Arc<dyn Log>> {
    if !settings.log.url.starts_with("embedded:") {
        return Ok(Core::open(settings, clock::system())?.log);
    }
    Ok(Arc::new(EmbeddedLog::open_read_only(&settings.data.dir.join("log"))?))
}

/// History as of the last checkpoint, to be read beside a running server.
pub fn history_to_read(settings: &Settings) -> Result<Arc<dyn OfflineStore>> {
    parts::history_to_read(settings, clock::system())
}

/// Reads an instant as people write it.
pub fn instant(argument: &str, text: &str) -> Result<ingest::Millis> {
    text.parse::<jiff::Timestamp>().map(|t| t.as_millisecond()).map_err(|e| {
        Error::Input(format!(
            "{argument}: `{text}` is no instant ({e}); write for example `2020-02-01T08:00:00Z`"
        ))
    })
}
