//! The state of one partition: the row of every entity and view, and when each next changes by itself.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{
        ArrayRef, AsArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array, UInt64Array,
    },
    datatypes::{UInt32Type, UInt64Type},
};
use bytes::Bytes;
use features::{
    FeatureError, View,
    events::{EventBuffer, EventList},
    online::OnlineRow,
    row::{self, Row, RowHeader},
    view::ViewId,
};
use hashbrown::{HashMap, HashSet};
use ingest::{
    Millis,
    log::{Offset, Partition},
};

use crate::seen::Seen;

/// What one step changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Rows to put online.
    pub rows: Vec<OnlineRow>,
    /// Values for history, by view.
    pub values: Vec<(Arc<View>, RecordBatch)>,
    /// Events that came later than their view allows, by view.
    pub late: Vec<(Arc<View>, usize)>,
}

/// See the module.
#[derive(Debug)]
pub struct Shard {
    /// Its partition.
    pub partition: Partition,
    /// Newest event time seen; `Millis::MIN` before the first.
    pub watermark: Millis,
    /// Keys seen.
    pub seen: Seen,
    views: Vec<ViewState>,
}

#[derive(Debug)]
struct ViewState {
    view: Arc<View>,
    rows: HashMap<Arc<str>, Bytes, ahash::RandomState>,
    /// When values change by themselves: the instant, and whose.
    due: BTreeSet<(Millis, Arc<str>)>,
    dirty: HashSet<Arc<str>, ahash::RandomState>,
}

/// An entity about to get a new row.
struct Touched {
    entity: Arc<str>,
    events: EventBuffer,
    next_offset: Offset,
    /// The instant its values are computed for.
    at: Millis,
}

impl Shard {
    /// An empty shard.
    pub fn new(partition: Partition, views: &[Arc<View>]) -> Self {
        let state = |v: &Arc<View>| ViewState {
            view: v.clone(),
            rows: HashMap::default(),
            due: BTreeSet::new(),
            dirty: HashSet::default(),
        };
        Shard {
            partition,
            watermark: Millis::MIN,
            seen: Seen::default(),
            views: views.iter().map(state).collect(),
        }
    }

    /// Takes up a row from a checkpoint.
    pub fn restore(&mut self, view: ViewId, entity: Arc<str>, bytes: Bytes) {
        if let Some(v) = self.views.get_mut(view as usize) {
            v.set(entity, Some(bytes));
        }
    }

