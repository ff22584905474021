//! History as sorted Parquet files under one manifest.
//!
//! A flush writes one file for each table with new rows and then replaces the manifest, which names the
//! files and the log position they reflect. The manifest is the only truth: a file it does not name does not
//! exist, and is removed when the store opens. Compaction, erasure and retention work the same way: new
//! files first, then the manifest, then the old files go.
//!
//! | module | what |
//! |---|---|
//! | [`disk`] | every change to a file |
//! | `manifest` | what history consists of |
//! | `writer`, `reader` | one file |
//! | `read` | tables: their files and their buffered rows together |
//! | `commit` | flush, and the replacement of the manifest |
//! | `maintain` | compaction, erasure, retention |
//! | `tables` | whole tables renamed, dropped, sized up |

mod commit;
pub mod disk;
mod maintain;
mod manifest;

mod read;
mod reader;
mod tables;
mod writer;

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use ingest::{Clock, Millis, log::Position};
use parking_lot::Mutex;

use self::{disk::Disk, manifest::Manifest};
use super::{BatchStream, HistoryError, OfflineStore, ScanFilter, TableFiles, buffer::Buffer};

/// How the store behaves; the defaults suit a running system.
#[derive(Clone)]
pub struct Options {
    /// Tells when a replaced file was replaced.
    pub clock: Clock,
    /// How long a replaced file stays for other processes that read it. Erasure does not wait.
    pub grace: Duration,
    /// Sees every change to a file; for tests of crashes and full disks.
    pub hook: Option<disk::FileHook>,
}

impl Options {
    /// The defaults: a minute of grace.
    pub fn new(clock: Clock) -> Self {
        Options { clock, grace: Duration::from_secs(60), hook: None }
    }
}

/// The embedded offline store. One process writes; any number read beside it.
pub struct ParquetHistory {
    disk: Disk,
    clock: Clock,
    grace: Duration,
    read_only: bool,
    next_file: AtomicU64,
    /// Held by compaction, erasure and retention: one at a time. Taken before `writing`.
    maintaining: Mutex<()>,
    /// Held while the manifest is replaced. Taken before `state`.
    writing: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    manifest: Arc<Manifest>,
    /// Which manifest file was read, when another process writes it.
    stamp: Option<Stamp>,
    buffer: Buffer,
}

#[derive(PartialEq, Clone, Copy)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

impl ParquetHistory {
    /// Opens history for writing, or begins one. The caller sees to it that no second process does.
    /// Whatever was not durable is removed.
    pub fn open(dir: &Path, options: Options) -> Result<Self, HistoryError> {
        let disk = Disk::new(dir, options.hook);
        fs::create_dir_all(disk.data()).map_err(|e| disk.failed("create its directory", &e))?;
        let manifest = match Manifest::read(dir)? {
            Some(manifest) => manifest,
            None if disk.is_empty()? => {
                let manifest = Manifest::default();
                commit::replace_manifest(&manifest, &disk)?;
                manifest
            }
            None => return Err(manifest::bad_file(&Manifest::path(dir), "is missing")),
        };
        manifest.check_files(&disk)?;
        let known: BTreeSet<&str> = manifest.file_names().collect();
        disk.remove_strangers(|name| known.contains(name))?;
        Ok(Self::with(disk, options.clock, options.grace, false, manifest, None))
    }

    /// Opens history beside the process that writes it. Reads see what is durable there at that moment;
    /// every change is refused.
    pub fn open_read_only(dir: &Path, options: Options) -> Result<Self, HistoryError> {
        let disk = Disk::new(dir, options.hook);
        let stamp = stamp(dir);
        let manifest = Manifest::read(dir)?.ok_or_else(|| {
            HistoryError::Unavailable(format!(
                "there is no history in {} yet; start the system once",
                dir.display()
            ))
        })?;
        Ok(Self::with(disk, options.clock, options.grace, true, manifest, stamp))
    }

