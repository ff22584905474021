//! The manifest: the one file that says what history consists of. Replacing it is what makes a change true.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use arrow::datatypes::SchemaRef;
use base64::{Engine, prelude::BASE64_STANDARD};
use ingest::{Millis, log::Position};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use serde::{Deserialize, Serialize, de, ser};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use super::{HistoryError, disk::Disk};

const FORMAT: u32 = 1;

/// What history consists of at one moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    /// All of the log below this is in the tables' files, and nothing else.
    #[serde(with = "position_text")]
    pub position: Position,
    /// Number of the next file to be written.
    pub next_file: u64,
    pub tables: BTreeMap<String, Table>,
    /// Files no longer part of history, kept a while for other processes that still read them.
    pub replaced: Vec<Replaced>,
}

/// One table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Table {
    /// Arrow IPC in base64: every column any file ever had.
    #[serde(with = "schema_text")]
    pub schema: SchemaRef,
    /// Rows at or before this time are no longer part of the table.
    pub kept_after: Option<Millis>,
    pub files: Vec<DataFile>,
}

/// One file of a table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DataFile {
    pub name: String,
    pub rows: u64,
    pub bytes: u64,
    /// xxh3-64 of the whole file.
    pub checksum: u64,
    pub min_entity: String,
    pub max_entity: String,
    pub min_time: Millis,
    pub max_time: Millis,
    /// The parsed footer, once read.
    #[serde(skip)]
    pub footer: Arc<OnceLock<ArrowReaderMetadata>>,
}

/// A file that was part of history until `at`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Replaced {
    pub name: String,
    pub at: Millis,
}

#[derive(Serialize, Deserialize)]
struct Checked {
    /// xxh3-64 of the text of `manifest`.
    checksum: u64,
    manifest: Box<RawValue>,
}

impl Manifest {
    pub fn path(root: &Path) -> PathBuf {
        root.join("MANIFEST.json")
    }

    /// Reads the manifest; `None` if there is none.
    pub fn read(root: &Path) -> Result<Option<Manifest>, HistoryError> {
        let path = Self::path(root);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err(damaged(root, "it is not text")),
            Err(e) => return Err(HistoryError::Unavailable(format!("cannot read {}: {e}", path.display()))),
        };
        let checked: Checked = serde_json::from_str(&text).map_err(|e| damaged(root, &e.to_string()))?;
        if xxh3_64(checked.manifest.get().as_bytes()) != checked.checksum {
            return Err(damaged(root, "its checksum does not match"));
        }
        let manifest: Manifest =
            serde_json::from_str(checked.manifest.get()).map_err(|e| damaged(root, &e.to_string()))?;
        if manifest.format != FORMAT {
            return Err(HistoryError::Refused(format!(
                "{} has format {}, this build reads {FORMAT}; run the version that wrote it",
                path.display(),
                manifest.format
            )));
        }
        Ok(Some(manifest))
    }

    /// Puts this manifest durably in the place of the current one.
    pub fn replace(&self, disk: &Disk) -> Result<(), Replacing> {
        let stamped = Manifest { format: FORMAT, ..self.clone() };
        let write = || -> Result<super::disk::NewFile, HistoryError> {
            let text = |e: serde_json::Error| disk.failed("write its manifest", &e.into());
            let manifest = serde_json::value::to_raw_value(&stamped).map_err(text)?;
            let checked = Checked { checksum: xxh3_64(manifest.get().as_bytes()), manifest };
            let bytes = serde_json::to_vec(&checked).map_err(text)?;
            let mut file = disk.create(Self::path(disk.root()))?;
            file.write_all(&bytes).map_err(|e| disk.failed("write its manifest", &e))?;
            Ok(file)
        };
        let file = write().map_err(Replacing::Before)?;
        file.finish().map_err(Replacing::Before)?;
        disk.sync_dir(disk.root()).map_err(Replacing::Unknown)
    }

    /// Names of all files that must stay on disk.
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        let live = self.tables.values().flat_map(|t| &t.files).map(|f| f.name.as_str());
        live.chain(self.replaced.iter().map(|r| r.name.as_str()))
    }

    /// Checks that every file of every table is there, whole.
    pub fn check_files(&self, disk: &Disk) -> Result<(), HistoryError> {
        for file in self.tables.values().flat_map(|t| &t.files) {
            let path = disk.data().join(&file.name);
            match fs::metadata(&path) {
                Ok(found) if found.len() == file.bytes => {}
                Ok(found) => {
                    let what = format!("has {} bytes instead of {}", found.len(), file.bytes);
                    return Err(bad_file(&path, &what));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(bad_file(&path, "is missing")),
                Err(e) => return Err(disk.failed("look at a file", &e)),
            }
        }
        Ok(())
    }
}

/// How far replacing the manifest came before it failed.
pub(super) enum Replacing {
    /// The old manifest stands.
    Before(HistoryError),
    /// The new one is in place, but a crash may bring the old one back.
    Unknown(HistoryError),
}

/// The error for a data file that is not as the manifest says.
pub(super) fn bad_file(path: &Path, what: &str) -> HistoryError {
    HistoryError::Damaged(format!(
        "the history file {} {what}; put it back from a backup, or move the whole history directory away and start \
         again: history is then rebuilt from what the log still holds",
        path.display()
    ))
}

fn damaged(root: &Path, what: &str) -> HistoryError {
    bad_file(&Manifest::path(root), &format!("cannot be used: {what}"))
}

mod position_text {
    use super::*;

    pub fn serialize<S: ser::Serializer>(position: &Position, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(position)
    }

    pub fn deserialize<'de, D: de::Deserializer<'de>>(d: D) -> Result<Position, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

mod schema_text {
    use arrow::ipc::{reader::StreamReader, writer::StreamWriter};

    use super::*;

    pub fn serialize<S: ser::Serializer>(schema: &SchemaRef, s: S) -> Result<S::Ok, S::Error> {
        let bytes = StreamWriter::try_new(Vec::new(), schema)
            .and_then(StreamWriter::into_inner)
            .map_err(ser::Error::custom)?;
        s.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: de::Deserializer<'de>>(d: D) -> Result<SchemaRef, D::Error> {
        let bytes = BASE64_STANDARD.decode(String::deserialize(d)?).map_err(de::Error::custom)?;
        Ok(StreamReader::try_new(bytes.as_slice(), None).map_err(de::Error::custom)?.schema())
    }
}
