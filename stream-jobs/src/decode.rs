//! Log records to Arrow: one batch a signal type.

use std::sync::Arc;

use arrow::array::RecordBatch;
use hashbrown::HashMap;
use ingest::{
    Millis,
    catalogue::{Catalogue, SignalType, TableBuilder},
    log::LogRecord,
    record::RecordRef,
};

use crate::{error::JobError, seen::Seen};

/// The records of one partition, decoded.
#[derive(Debug, Default)]
pub struct Decoded {
    /// One batch for each type among them, rows in log order.
    pub batches: Vec<(Arc<SignalType>, RecordBatch)>,
    /// How many were decoded.
    pub signals: usize,
    /// Repeats left out.
    pub duplicates: usize,
    /// Records of a type that is no longer declared, left out.
    pub undeclared: usize,
    /// Newest event time among them.
    pub newest: Option<Millis>,
    /// Oldest arrival among them.
    pub oldest_arrival: Option<Millis>,
}

/// Decodes the records of one partition, leaving out repeats.
pub fn decode(catalogue: &Catalogue, records: &[LogRecord], seen: &mut Seen) -> Result<Decoded, JobError> {
    let mut out = Decoded::default();
    let mut builders: HashMap<&str, (&Arc<SignalType>, TableBuilder)> = HashMap::new();
    for r in records {
        let unreadable =
            |reason: String| JobError::Record { partition: r.partition, offset: r.offset, reason };
        let record = RecordRef::decode(&r.subject, &r.payload).map_err(|e| unreadable(e.to_string()))?;
        let Some(kind) = catalogue.get(record.kind) else {
            out.undeclared += 1;
            continue;
        };
        // A log that was given a key has refused its repeats; one that keeps no keys leaves that to us.
        if r.key == 0 && !seen.insert(record.key(), record.time.max(record.received_at)) {
            out.duplicates += 1;
            continue;
        }
        let (_, builder) = builders.entry(record.kind).or_insert_with(|| (kind, kind.builder()));
        builder.append_ref(r.partition, r.offset, &record).map_err(|e| unreadable(e.to_string()))?;
        out.signals += 1;
        out.newest = out.newest.max(Some(record.time));
        out.oldest_arrival =
            Some(out.oldest_arrival.map_or(record.received_at, |t| t.min(record.received_at)));
    }
    for (kind, mut builder) in builders.into_values() {
        if !builder.is_empty() {
            out.batches.push((kind.clone(), builder.finish()));
        }
    }
    Ok(out)
}
