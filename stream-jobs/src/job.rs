//! The loop: read, decode, apply, put online, append to history, move on; sweep when time has passed;
//! checkpoint now and then.
//!
//! | module | what |
//! |---|---|
//! | `open` | the start, from the checkpoint and from history |
//! | `online` | rows on their way to the online store, which may be away |
//! | `saving` | checkpoints |
//! | `backfill` | backfills between micro-batches |

mod backfill;
mod online;
mod open;
mod saving;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use features::{
    FeatureError, View, chunks::Held, offline::OfflineStore, online::OnlineStore, quality::Quality,
    store::Applied,
};
use ingest::{
    Clock, Millis,
    catalogue::Catalogue,
    log::{Log, LogRecord, Partition, Position, Topic},
};
use metrics::{counter, gauge, histogram};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    backfill::Backfills,
    checkpoint::{Checkpoint, Delta, StateHook},
    decode::{Decoded, decode},
    error::JobError,
    metrics as names,
    shard::{Changes, Shard},
    spill::Spiller,
};
use online::Waiting;

/// Name under which the job commits its place in the log.
pub const CONSUMER: &str = "stream";

/// A micro-batch of more records than this is part of a stream …
const TRICKLE: usize = 4;
/// … and the job then lets records gather for at most this long, and for at most three times as long as the
/// batch took. The cost of a batch hardly depends on its size while it is small, so that a busy log costs a
/// quarter of a core rather than all of one. What trickles in is applied at once.
const GATHER: Duration = Duration::from_millis(4);

/// How the job runs.
#[derive(Debug, Clone)]
pub struct JobOptions {
    /// File of the checkpoint.
    pub checkpoint_file: PathBuf,
    /// Only these partitions are read, applied and written online; `None` for all. No two jobs over one online
    /// store may have the same.
    pub partitions: Option<Vec<Partition>>,
    /// Time between checkpoints.
    pub checkpoint_every: Duration,
    /// Most records in a micro-batch.
    pub batch: usize,
    /// Time between sweeps for departures.
    pub sweep_every: Duration,
    /// A partition that is read to its end and has had no signal for so long is idle: its watermark goes with
    /// the newest of the others, so that what it keeps grows old with the stream.
    pub idle_after: Duration,
    /// Bytes of events in memory above which those that the checkpoint has are read from disk when needed. What
    /// came since the last checkpoint is held beyond it; a checkpoint is then made early.
    pub memory_budget: usize,
    /// History rows not yet durable at which a checkpoint is made early, in bytes.
    pub history_buffer: usize,
    /// Sees every change to the file of the checkpoint; for tests of crashes.
    pub state_hook: Option<StateHook>,
}

impl JobOptions {
    /// The defaults, with the checkpoint in this file.
    pub fn new(checkpoint_file: PathBuf) -> Self {
        JobOptions {
            checkpoint_file,
            partitions: None,
            checkpoint_every: Duration::from_secs(10),
            batch: 524_288,
            sweep_every: Duration::from_millis(200),
            idle_after: Duration::from_secs(60),
            memory_budget: 1 << 30,
            history_buffer: 256 << 20,
            state_hook: None,
        }
    }
}

/// A request to take a person out of state, online store and history; answers how many history rows went.
type Erasure = (String, oneshot::Sender<Result<u64, String>>);

/// The position a checkpoint holds, or what it would have written, and why it did not.
type Saved = Result<Position, (Box<Delta>, String)>;

/// Asks a running job to erase people.
#[derive(Debug, Clone)]
pub struct Eraser(mpsc::Sender<Erasure>);

impl Eraser {
    /// Takes a person out of the job's state, the online store and history; answers how many rows of
    /// history there were. Erase them from the log first, or they come back with the next replay.
    pub async fn erase(&self, subject: &str) -> Result<u64, String> {
        let (tx, rx) = oneshot::channel();
        let stopped = || "the stream job is not running; try again once it is".to_owned();
        self.0.send((subject.to_owned(), tx)).await.map_err(|_| stopped())?;
        rx.await.map_err(|_| stopped())?
    }
}

/// The stream job over the partitions of one log, or some of them.
pub struct Job {
    log: Arc<dyn Log>,
    catalogue: Arc<Catalogue>,
    views: Vec<Arc<View>>,
    online: Arc<dyn OnlineStore>,
    history: Arc<dyn OfflineStore>,
    applied: Applied,
    quality: Arc<Quality>,
    clock: Clock,
    options: JobOptions,
    checkpoint: Arc<Checkpoint>,
    shards: Vec<Shard>,
    /// The place of each partition's shard; none for those that are not this job's.
    shard_of: Vec<Option<usize>>,
    /// When each shard last had a signal.
    heard: Vec<Instant>,
    position: Position,
    /// Below which everything is in the online store.
    published: Position,
    /// What it has not taken yet; nothing is read from the log while there is something.
    waiting: Option<Waiting>,
    /// What the checkpoint under way holds, to be written again should it fail.
    saving: Option<(Instant, tokio::task::JoinHandle<Saved>)>,
    unsaved: Option<Box<Delta>>,
    saved_at: Instant,
    saved: Position,
    collected_at: Millis,
    /// The part of the state next looked through for rows that left every window.
    collecting: Option<usize>,
    held: Arc<Held>,
    spiller: Arc<Mutex<Spiller>>,
    erasures: mpsc::Receiver<Erasure>,
    eraser: mpsc::Sender<Erasure>,
    backfills: Backfills,
}

