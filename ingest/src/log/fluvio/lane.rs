//! Writing to one partition: one request at a time, so that order holds and an unknown outcome can be found out.

use std::time::{Duration, Instant};

use fluvio::dataplane::{link::ErrorCode, record::RecordSet};
use fluvio_spu_schema::produce::{DefaultPartitionRequest, DefaultProduceRequest, DefaultTopicRequest};
use hashbrown::HashMap;

use super::{
    connection::{Connection, Trouble},
    fetch::Source,
    parcel::{Outgoing, Parcel, parcels},
    shared::{Shared, TopicState},
};
use crate::{
    event,
    log::{Isolation, LogError, Offset, Partition},
};

/// Batches of one request. Fluvio takes requests of 32 MiB.
const REQUEST_BYTES: usize = 8 << 20;
/// First and longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// A request is given at least so long.
const LEAST_WAIT: Duration = Duration::from_millis(200);

/// The way to one partition.
pub struct Lane {
    partition: Partition,
    connection: Option<Connection>,
    /// Everything below was written or read by us.
    seen: Offset,
    /// Whether a request went out whose outcome is not known.
    uncertain: bool,
}

impl Lane {
    pub fn new(partition: Partition, seen: Offset) -> Lane {
        Lane { partition, connection: None, seen, uncertain: false }
    }

    /// Finds out what became of requests without an answer, if there are such.
    pub async fn settle(
        &mut self,
        shared: &Shared,
        state: &TopicState,
        deadline: Instant,
    ) -> Result<(), LogError> {
        let mut pause = PAUSES.0;
        while self.uncertain {
            if let Err(trouble) = self.resolve(shared, state, &mut []).await {
                wait_or(deadline, &mut pause).await.map_err(|()| shared.unavailable(&trouble))?;
            }
        }
        Ok(())
    }

    /// Appends the records in order; tells of each where it stands.
    pub async fn append(
        &mut self,
        shared: &Shared,
        state: &TopicState,
        records: Vec<Outgoing>,
        deadline: Instant,
    ) -> Vec<Result<Offset, LogError>> {
        if !self.uncertain {
            // Nothing of ours is on its way, and what others wrote up to there was read.
            self.seen = self.seen.max(state.known.lock().below[self.partition as usize]);
        }
        let mut parcels = parcels(records, shared);
        let mut pause = PAUSES.0;
        while parcels.iter().any(|parcel| parcel.outcome.is_none()) {
            let attempt = if self.uncertain {
                self.resolve(shared, state, &mut parcels).await
            } else {
                self.send(shared, state, &mut parcels, deadline).await
            };
            let Err(trouble) = attempt else { continue };
            if wait_or(deadline, &mut pause).await.is_err() {
                let error = shared.unavailable(&trouble);
                parcels.iter_mut().for_each(|p| {
                    p.outcome.get_or_insert_with(|| Err(error.clone()));
                });
            }
        }
        let answers = parcels.into_iter().flat_map(|parcel| match parcel.outcome {
            Some(Ok(offsets)) => offsets.into_iter().map(Ok).collect::<Vec<_>>(),
            Some(Err(error)) => vec![Err(error); parcel.keys.len()],
            None => Vec::new(),
        });
        answers.collect()
    }

