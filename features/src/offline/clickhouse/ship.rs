//! The thread that takes batches from the spool to the server.
//!
//! Batches that are sent together are noted first, and each insert bears a token made of what it holds: sent again
//! after a crash they are the same inserts, which the server takes once. The position follows the rows, and only
//! then the batches go.

use std::{
    collections::BTreeSet,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use arrow::{compute::concat_batches, ipc::writer::StreamWriter, record_batch::RecordBatch};
use bytes::Bytes;
use ingest::log::Position;
use metrics::{counter, gauge, histogram};
use xxhash_rust::xxh3::Xxh3;

use super::{
    HistoryError, Inner, State, mismatch, raise, spool::Batch, sql::quoted, tables::POSITIONS,
    types::with_nulls,
};
use crate::offline::{
    filter::not_below,
    layout::Layout,
    metrics as names,
    schema::{adapt, merge},
};

/// Pauses between attempts grow from this …
const SOON: Duration = Duration::from_millis(200);
/// … to this.
const LATE: Duration = Duration::from_secs(15);
/// Rows of one message of an insert.
const MESSAGE: usize = 131_072;

/// Starts the thread.
pub(super) fn start(inner: Arc<Inner>) -> Result<JoinHandle<()>, HistoryError> {
    thread::Builder::new()
        .name("history-shipper".into())
        .spawn(move || run(&inner))
        .map_err(|e| HistoryError::Unavailable(format!("no thread to send history to ClickHouse on: {e}")))
}

/// Tells how much waits.
pub(super) fn tell(state: &State) {
    gauge!(names::SPOOLED_BYTES).set(state.spooled.iter().map(|(b, _)| b.bytes()).sum::<u64>() as f64);
    let oldest = state.spooled.first().map_or(0.0, |(_, since)| since.elapsed().as_secs_f64());
    gauge!(names::SPOOLED_SECONDS).set(oldest);
}

fn run(inner: &Inner) {
    let mut pause = SOON;
    loop {
        {
            let mut state = inner.state.lock();
            loop {
                if state.over {
                    return;
                }
                let Some(wait) = due_in(&state, inner) else {
                    inner.changed.wait(&mut state);
                    continue;
                };
                if wait.is_zero() {
                    break;
                }
                inner.changed.wait_for(&mut state, wait);
            }
        }
        match inner.send_some() {
            Ok(()) => pause = SOON,
            Err(e) => {
                let mut state = inner.state.lock();
                if state.over {
                    return;
                }
                counter!(names::SHIP_FAILURES).increment(1);
                tracing::warn!(error = %e, pause = ?pause, "rows wait for ClickHouse; they are sent again");
                state.trouble = Some(e.to_string());
                tell(&state);
                inner.changed.notify_all();
                let until = Instant::now() + pause;
                while !state.over && !inner.changed.wait_until(&mut state, until).timed_out() {}
                pause = (2 * pause).min(LATE);
            }
        }
    }
}

/// How long until something is to be sent; `None` while nothing is there.
fn due_in(state: &State, inner: &Inner) -> Option<Duration> {
    let (_, since) = state.spooled.first()?;
    let rows: u64 = state.spooled.iter().map(|(b, _)| b.rows()).sum();
    let now = state.hurry || rows >= inner.options.server.batch_rows;
    Some(if now { Duration::ZERO } else { inner.options.server.batch_time.saturating_sub(since.elapsed()) })
}

impl Inner {
    /// Sends the oldest batches, as many as make an insert of good size.
    pub(super) fn send_some(&self) -> Result<(), HistoryError> {
        let spool = self.must_write()?;
        let _sending = self.sending.lock();
        let (mut group, arrived): (Vec<Arc<Batch>>, Position) = {
            let state = self.state.lock();
            (state.spooled.iter().map(|(b, _)| b.clone()).collect(), state.arrived.clone())
        };
        let Some(first) = group.first().map(|b| b.number) else { return Ok(()) };
        let started = Instant::now();
        match spool.sending().filter(|last| *last >= first) {
            // As they were sent before a crash.
            Some(last) => group.retain(|b| b.number <= last),
            None => {
                let mut rows = 0;
                let most = self.options.server.batch_rows;
                group.retain(|b| {
                    let goes = b.number == first || rows + b.rows() <= most;
                    rows = if goes { rows + b.rows() } else { u64::MAX / 2 };
                    goes
                });
                spool.note_sending(group.last().map_or(first, |b| b.number))?;
            }
        }
        let tables: BTreeSet<&String> = group.iter().flat_map(|b| b.about.tables.keys()).collect();
        let mut rows = 0;
        for table in tables {
            rows += self.send_table(table, &group, &arrived)?;
        }
        let mut position = Position::default();
        group.iter().for_each(|b| raise(&mut position, &b.position()));
        let places: Vec<String> = position.0.iter().map(|(p, o)| format!("({p}, {o})")).collect();
        if !places.is_empty() {
            let sql = format!("INSERT INTO {POSITIONS} (partition, position) VALUES {}", places.join(", "));
            self.server.execute_with(sql, &[("async_insert", "0")])?;
        }
        self.tables.forget();
        {
            let mut state = self.state.lock();
            state.spooled.retain(|(b, _)| group.iter().all(|g| g.number != b.number));
            raise(&mut state.arrived, &position);
            state.hurry &= !state.spooled.is_empty();
            state.trouble = None;
            tell(&state);
            self.changed.notify_all();
        }
        counter!(names::SHIPPED_ROWS).increment(rows);
        histogram!(names::SHIP_SECONDS).record(started.elapsed().as_secs_f64());
        spool.remove(&group)
    }

    fn send_table(&self, table: &str, group: &[Arc<Batch>], arrived: &Position) -> Result<u64, HistoryError> {
        let wrong = |e: arrow::error::ArrowError| mismatch(table, &e);
        let (mut parts, mut hash) = (Vec::new(), Xxh3::new());
        hash.update(table.as_bytes());
        for batch in group {
            parts.extend(batch.read(table)?);
            if let Some(piece) = batch.about.tables.get(table) {
                hash.update(&piece.checksum.to_le_bytes());
                hash.update(&batch.number.to_le_bytes());
            }
        }
        let Some(first) = parts.first() else { return Ok(0) };
        let mut schema = first.schema();
        for part in &parts {
            schema = merge(table, &schema, part.schema_ref())?;
        }
        let stored = self.tables.fit(table, &schema)?;
        if Layout::of(table, &schema)?.has_place {
            // Another process may have taken these partitions over meanwhile, and sent their rows.
            parts = parts
                .iter()
                .map(|p| not_below(&adapt(p, &schema)?, arrived))
                .collect::<Result<_, _>>()
                .map_err(wrong)?;
        }
        let adapted =
            parts.iter().map(|p| adapt(p, &schema)).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        let whole = concat_batches(&schema, &adapted).map_err(wrong)?;
        if whole.num_rows() == 0 {
            return Ok(0);
        }
        // Structs are sent with all the fields the server knows of.
        let fields: Vec<_> =
            schema.fields().iter().filter_map(|f| stored.field_with_name(f.name()).ok().cloned()).collect();
        let target = Arc::new(arrow::datatypes::Schema::new(fields));
        let whole = with_nulls(&adapt(&whole, &target).map_err(wrong)?).map_err(wrong)?;
        let names: Vec<String> = whole.schema().fields().iter().map(|f| quoted(f.name())).collect();
        let sql = format!("INSERT INTO {} ({}) FORMAT ArrowStream", quoted(table), names.join(", "));
        let body = encoded(&whole).map_err(wrong)?;
        let token = format!("kairos-{:032x}", hash.digest128());
        self.server.insert(&sql, body, &token)?;
        Ok(whole.num_rows() as u64)
    }

    /// Sends everything now.
    pub(super) fn deliver(&self, within: Duration) -> Result<(), HistoryError> {
        let until = Instant::now() + within;
        let mut state = self.state.lock();
        let last = state.spooled.last().map(|(b, _)| b.number);
        while last.is_some_and(|last| state.spooled.first().is_some_and(|(b, _)| b.number <= last)) {
            state.hurry = true;
            self.changed.notify_all();
            if state.over || self.changed.wait_until(&mut state, until).timed_out() {
                let why = state.trouble.clone().unwrap_or_else(|| "it takes longer".into());
                return Err(HistoryError::Unavailable(format!(
                    "rows still wait for ClickHouse at {}: {why}; they are kept and sent once that is mended",
                    self.server.place
                )));
            }
        }
        Ok(())
    }
}

fn encoded(batch: &RecordBatch) -> Result<Bytes, arrow::error::ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
    let mut at = 0;
    while at < batch.num_rows() {
        let length = MESSAGE.min(batch.num_rows() - at);
        writer.write(&batch.slice(at, length))?;
        at += length;
    }
    writer.finish()?;
    Ok(writer.into_inner()?.into())
}
