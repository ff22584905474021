//! Topics: made where they are missing, checked where they are there.

use std::time::{Duration, Instant};

use fluvio::metadata::topic::{
    CleanupPolicy, CompressionAlgorithm, SegmentBasedPolicy, TopicSpec, TopicStorageConfig,
};

use super::{
    cluster::Cluster,
    connection::Trouble,
    shared::{Shared, TopicState},
};
use crate::log::{Compression, LogError, LogOptions, Topic};

/// Retention of a topic that is kept for good: the longest there is, about 136 years.
const FOR_GOOD: u32 = u32::MAX;
/// Size of a partition without a bound, 1 PiB. Fluvio's own default would drop records beyond 100 GB.
const UNBOUNDED: u64 = 1 << 50;
/// Bytes that committed positions may take, and of one of their segments.
const CONSUMERS: (u64, u32) = (128 << 20, 16 << 20);
/// Fluvio keeps nothing for less.
const LEAST_SECONDS: u64 = 10;

/// What a topic must be like.
struct Wanted {
    name: String,
    partitions: u32,
    seconds: u32,
    bytes: u64,
    segment: u32,
}

impl Wanted {
    fn of(topic: Topic, state: &TopicState, options: &LogOptions) -> Wanted {
        let aged = matches!(topic, Topic::Signals | Topic::Rewards);
        let seconds = options
            .retain_age
            .filter(|_| aged)
            .map_or(FOR_GOOD, |age| u32::try_from(age.as_secs().max(LEAST_SECONDS)).unwrap_or(FOR_GOOD));
        let segment = options.segment_bytes.clamp(1 << 20, 1 << 30);
        let bytes = options.retain_bytes.filter(|_| aged);
        let bytes = bytes.map_or(UNBOUNDED, |bytes| (bytes / u64::from(state.partitions)).max(2 * segment));
        let segment = u32::try_from(segment).unwrap_or(1 << 30);
        Wanted { name: state.name.clone(), partitions: state.partitions, seconds, bytes, segment }
    }

    fn spec(&self, options: &LogOptions) -> TopicSpec {
        let mut spec = TopicSpec::new_computed(self.partitions, options.fluvio.replication, None);
        spec.set_cleanup_policy(CleanupPolicy::Segment(SegmentBasedPolicy { time_in_seconds: self.seconds }));
        spec.set_storage(TopicStorageConfig {
            segment_size: Some(self.segment),
            max_partition_size: Some(self.bytes),
        });
        spec
    }
}

fn wanted(shared: &Shared) -> Vec<Wanted> {
    let topics = Topic::ALL.into_iter().map(|topic| Wanted::of(topic, shared.topic(topic), &shared.options));
    let state = &shared.consumers;
    let consumers = Wanted {
        name: state.name.clone(),
        partitions: 1,
        seconds: FOR_GOOD,
        bytes: CONSUMERS.0,
        segment: CONSUMERS.1,
    };
    topics.chain([consumers]).collect()
}

/// Makes the topics that are missing.
///
/// # Errors
/// [`LogError::Refused`] naming the setting that a topic there is contradicts.
pub async fn ensure(shared: &Shared, deadline: Instant) -> Result<Vec<String>, LogError> {
    let mut remarks = Vec::new();
    let there = list(&shared.cluster).await.map_err(|trouble| shared.unavailable(&trouble))?;
    for wanted in wanted(shared) {
        match there.iter().find(|(name, _)| *name == wanted.name) {
            Some((_, spec)) => remarks.extend(check(&wanted, spec, shared)?),
            None => make(shared, &wanted, deadline).await?,
        }
    }
    Ok(remarks)
}

async fn list(cluster: &Cluster) -> Result<Vec<(String, TopicSpec)>, Trouble> {
    let all = cluster
        .ask(|admin| Box::pin(async move { admin.all::<TopicSpec>().await.map_err(|e| e.to_string()) }))
        .await?;
    Ok(all.into_iter().map(|topic| (topic.name, topic.spec)).collect())
}

/// Compares a topic with the settings: an error where records would be lost or misplaced, else remarks.
fn check(wanted: &Wanted, spec: &TopicSpec, shared: &Shared) -> Result<Vec<String>, LogError> {
    let (name, found) = (&wanted.name, spec.partitions());
    if found != wanted.partitions {
        let setting = if *name == shared.topic(Topic::Signals).name {
            format!("log.partitions = {}: set it to {found}", wanted.partitions)
        } else {
            "it must have 1: delete it".to_owned()
        };
        return Err(LogError::Refused(format!(
            "the topic `{name}` has {found} partitions; {setting}, or choose another log.topic_prefix"
        )));
    }
    let allowed = match spec.get_compression_type() {
        CompressionAlgorithm::Any => None,
        CompressionAlgorithm::None => Some(Compression::None),
        CompressionAlgorithm::Gzip => Some(Compression::Gzip),
        CompressionAlgorithm::Snappy => Some(Compression::Snappy),
        CompressionAlgorithm::Lz4 => Some(Compression::Lz4),
        CompressionAlgorithm::Zstd => Some(Compression::Zstd),
    };
    if let Some(only) = allowed.filter(|only| *only != shared.options.fluvio.compression) {
        return Err(LogError::Refused(format!(
            "the topic `{name}` takes the compression `{only:?}` alone; set log.compression to that"
        )));
    }
    let mut remarks = Vec::new();
    if spec.retention_secs() != wanted.seconds {
        remarks.push(format!(
            "the topic `{name}` keeps records for {} s, the settings say {}: Fluvio changes no retention of a topic \
             that is there; set retention.days so, or make the topic anew",
            spec.retention_secs(),
            if wanted.seconds == FOR_GOOD { "for good".to_owned() } else { format!("{} s", wanted.seconds) }
        ));
    }
    if let Some(copies) =
        spec.replication_factor().filter(|copies| *copies != shared.options.fluvio.replication)
    {
        remarks.push(format!(
            "the topic `{name}` has {copies} copies, log.replication says {}; set it so, or make the topic anew",
            shared.options.fluvio.replication
        ));
    }
    Ok(remarks)
}

async fn make(shared: &Shared, wanted: &Wanted, deadline: Instant) -> Result<(), LogError> {
    let (name, spec) = (wanted.name.clone(), wanted.spec(&shared.options));
    let made = shared
        .cluster
        .ask(|admin| {
            Box::pin(async move { admin.create(name, false, spec).await.map_err(|e| e.to_string()) })
        })
        .await;
    let mut pause = Duration::from_millis(20);
    // Another process may have made it first; and it counts once its partitions have leaders.
    loop {
        shared.cluster.refresh().await.map_err(|trouble| shared.unavailable(&trouble))?;
        let leads = |partition| shared.cluster.leader(&wanted.name, partition).is_some_and(|unit| unit >= 0);
        if (0..wanted.partitions).all(leads) {
            tracing::info!(topic = wanted.name, partitions = wanted.partitions, "made a topic on Fluvio");
            return Ok(());
        }
        if Instant::now() >= deadline {
            let why = made.err().map(|e| format!(": {e}")).unwrap_or_default();
            return Err(LogError::Unavailable(format!(
                "the topic `{}` with {} partitions and {} copies of each was not made{why}; log.replication must \
                 not be more than the cluster has processing units",
                wanted.name, wanted.partitions, shared.options.fluvio.replication
            )));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(300));
    }
}
