//! The writer of a topic: one thread that puts everything waiting into one block and makes it durable with
//! one `fdatasync` for all callers.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, sync::Arc, thread::JoinHandle};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::{
    block::BlockWriter,
    closing, files,
    keys::Keys,
    recovery::{self, Recovered},
    segment::Segment,
    topic::{Follow, TopicLog},
};
use crate::log::{Append, Appended, LogError, LogOptions, Offset, Topic, partition_of};

/// No more callers join a block once it has this many bytes.
const GROUP_BYTES: usize = 8 << 20;

/// The records of one caller, waiting for the disk.
pub struct Job {
    pub records: Vec<Append>,
    pub reply: oneshot::Sender<Result<Vec<Appended>, LogError>>,
    /// The caller's share of the bounded queue, given back when the job is done.
    pub room: OwnedSemaphorePermit,
}

/// What a writer is asked to do.
pub enum Command {
    /// Append records.
    Append(Job),
    /// Close the open segment if it holds any block.
    Roll(oneshot::Sender<Result<(), LogError>>),
}

/// A running writer.
pub struct WriterHandle {
    pub topic: Arc<TopicLog>,
    pub commands: mpsc::UnboundedSender<Command>,
    pub thread: JoinHandle<()>,
}

struct Writer {
    topic: Arc<TopicLog>,
    tail: watch::Sender<Vec<Offset>>,
    segment_bytes: u64,
    keys: Keys,
    segment: Arc<Segment>,
    file: File,
    /// Number of the next block.
    sequence: u64,
    next: Vec<Offset>,
    block: BlockWriter,
    taken: Vec<u128>,
    fault: Option<Fault>,
}

/// What must be done before the open segment can be trusted again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A write failed half-way: cut it off.
    Written,
    /// A sync failed: cut it off, and leave the file, since its cached pages may not be what is on disk.
    Synced,
}

/// Opens (or creates) a topic and starts its writer.
pub fn start(
    dir: &Path,
    topic: Topic,
    partitions: u32,
    options: &LogOptions,
) -> Result<WriterHandle, LogError> {
    let Recovered { segments, segment, file, keys, sequence, next } = recovery::open(dir, topic, partitions)?;
    let (tail, follow) = watch::channel(next.clone());
    let topic = Arc::new(TopicLog::new(topic, dir.to_owned(), segments, Follow::Writer(follow)));
    let writer = Writer {
        topic: topic.clone(),
        tail,
        segment_bytes: options.segment_bytes,
        keys,
        segment,
        file,
        sequence,
        next,
        block: BlockWriter::default(),
        taken: Vec::new(),
        fault: None,
    };
    let (commands, queue) = mpsc::unbounded_channel();
    let thread = std::thread::Builder::new()
        .name(format!("log-{}", topic.topic.name()))
        .spawn(move || writer.run(queue))
        .map_err(|e| LogError::Unavailable(format!("cannot start a thread: {e}")))?;
    Ok(WriterHandle { topic, commands, thread })
}

impl Writer {
    fn run(mut self, mut queue: mpsc::UnboundedReceiver<Command>) {
        while let Some(first) = queue.blocking_recv() {
            let mut group = Vec::new();
            let mut bytes = 0;
            let mut command = Some(first);
            while let Some(one) = command.take() {
                match one {
                    Command::Append(job) => {
                        bytes += job.records.iter().map(super::cost).sum::<usize>();
                        group.push(job);
                    }
                    Command::Roll(reply) => {
                        self.commit(std::mem::take(&mut group));
                        let _ = reply.send(self.close_segment());
                    }
                }
                if bytes < GROUP_BYTES {
                    command = queue.try_recv().ok();
                }
            }
            self.commit(group);
        }
        if self.fault.is_none()
            && let Err(error) = closing::note(&self.topic.dir, &self.segment)
        {
            let directory = self.topic.dir.display();
            tracing::warn!(%directory, %error, "cannot note where the log ends; it counts as not closed properly");
        }
    }

    /// Makes a group of jobs durable and answers each of them.
    fn commit(&mut self, group: Vec<Job>) {
        if group.is_empty() {
            return;
        }
        let started = std::time::Instant::now();
        let outcome = self.write(&group);
        super::metrics::committed(self.topic.topic, started.elapsed(), &outcome);
        match outcome {
            // A caller that went away has no use for its answer.
            Ok(answers) => group.into_iter().zip(answers).for_each(|(job, answer)| {
                drop(job.room);
                let _ = job.reply.send(Ok(answer));
            }),
            Err(error) => group.into_iter().for_each(|job| {
                drop(job.room);
                let _ = job.reply.send(Err(error.clone()));
            }),
        }
    }

