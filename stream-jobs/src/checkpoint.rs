//! Durable state of the job: rows, seen keys, watermarks and the log position they reflect, in one file of
//! the embedded key-value store `redb`, replaced in one transaction a checkpoint.
//!
//! Only what changed since the last checkpoint is written: of a row with many events its head and the chunks it
//! did not have. Rows are kept by the version of their view, so a changed definition starts empty and rows of
//! definitions that are gone are dropped.

mod load;
mod watched;

use std::{
    collections::HashSet,
    fs::File,
    path::Path,
    sync::{Arc, Weak},
};

use features::{
    FeatureError, Row, View,
    chunks::{ChunkSource, PieceId, chunks_of},
    row::{chunk_in_head, pieces_named},
};
use ingest::{
    Millis,
    log::{Partition, Position},
};
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};

use crate::{entities::Entities, error::JobError};
use watched::Watched;
pub use watched::{StateHook, StateOp};

/// View version (8 bytes, big-endian), then the entity.
pub(crate) const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
/// View version (8 bytes, big-endian), the entity, number of the piece (8 bytes, big-endian).
pub(crate) const PIECES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("pieces");
/// Partition and number of the checkpoint; entries of 24 bytes: key, time.
const SEEN: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("seen");
const META: TableDefinition<&str, &str> = TableDefinition::new("meta");

/// Pages of the file kept in memory, in bytes.
const CACHE: usize = 64 << 20;

/// The file behind the job's state.
#[derive(Debug)]
pub struct Checkpoint {
    db: Arc<Database>,
    file: String,
    id: String,
}

/// Rows changed, by view; `None` for those taken out.
pub type ChangedRows = (Arc<View>, Entities<Option<Arc<Row>>>);

/// What a checkpoint adds.
#[derive(Debug, Default)]
pub struct Delta {
    /// Rows changed since the last one; what stands further behind is newer.
    pub rows: Vec<ChangedRows>,
    /// Keys seen since, by partition.
    pub seen: Vec<(Partition, Vec<(u128, Millis)>)>,
    /// Keys noted at or before this need not be kept, by partition.
    pub horizons: Vec<(Partition, Millis)>,
    /// Watermarks.
    pub watermarks: Vec<(Partition, Millis)>,
    /// Notes to write, or to take out; of one name the last counts.
    pub notes: Vec<(String, Option<String>)>,
    /// The log position all of it reflects.
    pub position: Position,
}

/// What a checkpoint holds.
#[derive(Debug, Default)]
pub struct Restored {
    /// The log position to go on from.
    pub position: Position,
    /// Watermarks by partition.
    pub watermarks: Vec<(Partition, Millis)>,
    /// Keys seen, by partition.
    pub seen: Vec<(Partition, Vec<(u128, Millis)>)>,
    /// Rows of the views that still are.
    pub rows: Vec<(Arc<View>, Arc<Row>)>,
    /// Views that have no state yet although the job has read signals.
    pub new_views: Vec<Arc<View>>,
    /// Notes, by name.
    pub notes: Vec<(String, String)>,
}

impl Checkpoint {
    /// Opens or makes the file; `hook` sees every change to it.
    pub fn open(path: &Path, hook: Option<&StateHook>) -> Result<Self, JobError> {
        let file = path.display().to_string();
        if !path.exists() {
            create(path).map_err(|e| failed(&file, e))?;
        }
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        let db = match hook {
            None => builder.create(path).map_err(|e| failed(&file, e))?,
            Some(hook) => {
                let options = File::options().read(true).write(true).create(true).truncate(false).open(path);
                let opened = options.map_err(|e| failed(&file, e))?;
                let watched = Watched::new(opened, hook.clone()).map_err(|e| failed(&file, e))?;
                builder.create_with_backend(watched).map_err(|e| failed(&file, e))?
            }
        };
        let id = named(&db).map_err(|e| failed(&file, e))?;
        Ok(Checkpoint { db: Arc::new(db), file, id })
    }

    /// What names this file among all that ever were.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Replaces the file by an empty one.
    pub fn start_over(path: &Path, hook: Option<&StateHook>) -> Result<Self, JobError> {
        std::fs::remove_file(path).map_err(|e| failed(&path.display().to_string(), e))?;
        Self::open(path, hook)
    }

