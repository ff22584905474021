//! Rows on local disk until the server has them.
//!
//! A batch is a directory with a file of Arrow IPC for each table, and `batch.json`, which says what it holds and up
//! to which position of the log. It is written under a passing name and made true by its renaming; once the server
//! has everything in it, it is removed. One that is written anew, without a person who is erased, is the next
//! generation of its number.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    datatypes::SchemaRef,
    ipc::{reader::StreamReader, writer::StreamWriter},
    record_batch::RecordBatch,
};
use ingest::log::Position;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::HistoryError;

/// Rows of one message of a file; so many are in memory when it is read.
const MESSAGE: usize = 16_384;
const ABOUT: &str = "batch.json";
const LOCK: &str = "lock";
/// The batches that were being sent.
const SENDING: &str = "sending.json";
const UNFINISHED: &str = "unfinished";

/// Rows that became durable together.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub number: u64,
    pub generation: u32,
    pub dir: PathBuf,
    pub about: About,
    /// Columns of each table's rows.
    pub schemas: BTreeMap<String, SchemaRef>,
}

/// What a batch holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About {
    format: u32,
    /// All of the log below this is in here or in batches before.
    position: String,
    pub tables: BTreeMap<String, Piece>,
}

/// A file of a batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Piece {
    pub rows: u64,
    pub bytes: u64,
    /// xxh3-64 of the file.
    pub checksum: u64,
}

impl Batch {
    pub fn position(&self) -> Position {
        self.about.position.parse().unwrap_or_default()
    }

    pub fn bytes(&self) -> u64 {
        self.about.tables.values().map(|p| p.bytes).sum()
    }

    pub fn rows(&self) -> u64 {
        self.about.tables.values().map(|p| p.rows).sum()
    }

    fn file(&self, table: &str) -> PathBuf {
        file_of(&self.dir, table)
    }

    /// Opens the rows of a table: they can be read although the batch is removed meanwhile.
    pub fn open(&self, table: &str) -> Result<Option<StreamReader<BufReader<File>>>, HistoryError> {
        if !self.about.tables.contains_key(table) {
            return Ok(None);
        }
        let path = self.file(table);
        let file = File::open(&path).map_err(|e| damaged(&path, &e.to_string()))?;
        StreamReader::try_new_buffered(file, None).map(Some).map_err(|e| damaged(&path, &e.to_string()))
    }

    /// Reads the rows of a table, and checks that they are what was written.
    pub fn read(&self, table: &str) -> Result<Vec<RecordBatch>, HistoryError> {
        let Some(piece) = self.about.tables.get(table) else { return Ok(Vec::new()) };
        let path = self.file(table);
        let bytes = fs::read(&path).map_err(|e| damaged(&path, &e.to_string()))?;
        if xxh3_64(&bytes) != piece.checksum {
            return Err(damaged(&path, "its checksum does not match"));
        }
        let reader =
            StreamReader::try_new(bytes.as_slice(), None).map_err(|e| damaged(&path, &e.to_string()))?;
        reader.collect::<Result<_, _>>().map_err(|e| damaged(&path, &e.to_string()))
    }
}

fn file_of(dir: &Path, table: &str) -> PathBuf {
    dir.join(format!("{table}.arrow"))
}

fn damaged(path: &Path, what: &str) -> HistoryError {
    HistoryError::Damaged(format!(
        "{} in the spool of history is damaged: {what}; put it back from a backup, or remove the directory it is in: \
         the stream job then builds what is missing again from the log",
        path.display()
    ))
}

/// The directory of the batches; held by one process.
pub(super) struct Spool {
    root: PathBuf,
    _lock: File,
}

impl Spool {
    /// Takes the directory and finds the batches in it, oldest first.
    pub fn open(root: &Path) -> Result<(Spool, Vec<Arc<Batch>>), HistoryError> {
        let failed = |e: io::Error| failed(root, "open it", &e);
        fs::create_dir_all(root).map_err(failed)?;
        let lock = File::create(root.join(LOCK)).map_err(failed)?;
        if lock.try_lock().is_err() {
            return Err(HistoryError::Refused(format!(
                "another process writes history through {}; give each process a data directory of its own",
                root.display()
            )));
        }
        let spool = Spool { root: root.to_owned(), _lock: lock };
        let mut batches: Vec<Arc<Batch>> = Vec::new();
        for entry in fs::read_dir(root).map_err(failed)? {
            let dir = entry.map_err(failed)?.path();
            let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let numbers = name.split_once('.').and_then(|(n, g)| Some((n.parse().ok()?, g.parse().ok()?)));
            match numbers {
                Some((number, generation)) => batches.push(Arc::new(found(number, generation, &dir)?)),
                None if name.starts_with(UNFINISHED) => fs::remove_dir_all(&dir).map_err(failed)?,
                None => {}
            }
        }
        batches.sort_by_key(|b| (b.number, b.generation));
        let (mut kept, mut replaced) = (Vec::new(), Vec::new());
        for batch in batches {
            if kept.last().is_some_and(|b: &Arc<Batch>| b.number == batch.number) {
                replaced.extend(kept.pop());
            }
            kept.push(batch);
        }
        spool.remove(&replaced)?;
        Ok((spool, kept))
    }

