//! The loop: read, decode, apply, put online, append to history, move on; sweep when time has passed;
//! checkpoint now and then.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use features::{
    FeatureError, FeatureStore, View, chunks::Held, history::PastEvents, offline::OfflineStore,
    online::OnlineStore, quality::Quality, store::Applied,
};
use ingest::{
    Clock, Millis,
    catalogue::Catalogue,
    log::{Log, LogRecord, Position, Topic},
};
use metrics::{counter, gauge, histogram};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    backfill::{Backfills, Piece, Progress},
    checkpoint::{Checkpoint, Delta, StateHook},
    decode::{Decoded, decode},
    entities::PARTS,
    error::JobError,
    metrics as names,
    shard::{Changes, Shard},
    spill::Spiller,
};

/// Name under which the job commits its place in the log.
pub const CONSUMER: &str = "stream";

/// How the job runs.
#[derive(Debug, Clone)]
pub struct JobOptions {
    /// File of the checkpoint.
    pub checkpoint_file: PathBuf,
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

/// The stream job over all partitions of one log.
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
    /// When each shard last had a signal.
    heard: Vec<Instant>,
    position: Position,
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
    /// Opens the checkpoint and restores state and online store from it.
    pub fn open(
        log: Arc<dyn Log>,
        catalogue: Arc<Catalogue>,
        features: &FeatureStore,
        online: Arc<dyn OnlineStore>,
        clock: Clock,
        options: JobOptions,
    ) -> Result<Self, JobError> {
        let views = features.registry().views().to_vec();
        let mut checkpoint = Checkpoint::open(&options.checkpoint_file, options.state_hook.as_ref())?;
        let partitions = log.partitions(Topic::Signals);
        let mut shards: Vec<Shard> = (0..partitions).map(|p| Shard::new(p, &views)).collect();
        let budget = options.memory_budget;
        let mut restored = checkpoint.load(&views, budget)?;
        if !features.history().durable_position()?.covers(&restored.position) {
            // History is written before the checkpoint, so it was lost or moved away since. Only the log has
            // what both need.
            tracing::warn!("history is behind the checkpoint; both are built again from the log");
            drop(checkpoint);
            checkpoint = Checkpoint::start_over(&options.checkpoint_file, options.state_hook.as_ref())?;
            restored = checkpoint.load(&views, budget)?;
        }
        for (p, t) in restored.watermarks {
            if let Some(s) = shards.get_mut(p as usize) {
                s.watermark = t;
            }
        }
        for (p, keys) in restored.seen {
            if let Some(s) = shards.get_mut(p as usize) {
                s.seen.restore(keys.into_iter());
            }
        }
        let held = features.registry().held().clone();
        let mut spiller = Spiller::new(budget, held.clone(), checkpoint.chunks());
        for (view, row) in restored.rows {
            let p = ingest::log::partition_of(&row.entity, partitions);
            spiller.note(&row);
            shards[p as usize].restore(view.id, row);
        }
        let (eraser, erasures) = mpsc::channel(16);
        let backfills = Backfills::open(features.history().clone(), &views, &restored.notes, clock())?;
        let mut job = Job {
            log,
            catalogue,
            online,
            history: features.history().clone(),
            applied: features.applied().clone(),
            quality: features.quality().clone(),
            clock,
            options,
            checkpoint: Arc::new(checkpoint),
            heard: vec![Instant::now(); shards.len()],
            shards,
            saved: restored.position.clone(),
            position: restored.position,
            saving: None,
            unsaved: None,
            saved_at: Instant::now(),
            collected_at: Millis::MIN,
            collecting: None,
            held,
            spiller: Arc::new(Mutex::new(spiller)),
            erasures,
            eraser,
            backfills,
            views,
        };
        job.fill_new_views(&restored.new_views)?;
        for s in &job.shards {
            job.online.put_many(s.rows().collect())?;
        }
        job.applied.advance(&job.position);
        Ok(job)
    }

    /// A handle through which people are erased.
    pub fn eraser(&self) -> Eraser {
        Eraser(self.eraser.clone())
    }

    /// How far the job has come.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Views that came since the last run start from history, so that they do not begin empty.
    fn fill_new_views(&mut self, fresh: &[Arc<View>]) -> Result<(), JobError> {
        for view in fresh {
            let oldest = self.shards.iter().map(|s| s.watermark).min().unwrap_or(Millis::MIN);
            let after = oldest.saturating_sub(view.horizon());
            let past = PastEvents::between(&*self.history, view, None, after, None)?;
            let mut changes = Changes::default();
            for shard in &mut self.shards {
                shard.fill(view, &past, &mut changes)?;
            }
            let rows = changes.rows.len();
            tracing::info!(view = %view.name, entities = rows, "a new view was filled from history");
        }
        Ok(())
    }

