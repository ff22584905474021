//! The online store in this process's memory. It holds nothing of its own across restarts: the stream job
//! writes it again from its checkpoint. Rows share their events with the job's state.

use std::sync::Arc;

use async_trait::async_trait;
use ingest::log::{Partition, Position};
use parking_lot::RwLock;

use super::{Found, OnlineRow, OnlineStore};
use crate::{error::FeatureError, row::Row, row_table::RowTable, view::View};

/// So many tables a view, each of which grows alone: none pauses long.
const SHARDS: usize = 64;

type Shard = RwLock<RowTable>;

/// See the module.
pub struct EmbeddedOnline {
    views: Vec<[Shard; SHARDS]>,
    hasher: ahash::RandomState,
    /// What the rows come from, and how far they are.
    applied: RwLock<(String, Position)>,
}

impl EmbeddedOnline {
    /// An empty store for this many views.
    pub fn new(views: usize) -> Self {
        let empty = || std::array::from_fn(|_| Shard::default());
        EmbeddedOnline {
            views: (0..views).map(|_| empty()).collect(),
            hasher: ahash::RandomState::new(),
            applied: RwLock::default(),
        }
    }

    /// The row of one entity.
    pub fn get(&self, view: &View, entity: &str) -> Result<Option<Arc<Row>>, FeatureError> {
        Ok(self.shard(view, entity)?.read().get(entity).cloned())
    }

    fn shard(&self, view: &View, entity: &str) -> Result<&Shard, FeatureError> {
        let shards = self.views.get(view.id as usize).ok_or_else(|| {
            FeatureError::Request(format!("the online store was opened without the view {}", view.name))
        })?;
        Ok(&shards[self.shard_of(entity)])
    }

    fn shard_of(&self, entity: &str) -> usize {
        self.hasher.hash_one(entity) as usize % SHARDS
    }
}

#[async_trait]
impl OnlineStore for EmbeddedOnline {
    fn resident(&self) -> Option<&EmbeddedOnline> {
        Some(self)
    }

    async fn get_many(&self, keys: &[(&View, &str)]) -> Result<Vec<Found>, FeatureError> {
        keys.iter()
            .map(|(view, entity)| Ok(Found { row: self.get(view, entity)?, ..Found::default() }))
            .collect()
    }

    fn put_many(&self, rows: Vec<OnlineRow>) -> Result<(), FeatureError> {
        for OnlineRow { view, entity, row } in rows {
            let mut shard = self.shard(&view, &entity)?.write();
            let Some(row) = row else {
                shard.remove(&entity);
                continue;
            };
            let newer = shard.get(&entity).is_some_and(|stored| {
                stored.header.version == view.version && stored.header.next_offset > row.header.next_offset
            });
            if !newer {
                shard.insert(row);
            }
        }
        Ok(())
    }

    async fn entities(&self, view: &View) -> Result<Vec<Arc<str>>, FeatureError> {
        let shards = self.views.get(view.id as usize).map(|s| s.iter()).unwrap_or_default();
        Ok(shards.flat_map(|s| s.read().iter().map(|r| r.entity.clone()).collect::<Vec<_>>()).collect())
    }

    /// Nobody else can write here. What this process has put is still there.
    fn claim(&self, state: &str, partitions: &[Partition]) -> Result<Position, FeatureError> {
        let mut applied = self.applied.write();
        if applied.0 != state {
            *applied = (state.to_owned(), Position::default());
        }
        let whole = applied.1.0.iter().filter(|(p, _)| partitions.contains(p));
        Ok(Position(whole.map(|(p, o)| (*p, *o)).collect()))
    }

    fn clear(&self, partitions: &[Partition]) -> Result<(), FeatureError> {
        self.applied.write().1.0.retain(|p, _| !partitions.contains(p));
        for shard in self.views.iter().flatten() {
            let mut shard = shard.write();
            let gone = shard.iter().filter(|r| partitions.contains(&r.header.partition));
            let gone: Vec<_> = gone.map(|r| r.entity.clone()).collect();
            gone.iter().for_each(|entity| drop(shard.remove(entity)));
        }
        Ok(())
    }

    fn advance(&self, position: &Position) -> Result<(), FeatureError> {
        self.applied.write().1.0.extend(position.0.iter().map(|(p, o)| (*p, *o)));
        Ok(())
    }

    async fn applied(&self) -> Result<Position, FeatureError> {
        Ok(self.applied.read().1.clone())
    }

    async fn erase(&self, entity: &str) -> Result<(), FeatureError> {
        let shard = self.shard_of(entity);
        self.views.iter().for_each(|shards| drop(shards[shard].write().remove(entity)));
        Ok(())
    }
}
