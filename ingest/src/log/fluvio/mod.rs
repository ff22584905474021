//! The log on a Fluvio cluster, for many processes that write and read.
//!
//! | topic | what |
//! |---|---|
//! | `<prefix>-signals` | as many partitions as configured, by [`partition_of`](super::partition_of) the subject |
//! | `<prefix>-rewards`, `-policies` | one partition |
//! | `<prefix>-erasures` | who was erased, and up to where |
//! | `<prefix>-consumers` | committed positions |
//!
//! Every record is a CloudEvents object in JSON ([`crate::event`]) under its subject as key. Requests go straight
//! to the unit that leads a partition, one at a time for each partition and writer: so the outcome of a request
//! whose answer was lost can be found out by reading on, and nothing is sent again in the background.

mod backoff;
mod cluster;
mod connection;
mod consumers;
mod ends;
mod erasures;
mod fetch;
mod follow;
mod keys;
mod lane;
pub mod metrics;
mod open;
mod parcel;
pub mod plain;
mod reader;
mod shared;
mod shelf;
mod topics;
mod writer;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::{
    consumers::Commit,
    parcel::Outgoing,
    shared::Engine,
    writer::{Job, Target},
};
use crate::{
    Millis, event,
    log::{Append, Appended, Log, LogError, LogOptions, Partition, Position, Reader, Topic},
};

/// Largest sum of bytes one call of `append` may bring.
const MAX_CALL_BYTES: usize = 64 << 20;
/// The queue is counted in pieces of this many bytes.
const ROOM_UNIT: usize = 1024;
/// How long a log that is dropped waits for what is queued.
const CLOSING: Duration = Duration::from_secs(5);

/// The log on a Fluvio cluster. Dropping it finishes what is queued.
pub struct FluvioLog {
    engine: Arc<Engine>,
    /// In the order of [`Topic::ALL`], then the one of committed positions.
    queues: Vec<Queue>,
    /// Disconnected once every writer has ended.
    writing: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
    remarks: Vec<String>,
}

struct Queue {
    jobs: mpsc::UnboundedSender<Job>,
    room: Arc<Semaphore>,
}

impl FluvioLog {
    /// Opens the log on the cluster whose controller is at `fluvio://host:port`. Needs `options.catalogue` and
    /// `options.clock`. Blocks until the cluster answered, for as long as `options.fluvio.patience`.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] if it does not answer, [`LogError::Refused`] naming the setting that a topic
    /// there is contradicts.
    pub fn open(url: &str, options: LogOptions) -> Result<FluvioLog, LogError> {
        open::open(url, options)
    }

    fn queue(&self, topic: Target) -> &Queue {
        match topic {
            Target::Topic(topic) => &self.queues[topic as usize],
            Target::Consumers => &self.queues[Topic::ALL.len()],
        }
    }

    fn check(&self, records: &[Append]) -> Result<usize, LogError> {
        let most = self.engine.shared.options.max_record_bytes;
        if let Some(record) = records.iter().find(|record| record.payload.len() > most) {
            return Err(LogError::Refused(format!(
                "a record of {} bytes is larger than the log takes ({most} bytes)",
                record.payload.len()
            )));
        }
        if let Some(record) = records.iter().find(|record| record.subject.len() > usize::from(u16::MAX)) {
            return Err(LogError::Refused(format!(
                "a subject of {} bytes is longer than the log takes ({} bytes)",
                record.subject.len(),
                u16::MAX
            )));
        }
        let bytes = records.iter().map(|record| 64 + record.subject.len() + record.payload.len()).sum();
        if bytes > MAX_CALL_BYTES {
            return Err(LogError::Refused(format!(
                "{bytes} bytes in one call are more than the log takes ({MAX_CALL_BYTES}); send smaller batches"
            )));
        }
        Ok(bytes)
    }

    /// Puts records into the queue of a topic and waits for the answer; they go their way if nobody waits.
    async fn enqueue(
        &self,
        topic: Target,
        bytes: usize,
        encode: impl FnOnce() -> Vec<Outgoing> + Send + 'static,
    ) -> Result<Vec<Appended>, LogError> {
        let options = &self.engine.shared.options;
        let queue = self.queue(topic);
        let most = options.queue_bytes.div_ceil(ROOM_UNIT).max(1);
        let units = bytes.div_ceil(ROOM_UNIT).clamp(1, most) as u32;
        let deadline = Instant::now() + options.fluvio.patience;
        let room =
            tokio::time::timeout(options.fluvio.patience, queue.room.clone().acquire_many_owned(units));
        let room = room.await.map_err(|_| {
            LogError::Unavailable("as many records as log.queue allows wait for Fluvio already".into())
        })?;
        let room = room.map_err(closed)?;
        let (reply, answer) = oneshot::channel();
        let jobs = queue.jobs.clone();
        // Turning records into events takes a while; it is done where it holds up no caller's runtime.
        self.engine.handle().ok_or_else(|| closed(()))?.spawn(async move {
            // Without a writer the reply is dropped, which tells the caller.
            let _ = jobs.send(Job { records: encode(), reply, deadline, room });
        });
        answer.await.map_err(closed)?
    }
}

