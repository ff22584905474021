//! The registry of policies: every snapshot there is and which policy serves, kept in the topic of policies.

use ingest::{
    Millis,
    log::{Append, Appended, Log, LogError, LogRecord, Offset, Position, Topic},
    record::idempotency_key,
};
use prost::Message;

use crate::record::{SavedPart, SavedPolicy, Serving};

/// A state beyond this many bytes is cut; a record of the log holds at most a megabyte.
const PART: usize = 512 << 10;
/// Consumer under which it is noted where the last [`Serving`] stands.
const SERVING_CONSUMER: &str = "policy-serving";
/// Records behind which the last [`Serving`] is written anew, so that a start need not read all of them.
const FAR_BEHIND: u64 = 1_000;

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A snapshot; its state may lie in parts, which [`load_state`] fetches.
    Snapshot(Box<SavedPolicy>),
    /// A change of what serves.
    Serving(Box<Serving>),
}

/// Hands over every entry from an offset on, in the order in which they were written.
pub fn entries(log: &dyn Log, from: Offset, mut visit: impl FnMut(Offset, Entry)) -> Result<(), LogError> {
    each(log, from, |record| {
        // A record of a newer program cannot be read; there is nothing to do with it.
        let entry = if record.subject.starts_with(SavedPolicy::SUBJECT) {
            SavedPolicy::decode(&record.payload[..]).ok().map(|s| Entry::Snapshot(Box::new(s)))
        } else if *record.subject == *Serving::SUBJECT {
            Serving::decode(&record.payload[..]).ok().map(|s| Entry::Serving(Box::new(s)))
        } else {
            None
        };
        if let Some(entry) = entry {
            visit(record.offset, entry);
        }
        true
    })
}

/// Whether a record of the topic of policies means that other policies serve or stand in the shadow.
pub(super) fn changes_seats(record: &LogRecord) -> bool {
    *record.subject == *Serving::SUBJECT
        || (record.subject.starts_with(SavedPolicy::SUBJECT)
            && SavedPolicy::decode(&record.payload[..]).is_ok_and(|saved| saved.trained))
}

fn each(log: &dyn Log, from: Offset, mut visit: impl FnMut(&LogRecord) -> bool) -> Result<(), LogError> {
    let mut reader = log.reader(Topic::Policies, &[0], &Position([(0, from)].into()))?;
    loop {
        let records = reader.poll(16)?;
        if records.is_empty() || !records.iter().all(&mut visit) {
            return Ok(());
        }
    }
}

/// The last snapshot that a policy of this fingerprint can go on from and that `fits`, with its state.
pub fn latest(
    log: &dyn Log,
    name: &str,
    fingerprint: u64,
    fits: impl Fn(&SavedPolicy) -> bool,
) -> Result<Option<SavedPolicy>, LogError> {
    let from = log.committed(&consumer(name, fingerprint), Topic::Policies)?.get(0);
    let search = |from: Offset| {
        let mut last = None;
        entries(log, from, |_, entry| match entry {
            Entry::Snapshot(saved)
                if saved.name == name && saved.fingerprint == fingerprint && fits(&saved) =>
            {
                last = Some(*saved);
            }
            _ => {}
        })?;
        Ok::<_, LogError>(last)
    };
    let last = match search(from)? {
        None if from > 0 => search(0)?,
        found => found,
    };
    last.map(|saved| load_state(log, saved)).transpose()
}

/// The nearest snapshot of a state at or before a version, with its state.
pub fn nearest(log: &dyn Log, id: &str, version: u64) -> Result<Option<SavedPolicy>, LogError> {
    let mut best: Option<SavedPolicy> = None;
    entries(log, 0, |_, entry| match entry {
        Entry::Snapshot(saved)
            if saved.id == id
                && saved.version <= version
                && best.as_ref().is_none_or(|b| saved.version >= b.version) =>
        {
            best = Some(*saved);
        }
        _ => {}
    })?;
    best.map(|saved| load_state(log, saved)).transpose()
}

/// A snapshot with its state, whatever form it is kept in.
///
/// # Errors
/// [`LogError::Damaged`] when parts are missing.
pub fn load_state(log: &dyn Log, mut saved: SavedPolicy) -> Result<SavedPolicy, LogError> {
    if saved.parts == 0 {
        return Ok(saved);
    }
    let mark = saved.mark();
    let (mut parts, mut state) = (0, Vec::with_capacity(saved.bytes.min(1 << 30) as usize));
    each(log, saved.first_part, |record| {
        if *record.subject == *SavedPart::SUBJECT
            && let Ok(part) = SavedPart::decode(&record.payload[..])
            && part.of == mark
        {
            state.extend_from_slice(&part.bytes);
            parts += 1;
        }
        parts < saved.parts
    })?;
    if parts < saved.parts || state.len() as u64 != saved.bytes {
        return Err(LogError::Damaged(format!(
            "snapshot {} of policy `{}` is not whole: {parts} of {} parts and {} of {} bytes are there",
            saved.reference(),
            saved.name,
            saved.parts,
            state.len(),
            saved.bytes
        )));
    }
    saved.state = state;
    Ok(saved)
}

