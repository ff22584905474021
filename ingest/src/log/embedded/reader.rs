//! Reading a topic forwards: positioned reads of whole blocks, up to the durable end.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    block::{Bad, Block, Blocks, Step},
    files,
    segment::Segment,
    topic::{Follow, TopicLog},
};
use crate::log::{LogError, LogRecord, Offset, Partition, Position, Reader};

/// How often a read-only log looks for new blocks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A reader of some partitions of one topic.
pub struct SegmentReader {
    topic: Arc<TopicLog>,
    wanted: Vec<bool>,
    /// Next offset of each partition; records below it are behind this reader.
    next: Vec<Offset>,
    cursor: Option<Cursor>,
    /// Records of the cursor's block that were not given out yet.
    pending: VecDeque<LogRecord>,
    tail: Option<watch::Receiver<Vec<Offset>>>,
}

struct Cursor {
    segment: Arc<Segment>,
    rewrites: u64,
    blocks: Blocks,
    /// Place and number of the block `pending` comes from.
    block: (u64, u64),
}

impl SegmentReader {
    pub fn new(topic: Arc<TopicLog>, partitions: &[Partition], from: &Position) -> Result<Self, LogError> {
        let count = topic.partitions as usize;
        let mut wanted = vec![false; count];
        for &partition in partitions {
            match wanted.get_mut(partition as usize) {
                Some(slot) => *slot = true,
                None => {
                    return Err(LogError::Refused(format!(
                        "topic `{}` has no partition {partition}; it has 0 to {}",
                        topic.topic.name(),
                        count - 1
                    )));
                }
            }
        }
        let next = (0..topic.partitions).map(|p| from.get(p)).collect();
        let tail = match &topic.follow {
            Follow::Writer(tail) => Some(tail.clone()),
            Follow::Files(_) => None,
        };
        Ok(SegmentReader { topic, wanted, next, cursor: None, pending: VecDeque::new(), tail })
    }

    /// Reads the next block into `pending`; false at the tail.
    fn load_block(&mut self) -> Result<bool, LogError> {
        loop {
            let Some(mut cursor) = self.take_cursor()? else { return Ok(false) };
            // Asked before the length: once there is a following segment, the length is final.
            let following = self.topic.after(cursor.segment.index);
            let limit = cursor.segment.len();
            let step = cursor.blocks.next(limit);
            let broken = |e: &io::Error| files::unavailable("cannot read", &cursor.segment.path, e);
            match step.map_err(|e| broken(&e))? {
                Step::Block(block) => {
                    let records = self.records(&block).map_err(|bad| cursor.segment.damaged(bad))?;
                    self.pending = records;
                    cursor.block = (block.at, block.sequence);
                    self.cursor = Some(cursor);
                    return Ok(true);
                }
                Step::Bad(bad) => return Err(cursor.segment.damaged(bad)),
                Step::End => match following {
                    Some(segment) => self.cursor = self.open(segment)?,
                    None => {
                        self.cursor = Some(cursor);
                        if !self.topic.refresh()? {
                            return Ok(false);
                        }
                    }
                },
            }
        }
    }

    fn take_cursor(&mut self) -> Result<Option<Cursor>, LogError> {
        if let Some(cursor) = self.cursor.take() {
            return Ok(Some(cursor));
        }
        match self.topic.find(&self.next, &self.wanted) {
            Some(segment) => self.open(segment),
            None => Ok(None),
        }
    }

    /// A cursor at the start of `segment`, or of the oldest one after it that retention has left.
    fn open(&self, mut segment: Arc<Segment>) -> Result<Option<Cursor>, LogError> {
        loop {
            let rewrites = segment.rewrites();
            match segment.blocks() {
                Ok(blocks) => {
                    let block = (blocks.at, blocks.sequence);
                    return Ok(Some(Cursor { segment, rewrites, blocks, block }));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    self.topic.refresh()?;
                    match self.topic.after(segment.index) {
                        Some(later) => segment = later,
                        None => return Err(files::unavailable("cannot open", &segment.path, &e)),
                    }
                }
                Err(e) => return Err(files::unavailable("cannot open", &segment.path, &e)),
            }
        }
    }

    /// After an erasure has replaced the file, what was read from the old one is read again.
    fn follow_rewrite(&mut self) -> Result<(), LogError> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        let rewrites = cursor.segment.rewrites();
        if rewrites == cursor.rewrites {
            return Ok(());
        }
        self.pending.clear();
        match cursor.segment.blocks_from(cursor.block.0, cursor.block.1) {
            Ok(blocks) => {
                cursor.blocks = blocks;
                cursor.rewrites = rewrites;
            }
            // Dropped by retention meanwhile: go on from wherever the log now begins.
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.cursor = None,
            Err(e) => return Err(files::unavailable("cannot open", &cursor.segment.path, &e)),
        }
        Ok(())
    }

    /// The records of a block this reader has still to give out.
    fn records(&self, block: &Block) -> Result<VecDeque<LogRecord>, Bad> {
        let bad = |why| Bad { at: block.at, why };
        let mut records = VecDeque::new();
        for frame in block.frames().map_err(bad)? {
            let partition = frame.partition as usize;
            if frame.erased || !self.wanted.get(partition).is_some_and(|w| *w) {
                continue;
            }
            if frame.offset < self.next[partition] {
                continue;
            }
            let subject = std::str::from_utf8(&block.bytes[frame.subject.clone()])
                .map_err(|_| bad("a subject is not UTF-8"))?;
            records.push_back(LogRecord {
                partition: frame.partition,
                offset: frame.offset,
                subject: subject.into(),
                key: frame.key,
                payload: block.bytes.slice(frame.payload.clone()),
            });
        }
        Ok(records)
    }
}

#[async_trait]
impl Reader for SegmentReader {
    async fn next(&mut self, max: usize) -> Result<Vec<LogRecord>, LogError> {
        loop {
            let records = self.poll(max)?;
            if !records.is_empty() {
                return Ok(records);
            }
            match &mut self.tail {
                Some(tail) => {
                    let closed = |_| LogError::Unavailable("the log was closed".into());
                    tail.changed().await.map_err(closed)?;
                }
                None => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    fn poll(&mut self, max: usize) -> Result<Vec<LogRecord>, LogError> {
        let max = max.max(1);
        let mut records = Vec::new();
        self.follow_rewrite()?;
        loop {
            while records.len() < max
                && let Some(record) = self.pending.pop_front()
            {
                self.next[record.partition as usize] = record.offset + 1;
                records.push(record);
            }
            if records.len() == max {
                return Ok(records);
            }
            match self.load_block() {
                Ok(true) => {}
                Ok(false) => return Ok(records),
                // What was read before is given out; the next call meets the error again.
                Err(_) if !records.is_empty() => return Ok(records),
                Err(e) => return Err(e),
            }
        }
    }
}
