//! Going through the keys of rows.

use futures::future::try_join_all;
use ingest::log::Partition;
use redis::{Value, cmd};

use super::{
    keys::Keys,
    link::Link,
    scripts,
    writer::{items, text_of},
};
use crate::error::FeatureError;

/// A walk through the keys that match; some may come twice.
struct Scan<'s> {
    link: &'s Link,
    keys: &'s Keys,
    pattern: Vec<u8>,
    /// Partitions whose servers are still to be asked. One server has them all; of a cluster's, each has some.
    servers: std::ops::Range<Partition>,
    cursor: Option<String>,
}

impl<'s> Scan<'s> {
    fn new(link: &'s Link, keys: &'s Keys, pattern: Vec<u8>) -> Scan<'s> {
        let servers = 0..if link.target.is_cluster() { keys.partitions } else { 1 };
        Scan { link, keys, pattern, servers, cursor: Some("0".to_owned()) }
    }

    /// The next of them; `None` after the last.
    async fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>, FeatureError> {
        let Some(cursor) = self.cursor.take() else { return Ok(None) };
        let mut command = cmd("EVAL");
        command.arg(scripts::SCAN).arg(1).arg(self.keys.applied(self.servers.start));
        command.arg(&cursor).arg(&self.pattern[..]);
        let mut step = items(self.link.ask(&command).await?).into_iter();
        let next = step.next().map(|c| text_of(&c)).unwrap_or_default();
        self.cursor = if next == "0" || next.is_empty() {
            self.servers.start += 1;
            (!self.servers.is_empty()).then(|| "0".to_owned())
        } else {
            Some(next)
        };
        let found = step.next().map(items).unwrap_or_default().into_iter();
        let bytes = |key| match key {
            Value::BulkString(key) => Some(key),
            _ => None,
        };
        Ok(Some(found.filter_map(bytes).collect()))
    }
}

/// The entities of keys that match, each once.
pub(super) async fn entities(
    link: &Link,
    keys: &Keys,
    pattern: Vec<u8>,
) -> Result<Vec<String>, FeatureError> {
    let mut scan = Scan::new(link, keys, pattern);
    let mut all = Vec::new();
    while let Some(found) = scan.next().await? {
        all.extend(found.iter().filter_map(|key| keys.parse(key)).map(|(_, entity)| entity.to_owned()));
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Takes rows out whose keys match and whose partition is among these and entity this one, where they are given.
pub(super) async fn unlink(
    link: &Link,
    keys: &Keys,
    pattern: Vec<u8>,
    partitions: Option<&[Partition]>,
    entity: Option<&str>,
) -> Result<(), FeatureError> {
    let wanted = |key: &[u8]| {
        keys.parse(key).is_some_and(|(partition, found)| {
            partitions.is_none_or(|p| p.contains(&partition)) && entity.is_none_or(|e| e == found)
        })
    };
    let mut scan = Scan::new(link, keys, pattern);
    while let Some(mut found) = scan.next().await? {
        found.retain(|key| wanted(key));
        // Each by itself: keys of a cluster's server are of many slots.
        let commands: Vec<_> = found.into_iter().map(|key| cmd("UNLINK").arg(key).to_owned()).collect();
        try_join_all(commands.iter().map(|command| link.ask(command))).await?;
    }
    Ok(())
}
