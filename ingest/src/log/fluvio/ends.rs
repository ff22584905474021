//! Follows where every partition ends: one small request for all partitions of a unit, every few milliseconds.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use fluvio::dataplane::link::ErrorCode;
use fluvio_spu_schema::server::fetch_offset::{FetchOffsetPartition, FetchOffsetTopic, FetchOffsetsRequest};
use futures::future::join_all;

use super::{
    backoff::Backoff,
    connection::{Connection, Trouble},
    shared::Shared,
};
use crate::log::{Offset, Partition};

/// How often ends are asked for while they move, and while they rest.
const MOVING: Duration = Duration::from_millis(2);
const RESTING: Duration = Duration::from_millis(10);
/// So many looks without news are rest.
const STILL: u32 = 200;
/// How long an answer may take.
const LOOK: Duration = Duration::from_secs(2);

/// Looks at ends.
pub struct Ends {
    shared: Arc<Shared>,
    connections: HashMap<i32, Connection>,
}

impl Ends {
    pub fn new(shared: Arc<Shared>) -> Ends {
        Ends { shared, connections: HashMap::new() }
    }

    /// Looks for good.
    pub async fn follow(mut self) {
        let (mut backoff, mut still) = (Backoff::new("following the ends of the topics"), 0);
        loop {
            match self.look().await {
                Ok(true) => still = 0,
                Ok(false) => still = (still + 1).min(STILL),
                Err(trouble) => {
                    *self.shared.away.lock() = Some(trouble.clone());
                    backoff.pause(&trouble).await;
                    continue;
                }
            }
            *self.shared.away.lock() = None;
            backoff.reset();
            tokio::time::sleep(if still < STILL { MOVING } else { RESTING }).await;
        }
    }

    /// Looks once at every partition; whether an end moved.
    pub async fn look(&mut self) -> Result<bool, Trouble> {
        let shared = self.shared.clone();
        let mut units: BTreeMap<i32, Vec<FetchOffsetTopic>> = BTreeMap::new();
        for state in shared.everything() {
            for partition in 0..state.partitions {
                let Some(unit) = shared.cluster.leader(&state.name, partition) else {
                    shared.cluster.refresh().await?;
                    return Err(Trouble::NotSent(format!("nobody leads `{}-{partition}`", state.name)));
                };
                let topics = units.entry(unit).or_default();
                if topics.last().is_none_or(|topic| topic.name != state.name) {
                    topics.push(FetchOffsetTopic { name: state.name.clone(), partitions: Vec::new() });
                }
                if let Some(topic) = topics.last_mut() {
                    topic.partitions.push(FetchOffsetPartition { partition_index: partition });
                }
            }
        }
        let looks = units.into_iter().map(|(unit, topics)| {
            let connection = self.connections.remove(&unit);
            look_at(&shared, unit, connection, topics)
        });
        let mut outcome = Ok(false);
        for look in join_all(looks).await {
            match look {
                Ok((unit, connection, moved)) => {
                    self.connections.insert(unit, connection);
                    outcome = outcome.map(|others| others || moved);
                }
                Err(trouble) => outcome = Err(trouble),
            }
        }
        if outcome.is_err() {
            let _ = shared.cluster.refresh().await;
        }
        outcome
    }
}

async fn look_at(
    shared: &Shared,
    unit: i32,
    connection: Option<Connection>,
    topics: Vec<FetchOffsetTopic>,
) -> Result<(i32, Connection, bool), Trouble> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => shared.cluster.connect(unit).await?,
    };
    // What is acknowledged while the answer is on its way may lie beyond it.
    let before: Vec<Vec<Offset>> = shared.everything().map(|state| state.ends.borrow().clone()).collect();
    let request = FetchOffsetsRequest { topics, ..FetchOffsetsRequest::default() };
    let answer = connection.ask(request, LOOK).await?;
    let mut moved = false;
    for topic in answer.topics {
        let named = shared.everything().zip(&before).find(|(state, _)| state.name == topic.name);
        let Some((state, before)) = named else { continue };
        for found in topic.partitions {
            if found.error_code != ErrorCode::None {
                return Err(Trouble::Refused(found.error_code));
            }
            let offset = |offset: i64| Offset::try_from(offset).unwrap_or(0);
            let (partition, end): (Partition, _) = (found.partition_index, offset(found.last_stable_offset));
            let known = before.get(partition as usize).copied().unwrap_or(0);
            if end < known {
                return Err(Trouble::Unknown(format!(
                    "`{}-{partition}` ends at {end}, where {known} was durable already: the cluster has lost records",
                    state.name
                )));
            }
            moved |= known < end;
            state.reached(partition, end);
            if let Some(start) = state.starts.lock().get_mut(partition as usize) {
                *start = offset(found.start_offset);
            }
        }
    }
    Ok((unit, connection, moved))
}
