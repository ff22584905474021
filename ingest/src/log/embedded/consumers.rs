//! How far each named consumer has come: one small file, replaced as a whole.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use super::files;
use crate::log::{LogError, Position, Topic};

/// Consumer, then topic, to position.
type Table = BTreeMap<String, BTreeMap<String, String>>;

/// The committed positions of a log.
pub struct Consumers {
    path: PathBuf,
    table: Mutex<Table>,
}

impl Consumers {
    /// Reads what was committed; a missing file is a log nobody has committed to.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let path = dir.join("consumers.json");
        let table = Mutex::new(read(&path)?);
        Ok(Consumers { path, table })
    }

    /// Stores a position; it is durable when this answers.
    pub fn commit(&self, consumer: &str, topic: Topic, position: &Position) -> Result<(), LogError> {
        let mut table = self.table.lock();
        let mut changed = table.clone();
        let topics = changed.entry(consumer.to_owned()).or_default();
        topics.insert(topic.name().to_owned(), position.to_string());
        let json = serde_json::to_vec_pretty(&changed).map_err(|e| LogError::Unavailable(e.to_string()))?;
        files::replace(&self.path, &json).map_err(|e| files::unavailable("cannot write", &self.path, &e))?;
        *table = changed;
        Ok(())
    }

    /// The position last stored by this process or before it opened the log.
    pub fn committed(&self, consumer: &str, topic: Topic) -> Result<Position, LogError> {
        find(&self.table.lock(), consumer, topic, &self.path)
    }

    /// The position in the file now, which another process may have written.
    pub fn reread(&self, consumer: &str, topic: Topic) -> Result<Position, LogError> {
        find(&read(&self.path)?, consumer, topic, &self.path)
    }

    /// Everybody's position in a topic; positions that cannot be read are left out.
    pub fn positions(&self, topic: Topic) -> Vec<(String, Position)> {
        let table = self.table.lock();
        let one = |(name, topics): (&String, &BTreeMap<String, String>)| {
            Some((name.clone(), topics.get(topic.name())?.parse().ok()?))
        };
        table.iter().filter_map(one).collect()
    }
}

fn read(path: &Path) -> Result<Table, LogError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Table::new()),
        Err(e) => return Err(files::unavailable("cannot read", path, &e)),
    };
    serde_json::from_slice(&bytes).map_err(|e| damaged(path, &e.to_string()))
}

fn find(table: &Table, consumer: &str, topic: Topic, path: &Path) -> Result<Position, LogError> {
    match table.get(consumer).and_then(|t| t.get(topic.name())) {
        Some(text) => text.parse().map_err(|e: String| damaged(path, &e)),
        None => Ok(Position::default()),
    }
}

fn damaged(path: &Path, why: &str) -> LogError {
    LogError::Damaged(format!(
        "{} cannot be read: {why}. Restore it from a backup, or remove it: consumers then begin where their \
         own checkpoints say, or at the beginning",
        path.display()
    ))
}