    /// Rows of a view, to fill an online store with.
    pub fn rows(&self) -> impl Iterator<Item = OnlineRow> + '_ {
        self.views.iter().flat_map(|v| {
            v.rows.iter().map(|(entity, bytes)| OnlineRow {
                view: v.view.clone(),
                entity: entity.clone(),
                bytes: Some(bytes.clone()),
            })
        })
    }

    /// Rows changed since the last call, for the checkpoint.
    pub fn take_dirty(&mut self) -> Vec<OnlineRow> {
        let mut out = Vec::new();
        for v in &mut self.views {
            for entity in v.dirty.drain() {
                let bytes = v.rows.get(&entity).cloned();
                out.push(OnlineRow { view: v.view.clone(), entity, bytes });
            }
        }
        out
    }

    /// The oldest event time any view may still need.
    pub fn horizon(&self) -> Millis {
        let longest = self.views.iter().map(|v| v.view.horizon()).max().unwrap_or(0);
        self.watermark.saturating_sub(longest)
    }

    /// Adds a batch of signals of one table, all of this partition, in log order.
    pub fn apply(
        &mut self,
        table: &str,
        signals: &RecordBatch,
        changes: &mut Changes,
    ) -> Result<(), FeatureError> {
        let watermark = self.watermark;
        let partition = self.partition;
        for v in self.views.iter_mut().filter(|v| v.view.table == table) {
            v.apply(partition, watermark, signals, changes)?;
        }
        Ok(())
    }

    /// As [`apply`](Self::apply), for one view alone.
    pub fn apply_to(
        &mut self,
        view: &View,
        signals: &RecordBatch,
        changes: &mut Changes,
    ) -> Result<(), FeatureError> {
        let (partition, watermark) = (self.partition, self.watermark);
        self.views
            .iter_mut()
            .filter(|v| v.view.id == view.id)
            .try_for_each(|v| v.apply(partition, watermark, signals, changes))
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.views.iter().map(|v| v.rows.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Brings values up to date that changed because time passed; at most `limit` rows a view.
    pub fn sweep(&mut self, now: Millis, limit: usize, changes: &mut Changes) -> Result<(), FeatureError> {
        for v in &mut self.views {
            v.sweep(self.partition, self.watermark, now, limit, changes)?;
        }
        Ok(())
    }

    /// Takes out the rows all of whose events are older than any window and its lateness can reach.
    pub fn forget_old(&mut self, changes: &mut Changes) {
        let watermark = self.watermark;
        for v in &mut self.views {
            let horizon = watermark.saturating_sub(v.view.horizon());
            let old = |b: &Bytes| {
                let events = Row::parse(b, &v.view).map(|r| r.events).unwrap_or_default();
                events.len().checked_sub(1).is_none_or(|last| events.time(last) <= horizon)
            };
            let gone: Vec<_> = v.rows.iter().filter(|(_, b)| old(b)).map(|(e, _)| e.clone()).collect();
            for entity in gone {
                v.set(entity.clone(), None);
                v.dirty.insert(entity.clone());
                changes.rows.push(OnlineRow { view: v.view.clone(), entity, bytes: None });
            }
        }
    }

    /// Takes a person out of every view.
    pub fn erase(&mut self, entity: &str, changes: &mut Changes) {
        for v in &mut self.views {
            if let Some((entity, _)) = v.rows.get_key_value(entity).map(|(e, b)| (e.clone(), b.clone())) {
                v.set(entity.clone(), None);
                v.dirty.insert(entity.clone());
                changes.rows.push(OnlineRow { view: v.view.clone(), entity, bytes: None });
            }
        }
    }
}

impl ViewState {
    /// Replaces a row, and what is due with it.
    fn set(&mut self, entity: Arc<str>, bytes: Option<Bytes>) {
        let until =
            |b: &Bytes| Row::parse(b, &self.view).map(|r| r.header().until).filter(|t| *t < Millis::MAX);
        let new_due = bytes.as_ref().and_then(until);
        let old = match bytes {
            Some(bytes) => self.rows.insert(entity.clone(), bytes),
            None => self.rows.remove(&entity),
        };
        if let Some(t) = old.as_ref().and_then(until) {
            self.due.remove(&(t, entity.clone()));
        }
        if let Some(t) = new_due {
            self.due.insert((t, entity));
        }
    }

    fn apply(
        &mut self,
        partition: Partition,
        watermark: Millis,
        signals: &RecordBatch,
        changes: &mut Changes,
    ) -> Result<(), FeatureError> {
        let events = self.view.project(signals)?;
        if events.is_empty() {
            return Ok(());
        }
        let damaged =
            |c: &str| FeatureError::Damaged(format!("a batch of {} lacks the column {c}", self.view.table));
        let subjects =
            signals.column_by_name("subject").ok_or_else(|| damaged("subject"))?.as_string::<i32>();
        let offsets =
            signals.column_by_name("offset").ok_or_else(|| damaged("offset"))?.as_primitive::<UInt64Type>();

        let mut groups: HashMap<&str, Vec<usize>, ahash::RandomState> = HashMap::default();
        for (i, row) in events.rows.iter().enumerate() {
            groups.entry(subjects.value(*row as usize)).or_default().push(i);
        }
        let on_time = watermark.saturating_sub(self.view.definition.lateness_ms);
        let horizon = watermark.saturating_sub(self.view.horizon());
        let mut late = 0;
        let mut touched = Vec::with_capacity(groups.len());
        for (entity, found) in groups {
            let (entity, old) = match self.rows.get_key_value(entity) {
                Some((e, b)) => (e.clone(), Row::parse(b, &self.view)),
                None => (Arc::from(entity), None),
            };
            let applied = old.map_or(0, |r| r.header().next_offset);
            let mut next_offset = applied;
            let mut new = Vec::with_capacity(found.len());
            for i in found {
                let offset = offsets.value(events.rows[i] as usize);
                if offset < applied {
                    continue; // in the row already: a replay after a crash
                }
                next_offset = next_offset.max(offset + 1);
                let event = events.get(i);
                late += usize::from(event.0 <= on_time);
                new.push(event);
            }
            if new.is_empty() {
                continue;
            }
            let merged = EventBuffer::merge(old.map(|r| r.events).unwrap_or_default(), &mut new, horizon);
            if let Some(last) = merged.len().checked_sub(1) {
                let at = merged.as_list().time(last);
                touched.push(Touched { entity, events: merged, next_offset, at });
            }
        }
        if late > 0 {
            changes.late.push((self.view.clone(), late));
        }
        self.write(partition, touched, true, changes)
    }

    fn sweep(
        &mut self,
        partition: Partition,
        watermark: Millis,
        now: Millis,
        limit: usize,
        changes: &mut Changes,
    ) -> Result<(), FeatureError> {
        let horizon = watermark.saturating_sub(self.view.horizon());
        let due: Vec<_> =
            self.due.iter().take(limit).take_while(|(t, _)| *t <= now).map(|(_, e)| e.clone()).collect();
        let mut touched = Vec::with_capacity(due.len());
        for entity in due {
            let Some(row) = self.rows.get(&entity).and_then(|b| Row::parse(b, &self.view)) else { continue };
            let events = EventBuffer::merge(row.events, &mut [], horizon);
            let next_offset = row.header().next_offset;
            touched.push(Touched { entity, events, next_offset, at: now });
        }
        self.write(partition, touched, false, changes)
    }

    /// Computes the values of the touched entities and replaces their rows.
    fn write(
        &mut self,
        partition: Partition,
        touched: Vec<Touched>,
        by_signal: bool,
        changes: &mut Changes,
    ) -> Result<(), FeatureError> {
        if touched.is_empty() {
            return Ok(());
        }
        let lists: Vec<(EventList<'_>, Millis)> =
            touched.iter().map(|t| (t.events.as_list(), t.at)).collect();
        let columns = self.view.evaluate(&lists)?;
        changes.values.push((self.view.clone(), self.history(partition, &touched, by_signal, &columns)?));
        let windows: Vec<Millis> = self.view.windows().iter().map(|w| w.millis).collect();
        for (i, t) in touched.into_iter().enumerate() {
            let list = t.events.as_list();
            let header = RowHeader {
                version: self.view.version,
                partition,
                next_offset: t.next_offset,
                from: t.at,
                until: list.next_change(t.at, &windows),
                newest: list.newest_until(t.at).unwrap_or(Millis::MIN),
            };
            // Nothing left in any window: no row reads the same.
            let bytes = (!list.is_empty()).then(|| Bytes::from(row::write(header, &columns, i, &t.events)));
            changes.rows.push(OnlineRow {
                view: self.view.clone(),
                entity: t.entity.clone(),
                bytes: bytes.clone(),
            });
            self.dirty.insert(t.entity.clone());
            self.set(t.entity, bytes);
        }
        Ok(())
    }

    /// One row of history an entity: its values, the instant they are for, and the record that brought them
    /// (none when it was the passing of time).
    fn history(
        &self,
        partition: Partition,
        touched: &[Touched],
        by_signal: bool,
        columns: &[ArrayRef],
    ) -> Result<RecordBatch, FeatureError> {
        let place = |t: &Touched| by_signal.then(|| t.next_offset.saturating_sub(1));
        let mut all: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(touched.iter().map(|t| &t.entity))),
            Arc::new(
                TimestampMillisecondArray::from_iter_values(touched.iter().map(|t| t.at))
                    .with_timezone("+00:00"),
            ),
            Arc::new(UInt32Array::from_iter(touched.iter().map(|_| by_signal.then_some(partition)))),
            Arc::new(UInt64Array::from_iter(touched.iter().map(place))),
        ];
        all.extend(columns.iter().cloned());
        RecordBatch::try_new(self.view.history_schema(), all).map_err(|e| FeatureError::Compute {
            what: self.view.name.to_string(),
            source: Box::new(e.into()),
        })
    }
}

/// The rows of a batch of signals by partition, each with its number.
pub fn by_partition(
    batch: &RecordBatch,
    partitions: usize,
) -> Result<Vec<(usize, RecordBatch)>, FeatureError> {
    let damaged = || FeatureError::Damaged("a batch of signals lacks the column partition".to_owned());
    let column = batch.column_by_name("partition").ok_or_else(damaged)?.as_primitive::<UInt32Type>();
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); partitions];
    for (i, p) in column.values().iter().enumerate() {
        if let Some(of_partition) = rows.get_mut(*p as usize) {
            of_partition.push(i as u32);
        }
    }
    let take = |(p, rows): (usize, Vec<u32>)| {
        let part = arrow::compute::take_record_batch(batch, &UInt32Array::from(rows));
        part.map(|b| (p, b))
            .map_err(|e| FeatureError::Compute { what: "signals".to_owned(), source: Box::new(e.into()) })
    };
    rows.into_iter().enumerate().filter(|(_, r)| !r.is_empty()).map(take).collect()
}
