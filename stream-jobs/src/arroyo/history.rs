//! Tiles in history, and signals that came too late for Arroyo.
//!
//! A tile is a row of `tiles_<view>`: `entity`, `as_of` (its start), `version` of the view, `written`, and the whole
//! row as JSON in `row`. Of the rows of one entity and start the newest counts, so that tiles may come again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use features::{
    FeatureError, Functions, View,
    offline::{OfflineStore, ScanFilter},
    tiles::{MAX_ROW_BYTES, TILE_MS, Tile, start_of},
};
use ingest::Millis;
use serde::Deserialize;

use crate::error::JobError;

/// Tiles that may wait to be mended.
const MOST_DUE: usize = 1_000_000;

/// The table of a view's tiles.
pub fn table(view: &str) -> String {
    format!("tiles_{view}")
}

#[derive(Deserialize)]
struct Row<'a> {
    entity: String,
    tile: String,
    version: &'a str,
}

/// Reads the rows of a view's topic. Answers the tiles of the view as it is now, and how many rows were left out: of
/// another version, or none.
pub fn read<'a>(view: &View, rows: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Tile>, usize) {
    let (mut tiles, mut left_out) = (Vec::new(), 0);
    for bytes in rows {
        let row = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_ROW_BYTES);
        let tile = row.and_then(|text| {
            let row: Row<'_> = serde_json::from_str(text).ok()?;
            let start = row.tile.parse().ok().filter(|s: &Millis| s % TILE_MS == 0)?;
            (row.version == &*view.version_text).then(|| Tile {
                entity: row.entity,
                start,
                row: text.to_owned(),
            })
        });
        match tile {
            Some(tile) => tiles.push(tile),
            None => left_out += 1,
        }
    }
    (tiles, left_out)
}

/// Tiles as history keeps them.
///
/// # Errors
/// Never for tiles of [`read`] or of [`View::make_tiles`].
pub fn batch(view: &View, tiles: &[Tile], written: Millis) -> Result<RecordBatch, JobError> {
    let instant = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
    let times = |of: &dyn Fn(&Tile) -> Millis| -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from_iter_values(tiles.iter().map(of)).with_timezone("+00:00"))
    };
    let texts = |of: &dyn Fn(&Tile) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(tiles.iter().map(of)))
    };
    let fields = vec![
        Field::new("entity", DataType::Utf8, false),
        Field::new("as_of", instant.clone(), false),
        Field::new("version", DataType::Utf8, false),
        Field::new("written", instant, false),
        Field::new("row", DataType::Utf8, false),
    ];
    let columns = vec![
        texts(&|t| t.entity.clone()),
        times(&|t| t.start),
        texts(&|_| view.version_text.to_string()),
        times(&|_| written),
        texts(&|t| t.row.clone()),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|e| FeatureError::Compute { what: table(&view.name), source: Box::new(e.into()) }.into())
}

/// Finds the tiles that Arroyo may have closed before a signal of theirs came, and makes them again.
///
/// Arroyo drops a signal whose tile lies before that of the watermark, and says nothing. Its watermark is never ahead
/// of the newest signal of the whole log less the wait, which is what is followed here: so each signal dropped is
/// found, and some that were not, whose tiles come out as they were.
#[derive(Debug)]
pub struct Mender {
    /// By table of signals: views and how long their tiles wait.
    views: HashMap<String, Vec<(Arc<View>, Millis)>>,
    newest: Millis,
    /// By view: entities and starts.
    due: BTreeMap<u32, BTreeSet<(String, Millis)>>,
    count: usize,
}

impl Mender {
    /// For those of the views that Arroyo holds.
    pub fn new<'a>(views: impl IntoIterator<Item = &'a Arc<View>>, wait_ms: Millis) -> Mender {
        let mut by_table: HashMap<String, Vec<_>> = HashMap::new();
        for view in views.into_iter().filter(|v| v.tiling.is_ok()) {
            let wait = wait_ms.min(view.definition.lateness_ms);
            by_table.entry(view.table.clone()).or_default().push((view.clone(), wait));
        }
        Mender { views: by_table, newest: Millis::MIN, due: BTreeMap::new(), count: 0 }
    }

    /// Takes notice of a signal, in the order of the log. False when too many tiles wait already: mend some first, and
    /// tell of this signal again.
    pub fn note(&mut self, table: &str, entity: &str, time: Millis) -> bool {
        if self.count >= MOST_DUE {
            return false;
        }
        for (view, wait) in self.views.get(table).into_iter().flatten() {
            let start = start_of(time);
            if start < start_of(self.newest.saturating_sub(*wait)) {
                self.count +=
                    usize::from(self.due.entry(view.id).or_default().insert((entity.to_owned(), start)));
            }
        }
        self.newest = self.newest.max(time);
        true
    }

    /// Tiles that wait to be mended.
    pub fn due(&self) -> usize {
        self.count
    }

    /// Makes up to `most` of them again from history, which must hold the signals noted. Those that cannot be made
    /// now stay due.
    ///
    /// # Errors
    /// History cannot be read.
    pub fn mend(
        &mut self,
        history: &dyn OfflineStore,
        functions: &Functions,
        most: usize,
    ) -> Result<Vec<(Arc<View>, Vec<Tile>)>, JobError> {
        let (mut mended, mut done) = (Vec::new(), Vec::new());
        let mut left = most;
        for (view, _) in self.views.values().flatten() {
            let due = self.due.get(&view.id).into_iter().flatten();
            let chosen: Vec<(String, Millis)> = due.take(left).cloned().collect();
            let mut tiles = Vec::new();
            // Tiles of one entity stand together: their signals are read at once.
            for of_one in chosen.chunk_by(|a, b| a.0 == b.0) {
                let (first, last) = (of_one[0].1, of_one[of_one.len() - 1].1);
                let filter = ScanFilter::window(&of_one[0].0, first, last.saturating_add(TILE_MS));
                let signals = history.scan(&view.table, &filter)?;
                let made = view.make_tiles(&signals, functions)?;
                tiles.extend(made.into_iter().filter(|t| of_one.iter().any(|(_, start)| *start == t.start)));
            }
            left -= chosen.len();
            done.push((view.id, chosen));
            if !tiles.is_empty() {
                mended.push((view.clone(), tiles));
            }
        }
        for (view, chosen) in done {
            if let Some(due) = self.due.get_mut(&view) {
                due.retain(|key| chosen.binary_search(key).is_err());
            }
            self.count -= chosen.len();
        }
        Ok(mended)
    }
}
