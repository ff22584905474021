//! The writer of a topic: everything that waits goes out together, one batch to each partition at once.

use std::{sync::Arc, time::Instant};

use futures::future::join_all;
use hashbrown::HashMap;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    backoff::Backoff,
    connection::Trouble,
    fetch::Source,
    lane::Lane,
    metrics,
    parcel::Outgoing,
    shared::{Shared, TopicState},
};
use crate::{
    event,
    log::{Appended, LogError, Offset, Partition, Topic, partition_of},
};

/// No more callers join a group once it has this many bytes.
const GROUP_BYTES: usize = 8 << 20;
/// How long what others append may stay unread: our own is noted by then and need not be read.
const OTHERS: std::time::Duration = std::time::Duration::from_millis(50);

/// The records of one caller.
pub struct Job {
    pub records: Vec<Outgoing>,
    pub reply: oneshot::Sender<Result<Vec<Appended>, LogError>>,
    /// After that the caller is told that nothing is known.
    pub deadline: Instant,
    /// The caller's share of the bounded queue, given back when the job is done.
    pub room: OwnedSemaphorePermit,
}

/// Writes one topic.
pub struct Writer {
    shared: Arc<Shared>,
    topic: Target,
    lanes: Vec<Lane>,
    /// Whether the keys at the end of the topic were read.
    filled: bool,
    others: Option<tokio::task::JoinHandle<()>>,
}

/// Which topic is written.
#[derive(Clone, Copy)]
pub enum Target {
    /// One of the log's.
    Topic(Topic),
    /// Committed positions.
    Consumers,
}

impl Target {
    fn state(self, shared: &Shared) -> &TopicState {
        match self {
            Target::Topic(topic) => shared.topic(topic),
            Target::Consumers => &shared.consumers,
        }
    }
}

/// Where a record of a group comes from: the job, and its place there.
type Place = (usize, usize);

impl Writer {
    pub fn new(shared: Arc<Shared>, topic: Target) -> Writer {
        Writer { shared, topic, lanes: Vec::new(), filled: false, others: None }
    }

    /// Writes until the queue is closed.
    pub async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Job>) {
        let linger = self.shared.options.fluvio.linger;
        while let Some(first) = queue.recv().await {
            if !linger.is_zero() {
                tokio::time::sleep(linger).await;
            }
            let mut bytes = size(&first);
            let mut group = vec![first];
            while bytes < GROUP_BYTES
                && let Ok(job) = queue.try_recv()
            {
                bytes += size(&job);
                group.push(job);
            }
            let started = Instant::now();
            let answers = self.commit(&mut group).await;
            if let Target::Topic(topic) = self.topic {
                metrics::answered(topic, started.elapsed(), &answers);
            }
            for (job, answer) in group.into_iter().zip(answers) {
                drop(job.room);
                // A caller that went away has no use for its answer.
                let _ = job.reply.send(answer);
            }
        }
        if let Some(others) = self.others {
            others.abort();
        }
    }

    async fn commit(&mut self, group: &mut [Job]) -> Vec<Result<Vec<Appended>, LogError>> {
        let deadline = group.iter().map(|job| job.deadline).min().unwrap_or_else(Instant::now);
        let shared = self.shared.clone();
        let state = self.topic.state(&shared);
        if let Err(error) = self.prepare(state, deadline).await {
            return vec![Err(error); group.len()];
        }
        let plan = Plan::of(group, state);
        let Plan { parts, places, repeats } = plan;
        let writing = self.lanes.iter_mut().zip(parts).map(|(lane, records)| {
            let shared = &shared;
            async move {
                match records.is_empty() {
                    true => Vec::new(),
                    false => lane.append(shared, state, records, deadline).await,
                }
            }
        });
        let written = join_all(writing).await;
        let mut outcomes: Vec<Vec<Result<Appended, LogError>>> =
            group.iter().map(|job| vec![Ok(Appended::Duplicate); job.records.len()]).collect();
        for (partition, (places, written)) in (0..).zip(places.into_iter().zip(written)) {
            for ((job, i), outcome) in places.into_iter().zip(written) {
                outcomes[job][i] = outcome.map(|offset: Offset| Appended::At(partition, offset));
            }
        }
        for ((job, i), (first_job, first)) in repeats {
            // A repeat is one only if its first copy is there.
            if let Err(error) = outcomes[first_job][first].clone() {
                outcomes[job][i] = Err(error);
            }
        }
        outcomes.into_iter().map(|outcomes| outcomes.into_iter().collect()).collect()
    }

    /// Knows the keys at the end of the topic, and what became of every request before.
    async fn prepare(&mut self, state: &TopicState, deadline: Instant) -> Result<(), LogError> {
        let shared = self.shared.clone();
        if !self.filled {
            self.lanes = join_all((0..state.partitions).map(|partition| fill(&shared, state, partition)))
                .await
                .into_iter()
                .collect::<Result<_, Trouble>>()
                .map_err(|trouble| shared.unavailable(&trouble))?;
            self.filled = true;
            self.others = Some(tokio::spawn(follow_others(shared.clone(), self.topic)));
        }
        let settling = self.lanes.iter_mut().map(|lane| lane.settle(&shared, state, deadline));
        join_all(settling).await.into_iter().collect()
    }
}

