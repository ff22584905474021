//! Of the rows that say the same thing, the last alone.

use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch},
    compute::{filter_record_batch, kernels::cmp::distinct, or},
    error::ArrowError,
};

use super::{BatchStream, HistoryError, layout::Layout};

/// Passes on what stays of rows ordered by [`Layout::order`]; everything, where rows do not replace one another.
pub(crate) fn newest(rows: BatchStream, layout: &Layout) -> BatchStream {
    if layout.replaces { last_of_each(rows, layout) } else { rows }
}

/// Passes on the last of rows that agree in [`Layout::identity`]; they come ordered by [`Layout::order`].
pub(crate) fn last_of_each(rows: BatchStream, layout: &Layout) -> BatchStream {
    Box::new(LastOfEach { rows, identity: layout.identity(), held: None })
}

struct LastOfEach {
    rows: BatchStream,
    identity: Vec<String>,
    /// Read, but whether its last row stays depends on the next.
    held: Option<RecordBatch>,
}

impl LastOfEach {
    /// The rows of `batch` whose successor, the first row of `next` for the last one, is another one.
    fn of(&self, batch: &RecordBatch, next: Option<&RecordBatch>) -> Result<RecordBatch, HistoryError> {
        let wrong =
            |e: ArrowError| HistoryError::Damaged(format!("rows of history do not fit together: {e}"));
        let mask = self.stays(batch, next).map_err(wrong)?;
        if mask.true_count() == batch.num_rows() {
            return Ok(batch.clone());
        }
        filter_record_batch(batch, &mask).map_err(wrong)
    }

    fn stays(&self, batch: &RecordBatch, next: Option<&RecordBatch>) -> Result<BooleanArray, ArrowError> {
        let last = batch.num_rows() - 1;
        let (mut inside, mut end) = (BooleanArray::from(vec![false; last]), next.is_none());
        for name in &self.identity {
            let column = named(batch, name)?;
            inside = or(&inside, &distinct(&column.slice(0, last), &column.slice(1, last))?)?;
            if let Some(next) = next {
                end |= distinct(&column.slice(last, 1), &named(next, name)?.slice(0, 1))?.value(0);
            }
        }
        Ok(inside.iter().chain([Some(end)]).collect())
    }
}

fn named<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")))
}

impl Iterator for LastOfEach {
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