    fn write(&mut self, group: &[Job]) -> Result<Vec<Vec<Appended>>, LogError> {
        self.make_ready()?;
        self.taken.clear();
        let mut next = self.next.clone();
        let outcome = self.fill_block(group, &mut next).and_then(|answers| {
            self.write_block(&next)?;
            Ok(answers)
        });
        if outcome.is_err() {
            // Before mending, which may close the set of keys together with its segment.
            self.taken.drain(..).for_each(|key| self.keys.give_back(key));
            // Space is given back at once if possible; if not, the next append tries again.
            let _ = self.mend();
        }
        outcome
    }

    /// Puts what is new into the block and decides what becomes of each record.
    fn fill_block(&mut self, group: &[Job], next: &mut [Offset]) -> Result<Vec<Vec<Appended>>, LogError> {
        self.block.clear();
        let mut answers = Vec::with_capacity(group.len());
        for job in group {
            let mut answer = Vec::with_capacity(job.records.len());
            for record in &job.records {
                if record.key != 0 {
                    if !self.keys.take(record.key)? {
                        answer.push(Appended::Duplicate);
                        continue;
                    }
                    self.taken.push(record.key);
                }
                let partition = partition_of(&record.subject, self.topic.partitions);
                let end = &mut next[partition as usize];
                self.block.push(partition, *end, record.key, &record.subject, &record.payload);
                answer.push(Appended::At(partition, *end));
                *end += 1;
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    fn write_block(&mut self, next: &[Offset]) -> Result<(), LogError> {
        if self.block.records() == 0 {
            return Ok(());
        }
        let at = self.segment.len();
        let bytes = self.block.finish(self.segment.salt, self.sequence);
        let end = at + bytes.len() as u64;
        let (fault, error) = match self.file.write_all_at(bytes, at) {
            Err(e) => (Fault::Written, e),
            Ok(()) => match sync(&self.file) {
                Err(e) => (Fault::Synced, e),
                Ok(()) => {
                    self.sequence += 1;
                    self.next.copy_from_slice(next);
                    self.segment.publish(end);
                    self.tail.send_replace(next.to_vec());
                    return Ok(());
                }
            },
        };
        self.fault = Some(fault);
        let error = files::unavailable("cannot write", &self.segment.path, &error);
        tracing::error!(%error, "the log takes no records until this is mended");
        Err(error)
    }

    /// Mends what an earlier failure left, and begins a new segment when the open one is full.
    fn make_ready(&mut self) -> Result<(), LogError> {
        self.mend()?;
        let len = self.segment.len();
        if len < self.segment_bytes {
            return Ok(());
        }
        if self.keys.behind() {
            if len < self.segment_bytes.saturating_mul(2) {
                return Ok(());
            }
            return Err(LogError::Unavailable(format!(
                "the files of keys in {} cannot be written as fast as records come",
                self.topic.dir.display()
            )));
        }
        self.roll()
    }

    fn mend(&mut self) -> Result<(), LogError> {
        let Some(fault) = self.fault else { return Ok(()) };
        let path = &self.segment.path;
        let broken = |e| files::unavailable("cannot mend", path, &e);
        self.file.set_len(self.segment.len()).map_err(broken)?;
        let empty = self.segment.len() == self.segment.header_len();
        if fault == Fault::Synced && empty {
            self.file.write_all_at(&self.segment.header(), 0).map_err(broken)?;
        }
        self.file.sync_all().map_err(broken)?;
        if fault == Fault::Synced && !empty {
            self.roll()?;
        }
        self.fault = None;
        Ok(())
    }

    fn close_segment(&mut self) -> Result<(), LogError> {
        self.mend()?;
        if self.segment.len() > self.segment.header_len() { self.roll() } else { Ok(()) }
    }

    /// Begins the next segment.
    fn roll(&mut self) -> Result<(), LogError> {
        let old = &self.segment;
        let new = Segment::new(&self.topic.dir, old.index + 1, self.sequence, old.len(), self.next.clone());
        self.file = new.create().map_err(|e| {
            // What is left of it would pass for a segment cut short by a crash, and be removed then.
            let _ = std::fs::remove_file(&new.path);
            files::unavailable("cannot create", &new.path, &e)
        })?;
        self.keys.close(old.index);
        self.segment = Arc::new(new);
        self.topic.push(self.segment.clone());
        Ok(())
    }
}

#[cfg(not(test))]
fn sync(file: &File) -> io::Result<()> {
    file.sync_data()
}

#[cfg(test)]
fn sync(file: &File) -> io::Result<()> {
    super::tests::faults::sync(file)
}