/// What of a group goes where.
struct Plan {
    /// Records of each partition.
    parts: Vec<Vec<Outgoing>>,
    /// Where they come from.
    places: Vec<Vec<Place>>,
    /// Records whose key another one of the group has, and that one.
    repeats: Vec<(Place, Place)>,
}

impl Plan {
    fn of(group: &mut [Job], state: &TopicState) -> Plan {
        let count = state.partitions as usize;
        let mut plan = Plan {
            parts: (0..count).map(|_| Vec::new()).collect(),
            places: vec![Vec::new(); count],
            repeats: Vec::new(),
        };
        let known = state.known.lock();
        let mut taken: HashMap<u128, Place> = HashMap::new();
        for (j, job) in group.iter_mut().enumerate() {
            for (i, record) in job.records.iter_mut().enumerate() {
                if record.key != 0 {
                    if known.keys.contains(record.key) {
                        continue;
                    }
                    if let Some(first) = taken.get(&record.key) {
                        plan.repeats.push(((j, i), *first));
                        continue;
                    }
                    taken.insert(record.key, (j, i));
                }
                let partition = partition_of(&record.subject, state.partitions) as usize;
                plan.places[partition].push((j, i));
                plan.parts[partition].push(Outgoing {
                    subject: std::mem::take(&mut record.subject),
                    key: record.key,
                    value: std::mem::take(&mut record.value),
                });
            }
        }
        plan
    }
}

fn size(job: &Job) -> usize {
    job.records.iter().map(|record| record.value.len() + record.subject.len()).sum()
}

/// Reads the keys at the end of a partition.
async fn fill(shared: &Shared, state: &TopicState, partition: Partition) -> Result<Lane, Trouble> {
    let index = partition as usize;
    let end = state.ends.borrow()[index];
    let share = (shared.options.fluvio.recent_keys / state.partitions.max(1) as usize) as Offset;
    let from = end.saturating_sub(share).max(state.starts.lock()[index]);
    let seen = read_keys(shared, state, partition, from, end).await?;
    state.known.lock().below[index] = seen;
    Ok(Lane::new(partition, seen))
}

/// Notes the keys of a stretch; where it ended.
async fn read_keys(
    shared: &Shared,
    state: &TopicState,
    partition: Partition,
    from: Offset,
    end: Offset,
) -> Result<Offset, Trouble> {
    let mut source = Source::new(&state.name, partition);
    let mut next = from;
    while next < end {
        let fetched = source.fetch(&shared.cluster, next).await?;
        if fetched.next == next {
            break;
        }
        let keys: Vec<u128> =
            fetched.records.iter().map(|stored| event::key(stored.record.value().as_ref())).collect();
        let mut known = state.known.lock();
        keys.into_iter().for_each(|key| {
            known.keys.insert(key);
        });
        next = fetched.next;
    }
    Ok(next)
}

/// Notes the keys that other processes append.
async fn follow_others(shared: Arc<Shared>, topic: Target) {
    let state = topic.state(&shared);
    let mut ends = state.ends.subscribe();
    let mut backoff = Backoff::new(format!("following `{}`", state.name));
    loop {
        let target = ends.borrow_and_update().clone();
        tokio::time::sleep(OTHERS).await;
        for (partition, end) in (0..).zip(target) {
            let below = state.known.lock().below[partition as usize];
            if below >= end {
                continue;
            }
            match read_keys(&shared, state, partition, below, end).await {
                Ok(next) => {
                    let mut known = state.known.lock();
                    let below = &mut known.below[partition as usize];
                    *below = next.max(*below);
                    backoff.reset();
                }
                Err(trouble) => backoff.pause(&trouble).await,
            }
        }
        if ends.changed().await.is_err() {
            return;
        }
    }
}
