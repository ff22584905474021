//! Opening a topic for writing: what a crash has left is mended, damage is reported.

use std::{
    fs::{File, OpenOptions},
    path::Path,
    sync::Arc,
};

use super::{
    closing, files,
    keys::Keys,
    segment::{Segment, advance},
    topic::load_segments,
};
use crate::log::{LogError, Offset, Topic};

/// A topic ready to be appended to.
pub struct Recovered {
    pub segments: Vec<Arc<Segment>>,
    /// The last of them, and its file.
    pub segment: Arc<Segment>,
    pub file: File,
    pub keys: Keys,
    /// Number of the next block.
    pub sequence: u64,
    /// Next offset of each partition.
    pub next: Vec<Offset>,
}

/// Opens a topic, or creates it with `partitions` partitions.
pub fn open(dir: &Path, topic: Topic, partitions: u32) -> Result<Recovered, LogError> {
    let mut segments = tidy(dir)?;
    if segments.is_empty() {
        let first = Segment::new(dir, 1, 1, 0, vec![0; partitions as usize]);
        first.create().map_err(|e| files::unavailable("cannot create", &first.path, &e))?;
        segments.push(Arc::new(first));
    }
    let (segment, closed) = match segments.split_last() {
        Some((last, closed)) => (last.clone(), closed),
        None => return Err(LogError::Unavailable(format!("{} holds no segment", dir.display()))),
    };
    let mut keys = Keys::open(dir, topic.name(), closed, segment.index)?;
    let mut next = segment.base.clone();
    let (end, sequence) = segment.recover(|block| {
        advance(block, &mut next, |key| {
            if key != 0 {
                keys.restore(key);
            }
        })
    })?;
    closing::check(dir, &segment, end)?;
    let file = cut_tail(dir, &segment, end)?;
    Ok(Recovered { segments, segment, file, keys, sequence, next })
}

/// Removes files that were never finished and loads the segments.
fn tidy(dir: &Path) -> Result<Vec<Arc<Segment>>, LogError> {
    let broken = |e| files::unavailable("cannot prepare", dir, &e);
    files::create_dir(dir).map_err(broken)?;
    let loaded = load_segments(dir)?;
    let unfinished = files::list(dir, files::UNFINISHED).map_err(broken)?;
    for path in unfinished.iter().chain(&loaded.stillborn) {
        std::fs::remove_file(path).map_err(|e| files::unavailable("cannot remove", path, &e))?;
    }
    Ok(loaded.segments)
}

/// Opens the last segment for writing, cut to its valid blocks.
fn cut_tail(dir: &Path, segment: &Segment, end: u64) -> Result<File, LogError> {
    let broken = |e| files::unavailable("cannot open", &segment.path, &e);
    closing::begin(dir).map_err(broken)?;
    let file = OpenOptions::new().read(true).write(true).open(&segment.path).map_err(broken)?;
    if end < segment.len() {
        tracing::warn!(
            file = %segment.path.display(), at = end, bytes = segment.len() - end,
            "cut off an unfinished write after a crash; it was never acknowledged"
        );
        file.set_len(end).map_err(broken)?;
        segment.publish(end);
    }
    // Blocks of a process that was killed before its sync count as durable only from here on.
    file.sync_all().map_err(broken)?;
    Ok(file)
}
