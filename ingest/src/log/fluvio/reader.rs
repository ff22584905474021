//! Reading: for each partition a task reads ahead and decodes, the reader hands out.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::Semaphore, task::AbortHandle};

use super::{
    backoff::Backoff,
    fetch::{Fetched, Source},
    keys::RecentKeys,
    metrics,
    shared::{Engine, Shared},
    shelf::{Chunk, Shelf},
};
use crate::{
    event,
    log::{LogError, LogRecord, Offset, Partition, Position, Reader, Topic},
};

/// Chunks that one reader may have ahead.
const AHEAD: usize = 8;
/// Keys of which a reader knows that it has shown them, of each partition, at least.
const SHOWN_KEYS: usize = 32_768;
/// How long `poll` waits for what is known to be there.
const PATIENCE: Duration = Duration::from_secs(15);

/// A reader of some partitions of one topic.
pub struct FluvioReader {
    engine: Arc<Engine>,
    topic: Topic,
    partitions: Vec<Partition>,
    /// Everything below was handed out, or is in `pending`.
    position: Position,
    pending: VecDeque<LogRecord>,
    shelf: Arc<Shelf>,
    tasks: Vec<AbortHandle>,
}

impl FluvioReader {
    pub fn new(
        engine: Arc<Engine>,
        topic: Topic,
        partitions: &[Partition],
        from: &Position,
    ) -> Result<FluvioReader, LogError> {
        let count = engine.shared.topic(topic).partitions;
        if let Some(unknown) = partitions.iter().find(|p| **p >= count) {
            return Err(LogError::Refused(format!(
                "topic `{}` has no partition {unknown}; it has 0 to {}",
                topic.name(),
                count - 1
            )));
        }
        let (shelf, room) = (Arc::new(Shelf::default()), Arc::new(Semaphore::new(AHEAD)));
        let handle = engine.handle().ok_or_else(|| LogError::Unavailable("the log was closed".into()))?;
        let tasks = partitions.iter().map(|&partition| {
            let ahead = Ahead {
                shared: engine.shared.clone(),
                topic,
                partition,
                next: from.get(partition),
                source: Source::new(&engine.shared.topic(topic).name, partition),
                shown: RecentKeys::new(SHOWN_KEYS),
                shelf: shelf.clone(),
                room: room.clone(),
            };
            handle.spawn(ahead.run()).abort_handle()
        });
        let tasks = tasks.collect();
        let (partitions, position) = (partitions.to_vec(), from.clone());
        Ok(FluvioReader { engine, topic, partitions, position, pending: VecDeque::new(), shelf, tasks })
    }

    fn open(&mut self, chunk: Chunk) {
        if let Some(last) = chunk.next.checked_sub(1) {
            self.position.advance(chunk.partition, last);
        }
        self.pending.extend(chunk.records);
    }

    /// Moves records that may still be shown to `records`, until it has `max`.
    fn hand_out(&mut self, records: &mut Vec<LogRecord>, max: usize) {
        let erased = self.engine.shared.erased.read();
        while records.len() < max {
            let Some(record) = self.pending.pop_front() else { return };
            let hidden = !erased.is_empty()
                && erased.hides(self.topic, &record.subject, record.partition, record.offset);
            if !hidden {
                records.push(record);
            }
        }
    }

    /// Whether nothing more is there now.
    fn at_tail(&self) -> bool {
        let ends = self.engine.shared.topic(self.topic).ends.borrow();
        self.partitions.iter().all(|&partition| self.position.get(partition) >= ends[partition as usize])
    }
}

#[async_trait]
impl Reader for FluvioReader {
    async fn next(&mut self, max: usize) -> Result<Vec<LogRecord>, LogError> {
        let mut records = Vec::new();
        loop {
            while self.pending.len() < max
                && let Some(chunk) = self.shelf.take()
            {
                self.open(chunk);
            }
            self.hand_out(&mut records, max.max(1));
            if !records.is_empty() {
                return Ok(records);
            }
            // The only place to be dropped at, with nothing in hand.
            let chunk = self.shelf.next().await;
            self.open(chunk);
        }
    }

    fn poll(&mut self, max: usize) -> Result<Vec<LogRecord>, LogError> {
        let mut records = Vec::new();
        loop {
            self.hand_out(&mut records, max);
            if records.len() >= max || self.at_tail() {
                return Ok(records);
            }
            let chunk = match self.shelf.take() {
                Some(chunk) => chunk,
                None if !records.is_empty() && max != usize::MAX => return Ok(records),
                None => self.shelf.take_within(PATIENCE).ok_or_else(|| {
                    LogError::Unavailable(format!(
                        "Fluvio at {} does not give the records it has; check that its processing units run",
                        self.engine.shared.cluster.address()
                    ))
                })?,
            };
            self.open(chunk);
        }
    }
}

impl Drop for FluvioReader {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Reads one partition ahead.
struct Ahead {
    shared: Arc<Shared>,
    topic: Topic,
    partition: Partition,
    next: Offset,
    source: Source,
    shown: RecentKeys,
    shelf: Arc<Shelf>,
    room: Arc<Semaphore>,
}

impl Ahead {
    async fn run(mut self) {
        let shared = self.shared.clone();
        let state = shared.topic(self.topic);
        let mut ends = state.ends.subscribe();
        let mut backoff = Backoff::new(format!("reading `{}-{}`", state.name, self.partition));
        loop {
            let index = self.partition as usize;
            if ends.wait_for(|ends| ends[index] > self.next).await.is_err() {
                return;
            }
            let Ok(room) = self.room.clone().acquire_owned().await else { return };
            match self.source.fetch(&shared.cluster, self.next).await {
                Ok(fetched) if fetched.next > self.next => {
                    backoff.reset();
                    let next = fetched.next;
                    let records = self.decode(fetched);
                    self.next = next;
                    self.shelf.put(Chunk { partition: self.partition, records, next, _room: room });
                }
                Ok(_) => backoff.pause(&"the records are not there yet").await,
                Err(trouble) => {
                    drop(room);
                    backoff.pause(&trouble).await;
                }
            }
        }
    }

    fn decode(&mut self, fetched: Fetched) -> VecDeque<LogRecord> {
        let name = &self.shared.topic(self.topic).name;
        let mut records = VecDeque::with_capacity(fetched.records.len());
        for stored in fetched.records {
            let value = stored.record.value();
            let read = event::decode(&self.shared.catalogue, value.as_ref(), stored.stamped);
            match read {
                Ok(event) if !self.shown.insert(event.key) => metrics::copy(self.topic),
                Ok(event) => records.push_back(LogRecord {
                    partition: self.partition,
                    offset: stored.offset,
                    subject: event.subject.into(),
                    key: event.key,
                    payload: event.payload,
                }),
                Err(why) => self.shared.skip(name, stored.offset, &why),
            }
        }
        records
    }
}
