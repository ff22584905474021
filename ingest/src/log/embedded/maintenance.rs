//! Erasing a person and dropping old segments.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    block::{self, Bad, Block},
    consumers::Consumers,
    files,
    segment::Segment,
    topic::TopicLog,
};
use crate::{
    Millis,
    log::{LogError, LogOptions, Topic},
};

/// Counts the readable records of a subject in a segment.
pub fn count_subject(segment: &Segment, subject: &str) -> Result<u64, LogError> {
    let mut count = 0;
    segment.for_each(|block| {
        count += frames_of(block, subject).map_err(|bad| segment.damaged(bad))?.len() as u64;
        Ok(())
    })?;
    Ok(count)
}

/// Replaces a closed segment by one without the subject's records: their subjects and payloads are zeros,
/// everything keeps its place. A crash leaves the old file or the new one.
pub fn wipe_subject(segment: &Segment, subject: &str) -> Result<u64, LogError> {
    let count = count_subject(segment, subject)?;
    if count == 0 {
        return Ok(0);
    }
    let temporary = files::unfinished(&segment.path);
    let broken = |e: io::Error| files::unavailable("cannot rewrite", &segment.path, &e);
    files::or_remove(&temporary, write_wiped(segment, subject, &temporary))?;
    files::put_in_place(&temporary, &segment.path).map_err(broken)?;
    segment.rewritten();
    Ok(count)
}

fn write_wiped(segment: &Segment, subject: &str, path: &Path) -> Result<(), LogError> {
    let broken = |e: io::Error| files::unavailable("cannot rewrite", &segment.path, &e);
    let mut out = io::BufWriter::with_capacity(1 << 20, files::create(path).map_err(broken)?);
    let mut header = vec![0; segment.header_len() as usize];
    let mut old = File::open(&segment.path).map_err(broken)?;
    let written = old.metadata().and_then(|m| m.modified()).map_err(broken)?;
    old.read_exact(&mut header).and_then(|()| out.write_all(&header)).map_err(broken)?;
    segment.for_each(|block| {
        let frames = frames_of(block, subject).map_err(|bad| segment.damaged(bad))?;
        if frames.is_empty() {
            return out.write_all(&block.bytes).map_err(broken);
        }
        let mut bytes = block.bytes.to_vec();
        frames.iter().for_each(|frame| frame.wipe(&mut bytes));
        block::reseal(&mut bytes);
        out.write_all(&bytes).map_err(broken)
    })?;
    let new = out.into_inner().map_err(|e| broken(e.into_error()))?;
    // Retention goes by the age of the records, not of this rewriting.
    new.set_modified(written).and_then(|()| new.sync_all()).map_err(broken)
}

fn frames_of(block: &Block, subject: &str) -> Result<Vec<block::Frame>, Bad> {
    let mut frames = block.frames().map_err(|why| Bad { at: block.at, why })?;
    frames.retain(|f| !f.erased && block.bytes[f.subject.clone()] == *subject.as_bytes());
    Ok(frames)
}

/// Drops the oldest closed segments that age or size no longer allow; answers the bytes given back.
///
/// Policy snapshots are kept: the newest may stand in a closed segment, and they are few.
pub fn retain(
    topic: &TopicLog,
    options: &LogOptions,
    consumers: &Consumers,
    now: Millis,
) -> Result<u64, LogError> {
    if topic.topic == Topic::Policies {
        return Ok(0);
    }
    let mut total: u64 = topic.segments().iter().map(|s| s.len()).sum();
    let dropped = topic.drop_first(|segment| {
        let too_much = options.retain_bytes.is_some_and(|most| total > most);
        let too_old = options.retain_age.is_some_and(|age| older_than(segment, age, now));
        if too_much || too_old {
            total -= segment.len();
        }
        too_much || too_old
    });
    let Some(last) = dropped.last() else { return Ok(0) };
    if let Some(begin) = topic.after(last.index) {
        warn_those_behind(topic, &begin, consumers);
    }
    let mut bytes = 0;
    for segment in &dropped {
        bytes += segment.len();
        std::fs::remove_file(&segment.path)
            .map_err(|e| files::unavailable("cannot remove", &segment.path, &e))?;
    }
    files::sync_dir(&topic.dir).map_err(|e| files::unavailable("cannot sync", &topic.dir, &e))?;
    Ok(bytes)
}

/// Whether the last write to a segment is longer ago than `age`. If unknown, it is kept.
fn older_than(segment: &Segment, age: Duration, now: Millis) -> bool {
    let written = std::fs::metadata(&segment.path).and_then(|m| m.modified()).ok();
    let written = written.and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    written.is_some_and(|t| t.saturating_add(age).as_millis() < now.max(0) as u128)
}

fn warn_those_behind(topic: &TopicLog, begin: &Segment, consumers: &Consumers) {
    for (consumer, position) in consumers.positions(topic.topic) {
        if begin.base.iter().enumerate().any(|(p, first)| position.get(p as u32) < *first) {
            let topic = topic.topic.name();
            tracing::warn!(consumer, topic, "retention dropped records this consumer had not read yet");
        }
    }
}
