//! The log: the only bus of the system. Topics of records, partitioned by subject.

pub mod embedded;
#[cfg(feature = "fluvio")]
pub mod fluvio;
mod options;

use std::{collections::BTreeMap, fmt, path::Path, str::FromStr, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

pub use options::{Compression, FluvioOptions, Isolation, LogOptions, Tls};

/// Number of a partition within a topic.
pub type Partition = u32;
/// Place of a record within its partition; grows, may skip.
pub type Offset = u64;

/// The topics there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Signals, impressions and reactions: everything with an event time about a subject.
    Signals,
    /// Joined rewards, one partition, in the order in which policies learn them.
    Rewards,
    /// Policy snapshots, one partition.
    Policies,
    /// Who was erased and up to where, one partition. A log that deletes what it erases leaves it empty.
    Erasures,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Topic; 4] = [Topic::Signals, Topic::Rewards, Topic::Policies, Topic::Erasures];

    /// Its name on disk and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Signals => "signals",
            Topic::Rewards => "rewards",
            Topic::Policies => "policies",
            Topic::Erasures => "erasures",
        }
    }
}

/// One record to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// Whom the record is about; decides the partition, and what an erasure finds.
    pub subject: String,
    /// Idempotency key; 0 for none.
    pub key: u128,
    /// The record itself.
    pub payload: Bytes,
}

/// What became of one appended record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is durable at this place.
    At(Partition, Offset),
    /// A record with this key is already durable; nothing was written.
    Duplicate,
}

/// One record read back.
#[derive(Debug, Clone)]
pub struct LogRecord {
    /// Where it stands.
    pub partition: Partition,
    /// Where it stands.
    pub offset: Offset,
    /// Whom it is about.
    pub subject: Arc<str>,
    /// Idempotency key it was appended with; 0 for none.
    pub key: u128,
    /// The record itself.
    pub payload: Bytes,
}

/// For each partition, the offset of the next record: everything below it is behind us.
///
/// Written as `0:17,3:99`; a partition not named stands at 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position(pub BTreeMap<Partition, Offset>);

impl Position {
    /// The next offset of `partition`.
    pub fn get(&self, partition: Partition) -> Offset {
        self.0.get(&partition).copied().unwrap_or(0)
    }

    /// Moves past the record at `offset`; never backwards.
    pub fn advance(&mut self, partition: Partition, offset: Offset) {
        let next = self.0.entry(partition).or_insert(0);
        *next = (*next).max(offset + 1);
    }

    /// Whether everything below `other` is behind this position too.
    pub fn covers(&self, other: &Position) -> bool {
        other.0.iter().all(|(p, o)| self.get(*p) >= *o)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (p, o)) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{p}:{o}")?;
        }
        Ok(())
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let mut map = BTreeMap::new();
        for part in s.split(',').filter(|p| !p.is_empty()) {
            let pair = part.split_once(':').and_then(|(p, o)| Some((p.parse().ok()?, o.parse().ok()?)));
            let (p, o) =
                pair.ok_or_else(|| format!("`{part}` is no position; it reads `partition:offset,…`"))?;
            map.insert(p, o);
        }
        Ok(Position(map))
    }
}

/// The partition of a subject among `partitions`: xxh3-64 of the subject, modulo.
pub fn partition_of(subject: &str, partitions: u32) -> Partition {
    (xxhash_rust::xxh3::xxh3_64(subject.as_bytes()) % u64::from(partitions.max(1))) as Partition
}

/// What can go wrong with a log, by what the caller can do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// Nothing was written, or it is unknown whether it was; the caller may try again with the same keys.
    #[error("the log did not take the records: {0}")]
    Unavailable(String),
    /// Stored data is wrong; a person must act.
    #[error("{0}")]
    Damaged(String),
    /// The request itself cannot be served (a record too large, an unknown partition).
    #[error("{0}")]
    Refused(String),
    /// Another process holds the log.
    #[error("{0}")]
    Locked(String),
}