    /// Runs until `stop` turns true, then makes a last checkpoint.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), JobError> {
        let partitions: Vec<_> = self.shards.iter().map(|s| s.partition).collect();
        let mut reader = self.log.reader(Topic::Signals, &partitions, &self.position)?;
        let mut sweep = tokio::time::interval(self.options.sweep_every);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = asked_to_stop(&mut stop) => break,
                Some((subject, answer)) = self.erasures.recv() => {
                    let done = self.erase(&subject).await.map_err(|e| e.to_string());
                    let _ = answer.send(done);
                }
                _ = sweep.tick() => self.tick().await?,
                piece = self.backfills.next(), if self.backfills.pending() => self.take_piece(piece)?,
                records = reader.next(self.options.batch) => self.apply(&records?)?,
            }
        }
        self.save().await
    }

    fn take_piece(&mut self, piece: Option<Result<Piece, FeatureError>>) -> Result<(), JobError> {
        match piece.transpose() {
            Ok(piece) => self.backfills.take(piece)?,
            Err(e) => {
                // Live values do not depend on it.
                tracing::error!(error = %e, "a backfill stopped; it goes on at the next start");
                self.backfills.put_off();
            }
        }
        Ok(())
    }

    /// Adds a backfill of a view over everything applied so far, or goes on with one for the same instants.
    pub fn add_backfill(
        &mut self,
        view: &Arc<View>,
        from: Option<Millis>,
        until: Option<Millis>,
    ) -> Result<(), JobError> {
        let mut below = self.history.durable_position()?;
        for (partition, offset) in self.position.0.iter().filter(|(_, o)| **o > 0) {
            below.advance(*partition, offset - 1);
        }
        Ok(self.backfills.add(view, from, until, below, (self.clock)())?)
    }

    /// Does the pending backfills of these views, or all that are pending, and makes them durable now and then.
    pub async fn backfill(
        &mut self,
        views: Option<&[Arc<View>]>,
        mut told: impl FnMut(Progress),
    ) -> Result<(), JobError> {
        if let Some(views) = views {
            self.backfills.only(views);
        }
        while self.backfill_step()? {
            self.backfills.progress().into_iter().for_each(&mut told);
            let full = self.history.buffered_bytes() > self.options.history_buffer;
            if full || self.saved_at.elapsed() >= self.options.checkpoint_every {
                self.save().await?;
            }
        }
        self.save().await
    }

    /// Makes one piece of a backfill; false when none is pending.
    pub fn backfill_step(&mut self) -> Result<bool, JobError> {
        let pending = self.backfills.pending();
        if pending {
            let piece = self.backfills.step().transpose()?;
            self.backfills.take(piece)?;
        }
        Ok(pending)
    }

    /// How far the backfill under way has come.
    pub fn backfill_progress(&self) -> Option<Progress> {
        self.backfills.progress()
    }

    /// One micro-batch, start to end.
    pub fn apply(&mut self, records: &[LogRecord]) -> Result<(), JobError> {
        let started = Instant::now();
        let mut of_shard: Vec<Vec<LogRecord>> = vec![Vec::new(); self.shards.len()];
        for r in records {
            of_shard[r.partition as usize].push(r.clone());
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
        self.applied.advance(&self.position);
        let now = (self.clock)();
        if let Some(t) = oldest_arrival {
            histogram!(names::FRESHNESS).record((now - t).max(0) as f64 / 1e3);
        }
        for (kind, batch) in readable {
            self.quality.applied(&kind.table, &batch, now);
        }
        histogram!(names::BATCH).record(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn publish(&self, changes: Changes) -> Result<(), JobError> {
        for (view, count) in changes.late {
            let kind = self.catalogue.by_table(&view.table).map_or_else(String::new, |k| k.name.clone());
            counter!(names::LATE, "type" => kind, "view" => view.pinned_name()).increment(count as u64);
            self.quality.late(&view, count);
        }
        self.online.put_many(changes.rows)?;
        let written = (self.clock)();
        for (view, values) in changes.values {
            self.quality.written(&view, &values);
            self.history.append(&view.history_table(), view.stamped(&values, written)?)?;
        }
        Ok(())
    }

    /// What time brings: departures from windows, checkpoints, gauges.
    async fn tick(&mut self) -> Result<(), JobError> {
        let end = self.log.end(Topic::Signals);
        let lag: u64 = end.0.iter().map(|(p, o)| o.saturating_sub(self.position.get(*p))).sum();
        gauge!(names::LAG).set(lag as f64);
        if lag == 0 {
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
        self.forget_old();
        let crowded = self.held.memory() > self.options.memory_budget
            && self.saved_at.elapsed() >= Duration::from_secs(1)
            && self.position != self.saved;
        let changed = self.position != self.saved || self.backfills.has_notes();
        let full = crowded || self.history.buffered_bytes() > self.options.history_buffer;
        if full || (self.saved_at.elapsed() >= self.options.checkpoint_every && changed) {
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

    /// Once a day of event time, looks through the state for rows that left every window: a part at a time, so that
    /// it takes no long pause.
    fn forget_old(&mut self) {
        let newest = self.shards.iter().map(|s| s.watermark).max().unwrap_or(Millis::MIN);
        if self.collecting.is_none() && newest.saturating_sub(self.collected_at) > 86_400_000 {
            self.collected_at = newest;
            self.collecting = Some(0);
        }
        let Some(part) = self.collecting else { return };
        self.collecting = Some(part + 1).filter(|next| *next < PARTS);
        let mut changes = Changes::default();
        self.shards.iter_mut().for_each(|s| s.forget_old(part, &mut changes));
        if let Err(e) = self.publish(changes) {
            tracing::error!(error = %e, "rows that left every window were not taken out of the online store");
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

    /// Starts a checkpoint, unless one is under way; collects the one before.
    pub async fn start_saving(&mut self) -> Result<(), JobError> {
        if self.saving.as_ref().is_some_and(|(_, s)| !s.is_finished()) {
            return Ok(());
        }
        self.finish_saving().await?;
        let started = Instant::now();
        self.saved_at = started;
        let mut delta = self.unsaved.take().unwrap_or_default();
        for s in &mut self.shards {
            let horizon = s.horizon();
            delta.rows.extend(s.take_dirty());
            let horizon = s.seen.horizon(horizon);
            delta.seen.push((s.partition, s.seen.take_fresh()));
            delta.horizons.retain(|(p, _)| *p != s.partition);
            delta.horizons.push((s.partition, horizon));
            delta.watermarks.retain(|(p, _)| *p != s.partition);
            delta.watermarks.push((s.partition, s.watermark));
            s.seen.prune(horizon);
        }
        delta.notes.extend(self.backfills.take_notes());
        delta.position = self.position.clone();
        if let Err(e) = self.history.seal(&self.position) {
            tracing::error!(error = %e, "history could not be sealed; the checkpoint is tried again later");
            counter!(names::CHECKPOINT_FAILURES).increment(1);
            self.unsaved = Some(delta);
            return Ok(());
        }
        let (history, checkpoint, views) =
            (self.history.clone(), self.checkpoint.clone(), self.views.clone());
        let spiller = self.spiller.clone();
        let task = tokio::task::spawn_blocking(move || {
            // History first: if we die in between, the job replays from its older position, and history
            // leaves out what it has.
            let written = history.persist().map_err(|e| e.to_string());
            match written.and_then(|_| checkpoint.commit(&views, &delta).map_err(|e| e.to_string())) {
                Ok(()) => {
                    let mut spiller = spiller.lock();
                    let rows = delta.rows.iter().flat_map(|(_, rows)| rows.iter());
                    rows.for_each(|(_, row)| row.iter().for_each(|row| spiller.note(row)));
                    spiller.keep_budget();
                    Ok(delta.position.clone())
                }
                Err(e) => Err((delta, e)),
            }
        });
        self.saving = Some((started, task));
        histogram!(names::CHECKPOINT_PAUSE).record(started.elapsed().as_secs_f64());
        Ok(())
    }

    async fn finish_saving(&mut self) -> Result<(), JobError> {
        let Some((started, task)) = self.saving.take() else { return Ok(()) };
        match task.await {
            Ok(Ok(position)) => {
                histogram!(names::CHECKPOINT).record(started.elapsed().as_secs_f64());
                if let Err(e) = self.log.commit(CONSUMER, Topic::Signals, &position).await {
                    tracing::warn!(error = %e, "the job's place in the log was not committed");
                }
                self.saved = position;
            }
            Ok(Err((delta, error))) => {
                tracing::error!(error, "a checkpoint failed; it is tried again");
                counter!(names::CHECKPOINT_FAILURES).increment(1);
                self.unsaved = Some(delta);
            }
            // What it held is gone, and a later checkpoint would leave a hole: only a start from the last one is whole.
            Err(e) => return Err(self.not_durable(format!("it was cut off: {e}"))),
        }
        Ok(())
    }

    fn not_durable(&self, reason: String) -> JobError {
        JobError::Checkpoint { file: self.options.checkpoint_file.display().to_string(), reason }
    }

    /// Makes everything applied so far durable.
    pub async fn save(&mut self) -> Result<(), JobError> {
        self.finish_saving().await?;
        self.start_saving().await?;
        self.finish_saving().await?;
        if self.unsaved.is_some() {
            return Err(self.not_durable("not durable; see the log for the cause".to_owned()));
        }
        Ok(())
    }

    async fn erase(&mut self, subject: &str) -> Result<u64, JobError> {
        let mut changes = Changes::default();
        self.shards.iter_mut().for_each(|s| s.erase(subject, &mut changes));
        self.publish(changes)?;
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

/// Ends when `stop` turns true, or whoever could turn it is gone.
async fn asked_to_stop(stop: &mut watch::Receiver<bool>) {
    // What comes back borrows the channel, and may not be held while the job waits.
    drop(stop.wait_for(|stop| *stop).await);
}
