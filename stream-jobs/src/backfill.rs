//! Backfill: the rows of `features_<view>` over the signals that history holds, made by the kernel that makes
//! live ones.
//!
//! A run goes through the people in the order of their names and makes a row for each instant at which one of
//! their signals happened. It reads the signals below one position of the log; the live job writes what comes
//! from there on, so between the two there is neither a gap nor an overlap.
//!
//! How far a run has come is noted in the checkpoint that makes its rows durable. A run that was cut off goes on
//! from there; rows that had become durable before the note are written once more, and replace themselves: of
//! the rows of one person and instant the newest counts ([`features::offline::layout::Layout`]).

mod instants;
mod runs;

pub use runs::{Backfills, Progress};

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array, UInt64Array},
    error::ArrowError,
};
use features::{
    FeatureError, View,
    offline::OfflineStore,
    past::{Asked, Engine, Here, Known},
};
use ingest::{Millis, log::Position};
use instants::Instants;

/// Rows of a piece.
const PIECE: usize = 4_096;
/// Rows of a piece that another engine makes, for which each piece is a run over history.
const PIECE_ELSEWHERE: usize = 65_536;

/// One backfill of one view.
#[derive(Debug, Clone)]
pub struct Run {
    /// The view.
    pub view: Arc<View>,
    /// When it began; its rows are stamped with this.
    pub written: Millis,
    /// It takes the signals below this position.
    pub below: Position,
    /// It makes values for instants from here,
    pub from: Option<Millis>,
    /// to here, both included.
    pub until: Option<Millis>,
    /// The last row made: of whom, and its instant.
    pub after: Option<(String, Millis)>,
    /// Signals gone through.
    pub done: u64,
    /// Signals to go through, about.
    pub total: u64,
}

/// Some rows, and how far they bring a run.
#[derive(Debug)]
pub struct Piece {
    /// Rows as history keeps them.
    pub rows: RecordBatch,
    /// The last of them: of whom, and its instant.
    pub after: (String, Millis),
    /// Signals gone through for them.
    pub signals: u64,
}

/// The pieces of a run that are still to be made, one after the other.
pub struct Pieces {
    history: Arc<dyn OfflineStore>,
    engine: Option<Arc<dyn Engine>>,
    run: Run,
    instants: Instants,
}

impl Pieces {
    /// Those that follow what the run has done; their values are made by `engine`, or else here.
    ///
    /// # Errors
    /// When history cannot be read.
    pub fn of(
        history: Arc<dyn OfflineStore>,
        engine: Option<Arc<dyn Engine>>,
        run: Run,
    ) -> Result<Pieces, FeatureError> {
        let instants = Instants::of(&*history, &run)?;
        Ok(Pieces { history, engine, run, instants })
    }

    fn make(&mut self) -> Result<Option<Piece>, FeatureError> {
        let most = if self.engine.is_some() { PIECE_ELSEWHERE } else { PIECE };
        let (asked, signals) = self.instants.take(most)?;
        let Some(last) = asked.last().cloned() else { return Ok(None) };
        let sorted: Vec<(&str, Millis)> = asked.iter().map(|(e, t)| (e.as_ref(), *t)).collect();
        let view = &self.run.view;
        let asked = Asked { rows: &sorted, known: Known::ByNow, below: Some(&self.run.below) };
        let columns = match &self.engine {
            Some(engine) => engine.values(view, &asked)?,
            None => Here(&*self.history).values(view, &asked)?,
        }
        .columns;
        let rows = rows(view, &sorted, columns)
            .map_err(|e| FeatureError::Compute { what: view.name.to_string(), source: Box::new(e.into()) })?;
        let rows = view.stamped(&rows, self.run.written)?;
        Ok(Some(Piece { rows, after: (last.0.to_string(), last.1), signals }))
    }
}

impl Iterator for Pieces {
    type Item = Result<Piece, FeatureError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.make().transpose()
    }
}

/// Rows without a place in the log: many signals stand behind one.
fn rows(view: &View, asked: &[(&str, Millis)], values: Vec<ArrayRef>) -> Result<RecordBatch, ArrowError> {
    let instants = TimestampMillisecondArray::from_iter_values(asked.iter().map(|(_, t)| *t));
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(asked.iter().map(|(e, _)| e))),
        Arc::new(instants.with_timezone("+00:00")),
        Arc::new(UInt32Array::new_null(asked.len())),
        Arc::new(UInt64Array::new_null(asked.len())),
    ];
    columns.extend(values);
    RecordBatch::try_new(view.history_schema(), columns)
}
