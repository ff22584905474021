//! Rows of tiles into values: no store, no clock.

use ingest::Millis;
use serde_json::Value as Json;

use super::{Column, ColumnKind, TILE_MS, Tiling};
use crate::{
    error::FeatureError,
    kernel::value_at,
    value::Value,
    view::{Span, View},
};

/// The longest row of a tile that is taken, in bytes.
pub const MAX_ROW_BYTES: usize = 1 << 20;
/// A tile is given up only so long after the last window has left it, for reads somewhat behind.
const KEPT_LONGER_MS: Millis = 3_600_000;

/// Values of one entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// One an output and window, windows outermost.
    pub values: Vec<Value>,
    /// The latest time of a signal in the view's windows.
    pub newest: Option<Millis>,
    /// For each window, the latest time of a signal in it.
    pub newest_in: Vec<Option<Millis>>,
    /// Starts of tiles that no read needs any more, or that another version of the view made.
    pub expired: Vec<Millis>,
}

/// Cells of one column of tiles.
#[derive(Debug)]
pub(crate) enum Cells {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<String>>),
    Bool(Vec<Option<bool>>),
    Texts(Vec<Vec<String>>),
}

impl View {
    /// The values at `at` of the entity with these tiles, each with its start; the order is of no account.
    ///
    /// # Errors
    /// `Request` for a view that tiles cannot hold; `Damaged` for a row that is none.
    pub fn merge_tiles(&self, rows: &[(Millis, &str)], at: Millis) -> Result<Merged, FeatureError> {
        let tiling = self.tiled()?;
        let lower: Vec<Millis> = self.windows().iter().map(|w| self.lower(w.span, at)).collect();
        let oldest = lower.iter().copied().min().unwrap_or(at);
        let mut merged = Merged {
            values: Vec::new(),
            newest: None,
            newest_in: vec![None; lower.len()],
            expired: Vec::new(),
        };
        let mut cells: Vec<Cells> = tiling.columns.iter().map(|c| Cells::new(c.kind)).collect();
        let mut starts = Vec::new();
        for (start, text) in rows {
            if *start < oldest.saturating_sub(KEPT_LONGER_MS) {
                merged.expired.push(*start);
                continue;
            }
            let damaged = |what: String| {
                FeatureError::Damaged(format!(
                    "the tile of {} at {start}: {what}; delete it, the loader makes it again from history",
                    self.name
                ))
            };
            if text.len() > MAX_ROW_BYTES {
                return Err(damaged(format!("{} bytes; at most {MAX_ROW_BYTES} are taken", text.len())));
            }
            let row: Json = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
            if row["version"].as_str() != Some(&*self.version_text) {
                merged.expired.push(*start);
                continue;
            }
            if *start < oldest || *start >= at {
                continue;
            }
            let newest = row["newest"].as_i64().ok_or_else(|| damaged("`newest` is missing".to_owned()))?;
            for (cells, column) in cells.iter_mut().zip(&tiling.columns) {
                cells.push(column, &row).map_err(&damaged)?;
            }
            merged.newest = merged.newest.max(Some(newest));
            for (newest_in, lower) in merged.newest_in.iter_mut().zip(&lower) {
                if start >= lower {
                    *newest_in = (*newest_in).max(Some(newest));
                }
            }
            starts.push(*start);
        }
        let inside = |lower: &Millis| (0..starts.len()).filter(|i| starts[*i] >= *lower).collect();
        let windows: Vec<Vec<usize>> = lower.iter().map(inside).collect();
        let columns = self.kernel.merge_tiles(&tiling.merges, &cells, &windows, at)?;
        merged.values =
            (0..windows.len()).flat_map(|w| columns.iter().map(move |c| value_at(c, w))).collect();
        Ok(merged)
    }

    /// Tiles that start earlier are needed by no read at `now` or later.
    pub fn oldest_tile(&self, now: Millis) -> Millis {
        let lower = self.windows().iter().map(|w| self.lower(w.span, now)).min();
        lower.unwrap_or(now).saturating_sub(KEPT_LONGER_MS)
    }

    /// How the view is computed in tiles.
    ///
    /// # Errors
    /// `Request` with the reason why it cannot be.
    pub fn tiled(&self) -> Result<&Tiling, FeatureError> {
        let refused = |reason: &String| {
            FeatureError::Request(format!("the view {} cannot be computed in tiles: {reason}", self.name))
        };
        self.tiling.as_ref().map_err(refused)
    }

    /// Start of the oldest tile of a window.
    fn lower(&self, span: Span, at: Millis) -> Millis {
        let edge = at.saturating_sub(span.reach());
        let edge = edge - edge.rem_euclid(self.definition.resolution_ms);
        edge - edge.rem_euclid(TILE_MS)
    }
}

impl Cells {
    fn new(kind: ColumnKind) -> Cells {
        match kind {
            ColumnKind::Int => Cells::Int(Vec::new()),
            ColumnKind::Text => Cells::Text(Vec::new()),
            ColumnKind::Bool => Cells::Bool(Vec::new()),
            ColumnKind::Texts => Cells::Texts(Vec::new()),
        }
    }

    /// Takes the column's cell of a row; one that is left out is NULL.
    fn push(&mut self, column: &Column, row: &Json) -> Result<(), String> {
        let cell = &row[&column.name];
        let wrong = || format!("`{}` is {cell}, not of the type {:?}", column.name, column.kind);
        match (self, cell) {
            (Cells::Int(to), Json::Null) => to.push(None),
            (Cells::Text(to), Json::Null) => to.push(None),
            (Cells::Bool(to), Json::Null) => to.push(None),
            (Cells::Texts(to), Json::Null) => to.push(Vec::new()),
            (Cells::Int(to), Json::Number(n)) => to.push(Some(n.as_i64().ok_or_else(wrong)?)),
            (Cells::Text(to), Json::String(t)) => to.push(Some(t.clone())),
            (Cells::Bool(to), Json::Bool(b)) => to.push(Some(*b)),
            (Cells::Texts(to), Json::Array(list)) => {
                let known = list.iter().filter(|x| !x.is_null());
                let texts = known.map(|x| x.as_str().map(str::to_owned).ok_or_else(wrong));
                to.push(texts.collect::<Result<_, _>>()?);
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }
}
