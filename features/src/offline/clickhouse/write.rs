//! Rows made durable: out of memory into the spool.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use ingest::log::Position;

use super::{HistoryError, Inner, State, mismatch, raise, ship, spool::Spool};
use crate::offline::{layout::Layout, merge::sorted, metrics, schema::merge};

impl Inner {
    pub(super) fn must_write(&self) -> Result<&Spool, HistoryError> {
        self.spool
            .as_ref()
            .ok_or_else(|| HistoryError::Refused("this history was opened for reading only".into()))
    }

    /// Columns of a table, those of rows not yet on the server included.
    pub(super) fn schema_of(&self, state: &State, table: &str) -> Result<Option<SchemaRef>, HistoryError> {
        let mut all = self.tables.last_known().get(table).map(|k| k.schema.clone());
        let spooled = state.spooled.iter().filter_map(|(b, _)| b.schemas.get(table));
        for schema in spooled.chain(state.buffer.schema(table)) {
            all = Some(match all {
                Some(all) => merge(table, &all, schema)?,
                None => schema.clone(),
            });
        }
        Ok(all)
    }

    pub(super) fn persist(&self) -> Result<Position, HistoryError> {
        let spool = self.must_write()?;
        let _writing = self.writing.lock();
        let (sealed, number, schemas) = {
            let state = self.state.lock();
            let sealed = state.buffer.sealed().to_vec();
            let schemas: Vec<(String, SchemaRef)> = state
                .buffer
                .tables()
                .filter_map(|t| Some((t.clone(), state.buffer.schema(t)?.clone())))
                .collect();
            self.must_have_room(&state)?;
            (sealed, state.next, schemas)
        };
        let Some(last) = sealed.last() else { return Ok(self.state.lock().durable.clone()) };
        let started = Instant::now();
        let mut rows: BTreeMap<String, RecordBatch> = BTreeMap::new();
        for (table, schema) in schemas {
            let parts: Vec<RecordBatch> = sealed
                .iter()
                .filter_map(|s| s.tables.get(&table))
                .flat_map(|r| r.batches.iter().cloned())
                .collect();
            if !parts.is_empty() {
                let layout = Layout::of(&table, &schema)?;
                let whole = sorted(&parts, &schema, &layout).map_err(|e| mismatch(&table, &e))?;
                rows.insert(table, whole);
            }
        }
        let batch = spool.write((number, 0), &last.position, &rows)?;
        metrics::flushed(batch.rows(), started.elapsed());
        let mut state = self.state.lock();
        state.next = number + 1;
        state.spooled.push((Arc::new(batch), Instant::now()));
        state.buffer.forget_sealed(sealed.len());
        raise(&mut state.durable, &last.position);
        ship::tell(&state);
        self.changed.notify_all();
        Ok(state.durable.clone())
    }

    fn must_have_room(&self, state: &State) -> Result<(), HistoryError> {
        let held: u64 = state.spooled.iter().map(|(b, _)| b.bytes()).sum();
        let wanted = state.buffer.bytes() as u64;
        // A single batch is always taken, or it could never be.
        if state.spooled.is_empty() || held + wanted <= self.options.server.spool_bytes {
            return Ok(());
        }
        Err(HistoryError::Unavailable(format!(
            "{} MB wait for ClickHouse at {} already, and `history.spool_mb` allows {}: {}; mend that, or allow more",
            held >> 20,
            self.server.place,
            self.options.server.spool_bytes >> 20,
            state.trouble.as_deref().unwrap_or("it takes them more slowly than they come"),
        )))
    }
}
