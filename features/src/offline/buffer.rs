//! Rows that are not in files yet.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{compute::concat_batches, datatypes::SchemaRef, error::ArrowError, record_batch::RecordBatch};
use ingest::log::Position;

use super::{
    HistoryError,
    filter::{RowTest, not_below, reach},
    layout::Layout,
    schema::merge,
};

/// Neighbouring batches smaller than this are put together …
const SMALL: usize = 8_192;
/// … so many of about one size at a time, so that a row is copied a few times only.
const TOGETHER: usize = 8;

pub(crate) type Tables = BTreeMap<String, Rows>;

/// Rows of one table.
#[derive(Clone, Default)]
pub(crate) struct Rows {
    pub batches: Vec<RecordBatch>,
    bytes: usize,
}

impl Rows {
    /// Adds a batch. The job brings many small ones: they are put together, each row about as often as its
    /// batch has grown by [`TOGETHER`], so that reads and memory see few.
    fn push(&mut self, batch: RecordBatch) -> Result<(), ArrowError> {
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
        while let Some((first, schema)) = self.small_ones() {
            let latest = &self.batches[first..];
            let all = concat_batches(&schema, latest)?;
            self.bytes -= latest.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
            self.bytes += all.get_array_memory_size();
            self.batches.truncate(first);
            self.batches.push(all);
        }
        Ok(())
    }

    /// Where the latest batches begin that are no larger than the last and alike, if there are enough of them to
    /// put together.
    fn small_ones(&self) -> Option<(usize, SchemaRef)> {
        let last = self.batches.last()?;
        let fits = |b: &&RecordBatch| {
            b.num_rows() < SMALL
                && size_class(b) <= size_class(last)
                && b.schema_ref().fields() == last.schema_ref().fields()
        };
        let many = self.batches.iter().rev().take_while(fits).count();
        (many >= TOGETHER).then(|| (self.batches.len() - many, last.schema()))
    }
}

/// Batches of one class differ in size by less than [`TOGETHER`] times.
fn size_class(batch: &RecordBatch) -> u32 {
    batch.num_rows().max(1).ilog(TOGETHER)
}

/// Everything appended and not yet durable.
#[derive(Default)]
pub(crate) struct Buffer {
    /// Rows tied to a position, oldest first.
    sealed: Vec<Sealed>,
    /// Rows appended since.
    open: Tables,
    /// Schema of each table with rows here: that of the files and more.
    schemas: BTreeMap<String, SchemaRef>,
    /// Everything in the log below this was appended and sealed.
    sealed_to: Position,
    /// Past the last row of the log that was appended.
    reached: Position,
}

/// Rows that become durable together.
#[derive(Clone)]
pub(crate) struct Sealed {
    pub position: Position,
    pub tables: Arc<Tables>,
}

impl Buffer {
    pub fn new(durable: Position) -> Self {
        Buffer { sealed_to: durable, ..Buffer::default() }
    }

    /// Adds rows; `stored` is the schema of the table's files.
    pub fn append(
        &mut self,
        table: &str,
        stored: Option<&SchemaRef>,
        batch: &RecordBatch,
    ) -> Result<usize, HistoryError> {
        Layout::check_name(table)?;
        let known = self.schemas.get(table).or(stored);
        let schema = match known {
            Some(known) => merge(table, known, batch.schema_ref())?,
            None => batch.schema(),
        };
        let layout = Layout::of(table, &schema)?;
        let refused =
            |what: String| HistoryError::Refused(format!("rows for table `{table}` were not taken: {what}"));
        for name in [&layout.entity, &layout.time] {
            match batch.column_by_name(name) {
                Some(column) if column.null_count() == 0 => {}
                _ => return Err(refused(format!("column `{name}` must be there and without NULLs"))),
            }
        }
        let fresh = if layout.has_place && batch.column_by_name("offset").is_some() {
            let fresh = not_below(batch, &self.sealed_to).map_err(|e| refused(e.to_string()))?;
            reach(&mut self.reached, &fresh).map_err(|e| refused(e.to_string()))?;
            fresh
        } else {
            batch.clone()
        };
        self.schemas.insert(table.to_owned(), schema);
        let rows = fresh.num_rows();
        if rows > 0 {
            let rows = self.open.entry(table.to_owned()).or_default();
            rows.push(fresh).map_err(|e| refused(e.to_string()))?;
        }
        Ok(rows)
    }

