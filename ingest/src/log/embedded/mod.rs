//! The log in plain files of one directory, for one process that writes and any number that read.
//!
//! ```text
//! LOCK                        held by the writing process
//! meta.json                   format version, number of partitions
//! consumers.json              committed positions
//! signals/closed              where the log ended when it was last closed properly (see `closing`)
//! signals/0000000000000001.seg              records, in blocks (see `block`), in segments (see `segment`)
//! signals/0000000000000001-00…04.keys       idempotency keys of closed segments (see `run`)
//! rewards/…  policies/…
//! ```
//!
//! Each topic has one sequence of segments for all its partitions, so that all callers share one `fdatasync`:
//! a group commit is one block, one write, one sync. A block is only written once the block before it is
//! durable. Hence after a crash a bad tail with nothing valid behind it was never acknowledged and is cut off,
//! while a bad block before a valid one is damage, which a person must see.

mod block;
mod bloom;
mod closing;
mod consumers;
mod files;
mod keys;
mod maintenance;
mod meta;
pub mod metrics;
mod reader;
mod recovery;
mod run;
mod segment;
mod topic;
mod writer;

#[cfg(test)]
mod tests;

use std::{fs::File, fs::TryLockError, path::Path, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::{
    consumers::Consumers,
    topic::TopicLog,
    writer::{Command, Job},
};
use crate::{
    Millis,
    log::{Append, Appended, Log, LogError, LogOptions, Partition, Position, Reader, Topic},
};

/// Largest sum of bytes one call of `append` may bring.
const MAX_CALL_BYTES: usize = 64 << 20;
/// The queue is counted in pieces of this many bytes.
const ROOM_UNIT: usize = 1024;

/// The embedded log. Dropping it finishes what is queued, then frees the directory.
pub struct EmbeddedLog {
    topics: Vec<TopicHandle>,
    consumers: Arc<Consumers>,
    options: LogOptions,
    /// Erasure and retention take turns.
    maintenance: Arc<Mutex<()>>,
    /// Held as long as this log may write; none for a read-only one. Last, so that it outlives the writers.
    lock: Option<File>,
}

struct TopicHandle {
    log: Arc<TopicLog>,
    writer: Option<TopicWriter>,
}

struct TopicWriter {
    commands: mpsc::UnboundedSender<Command>,
    thread: std::thread::JoinHandle<()>,
    room: Arc<Semaphore>,
}

impl EmbeddedLog {
    /// Opens the log in `dir`, creating it if there is none, and mends what a crash has left.
    ///
    /// # Errors
    /// [`LogError::Locked`] if another process writes to it, [`LogError::Damaged`] naming file and byte,
    /// [`LogError::Refused`] for options out of range.
    pub fn open(dir: &Path, options: LogOptions) -> Result<Self, LogError> {
        files::create_dir(dir).map_err(|e| files::unavailable("cannot create", dir, &e))?;
        let lock = lock(dir)?;
        let partitions = meta::open(dir, options.partitions)?;
        let consumers = Arc::new(Consumers::open(dir)?);
        let maintenance = Arc::default();
        // Made before its topics are opened, so that giving up in the middle ends the writers already started.
        let mut log = EmbeddedLog { topics: Vec::new(), consumers, options, maintenance, lock: Some(lock) };
        for topic in Topic::ALL {
            let partitions = if topic == Topic::Signals { partitions } else { 1 };
            let handle = writer::start(&dir.join(topic.name()), topic, partitions, &log.options)?;
            let room = Arc::new(Semaphore::new(log.queue_units()));
            let writer = Some(TopicWriter { commands: handle.commands, thread: handle.thread, room });
            log.topics.push(TopicHandle { log: handle.topic, writer });
        }
        Ok(log)
    }

    /// Opens the log in `dir` for reading beside the process that writes it. It sees whole valid blocks only,
    /// and new ones a few milliseconds after they were written.
    ///
    /// # Errors
    /// [`LogError::Refused`] if there is no log in `dir`, [`LogError::Damaged`] naming file and byte.
    pub fn open_read_only(dir: &Path) -> Result<Self, LogError> {
        meta::read(dir)?.ok_or_else(|| {
            LogError::Refused(format!("{} holds no log; is the data directory right?", dir.display()))
        })?;
        let mut topics = Vec::new();
        for topic in Topic::ALL {
            let log = Arc::new(TopicLog::read_only(topic, dir.join(topic.name()))?);
            topics.push(TopicHandle { log, writer: None });
        }
        let consumers = Arc::new(Consumers::open(dir)?);
        let options = LogOptions::default();
        Ok(EmbeddedLog { topics, consumers, options, maintenance: Arc::default(), lock: None })
    }

    fn queue_units(&self) -> usize {
        self.options.queue_bytes.div_ceil(ROOM_UNIT).max(1)
    }

    fn topic(&self, topic: Topic) -> &TopicHandle {
        &self.topics[topic as usize]
    }

    fn check(&self, records: &[Append]) -> Result<usize, LogError> {
        let most = self.options.max_record_bytes;
        for record in records {
            if record.payload.len() > most {
                return Err(LogError::Refused(format!(
                    "a record of {} bytes is larger than the log takes ({most} bytes)",
                    record.payload.len()
                )));
            }
            if record.subject.len() > usize::from(u16::MAX) {
                return Err(LogError::Refused(format!(
                    "a subject of {} bytes is longer than the log takes ({} bytes)",
                    record.subject.len(),
                    u16::MAX
                )));
            }
        }
        let bytes = records.iter().map(cost).sum();
        if bytes > MAX_CALL_BYTES {
            return Err(LogError::Refused(format!(
                "{bytes} bytes in one call are more than the log takes ({MAX_CALL_BYTES}); send smaller batches"
            )));
        }
        Ok(bytes)
    }

    fn writable(&self) -> Result<(), LogError> {
        match self.lock {
            Some(_) => Ok(()),
            None => Err(LogError::Refused("the log was opened for reading only".into())),
        }
    }
}

/// Bytes a record takes in memory and, about, on disk.
fn cost(record: &Append) -> usize {
    block::RECORD_HEADER + record.subject.len() + record.payload.len()
}

fn lock(dir: &Path) -> Result<File, LogError> {
    let path = dir.join("LOCK");
    let file = files::create(&path).map_err(|e| files::unavailable("cannot create", &path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::Locked(format!(
            "{} is in use by another Kairos process; stop that one, or choose another data directory",
            dir.display()
        ))),
        Err(TryLockError::Error(e)) => Err(files::unavailable("cannot lock", &path, &e)),
    }
}

fn stopped<E>(_: E) -> LogError {
    LogError::Unavailable("the writer of the log has stopped; restart Kairos".into())
}

/// Runs work that waits for the disk where it holds up nobody.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| LogError::Unavailable(e.to_string()))?
}