    /// Where the events of rows in the checkpoint can be read from, as long as it is open.
    pub fn chunks(&self) -> Arc<dyn ChunkSource> {
        Arc::new(SavedChunks { db: Arc::downgrade(&self.db), file: self.file.clone() })
    }

    /// Writes what changed, all of it or nothing.
    pub fn commit(&self, views: &[Arc<View>], delta: &Delta) -> Result<(), JobError> {
        self.try_commit(views, delta)?;
        // Only now may the events of these rows be dropped from memory.
        let rows = delta.rows.iter().flat_map(|(_, rows)| rows.iter());
        rows.filter_map(|(_, row)| row.as_ref()).for_each(|row| row.events.mark_saved());
        Ok(())
    }

    fn try_commit(&self, views: &[Arc<View>], delta: &Delta) -> Result<(), JobError> {
        let fail = |e: redb::Error| failed(&self.file, e);
        let write = self.db.begin_write().map_err(|e| fail(e.into()))?;
        {
            let mut tables = Tables {
                rows: write.open_table(ROWS).map_err(|e| fail(e.into()))?,
                pieces: write.open_table(PIECES).map_err(|e| fail(e.into()))?,
            };
            for (view, changed) in &delta.rows {
                // In the order of the file, which is the cheapest to write in.
                let mut changed: Vec<_> = changed.iter().collect();
                changed.sort_unstable_by_key(|(entity, _)| *entity);
                for (entity, row) in changed {
                    tables.put(view, entity, row.as_deref()).map_err(|e| e.of(&self.file))?;
                }
            }
        }
        Self::write_rest(&write, views, delta).map_err(fail)?;
        write.commit().map_err(|e| fail(e.into()))
    }

    fn write_rest(
        write: &redb::WriteTransaction,
        views: &[Arc<View>],
        delta: &Delta,
    ) -> Result<(), redb::Error> {
        let mut seen = write.open_table(SEEN)?;
        let last =
            seen.iter()?.map(|e| e.map(|(k, _)| k.value().1)).try_fold(0, |a, b| b.map(|b| a.max(b)))?;
        for (i, (partition, keys)) in delta.seen.iter().filter(|(_, k)| !k.is_empty()).enumerate() {
            let entry =
                |(key, time): &(u128, Millis)| [&key.to_le_bytes()[..], &time.to_le_bytes()[..]].concat();
            let bytes: Vec<u8> = keys.iter().flat_map(entry).collect();
            seen.insert((*partition, last + 1 + i as u64), &bytes[..])?;
        }
        let newest = |bytes: &[u8]| {
            bytes.chunks_exact(24).filter_map(|c| c[16..].try_into().ok().map(i64::from_le_bytes)).max()
        };
        let horizon = |p: Partition| delta.horizons.iter().find(|(q, _)| *q == p).map(|(_, t)| *t);
        seen.retain(|(p, _), bytes| newest(bytes) > horizon(p))?;

        let mut meta = write.open_table(META)?;
        meta.insert("position", delta.position.to_string().as_str())?;
        let versions: Vec<String> = views.iter().map(|v| state_of(v)).collect();
        meta.insert("views", versions.join(",").as_str())?;
        for (name, note) in &delta.notes {
            let name = format!("note:{name}");
            match note {
                Some(text) => drop(meta.insert(name.as_str(), text.as_str())?),
                None => drop(meta.remove(name.as_str())?),
            }
        }
        for (p, t) in &delta.watermarks {
            meta.insert(format!("watermark:{p}").as_str(), t.to_string().as_str())?;
        }
        Ok(())
    }
}

/// What writing a row can run into.
enum Trouble {
    File(redb::Error),
    Events(FeatureError),
}

