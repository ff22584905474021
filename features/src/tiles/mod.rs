//! A view in tiles of a minute: what an engine without our kernel computes, and how its rows merge into values.
//!
//! A tile of a person that starts at `s` holds the signals with `s < time <= s + 1 minute`. Of each aggregate it
//! has columns that merge exactly ([`plan`]); their SQL is written for Arroyo ([`text`]). A row is one JSON
//! object: `version` (of the view), `newest` (the latest time in it, in milliseconds) and those columns.
//!
//! The value of a window of length `w` at an instant `t` is over the tiles with `lower <= s < t`, where `lower` is
//! `t - w`, down to a multiple of the view's resolution and of a minute ([`merge`]). So it is over the signals with
//! `lower < time`, up to the end of the minute that `t` falls in, and at full minutes exactly what the embedded
//! engine gives. Signals that came too late are made into tiles again from history ([`make`]).

mod make;
mod merge;
mod plan;
mod text;

pub use make::{Tile, start_of};
pub(crate) use merge::Cells;
pub use merge::{MAX_ROW_BYTES, Merged};
pub(crate) use plan::{Merge, Shape};

use ingest::Millis;

/// Length of a tile.
pub const TILE_MS: Millis = 60_000;

/// What the keys of the hashes begin with that a view's tiles stand in; the entity follows.
pub fn key_prefix(prefix: &str, view: &str) -> String {
    format!("{prefix}:tiles:{view}:")
}

/// How a view is computed in tiles. SQL names the columns of the signal table; an input is written over them, a
/// column over the inputs, which are called `x0`, `x1`, ….
#[derive(Debug)]
pub struct Tiling {
    /// Columns of the signal's data it reads.
    pub reads: Vec<String>,
    /// Conditions on a signal, all of which must hold.
    pub filters: Vec<String>,
    /// Expressions over a signal.
    pub inputs: Vec<String>,
    /// Aggregates over the inputs, one a column of a tile.
    pub columns: Vec<Column>,
    /// How each aggregate of the view comes from the columns.
    pub(crate) merges: Vec<Merge>,
}

/// A column of a tile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name: `a0`, `a1_sum`, ….
    pub name: String,
    /// Its type.
    pub kind: ColumnKind,
    /// The aggregate.
    pub sql: String,
}

/// What a column of a tile holds. Floats are text, for JSON has neither NaN nor infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// A whole number.
    Int,
    /// Text.
    Text,
    /// Truth.
    Bool,
    /// A list of texts.
    Texts,
}
