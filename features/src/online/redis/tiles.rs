//! Tiles as Arroyo's sink writes them: of each view and entity one hash, `<prefix>:tiles:<view>:<entity>`, with the start
//! of a tile in milliseconds for a field and its row for a value.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use ingest::Millis;
use redis::{Value, cmd};

use super::{
    link::{Link, Target, WRITES_TAKE},
    writer::{items, text_of},
};
use crate::{
    error::FeatureError,
    online::{
        OnlineOptions,
        tiles::{TileStore, Tiles},
    },
    tiles::{Tile, key_prefix},
    view::View,
};

/// Keys looked at in one step of a walk through all of them.
const STEP: usize = 1_000;

/// See the module.
pub struct RedisTiles {
    reads: Link,
    writes: Link,
    prefix: String,
}

impl RedisTiles {
    /// Tiles in the Redis of this URL, which need not be there yet.
    ///
    /// # Errors
    /// `Request` for settings that cannot be right.
    pub fn open(url: &str, options: &OnlineOptions) -> Result<RedisTiles, FeatureError> {
        let target = Target::new(url, options)?;
        Ok(RedisTiles {
            reads: Link::new(target.clone(), options.timeout),
            writes: Link::new(target, options.timeout * WRITES_TAKE),
            prefix: options.prefix.clone(),
        })
    }

    fn key(&self, view: &View, entity: &str) -> String {
        format!("{}{entity}", key_prefix(&self.prefix, &view.name))
    }
}

#[async_trait]
impl TileStore for RedisTiles {
    async fn tiles(&self, keys: &[(&View, &str)]) -> Result<Vec<Tiles>, FeatureError> {
        let ask = async |(view, entity): &(&View, &str)| {
            let answer = self.reads.ask(cmd("HGETALL").arg(self.key(view, entity))).await?;
            Ok::<_, FeatureError>(pairs(answer))
        };
        try_join_all(keys.iter().map(ask)).await
    }

    async fn put(&self, view: &View, tiles: &[Tile]) -> Result<(), FeatureError> {
        for of_one in tiles.chunk_by(|a, b| a.entity == b.entity) {
            let mut command = cmd("HSET");
            command.arg(self.key(view, &of_one[0].entity));
            for tile in of_one {
                command.arg(tile.start).arg(&tile.row);
            }
            self.writes.ask(&command).await?;
        }
        Ok(())
    }

    async fn remove(&self, view: &View, entity: &str, starts: Option<&[Millis]>) -> Result<(), FeatureError> {
        let mut command = cmd(if starts.is_some() { "HDEL" } else { "UNLINK" });
        command.arg(self.key(view, entity));
        for start in starts.into_iter().flatten() {
            command.arg(*start);
        }
        self.writes.ask(&command).await.map(drop)
    }

    async fn entities(&self, view: &View) -> Result<Vec<Arc<str>>, FeatureError> {
        if self.reads.target.is_cluster() {
            return Err(FeatureError::Request(format!(
                "the entities of {} are spread over a cluster of Redis and cannot be listed; name them",
                view.name
            )));
        }
        let begin = key_prefix(&self.prefix, &view.name);
        let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
        loop {
            let mut command = cmd("SCAN");
            command.arg(&cursor).arg("MATCH").arg(format!("{begin}*")).arg("COUNT").arg(STEP);
            let mut step = items(self.writes.ask(&command).await?).into_iter();
            cursor = step.next().map(|c| text_of(&c)).unwrap_or_default();
            let keys = step.next().map(items).unwrap_or_default();
            found.extend(keys.iter().filter_map(|k| text_of(k).strip_prefix(&begin).map(Arc::from)));
            if cursor == "0" || cursor.is_empty() {
                break;
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

/// The tiles of a hash; what is none, by the hand of another, is left out.
fn pairs(answer: Value) -> Tiles {
    let fields: Vec<(Value, Value)> = match answer {
        Value::Map(fields) => fields,
        other => {
            let flat = items(other);
            flat.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
        }
    };
    fields.iter().filter_map(|(start, row)| Some((text_of(start).parse().ok()?, text_of(row)))).collect()
}
