//! The questions of a [`Spread`], as a table, and with them what the clocks of their people showed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array},
    compute::concat_batches,
    datatypes::{TimestampMillisecondType, UInt64Type},
    error::ArrowError,
};
use ingest::Millis;

use super::{ZONES, beside::zone_named, named, spread::Spread, window};
use crate::{
    error::FeatureError,
    past::{Asked, Known},
    view::{View, window::FOR_EVER},
};

/// Number of the question: of the row asked for, times the windows, plus that of the window.
pub(super) const NUMBER: &str = "__number";
/// Number of the row asked for.
pub(super) const ROW: &str = "__row";
/// Whose.
pub(super) const WHO: &str = "__who";
/// When.
pub(super) const AT: &str = "__at";
/// The window begins after this instant.
pub(super) const AFTER: &str = "__after";
/// No window of the row begins before this instant.
pub(super) const OLDEST: &str = "__oldest";
/// The person's time zone then.
pub(super) const HERE: &str = "__here";

/// What all the questions of a run lie within.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// No window begins before this instant.
    pub oldest: Millis,
    /// No signal counts that is later.
    pub newest: Millis,
    /// The first of the people by their names,
    pub first: String,
    /// and the last.
    pub last: String,
}

/// Questions ready to be asked.
#[derive(Debug, Clone)]
pub struct Questions {
    /// One row a window of each row asked for.
    pub rows: RecordBatch,
    /// The spans of time in which a person's clock showed one zone, for each row asked for.
    pub clocks: RecordBatch,
    /// What they lie within.
    pub bounds: Bounds,
    /// Rows asked for whose person moved, which became known only later.
    pub late: HashSet<u64>,
}

/// A change of a person's time zone: when, whence, which, to what, and when it became known.
type Change = (Millis, String, String, String, Millis);

