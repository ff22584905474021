//! Of the rows of one entity and time, the newest alone, for tables whose rows replace one another.

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::TimestampMillisecondType,
};

use super::HistoryError;
use crate::offline::{BatchStream, layout::Layout};

/// Passes on what stays of rows ordered by [`Layout::order`]; everything, where rows do not replace one another.
pub(super) fn newest(rows: BatchStream, layout: &Layout) -> BatchStream {
    if !layout.replaces {
        return rows;
    }
    Box::new(Newest { rows, entity: layout.entity.clone(), time: layout.time.clone(), held: None })
}

struct Newest {
    rows: BatchStream,
    entity: String,
    time: String,
    /// Read, but whether its last row stays depends on the next.
    held: Option<RecordBatch>,
}

impl Newest {
    /// The rows of `batch` whose successor, the first row of `next` for the last one, is of another key.
    fn of(&self, batch: &RecordBatch, next: Option<&RecordBatch>) -> Result<RecordBatch, HistoryError> {
        let lacks = || HistoryError::Damaged("rows of feature values lack entity or time".to_owned());
        let keys = |b: &RecordBatch| {
            let entities = b.column_by_name(&self.entity)?.as_string_opt::<i32>()?.clone();
            let times = b.column_by_name(&self.time)?.as_primitive_opt::<TimestampMillisecondType>()?.clone();
            Some((entities, times))
        };
        let (entities, times) = keys(batch).ok_or_else(lacks)?;
        let after = next.map(|b| keys(b).ok_or_else(lacks)).transpose()?;
        let last = batch.num_rows().saturating_sub(1);
        let stays = |i: usize| {
            let key = (entities.value(i), times.value(i));
            match &after {
                _ if i < last => key != (entities.value(i + 1), times.value(i + 1)),
                Some((entities, times)) => key != (entities.value(0), times.value(0)),
                None => true,
            }
        };
        let mask: BooleanArray = (0..batch.num_rows()).map(|i| Some(stays(i))).collect();
        if mask.true_count() == batch.num_rows() {
            return Ok(batch.clone());
        }
        filter_record_batch(batch, &mask)
            .map_err(|e| HistoryError::Damaged(format!("rows of feature values do not fit together: {e}")))
    }
}

impl Iterator for Newest {
    type Item = Result<RecordBatch, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let next = match self.rows.next() {
                Some(Ok(batch)) if batch.num_rows() == 0 => continue,
                Some(Ok(batch)) => Some(batch),
                Some(Err(e)) => return Some(Err(e)),
                None => None,
            };
            let Some(held) = std::mem::replace(&mut self.held, next) else {
                self.held.as_ref()?;
                continue;
            };
            match self.of(&held, self.held.as_ref()) {
                Ok(batch) if batch.num_rows() == 0 => {}
                done => return Some(done),
            }
        }
    }
}
