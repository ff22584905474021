//! What to read of a table, and the test of a row against it.

use arrow::{
    array::{Array, AsArray, BooleanArray, StringArray},
    compute::{and, filter_record_batch, kernels::cmp},
    datatypes::{TimestampMillisecondType, UInt32Type, UInt64Type},
    error::ArrowError,
    record_batch::RecordBatch,
};
use hashbrown::HashSet;
use ingest::{Millis, log::Position};

use super::layout::Layout;

/// What to read of a table; the default reads all of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScanFilter {
    /// Only rows of these entities.
    pub subjects: Option<Vec<String>>,
    /// Only rows of this entity and those that come after it by their bytes: to go on where a stream ended.
    pub from_subject: Option<String>,
    /// Only rows with `time > after`.
    pub after: Option<Millis>,
    /// Only rows with `time <= until`.
    pub until: Option<Millis>,
    /// Only rows that stand in the log below this position: what was known there.
    pub max_position: Option<Position>,
    /// Only these columns, in this order.
    pub columns: Option<Vec<String>>,
}

impl ScanFilter {
    /// Rows of one entity with `after < time <= until`.
    pub fn window(subject: &str, after: Millis, until: Millis) -> Self {
        ScanFilter {
            subjects: Some(vec![subject.to_owned()]),
            after: Some(after),
            until: Some(until),
            ..Self::default()
        }
    }
}

/// A filter made ready: tests rows, and bounds that rule out whole files and pages.
#[derive(Debug, Clone)]
pub(crate) struct RowTest {
    pub layout: Layout,
    /// Sorted, without repeats.
    pub entities: Option<Vec<String>>,
    many: HashSet<String>,
    pub from_entity: Option<String>,
    pub after: Option<Millis>,
    pub until: Option<Millis>,
    max_position: Option<Position>,
    /// Set for the opposite question: every row but those of this entity.
    except: Option<String>,
}

impl RowTest {
    /// `kept_after` is the table's retention: rows at or before it are gone.
    pub fn new(filter: &ScanFilter, layout: Layout, kept_after: Option<Millis>) -> Self {
        let mut entities = filter.subjects.clone();
        if let Some(list) = &mut entities {
            list.sort_unstable();
            list.dedup();
        }
        let many = match &entities {
            Some(list) if list.len() > 1 => list.iter().cloned().collect(),
            _ => HashSet::new(),
        };
        let max_position = filter.max_position.clone().filter(|_| layout.has_place);
        RowTest {
            layout,
            entities,
            many,
            from_entity: filter.from_subject.clone(),
            after: filter.after.max(kept_after),
            until: filter.until,
            max_position,
            except: None,
        }
    }

    /// Passes every row that retention keeps and that is not about `entity`.
    pub fn all_but(entity: Option<&str>, layout: Layout, kept_after: Option<Millis>) -> Self {
        let except = entity.map(str::to_owned);
        RowTest { except, ..Self::new(&ScanFilter::default(), layout, kept_after) }
    }

    /// Whether rows with these bounds might pass.
    pub fn may_pass(&self, entities: Option<(&[u8], &[u8])>, times: Option<(Millis, Millis)>) -> bool {
        times.is_none_or(|(min, max)| self.time_may_pass(min, max))
            && match (&self.from_entity, entities) {
                (Some(from), Some((_, max))) => from.as_bytes() <= max,
                _ => true,
            }
            && match (&self.entities, entities) {
                (Some(list), Some((min, max))) => {
                    let from = list.partition_point(|e| e.as_bytes() < min);
                    list.get(from).is_some_and(|e| e.as_bytes() <= max)
                }
                (Some(list), None) => !list.is_empty(),
                (None, _) => true,
            }
    }

    /// Whether a row with a time in these bounds might pass, as far as times go.
    pub fn time_may_pass(&self, min: Millis, max: Millis) -> bool {
        self.after.is_none_or(|after| max > after) && self.until.is_none_or(|until| min <= until)
    }

    /// Columns that [`entity_mask`](Self::entity_mask) looks at; empty when it has nothing to test.
    pub fn entity_columns(&self) -> Vec<&str> {
        let tested = self.entities.is_some() || self.from_entity.is_some() || self.except.is_some();
        if tested { vec![&self.layout.entity] } else { Vec::new() }
    }

