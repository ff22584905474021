//! How large the entities of a view are in a checkpoint.

use std::{path::Path, sync::Arc};

use features::{
    FeatureError, View,
    chunks::{ChunkSource, PieceId},
    row::Row,
};
use redb::{ReadOnlyDatabase, ReadableDatabase};
use serde::Serialize;

use crate::{
    checkpoint::{PIECES, ROWS, failed},
    error::JobError,
};

/// Some numbers by their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: u64,
    /// Half are at most this.
    pub median: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// The largest.
    pub max: u64,
    /// All together.
    pub total: u64,
}

/// The entities of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// How many.
    pub entities: usize,
    /// Bytes of each; `None` when there is none.
    pub bytes: Option<Spread>,
    /// Events of each.
    pub events: Option<Spread>,
}

/// Measures a view in a checkpoint.
///
/// # Errors
/// When the file cannot be read; a running job holds its own.
pub fn of_view(file: &Path, view: &View) -> Result<Sizes, JobError> {
    let (mut bytes, mut events) = (Vec::new(), Vec::new());
    let name = file.display().to_string();
    let fail = |e: redb::Error| failed(&name, e);
    let read = ReadOnlyDatabase::open(file).map_err(|e| fail(e.into()))?;
    let read = read.begin_read().map_err(|e| fail(e.into()))?;
    let rows = read.open_table(ROWS).map_err(|e| fail(e.into()))?;
    let pieces = read.open_table(PIECES).map_err(|e| fail(e.into()))?;
    let source: Arc<dyn ChunkSource> = Arc::new(Untouched);
    let from = view.version.to_be_bytes();
    for entry in rows.range::<&[u8]>(&from[..]..).map_err(|e| fail(e.into()))? {
        let (key, head) = entry.map_err(|e| fail(e.into()))?;
        let Some(entity) = key.value().strip_prefix(&from) else { break };
        let mut size = key.value().len() + head.value().len();
        for piece in pieces.range(key.value()..).map_err(|e| fail(e.into()))? {
            let (of, piece) = piece.map_err(|e| fail(e.into()))?;
            if !of.value().starts_with(key.value()) {
                break;
            }
            // Longer keys are those of entities whose names begin alike.
            if of.value().len() == key.value().len() + PIECE_ID {
                size += of.value().len() + piece.value().len();
            }
        }
        bytes.push(size as u64);
        let entity: Arc<str> = String::from_utf8_lossy(entity).into();
        let piece = |id: PieceId| {
            let key = [key.value(), &id.to_be_bytes()].concat();
            pieces.get(&key[..]).ok().flatten().map(|p| p.value().to_vec())
        };
        let row = Row::restore(head.value(), view, entity, &source, piece);
        events.push(row.map_or(0, |row| row.events.len()) as u64);
    }
    Ok(Sizes { entities: bytes.len(), bytes: spread(bytes), events: spread(events) })
}

/// Bytes of a piece's number.
const PIECE_ID: usize = size_of::<PieceId>();

/// Counts stand with the chunks, so that no events are read.
#[derive(Debug)]
struct Untouched;

impl ChunkSource for Untouched {
    fn load(&self, _: u64, _: &str, _: PieceId) -> Result<Arc<[u8]>, FeatureError> {
        Err(FeatureError::Damaged("sizes are measured without events".to_owned()))
    }
}

/// Quantiles by nearest rank.
fn spread(mut numbers: Vec<u64>) -> Option<Spread> {
    numbers.sort_unstable();
    let last = numbers.len().checked_sub(1)?;
    let rank = |share: f64| numbers[((share * numbers.len() as f64).ceil() as usize).clamp(1, last + 1) - 1];
    Some(Spread {
        min: numbers[0],
        median: rank(0.5),
        p99: rank(0.99),
        max: numbers[last],
        total: numbers.iter().sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let hundred = spread((1..=100).rev().collect()).unwrap();
        assert_eq!(hundred, Spread { min: 1, median: 50, p99: 99, max: 100, total: 5050 });
        let one = spread(vec![7]).unwrap();
        assert_eq!((one.min, one.median, one.p99, one.max), (7, 7, 7, 7));
        assert_eq!(spread(Vec::new()), None);
    }
}
