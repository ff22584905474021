use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Clock, catalogue::Catalogue};

/// Settings of the log; the defaults suit one machine.
#[derive(Clone)]
pub struct LogOptions {
    /// Partitions of the topic `signals`, 1 to 1024. Fixed when the log is created; the other topics have one.
    pub partitions: u32,
    /// A segment file is closed, and the next begun, once it has this many bytes.
    pub segment_bytes: u64,
    /// Largest payload of one record in bytes.
    pub max_record_bytes: usize,
    /// Bytes of one topic that may wait for the disk before `append` makes its callers wait.
    pub queue_bytes: usize,
    /// Closed segments older than this are dropped by `enforce_retention`.
    pub retain_age: Option<Duration>,
    /// The oldest closed segments of a topic are dropped while it is larger than this many bytes.
    pub retain_bytes: Option<u64>,
    /// Declared signal types: a log that other programs read too carries signals as they declare them.
    pub catalogue: Option<Arc<Catalogue>>,
    /// Stamps what a log on other machines is given; needed by `fluvio:` alone.
    pub clock: Option<Clock>,
    /// What `fluvio:` needs beyond.
    pub fluvio: FluvioOptions,
}

/// Settings of the log on a Fluvio cluster.
#[derive(Debug, Clone)]
pub struct FluvioOptions {
    /// Topics are named `<prefix>-signals` and so on.
    pub topic_prefix: String,
    /// Copies of each partition, for topics that are made.
    pub replication: u32,
    /// What Fluvio must have done before a record counts as durable.
    pub isolation: Isolation,
    /// How batches are compressed.
    pub compression: Compression,
    /// How long a batch waits for more callers before it is sent.
    pub linger: Duration,
    /// Certificates; none for a connection in the clear.
    pub tls: Option<Tls>,
    /// How long an append may take, and opening may wait for the cluster.
    pub patience: Duration,
    /// How many idempotency keys of each topic are remembered, at least; up to twice as many are.
    pub recent_keys: usize,
}

/// What Fluvio must have done before a record counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Every copy that is in step has it.
    #[default]
    ReadCommitted,
    /// The leader has it.
    ReadUncommitted,
}

/// How batches are compressed on their way and at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// Gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    #[default]
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Certificates in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The authority that the cluster's certificates come from.
    pub ca_file: PathBuf,
    /// The certificate and the key this process shows, if the cluster asks for one.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The name the controller's certificate is for; a processing unit's is for `<unit>.<domain>`.
    pub domain: String,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            partitions: 4,
            segment_bytes: 64 << 20,
            max_record_bytes: 1 << 20,
            queue_bytes: 64 << 20,
            retain_age: None,
            retain_bytes: None,
            catalogue: None,
            clock: None,
            fluvio: FluvioOptions::default(),
        }
    }
}

impl Default for FluvioOptions {
    fn default() -> Self {
        FluvioOptions {
            topic_prefix: "kairos".into(),
            replication: 1,
            isolation: Isolation::default(),
            compression: Compression::default(),
            linger: Duration::ZERO,
            tls: None,
            patience: Duration::from_secs(10),
            recent_keys: 500_000,
        }
    }
}

impl fmt::Debug for LogOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogOptions")
            .field("partitions", &self.partitions)
            .field("segment_bytes", &self.segment_bytes)
            .field("retain_age", &self.retain_age)
            .field("retain_bytes", &self.retain_bytes)
            .field("fluvio", &self.fluvio)
            .finish_non_exhaustive()
    }
}
