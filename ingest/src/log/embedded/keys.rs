//! Which idempotency keys a topic has taken: those of the open segment in memory, those of closed segments
//! in sorted runs, which a thread of their own writes and merges so that few remain.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use hashbrown::HashSet;

use super::{
    files,
    run::{self, Run},
    segment::{Segment, advance},
};
use crate::log::LogError;

/// Key sets of closed segments that may wait for their file before appends are refused.
const MAX_WAITING: usize = 8;
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Keys are spread already; their low half is their hash.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.0 = self.0.rotate_left(8) ^ u64::from(*b));
    }
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

type KeySet = HashSet<u128, BuildHasherDefault<Spread>>;

/// The keys of one topic; owned by its writer.
pub struct Keys {
    open: KeySet,
    closed: Arc<ArcSwap<Closed>>,
    to_file: Option<mpsc::Sender<()>>,
    stop: Arc<AtomicBool>,
    filer: Option<JoinHandle<()>>,
}

/// Keys of closed segments.
#[derive(Clone, Default)]
struct Closed {
    /// Not in a file yet, by segment, oldest first.
    waiting: Vec<(u64, Arc<KeySet>)>,
    /// Oldest first; each covers the segments after those of the one before it.
    runs: Vec<Arc<Run>>,
}

impl Keys {
    /// Loads the runs of a topic, makes those that are missing for closed segments, and starts the filer.
    /// `open` is the number of the segment written to.
    pub fn open(dir: &Path, name: &str, closed: &[Arc<Segment>], open: u64) -> Result<Self, LogError> {
        let mut runs = load_runs(dir)?;
        if let Some(run) = runs.last()
            && run.segments.1 >= open
        {
            return Err(LogError::Damaged(format!(
                "{} ends with segment {open}, but {} holds keys of later ones: they are missing. Restore them from \
                 a backup",
                dir.display(),
                run.path.display()
            )));
        }
        let covered: HashMap<u64, u64> = runs.iter().map(|r| r.segments).collect();
        let mut missing = Vec::new();
        for segment in closed {
            if !covered.iter().any(|(first, last)| (*first..=*last).contains(&segment.index)) {
                missing.push(segment);
            }
        }
        for segment in missing {
            let mut keys = Vec::new();
            let mut next = segment.base.clone();
            segment.for_each(|block| {
                advance(block, &mut next, |key| keys.extend((key != 0).then(|| spread(key))))
                    .map_err(|bad| segment.damaged(bad))
            })?;
            runs.extend(write_sorted(dir, segment.index, keys)?);
        }
        runs.sort_by_key(|r| r.segments);
        let closed = Arc::new(ArcSwap::from_pointee(Closed {
            waiting: Vec::new(),
            runs: runs.into_iter().map(Arc::new).collect(),
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (to_file, work) = mpsc::channel();
        let filer = Filer { dir: dir.to_owned(), closed: closed.clone(), stop: stop.clone() };
        let filer = std::thread::Builder::new()
            .name(format!("keys-{name}"))
            .spawn(move || filer.run(&work))
            .map_err(|e| LogError::Unavailable(format!("cannot start a thread: {e}")))?;
        Ok(Keys { open: KeySet::default(), closed, to_file: Some(to_file), stop, filer: Some(filer) })
    }

    /// Takes a key; false if it was taken before.
    pub fn take(&mut self, key: u128) -> Result<bool, LogError> {
        let key = spread(key);
        if self.open.contains(&key) {
            return Ok(false);
        }
        let closed = self.closed.load();
        if closed.waiting.iter().any(|(_, keys)| keys.contains(&key)) {
            return Ok(false);
        }
        for run in closed.runs.iter().rev() {
            if run.contains(key)? {
                return Ok(false);
            }
        }
        self.open.insert(key);
        Ok(true)
    }

    /// Takes a key that is known to be new: one read from the open segment at start.
    pub fn restore(&mut self, key: u128) {
        self.open.insert(spread(key));
    }

    /// Gives back a key whose record did not become durable.
    pub fn give_back(&mut self, key: u128) {
        self.open.remove(&spread(key));
    }

    /// Whether so many key sets wait for their files that the open segment must not be closed now.
    pub fn behind(&self) -> bool {
        self.closed.load().waiting.len() >= MAX_WAITING
    }

    /// Closes the open set: it belongs to `segment`, which has just been closed.
    pub fn close(&mut self, segment: u64) {
        let keys = Arc::new(std::mem::take(&mut self.open));
        self.closed.rcu(|closed| {
            let mut closed = Closed::clone(closed);
            closed.waiting.push((segment, keys.clone()));
            closed
        });
        if let Some(filer) = &self.to_file {
            // The filer only ends when this sender is dropped.
            let _ = filer.send(());
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.to_file = None;
        if let Some(filer) = self.filer.take() {
            let _ = filer.join();
        }
    }
}

/// Writes waiting key sets into runs and merges runs.
struct Filer {
    dir: PathBuf,
    closed: Arc<ArcSwap<Closed>>,
    stop: Arc<AtomicBool>,
}

impl Filer {
    fn run(&self, work: &mpsc::Receiver<()>) {
        let mut failing = false;
        loop {
            let woken = if failing { work.recv_timeout(TRY_AGAIN) } else { work.recv().map_err(Into::into) };
            if woken == Err(mpsc::RecvTimeoutError::Disconnected) {
                return;
            }
            match self.file_waiting().and_then(|()| self.merge_all()) {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "cannot file the keys of a closed segment; trying again");
                    }
                    failing = true;
                }
            }
        }
    }

    fn file_waiting(&self) -> Result<(), LogError> {
        while let Some((segment, keys)) = self.closed.load().waiting.first().cloned() {
            let run = write_sorted(&self.dir, segment, keys.iter().copied().collect())?;
            let run = run.map(Arc::new);
            self.closed.rcu(|closed| {
                let mut closed = Closed::clone(closed);
                closed.waiting.retain(|(s, _)| *s != segment);
                closed.runs.extend(run.clone());
                closed
            });
        }
        Ok(())
    }

    /// Merges neighbours while the younger is at least half as large: the number of runs stays
    /// logarithmic in the number of keys.
    fn merge_all(&self) -> Result<(), LogError> {
        loop {
            let runs = self.closed.load().runs.clone();
            let pair = runs.windows(2).rev().find(|pair| pair[1].keys * 2 >= pair[0].keys);
            let Some([old, young]) = pair else { return Ok(()) };
            if !self.merge(old, young)? {
                return Ok(());
            }
        }
    }

    /// Merges two neighbouring runs; false if stopped. New key sets are not kept waiting meanwhile.
    fn merge(&self, old: &Run, young: &Run) -> Result<bool, LogError> {
        let segments = (old.segments.0, young.segments.1);
        let mut filed = Ok(());
        let merged = Run::write(
            &self.dir,
            segments,
            old.keys + young.keys,
            run::merge(old.iter(), young.iter()),
            || {
                filed = self.file_waiting();
                filed.is_ok() && !self.stop.load(Ordering::Relaxed)
            },
        )?;
        filed?;
        let Some(merged) = merged.map(Arc::new) else { return Ok(false) };
        self.closed.rcu(|closed| {
            let mut closed = Closed::clone(closed);
            closed.runs.retain(|r| r.segments != old.segments && r.segments != young.segments);
            closed.runs.push(merged.clone());
            closed.runs.sort_by_key(|r| r.segments);
            closed
        });
        for path in [&old.path, &young.path] {
            std::fs::remove_file(path).map_err(|e| files::unavailable("cannot remove", path, &e))?;
        }
        Ok(true)
    }
}

fn write_sorted(dir: &Path, segment: u64, mut keys: Vec<u128>) -> Result<Option<Run>, LogError> {
    keys.sort_unstable();
    let count = keys.len() as u64;
    Run::write(dir, (segment, segment), count, keys.into_iter().map(Ok), || true)
}

/// Opens all runs; those a finished merge has replaced are removed.
fn load_runs(dir: &Path) -> Result<Vec<Run>, LogError> {
    let paths = files::list(dir, run::EXTENSION).map_err(|e| files::unavailable("cannot list", dir, &e))?;
    let mut runs = paths.iter().map(|p| Run::open(p)).collect::<Result<Vec<Run>, LogError>>()?;
    runs.sort_by_key(|r| (r.segments.0, std::cmp::Reverse(r.segments.1)));
    let mut kept: Vec<Run> = Vec::new();
    for run in runs {
        if kept.last().is_some_and(|k| run.segments.1 <= k.segments.1) {
            std::fs::remove_file(&run.path)
                .map_err(|e| files::unavailable("cannot remove", &run.path, &e))?;
        } else {
            kept.push(run);
        }
    }
    Ok(kept)
}

/// A one-to-one mapping of keys after which all their bits are evenly spread, whatever the caller's keys are.
fn spread(mut key: u128) -> u128 {
    key ^= key >> 67;
    key = key.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    key ^= key >> 61;
    key = key.wrapping_mul(0xbf58_476d_1ce4_e5b9_94d0_49bb_1331_11eb);
    key ^ (key >> 65)
}
