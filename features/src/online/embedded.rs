//! The online store in this process's memory. It holds nothing of its own across restarts: the stream job
//! writes it again from its checkpoint. Rows share their events with the job's state.

use std::sync::Arc;

use parking_lot::RwLock;

use super::{OnlineRow, OnlineStore};
use crate::{error::FeatureError, row::Row, row_table::RowTable, view::View};

/// So many tables a view, each of which grows alone: none pauses long.
const SHARDS: usize = 64;

type Shard = RwLock<RowTable>;

/// See the module.
pub struct EmbeddedOnline {
    views: Vec<[Shard; SHARDS]>,
    hasher: ahash::RandomState,
}

impl EmbeddedOnline {
    /// An empty store for this many views.
    pub fn new(views: usize) -> Self {
        let empty = || std::array::from_fn(|_| Shard::default());
        EmbeddedOnline { views: (0..views).map(|_| empty()).collect(), hasher: ahash::RandomState::new() }
    }

    fn shard(&self, view: &View, entity: &str) -> Result<&Shard, FeatureError> {
        let shards = self.views.get(view.id as usize).ok_or_else(|| {
            FeatureError::Request(format!("the online store was opened without the view {}", view.name))
        })?;
        Ok(&shards[self.hasher.hash_one(entity) as usize % SHARDS])
    }
}

impl OnlineStore for EmbeddedOnline {
    fn get(&self, view: &View, entity: &str) -> Result<Option<Arc<Row>>, FeatureError> {
        Ok(self.shard(view, entity)?.read().get(entity).cloned())
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

    fn entities(&self, view: &View) -> Result<Vec<Arc<str>>, FeatureError> {
        let shards = self.views.get(view.id as usize).map(|s| s.iter()).unwrap_or_default();
        Ok(shards.flat_map(|s| s.read().iter().map(|r| r.entity.clone()).collect::<Vec<_>>()).collect())
    }
}
