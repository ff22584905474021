//! Reading: the rows of a question in one round trip, and what was read before while Redis is away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use ingest::log::{Partition, Position};
use metrics::{counter, gauge};
use parking_lot::Mutex;
use redis::{Value, cmd};

use super::{cache::Cache, keys::Keys, link::Link};
use crate::{
    error::FeatureError,
    online::{
        Found,
        metrics::{AWAY, STALE},
    },
    row::{Row, version_in},
    view::View,
};

/// Keys in one command at most.
const KEYS: usize = 1_024;
/// Pause before it is asked again whether Redis is back; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Reads rows of any partition.
pub(super) struct Reader {
    pub link: Link,
    pub keys: Keys,
    cache: Mutex<Cache>,
    away: AtomicBool,
    /// Why it is away.
    why: Mutex<String>,
    /// Asks whether it is back, on threads that are always there.
    probe: Arc<Link>,
    runtime: tokio::runtime::Handle,
}

/// A row as it came.
struct Answer {
    /// `None` where the partition is not whole.
    found: Option<(Option<Arc<Row>>, usize)>,
}

impl Reader {
    pub fn new(link: Link, keys: Keys, cache: Cache, probe: Link, runtime: tokio::runtime::Handle) -> Reader {
        let (away, why) = Default::default();
        Reader { link, keys, cache: Mutex::new(cache), away, why, probe: Arc::new(probe), runtime }
    }

    /// See [`OnlineStore::get_many`](crate::online::OnlineStore::get_many).
    pub async fn get_many(self: &Arc<Self>, keys: &[(&View, &str)]) -> Result<Vec<Found>, FeatureError> {
        let places: Vec<Partition> = keys.iter().map(|(_, entity)| self.keys.partition(entity)).collect();
        let names: Vec<String> =
            keys.iter().zip(&places).map(|((view, entity), p)| self.keys.row(*p, view, entity)).collect();
        if !self.away.load(Relaxed) {
            match self.fetch(keys, &places, &names).await {
                Ok(answers) => return self.take(answers, names),
                Err(FeatureError::Unavailable(why)) => self.went_away(why),
                Err(e) => return Err(e),
            }
        }
        let (cache, now) = (self.cache.lock(), Instant::now());
        let remembered =
            names.iter().map(|name| Some(Found { row: cache.get(name, now)?, stale: true, tiles: None }));
        let remembered: Option<Vec<Found>> = remembered.collect();
        counter!(STALE).increment(remembered.as_ref().map_or(0, |rows| rows.len() as u64));
        remembered.ok_or_else(|| {
            let why = self.why.lock();
            FeatureError::Unavailable(format!("{why}; the values were not read here lately"))
        })
    }

    /// Forgets an entity.
    pub fn forget(&self, entity: &str) {
        let of = |key: &str| self.keys.parse(key.as_bytes()).is_some_and(|(_, e)| e == entity);
        self.cache.lock().forget(of);
    }

    /// How far the rows of each partition are.
    pub async fn applied(&self) -> Result<Position, FeatureError> {
        self.applied_by(&self.link).await
    }

    async fn applied_by(&self, link: &Link) -> Result<Position, FeatureError> {
        let mut command = cmd("MGET");
        for partition in 0..self.keys.partitions {
            command.arg(self.keys.applied(partition));
        }
        let values = super::writer::items(link.ask(&command).await?);
        let next = |value: &Value| super::writer::text_of(value).parse().ok();
        let each = (0..).zip(&values).filter_map(|(p, value)| Some((p, next(value)?)));
        Ok(Position(each.collect()))
    }

    async fn fetch(
        &self,
        keys: &[(&View, &str)],
        places: &[Partition],
        names: &[String],
    ) -> Result<Vec<Answer>, FeatureError> {
        let pieces = keys.chunks(KEYS).zip(places.chunks(KEYS)).zip(names.chunks(KEYS));
        if keys.len() <= KEYS {
            return self.fetch_piece(keys, places, names).await;
        }
        let pieces = pieces.map(|((keys, places), names)| self.fetch_piece(keys, places, names));
        Ok(try_join_all(pieces).await?.into_iter().flatten().collect())
    }

