//! From stored rows to the values asked for.

use std::sync::Arc;

use ingest::{
    Millis,
    log::{Offset, Partition, Position},
};

use crate::{
    error::FeatureError,
    kernel::{Kept, value_at},
    online::{EmbeddedOnline, Found, tiles::Tiles},
    registry::{Prepared, PreparedView},
    row::Row,
    value::{FeatureRow, Part, Value},
};

/// Rows to read values from.
pub(super) enum Rows<'r> {
    /// Those of this process, looked up one by one.
    Here(&'r EmbeddedOnline),
    /// For each entity one a part, in their order.
    Fetched(Vec<Found>),
}

/// Below which offset of which partition every signal is in a value, and whether it is stale.
pub(super) type Place = (Option<(Partition, Offset)>, bool);

impl Rows<'_> {
    /// The values of one view, put where they belong among `values` and `ages`; what is not stored is left
    /// as it is.
    pub(super) fn read_part(
        &self,
        part: &PreparedView,
        at: usize,
        entity: &str,
        now: Millis,
        values: &mut [Value],
        ages: &mut [Option<i64>],
    ) -> Result<Place, FeatureError> {
        let online = match self {
            Rows::Here(online) => online,
            Rows::Fetched(found) => {
                let found = found.get(at).cloned().unwrap_or_default();
                if let Some(tiles) = &found.tiles {
                    merge_part(part, tiles, now, values, ages)?;
                    return Ok((None, found.stale));
                }
                return Ok((fill_part(part, found.row, now, values, ages)?, found.stale));
            }
        };
        let mut tries = 0;
        loop {
            let row = online.get(&part.view, entity)?;
            match fill_part(part, row, now, values, ages) {
                // Its events lay on disk and have been replaced meanwhile, as the row has.
                Err(FeatureError::Gone(_)) if tries < 3 => tries += 1,
                done => return Ok((done?, false)),
            }
        }
    }
}

fn fill_part(
    part: &PreparedView,
    stored: Option<Arc<Row>>,
    now: Millis,
    values: &mut [Value],
    ages: &mut [Option<i64>],
) -> Result<Option<(Partition, Offset)>, FeatureError> {
    let Some(stored) = stored.filter(|r| r.header.version == part.view.version) else {
        if part.view.ages() {
            let nothing = part.view.nothing(now);
            let computed = part.view.evaluate(std::slice::from_ref(&nothing))?;
            fill(values, ages, part, |slot| value_at(&computed[slot], 0), &nothing)?;
        }
        return Ok(None);
    };
    let (header, kept) = (stored.header, stored.kept(now));
    if header.from <= now && now < header.until && !part.view.ages() {
        fill(values, ages, part, |slot| stored.value(slot), &kept)?;
    } else {
        let computed = part.view.evaluate(std::slice::from_ref(&kept))?;
        fill(values, ages, part, |slot| value_at(&computed[slot], 0), &kept)?;
    }
    Ok(Some((header.partition, header.next_offset)))
}

/// The same from tiles.
fn merge_part(
    part: &PreparedView,
    tiles: &Tiles,
    now: Millis,
    values: &mut [Value],
    ages: &mut [Option<i64>],
) -> Result<(), FeatureError> {
    let rows: Vec<(Millis, &str)> = tiles.iter().map(|(start, row)| (*start, row.as_str())).collect();
    let merged = part.view.merge_tiles(&rows, now)?;
    for s in &part.slots {
        values[s.at] = merged.values[s.slot].clone();
        // The newest signal may be one of the minute that is not over.
        ages[s.at] = merged.newest_in[s.window].map(|newest| (now - newest).max(0));
    }
    Ok(())
}

pub(super) fn blank(prepared: &Prepared, entity: &str, as_of: Millis) -> FeatureRow {
    FeatureRow {
        entity: entity.to_owned(),
        age_ms: vec![None; prepared.empty.len()],
        values: prepared.empty.clone(),
        as_of,
        parts: Vec::with_capacity(prepared.parts.len()),
        stale: false,
    }
}

pub(super) fn fill(
    values: &mut [Value],
    ages: &mut [Option<i64>],
    part: &PreparedView,
    value: impl Fn(usize) -> Value,
    kept: &Kept<'_>,
) -> Result<(), FeatureError> {
    let (newest, held) = part.view.newest_in(kept)?;
    let age = newest.map(|t| kept.at - t);
    for s in &part.slots {
        values[s.at] = value(s.slot);
        ages[s.at] = age.filter(|_| held[s.window]);
    }
    Ok(())
}

pub(super) fn push_part(row: &mut FeatureRow, part: &PreparedView, position: Position) {
    row.parts.push(Part { view: part.view.name.clone(), version: part.view.version_text.clone(), position });
}