    async fn send(
        &mut self,
        shared: &Shared,
        state: &TopicState,
        parcels: &mut [Parcel],
        deadline: Instant,
    ) -> Result<(), Trouble> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => shared.cluster.connect_to_leader(&state.name, self.partition).await?,
        };
        let wait = deadline.saturating_duration_since(Instant::now()).max(LEAST_WAIT);
        let mut bytes = 0;
        let fits = |parcel: &&mut Parcel| {
            let before = bytes;
            bytes += parcel.batch.records().0.len();
            before == 0 || bytes <= REQUEST_BYTES
        };
        let open = parcels.iter_mut().filter(|p| p.outcome.is_none());
        let mut open: Vec<&mut Parcel> = open.take_while(fits).collect();
        let partitions = open.iter().map(|parcel| DefaultPartitionRequest {
            partition_index: self.partition,
            records: RecordSet { batches: vec![parcel.batch.clone()] },
        });
        let topic = DefaultTopicRequest {
            name: state.name.clone(),
            partitions: partitions.collect(),
            ..DefaultTopicRequest::default()
        };
        let request = DefaultProduceRequest {
            isolation: match shared.options.fluvio.isolation {
                Isolation::ReadCommitted => fluvio::Isolation::ReadCommitted,
                Isolation::ReadUncommitted => fluvio::Isolation::ReadUncommitted,
            },
            timeout: wait,
            topics: vec![topic],
            ..DefaultProduceRequest::default()
        };
        self.uncertain = true;
        let answer = match connection.ask(request, wait).await {
            Ok(answer) => answer,
            Err(trouble) => {
                let _ = shared.cluster.refresh().await;
                return Err(trouble);
            }
        };
        let answers: Vec<_> = answer.responses.into_iter().flat_map(|topic| topic.partitions).collect();
        if answers.len() != open.len() {
            return Err(Trouble::Unknown("an answer that is not about what was sent".into()));
        }
        let mut trouble = None;
        for (parcel, answer) in open.iter_mut().zip(answers) {
            match answer.error_code {
                ErrorCode::None => {
                    let base = Offset::try_from(answer.base_offset).unwrap_or(0);
                    let end = base + parcel.keys.len() as Offset;
                    parcel.outcome = Some(Ok((base..end).collect()));
                    self.written(shared, state, &parcel.keys, base, end);
                }
                ErrorCode::MessageTooLarge => {
                    let text = "Fluvio takes no batch as large as this record; see its max_batch_size";
                    parcel.outcome = Some(Err(LogError::Refused(text.into())));
                }
                code => trouble = Some(code),
            }
        }
        // It refused before it wrote, or nothing is open any more.
        self.uncertain = !matches!(trouble, None | Some(ErrorCode::NotLeaderForPartition));
        match trouble {
            None => {
                self.connection = Some(connection);
                Ok(())
            }
            Some(code) => {
                let _ = shared.cluster.refresh().await;
                Err(Trouble::Refused(code))
            }
        }
    }

    /// Notes what was written by us.
    fn written(&mut self, shared: &Shared, state: &TopicState, keys: &[u128], base: Offset, end: Offset) {
        let mut known = state.known.lock();
        keys.iter().for_each(|key| {
            known.keys.insert(*key);
        });
        if let Some(below) = known.below.get_mut(self.partition as usize)
            && *below == base
        {
            *below = end;
        }
        drop(known);
        self.seen = self.seen.max(end);
        if shared.options.fluvio.isolation == Isolation::ReadCommitted {
            state.reached(self.partition, end);
        }
    }

    /// Reads what the partition holds beyond what was seen: keys found there were written after all. Parcels
    /// that are not there can be sent again, except those whose records have no keys to be found by.
    async fn resolve(
        &mut self,
        shared: &Shared,
        state: &TopicState,
        parcels: &mut [Parcel],
    ) -> Result<(), Trouble> {
        let mut source = Source::of_everything(&state.name, self.partition);
        let mut found: HashMap<u128, Offset> = HashMap::new();
        let mut next = self.seen;
        loop {
            let fetched = source.fetch(&shared.cluster, next).await?;
            for stored in &fetched.records {
                let key = event::key(stored.record.value().as_ref());
                if key != 0 {
                    found.entry(key).or_insert(stored.offset);
                }
            }
            if fetched.next == next {
                break;
            }
            next = fetched.next;
        }
        // What the leader alone has is not durable yet.
        let end = state.ends.borrow().get(self.partition as usize).copied().unwrap_or(0);
        if shared.options.fluvio.isolation == Isolation::ReadCommitted && end < next {
            return Err(Trouble::Unknown("what was written is not committed yet".into()));
        }
        let mut known = state.known.lock();
        found.keys().for_each(|key| {
            known.keys.insert(*key);
        });
        drop(known);
        for parcel in parcels.iter_mut().filter(|p| p.outcome.is_none()) {
            let places: Option<Vec<Offset>> = parcel.keys.iter().map(|key| found.get(key).copied()).collect();
            if let Some(places) = places {
                parcel.outcome = Some(Ok(places));
            } else if parcel.keys.contains(&0) {
                let text = "the connection to Fluvio broke, and whether the records are there is unknown";
                parcel.outcome = Some(Err(LogError::Unavailable(text.into())));
            }
        }
        (self.seen, self.uncertain) = (next, false);
        Ok(())
    }
}

/// Waits before another attempt; an error once the deadline has passed.
async fn wait_or(deadline: Instant, pause: &mut Duration) -> Result<(), ()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(());
    }
    tokio::time::sleep(left.min(*pause)).await;
    *pause = (*pause * 2).min(PAUSES.1);
    Ok(())
}
