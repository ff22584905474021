//! The online store of a process whose views come from tiles that Arroyo writes.

use std::sync::Arc;

use features::{
    FeatureError, Registry,
    online::{self, OnlineOptions, OnlineStore},
};
use ingest::Clock;

use crate::config::{Engine, Settings};

/// Opens the online store at `url`; with `stream.engine = "arroyo"` the views that tiles can hold are read from those,
/// unless the store is a local one of a command.
pub fn online(
    settings: &Settings,
    url: &str,
    options: &OnlineOptions,
    registry: &Registry,
    clock: &Clock,
) -> Result<Arc<dyn OnlineStore>, FeatureError> {
    let rows = online::open(url, options)?;
    if settings.stream.engine == Engine::Embedded || url == "embedded:" {
        return Ok(rows);
    }
    with_tiles(rows, url, options, registry, clock)
}

#[cfg(feature = "redis")]
fn with_tiles(
    rows: Arc<dyn OnlineStore>,
    url: &str,
    options: &OnlineOptions,
    registry: &Registry,
    clock: &Clock,
) -> Result<Arc<dyn OnlineStore>, FeatureError> {
    let tiles = Arc::new(online::redis::RedisTiles::open(url, options)?);
    Ok(Arc::new(online::tiles::TiledOnline::new(rows, tiles, registry.views(), clock.clone())))
}

#[cfg(not(feature = "redis"))]
fn with_tiles(
    rows: Arc<dyn OnlineStore>,
    _: &str,
    _: &OnlineOptions,
    _: &Registry,
    _: &Clock,
) -> Result<Arc<dyn OnlineStore>, FeatureError> {
    Ok(rows)
}