    fn with(
        disk: Disk,
        clock: Clock,
        grace: Duration,
        read_only: bool,
        manifest: Manifest,
        stamp: Option<Stamp>,
    ) -> Self {
        let buffer = Buffer::new(manifest.position.clone());
        ParquetHistory {
            disk,
            clock,
            grace,
            read_only,
            next_file: AtomicU64::new(manifest.next_file),
            maintaining: Mutex::new(()),
            writing: Mutex::new(()),
            state: Mutex::new(State { manifest: Arc::new(manifest), stamp, buffer }),
        }
    }

    fn must_write(&self) -> Result<(), HistoryError> {
        if self.read_only {
            return Err(HistoryError::Refused("this history was opened for reading only".into()));
        }
        Ok(())
    }

    fn new_name(&self, table: &str) -> String {
        format!("{table}.{:012}.parquet", self.next_file.fetch_add(1, Ordering::Relaxed))
    }
}

fn mismatch(table: &str, error: &arrow::error::ArrowError) -> HistoryError {
    HistoryError::Refused(format!("rows of table `{table}` do not fit its columns: {error}"))
}

fn stamp(dir: &Path) -> Option<Stamp> {
    let found: io::Result<fs::Metadata> = fs::metadata(Manifest::path(dir));
    let m = found.ok()?;
    Some(Stamp { inode: m.ino(), modified: (m.mtime(), m.mtime_nsec()), length: m.len() })
}

impl OfflineStore for ParquetHistory {
    fn append(&self, table: &str, batch: RecordBatch) -> Result<usize, HistoryError> {
        self.must_write()?;
        let mut state = self.state.lock();
        let manifest = state.manifest.clone();
        state.buffer.append(table, manifest.tables.get(table).map(|t| &t.schema), &batch)
    }

    fn seal(&self, position: &Position) -> Result<(), HistoryError> {
        self.must_write()?;
        self.state.lock().buffer.seal(position)
    }

    fn persist(&self) -> Result<Position, HistoryError> {
        self.must_write()?;
        self.persist_sealed()
    }

    fn durable_position(&self) -> Result<Position, HistoryError> {
        self.refresh()?;
        Ok(self.state.lock().manifest.position.clone())
    }

    fn buffered_bytes(&self) -> usize {
        self.state.lock().buffer.bytes()
    }

    fn discard_unflushed(&self) -> Result<(), HistoryError> {
        self.must_write()?;
        let _writing = self.writing.lock();
        let mut state = self.state.lock();
        state.buffer = Buffer::new(state.manifest.position.clone());
        Ok(())
    }

    fn tables(&self) -> Result<Vec<String>, HistoryError> {
        self.refresh()?;
        let state = self.state.lock();
        let names: BTreeSet<&String> = state.manifest.tables.keys().chain(state.buffer.tables()).collect();
        Ok(names.into_iter().cloned().collect())
    }

    fn schema(&self, table: &str) -> Result<Option<SchemaRef>, HistoryError> {
        Ok(self.view(table)?.map(|v| v.schema))
    }

    fn scan(&self, table: &str, filter: &ScanFilter) -> Result<Vec<RecordBatch>, HistoryError> {
        self.scan_rows(table, filter)
    }

    fn stream(&self, table: &str, filter: &ScanFilter) -> Result<BatchStream, HistoryError> {
        self.stream_rows(table, filter)
    }

    fn erase(&self, entity: &str) -> Result<u64, HistoryError> {
        self.must_write()?;
        self.erase_entity(entity)
    }

    fn enforce_retention(&self, now: Millis, table: &str, keep: Duration) -> Result<u64, HistoryError> {
        self.must_write()?;
        self.keep_after(table, now.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)))
    }

    fn rename_tables(&self, names: &[(String, String)]) -> Result<(), HistoryError> {
        self.must_write()?;
        self.rename(names)
    }

    fn drop_table(&self, table: &str) -> Result<(), HistoryError> {
        self.must_write()?;
        self.remove_table(table)
    }

    fn estimate_rows(&self, table: &str, filter: &ScanFilter) -> Result<u64, HistoryError> {
        self.estimate(table, filter)
    }

    fn files(&self, table: &str) -> Result<Option<TableFiles>, HistoryError> {
        self.table_files(table).map(Some)
    }

    fn compact_step(&self) -> Result<bool, HistoryError> {
        self.must_write()?;
        self.compact_one()
    }
}
