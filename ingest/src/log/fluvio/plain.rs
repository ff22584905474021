//! Topics of other programs on the same cluster: made where they are missing, read from front to back.

use std::time::Duration;

use fluvio::metadata::topic::{CleanupPolicy, SegmentBasedPolicy, TopicSpec};

use super::{cluster::Cluster, connection::Trouble, fetch::Source, open::address};
use crate::{
    Millis,
    log::{FluvioOptions, LogError, Offset, Partition},
};

/// How often a new topic is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// A topic that is no log's.
pub struct PlainTopic {
    cluster: Cluster,
    name: String,
    sources: Vec<Source>,
    /// Where each partition goes on.
    next: Vec<Offset>,
}

/// A record of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainRecord {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// When its producer's batch was made.
    pub stamped: Millis,
    /// What was written.
    pub value: Vec<u8>,
}

impl PlainTopic {
    /// A topic of one partition on the cluster at `fluvio://host:port`, to be read from its begin; one that is missing
    /// is made and keeps its records for `keep`.
    ///
    /// # Errors
    /// `Unavailable` when the cluster does not answer in time, `Refused` for a URL that is none.
    pub async fn open(
        url: &str,
        options: &FluvioOptions,
        name: &str,
        keep: Duration,
    ) -> Result<PlainTopic, LogError> {
        let cluster = Cluster::new(address(url)?, options.tls.as_ref())?;
        let away = |why: &dyn std::fmt::Display| {
            LogError::Unavailable(format!("the topic `{name}` of Fluvio at {}: {why}", cluster.address()))
        };
        cluster.refresh().await.map_err(|e| away(&e))?;
        let mut made = Ok(());
        if cluster.leader(name, 0).is_none() {
            let mut spec = TopicSpec::new_computed(1, options.replication, None);
            let seconds = u32::try_from(keep.as_secs().max(10)).unwrap_or(u32::MAX);
            spec.set_cleanup_policy(CleanupPolicy::Segment(SegmentBasedPolicy { time_in_seconds: seconds }));
            let name = name.to_owned();
            // Another process may make it first: what counts is that it is there.
            made = cluster
                .ask(|admin| {
                    Box::pin(async move { admin.create(name, false, spec).await.map_err(|e| e.to_string()) })
                })
                .await;
        }
        let mut waited = Duration::ZERO;
        while cluster.leader(name, 0).is_none_or(|unit| unit < 0) {
            if waited >= options.patience {
                return Err(away(
                    &made.err().map_or("it was not made in time".to_owned(), |e| e.to_string()),
                ));
            }
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
            cluster.refresh().await.map_err(|e| away(&e))?;
        }
        let partitions = (0..).take_while(|p| cluster.leader(name, *p).is_some()).count();
        let sources = (0..partitions as Partition).map(|p| Source::new(name, p)).collect();
        Ok(PlainTopic { cluster, name: name.to_owned(), sources, next: vec![0; partitions] })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Goes on at this offset of a partition.
    pub fn seek(&mut self, partition: Partition, offset: Offset) {
        if let Some(next) = self.next.get_mut(partition as usize) {
            *next = offset;
        }
    }

    /// The records since the last call, some at a time; none at the end.
    ///
    /// # Errors
    /// `Unavailable` when a partition cannot be read; the next call goes on where this one began.
    pub async fn poll(&mut self) -> Result<Vec<PlainRecord>, LogError> {
        let mut found = Vec::new();
        let mut next = self.next.clone();
        for (partition, source) in self.sources.iter_mut().enumerate() {
            let fetched = source.fetch(&self.cluster, next[partition]).await.map_err(|e: Trouble| {
                LogError::Unavailable(format!(
                    "reading `{}` of Fluvio at {}: {e}",
                    self.name,
                    self.cluster.address()
                ))
            })?;
            next[partition] = fetched.next;
            found.extend(fetched.records.into_iter().map(|stored| PlainRecord {
                partition: partition as Partition,
                offset: stored.offset,
                stamped: stored.stamped,
                value: stored.record.value().as_ref().to_vec(),
            }));
        }
        self.next = next;
        Ok(found)
    }
}
