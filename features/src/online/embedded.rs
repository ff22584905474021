//! The online store in this process's memory. It holds nothing of its own across restarts: the stream job
//! writes it again from its checkpoint.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::RwLock;

use super::{OnlineRow, OnlineStore};
use crate::{error::FeatureError, row::Row, view::View};

const SHARDS: usize = 16;

type Shard = RwLock<HashMap<Arc<str>, Bytes, ahash::RandomState>>;

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
    fn get(&self, view: &View, entity: &str) -> Result<Option<Bytes>, FeatureError> {
        Ok(self.shard(view, entity)?.read().get(entity).cloned())
    }

    fn put_many(&self, rows: Vec<OnlineRow>) -> Result<(), FeatureError> {
        for row in rows {
            let mut shard = self.shard(&row.view, &row.entity)?.write();
            let Some(bytes) = row.bytes else {
                shard.remove(&row.entity);
                continue;
            };
            let stored =
                shard.get(&row.entity).and_then(|b| Row::parse(b, &row.view)).map(|r| r.header().next_offset);
            let offered = Row::parse(&bytes, &row.view).map(|r| r.header().next_offset);
            if offered >= stored {
                shard.insert(row.entity, bytes);
            }
        }
        Ok(())
    }

    fn entities(&self, view: &View) -> Result<Vec<Arc<str>>, FeatureError> {
        let shards = self.views.get(view.id as usize).map(|s| s.iter()).unwrap_or_default();
        Ok(shards.flat_map(|s| s.read().keys().cloned().collect::<Vec<_>>()).collect())
    }
}