    /// Ties the rows appended since the last seal to a position. Where that lies before what was sealed
    /// (the job replays from an older checkpoint), the later of both holds.
    pub fn seal(&mut self, position: &Position) -> Result<(), HistoryError> {
        let mut to = self.sealed_to.clone();
        for (partition, offset) in &position.0 {
            let at = to.0.entry(*partition).or_insert(0);
            *at = (*at).max(*offset);
        }
        if !to.covers(&self.reached) {
            return Err(HistoryError::Refused(format!(
                "rows of the log up to {} were appended, so history cannot be sealed at {position}; that is a \
                 defect of the job",
                self.reached
            )));
        }
        if !self.open.is_empty() || to != self.sealed_to {
            self.sealed_to = to.clone();
            self.sealed.push(Sealed { position: to, tables: Arc::new(std::mem::take(&mut self.open)) });
        }
        Ok(())
    }

    pub fn sealed(&self) -> &[Sealed] {
        &self.sealed
    }

    /// Forgets the oldest `count` sealed parts: they are durable.
    pub fn forget_sealed(&mut self, count: usize) {
        self.sealed.drain(..count);
    }

    /// The rows of one table.
    pub fn batches(&self, table: &str) -> Vec<RecordBatch> {
        let sealed = self.sealed.iter().filter_map(|s| s.tables.get(table));
        sealed.chain(self.open.get(table)).flat_map(|rows| &rows.batches).cloned().collect()
    }

    pub fn schema(&self, table: &str) -> Option<&SchemaRef> {
        self.schemas.get(table)
    }

    pub fn tables(&self) -> impl Iterator<Item = &String> {
        self.schemas.keys()
    }

    pub fn bytes(&self) -> usize {
        let tables = self.sealed.iter().map(|s| s.tables.as_ref()).chain([&self.open]);
        tables.flat_map(BTreeMap::values).map(|rows| rows.bytes).sum()
    }

    /// Drops a table.
    pub fn forget_table(&mut self, table: &str) {
        for sealed in &mut self.sealed {
            let mut tables = Tables::clone(&sealed.tables);
            tables.remove(table);
            sealed.tables = Arc::new(tables);
        }
        self.open.remove(table);
        self.schemas.remove(table);
    }

    /// Drops the rows of an entity; returns how many there were.
    pub fn erase(&mut self, entity: &str) -> Result<u64, HistoryError> {
        let mut erased = 0;
        for sealed in &mut self.sealed {
            let mut tables = Tables::clone(&sealed.tables);
            erased += erase_from(&mut tables, entity)?;
            sealed.tables = Arc::new(tables);
        }
        Ok(erased + erase_from(&mut self.open, entity)?)
    }
}

fn erase_from(tables: &mut Tables, entity: &str) -> Result<u64, HistoryError> {
    let mut erased = 0;
    for (table, rows) in tables {
        for batch in &mut rows.batches {
            let layout = Layout::of(table, batch.schema_ref())?;
            let rest = RowTest::all_but(Some(entity), layout, None)
                .apply(batch)
                .map_err(|e| HistoryError::Refused(format!("cannot erase from table `{table}`: {e}")))?;
            erased += (batch.num_rows() - rest.num_rows()) as u64;
            *batch = rest;
        }
        rows.batches.retain(|b| b.num_rows() > 0);
        rows.bytes = rows.batches.iter().map(RecordBatch::get_array_memory_size).sum();
    }
    Ok(erased)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn small_batches_are_put_together_in_order_and_not_often() {
        let (mut rows, mut next, mut copied) = (Rows::default(), 0, 0);
        for turn in 0..4_000_i64 {
            let size = [1, 3, 40, 2, 9][turn as usize % 5];
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(next..next + size));
            next += size;
            let before: Vec<usize> = rows.batches.iter().map(RecordBatch::num_rows).collect();
            rows.push(RecordBatch::try_from_iter([("n", column)]).unwrap()).unwrap();
            let kept = rows.batches.iter().zip(&before).take_while(|(b, n)| b.num_rows() == **n).count();
            copied += before[kept..].iter().sum::<usize>();
        }
        assert!(rows.batches.len() < 40, "{} batches", rows.batches.len());
        assert!(copied < 8 * next as usize, "{next} rows were copied {copied} times");
        let all = concat_batches(&rows.batches[0].schema(), &rows.batches).unwrap();
        let expected: ArrayRef = Arc::new(Int64Array::from_iter_values(0..next));
        assert_eq!(all.column(0), &expected);
        assert_eq!(rows.bytes, rows.batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>());
    }
}