/// Opens the log a URL names. `embedded:` keeps it in `data_dir/log`; the directory is created if missing.
/// `fluvio://host:port` is the controller of a Fluvio cluster; topics are made there if missing.
///
/// # Errors
/// [`LogError::Refused`] for a URL no backend of this build serves, else what the backend says.
pub fn open(url: &str, data_dir: &Path, options: LogOptions) -> Result<Arc<dyn Log>, LogError> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("embedded") => Ok(Arc::new(embedded::EmbeddedLog::open(&data_dir.join("log"), options)?)),
        #[cfg(feature = "fluvio")]
        Some("fluvio") => Ok(Arc::new(fluvio::FluvioLog::open(url, options)?)),
        #[cfg(not(feature = "fluvio"))]
        Some("fluvio") => Err(LogError::Refused(
            "log.url: this build has no Fluvio backend; build with the cargo feature `fluvio`, or use `embedded:`"
                .into(),
        )),
        _ => Err(LogError::Refused(format!(
            "log.url = `{url}` names no known kind of log; use `embedded:` or `fluvio://host:port`"
        ))),
    }
}

/// A log. See `tests/log_conformance.rs` for the contract as a suite.
///
/// - **Order**: records of one subject are read in the order in which their appends completed; offsets of
///   a partition grow and may skip.
/// - **Durability**: when `append` answers, every record it reports `At` is on stable storage, and so is the
///   original of every record it reports `Duplicate`. On a cluster that means what the cluster is configured to
///   call committed.
/// - **All or nothing seen**: after an error the records of that call may or may not be in the log;
///   appending them again with the same keys leaves one copy of each.
/// - **Tail**: a reader sees a record only once it is durable, and sees every record from its start on.
/// - **Repeats**: the embedded log, which one process alone writes, knows every key it ever took. A log that
///   several processes write to knows the recent ones, those of the other processes included; two processes may
///   still append the same key at the same instant, and a very old key may be appended again. Hence a reader
///   leaves out a record if it has shown one with that key shortly before, and consumers that must count once
///   deduplicate by key or content, as the stream job and the history do.
/// - **Erasure**: what was erased is read no more by anybody. A log that cannot delete says so in
///   [`Topic::Erasures`], which every process with state derived from the log follows.
/// - **Outages**: where the log is on other machines, `append` and `commit` answer [`LogError::Unavailable`]
///   after a bounded time; readers wait and go on by themselves, and `end` tells the last known end.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// How many partitions a topic has. Fixed once the topic exists.
    fn partitions(&self, topic: Topic) -> u32;

    /// Appends the records and answers, in order, what became of each, once that is durable.
    async fn append(&self, topic: Topic, records: Vec<Append>) -> Result<Vec<Appended>, LogError>;

    /// The durable end of a topic.
    fn end(&self, topic: Topic) -> Position;

    /// A reader of these partitions from a position on. A position below what retention kept starts at
    /// the oldest record kept.
    fn reader(
        &self,
        topic: Topic,
        partitions: &[Partition],
        from: &Position,
    ) -> Result<Box<dyn Reader>, LogError>;

    /// Durably stores how far a named consumer has come in a topic.
    async fn commit(&self, consumer: &str, topic: Topic, position: &Position) -> Result<(), LogError>;

    /// How far a named consumer has come; the beginning if it never committed.
    fn committed(&self, consumer: &str, topic: Topic) -> Result<Position, LogError>;

    /// Makes every record of a subject unreadable, in all topics; returns how many there were, or 0 where the log
    /// hides them without looking. Their idempotency keys stay, so that a repeat does not bring the person back.
    async fn erase(&self, subject: &str) -> Result<u64, LogError>;

    /// Whether the log answers now. May block for a few seconds.
    fn reachable(&self) -> Result<(), LogError> {
        Ok(())
    }

    /// Drops what retention no longer keeps; returns the bytes given back.
    async fn enforce_retention(&self, now: crate::Millis) -> Result<u64, LogError>;

    /// Where what is there contradicts the settings and no record suffers; each says how to mend it.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Reads a topic forwards, following its tail.
#[async_trait]
pub trait Reader: Send {
    /// The next records, at most `max`, at least one: waits for the tail to grow. Cancel-safe.
    async fn next(&mut self, max: usize) -> Result<Vec<LogRecord>, LogError>;

    /// What is there now without waiting; empty at the tail.
    fn poll(&mut self, max: usize) -> Result<Vec<LogRecord>, LogError>;
}