    /// One command: the applied offset of each partition, then the rows.
    async fn fetch_piece(
        &self,
        keys: &[(&View, &str)],
        places: &[Partition],
        names: &[String],
    ) -> Result<Vec<Answer>, FeatureError> {
        let mut partitions: Vec<Partition> = places.to_vec();
        partitions.sort_unstable();
        partitions.dedup();
        let mut command = cmd("MGET");
        for partition in &partitions {
            command.arg(self.keys.applied(*partition));
        }
        command.arg(names);
        let values = super::writer::items(self.link.ask(&command).await?);
        if values.len() != partitions.len() + names.len() {
            return Err(FeatureError::Damaged(format!(
                "Redis at {} answered {} values to {} keys",
                self.link.target.shown,
                values.len(),
                partitions.len() + names.len()
            )));
        }
        let (applied, rows) = values.split_at(partitions.len());
        let whole = |p: Partition| {
            partitions.binary_search(&p).is_ok_and(|i| matches!(applied[i], Value::BulkString(_)))
        };
        let answers = keys.iter().zip(places).zip(rows).map(|(((view, entity), place), value)| {
            let found = match value {
                _ if !whole(*place) => None,
                Value::BulkString(bytes) => Some((self.parse(bytes, view, entity)?, bytes.len())),
                _ => Some((None, 0)),
            };
            Ok(Answer { found })
        });
        answers.collect()
    }

    fn parse(&self, bytes: &[u8], view: &View, entity: &str) -> Result<Option<Arc<Row>>, FeatureError> {
        match Row::parse(bytes, view, entity.into()) {
            Some(row) => Ok(Some(Arc::new(row))),
            // Another version's says nothing about this one.
            None if version_in(bytes).is_some_and(|version| version != view.version) => Ok(None),
            None => Err(FeatureError::Damaged(format!(
                "a row of the view {} in Redis at {} is not as Kairos wrote it; delete its key and start the \
                 stream job with an empty store",
                view.name, self.link.target.shown
            ))),
        }
    }

    /// Remembers what was read; what is not whole comes from what was read before.
    fn take(&self, answers: Vec<Answer>, names: Vec<String>) -> Result<Vec<Found>, FeatureError> {
        let (mut cache, now) = (self.cache.lock(), Instant::now());
        let found = answers.into_iter().zip(names).map(|(answer, name)| match answer.found {
            Some((row, bytes)) => {
                cache.put(name, row.clone(), bytes, now);
                Ok(Found { row, ..Found::default() })
            }
            None => match cache.get(&name, now) {
                Some(row) => Ok(Found { row, stale: true, tiles: None }),
                None => Err(FeatureError::Unavailable(format!(
                    "Redis at {} does not have all rows yet: the stream job is filling it, or does not run",
                    self.link.target.shown
                ))),
            },
        });
        found.collect()
    }

    /// Answers from what was read before until Redis is back.
    fn went_away(self: &Arc<Self>, why: String) {
        *self.why.lock() = why;
        if self.away.swap(true, Relaxed) {
            return;
        }
        gauge!(AWAY).set(1.0);
        tracing::warn!(why = %self.why.lock(), "the online store is away; answers come from rows read before, marked stale");
        let this = Arc::downgrade(self);
        self.runtime.spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
                let Some(reader) = this.upgrade() else { return };
                // What a read asks first, of every server that has some.
                match reader.applied_by(&reader.probe).await {
                    Ok(_) => {
                        tracing::info!("the online store is back");
                        reader.away.store(false, Relaxed);
                        gauge!(AWAY).set(0.0);
                        return;
                    }
                    Err(e) => *reader.why.lock() = e.to_string(),
                }
            }
        });
    }
}
