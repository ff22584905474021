//! Check, then one append.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::{
    envelope::{Envelope, Incoming},
    options::{DoorOptions, FutureTimes},
    outcome::{Admission, AdmitError, Outcome, Reason, Refusal, Rejected},
    time,
};
use crate::{
    Millis,
    catalogue::{Catalogue, SignalType},
    log::{Append, Appended, Log, Partition, Position, Topic, partition_of},
    record::Record,
    telemetry,
};

/// Sources that begin so are the system's own.
const OWN_SOURCES: &str = "kairos/";
/// Types that only the system itself reports.
const OWN_TYPES: [&str; 2] = ["impression", "reaction"];
/// Longest unknown type for which a near one is looked up, in bytes.
const MAX_SUGGESTED: usize = 64;

/// The one door. Share it in an `Arc`.
pub struct Door {
    catalogue: Arc<Catalogue>,
    log: Arc<dyn Log>,
    options: DoorOptions,
    pending: TaskTracker,
}

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

impl Door {
    /// A door to `log` for the types of `catalogue`.
    pub fn new(catalogue: Arc<Catalogue>, log: Arc<dyn Log>, options: DoorOptions) -> Door {
        Door { catalogue, log, options, pending: TaskTracker::new() }
    }

    /// The types it knows.
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// Checks signals from outside and appends the good ones, all in one append; answers once that is
    /// durable. `now` is the time of arrival. A bad signal never holds up a good one.
    ///
    /// # Errors
    /// Nothing counts as accepted; the same signals may be sent again.
    pub async fn admit(&self, now: Millis, items: Vec<Incoming<'_>>) -> Result<Admission, AdmitError> {
        let checked = self.check(now, items);
        self.append(checked).await
    }

    /// The first half of [`admit`](Self::admit): reads and checks, and waits for nothing.
    pub fn check(&self, now: Millis, items: Vec<Incoming<'_>>) -> Checked {
        let mut checked = Checked::with_capacity(items.len());
        let partitions = self.log.partitions(Topic::Signals);
        // A batch with one wrong type has it again and again.
        let mut suggested = HashMap::new();
        let mut clamped = 0;
        for item in items {
            let envelope = match item {
                Incoming::Json(json) => Envelope::parse(json),
                Incoming::Envelope(envelope) => Ok(envelope),
            };
            let record = envelope.and_then(|envelope| {
                let id = envelope.id.clone();
                outside(&envelope)
                    .and_then(|()| self.read(now, envelope, &mut suggested, &mut clamped))
                    .map_err(|refusal| refusal.of(&id))
            });
            checked.push(record, partitions);
        }
        if clamped > 0 {
            metrics::counter!(telemetry::FUTURE_CLAMPED).increment(clamped);
        }
        checked
    }

    /// The second half of [`admit`](Self::admit).
    pub async fn append(&self, checked: Checked) -> Result<Admission, AdmitError> {
        append(&*self.log, checked).await
    }

    /// Makes a record of the system's own, by the same checks as any signal except that its source and
    /// type may be the system's.
    pub fn record(&self, now: Millis, envelope: Envelope<'_>) -> Result<Record, Refusal> {
        let id = envelope.id.clone();
        self.read(now, envelope, &mut HashMap::new(), &mut 0).map_err(|refusal| refusal.of(&id))
    }

    /// Appends records of the system's own and answers once they are durable. Their `data` is what
    /// [`Door::record`] or the catalogue encoded; everything else is checked as for any signal.
    pub async fn admit_records(&self, records: Vec<Record>) -> Result<Admission, AdmitError> {
        self.append(self.check_records(records)).await
    }

    /// As [`admit_records`](Self::admit_records), but does not wait for the disk: the append goes on
    /// whether or not the answer is awaited. A failure is logged and counted here. Needs a Tokio runtime.
    pub fn admit_records_later(&self, records: Vec<Record>) -> Pending {
        let checked = self.check_records(records);
        let log = self.log.clone();
        Pending(self.pending.spawn(async move {
            let admission = append(&*log, checked).await;
            match &admission {
                Err(error) => tracing::error!(%error, "records of the system's own were not appended"),
                Ok(admission) if !admission.rejected.is_empty() => {
                    let first = &admission.rejected[0].message;
                    tracing::error!(
                        count = admission.rejected.len(),
                        first,
                        "records of the system's own are wrong"
                    );
                }
                Ok(_) => {}
            }
            admission
        }))
    }

    /// Waits until every append begun by [`admit_records_later`](Self::admit_records_later) is answered.
    /// For the end of the program: begin no new ones meanwhile.
    pub async fn drain(&self) {
        self.pending.close();
        self.pending.wait().await;
        self.pending.reopen();
    }

    fn check_records(&self, records: Vec<Record>) -> Checked {
        let mut checked = Checked::with_capacity(records.len());
        let partitions = self.log.partitions(Topic::Signals);
        for mut record in records {
            let verdict = self
                .check_attributes(&record.id, &record.source, &record.subject, &record.extensions)
                .and_then(|()| self.type_of(&record.kind, &mut HashMap::new()))
                .and_then(|declared| {
                    let ahead = self.check_time(record.received_at, record.time)?;
                    if declared.name != record.kind {
                        record.kind.clone_from(&declared.name);
                    }
                    record.time = ahead.unwrap_or(record.time);
                    Ok(())
                })
                .map_err(|refusal| refusal.of(&record.id));
            checked.push(verdict.map(|()| record), partitions);
        }
        checked
    }

