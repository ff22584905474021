//! Sorting of batches in memory, and the merge of sorted inputs.

use std::{cmp::Reverse, collections::BinaryHeap};

use arrow::{
    array::{ArrayRef, UInt32Array},
    compute::{concat_batches, interleave_record_batch, take_record_batch},
    datatypes::{Schema, SchemaRef},
    error::ArrowError,
    record_batch::RecordBatch,
    row::{OwnedRow, RowConverter, Rows, SortField},
};

use super::{BatchStream, HistoryError, layout::Layout, schema::adapt};

/// Rows of a merged batch.
const BATCH: usize = 8_192;

/// Turns the ordering columns of a batch into comparable rows.
struct Keys {
    converter: RowConverter,
    columns: Vec<usize>,
}

impl Keys {
    fn new(schema: &Schema, layout: &Layout) -> Result<Self, ArrowError> {
        let columns = layout.order.iter().map(|c| schema.index_of(c)).collect::<Result<Vec<_>, _>>()?;
        let fields = columns.iter().map(|c| SortField::new(schema.field(*c).data_type().clone())).collect();
        Ok(Keys { converter: RowConverter::new(fields)?, columns })
    }

    fn rows(&self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|c| batch.column(*c).clone()).collect();
        self.converter.convert_columns(&columns)
    }
}

/// All rows as one batch of `schema`, ordered by [`Layout::order`].
pub(crate) fn sorted(
    batches: &[RecordBatch],
    schema: &SchemaRef,
    layout: &Layout,
) -> Result<RecordBatch, ArrowError> {
    let adapted = batches.iter().map(|b| adapt(b, schema)).collect::<Result<Vec<_>, _>>()?;
    let whole = concat_batches(schema, &adapted)?;
    drop(adapted);
    let rows = Keys::new(schema, layout)?.rows(&whole)?;
    let mut order: Vec<u32> = (0..whole.num_rows() as u32).collect();
    if order.is_sorted_by(|a, b| rows.row(*a as usize) <= rows.row(*b as usize)) {
        return Ok(whole);
    }
    order.sort_by(|a, b| rows.row(*a as usize).cmp(&rows.row(*b as usize)));
    drop(rows);
    take_record_batch(&whole, &UInt32Array::from(order))
}

/// Merges inputs that are ordered by [`Layout::order`], all of one schema that holds those columns.
pub(crate) fn merge(
    mut inputs: Vec<BatchStream>,
    schema: &SchemaRef,
    layout: &Layout,
) -> Result<BatchStream, HistoryError> {
    if inputs.len() <= 1 {
        return Ok(inputs.pop().unwrap_or_else(|| Box::new(std::iter::empty())));
    }
    let keys = Keys::new(schema, layout).map_err(broken)?;
    let mut merge = Merge { keys, cursors: Vec::new(), heap: BinaryHeap::new(), failed: false };
    for (i, source) in inputs.into_iter().enumerate() {
        let mut cursor = Cursor { source, current: None, at: 0 };
        cursor.load(&merge.keys)?;
        merge.cursors.push(cursor);
        merge.queue(i);
    }
    Ok(Box::new(merge))
}

fn broken(error: ArrowError) -> HistoryError {
    HistoryError::Damaged(format!("rows of history do not fit together: {error}; report this as a defect"))
}

struct Cursor {
    source: BatchStream,
    current: Option<(RecordBatch, Rows)>,
    at: usize,
}

impl Cursor {
    /// Moves to the next batch, if there is one.
    fn load(&mut self, keys: &Keys) -> Result<(), HistoryError> {
        self.at = 0;
        self.current = None;
        for batch in self.source.by_ref() {
            let batch = batch?;
            if batch.num_rows() > 0 {
                let rows = keys.rows(&batch).map_err(broken)?;
                self.current = Some((batch, rows));
                break;
            }
        }
        Ok(())
    }
}

struct Merge {
    keys: Keys,
    cursors: Vec<Cursor>,
    /// The next row of each cursor that has one.
    heap: BinaryHeap<Reverse<(OwnedRow, usize)>>,
    failed: bool,
}

impl Merge {
    /// Puts the next row of a cursor up for choice, unless the cursor is at its end.
    fn queue(&mut self, i: usize) {
        let cursor = &self.cursors[i];
        if let Some((_, rows)) = &cursor.current {
            self.heap.push(Reverse((rows.row(cursor.at).owned(), i)));
        }
    }

    fn fill(&mut self) -> Result<Option<RecordBatch>, HistoryError> {
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut slots: Vec<Option<usize>> = vec![None; self.cursors.len()];
        let mut picks: Vec<(usize, usize)> = Vec::new();
        while picks.len() < BATCH {
            let Some(Reverse((_, i))) = self.heap.pop() else { break };
            let cursor = &mut self.cursors[i];
            let Some((batch, rows)) = &cursor.current else { continue };
            let bound = self.heap.peek().map(|Reverse((key, _))| key.row());
            if bound.is_none() && picks.is_empty() {
                // Only this input is left: its batches go through as they are.
                let rest = batch.slice(cursor.at, batch.num_rows() - cursor.at);
                cursor.load(&self.keys)?;
                self.queue(i);
                return Ok(Some(rest));
            }
            let slot = *slots[i].get_or_insert_with(|| {
                batches.push(batch.clone());
                batches.len() - 1
            });
            while cursor.at < rows.num_rows()
                && picks.len() < BATCH
                && bound.is_none_or(|b| rows.row(cursor.at) <= b)
            {
                picks.push((slot, cursor.at));
                cursor.at += 1;
            }
            if cursor.at == rows.num_rows() {
                cursor.load(&self.keys)?;
                slots[i] = None;
            }
            self.queue(i);
        }
        if picks.is_empty() {
            return Ok(None);
        }
        let parts: Vec<&RecordBatch> = batches.iter().collect();
        interleave_record_batch(&parts, &picks).map(Some).map_err(broken)
    }
}

impl Iterator for Merge {
    type Item = Result<RecordBatch, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.fill().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}
