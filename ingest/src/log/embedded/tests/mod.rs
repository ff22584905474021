//! Tests of the files themselves; what every log must do is in `tests/log_conformance.rs` of this crate.

mod damage;
mod disk;
pub mod faults;
mod key_files;
mod life;
mod model;

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{EmbeddedLog, segment};
use crate::log::*;

fn record(subject: &str, key: u128, payload: &str) -> Append {
    Append { subject: subject.into(), key, payload: Bytes::copy_from_slice(payload.as_bytes()) }
}

/// Options with segments small enough that a test has several.
fn small() -> LogOptions {
    LogOptions { segment_bytes: 1 << 10, ..LogOptions::default() }
}

fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, small()).unwrap()
}

/// Everything there is in a topic, in the order of reading.
fn everything(log: &dyn Log, topic: Topic) -> Result<Vec<LogRecord>, LogError> {
    let partitions: Vec<_> = (0..log.partitions(topic)).collect();
    let mut reader = log.reader(topic, &partitions, &Position::default()).unwrap();
    let mut all = Vec::new();
    loop {
        match reader.poll(64)? {
            records if records.is_empty() => return Ok(all),
            records => all.extend(records),
        }
    }
}

fn keys(log: &dyn Log) -> Vec<u128> {
    let mut keys: Vec<u128> = everything(log, Topic::Signals).unwrap().iter().map(|r| r.key).collect();
    keys.sort_unstable();
    keys
}

/// The segment files of the signals, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let dir = dir.join("signals");
    segment::indices(&dir).unwrap().into_iter().map(|i| segment::path(&dir, i)).collect()
}

/// Appends records with these keys, one block each.
async fn fill(log: &EmbeddedLog, keys: std::ops::RangeInclusive<u128>) {
    for key in keys {
        let record = record(&format!("u{}", key % 5), key, &format!("payload of {key}"));
        assert!(matches!(log.append(Topic::Signals, vec![record]).await.unwrap()[..], [Appended::At(..)]));
    }
}

/// Makes a log that was closed look as if its process had been killed.
fn as_after_a_crash(dir: &Path) {
    for topic in Topic::ALL {
        std::fs::remove_file(dir.join(topic.name()).join("closed")).unwrap();
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