impl Spread<'_> {
    /// The questions of the windows of `view` for the rows asked; `changes` are the rows of [`Spread::clocks`] for
    /// these people, if there is such a table.
    ///
    /// # Errors
    /// Rows of another form than the table has; instants beyond every calendar.
    pub fn questions(
        &self,
        view: &View,
        asked: &Asked<'_>,
        changes: &[RecordBatch],
    ) -> Result<Questions, FeatureError> {
        let d = &self.reference.definition;
        let wrong = FeatureError::compute(&d.name);
        let changes = self.changes(changes).map_err(&wrong)?;
        let (mut rows, mut clocks, mut late) = (Rows::default(), Clocks::default(), HashSet::new());
        for (row, (who, at)) in asked.rows.iter().enumerate() {
            let all = changes.get(*who).map_or(&[][..], Vec::as_slice);
            let past = all.iter().filter(|c| c.0 <= *at);
            let seen: Vec<&Change> =
                past.clone().filter(|c| asked.known == Known::ByNow || c.4 <= *at).collect();
            if seen.len() < past.count() {
                late.insert(row as u64);
            }
            let here = seen.last().map(|c| c.3.as_str());
            for (i, change) in seen.iter().enumerate() {
                clocks.row.push(row as u64);
                clocks.since.push(change.0);
                clocks.until.push(seen.get(i + 1).map_or(FOR_EVER, |next| next.0));
                clocks.zone.push(change.3.clone());
            }
            let zone = zone_named(here);
            for w in &d.windows {
                let after = window::opens_after(w, d.resolution_ms, &zone, &[], *at);
                let after = after.map_err(|e| {
                    FeatureError::Request(format!("{}: the window {} has no begin: {e}", d.name, w.label))
                })?;
                rows.number.push(rows.number.len() as u64);
                rows.row.push(row as u64);
                rows.who.push(who);
                rows.at.push(*at);
                rows.after.push(after.max(-FOR_EVER));
                rows.oldest.push(at.saturating_sub(view.longest()).max(-FOR_EVER));
                rows.here.push(here);
            }
        }
        let bounds = Bounds {
            oldest: rows.oldest.iter().chain(&rows.after).min().copied().unwrap_or(0),
            newest: rows.at.iter().max().copied().unwrap_or(0),
            first: rows.who.iter().min().map_or(String::new(), |w| (*w).to_owned()),
            last: rows.who.iter().max().map_or(String::new(), |w| (*w).to_owned()),
        };
        let failed = |e: ArrowError| wrong(e.into());
        Ok(Questions {
            rows: rows.batch().map_err(failed)?,
            clocks: clocks.batch().map_err(failed)?,
            bounds,
            late,
        })
    }

    /// The changes of each person's time zone in order, each (source, id) once: the first in the log.
    fn changes(
        &self,
        batches: &[RecordBatch],
    ) -> Result<HashMap<String, Vec<Change>>, datafusion::error::DataFusionError> {
        let mut of: HashMap<String, Vec<Change>> = HashMap::new();
        let Some(schema) = batches.first().map(RecordBatch::schema) else { return Ok(of) };
        let all = concat_batches(&schema, batches)?;
        let texts =
            |name: &str| Ok::<_, datafusion::error::DataFusionError>(named(&all, name)?.as_string::<i32>());
        let (people, sources, ids) = (texts("subject")?, texts("source")?, texts("id")?);
        let zones = texts(ZONES.1)?;
        let times = named(&all, "time")?.as_primitive::<TimestampMillisecondType>();
        let arrivals = named(&all, "received_at")?.as_primitive::<TimestampMillisecondType>();
        let offsets = named(&all, "offset")?.as_primitive::<UInt64Type>();
        let mut order: Vec<usize> = (0..all.num_rows()).collect();
        order.sort_by_key(|i| offsets.value(*i));
        let mut seen = HashSet::new();
        for i in order {
            let first = seen.insert((people.value(i), sources.value(i), ids.value(i)));
            if first && zones.is_valid(i) {
                let arrival = if arrivals.is_valid(i) { arrivals.value(i) } else { Millis::MIN };
                of.entry(people.value(i).to_owned()).or_default().push((
                    times.value(i),
                    sources.value(i).to_owned(),
                    ids.value(i).to_owned(),
                    zones.value(i).to_owned(),
                    arrival,
                ));
            }
        }
        of.values_mut().for_each(|changes| changes.sort_unstable());
        Ok(of)
    }
}

#[derive(Default)]
struct Rows<'a> {
    number: Vec<u64>,
    row: Vec<u64>,
    who: Vec<&'a str>,
    at: Vec<Millis>,
    after: Vec<Millis>,
    oldest: Vec<Millis>,
    here: Vec<Option<&'a str>>,
}

impl Rows<'_> {
    fn batch(self) -> Result<RecordBatch, ArrowError> {
        let here: StringArray = self.here.into_iter().collect();
        // Outer joins on other machines take it badly when a column is declared without NULLs.
        RecordBatch::try_from_iter_with_nullable([
            (NUMBER, numbers(self.number), true),
            (ROW, numbers(self.row), true),
            (WHO, Arc::new(StringArray::from_iter_values(self.who)) as ArrayRef, true),
            (AT, instants(self.at), true),
            (AFTER, instants(self.after), true),
            (OLDEST, instants(self.oldest), true),
            (HERE, Arc::new(here), true),
        ])
    }
}

#[derive(Default)]
struct Clocks {
    row: Vec<u64>,
    since: Vec<Millis>,
    until: Vec<Millis>,
    zone: Vec<String>,
}

impl Clocks {
    fn batch(self) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_from_iter_with_nullable([
            (ROW, numbers(self.row), true),
            ("since", instants(self.since), true),
            ("until", instants(self.until), true),
            ("zone", Arc::new(StringArray::from_iter_values(self.zone)) as ArrayRef, true),
        ])
    }
}

fn numbers(values: Vec<u64>) -> ArrayRef {
    Arc::new(UInt64Array::from(values))
}

fn instants(values: Vec<Millis>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(values).with_timezone("+00:00"))
}
