//! Settings: defaults, then `kairos.toml`, then `KAIROS__SECTION__KEY` in the environment, then flags.
//!
//! A setting is plain data here; living parts are made from it elsewhere. Secrets never stand in flags.

mod arroyo;
mod check;
mod history;
mod load;
mod log;
mod online;

use std::path::PathBuf;

use clap::ValueEnum;
use features::udf::Folder;
use ingest::{admit::FutureTimes, catalogue::UnknownFields};
use scorer::ScorerConfig;
use serde::{Deserialize, Serialize};

pub use arroyo::{Arroyo, Engine};
pub use check::{address, loopback_unless_keyed};
pub use history::History;
pub use load::load;
pub use log::LogStore;
pub use online::Online;

/// Every setting there is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where everything is kept.
    pub data: Data,
    /// The HTTP server.
    pub http: Http,
    /// The log.
    pub log: LogStore,
    /// Features of now.
    pub online: Online,
    /// Features and signals of all times.
    pub history: History,
    /// Accounts.
    pub accounts: Accounts,
    /// SQL for analysts.
    pub sql: Sql,
    /// Signal types and how strict the door is.
    pub signals: Signals,
    /// Feature views.
    pub views: Views,
    /// Reference tables that views may join.
    pub tables: Tables,
    /// User functions.
    pub udfs: Udfs,
    /// Tips.
    pub tips: Tips,
    /// The stream job.
    pub stream: Stream,
    /// Feature views on Arroyo.
    pub arroyo: Arroyo,
    /// Samples compared with the views' SQL.
    pub verify: Verify,
    /// How tips are chosen and learned.
    pub scorer: ScorerConfig,
    /// Training by night.
    pub train: Train,
    /// Limits on callers.
    pub limits: Limits,
    /// How long the log keeps what.
    pub retention: Retention,
    /// API keys.
    pub auth: Auth,
    /// Log lines of the process.
    pub logs: Logs,
}

/// `[data]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// The data directory; made if absent.
    pub dir: PathBuf,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// `host:port`; anything but loopback needs an API key.
    pub listen: String,
    /// How long a stop may wait for requests that are under way, in seconds.
    pub drain_seconds: u64,
}

/// `[accounts]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accounts {
    /// `embedded:`
    pub url: String,
}

/// `[sql]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sql {
    /// `host:port` for PostgreSQL clients; unset means none.
    pub listen: Option<String>,
}

/// `[signals]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Signals {
    /// Directories of `.proto` files, beside the built-in types.
    pub dirs: Vec<PathBuf>,
    /// What to do with a field of `data` that the type does not declare.
    pub unknown_fields: UnknownFields,
    /// What to do with a signal from the future.
    pub future_times: FutureTimes,
    /// How far ahead of its arrival an event time may be, in seconds.
    pub future_seconds: u64,
}

/// `[tables]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tables {
    /// Directories of `.csv`, `.ndjson` and `.parquet` files, each a table named after its file.
    pub dirs: Vec<PathBuf>,
}

/// `[views]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Views {
    /// Directories of `.sql` files, beside the built-in views.
    pub dirs: Vec<PathBuf>,
}

/// `[udfs]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Udfs {
    /// Where `kairos udf add` installs functions; unset is `udfs` in the data directory. Its code runs here.
    pub dir: Option<PathBuf>,
    /// Where it builds them; unset is `build` in that directory.
    pub build_dir: Option<PathBuf>,
}

/// `[tips]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tips {
    /// Files of tips, beside the built-in ones.
    pub files: Vec<PathBuf>,
}

/// `[stream]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// Who computes the views.
    pub engine: Engine,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: f64,
    /// Most records taken from the log at once.
    pub batch: usize,
    /// Megabytes of events kept in memory; beyond, those that the checkpoint has are read from disk when needed.
    pub memory_mb: usize,
    /// Partitions of the topic of signals that this process works on; unset means all. Each needs one process, and
    /// two processes never get the same one.
    pub partitions: Option<Vec<u32>>,
}

/// `[verify]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    /// How many times a minute one person's values of one view are compared with the view's SQL; 0 for never.
    pub per_minute: u32,
}

