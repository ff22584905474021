//! Values from the tiles that another engine writes, beside an online store for the views it cannot hold.
//!
//! The tiles of a view and entity are one hash ([`TileStore`]); they are merged when the values are wanted
//! ([`crate::tiles`]). Tiles that no read needs any more are taken out by whoever reads their entity, a bounded number
//! each time: the engine that writes them deletes nothing.

use std::sync::Arc;

use async_trait::async_trait;
use ingest::{
    Clock, Millis,
    log::{Partition, Position},
};

use super::{EmbeddedOnline, Found, OnlineRow, OnlineStore};
use crate::{error::FeatureError, tiles::Tile, view::View};

/// Most tiles of an entity taken out at one read.
const MOST_REMOVED: usize = 512;

/// Tiles of one view and entity, each with its start, in no order.
pub type Tiles = Vec<(Millis, String)>;

/// Where tiles lie.
#[async_trait]
pub trait TileStore: Send + Sync + 'static {
    /// All tiles of many keys, in their order.
    ///
    /// # Errors
    /// `Unavailable` when they cannot be read in time.
    async fn tiles(&self, keys: &[(&View, &str)]) -> Result<Vec<Tiles>, FeatureError>;

    /// Puts tiles whole in the place of those there.
    ///
    /// # Errors
    /// `Unavailable` when they cannot be written in time; trying again is safe.
    async fn put(&self, view: &View, tiles: &[Tile]) -> Result<(), FeatureError>;

    /// Takes tiles of an entity out, or all of them.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    async fn remove(&self, view: &View, entity: &str, starts: Option<&[Millis]>) -> Result<(), FeatureError>;

    /// Entities that have tiles.
    ///
    /// # Errors
    /// As [`tiles`](Self::tiles).
    async fn entities(&self, view: &View) -> Result<Vec<Arc<str>>, FeatureError>;
}

/// An online store whose views come from tiles where tiles can hold them, and from another store where not. What the
/// stream job puts for the former goes nowhere.
pub struct TiledOnline {
    rows: Arc<dyn OnlineStore>,
    tiles: Arc<dyn TileStore>,
    views: Vec<Arc<View>>,
    clock: Clock,
}

impl TiledOnline {
    /// Of these views; `clock` tells which tiles are needed no more.
    pub fn new(
        rows: Arc<dyn OnlineStore>,
        tiles: Arc<dyn TileStore>,
        views: &[Arc<View>],
        clock: Clock,
    ) -> TiledOnline {
        let views = views.iter().filter(|v| v.tiling.is_ok()).cloned().collect();
        TiledOnline { rows, tiles, views, clock }
    }

    async fn tidy(&self, view: &View, entity: &str, tiles: &mut Tiles) {
        let oldest = view.oldest_tile((self.clock)());
        let expired = tiles.iter().map(|(start, _)| *start).filter(|start| *start < oldest);
        let expired: Vec<Millis> = expired.take(MOST_REMOVED).collect();
        if expired.is_empty() {
            return;
        }
        tiles.retain(|(start, _)| *start >= oldest);
        if let Err(e) = self.tiles.remove(view, entity, Some(&expired)).await {
            tracing::warn!(view = &*view.name, error = %e, "tiles that are needed no more were not taken out");
        }
    }
}

#[async_trait]
impl OnlineStore for TiledOnline {
    fn resident(&self) -> Option<&EmbeddedOnline> {
        None
    }

    async fn get_many(&self, keys: &[(&View, &str)]) -> Result<Vec<Found>, FeatureError> {
        let of_tiles = |key: &&(&View, &str)| key.0.tiling.is_ok();
        let (tiled, other): (Vec<_>, Vec<_>) = keys.iter().partition(of_tiles);
        let found = if other.is_empty() { Vec::new() } else { self.rows.get_many(&other).await? };
        let mut tiles = if tiled.is_empty() { Vec::new() } else { self.tiles.tiles(&tiled).await? };
        for ((view, entity), tiles) in tiled.iter().zip(&mut tiles) {
            self.tidy(view, entity, tiles).await;
        }
        let (mut found, mut tiles) = (found.into_iter(), tiles.into_iter());
        let answer = |key: &(&View, &str)| match key.0.tiling {
            Ok(_) => Found { tiles: tiles.next(), ..Found::default() },
            Err(_) => found.next().unwrap_or_default(),
        };
        Ok(keys.iter().map(answer).collect())
    }

    fn put_many(&self, mut rows: Vec<OnlineRow>) -> Result<(), FeatureError> {
        rows.retain(|r| r.view.tiling.is_err());
        self.rows.put_many(rows)
    }

    async fn entities(&self, view: &View) -> Result<Vec<Arc<str>>, FeatureError> {
        if view.tiling.is_ok() { self.tiles.entities(view).await } else { self.rows.entities(view).await }
    }

    fn claim(&self, state: &str, partitions: &[Partition]) -> Result<Position, FeatureError> {
        self.rows.claim(state, partitions)
    }

    fn clear(&self, partitions: &[Partition]) -> Result<(), FeatureError> {
        self.rows.clear(partitions)
    }

    fn advance(&self, position: &Position) -> Result<(), FeatureError> {
        self.rows.advance(position)
    }

    fn release(&self) {
        self.rows.release();
    }

    async fn applied(&self) -> Result<Position, FeatureError> {
        self.rows.applied().await
    }

    async fn erase(&self, entity: &str) -> Result<(), FeatureError> {
        for view in &self.views {
            self.tiles.remove(view, entity, None).await?;
        }
        self.rows.erase(entity).await
    }

    fn forget(&self, entity: &str) {
        self.rows.forget(entity);
    }
}