impl Trouble {
    fn of(self, file: &str) -> JobError {
        match self {
            Trouble::File(e) => failed(file, e),
            Trouble::Events(e) => e.into(),
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(e: E) -> Self {
        Trouble::File(e.into())
    }
}

struct Tables<'w> {
    rows: Table<'w, &'static [u8], &'static [u8]>,
    pieces: Table<'w, &'static [u8], &'static [u8]>,
}

impl Tables<'_> {
    /// Replaces a row, and of its pieces those that differ.
    fn put(&mut self, view: &View, entity: &str, row: Option<&Row>) -> Result<(), Trouble> {
        let row_key = row_key(view.version, entity);
        let before: HashSet<PieceId> = match self.rows.get(&row_key[..])? {
            Some(head) => pieces_named(head.value()).unwrap_or_default().into_iter().collect(),
            None => HashSet::new(),
        };
        let now = row.map(|r| r.events.nodes()).unwrap_or_default();
        // Chunks of nodes that are no more; most of them live on in new nodes.
        let mut orphans: HashSet<PieceId> = HashSet::new();
        let mut key = row_key.clone();
        for node in before.difference(&now) {
            if let Some(piece) = self.pieces.remove(at_piece(&mut key, row_key.len(), *node))? {
                orphans.extend(chunks_of(piece.value()).unwrap_or_default());
            }
        }
        let Some(row) = row else {
            self.rows.remove(&row_key[..])?;
            return self.remove(&mut key, row_key.len(), orphans);
        };
        let pieces = row.events.pieces(&before, |chunk| !orphans.remove(&chunk)).map_err(Trouble::Events)?;
        for piece in pieces {
            self.pieces.insert(at_piece(&mut key, row_key.len(), piece.id), &piece.bytes[..])?;
        }
        let head = row.to_head().map_err(Trouble::Events)?;
        self.rows.insert(&row_key[..], &head[..])?;
        self.remove(&mut key, row_key.len(), orphans)
    }

    fn remove(&mut self, key: &mut Vec<u8>, len: usize, pieces: HashSet<PieceId>) -> Result<(), Trouble> {
        for piece in pieces {
            self.pieces.remove(at_piece(key, len, piece))?;
        }
        Ok(())
    }
}

/// What marks the state of a view, as text.
fn state_of(view: &View) -> String {
    format!("{:016x}", view.version)
}

fn row_key(version: u64, entity: &str) -> Vec<u8> {
    [&version.to_be_bytes()[..], entity.as_bytes()].concat()
}

/// The key of a piece of the row whose key is the first `len` bytes.
fn at_piece(key: &mut Vec<u8>, len: usize, piece: PieceId) -> &[u8] {
    key.truncate(len);
    key.extend_from_slice(&piece.to_be_bytes());
    key
}

/// The events of saved rows, as long as the checkpoint is open.
#[derive(Debug)]
struct SavedChunks {
    db: Weak<Database>,
    file: String,
}

impl SavedChunks {
    fn find(&self, version: u64, entity: &str, chunk: PieceId) -> Result<Option<Arc<[u8]>>, redb::Error> {
        let Some(db) = self.db.upgrade() else { return Ok(None) };
        let read = db.begin_read()?;
        let mut key = row_key(version, entity);
        if let Some(head) = read.open_table(ROWS)?.get(&key[..])?
            && let Some(events) = chunk_in_head(head.value(), chunk)
        {
            return Ok(Some(events.into()));
        }
        let len = key.len();
        Ok(read.open_table(PIECES)?.get(at_piece(&mut key, len, chunk))?.map(|p| p.value().into()))
    }
}

impl ChunkSource for SavedChunks {
    fn load(&self, version: u64, entity: &str, chunk: PieceId) -> Result<Arc<[u8]>, FeatureError> {
        let unreadable =
            |e: redb::Error| FeatureError::Unavailable(format!("reading events from {}: {e}", self.file));
        self.find(version, entity, chunk).map_err(unreadable)?.ok_or_else(|| {
            FeatureError::Gone(format!(
                "a chunk of events is not in {} any more; read the row again",
                self.file
            ))
        })
    }
}

/// The name of the file, given to it when it is opened first.
fn named(db: &Database) -> Result<String, redb::Error> {
    let read = db.begin_read()?;
    match read.open_table(META) {
        Ok(meta) => {
            if let Some(id) = meta.get("id")? {
                return Ok(id.value().to_owned());
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(e) => return Err(e.into()),
    }
    let id = format!("{:016x}", ahash::RandomState::new().hash_one("checkpoint"));
    let write = db.begin_write()?;
    write.open_table(META)?.insert("id", id.as_str())?;
    write.commit()?;
    Ok(id)
}

/// Makes the file under another name first: half of one is none, and would stop the next start.
fn create(path: &Path) -> Result<(), redb::Error> {
    let unfinished = path.with_extension("new");
    match std::fs::remove_file(&unfinished) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    drop(Database::create(&unfinished)?);
    File::open(&unfinished)?.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

pub(crate) fn failed(file: &str, e: impl std::fmt::Display) -> JobError {
    JobError::Checkpoint { file: file.to_owned(), reason: e.to_string() }
}
