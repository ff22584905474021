//! History: every signal and every feature value, in tables of Arrow batches.
//!
//! History is a pure function of the log. The stream job appends what it applies, and at a checkpoint makes
//! all of it durable together with the log position it reflects. After a crash the store stands at exactly
//! that position; the job replays from there, and nothing is lost or doubled.
//!
//! | module | what |
//! |---|---|
//! | [`layout`] | which column of a table is the entity, the time, the place in the log |
//! | [`schema`] | add-only growth of a table's columns |
//! | [`filter`] | what to read of a table |
//! | [`metrics`] | what it tells about itself |
//! | [`options`] | how history is opened |
//! | `buffer` | rows that are not durable yet |
//! | `merge` | sorted inputs into one |
//! | `newest` | of rows that say the same thing, the last |
//! | [`parquet`] | the embedded backend: sorted Parquet files under one manifest |
//! | `clickhouse` | tables of a ClickHouse server, with a spool on local disk before it |

mod buffer;
#[cfg(feature = "clickhouse")]
pub mod clickhouse;
pub mod filter;
pub mod layout;
mod merge;
pub mod metrics;
mod newest;
pub mod options;
pub mod parquet;
pub mod schema;

use std::{path::PathBuf, sync::Arc, time::Duration};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use ingest::{Millis, log::Position};

pub use filter::ScanFilter;
pub use options::{HistoryOptions, Secret, ServerOptions};
pub use parquet::{Options, ParquetHistory};

/// Batches one after the other, each non-empty, all of one schema.
pub type BatchStream = Box<dyn Iterator<Item = Result<RecordBatch, HistoryError>> + Send>;

/// What can go wrong with history, by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The operation did not take place and may be tried again once the cause is gone (a full disk, say).
    #[error("{0}")]
    Unavailable(String),
    /// Stored data is wrong; a person must act.
    #[error("{0}")]
    Damaged(String),
    /// The request itself cannot be served (an unknown column, a column that changed its type).
    #[error("{0}")]
    Refused(String),
}

/// A table as files of Parquet, at one moment. Files that are replaced stay for about a minute.
#[derive(Debug, Clone, Default)]
pub struct TableFiles {
    /// Absolute paths; a file may lack columns that came later.
    pub paths: Vec<PathBuf>,
    /// Rows that are in no file yet.
    pub buffered: Vec<RecordBatch>,
    /// Rows at or before this time are no longer part of the table, although files may hold them.
    pub kept_after: Option<Millis>,
}

