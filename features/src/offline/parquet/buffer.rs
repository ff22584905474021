//! Rows that are not in files yet.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use ingest::log::Position;

use super::HistoryError;
use crate::offline::{
    filter::{RowTest, not_below},
    layout::Layout,
    schema::merge,
};

pub(super) type Batches = BTreeMap<String, Vec<RecordBatch>>;

/// Everything appended and not yet durable.
#[derive(Default)]
pub(super) struct Buffer {
    /// Rows tied to a position, oldest first.
    sealed: Vec<Sealed>,
    /// Rows appended since.
    open: Batches,
    /// Schema of each table with rows here: that of the files and more.
    schemas: BTreeMap<String, SchemaRef>,
    /// Everything in the log below this was appended.
    appended_to: Position,
}

/// Rows that become durable together.
#[derive(Clone)]
pub(super) struct Sealed {
    pub position: Position,
    pub tables: Arc<Batches>,
}

impl Buffer {
    pub fn new(durable: Position) -> Self {
        Buffer { appended_to: durable, ..Buffer::default() }
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
            not_below(batch, &self.appended_to).map_err(|e| refused(e.to_string()))?
        } else {
            batch.clone()
        };
        self.schemas.insert(table.to_owned(), schema);
        let rows = fresh.num_rows();
        if rows > 0 {
            self.open.entry(table.to_owned()).or_default().push(fresh);
        }
        Ok(rows)
    }

    /// Ties the rows appended since the last seal to a position.
    pub fn seal(&mut self, position: &Position) -> Result<(), HistoryError> {
        if !position.covers(&self.appended_to) {
            return Err(HistoryError::Refused(format!(
                "history stands at {} and cannot go back to {position}; start the job from its durable position",
                self.appended_to
            )));
        }
        if self.open.is_empty() && *position == self.appended_to {
            return Ok(());
        }
        self.appended_to = position.clone();
        let tables = Arc::new(std::mem::take(&mut self.open));
        self.sealed.push(Sealed { position: position.clone(), tables });
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
        sealed.chain(self.open.get(table)).flatten().cloned().collect()
    }

    pub fn schema(&self, table: &str) -> Option<&SchemaRef> {
        self.schemas.get(table)
    }

    pub fn tables(&self) -> impl Iterator<Item = &String> {
        self.schemas.keys()
    }

    pub fn bytes(&self) -> usize {
        let tables = self.sealed.iter().map(|s| s.tables.as_ref()).chain([&self.open]);
        tables.flat_map(BTreeMap::values).flatten().map(RecordBatch::get_array_memory_size).sum()
    }

    /// Drops the rows of an entity; returns how many there were.
    pub fn erase(&mut self, entity: &str) -> Result<u64, HistoryError> {
        let mut erased = 0;
        for sealed in &mut self.sealed {
            let mut tables = Batches::clone(&sealed.tables);
            erased += erase_from(&mut tables, entity)?;
            sealed.tables = Arc::new(tables);
        }
        Ok(erased + erase_from(&mut self.open, entity)?)
    }
}

fn erase_from(tables: &mut Batches, entity: &str) -> Result<u64, HistoryError> {
    let mut erased = 0;
    for (table, batches) in tables {
        for batch in batches.iter_mut() {
            let layout = Layout::of(table, batch.schema_ref())?;
            let rest = RowTest::all_but(Some(entity), layout, None)
                .apply(batch)
                .map_err(|e| HistoryError::Refused(format!("cannot erase from table `{table}`: {e}")))?;
            erased += (batch.num_rows() - rest.num_rows()) as u64;
            *batch = rest;
        }
        batches.retain(|b| b.num_rows() > 0);
    }
    Ok(erased)
}
