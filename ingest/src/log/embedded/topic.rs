//! What the writer, the readers and the maintenance of one topic share: its segments and its durable end.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{
    block::Step,
    files,
    segment::{self, HeaderError, Segment, advance},
};
use crate::log::{LogError, Offset, Position, Topic};

/// One topic on disk.
pub struct TopicLog {
    pub topic: Topic,
    pub dir: PathBuf,
    pub partitions: u32,
    /// Ascending by index, without gaps, never empty; the last is the one written to.
    segments: RwLock<Vec<Arc<Segment>>>,
    pub follow: Follow,
}

/// How readers learn that the topic grew.
pub enum Follow {
    /// From the writer in this process: the next offset of each partition.
    Writer(watch::Receiver<Vec<Offset>>),
    /// By looking at the files of a writer in another process.
    Files(Mutex<Seen>),
}

/// How far a read-only log has looked into the last segment.
pub struct Seen {
    at: u64,
    block: u64,
    next: Vec<Offset>,
}

impl TopicLog {
    /// A topic over segments that were just read, with `follow` for its tail.
    pub fn new(topic: Topic, dir: PathBuf, segments: Vec<Arc<Segment>>, follow: Follow) -> Self {
        let partitions = segments.last().map_or(1, |s| s.base.len() as u32);
        TopicLog { topic, dir, partitions, segments: RwLock::new(segments), follow }
    }

    /// Opens the files of a topic another process may be writing; nothing is changed on disk.
    pub fn read_only(topic: Topic, dir: PathBuf) -> Result<Self, LogError> {
        let segments = load_segments(&dir)?.segments;
        let Some(last) = segments.last() else {
            return Err(LogError::Refused(format!("{} holds no log", dir.display())));
        };
        // Readers see nothing of the last segment before it was looked through.
        let seen = Seen { at: last.header_len(), block: last.first_block, next: last.base.clone() };
        last.publish(seen.at);
        let topic = TopicLog::new(topic, dir, segments, Follow::Files(Mutex::new(seen)));
        topic.refresh()?;
        Ok(topic)
    }

    /// The segments there are now.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().clone()
    }

    /// The first segment with a number above `index`.
    pub fn after(&self, index: u64) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        segments.get(segments.partition_point(|s| s.index <= index)).cloned()
    }

    /// The segment in which reading these partitions from `from` on begins.
    pub fn find(&self, from: &[Offset], wanted: &[bool]) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        let behind = segments.partition_point(|s| s.begins_before(from, wanted));
        segments.get(behind.saturating_sub(1)).cloned()
    }

    /// Makes a new last segment visible.
    pub fn push(&self, segment: Arc<Segment>) {
        self.segments.write().push(segment);
    }

    /// Forgets the first segments as long as `drop` says so; the last one always stays. Answers what went.
    pub fn drop_first(&self, mut drop: impl FnMut(&Segment) -> bool) -> Vec<Arc<Segment>> {
        let mut segments = self.segments.write();
        let closed = segments.len() - 1;
        let count = segments[..closed].iter().take_while(|s| drop(s)).count();
        segments.drain(..count).collect()
    }

    /// The durable end.
    pub fn end(&self) -> Position {
        let position = |next: &[Offset]| {
            Position(next.iter().enumerate().filter(|(_, o)| **o > 0).map(|(p, o)| (p as u32, *o)).collect())
        };
        match &self.follow {
            Follow::Writer(tail) => position(&tail.borrow()),
            Follow::Files(seen) => {
                if let Err(error) = self.refresh() {
                    tracing::warn!(%error, "the end of the log may be further on than was seen");
                }
                position(&seen.lock().next)
            }
        }
    }

    /// Looks for blocks another process has written; answers whether there were any. Does nothing for a log
    /// whose writer is in this process.
    pub fn refresh(&self) -> Result<bool, LogError> {
        let Follow::Files(seen) = &self.follow else { return Ok(false) };
        let mut seen = seen.lock();
        let mut grown = false;
        loop {
            let Some(last) = self.segments.read().last().cloned() else { return Ok(grown) };
            // A following segment is looked for first: what precedes it is then complete.
            let following = self.following(&last)?;
            grown |= look(&last, &mut seen)?;
            let Some(following) = following else { return Ok(grown) };
            if seen.at != following.previous_len && following.index == last.index + 1 {
                return Err(ends_early(&last, seen.at, following.previous_len));
            }
            *seen = Seen {
                at: following.header_len(),
                block: following.first_block,
                next: following.base.clone(),
            };
            following.publish(seen.at);
            self.push(Arc::new(following));
            grown = true;
        }
    }

    /// The segment behind the last one known, if the writer has begun it.
    fn following(&self, last: &Segment) -> Result<Option<Segment>, LogError> {
        let mut index = last.index + 1;
        if !last.path.exists() {
            // Retention of the other process went past what is known here.
            let there =
                segment::indices(&self.dir).map_err(|e| files::unavailable("cannot list", &self.dir, &e))?;
            match there.into_iter().find(|i| *i > last.index) {
                Some(found) => index = found,
                None => return Ok(None),
            }
        }
        match Segment::load(&self.dir, index) {
            Ok(segment) => Ok(Some(segment)),
            Err(HeaderError::Io(e)) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) if e.torn() => Ok(None),
            Err(e) => Err(e.report(&self.dir, index)),
        }
    }
}

