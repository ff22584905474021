//! How history is opened.

use std::{fmt, path::PathBuf, time::Duration};

use ingest::Clock;

/// What every kind of history needs to be opened.
#[derive(Clone)]
pub struct HistoryOptions {
    /// Which store it is: see [`open`](super::open).
    pub url: String,
    /// The data directory: of the embedded store, and of a server's spool.
    pub data_dir: PathBuf,
    /// The time.
    pub clock: Clock,
    /// Reads beside the process that writes; every change is refused.
    pub read_only: bool,
    /// What only a server needs.
    pub server: ServerOptions,
}

impl HistoryOptions {
    /// The store of this URL, to be written, with the defaults.
    pub fn new(url: &str, data_dir: impl Into<PathBuf>, clock: Clock) -> Self {
        HistoryOptions {
            url: url.to_owned(),
            data_dir: data_dir.into(),
            clock,
            read_only: false,
            server: ServerOptions::default(),
        }
    }
}

/// How a server is spoken to, and how rows wait for it.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Its user; `None` for the server's default.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// Most bytes that wait on local disk for the server.
    pub spool_bytes: u64,
    /// So many rows are sent without waiting for more.
    pub batch_rows: u64,
    /// Longest that rows wait for more to be sent with.
    pub batch_time: Duration,
    /// Age, by their time, at which the server drops rows; `None` keeps them for good.
    pub keep: Option<Duration>,
    /// Longest that one request may take.
    pub timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            user: None,
            password: None,
            spool_bytes: 4 << 30,
            batch_rows: 500_000,
            batch_time: Duration::from_secs(5),
            keep: None,
            timeout: Duration::from_secs(60),
        }
    }
}

/// A text that no log and no error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps this text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for who must send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