fn closed<E>(_: E) -> LogError {
    LogError::Unavailable("the log was closed; restart Kairos".into())
}

#[async_trait]
impl Log for FluvioLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.engine.shared.topic(topic).partitions
    }

    async fn append(&self, topic: Topic, records: Vec<Append>) -> Result<Vec<Appended>, LogError> {
        let bytes = self.check(&records)?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let catalogue = self.engine.shared.catalogue.clone();
        let encode = move || {
            let outgoing = records.into_iter().map(|record| {
                let value = event::encode(&catalogue, topic, &record);
                Outgoing { subject: record.subject, key: record.key, value }
            });
            outgoing.collect()
        };
        self.enqueue(Target::Topic(topic), bytes, encode).await
    }

    fn end(&self, topic: Topic) -> Position {
        self.engine.shared.topic(topic).end()
    }

    fn reader(
        &self,
        topic: Topic,
        partitions: &[Partition],
        from: &Position,
    ) -> Result<Box<dyn Reader>, LogError> {
        Ok(Box::new(reader::FluvioReader::new(self.engine.clone(), topic, partitions, from)?))
    }

    async fn commit(&self, consumer: &str, topic: Topic, position: &Position) -> Result<(), LogError> {
        let shared = &self.engine.shared;
        let mut commits = vec![Commit::new(consumer, topic, position)];
        commits.extend(shared.commits.lock().old());
        let events: Vec<Outgoing> = commits
            .iter()
            .map(|commit| {
                let record = Append { subject: commit.key(), key: 0, payload: commit.payload().into() };
                let value = event::encode_bytes("consumers", &record);
                Outgoing { subject: record.subject, key: 0, value }
            })
            .collect();
        let bytes = events.iter().map(|event| event.value.len()).sum();
        let appended = self.enqueue(Target::Consumers, bytes, move || events).await?;
        let mut known = shared.commits.lock();
        for (commit, appended) in commits.iter().zip(appended) {
            if let Appended::At(_, offset) = appended {
                known.note(commit, offset).map_err(LogError::Damaged)?;
            }
        }
        Ok(())
    }

    fn committed(&self, consumer: &str, topic: Topic) -> Result<Position, LogError> {
        Ok(self.engine.shared.commits.lock().position(consumer, topic))
    }

    /// Hides the person's records behind a tombstone; their bytes go with the retention of the topics. Does not
    /// look how many there are: 0.
    async fn erase(&self, subject: &str) -> Result<u64, LogError> {
        let shared = &self.engine.shared;
        // Other processes may have appended something a moment ago.
        let mut ends = ends::Ends::new(shared.clone());
        let look = self.engine.handle().ok_or_else(|| closed(()))?.spawn(async move { ends.look().await });
        look.await.map_err(closed)?.map_err(|trouble| shared.unavailable(&trouble))?;
        let payload = erasures::tombstone(shared)?;
        let record = Append { subject: subject.to_owned(), key: 0, payload: payload.clone() };
        self.append(Topic::Erasures, vec![record]).await?;
        erasures::apply(shared, subject, &payload).map_err(LogError::Damaged)?;
        Ok(0)
    }

    /// As of the last look at the ends of the topics, a moment ago.
    fn reachable(&self) -> Result<(), LogError> {
        let shared = &self.engine.shared;
        shared.away.lock().as_ref().map_or(Ok(()), |trouble| Err(shared.unavailable(trouble)))
    }

    /// Fluvio does that by itself, by what each topic was made with.
    async fn enforce_retention(&self, _now: Millis) -> Result<u64, LogError> {
        Ok(0)
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.clone()
    }
}

impl Drop for FluvioLog {
    fn drop(&mut self) {
        self.queues.clear();
        if let Ok(writing) = self.writing.get_mut() {
            let _ = writing.recv_timeout(CLOSING);
        }
    }
}