/// Writes a snapshot, its parts first; a snapshot that is there already is left as it is.
pub async fn write(log: &dyn Log, mut saved: SavedPolicy) -> Result<(), LogError> {
    saved.bytes = saved.state.len() as u64;
    let mut from = log.end(Topic::Policies).get(0);
    if saved.state.len() > PART {
        let (state, of) = (std::mem::take(&mut saved.state), saved.mark());
        let parts = state.chunks(PART).map(|bytes| Append {
            subject: SavedPart::SUBJECT.to_owned(),
            key: 0,
            payload: SavedPart { bytes: bytes.to_vec(), of }.encode_to_vec().into(),
        });
        let written = log.append(Topic::Policies, parts.collect()).await?;
        saved.parts = written.len() as u32;
        if let Some(Appended::At(_, offset)) = written.first() {
            (saved.first_part, from) = (*offset, *offset);
        }
    }
    let append = Append {
        subject: format!("{}{}", SavedPolicy::SUBJECT, saved.name),
        key: idempotency_key("kairos/policy", &format!("{}/{}", saved.name, saved.reference())),
        payload: saved.encode_to_vec().into(),
    };
    let outcomes = log.append(Topic::Policies, vec![append]).await?;
    if let Some(Appended::At(..)) = outcomes.first() {
        // A restart looks from here, and needs not read all snapshots ever taken.
        let here = Position([(0, from)].into());
        log.commit(&consumer(&saved.name, saved.fingerprint), Topic::Policies, &here).await?;
    }
    Ok(())
}

fn consumer(name: &str, fingerprint: u64) -> String {
    format!("policy-{name}-{fingerprint:016x}")
}

/// What serves by the last change, if there was any, and where that stands.
pub fn serving(log: &dyn Log) -> Result<Option<(Offset, Serving)>, LogError> {
    let from = log.committed(SERVING_CONSUMER, Topic::Policies)?.get(0);
    let mut last = None;
    entries(log, from, |offset, entry| {
        if let Entry::Serving(serving) = entry {
            last = Some((offset, *serving));
        }
    })?;
    Ok(last)
}

/// Every change of what serves, oldest first.
pub fn changes(log: &dyn Log) -> Result<Vec<Serving>, LogError> {
    let mut all: Vec<Serving> = Vec::new();
    entries(log, 0, |_, entry| match entry {
        // One written anew says the same again.
        Entry::Serving(serving) if all.last() != Some(&*serving) => all.push(*serving),
        _ => {}
    })?;
    Ok(all)
}

/// Writes a change of what serves; it holds once this returns.
pub async fn write_serving(log: &dyn Log, serving: &Serving) -> Result<(), LogError> {
    let append =
        Append { subject: Serving::SUBJECT.to_owned(), key: 0, payload: serving.encode_to_vec().into() };
    let outcomes = log.append(Topic::Policies, vec![append]).await?;
    if let Some(Appended::At(partition, offset)) = outcomes.first() {
        log.commit(SERVING_CONSUMER, Topic::Policies, &Position([(*partition, *offset)].into())).await?;
    }
    Ok(())
}

/// Keeps the last change of what serves within reach of the next start.
pub async fn keep_near(log: &dyn Log) -> Result<(), LogError> {
    let end = log.end(Topic::Policies).get(0);
    match serving(log)? {
        Some((at, serving)) if end.saturating_sub(at) > FAR_BEHIND => write_serving(log, &serving).await,
        Some(_) => Ok(()),
        None => log.commit(SERVING_CONSUMER, Topic::Policies, &Position([(0, end)].into())).await,
    }
}

/// A snapshot that `wanted` accepts, the newest of them, with its state.
pub fn newest(log: &dyn Log, wanted: impl Fn(&SavedPolicy) -> bool) -> Result<Option<SavedPolicy>, LogError> {
    let mut last: Option<SavedPolicy> = None;
    entries(log, 0, |_, entry| match entry {
        Entry::Snapshot(saved) if wanted(&saved) => last = Some(*saved),
        _ => {}
    })?;
    last.map(|saved| load_state(log, saved)).transpose()
}

/// When a snapshot was taken, as people write it.
pub fn instant(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at).unwrap_or_default().to_string()
}
