//! The backfills of a job: which are to be done, how far they have come, and their work in the background.

use std::{sync::Arc, time::Instant};

use features::{FeatureError, View, offline::OfflineStore, past::Engine};
use ingest::{Millis, log::Position};
use metrics::gauge;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Piece, Pieces, Run};
use crate::{error::JobError, metrics as names};

/// A note about a view whose history was or is being filled; by its version.
const KNOWN: &str = "history";
/// A note about a run; by version and beginning.
const RUN: &str = "backfill";

/// How far a run has come, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Name of the view.
    pub view: String,
    /// Signals gone through.
    pub done: u64,
    /// Signals to go through, about.
    pub total: u64,
}

/// See the module.
pub struct Backfills {
    history: Arc<dyn OfflineStore>,
    engine: Option<Arc<dyn Engine>>,
    /// The first one is under way.
    runs: Vec<Run>,
    /// What the next checkpoint has to note.
    notes: Vec<(String, Option<String>)>,
    pieces: Option<Pieces>,
    /// `None` among what comes from there ends the run.
    background: Option<mpsc::Receiver<Option<Result<Piece, FeatureError>>>>,
}

impl Backfills {
    /// Takes up what a checkpoint notes. A view that history knows nothing of yet, although there are signals,
    /// gets a run.
    pub(crate) fn open(
        history: Arc<dyn OfflineStore>,
        views: &[Arc<View>],
        noted: &[(String, String)],
        now: Millis,
    ) -> Result<Backfills, JobError> {
        let mut all = Backfills {
            history,
            engine: None,
            runs: Vec::new(),
            notes: Vec::new(),
            pieces: None,
            background: None,
        };
        let position = all.history.durable_position()?;
        for (name, text) in noted {
            let of = |v: &&Arc<View>| name.split(':').nth(1) == Some(&state_of(v));
            match views.iter().find(of) {
                None => all.notes.push((name.clone(), None)),
                Some(view) if name.starts_with(RUN) => all.runs.push(Noted::run(text, view)?),
                Some(_) => {}
            }
        }
        for view in views {
            let known = format!("{KNOWN}:{}", state_of(view));
            if noted.iter().all(|(name, _)| *name != known) {
                all.notes.push((known, Some(String::new())));
                if position != Position::default() {
                    all.add(view, None, None, position.clone(), now)?;
                }
            }
        }
        Ok(all)
    }

    /// Adds a run over the signals below `below`. One for the same instants that was cut off goes on instead.
    pub(crate) fn add(
        &mut self,
        view: &Arc<View>,
        from: Option<Millis>,
        until: Option<Millis>,
        below: Position,
        now: Millis,
    ) -> Result<(), FeatureError> {
        if self.runs.iter().any(|r| r.view.id == view.id && r.from == from && r.until == until) {
            return Ok(());
        }
        let filter = features::offline::ScanFilter {
            after: from.map(|t| t.saturating_sub(1)),
            until,
            ..Default::default()
        };
        let total = self.history.estimate_rows(&view.table, &filter)?;
        let written = self.runs.iter().map(|r| r.written + 1).fold(now, Millis::max);
        let run = Run { view: view.clone(), written, below, from, until, after: None, done: 0, total };
        self.notes.push((name_of(&run), Some(Noted::text(&run))));
        self.runs.push(run);
        Ok(())
    }

    /// Lets an engine make the values from here on.
    pub(crate) fn by(&mut self, engine: Arc<dyn Engine>) {
        self.interrupt();
        self.engine = Some(engine);
    }

    /// Leaves only the runs of these views, for a while: the others stay noted.
    pub(crate) fn only(&mut self, views: &[Arc<View>]) {
        self.runs.retain(|r| views.iter().any(|v| v.id == r.view.id));
    }

    /// Whether there is something to be done.
    pub fn pending(&self) -> bool {
        !self.runs.is_empty()
    }

    /// How far the run under way has come.
    pub fn progress(&self) -> Option<Progress> {
        let of = |r: &Run| Progress { view: r.view.pinned_name(), done: r.done, total: r.total.max(r.done) };
        self.runs.first().map(of)
    }