/// `[train]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Hour of the day in UTC, 0 to 23, at which the shadow is trained anew; unset for never.
    pub hour: Option<u8>,
    /// Days before that of which it learns; unset for all there are in the log.
    pub days: Option<u32>,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest request body, in bytes.
    pub body_bytes: usize,
    /// Longest a request may take, in seconds.
    pub request_seconds: u64,
    /// Requests a second for each key, in the long run; unset for no limit.
    pub key_per_second: Option<f64>,
    /// Requests a second for each address that brings no valid key; unset for no limit.
    pub address_per_second: Option<f64>,
}

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Days the log keeps records; unset keeps them for good. History is not touched.
    pub days: Option<u64>,
    /// Bytes the log may take; unset for no bound.
    pub bytes: Option<u64>,
}

/// `[auth]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// File of hashed API keys, as `kairos keys new` writes it; unset is `keys.toml` in the data directory.
    pub keys_file: Option<PathBuf>,
}

/// `[logs]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logs {
    /// For people or for machines.
    pub format: LogFormat,
    /// A filter such as `info` or `warn,scorer=debug`; unset means what suits the command.
    pub level: Option<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For a person on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For a person.
    Human,
    /// One JSON object a line.
    Json,
}

impl Settings {
    /// Where the stream job keeps its state.
    pub fn checkpoint_file(&self) -> PathBuf {
        self.data.dir.join("features.redb")
    }

    /// Where the counts behind the drift of features are kept.
    pub fn quality_file(&self) -> PathBuf {
        self.data.dir.join("quality.json")
    }

    /// Where user functions are.
    pub fn udfs_dir(&self) -> PathBuf {
        self.udfs.dir.clone().unwrap_or_else(|| self.data.dir.join("udfs"))
    }

    /// Where user functions are built.
    pub fn udfs_build_dir(&self) -> PathBuf {
        self.udfs.build_dir.clone().unwrap_or_else(|| self.udfs_dir().join("build"))
    }

    /// Directories of feature views, those that came with user functions included.
    pub fn views_dirs(&self) -> Vec<PathBuf> {
        let with_functions = Folder::new(&self.udfs_dir()).views();
        self.views.dirs.iter().cloned().chain(with_functions.is_dir().then_some(with_functions)).collect()
    }

    /// Where trained policies and training sets are left, and how far a training has come.
    pub fn training_dir(&self) -> PathBuf {
        self.data.dir.join("training")
    }

    /// Where the hashed API keys are.
    pub fn keys_file(&self) -> PathBuf {
        self.auth.keys_file.clone().unwrap_or_else(|| self.data.dir.join("keys.toml"))
    }
}

impl Stream {
    /// The name of this stream job among those of other partitions.
    pub fn name(&self) -> String {
        let partitions = self.partitions.iter().flatten().map(u32::to_string).collect::<Vec<_>>();
        if partitions.is_empty() { "stream".to_owned() } else { format!("stream-{}", partitions.join("-")) }
    }
}

impl Default for Data {
    fn default() -> Self {
        Data { dir: PathBuf::from("kairos-data") }
    }
}

impl Default for Http {
    fn default() -> Self {
        Http { listen: "127.0.0.1:8080".into(), drain_seconds: 10 }
    }
}

impl Default for Accounts {
    fn default() -> Self {
        Accounts { url: "embedded:".into() }
    }
}

impl Default for Signals {
    fn default() -> Self {
        Signals {
            dirs: Vec::new(),
            unknown_fields: UnknownFields::Reject,
            future_times: FutureTimes::Reject,
            future_seconds: 300,
        }
    }
}

impl Default for Stream {
    fn default() -> Self {
        Stream {
            engine: Engine::default(),
            checkpoint_seconds: 10.0,
            batch: 524_288,
            memory_mb: 1_024,
            partitions: None,
        }
    }
}

impl Default for Verify {
    fn default() -> Self {
        Verify { per_minute: 60 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits { body_bytes: 8 << 20, request_seconds: 30, key_per_second: None, address_per_second: None }
    }
}