/// The offline store. See `tests/offline_conformance.rs` for the contract as a suite.
///
/// A table comes into being with its first batch. [`layout::Layout`] says which columns it must have.
///
/// - **Exactly once**: after [`persist`](Self::persist) everything appended before the matching
///   [`seal`](Self::seal) is on stable storage, together with the position given there. After a crash only
///   such rows are there. Rows of the log below the position last sealed are skipped by `append`.
/// - **Reads** see every row appended so far, durable or not.
/// - **Schema** grows: a later batch may bring columns or lack some; what is missing reads as NULL.
pub trait OfflineStore: Send + Sync + 'static {
    /// Adds rows to a table; returns how many were new. Visible at once, durable after the next flush.
    fn append(&self, table: &str, batch: RecordBatch) -> Result<usize, HistoryError>;

    /// Ties everything appended so far to `position`: all of the log below it, and nothing else.
    /// Cheap; what is appended afterwards belongs to the next seal. The position sealed never goes backwards:
    /// in each partition the later of this one and the last holds. Refused when rows beyond it were appended.
    fn seal(&self, position: &Position) -> Result<(), HistoryError>;

    /// Writes everything sealed to stable storage, all of it or nothing, and returns the durable position.
    /// May run on another thread than the one that appends. After an error the sealed rows are still there
    /// and the next call writes them.
    fn persist(&self) -> Result<Position, HistoryError>;

    /// [`seal`](Self::seal), then [`persist`](Self::persist).
    fn flush(&self, position: &Position) -> Result<(), HistoryError> {
        self.seal(position)?;
        self.persist().map(drop)
    }

    /// The log position that durable history reflects; where to replay from after a crash.
    fn durable_position(&self) -> Result<Position, HistoryError>;

    /// Memory held by rows that are not durable yet; a caller flushes early when it grows too large.
    fn buffered_bytes(&self) -> usize;

    /// Forgets everything that is not durable, as a crash would; for a job that starts over in-process.
    fn discard_unflushed(&self) -> Result<(), HistoryError>;

    /// Names of the tables, sorted.
    fn tables(&self) -> Result<Vec<String>, HistoryError>;

    /// Columns of a table; `None` if it has had no row yet.
    fn schema(&self, table: &str) -> Result<Option<SchemaRef>, HistoryError>;

    /// The rows that pass the filter, in no order across batches. An unknown table has no rows.
    fn scan(&self, table: &str, filter: &ScanFilter) -> Result<Vec<RecordBatch>, HistoryError>;

    /// The rows that pass the filter, ordered by entity, then as [`layout::Layout::order`] says. Reads as it
    /// goes, in memory bounded by the number of files, so it serves tables larger than memory.
    /// It sees the rows of the instant it was opened at.
    fn stream(&self, table: &str, filter: &ScanFilter) -> Result<BatchStream, HistoryError>;

    /// Removes every row of an entity from every table; no stored byte of these rows is left.
    /// Returns how many rows there were.
    fn erase(&self, entity: &str) -> Result<u64, HistoryError>;

    /// Hides the rows of a table with `time <= now - keep` from every read, and gives back the space of most
    /// of them. Returns the bytes given back.
    fn enforce_retention(&self, now: Millis, table: &str, keep: Duration) -> Result<u64, HistoryError>;

    /// Gives tables other names, all of them or none; where a new name is taken already, or an old one is not
    /// there, that pair is left as it is. For tables that nothing was appended to since the store opened.
    fn rename_tables(&self, names: &[(String, String)]) -> Result<(), HistoryError>;

    /// Removes a table with all its rows; no stored byte of them is left. An unknown table is fine.
    fn drop_table(&self, table: &str) -> Result<(), HistoryError>;

    /// About how many rows a filter on times and entities lets through, without reading any; for progress.
    fn estimate_rows(&self, table: &str, filter: &ScanFilter) -> Result<u64, HistoryError>;

    /// Whether the store answers now. May block for a few seconds.
    fn reachable(&self) -> Result<(), HistoryError> {
        Ok(())
    }

    /// What a person should mend although it works as yet.
    fn remarks(&self) -> Result<Vec<String>, HistoryError> {
        Ok(Vec::new())
    }

    /// Makes room for tables ahead of their first row, so that others find them. They stay unknown to
    /// [`tables`](Self::tables) and [`schema`](Self::schema) until they have one.
    fn ensure(&self, _tables: &[Declared]) -> Result<(), HistoryError> {
        Ok(())
    }

    /// Waits until other processes can read what is durable, at most so long.
    fn deliver(&self, _within: Duration) -> Result<(), HistoryError> {
        Ok(())
    }

    /// The files in which a table lies, for other processes that see the same directories; `None` where rows are not
    /// in files that everybody can read.
    fn files(&self, _table: &str) -> Result<Option<TableFiles>, HistoryError> {
        Ok(None)
    }

    /// A bounded piece of tidying up, meant for a thread of its own; `true` if there may be more to do.
    fn compact_step(&self) -> Result<bool, HistoryError> {
        Ok(false)
    }
}

/// A table that is to be there ahead of its rows.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Its name.
    pub table: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// The type of the signals in it; `None` for tables of other rows.
    pub signal: Option<String>,
}

/// Opens the history that [`HistoryOptions::url`] names: `embedded:` keeps it in `history` under the data directory,
/// `http://host:8123/database` in ClickHouse.
pub fn open(options: &HistoryOptions) -> Result<Arc<dyn OfflineStore>, HistoryError> {
    match options.url.split_once(':') {
        Some(("embedded", "")) => {
            let (dir, clock) = (options.data_dir.join("history"), Options::new(options.clock.clone()));
            Ok(match options.read_only {
                true => Arc::new(ParquetHistory::open_read_only(&dir, clock)?),
                false => Arc::new(ParquetHistory::open(&dir, clock)?),
            })
        }
        #[cfg(feature = "clickhouse")]
        Some(("http" | "https", _)) => Ok(Arc::new(clickhouse::ClickHouseHistory::open(options)?)),
        scheme => Err(HistoryError::Refused(format!(
            "`history.url` begins with `{}:`, which names no store of this build; write `embedded:` for Parquet files \
             in the data directory, or `http://host:8123/kairos` for ClickHouse in a build that has it",
            scheme.map_or("", |(scheme, _)| scheme)
        ))),
    }
}
