//! Durable state of the job: rows, seen keys, watermarks and the log position they reflect, in one file of
//! the embedded key-value store `redb`, replaced in one transaction a checkpoint.
//!
//! Only what changed since the last checkpoint is written. Rows are kept by the version of their view, so a
//! changed definition starts empty and rows of definitions that are gone are dropped.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use features::{View, online::OnlineRow};
use ingest::{
    Millis,
    log::{Partition, Position},
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::error::JobError;

/// View version (8 bytes, big-endian), then the entity.
const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
/// Partition and number of the checkpoint; entries of 24 bytes: key, event time.
const SEEN: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("seen");
const META: TableDefinition<&str, &str> = TableDefinition::new("meta");

/// The file behind the job's state.
#[derive(Debug)]
pub struct Checkpoint {
    db: Database,
    file: String,
}

/// What a checkpoint adds.
#[derive(Debug, Default)]
pub struct Delta {
    /// Rows changed since the last one.
    pub rows: Vec<OnlineRow>,
    /// Keys seen since, by partition.
    pub seen: Vec<(Partition, Vec<(u128, Millis)>)>,
    /// Keys of signals at or before this need not be kept, by partition.
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
    pub rows: Vec<(Arc<View>, Arc<str>, Bytes)>,
    /// Views that have no state yet although the job has read signals.
    pub new_views: Vec<Arc<View>>,
    /// Notes, by name.
    pub notes: Vec<(String, String)>,
}

impl Checkpoint {
    /// Opens or makes the file.
    pub fn open(path: &Path) -> Result<Self, JobError> {
        let file = path.display().to_string();
        let db = Database::create(path).map_err(|e| failed(&file, e))?;
        Ok(Checkpoint { db, file })
    }

    /// Replaces the file by an empty one.
    pub fn start_over(path: &Path) -> Result<Self, JobError> {
        std::fs::remove_file(path).map_err(|e| failed(&path.display().to_string(), e))?;
        Self::open(path)
    }

    /// Reads everything, dropping rows of view versions that are gone.
    pub fn load(&self, views: &[Arc<View>]) -> Result<Restored, JobError> {
        let mut out = Restored::default();
        let fail = |e: redb::Error| failed(&self.file, e);
        let write = self.db.begin_write().map_err(|e| fail(e.into()))?;
        {
            let mut rows = write.open_table(ROWS).map_err(|e| fail(e.into()))?;
            write.open_table(SEEN).map_err(|e| fail(e.into()))?;
            write.open_table(META).map_err(|e| fail(e.into()))?;
            let current = |key: &[u8]| {
                let version = key.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes)?;
                views.iter().find(|v| v.version == version)
            };
            rows.retain(|key, _| current(key).is_some()).map_err(|e| fail(e.into()))?;
            for entry in rows.iter().map_err(|e| fail(e.into()))? {
                let (key, value) = entry.map_err(|e| fail(e.into()))?;
                if let (Some(view), Ok(entity)) =
                    (current(key.value()), std::str::from_utf8(&key.value()[8..]))
                {
                    out.rows.push((view.clone(), entity.into(), Bytes::copy_from_slice(value.value())));
                }
            }
        }
        write.commit().map_err(|e| fail(e.into()))?;
        self.load_meta(views, &mut out).map_err(fail)?;
        Ok(out)
    }

    fn load_meta(&self, views: &[Arc<View>], out: &mut Restored) -> Result<(), redb::Error> {
        let read = self.db.begin_read()?;
        let meta = read.open_table(META)?;
        let mut known = String::new();
        for entry in meta.iter()? {
            let (key, value) = entry?;
            match key.value().split_once(':') {
                None if key.value() == "position" => out.position = value.value().parse().unwrap_or_default(),
                None if key.value() == "views" => known = value.value().to_owned(),
                Some(("watermark", p)) => {
                    if let (Ok(p), Ok(t)) = (p.parse(), value.value().parse()) {
                        out.watermarks.push((p, t));
                    }
                }
                Some(("note", name)) => out.notes.push((name.to_owned(), value.value().to_owned())),
                _ => {}
            }
        }
        if out.position != Position::default() {
            let fresh = |v: &&Arc<View>| !known.split(',').any(|k| k == state_of(v));
            out.new_views = views.iter().filter(fresh).cloned().collect();
        }
        for entry in read.open_table(SEEN)?.iter()? {
            let (key, value) = entry?;
            let keys = value.value().chunks_exact(24).filter_map(|c| {
                let key = u128::from_le_bytes(c[..16].try_into().ok()?);
                Some((key, i64::from_le_bytes(c[16..].try_into().ok()?)))
            });
            out.seen.push((key.value().0, keys.collect()));
        }
        Ok(())
    }

    /// Writes what changed, all of it or nothing.
    pub fn commit(&self, views: &[Arc<View>], delta: &Delta) -> Result<(), JobError> {
        self.try_commit(views, delta).map_err(|e| failed(&self.file, e))
    }

    fn try_commit(&self, views: &[Arc<View>], delta: &Delta) -> Result<(), redb::Error> {
        let write = self.db.begin_write()?;
        {
            let mut rows = write.open_table(ROWS)?;
            let mut key = Vec::new();
            for r in &delta.rows {
                key.clear();
                key.extend_from_slice(&r.view.version.to_be_bytes());
                key.extend_from_slice(r.entity.as_bytes());
                match &r.bytes {
                    Some(b) => drop(rows.insert(&key[..], &b[..])?),
                    None => drop(rows.remove(&key[..])?),
                }
            }
            let mut seen = write.open_table(SEEN)?;
            let last =
                seen.iter()?.map(|e| e.map(|(k, _)| k.value().1)).try_fold(0, |a, b| b.map(|b| a.max(b)))?;
            for (partition, keys) in delta.seen.iter().filter(|(_, k)| !k.is_empty()) {
                let entry =
                    |(key, time): &(u128, Millis)| [&key.to_le_bytes()[..], &time.to_le_bytes()[..]].concat();
                let bytes: Vec<u8> = keys.iter().flat_map(entry).collect();
                seen.insert((*partition, last + 1), &bytes[..])?;
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
        }
        write.commit()?;
        Ok(())
    }
}

/// What marks the state of a view, as text.
fn state_of(view: &View) -> String {
    format!("{:016x}", view.version)
}

fn failed(file: &str, e: impl std::fmt::Display) -> JobError {
    JobError::Checkpoint { file: file.to_owned(), reason: e.to_string() }
}
