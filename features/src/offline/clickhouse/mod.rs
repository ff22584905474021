//! History in ClickHouse.
//!
//! What the job persists goes to a spool on local disk, which is what durable means to it; a thread takes it from
//! there to the server, again and again until the server has it. So the job goes on while the server is away, until
//! the spool is full. Rows that arrive twice replace themselves: each table knows its rows by
//! [`Layout::identity`], and every read leaves a second copy out.
//!
//! | module | what |
//! |---|---|
//! | `server` | the client, and what its errors mean |
//! | `sql`, `answer` | what it is asked, and what it says |
//! | `types` | Arrow's types as ClickHouse's, and back |
//! | `tables` | the tables on the server |
//! | `rollups` | what dashboards read: `signals`, and counts a minute |
//! | `spool` | rows on local disk until the server has them |
//! | `write` | rows made durable in the spool |
//! | `ship` | the thread that takes them there |
//! | `read` | the server's rows and those not there yet, together |
//! | `erase` | people and old rows taken out |
//! | `remarks` | what a person should mend |

mod answer;
mod erase;
mod read;
mod remarks;
mod rollups;
mod server;
mod ship;
mod spool;
mod sql;
mod tables;
mod types;
mod write;

use std::{
    collections::BTreeSet,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use ingest::{Millis, log::Position};
use parking_lot::{Condvar, Mutex};

use self::{
    server::Server,
    spool::{Batch, Spool},
    tables::{POSITIONS, Tables},
};
use super::{BatchStream, Declared, HistoryError, HistoryOptions, OfflineStore, ScanFilter, buffer::Buffer};

/// Rows are read from ClickHouse, and are written through a spool in `history-spool` under the data directory.
pub struct ClickHouseHistory {
    inner: Arc<Inner>,
    shipper: Option<JoinHandle<()>>,
}

struct Inner {
    server: Arc<Server>,
    tables: Tables,
    options: HistoryOptions,
    /// `None` for one that only reads.
    spool: Option<Spool>,
    /// Held while batches are sent, and by whoever needs that none is. Taken before the others.
    sending: Mutex<()>,
    /// Held while a batch is written. Taken before `state`.
    writing: Mutex<()>,
    state: Mutex<State>,
    /// Something is to be sent, was sent, or it is over.
    changed: Condvar,
}

struct State {
    buffer: Buffer,
    /// Oldest first.
    spooled: Vec<(Arc<Batch>, Instant)>,
    next: u64,
    /// What the server has and what the spool has.
    durable: Position,
    /// What the server has.
    arrived: Position,
    /// Batches are sent without waiting for more.
    hurry: bool,
    over: bool,
    /// Why the last attempt to send failed.
    trouble: Option<String>,
}

impl ClickHouseHistory {
    /// Takes up what is in the spool and begins to send it. The server must be there.
    pub fn open(options: &HistoryOptions) -> Result<Self, HistoryError> {
        let server = Arc::new(Server::new(options)?);
        server.greet(options.read_only)?;
        let tables = Tables::new(server.clone(), options.server.keep);
        if !options.read_only {
            tables.prepare()?;
        }
        tables.known()?;
        let arrived = positions(&server, options.read_only)?;
        let (spool, batches) = match options.read_only {
            true => (None, Vec::new()),
            false => {
                let (spool, batches) = Spool::open(&spool::root(&options.data_dir))?;
                (Some(spool), batches)
            }
        };
        let mut durable = arrived.clone();
        batches.iter().for_each(|b| raise(&mut durable, &b.position()));
        let sent_last = spool.as_ref().and_then(Spool::sending).unwrap_or(0);
        let next = batches.last().map_or(0, |b| b.number).max(sent_last) + 1;
        let now = Instant::now();
        let state = State {
            buffer: Buffer::new(durable.clone()),
            spooled: batches.into_iter().map(|b| (b, now)).collect(),
            next,
            durable,
            arrived,
            hurry: false,
            over: false,
            trouble: None,
        };
        let inner = Arc::new(Inner {
            server,
            tables,
            options: options.clone(),
            spool,
            sending: Mutex::new(()),
            writing: Mutex::new(()),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let shipper = match inner.spool {
            Some(_) => Some(ship::start(inner.clone())?),
            None => None,
        };
        Ok(ClickHouseHistory { inner, shipper })
    }

    /// Bytes that wait for the server, and why they do if the last attempt failed.
    pub fn waiting(&self) -> (u64, Option<String>) {
        let state = self.inner.state.lock();
        (state.spooled.iter().map(|(b, _)| b.bytes()).sum(), state.trouble.clone())
    }
}

impl Drop for ClickHouseHistory {
    fn drop(&mut self) {
        self.inner.state.lock().over = true;
        self.inner.changed.notify_all();
        self.inner.server.close();
        if let Some(shipper) = self.shipper.take() {
            let _ = shipper.join();
        }
    }
}

/// The log below this is in the tables on the server.
fn positions(server: &Server, read_only: bool) -> Result<Position, HistoryError> {
    if read_only {
        let there: Vec<(u8,)> = server.ask(format!("EXISTS TABLE {POSITIONS}"))?;
        if there != [(1,)] {
            return Ok(Position::default());
        }
    }
    let rows: Vec<(u32, u64)> =
        server.ask(format!("SELECT partition, max(position) FROM {POSITIONS} GROUP BY partition"))?;
    Ok(Position(rows.into_iter().collect()))
}

/// Moves a position to where another is, in each partition the later of both.
fn raise(position: &mut Position, other: &Position) {
    for (partition, offset) in &other.0 {
        let at = position.0.entry(*partition).or_insert(0);
        *at = (*at).max(*offset);
    }
}

fn mismatch(table: &str, error: &arrow::error::ArrowError) -> HistoryError {
    HistoryError::Refused(format!("rows of table `{table}` do not fit its columns: {error}"))
}

impl OfflineStore for ClickHouseHistory {
    fn append(&self, table: &str, batch: RecordBatch) -> Result<usize, HistoryError> {
        self.inner.must_write()?;
        let mut state = self.inner.state.lock();
        let stored = match state.buffer.schema(table) {
            Some(_) => None,
            None => self.inner.schema_of(&state, table)?,
        };
        state.buffer.append(table, stored.as_ref(), &batch)
    }

    fn seal(&self, position: &Position) -> Result<(), HistoryError> {
        self.inner.must_write()?;
        self.inner.state.lock().buffer.seal(position)
    }

    fn persist(&self) -> Result<Position, HistoryError> {
        self.inner.persist()
    }

    fn durable_position(&self) -> Result<Position, HistoryError> {
        if self.inner.spool.is_none() {
            return positions(&self.inner.server, true);
        }
        Ok(self.inner.state.lock().durable.clone())
    }

    fn buffered_bytes(&self) -> usize {
        self.inner.state.lock().buffer.bytes()
    }

    fn discard_unflushed(&self) -> Result<(), HistoryError> {
        self.inner.must_write()?;
        let _writing = self.inner.writing.lock();
        let mut state = self.inner.state.lock();
        state.buffer = Buffer::new(state.durable.clone());
        Ok(())
    }

    fn tables(&self) -> Result<Vec<String>, HistoryError> {
        let known = self.inner.tables.known()?;
        let state = self.inner.state.lock();
        let filled = known.iter().filter(|(_, k)| k.filled).map(|(name, _)| name);
        let spooled = state.spooled.iter().flat_map(|(b, _)| b.about.tables.keys());
        let names: BTreeSet<&String> = filled.chain(spooled).chain(state.buffer.tables()).collect();
        Ok(names.into_iter().cloned().collect())
    }

    fn schema(&self, table: &str) -> Result<Option<SchemaRef>, HistoryError> {
        if !self.tables()?.iter().any(|t| t == table) {
            return Ok(None);
        }
        self.inner.schema_of(&self.inner.state.lock(), table)
    }

    fn scan(&self, table: &str, filter: &ScanFilter) -> Result<Vec<RecordBatch>, HistoryError> {
        self.inner.stream(table, filter)?.collect()
    }

    fn stream(&self, table: &str, filter: &ScanFilter) -> Result<BatchStream, HistoryError> {
        self.inner.stream(table, filter)
    }

    fn erase(&self, entity: &str) -> Result<u64, HistoryError> {
        self.inner.erase(entity)
    }

    fn enforce_retention(&self, now: Millis, table: &str, keep: Duration) -> Result<u64, HistoryError> {
        self.inner.must_write()?;
        let after = now.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
        self.inner.keep_after(table, after)
    }

    fn rename_tables(&self, names: &[(String, String)]) -> Result<(), HistoryError> {
        self.inner.must_write()?;
        self.inner.rename(names)
    }

    fn drop_table(&self, table: &str) -> Result<(), HistoryError> {
        self.inner.must_write()?;
        self.inner.drop_table(table)
    }

    fn estimate_rows(&self, table: &str, filter: &ScanFilter) -> Result<u64, HistoryError> {
        self.inner.estimate(table, filter)
    }

    fn reachable(&self) -> Result<(), HistoryError> {
        self.inner.server.ping()
    }

    fn remarks(&self) -> Result<Vec<String>, HistoryError> {
        self.inner.remarks()
    }

    fn ensure(&self, tables: &[Declared]) -> Result<(), HistoryError> {
        self.inner.must_write()?;
        rollups::ensure(&self.inner, tables)
    }

    fn deliver(&self, within: Duration) -> Result<(), HistoryError> {
        self.inner.must_write()?;
        self.inner.deliver(within)
    }
}