impl Job {
    /// A handle through which people are erased.
    pub fn eraser(&self) -> Eraser {
        Eraser(self.eraser.clone())
    }

    /// How far the job has come.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Runs until `stop` turns true, then makes a last checkpoint.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), JobError> {
        let mut reader = self.log.reader(Topic::Signals, &self.partitions(), &self.position)?;
        let mut sweep = tokio::time::interval(self.options.sweep_every);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut ready = tokio::time::Instant::now();
        loop {
            let next = async {
                tokio::time::sleep_until(ready).await;
                reader.next(self.options.batch).await
            };
            // History takes no more: the log keeps what comes.
            let crowded = self.history.buffered_bytes() > 2 * self.options.history_buffer;
            let again = self.waiting.as_ref().map(|w| w.next.unwrap_or_else(Instant::now));
            tokio::select! {
                biased;
                () = asked_to_stop(&mut stop) => break,
                Some((subject, answer)) = self.erasures.recv() => {
                    let done = self.erase(&subject).await.map_err(|e| e.to_string());
                    let _ = answer.send(done);
                }
                _ = sweep.tick() => self.tick().await?,
                piece = self.backfills.next(), if self.backfills.pending() && !crowded => self.take_piece(piece)?,
                () = until(again), if again.is_some() => drop(self.settle()?),
                records = next, if again.is_none() && !crowded => {
                    let (records, began) = (records?, tokio::time::Instant::now());
                    self.apply(&records)?;
                    let gathers = (TRICKLE + 1..self.options.batch).contains(&records.len());
                    let pause = if gathers { (3 * began.elapsed()).min(GATHER) } else { Duration::ZERO };
                    ready = tokio::time::Instant::now() + pause;
                }
            }
        }
        if self.settle()? {
            self.save().await?;
        } else {
            tracing::warn!("the online store is away: the next start goes on from the checkpoint before");
            self.finish_saving().await?;
        }
        self.online.release();
        Ok(())
    }

    /// One micro-batch, start to end. Rows that the online store does not take now wait for it.
    pub fn apply(&mut self, records: &[LogRecord]) -> Result<(), JobError> {
        let started = Instant::now();
        let mut of_shard: Vec<Vec<LogRecord>> = vec![Vec::new(); self.shards.len()];
        for r in records {
            if let Some(Some(shard)) = self.shard_of.get(r.partition as usize) {
                of_shard[*shard].push(r.clone());
            }
        }
        let catalogue = &self.catalogue;
        let step = |(shard, records): (&mut Shard, &Vec<LogRecord>)| -> Result<(Decoded, Changes), JobError> {
            let decoded = decode(catalogue, records, &mut shard.seen)?;
            shard.watermark = shard.watermark.max(decoded.newest.unwrap_or(Millis::MIN));
            let mut changes = Changes::default();
            let tables: Vec<_> =
                decoded.batches.iter().map(|(kind, batch)| (kind.table.as_str(), batch)).collect();
            shard.apply(&tables, &mut changes)?;
            Ok((decoded, changes))
        };
        let work = self.shards.iter_mut().zip(&of_shard).filter(|(_, r)| !r.is_empty());
        let done: Vec<_> = if records.len() < 2_000 {
            work.map(step).collect()
        } else {
            // Shards share nothing, so each large piece of work gets a thread.
            std::thread::scope(|scope| {
                let threads: Vec<_> = work.map(|w| scope.spawn(|| step(w))).collect();
                threads
                    .into_iter()
                    .map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p)))
                    .collect()
            })
        };
        let mut oldest_arrival: Option<Millis> = None;
        let mut readable = Vec::new();
        for result in done {
            let (decoded, changes) = result?;
            for (kind, batch) in decoded.batches {
                counter!(names::SIGNALS, "type" => kind.name.clone()).increment(batch.num_rows() as u64);
                self.history.append(&kind.table, batch.clone())?;
                readable.push((kind, batch));
            }
            counter!(names::DUPLICATES).increment(decoded.duplicates as u64);
            counter!(names::UNDECLARED).increment(decoded.undeclared as u64);
            oldest_arrival = oldest_arrival.into_iter().chain(decoded.oldest_arrival).min();
            self.publish(changes)?;
        }
        for r in records {
            self.position.advance(r.partition, r.offset);
        }
        for (heard, _) in self.heard.iter_mut().zip(&of_shard).filter(|(_, r)| !r.is_empty()) {
            *heard = started;
        }
        self.announce(oldest_arrival)?;
        let now = (self.clock)();
        for (kind, batch) in readable {
            self.quality.applied(&kind.table, &batch, now);
        }
        histogram!(names::BATCH).record(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn publish(&mut self, changes: Changes) -> Result<(), JobError> {
        for (view, count) in changes.late {
            let kind = self.catalogue.by_table(&view.table).map_or_else(String::new, |k| k.name.clone());
            counter!(names::LATE, "type" => kind, "view" => view.pinned_name()).increment(count as u64);
            self.quality.late(&view, count);
        }
        self.put(changes.rows)?;
        let written = (self.clock)();
        for (view, values) in changes.values {
            self.quality.written(&view, &values);
            self.history.append(&view.history_table(), view.stamped(&values, written)?)?;
        }
        Ok(())
    }

    /// What time brings: departures from windows, checkpoints, gauges.
    async fn tick(&mut self) -> Result<(), JobError> {
        let (end, at) = (self.log.end(Topic::Signals), self.own_position());
        let lag: u64 = at.0.iter().map(|(p, o)| end.get(*p).saturating_sub(*o)).sum();
        gauge!(names::LAG).set(lag as f64);
        if lag == 0 && self.waiting.is_none() {
            // Behind the log, values are about to change anyway.
            self.advance_idle();
            self.sweep((self.clock)(), 2_048)?;
        }
        for s in self.shards.iter().filter(|s| s.watermark > Millis::MIN) {
            gauge!(names::WATERMARK, "partition" => s.partition.to_string()).set(s.watermark as f64 / 1e3);
        }
        gauge!(names::ROWS).set(self.shards.iter().map(|s| s.len()).sum::<usize>() as f64);
        gauge!(names::STATE_BYTES).set(self.held.memory() as f64);
        gauge!(names::SPILLED_BYTES).set(self.held.spilled() as f64);
        gauge!(names::CHUNKS).set(self.held.chunks() as f64);
        if self.waiting.is_none() {
            self.forget_old();
        }
        let crowded = self.held.memory() > self.options.memory_budget
            && self.saved_at.elapsed() >= Duration::from_secs(1)
            && self.position != self.saved;
        let changed = self.position != self.saved || self.backfills.has_notes();
        let full = crowded || self.history.buffered_bytes() > self.options.history_buffer;
        // A checkpoint that failed is tried again, not at every turn.
        let patient = self.unsaved.is_some() && self.saved_at.elapsed() < Duration::from_secs(1);
        if !patient && (full || (self.saved_at.elapsed() >= self.options.checkpoint_every && changed)) {
            self.start_saving().await?;
        }
        Ok(())
    }

    /// Lets the watermarks of idle partitions go with the newest.
    fn advance_idle(&mut self) {
        let newest = self.shards.iter().map(|s| s.watermark).max().unwrap_or(Millis::MIN);
        for (shard, heard) in self.shards.iter_mut().zip(&self.heard) {
            if heard.elapsed() >= self.options.idle_after {
                shard.watermark = newest;
            }
        }
    }

    /// Brings values up to date that changed because time passed; at most `limit` rows a view and partition.
    pub fn sweep(&mut self, now: Millis, limit: usize) -> Result<(), JobError> {
        let mut changes = Changes::default();
        for s in &mut self.shards {
            s.sweep(now, limit, &mut changes)?;
        }
        self.publish(changes)
    }

    async fn erase(&mut self, subject: &str) -> Result<u64, JobError> {
        let away =
            || FeatureError::Unavailable("the online store is away; erase again once it is back".into());
        if !self.settle()? {
            return Err(away().into());
        }
        let mut changes = Changes::default();
        self.shards.iter_mut().for_each(|s| s.erase(subject, &mut changes));
        self.publish(changes)?;
        // Rows of partitions that are not this job's, and what it never had.
        self.online.erase(subject).await?;
        // What it has made and not handed over may be of this person.
        self.backfills.interrupt();
        self.finish_saving().await?;
        let history = self.history.clone();
        let owned = subject.to_owned();
        let rows = tokio::task::spawn_blocking(move || history.erase(&owned)).await;
        let rows = rows.unwrap_or_else(|p| std::panic::resume_unwind(p.into_panic()))?;
        self.save().await?;
        Ok(rows)
    }
}

/// Ends at that instant; without one it does not.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

/// Ends when `stop` turns true, or whoever could turn it is gone.
async fn asked_to_stop(stop: &mut watch::Receiver<bool>) {
    // What comes back borrows the channel, and may not be held while the job waits.
    drop(stop.wait_for(|stop| *stop).await);
}