#[async_trait]
impl Log for EmbeddedLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.topic(topic).log.partitions
    }

    async fn append(&self, topic: Topic, records: Vec<Append>) -> Result<Vec<Appended>, LogError> {
        self.writable()?;
        let bytes = self.check(&records)?;
        let Some(writer) = &self.topic(topic).writer else { return Err(stopped(())) };
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let units = bytes.div_ceil(ROOM_UNIT).min(self.queue_units()) as u32;
        let room = writer.room.clone().acquire_many_owned(units).await.map_err(stopped)?;
        let (reply, answer) = oneshot::channel();
        writer.commands.send(Command::Append(Job { records, reply, room })).map_err(stopped)?;
        answer.await.map_err(stopped)?
    }

    fn end(&self, topic: Topic) -> Position {
        self.topic(topic).log.end()
    }

    fn reader(
        &self,
        topic: Topic,
        partitions: &[Partition],
        from: &Position,
    ) -> Result<Box<dyn Reader>, LogError> {
        Ok(Box::new(reader::SegmentReader::new(self.topic(topic).log.clone(), partitions, from)?))
    }

    async fn commit(&self, consumer: &str, topic: Topic, position: &Position) -> Result<(), LogError> {
        self.writable()?;
        let (consumers, consumer, position) = (self.consumers.clone(), consumer.to_owned(), position.clone());
        on_disk(move || consumers.commit(&consumer, topic, &position)).await
    }

    fn committed(&self, consumer: &str, topic: Topic) -> Result<Position, LogError> {
        match self.lock {
            Some(_) => self.consumers.committed(consumer, topic),
            None => self.consumers.reread(consumer, topic),
        }
    }

    /// May be called again after a crash: what was already made unreadable is not counted twice.
    async fn erase(&self, subject: &str) -> Result<u64, LogError> {
        self.writable()?;
        let mut count = 0;
        for topic in &self.topics {
            let Some(writer) = &topic.writer else { continue };
            let (log, commands) = (topic.log.clone(), writer.commands.clone());
            let (subject, turn) = (subject.to_owned(), self.maintenance.clone());
            count += on_disk::<u64>(move || {
                let _turn = turn.lock();
                if let Some(open) = log.segments().last()
                    && maintenance::count_subject(open, &subject)? > 0
                {
                    let (reply, done) = oneshot::channel();
                    commands.send(Command::Roll(reply)).map_err(stopped)?;
                    done.blocking_recv().map_err(stopped)??;
                }
                let segments = log.segments();
                let closed = &segments[..segments.len() - 1];
                closed.iter().map(|segment| maintenance::wipe_subject(segment, &subject)).sum()
            })
            .await?;
        }
        Ok(count)
    }

    /// Goes by the time of the last write to a segment and by total size, see [`LogOptions`]. The segment
    /// written to and the topic of policies are never touched. Keys of dropped records are still recognised.
    async fn enforce_retention(&self, now: Millis) -> Result<u64, LogError> {
        self.writable()?;
        let topics: Vec<_> = self.topics.iter().map(|t| t.log.clone()).collect();
        let (options, consumers) = (self.options.clone(), self.consumers.clone());
        let turn = self.maintenance.clone();
        on_disk(move || {
            let _turn = turn.lock();
            topics.iter().map(|topic| maintenance::retain(topic, &options, &consumers, now)).sum()
        })
        .await
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        let writers: Vec<_> = self.topics.iter_mut().filter_map(|t| t.writer.take()).collect();
        let threads: Vec<_> = writers.into_iter().map(|w| w.thread).collect();
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("the writer of a topic had panicked");
            }
        }
        if let Some(lock) = &self.lock {
            // Closing the file would not do if a child process was being started at this instant: it shares
            // the lock until it has become another program.
            let _ = lock.unlock();
        }
    }
}