    fn read(
        &self,
        now: Millis,
        envelope: Envelope<'_>,
        suggested: &mut HashMap<String, String>,
        clamped: &mut u64,
    ) -> Result<Record, Refusal> {
        let Envelope { id, source, kind, subject, time, data, extensions } = envelope;
        self.check_attributes(&id, &source, &subject, &extensions)?;
        let declared = self.type_of(&kind, suggested)?;
        let mut time = time.unwrap_or(now);
        if let Some(arrival) = self.check_time(now, time)? {
            time = arrival;
            *clamped += 1;
        }
        let unknown = self.options.unknown_fields;
        let data = match data {
            Some(data) => {
                let (bytes, most) = (data.get().len(), self.options.max_data_bytes);
                if bytes > most {
                    let message = format!("data: {bytes} bytes of JSON; at most {most} are taken");
                    return Err(Refusal::new(Reason::Data, message));
                }
                declared.encode_json(&data, unknown)
            }
            None => declared.encode_value(&serde_json::Value::Object(Default::default()), unknown),
        };
        let data = data.map_err(|invalid| Refusal::new(Reason::Data, invalid.to_string()))?;
        Ok(Record {
            kind: declared.name.clone(),
            id: id.into_owned(),
            source: source.into_owned(),
            subject: subject.into_owned(),
            time,
            received_at: now,
            data: data.into(),
            extensions,
        })
    }

    fn check_attributes(
        &self,
        id: &str,
        source: &str,
        subject: &str,
        extensions: &[(String, String)],
    ) -> Result<(), Refusal> {
        let options = &self.options;
        check_text("id", id, options.max_id_bytes)?;
        check_text("source", source, options.max_id_bytes)?;
        check_text("subject", subject, options.max_subject_bytes)?;
        let bytes: usize = extensions.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > options.max_extension_bytes {
            let most = options.max_extension_bytes;
            let message = format!("extension attributes have {bytes} bytes; at most {most} are taken");
            return Err(Refusal::new(Reason::Envelope, message));
        }
        Ok(())
    }

    /// The time to take instead, if this one is too far ahead and such are clamped.
    fn check_time(&self, now: Millis, time: Millis) -> Result<Option<Millis>, Refusal> {
        let ahead = time.saturating_sub(now);
        if ahead <= self.options.future_bound_ms {
            return Ok(None);
        }
        match self.options.future_times {
            FutureTimes::Clamp => Ok(Some(now)),
            FutureTimes::Reject => Err(Refusal::new(
                Reason::FutureTime,
                format!(
                    "`time` {} is {} s ahead of its arrival at {}; at most {} s are taken. Check the sender's clock",
                    time::show(time),
                    ahead / 1000,
                    time::show(now),
                    self.options.future_bound_ms / 1000,
                ),
            )),
        }
    }

    fn type_of(
        &self,
        kind: &str,
        suggested: &mut HashMap<String, String>,
    ) -> Result<&Arc<SignalType>, Refusal> {
        self.catalogue.get(kind).ok_or_else(|| {
            if kind.len() > MAX_SUGGESTED {
                return Refusal::new(Reason::UnknownType, "`type` is no declared type, and longer than any");
            }
            let message = suggested.entry(kind.to_owned()).or_insert_with(|| self.unknown_type(kind));
            Refusal::new(Reason::UnknownType, message.as_str())
        })
    }

    fn unknown_type(&self, kind: &str) -> String {
        let near = self
            .catalogue
            .types()
            .flat_map(|declared| declared.aliases.iter().chain([&declared.name]))
            .filter(|name| !OWN_TYPES.contains(&name.as_str()))
            .map(|name| (strsim::jaro_winkler(kind, name), name))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match near {
            Some((likeness, name)) if likeness > 0.7 => {
                format!("`type` `{kind}` is not declared; did you mean `{name}`?")
            }
            _ => format!("`type` `{kind}` is not declared; declare it in a .proto file of `signals.dirs`"),
        }
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Checked {
    fn with_capacity(count: usize) -> Checked {
        Checked {
            appends: Vec::with_capacity(count),
            places: Vec::with_capacity(count),
            rejected: Vec::new(),
            count: 0,
            started: Instant::now(),
        }
    }

    fn push(&mut self, record: Result<Record, Refusal>, partitions: u32) {
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

async fn append(log: &dyn Log, checked: Checked) -> Result<Admission, AdmitError> {
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

/// Whether a signal from outside keeps off what is the system's own.
fn outside(envelope: &Envelope<'_>) -> Result<(), Refusal> {
    if OWN_TYPES.contains(&&*envelope.kind) {
        return Err(Refusal::new(
            Reason::UnknownType,
            format!(
                "`type` `{}` is reported by Kairos alone; tell reactions by POST /v1/feedback",
                envelope.kind
            ),
        ));
    }
    if envelope.source.starts_with(OWN_SOURCES) {
        let message = format!("`source` begins with `{OWN_SOURCES}`, which is kept for Kairos itself");
        return Err(Refusal::new(Reason::Envelope, message));
    }
    Ok(())
}

fn check_text(name: &str, text: &str, most: usize) -> Result<(), Refusal> {
    let message = if text.trim().is_empty() {
        format!("`{name}` is empty")
    } else if text.len() > most {
        format!("`{name}` has {} bytes; at most {most} are taken", text.len())
    } else if let Some(c) = text.chars().find(|c| c.is_control()) {
        format!("`{name}` holds the control character U+{:04X}", u32::from(c))
    } else {
        return Ok(());
    };
    Err(Refusal::new(Reason::Envelope, message))
}

/// The answer to come of [`Door::admit_records_later`]. Dropping it changes nothing for the append.
#[derive(Debug)]
#[must_use = "await it, or drop it with `let _ =` or `drop` if the answer is of no interest"]
pub struct Pending(JoinHandle<Result<Admission, AdmitError>>);

impl Future for Pending {
    type Output = Result<Admission, AdmitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|joined| joined.unwrap_or(Err(AdmitError::Stopped)))
    }
}
