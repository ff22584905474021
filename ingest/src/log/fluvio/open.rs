//! Opening: the topics, where they end, who was erased, what was committed; then the tasks that keep it so.

use std::{
    sync::{Arc, mpsc as std_mpsc},
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, mpsc};

use super::{
    FluvioLog, Queue, ROOM_UNIT,
    cluster::Cluster,
    consumers::{self, Commits, LOOK_BACK},
    ends::Ends,
    erasures::{self, Erased},
    follow::Follower,
    shared::{Engine, Shared, TopicState},
    topics,
    writer::{Target, Writer},
};
use crate::log::{LogError, LogOptions, Topic};

/// Threads for connections, decoding and encoding.
const THREADS: usize = 2;
/// Longest prefix: Fluvio takes names of 63 characters.
const MOST_PREFIX: usize = 48;
/// Pause between two attempts to reach the cluster.
const PAUSE: Duration = Duration::from_millis(200);

pub fn open(url: &str, options: LogOptions) -> Result<FluvioLog, LogError> {
    let address = address(url)?;
    let missing = |what: &str| LogError::Refused(format!("a log on Fluvio needs {what} in its options"));
    let catalogue = options.catalogue.clone().ok_or_else(|| missing("the catalogue"))?;
    let clock = options.clock.clone().ok_or_else(|| missing("a clock"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("fluvio-log")
        .enable_all()
        .build()
        .map_err(|e| LogError::Unavailable(format!("cannot start threads: {e}")))?;
    let fluvio = &options.fluvio;
    let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !(1..=MOST_PREFIX).contains(&fluvio.topic_prefix.len()) || !fluvio.topic_prefix.chars().all(named) {
        return Err(LogError::Refused(format!(
            "log.topic_prefix: `{}` must be 1 to {MOST_PREFIX} lowercase letters, digits and hyphens, as Fluvio \
             names topics",
            fluvio.topic_prefix
        )));
    }
    let state = |name: &str, partitions| {
        TopicState::new(format!("{}-{name}", fluvio.topic_prefix), partitions, fluvio.recent_keys)
    };
    let partitions = |topic| if topic == Topic::Signals { options.partitions } else { 1 };
    let shared = Arc::new(Shared {
        cluster: Cluster::new(address, fluvio.tls.as_ref())?,
        topics: Topic::ALL.into_iter().map(|topic| state(topic.name(), partitions(topic))).collect(),
        consumers: state("consumers", 1),
        commits: parking_lot::Mutex::new(Commits::default()),
        erased: parking_lot::RwLock::new(Erased::default()),
        away: parking_lot::Mutex::new(None),
        told: false.into(),
        options,
        catalogue,
        clock,
    });
    let engine = Arc::new(Engine::new(runtime, shared.clone()));
    let handle = engine.handle().ok_or_else(|| super::closed(()))?;
    let (done, wait) = std_mpsc::channel();
    // The caller may stand on a runtime, which must not be entered twice; a plain channel does not care.
    handle.spawn(async move {
        let _ = done.send(prepare(shared).await);
    });
    let remarks = wait.recv().map_err(super::closed)??;
    let (running, writing) = std_mpsc::channel::<()>();
    let units = engine.shared.options.queue_bytes.div_ceil(ROOM_UNIT).max(1);
    let topics = Topic::ALL.into_iter().map(Target::Topic).chain([Target::Consumers]);
    let queues = topics.map(|topic| {
        let (jobs, queue) = mpsc::unbounded_channel();
        let (writer, running) = (Writer::new(engine.shared.clone(), topic), running.clone());
        handle.spawn(async move {
            writer.run(queue).await;
            drop(running);
        });
        Queue { jobs, room: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))) }
    });
    let queues = queues.collect();
    Ok(FluvioLog { queues, writing: std::sync::Mutex::new(writing), remarks, engine })
}

/// `host:port` of `fluvio://host:port`.
pub(super) fn address(url: &str) -> Result<&str, LogError> {
    let address = url.strip_prefix("fluvio://").map(|rest| rest.trim_end_matches('/'));
    let port = |address: &str| {
        address.rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok())
    };
    address.filter(|address| port(address) && !address.contains(['@', '/'])).ok_or_else(|| {
        LogError::Refused(
            "log.url: write `fluvio://host:port`, the address of the cluster's controller".into(),
        )
    })
}

/// Waits for the cluster and reads what must be known; starts to follow it.
async fn prepare(shared: Arc<Shared>) -> Result<Vec<String>, LogError> {
    let deadline = Instant::now() + shared.options.fluvio.patience;
    while let Err(trouble) = shared.cluster.refresh().await {
        if Instant::now() >= deadline {
            return Err(shared.unavailable(&trouble));
        }
        tokio::time::sleep(PAUSE).await;
    }
    let remarks = topics::ensure(&shared, deadline + shared.options.fluvio.patience).await?;
    let mut ends = Ends::new(shared.clone());
    loop {
        match ends.look().await {
            Ok(_) => break,
            Err(trouble) if Instant::now() >= deadline => return Err(shared.unavailable(&trouble)),
            Err(_) => tokio::time::sleep(PAUSE / 4).await,
        }
    }
    let mut erasures =
        Follower::new(shared.clone(), |shared| shared.topic(Topic::Erasures), erasures::take, 0);
    let end = shared.consumers.ends.borrow().first().copied().unwrap_or(0);
    let from = end.saturating_sub(LOOK_BACK);
    let mut commits = Follower::new(shared.clone(), |shared| &shared.consumers, consumers::take, from);
    for follower in [&mut erasures, &mut commits] {
        follower.catch_up().await.map_err(|trouble| shared.unavailable(&trouble))?;
    }
    tokio::spawn(ends.follow());
    tokio::spawn(erasures.follow());
    tokio::spawn(commits.follow());
    Ok(remarks)
}