    /// Writes a batch durably, all of it or nothing. Each table's rows are in order.
    pub fn write(
        &self,
        (number, generation): (u64, u32),
        position: &Position,
        tables: &BTreeMap<String, RecordBatch>,
    ) -> Result<Batch, HistoryError> {
        let passing = self.root.join(format!("{UNFINISHED}-{number}"));
        let dir = self.root.join(format!("{number:020}.{generation:06}"));
        let write = || -> io::Result<About> {
            fs::create_dir_all(&passing)?;
            let mut about = About { format: 1, position: position.to_string(), tables: BTreeMap::new() };
            for (table, rows) in tables {
                about.tables.insert(table.clone(), write_rows(&file_of(&passing, table), rows)?);
            }
            let mut file = File::create(passing.join(ABOUT))?;
            file.write_all(&serde_json::to_vec(&about)?)?;
            file.sync_all()?;
            File::open(&passing)?.sync_all()?;
            fs::rename(&passing, &dir)?;
            File::open(&self.root)?.sync_all()?;
            Ok(about)
        };
        match write() {
            Ok(about) => {
                let schemas = tables.iter().map(|(t, rows)| (t.clone(), rows.schema())).collect();
                Ok(Batch { number, generation, dir, about, schemas })
            }
            Err(e) => {
                let _ = fs::remove_dir_all(&passing);
                Err(failed(&self.root, "write rows", &e))
            }
        }
    }

    /// Removes batches that the server has.
    pub fn remove(&self, batches: &[Arc<Batch>]) -> Result<(), HistoryError> {
        for batch in batches {
            let passing = self.root.join(format!("{UNFINISHED}-{}-{}", batch.number, batch.generation));
            let gone = fs::rename(&batch.dir, &passing).and_then(|()| fs::remove_dir_all(&passing));
            match gone {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&self.root, "remove what was sent", &e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes which batches are being sent together, so that they are again after a crash.
    pub fn note_sending(&self, last: u64) -> Result<(), HistoryError> {
        let passing = self.root.join("sending.json.tmp");
        let write = || -> io::Result<()> {
            let mut file = File::create(&passing)?;
            file.write_all(last.to_string().as_bytes())?;
            file.sync_all()?;
            fs::rename(&passing, self.root.join(SENDING))?;
            File::open(&self.root)?.sync_all()
        };
        write().map_err(|e| failed(&self.root, "note what is sent", &e))
    }

    /// The last of the batches that were being sent together.
    pub fn sending(&self) -> Option<u64> {
        fs::read_to_string(self.root.join(SENDING)).ok()?.parse().ok()
    }
}

/// Where the spool of a data directory is.
pub(super) fn root(data_dir: &Path) -> PathBuf {
    data_dir.join("history-spool")
}

/// What the batches in a spool take, also while another process holds it.
pub(super) fn bytes_in(root: &Path) -> u64 {
    let files_in = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = |dir: fs::DirEntry| {
        files_in(&dir.path()).filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum::<u64>()
    };
    files_in(root).filter(|e| e.path().is_dir()).map(sizes).sum()
}

fn found(number: u64, generation: u32, dir: &Path) -> Result<Batch, HistoryError> {
    let path = dir.join(ABOUT);
    let text = fs::read(&path).map_err(|e| damaged(&path, &e.to_string()))?;
    let about: About = serde_json::from_slice(&text).map_err(|e| damaged(&path, &e.to_string()))?;
    let position: Result<Position, _> = about.position.parse();
    if about.format != 1 || position.is_err() {
        return Err(damaged(&path, "it is of another version"));
    }
    let mut batch = Batch { number, generation, dir: dir.to_owned(), about, schemas: BTreeMap::new() };
    for table in batch.about.tables.keys().cloned().collect::<Vec<_>>() {
        if let Some(reader) = batch.open(&table)? {
            batch.schemas.insert(table, reader.schema());
        }
    }
    Ok(batch)
}

fn write_rows(path: &Path, rows: &RecordBatch) -> io::Result<Piece> {
    let file = Counted { file: File::create(path)?, hash: Box::new(Xxh3::new()), bytes: 0 };
    let mut writer = StreamWriter::try_new(BufWriter::with_capacity(1 << 18, file), rows.schema_ref())
        .map_err(io::Error::other)?;
    let mut at = 0;
    while at < rows.num_rows() {
        let length = MESSAGE.min(rows.num_rows() - at);
        writer.write(&rows.slice(at, length)).map_err(io_error)?;
        at += length;
    }
    let buffered = writer.into_inner().map_err(io_error)?;
    let counted = buffered.into_inner().map_err(|e| e.into_error())?;
    counted.file.sync_all()?;
    Ok(Piece { rows: rows.num_rows() as u64, bytes: counted.bytes, checksum: counted.hash.digest() })
}

/// The error of the disk behind one of Arrow.
fn io_error(error: arrow::error::ArrowError) -> io::Error {
    match error {
        arrow::error::ArrowError::IoError(_, e) => e,
        other => io::Error::other(other),
    }
}

struct Counted {
    file: File,
    hash: Box<Xxh3>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn failed(root: &Path, what: &str, error: &io::Error) -> HistoryError {
    HistoryError::Unavailable(format!(
        "the spool of history in {} cannot {what}: {error}; free some space there, or see to its rights",
        root.display()
    ))
}
