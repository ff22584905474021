//! The state of one partition: the row of every entity and view, and when each next changes by itself.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{
        ArrayRef, AsArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array, UInt64Array,
    },
    datatypes::UInt64Type,
};
use bytes::Bytes;
use features::{
    FeatureError, View,
    contexts::merge_contexts,
    events::{EventBuffer, Events},
    history::PastEvents,
    online::OnlineRow,
    row::{self, Row, RowHeader},
    view::{Kept, ViewId},
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
    contexts: Vec<EventBuffer>,
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

    /// Adds the signals of a micro-batch, all of this partition: for each table its rows in log order.
    pub fn apply(
        &mut self,
        tables: &[(&str, &RecordBatch)],
        changes: &mut Changes,
    ) -> Result<(), FeatureError> {
        let (watermark, partition) = (self.watermark, self.partition);
        self.views.iter_mut().try_for_each(|v| v.apply(partition, watermark, tables, changes))
    }

    /// Begins a view from what history holds of its entities, of this partition among them.
    pub fn fill(
        &mut self,
        view: &View,
        past: &PastEvents,
        changes: &mut Changes,
    ) -> Result<(), FeatureError> {
        let (watermark, partition) = (self.watermark, self.partition);
        self.views
            .iter_mut()
            .filter(|v| v.view.id == view.id)
            .try_for_each(|v| v.fill(partition, watermark, past, changes))
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
                let Some(row) = Row::parse(b, &v.view) else { return true };
                // What a slowly changing table says holds on, however old.
                row.contexts.iter().all(|c| c.is_empty())
                    && row.events.len().checked_sub(1).is_none_or(|last| row.events.time(last) <= horizon)
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
        tables: &[(&str, &RecordBatch)],
        changes: &mut Changes,
    ) -> Result<(), FeatureError> {
        // What the batches hold for this view: signals, or changes of a slowly changing table by its number.
        let mut found: Vec<(Option<usize>, &RecordBatch, Events)> = Vec::new();
        for (table, batch) in tables {
            if self.view.table == *table {
                found.push((None, batch, self.view.project(batch)?));
            }
            for (number, context) in self.view.contexts().enumerate() {
                if **context == **table {
                    found.push((Some(number), batch, self.view.project_context(number, batch)?));
                }
            }
        }
        let mut groups: HashMap<&str, Vec<(usize, usize)>, ahash::RandomState> = HashMap::default();
        let mut offsets = Vec::with_capacity(found.len());
        for (k, (_, batch, events)) in found.iter().enumerate() {
            let subjects = column(batch, "subject")?.as_string::<i32>();
            offsets.push(column(batch, "offset")?.as_primitive::<UInt64Type>());
            for (i, row) in events.rows.iter().enumerate() {
                groups.entry(subjects.value(*row as usize)).or_default().push((k, i));
            }
        }
        let on_time = watermark.saturating_sub(self.view.definition.lateness_ms);
        let horizon = watermark.saturating_sub(self.view.horizon());
        let mut late = 0;
        let mut touched = Vec::with_capacity(groups.len());
        for (entity, of_entity) in groups {
            let (entity, old) = match self.rows.get_key_value(entity) {
                Some((e, b)) => (e.clone(), Row::parse(b, &self.view)),
                None => (Arc::from(entity), None),
            };
            let applied = old.as_ref().map_or(0, |r| r.header().next_offset);
            let mut next_offset = applied;
            let mut new = Vec::with_capacity(of_entity.len());
            let mut changed = vec![Vec::new(); self.view.context_tables()];
            for (k, i) in of_entity {
                let (context, _, events) = &found[k];
                let offset = offsets[k].value(events.rows[i] as usize);
                if offset < applied {
                    continue; // in the row already: a replay after a crash
                }
                next_offset = next_offset.max(offset + 1);
                let event = events.get(i);
                late += usize::from(event.0 <= on_time);
                match context {
                    None => new.push(event),
                    Some(number) => changed[*number].push(event),
                }
            }
            if next_offset == applied {
                continue;
            }
            let (events, contexts) = merged(&self.view, old.as_ref(), &mut new, &mut changed, horizon);
            if let Some(at) = newest(&events, &contexts) {
                touched.push(Touched { entity, events, contexts, next_offset, at });
            }
        }
        if late > 0 {
            changes.late.push((self.view.clone(), late));
        }
        self.write(partition, touched, true, changes)
    }

    fn fill(
        &mut self,
        partition: Partition,
        watermark: Millis,
        past: &PastEvents,
        changes: &mut Changes,
    ) -> Result<(), FeatureError> {
        let horizon = watermark.saturating_sub(self.view.horizon());
        let mut touched = Vec::new();
        for entity in past.entities() {
            let position = past.position(entity);
            let Some(next_offset) = position.0.get(&partition).copied() else { continue };
            let kept = past.of(entity, Millis::MAX);
            let events = EventBuffer::merge(kept.events, &mut [], horizon);
            let contexts: Vec<_> =
                kept.contexts.iter().map(|c| merge_contexts(*c, &mut [], horizon)).collect();
            if let Some(at) = newest(&events, &contexts) {
                touched.push(Touched { entity: entity.into(), events, contexts, next_offset, at });
            }
            if touched.len() >= 4_096 {
                self.write(partition, std::mem::take(&mut touched), true, changes)?;
            }
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
            let mut nothing = vec![Vec::new(); self.view.context_tables()];
            let (events, contexts) = merged(&self.view, Some(&row), &mut [], &mut nothing, horizon);
            let next_offset = row.header().next_offset;
            touched.push(Touched { entity, events, contexts, next_offset, at: now });
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
        let kept: Vec<Kept<'_>> = touched.iter().map(Touched::kept).collect();
        let columns = self.view.evaluate(&kept)?;
        let untils: Vec<Millis> = kept.iter().map(|k| self.view.next_change(k)).collect::<Result<_, _>>()?;
        changes.values.push((self.view.clone(), self.history(partition, &touched, by_signal, &columns)?));
        for (i, t) in touched.into_iter().enumerate() {
            let list = t.events.as_list();
            let header = RowHeader {
                version: self.view.version,
                partition,
                next_offset: t.next_offset,
                from: t.at,
                until: untils[i],
                newest: list.newest_until(t.at).unwrap_or(Millis::MIN),
            };
            // Nothing left in any window: no row reads the same.
            let empty = list.is_empty() && t.contexts.iter().all(EventBuffer::is_empty);
            let bytes =
                (!empty).then(|| Bytes::from(row::write(header, &columns, i, &t.events, &t.contexts)));
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

impl Touched {
    fn kept(&self) -> Kept<'_> {
        let contexts = self.contexts.iter().map(EventBuffer::as_list).collect();
        Kept { events: self.events.as_list(), contexts, at: self.at }
    }
}

/// What is kept of an entity once `new` signals have come, and `changed` rows of slowly changing tables.
fn merged(
    view: &View,
    old: Option<&Row<'_>>,
    new: &mut [(Millis, &[u8])],
    changed: &mut [Vec<(Millis, &[u8])>],
    horizon: Millis,
) -> (EventBuffer, Vec<EventBuffer>) {
    debug_assert_eq!(changed.len(), view.context_tables());
    let events = EventBuffer::merge(old.map(|r| r.events).unwrap_or_default(), new, horizon);
    let list = |number: usize| old.map(|r| r.contexts[number]).unwrap_or_default();
    let contexts =
        changed.iter_mut().enumerate().map(|(number, new)| merge_contexts(list(number), new, horizon));
    (events, contexts.collect())
}

/// The time of the newest among what is kept of an entity.
fn newest(events: &EventBuffer, contexts: &[EventBuffer]) -> Option<Millis> {
    let last = |b: &EventBuffer| b.len().checked_sub(1).map(|last| b.as_list().time(last));
    contexts.iter().chain([events]).filter_map(last).max()
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, FeatureError> {
    batch
        .column_by_name(name)
        .ok_or_else(|| FeatureError::Damaged(format!("a batch of signals lacks the column {name}")))
}
