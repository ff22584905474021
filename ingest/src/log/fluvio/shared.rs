//! What writers, readers and followers of one log share.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use fluvio::dataplane::link::ErrorCode;
use parking_lot::{Mutex, RwLock};
use tokio::{
    runtime::{Handle, Runtime},
    sync::watch,
};

use super::{cluster::Cluster, connection::Trouble, consumers::Commits, erasures::Erased, keys::RecentKeys};
use crate::{
    Clock,
    catalogue::Catalogue,
    log::{LogError, LogOptions, Offset, Partition, Position, Topic},
};

/// One log on one cluster.
pub struct Shared {
    pub cluster: Cluster,
    pub options: LogOptions,
    pub catalogue: Arc<Catalogue>,
    pub clock: Clock,
    /// In the order of [`Topic::ALL`].
    pub topics: Vec<TopicState>,
    /// Where committed positions are kept.
    pub consumers: TopicState,
    pub commits: Mutex<Commits>,
    pub erased: RwLock<Erased>,
    /// Why the cluster did not answer when it was last asked; nothing if it did.
    pub away: Mutex<Option<Trouble>>,
    /// Whether it was told that an object is no record.
    pub told: AtomicBool,
}

/// One topic on the cluster.
pub struct TopicState {
    pub name: String,
    pub partitions: u32,
    /// The durable end of each partition.
    pub ends: watch::Sender<Vec<Offset>>,
    /// The oldest record kept of each partition.
    pub starts: Mutex<Vec<Offset>>,
    pub known: Mutex<Known>,
}

/// Idempotency keys of a topic.
pub struct Known {
    pub keys: RecentKeys,
    /// Of each partition, below which offset every key was noted.
    pub below: Vec<Offset>,
}

impl TopicState {
    pub fn new(name: String, partitions: u32, recent_keys: usize) -> TopicState {
        let count = partitions as usize;
        let known = Known { keys: RecentKeys::new(recent_keys), below: vec![0; count] };
        TopicState {
            name,
            partitions,
            ends: watch::Sender::new(vec![0; count]),
            starts: Mutex::new(vec![0; count]),
            known: Mutex::new(known),
        }
    }

    /// Notes that everything below `end` is durable.
    pub fn reached(&self, partition: Partition, end: Offset) {
        self.ends.send_if_modified(|ends| match ends.get_mut(partition as usize) {
            Some(known) if *known < end => {
                *known = end;
                true
            }
            _ => false,
        });
    }

    /// The durable end.
    pub fn end(&self) -> Position {
        Position(
            (0..).zip(self.ends.borrow().iter().copied()).collect::<HashMap<_, _>>().into_iter().collect(),
        )
    }
}

impl Shared {
    pub fn topic(&self, topic: Topic) -> &TopicState {
        &self.topics[topic as usize]
    }

    /// Every topic there is on the cluster.
    pub fn everything(&self) -> impl Iterator<Item = &TopicState> {
        self.topics.iter().chain([&self.consumers])
    }

    /// Says what is wrong with the cluster and what to do.
    pub fn unavailable(&self, trouble: &Trouble) -> LogError {
        let mend = match trouble {
            Trouble::Refused(
                ErrorCode::PartitionFull { .. }
                | ErrorCode::PartitionShortCircuited
                | ErrorCode::StorageError,
            ) => "give its processing units space on their disks and start them anew",
            _ => "check that the cluster runs and that log.url names its controller",
        };
        LogError::Unavailable(format!("Fluvio at {}: {trouble}; {mend}", self.cluster.address()))
    }

    /// Counts an object that is no record, and tells of the first.
    pub fn skip(&self, topic: &str, offset: Offset, why: &crate::event::NoRecord) {
        super::metrics::skipped(topic);
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                topic,
                offset,
                %why,
                "a record of another program is no valid signal and is left out; further ones are only counted"
            );
        }
    }
}

/// The runtime everything here runs on, so that nothing holds up the caller's.
pub struct Engine {
    runtime: Option<Runtime>,
    pub shared: Arc<Shared>,
}

impl Engine {
    pub fn new(runtime: Runtime, shared: Arc<Shared>) -> Engine {
        Engine { runtime: Some(runtime), shared }
    }

    /// Where tasks are started; nothing once it has shut down.
    pub fn handle(&self) -> Option<&Handle> {
        self.runtime.as_ref().map(Runtime::handle)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting is forbidden where this may be dropped.
            runtime.shutdown_background();
        }
    }
}
