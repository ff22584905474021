//! The second half of the door: one append, and what it says of each signal.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::task::JoinHandle;

use super::outcome::{Admission, AdmitError, Outcome, Refusal, Rejected};
use crate::{
    log::{Append, Appended, Log, Partition, Position, Topic, partition_of},
    record::Record,
    telemetry,
};

/// Signals checked and ready for one append. Owns what it holds, so that a body can be checked on one
/// thread and appended from another.
#[derive(Debug)]
pub struct Checked {
    appends: Vec<Append>,
    /// For each append, the index of its signal and the partition it goes to.
    places: Vec<(usize, Partition)>,
    rejected: Vec<Rejected>,
    count: usize,
    started: Instant,
}

impl Checked {
    pub(super) fn with_capacity(count: usize) -> Checked {
        Checked {
            appends: Vec::with_capacity(count),
            places: Vec::with_capacity(count),
            rejected: Vec::new(),
            count: 0,
            started: Instant::now(),
        }
    }

    pub(super) fn push(&mut self, record: Result<Record, Refusal>, partitions: u32) {
        let index = self.count;
        self.count += 1;
        match record {
            Ok(record) => {
                self.places.push((index, partition_of(&record.subject, partitions)));
                let (key, payload) = (record.key(), record.encode());
                self.appends.push(Append { subject: record.subject, key, payload });
            }
            Err(Refusal { id, reason, message }) => {
                self.rejected.push(Rejected { index, id, message, reason })
            }
        }
    }
}

/// Appends what passed the check and tells, signal by signal, what became of it.
pub(super) async fn append(log: &dyn Log, checked: Checked) -> Result<Admission, AdmitError> {
    let Checked { appends, places, rejected, count, started } = checked;
    metrics::histogram!(telemetry::BATCH_SIGNALS).record(count as f64);
    for rejected in &rejected {
        metrics::counter!(telemetry::SIGNALS_REJECTED, "reason" => rejected.reason.code()).increment(1);
    }
    let appended = if appends.is_empty() {
        Vec::new()
    } else {
        log.append(Topic::Signals, appends)
            .await
            .inspect_err(|_| metrics::counter!(telemetry::LOG_FAILURES).increment(1))?
    };
    let mut admission =
        Admission { rejected, outcomes: vec![Outcome::Rejected; count], ..Admission::default() };
    let mut end: Option<Position> = None;
    for ((index, home), appended) in places.into_iter().zip(appended) {
        admission.outcomes[index] = match appended {
            Appended::At(partition, offset) => {
                admission.accepted += 1;
                admission.position.advance(partition, offset);
                Outcome::Accepted(partition, offset)
            }
            Appended::Duplicate => {
                admission.duplicates += 1;
                // Where the original stands is not known, only that it is durable by now.
                let next = end.get_or_insert_with(|| log.end(Topic::Signals)).get(home);
                if let Some(last) = next.checked_sub(1) {
                    admission.position.advance(home, last);
                }
                Outcome::Duplicate
            }
        };
    }
    metrics::counter!(telemetry::SIGNALS_ACCEPTED).increment(admission.accepted as u64);
    metrics::counter!(telemetry::SIGNALS_DUPLICATE).increment(admission.duplicates as u64);
    metrics::histogram!(telemetry::ADMIT_SECONDS).record(started.elapsed().as_secs_f64());
    Ok(admission)
}

/// The answer to come of [`Door::admit_records_later`](super::Door::admit_records_later). Dropping it changes nothing for the append.
#[derive(Debug)]
#[must_use = "await it, or drop it with `let _ =` or `drop` if the answer is of no interest"]
pub struct Pending(pub(super) JoinHandle<Result<Admission, AdmitError>>);

impl Future for Pending {
    type Output = Result<Admission, AdmitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|joined| joined.unwrap_or(Err(AdmitError::Stopped)))
    }
}