/// Moves `seen` over the whole valid blocks that were appended to `segment`.
fn look(segment: &Segment, seen: &mut Seen) -> Result<bool, LogError> {
    let broken = |e: &io::Error| files::unavailable("cannot read", &segment.path, e);
    let limit = match std::fs::metadata(&segment.path) {
        Ok(data) => data.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(broken(&e)),
    };
    if limit <= seen.at {
        return Ok(false);
    }
    let mut blocks = segment.blocks_from(seen.at, seen.block).map_err(|e| broken(&e))?;
    let before = seen.at;
    // Anything but a whole block is one that is being written.
    while let Ok(Step::Block(block)) = blocks.next(limit) {
        advance(&block, &mut seen.next, |_| ()).map_err(|bad| segment.damaged(bad))?;
        (seen.at, seen.block) = (blocks.at, blocks.sequence);
    }
    segment.publish(seen.at);
    Ok(seen.at > before)
}

/// What a directory of segments holds.
pub struct Loaded {
    /// Ascending, without gaps.
    pub segments: Vec<Arc<Segment>>,
    /// A file whose creation a crash cut short; it holds nothing.
    pub stillborn: Option<PathBuf>,
}

/// Reads the headers of all segments of a topic and checks that they belong together.
pub fn load_segments(dir: &Path) -> Result<Loaded, LogError> {
    let indices = segment::indices(dir).map_err(|e| files::unavailable("cannot list", dir, &e))?;
    let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(indices.len());
    let mut stillborn = None;
    for (i, &index) in indices.iter().enumerate() {
        let loaded = match Segment::load(dir, index) {
            Ok(loaded) => loaded,
            Err(e) if e.torn() && i + 1 == indices.len() => {
                stillborn = Some(segment::path(dir, index));
                break;
            }
            Err(e) => return Err(e.report(dir, index)),
        };
        if let Some(previous) = segments.last() {
            if previous.index + 1 != index {
                return Err(LogError::Damaged(format!(
                    "{} is missing. Restore it from a backup",
                    segment::path(dir, previous.index + 1).display()
                )));
            }
            if previous.len() != loaded.previous_len {
                return Err(ends_early(previous, previous.len(), loaded.previous_len));
            }
        }
        segments.push(Arc::new(loaded));
    }
    Ok(Loaded { segments, stillborn })
}

fn ends_early(segment: &Segment, is: u64, should: u64) -> LogError {
    LogError::Damaged(format!(
        "{} ends at byte {is}, but {should} bytes were written. Restore it from a backup",
        segment.path.display()
    ))
}
