//! The online store in Redis or a cluster of them: rows that any process reads, written by one at a time.
//!
//! | module | what |
//! |---|---|
//! | [`keys`] | names of the keys |
//! | [`scripts`] | what Redis does in one atomic step |
//! | [`link`] | the connection |
//! | [`writer`] | claims, rows, applied offsets |
//! | [`reader`] | reads, and what they answer while Redis is away |
//! | [`cache`] | rows read lately |
//! | [`scan`] | going through all keys |
//! | [`check`] | whether a server suits |
//! | [`tiles`] | tiles that Arroyo writes |

mod cache;
mod check;
mod keys;
mod link;
mod reader;
mod scan;
mod scripts;
mod tiles;
mod writer;

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::Duration,
};

use async_trait::async_trait;
use ingest::log::{Partition, Position};
use tokio::runtime::{Builder, Runtime};

use super::{Found, OnlineOptions, OnlineRow, OnlineStore};
use crate::{error::FeatureError, view::View};
pub use check::check;
use link::{Link, Target, WRITES_TAKE};
pub use tiles::RedisTiles;

/// Added to what a view looks back, for clocks that differ and signals from the future.
const TTL_MORE: i64 = 3_600_000;
/// A view that looks back longer than this keeps its rows for good, in milliseconds.
const TTL_LONGEST: i64 = 20 * 365 * 86_400_000;

/// See the module.
pub struct RedisOnline {
    reader: Arc<reader::Reader>,
    writer: Arc<writer::Writer>,
    claim_within: Duration,
    /// Where writes run, so that they neither wait for reads nor block a runtime of others.
    runtime: Option<Runtime>,
}

impl RedisOnline {
    /// A store in the Redis of this URL, which need not be there yet.
    ///
    /// # Errors
    /// `Request` for settings that cannot be right.
    pub fn open(url: &str, options: &OnlineOptions) -> Result<RedisOnline, FeatureError> {
        let target = Target::new(url, options)?;
        let threads =
            Builder::new_multi_thread().worker_threads(1).thread_name("online").enable_all().build();
        let runtime =
            threads.map_err(|e| FeatureError::Unavailable(format!("no thread for the online store: {e}")))?;
        let keys = keys::Keys::new(&options.prefix, options.partitions);
        let link = |within| Link::new(target.clone(), within);
        let writes = link(options.timeout * WRITES_TAKE);
        let writer = writer::Writer::new(writes, keys.clone(), &options.holder, options.lease);
        let cache = cache::Cache::new(options.cache_bytes, options.cache_age);
        let (reads, probe, here) = (link(options.timeout), link(options.timeout), runtime.handle().clone());
        Ok(RedisOnline {
            reader: Arc::new(reader::Reader::new(reads, keys, cache, probe, here)),
            writer: writer::start(writer, runtime.handle()),
            claim_within: options.claim_within,
            runtime: Some(runtime),
        })
    }

    /// Does something on the store's own threads and waits for it.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, FeatureError>> + Send + 'static,
    ) -> Result<T, FeatureError> {
        let stopped = || FeatureError::Unavailable("the online store stopped".into());
        let (tell, told) = mpsc::sync_channel(1);
        let runtime = self.runtime.as_ref().ok_or_else(stopped)?;
        runtime.spawn(async move {
            let _ = tell.send(work.await);
        });
        told.recv().map_err(|_| stopped())?
    }
}

/// [`check`], for those who may block.
pub fn check_now(url: &str, options: &OnlineOptions) -> Result<String, FeatureError> {
    let store = RedisOnline::open(url, options)?;
    let (url, options) = (url.to_owned(), options.clone());
    store.wait(async move { check(&url, &options).await })
}

impl Drop for RedisOnline {
    fn drop(&mut self) {
        // Threads that are waited for would block whoever drops this.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[async_trait]
impl OnlineStore for RedisOnline {
    async fn get_many(&self, keys: &[(&View, &str)]) -> Result<Vec<Found>, FeatureError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.reader.get_many(keys).await
    }

    fn put_many(&self, rows: Vec<OnlineRow>) -> Result<(), FeatureError> {
        let mut writes: BTreeMap<Partition, Vec<writer::Write>> = BTreeMap::new();
        for OnlineRow { view, entity, row } in rows {
            let partition = self.writer.keys.partition(&entity);
            let key = self.writer.keys.row(partition, &view, &entity);
            let row = match row {
                Some(row) => Some((row.header.next_offset, row.to_bytes()?)),
                None => None,
            };
            writes.entry(partition).or_default().push(writer::Write { key, ttl: ttl(&view), row });
        }
        if writes.is_empty() {
            return Ok(());
        }
        let writer = self.writer.clone();
        self.wait(async move { writer.put(writes).await })
    }

    async fn entities(&self, view: &View) -> Result<Vec<Arc<str>>, FeatureError> {
        let keys = &self.reader.keys;
        let found = scan::entities(&self.reader.link, keys, keys.pattern(None, Some(view), None)).await?;
        Ok(found.into_iter().map(Arc::from).collect())
    }

    fn claim(&self, state: &str, partitions: &[Partition]) -> Result<Position, FeatureError> {
        let (writer, within) = (self.writer.clone(), self.claim_within);
        let (state, partitions) = (state.to_owned(), partitions.to_vec());
        self.wait(async move { writer.claim(&state, &partitions, within).await })
    }

    fn clear(&self, partitions: &[Partition]) -> Result<(), FeatureError> {
        let (writer, partitions) = (self.writer.clone(), partitions.to_vec());
        self.wait(async move { writer.clear(&partitions).await })
    }

    fn advance(&self, position: &Position) -> Result<(), FeatureError> {
        let (writer, position) = (self.writer.clone(), position.clone());
        self.wait(async move { writer.advance(&position).await })
    }

    fn release(&self) {
        let writer = self.writer.clone();
        let released = self.wait(async move {
            writer.release().await;
            Ok(())
        });
        if let Err(e) = released {
            tracing::warn!(error = %e, "claims were not let go; they end with their lease");
        }
    }

    async fn applied(&self) -> Result<Position, FeatureError> {
        self.reader.applied().await
    }

    async fn erase(&self, entity: &str) -> Result<(), FeatureError> {
        self.forget(entity);
        let keys = &self.reader.keys;
        let pattern = keys.pattern(Some(keys.partition(entity)), None, Some(entity));
        scan::unlink(&self.reader.link, keys, pattern, None, Some(entity)).await
    }

    fn forget(&self, entity: &str) {
        self.reader.forget(entity);
    }
}

/// For how long a row of a view is kept after it was written, in milliseconds: as long as it can say anything.
/// 0 for good.
fn ttl(view: &View) -> i64 {
    let horizon = view.horizon();
    // What a slowly changing table says holds on, however old.
    if view.context_tables() > 0 || horizon >= TTL_LONGEST { 0 } else { horizon + TTL_MORE }
}
