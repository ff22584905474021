//! Check, then one append.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::{
    append::{Checked, Pending, append},
    checks::{Suggestions, outside},
    envelope::{Envelope, Incoming},
    options::DoorOptions,
    outcome::{Admission, AdmitError, Reason, Refusal},
};
use crate::{
    Millis,
    catalogue::Catalogue,
    log::{Log, Topic},
    record::Record,
};

/// The one door. Share it in an `Arc`.
pub struct Door {
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) options: DoorOptions,
    log: Arc<dyn Log>,
    pending: TaskTracker,
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
        let mut suggestions = Suggestions::new();
        for item in items {
            let envelope = match item {
                Incoming::Json(json) => Envelope::parse(json),
                Incoming::Envelope(envelope) => Ok(envelope),
            };
            let record = envelope.and_then(|envelope| {
                let id = envelope.id.clone();
                outside(&envelope)
                    .and_then(|()| self.read(now, envelope, &mut suggestions))
                    .map_err(|refusal| refusal.of(&id))
            });
            checked.push(record, partitions);
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
        self.read(now, envelope, &mut Suggestions::new()).map_err(|refusal| refusal.of(&id))
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
        let mut suggestions = Suggestions::new();
        for mut record in records {
            let verdict = self
                .check_attributes(&record.id, &record.source, &record.subject, &record.extensions)
                .and_then(|()| self.type_of(&record.kind, &mut suggestions))
                .and_then(|declared| {
                    record.time = self.settle_time(record.received_at, record.time)?;
                    record.kind.clone_from(&declared.name);
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
        suggestions: &mut Suggestions,
    ) -> Result<Record, Refusal> {
        let Envelope { id, source, kind, subject, time, data, extensions } = envelope;
        self.check_attributes(&id, &source, &subject, &extensions)?;
        let declared = self.type_of(&kind, suggestions)?;
        let time = self.settle_time(now, time.unwrap_or(now))?;
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
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("options", &self.options).finish_non_exhaustive()
    }
}