    /// Columns that [`other_mask`](Self::other_mask) looks at; empty when it has nothing to test.
    pub fn other_columns(&self) -> Vec<&str> {
        let mut columns: Vec<&str> = Vec::new();
        if self.after.is_some() || self.until.is_some() {
            columns.push(&self.layout.time);
        }
        if self.max_position.is_some() {
            columns.extend(["partition", "offset"]);
        }
        columns
    }

    /// Which rows are about the right entity.
    pub fn entity_mask(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let column = named(batch, &self.layout.entity)?.as_string::<i32>();
        if let Some(except) = &self.except {
            return cmp::neq(column, &StringArray::new_scalar(except));
        }
        let named = match self.entities.as_deref() {
            Some([one]) => cmp::eq(column, &StringArray::new_scalar(one))?,
            Some(_) => column.iter().map(|e| Some(e.is_some_and(|e| self.many.contains(e)))).collect(),
            None => all(batch),
        };
        match &self.from_entity {
            Some(from) => and(&named, &cmp::gt_eq(column, &StringArray::new_scalar(from))?),
            None => Ok(named),
        }
    }

    /// Which rows lie in the span of time and were known at the position.
    pub fn other_mask(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let mut mask = all(batch);
        if self.after.is_some() || self.until.is_some() {
            let after = self.after.unwrap_or(Millis::MIN);
            let until = self.until.unwrap_or(Millis::MAX);
            let open_start = self.after.is_none();
            let times = named(batch, &self.layout.time)?.as_primitive::<TimestampMillisecondType>();
            let within = BooleanArray::from_unary(times, |t| (open_start || t > after) && t <= until);
            mask = and(&mask, &within)?;
        }
        if let Some(position) = &self.max_position {
            mask = and(&mask, &below(batch, position)?)?;
        }
        Ok(mask)
    }

    /// The rows of a batch that pass.
    pub fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let mut batch = batch.clone();
        if !self.entity_columns().is_empty() {
            batch = filter_record_batch(&batch, &self.entity_mask(&batch)?)?;
        }
        if !self.other_columns().is_empty() {
            batch = filter_record_batch(&batch, &self.other_mask(&batch)?)?;
        }
        Ok(batch)
    }
}

fn all(batch: &RecordBatch) -> BooleanArray {
    BooleanArray::from(vec![true; batch.num_rows()])
}

fn named<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array, ArrowError> {
    batch
        .column_by_name(name)
        .map(AsRef::as_ref)
        .ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")))
}

/// Which rows stand below a position in the log; rows without a place do.
pub(crate) fn below(batch: &RecordBatch, position: &Position) -> Result<BooleanArray, ArrowError> {
    let partitions = named(batch, "partition")?.as_primitive::<UInt32Type>();
    let offsets = named(batch, "offset")?.as_primitive::<UInt64Type>();
    let known = |place| match place {
        (Some(partition), Some(offset)) => Some(offset < position.get(partition)),
        _ => Some(true),
    };
    Ok(partitions.iter().zip(offsets.iter()).map(known).collect())
}

/// The rows of a batch that the log brought at or above a position, and those without a place.
pub(crate) fn not_below(batch: &RecordBatch, position: &Position) -> Result<RecordBatch, ArrowError> {
    let partitions = named(batch, "partition")?.as_primitive::<UInt32Type>();
    let offsets = named(batch, "offset")?.as_primitive::<UInt64Type>();
    let fresh = |place| match place {
        (Some(partition), Some(offset)) => Some(offset >= position.get(partition)),
        _ => Some(true),
    };
    let mask: BooleanArray = partitions.iter().zip(offsets.iter()).map(fresh).collect();
    if mask.true_count() == batch.num_rows() {
        return Ok(batch.clone());
    }
    filter_record_batch(batch, &mask)
}

/// Moves a position past every row of a batch that has a place in the log.
pub(crate) fn reach(position: &mut Position, batch: &RecordBatch) -> Result<(), ArrowError> {
    let partitions = named(batch, "partition")?.as_primitive::<UInt32Type>();
    let offsets = named(batch, "offset")?.as_primitive::<UInt64Type>();
    let mut places: Vec<_> = partitions.iter().zip(offsets.iter()).filter_map(|(p, o)| p.zip(o)).collect();
    places.sort_unstable();
    for last in places.chunk_by(|a, b| a.0 == b.0).filter_map(<[_]>::last) {
        position.advance(last.0, last.1);
    }
    Ok(())
}
