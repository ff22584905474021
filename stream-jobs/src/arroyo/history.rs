//! Tiles in history, and signals that came too late for Arroyo.
//!
//! A tile is a row of `tiles_<view>`: `entity`, `as_of` (its start), `version` of the view, `written`, and the whole
//! row as JSON in `row`. Of the rows of one entity and start the newest counts, so that tiles may come again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampMillisecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use features::{
    FeatureError, Functions, View,
    offline::{OfflineStore, ScanFilter},
    tiles::{MAX_ROW_BYTES, TILE_MS, Tile, start_of},
};
use ingest::{Millis, record::idempotency_key};
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
    /// By view: entities and starts, each with the signals that came late.
    due: BTreeMap<u32, BTreeMap<(String, Millis), BTreeSet<u128>>>,
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

    /// Takes notice of a signal with this idempotency key, in the order of the log. False when too many wait already:
    /// mend some first, and tell of this signal again.
    pub fn note(&mut self, table: &str, entity: &str, time: Millis, key: u128) -> bool {
        if self.count >= MOST_DUE {
            return false;
        }
        for (view, wait) in self.views.get(table).into_iter().flatten() {
            let start = start_of(time);
            if start < start_of(self.newest.saturating_sub(*wait)) {
                let tiles = self.due.entry(view.id).or_default();
                self.count += usize::from(tiles.entry((entity.to_owned(), start)).or_default().insert(key));
            }
        }
        self.newest = self.newest.max(time);
        true
    }

    /// Late signals whose tiles wait to be mended.
    pub fn due(&self) -> usize {
        self.count
    }

    /// Gives up what is due of an entity that was erased.
    pub fn forget(&mut self, entity: &str) {
        for tiles in self.due.values_mut() {
            tiles.retain(|(of, _), late| {
                let kept = of != entity;
                self.count -= if kept { 0 } else { late.len() };
                kept
            });
        }
    }

    /// Makes up to `most` tiles of each view again from history. Those of which history does not hold every late signal
    /// yet stay due.
    ///
    /// # Errors
    /// History cannot be read; everything stays due.
    pub fn mend(
        &mut self,
        history: &dyn OfflineStore,
        functions: &Functions,
        most: usize,
    ) -> Result<Vec<(Arc<View>, Vec<Tile>)>, JobError> {
        let (mut mended, mut done) = (Vec::new(), Vec::new());
        for (view, _) in self.views.values().flatten() {
            let due = self.due.get(&view.id).into_iter().flatten();
            let chosen: Vec<_> = due.take(most).collect();
            let mut tiles = Vec::new();
            // Tiles of one entity stand together: their signals are read at once.
            for of_one in chosen.chunk_by(|a, b| a.0.0 == b.0.0) {
                let (first, last) = (of_one[0].0.1, of_one[of_one.len() - 1].0.1);
                let filter = ScanFilter::window(&of_one[0].0.0, first, last.saturating_add(TILE_MS));
                let signals = history.scan(&view.table, &filter)?;
                let known = keys(&signals);
                let whole = of_one.iter().filter(|(_, late)| late.is_subset(&known)).map(|(key, _)| *key);
                let whole: BTreeSet<&(String, Millis)> = whole.collect();
                let made = view.make_tiles(&signals, functions)?.into_iter();
                tiles.extend(made.filter(|t| whole.iter().any(|(_, start)| *start == t.start)));
                done.extend(whole.into_iter().map(|key| (view.id, key.clone())));
            }
            if !tiles.is_empty() {
                mended.push((view.clone(), tiles));
            }
        }
        for (view, key) in done {
            let late = self.due.get_mut(&view).and_then(|tiles| tiles.remove(&key));
            self.count -= late.map_or(0, |late| late.len());
        }
        Ok(mended)
    }
}

/// Idempotency keys of the signals of a table.
fn keys(signals: &[RecordBatch]) -> BTreeSet<u128> {
    let mut keys = BTreeSet::new();
    for batch in signals {
        let text = |name| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
        let (Some(sources), Some(ids)) = (text("source"), text("id")) else { continue };
        keys.extend((0..batch.num_rows()).map(|i| idempotency_key(sources.value(i), ids.value(i))));
    }
    keys
}
