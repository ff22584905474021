//! Reading batches of a partition.

use std::time::Duration;

use fluvio::dataplane::{
    link::ErrorCode,
    record::{Batch, RawRecords, Record, RecordData, RecordSet},
};
use fluvio_spu_schema::fetch::{FetchPartition, FetchRequest, FetchableTopic};

use super::{
    cluster::Cluster,
    connection::{Connection, Trouble},
};
use crate::{
    Millis,
    log::{Offset, Partition},
};

/// Bytes asked for at once; more where one batch is larger.
const FETCH_BYTES: i32 = 512 << 10;
/// No batch is larger than that.
const MOST_BYTES: i32 = 64 << 20;
/// How long a fetch may take.
const FETCH: Duration = Duration::from_secs(5);

/// A partition that is read from front to back.
pub struct Source {
    topic: String,
    partition: Partition,
    connection: Option<Connection>,
    isolation: fluvio::Isolation,
}

/// A record as Fluvio keeps it.
pub struct Stored {
    pub offset: Offset,
    /// When the producer's batch was made.
    pub stamped: Millis,
    pub record: Record<RecordData>,
}

/// What one fetch brought.
pub struct Fetched {
    pub records: Vec<Stored>,
    /// Where to go on.
    pub next: Offset,
}

impl Source {
    /// Of what is durable.
    pub fn new(topic: &str, partition: Partition) -> Source {
        let isolation = fluvio::Isolation::ReadCommitted;
        Source { topic: topic.to_owned(), partition, connection: None, isolation }
    }

    /// Of all that the leader has.
    pub fn of_everything(topic: &str, partition: Partition) -> Source {
        Source { isolation: fluvio::Isolation::ReadUncommitted, ..Source::new(topic, partition) }
    }

    /// Records from `from` on, in order; none where there is nothing more. What retention has dropped is left out.
    pub async fn fetch(&mut self, cluster: &Cluster, from: Offset) -> Result<Fetched, Trouble> {
        let mut bytes = FETCH_BYTES;
        loop {
            let batches = match self.batches(cluster, from, bytes).await {
                Ok(batches) => batches,
                Err(Trouble::Refused(ErrorCode::OffsetEvicted { next_available, .. })) => {
                    let next = Offset::try_from(next_available).unwrap_or(from).max(from + 1);
                    return Ok(Fetched { records: Vec::new(), next });
                }
                Err(trouble) => return Err(trouble),
            };
            // The last batch may be cut off; cut at the first one, more bytes are needed.
            let (any, whole) = (!batches.is_empty(), batches.iter().take_while(|b| b.validate_decoding()));
            let fetched = unpack(whole, from)?;
            if fetched.next > from || !any || bytes == MOST_BYTES {
                return Ok(fetched);
            }
            bytes = bytes.saturating_mul(4).min(MOST_BYTES);
        }
    }

    async fn batches(
        &mut self,
        cluster: &Cluster,
        from: Offset,
        bytes: i32,
    ) -> Result<Vec<Batch<RawRecords>>, Trouble> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => cluster.connect_to_leader(&self.topic, self.partition).await?,
        };
        let partition = FetchPartition {
            partition_index: self.partition,
            fetch_offset: i64::try_from(from).unwrap_or(i64::MAX),
            max_bytes: bytes,
            ..FetchPartition::default()
        };
        let request = FetchRequest::<RecordSet<RawRecords>> {
            max_bytes: bytes,
            isolation_level: self.isolation,
            topics: vec![FetchableTopic { name: self.topic.clone(), fetch_partitions: vec![partition] }],
            ..FetchRequest::default()
        };
        let answer = match connection.ask(request, FETCH).await {
            Ok(answer) => answer,
            Err(trouble) => {
                let _ = cluster.refresh().await;
                return Err(trouble);
            }
        };
        let found = answer.find_partition(&self.topic, self.partition);
        let found = found.ok_or_else(|| Trouble::Unknown("an answer without the partition".into()))?;
        match found.error_code {
            ErrorCode::None => {
                self.connection = Some(connection);
                Ok(found.records.batches)
            }
            code @ ErrorCode::OffsetEvicted { .. } => {
                self.connection = Some(connection);
                Err(Trouble::Refused(code))
            }
            code => {
                let _ = cluster.refresh().await;
                Err(Trouble::Refused(code))
            }
        }
    }
}

fn unpack<'a>(
    batches: impl Iterator<Item = &'a Batch<RawRecords>>,
    from: Offset,
) -> Result<Fetched, Trouble> {
    let mut fetched = Fetched { records: Vec::new(), next: from };
    for batch in batches {
        let base = Offset::try_from(batch.get_base_offset()).unwrap_or(0);
        let end = base + batch.records_len() as Offset;
        if end <= fetched.next {
            continue;
        }
        let stamped = batch.get_base_timestamp();
        let records =
            batch.memory_records().map_err(|e| Trouble::Unknown(format!("a batch at {base}: {e}")))?;
        let placed =
            records.into_iter().zip(base..end).map(|(record, offset)| Stored { offset, stamped, record });
        fetched.records.extend(placed.filter(|stored| stored.offset >= from));
        fetched.next = end;
    }
    Ok(fetched)
}
