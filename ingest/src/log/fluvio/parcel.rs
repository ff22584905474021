//! Records on their way: put into batches, compressed.

use fluvio::dataplane::record::{Batch, RawRecords, Record, RecordData, RecordKey};

use super::shared::Shared;
use crate::log::{Compression, LogError, Offset};

/// Records of one batch, before compression. Fluvio takes batches of 2 MiB by default.
const BATCH_BYTES: usize = 1 << 20;

/// One record on its way.
pub struct Outgoing {
    pub subject: String,
    pub key: u128,
    /// The event.
    pub value: Vec<u8>,
}

/// One batch, and what became of it.
pub struct Parcel {
    /// The keys of its records.
    pub keys: Vec<u128>,
    pub batch: Batch<RawRecords>,
    /// Where its records stand.
    pub outcome: Option<Result<Vec<Offset>, LogError>>,
}

/// Puts records into batches, compressed.
pub fn parcels(records: Vec<Outgoing>, shared: &Shared) -> Vec<Parcel> {
    let mut parcels = Vec::new();
    let (mut keys, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for record in records {
        let size = record.value.len() + record.subject.len();
        if bytes > 0 && bytes + size > BATCH_BYTES {
            parcels.push(parcel(std::mem::take(&mut keys), std::mem::take(&mut batch), shared));
            bytes = 0;
        }
        bytes += size;
        keys.push(record.key);
        batch.push(Record::new_key_value(RecordKey::from(record.subject), RecordData::from(record.value)));
    }
    if !keys.is_empty() {
        parcels.push(parcel(keys, batch, shared));
    }
    parcels
}

fn parcel(keys: Vec<u128>, records: Vec<Record<RecordData>>, shared: &Shared) -> Parcel {
    let mut batch = Batch::from(records);
    let now = (shared.clock)();
    let header = batch.get_mut_header();
    (header.first_timestamp, header.max_time_stamp) = (now, now);
    header.set_compression(match shared.options.fluvio.compression {
        Compression::None => fluvio::Compression::None,
        Compression::Gzip => fluvio::Compression::Gzip,
        Compression::Snappy => fluvio::Compression::Snappy,
        Compression::Lz4 => fluvio::Compression::Lz4,
        Compression::Zstd => fluvio::Compression::Zstd,
    });
    match Batch::<RawRecords>::try_from(batch) {
        Ok(batch) => Parcel { keys, batch, outcome: None },
        Err(e) => {
            let error = LogError::Refused(format!("a batch cannot be compressed: {e}"));
            Parcel { keys, batch: Batch::default(), outcome: Some(Err(error)) }
        }
    }
}
