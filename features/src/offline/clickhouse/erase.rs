//! People and old rows taken out, down to the bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arrow::{compute::concat_batches, record_batch::RecordBatch};
use ingest::Millis;

use super::{
    HistoryError, Inner, mismatch,
    spool::Batch,
    sql::{Sql, literal, quoted},
};
use crate::offline::{ScanFilter, filter::RowTest, layout::Layout};

/// Parts that were replaced are gone after a few seconds, unless a query still reads them.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest that rows may take to get to the server before it is changed.
const ARRIVAL: Duration = Duration::from_secs(60);

impl Inner {
    pub(super) fn erase(&self, entity: &str) -> Result<u64, HistoryError> {
        let spool = self.must_write()?;
        let _sending = self.sending.lock();
        let _writing = self.writing.lock();
        self.tables.forget();
        let known = self.tables.known()?;
        let mut tables: BTreeSet<String> = known.keys().cloned().collect();
        {
            let state = self.state.lock();
            tables.extend(state.spooled.iter().flat_map(|(b, _)| b.about.tables.keys().cloned()));
            tables.extend(state.buffer.tables().cloned());
        }
        let mut erased = 0;
        for table in &tables {
            erased += self.rows_of(table, entity)?;
        }
        let spooled: Vec<Arc<Batch>> = self.state.lock().spooled.iter().map(|(b, _)| b.clone()).collect();
        for batch in spooled {
            let Some(rest) = without(&batch, entity)? else { continue };
            let next =
                Arc::new(spool.write((batch.number, batch.generation + 1), &batch.position(), &rest)?);
            for (held, _) in self.state.lock().spooled.iter_mut().filter(|(b, _)| b.number == next.number) {
                *held = next.clone();
            }
            spool.remove(&[batch])?;
        }
        self.state.lock().buffer.erase(entity)?;
        // The server keeps the text of what changes tables, so it is given the hash of the name alone.
        let sql = Sql::from("SELECT hex(sipHash128({name:Array(String)}[1]))").with("name", &[entity]);
        let hash: Vec<(String,)> = self.server.ask(sql)?;
        let hash = hash.into_iter().next().map(|(h,)| h).unwrap_or_default();
        for (table, known) in known.iter() {
            let column = quoted(&Layout::of(table, &known.schema)?.entity);
            self.delete(table, &format!("sipHash128({column}) = unhex({})", literal(&hash)))?;
        }
        for table in known.keys() {
            self.wait_for_old_parts(table)?;
        }
        self.tables.forget();
        Ok(erased)
    }

    /// How many rows an entity has, each counted once.
    fn rows_of(&self, table: &str, entity: &str) -> Result<u64, HistoryError> {
        let filter = ScanFilter { subjects: Some(vec![entity.to_owned()]), ..ScanFilter::default() };
        let Some(schema) = self.schema_of(&self.state.lock(), table)? else { return Ok(0) };
        let columns = Some(vec![Layout::of(table, &schema)?.entity]);
        let mut rows = 0;
        for batch in self.stream(table, &ScanFilter { columns, ..filter })? {
            rows += batch?.num_rows() as u64;
        }
        Ok(rows)
    }

    fn delete(&self, table: &str, condition: &str) -> Result<(), HistoryError> {
        let sql = format!("ALTER TABLE {} DELETE WHERE {condition}", quoted(table));
        self.server.execute_with(sql, &[("mutations_sync", "1"), ("log_queries", "0")])
    }

    /// Waits until the parts that a change replaced are off the disk.
    fn wait_for_old_parts(&self, table: &str) -> Result<(), HistoryError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left: Vec<(u64,)> = self.server.ask(format!(
                "SELECT count() FROM system.parts WHERE database = currentDatabase() AND _state != 'Active' AND table = {}",
                literal(table)
            ))?;
            if left == [(0,)] {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(HistoryError::Unavailable(format!(
                    "rows of table `{table}` are deleted, but a query on ClickHouse at {} still holds their old files; \
                     once it has ended they go, and this can be asked for again",
                    self.server.place
                )));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub(super) fn keep_after(&self, table: &str, after: Millis) -> Result<u64, HistoryError> {
        self.deliver(ARRIVAL)?;
        self.tables.forget();
        let Some(known) = self.tables.known()?.get(table).cloned() else { return Ok(0) };
        if known.kept_after.is_some_and(|at| at >= after) {
            return Ok(0);
        }
        let _sending = self.sending.lock();
        self.tables.keep_after(table, after)?;
        let time = quoted(&Layout::of(table, &known.schema)?.time);
        let before = self.bytes_of(table)?;
        self.delete(table, &format!("{time} <= fromUnixTimestamp64Milli(toInt64({after}), 'UTC')"))?;
        Ok(before.saturating_sub(self.bytes_of(table)?))
    }

    /// Before compression: the files of a small table may well grow when rows go.
    fn bytes_of(&self, table: &str) -> Result<u64, HistoryError> {
        let rows: Vec<(u64,)> = self.server.ask(format!(
            "SELECT sum(data_uncompressed_bytes) FROM system.parts WHERE database = currentDatabase() AND active AND table = {}",
            literal(table)
        ))?;
        Ok(rows.first().map_or(0, |r| r.0))
    }

    pub(super) fn rename(&self, names: &[(String, String)]) -> Result<(), HistoryError> {
        for (_, to) in names {
            Layout::check_name(to)?;
        }
        self.must_be_untouched(names)?;
        self.deliver(ARRIVAL)?;
        let _sending = self.sending.lock();
        self.must_be_untouched(names)?;
        self.tables.rename(names)
    }

    fn must_be_untouched(&self, names: &[(String, String)]) -> Result<(), HistoryError> {
        let state = self.state.lock();
        match names.iter().find(|(table, _)| state.buffer.schema(table).is_some()) {
            Some((table, _)) => Err(HistoryError::Refused(format!(
                "table `{table}` cannot get another name once rows were appended; that is a defect of the job"
            ))),
            None => Ok(()),
        }
    }

    pub(super) fn drop_table(&self, table: &str) -> Result<(), HistoryError> {
        self.state.lock().buffer.forget_table(table);
        self.deliver(ARRIVAL)?;
        let _sending = self.sending.lock();
        self.tables.remove(table)
    }
}

/// The rows of a batch without those of an entity; `None` where it has none.
fn without(batch: &Batch, entity: &str) -> Result<Option<BTreeMap<String, RecordBatch>>, HistoryError> {
    let (mut rest, mut found) = (BTreeMap::new(), false);
    for (table, schema) in &batch.schemas {
        let test = RowTest::all_but(Some(entity), Layout::of(table, schema)?, None);
        let wrong = |e| mismatch(table, &e);
        let (rows, mut kept) = (batch.read(table)?, Vec::new());
        for part in &rows {
            let passing = test.apply(part).map_err(wrong)?;
            found |= passing.num_rows() < part.num_rows();
            kept.push(passing);
        }
        rest.insert(table.clone(), concat_batches(schema, &kept).map_err(wrong)?);
    }
    Ok(found.then_some(rest))
}