    /// What the next checkpoint has to note, since the last call.
    pub(crate) fn take_notes(&mut self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut self.notes)
    }

    /// Whether the next checkpoint has something to note.
    pub(crate) fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    /// Makes the next piece of the run under way; `None` at its end.
    pub(crate) fn step(&mut self) -> Option<Result<Piece, FeatureError>> {
        let run = self.runs.first()?;
        if self.pieces.is_none() {
            match Pieces::of(self.history.clone(), self.engine.clone(), run.clone()) {
                Ok(pieces) => self.pieces = Some(pieces),
                Err(e) => return Some(Err(e)),
            }
        }
        self.pieces.as_mut()?.next()
    }

    /// As [`step`](Self::step), made on a thread of its own, which rests as long as it works.
    pub(crate) async fn next(&mut self) -> Option<Result<Piece, FeatureError>> {
        let run = self.runs.first()?;
        let pieces = match &mut self.background {
            Some(pieces) => pieces,
            None => {
                let (to, from) = mpsc::channel(2);
                let (history, engine, run) = (self.history.clone(), self.engine.clone(), run.clone());
                let work = move || {
                    let pieces: Box<dyn Iterator<Item = _>> = match Pieces::of(history, engine, run) {
                        Ok(pieces) => Box::new(pieces),
                        Err(e) => Box::new(std::iter::once(Err(e))),
                    };
                    let mut began = Instant::now();
                    for piece in pieces {
                        let (failed, took) = (piece.is_err(), began.elapsed());
                        if to.blocking_send(Some(piece)).is_err() || failed {
                            return;
                        }
                        std::thread::sleep(took);
                        began = Instant::now();
                    }
                    // Said in so many words: a thread that panicked says nothing.
                    let _ = to.blocking_send(None);
                };
                if let Err(e) = std::thread::Builder::new().name("backfill".into()).spawn(work) {
                    return Some(Err(FeatureError::Unavailable(format!("no thread to backfill on: {e}"))));
                }
                self.background.insert(from)
            }
        };
        pieces.recv().await.unwrap_or_else(|| {
            Some(Err(FeatureError::Unavailable("the thread of a backfill ended; see the log".to_owned())))
        })
    }

    /// Stops work in the background; it goes on from the last piece taken.
    pub(crate) fn interrupt(&mut self) {
        self.background = None;
        self.pieces = None;
    }

    /// Takes a piece: its rows go to history, its place is noted. `None` ends the run.
    pub(crate) fn take(&mut self, piece: Option<Piece>) -> Result<(), JobError> {
        let Some(run) = self.runs.first_mut() else { return Ok(()) };
        let left = gauge!(names::BACKFILL_LEFT, "view" => run.view.pinned_name());
        match piece {
            Some(piece) => {
                self.history.append(&run.view.history_table(), piece.rows)?;
                run.after = Some(piece.after);
                run.done += piece.signals;
                left.set(run.total.saturating_sub(run.done) as f64);
                self.notes.push((name_of(run), Some(Noted::text(run))));
            }
            None => {
                left.set(0.0);
                tracing::info!(view = run.view.pinned_name(), signals = run.done, "history was backfilled");
                self.notes.push((name_of(run), None));
                self.runs.remove(0);
                self.interrupt();
            }
        }
        Ok(())
    }

    /// Gives up the run under way until the next start.
    pub(crate) fn put_off(&mut self) {
        if self.pending() {
            self.runs.remove(0);
        }
        self.interrupt();
    }
}

fn state_of(view: &View) -> String {
    format!("{:016x}", view.version)
}

fn name_of(run: &Run) -> String {
    format!("{RUN}:{}:{}", state_of(&run.view), run.written)
}

/// A run as a note says it.
#[derive(Serialize, Deserialize)]
struct Noted {
    written: Millis,
    below: String,
    from: Option<Millis>,
    until: Option<Millis>,
    after: Option<(String, Millis)>,
    done: u64,
    total: u64,
}

impl Noted {
    fn text(run: &Run) -> String {
        let noted = Noted {
            written: run.written,
            below: run.below.to_string(),
            from: run.from,
            until: run.until,
            after: run.after.clone(),
            done: run.done,
            total: run.total,
        };
        serde_json::to_string(&noted).unwrap_or_default()
    }

    fn run(text: &str, view: &Arc<View>) -> Result<Run, JobError> {
        let wrong =
            |what: String| FeatureError::Damaged(format!("the note of a backfill cannot be read: {what}"));
        let noted: Noted = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        let below = noted.below.parse().map_err(|_| wrong(format!("`{}` is no position", noted.below)))?;
        Ok(Run {
            view: view.clone(),
            written: noted.written,
            below,
            from: noted.from,
            until: noted.until,
            after: noted.after,
            done: noted.done,
            total: noted.total,
        })
    }
}
