//! The state of one partition: the row of every entity and view, and when each next changes by itself.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{
        ArrayRef, AsArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array, UInt64Array,
    },
    datatypes::UInt64Type,
};
use features::{
    FeatureError, Row, View,
    chunks::{Source, Tree},
    contexts::merge_contexts,
    events::{EventBuffer, Events, Timeline},
    history::PastEvents,
    online::OnlineRow,
    row::RowHeader,
    view::{Kept, ViewId},
};
use hashbrown::HashMap;
use ingest::{
    Millis,
    log::{Offset, Partition},
};

use crate::{
    checkpoint::ChangedRows,
    entities::{Entities, Rows},
    seen::Seen,
};

/// Numbers of the parts of an entity's events begin at its offset shifted by this, so that they are new even for
/// an entity that was forgotten and came again.
const IDS: u32 = 20;

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
    rows: Rows,
    /// Rows whose values change by themselves, the next first.
    due: BTreeSet<Due>,
    /// Rows changed since the last checkpoint, as they are now.
    dirty: Entities<Option<Arc<Row>>>,
}

/// A row whose values hold until some instant, in the order of those.
#[derive(Debug)]
struct Due(Arc<Row>);

impl Due {
    fn key(&self) -> (Millis, *const Row) {
        (self.0.header.until, Arc::as_ptr(&self.0))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// An entity about to get a new row.
struct Touched {
    entity: Arc<str>,
    events: Tree,
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
            rows: Rows::default(),
            due: BTreeSet::new(),
            dirty: Entities::default(),
        };
        Shard {
            partition,
            watermark: Millis::MIN,
            seen: Seen::default(),
            views: views.iter().map(state).collect(),
        }
    }

    /// Takes up a row from a checkpoint.
    pub fn restore(&mut self, view: ViewId, row: Arc<Row>) {
        if let Some(v) = self.views.get_mut(view as usize) {
            let old = v.rows.insert(row.clone());
            v.renew_due(old, Some(row));
        }
    }

    /// Rows of a view, to fill an online store with.
    pub fn rows(&self) -> impl Iterator<Item = OnlineRow> + '_ {
        self.views.iter().flat_map(|v| {
            v.rows.iter().map(|row| OnlineRow {
                view: v.view.clone(),
                entity: row.entity.clone(),
                row: Some(row.clone()),
            })
        })
    }

    /// Rows changed since the last call, for the checkpoint. Takes no longer for many than for few.
    pub fn take_dirty(&mut self) -> impl Iterator<Item = ChangedRows> + '_ {
        let changed = self.views.iter_mut().filter(|v| !v.dirty.is_empty());
        changed.map(|v| (v.view.clone(), std::mem::take(&mut v.dirty)))
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
        for i in 0..self.views.len() {
            let (before, rest) = self.views.split_at_mut(i);
            let Some((v, after)) = rest.split_first_mut() else { continue };
            // Views share the names of their entities.
            let known = |entity: &str| {
                before.iter().chain(&*after).find_map(|v| v.rows.get(entity)).map(|row| row.entity.clone())
            };
            v.apply(partition, watermark, tables, &known, changes)?;
        }
        Ok(())
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

    /// Takes out the rows all of whose events are older than any window and its lateness can reach, among those of
    /// one of [`PARTS`](crate::entities::PARTS) parts.
    pub fn forget_old(&mut self, part: usize, changes: &mut Changes) {
        let watermark = self.watermark;
        for v in &mut self.views {
            let horizon = watermark.saturating_sub(v.view.horizon());
            let old = |r: &Row| {
                // What a slowly changing table says holds on, however old.
                r.contexts().iter().all(|c| c.is_empty())
                    && r.events.last().is_none_or(|last| last <= horizon)
            };
            let gone: Vec<_> = v.rows.part(part).filter(|r| old(r)).map(|r| r.entity.clone()).collect();
            gone.into_iter().for_each(|entity| v.change(entity, None, changes));
        }
    }

    /// Takes a person out of every view.
    pub fn erase(&mut self, entity: &str, changes: &mut Changes) {
        for v in &mut self.views {
            if let Some(entity) = v.rows.get(entity).map(|r| r.entity.clone()) {
                v.change(entity, None, changes);
            }
        }
    }
}

impl ViewState {
    /// Replaces what is due of a row.
    fn renew_due(&mut self, old: Option<Arc<Row>>, new: Option<Arc<Row>>) {
        let changes = |row: &Arc<Row>| row.header.until < Millis::MAX;
        if let Some(old) = old.filter(changes) {
            self.due.remove(&Due(old));
        }
        if let Some(new) = new.filter(changes) {
            self.due.insert(Due(new));
        }
    }

    /// Replaces a row everywhere.
    fn change(&mut self, entity: Arc<str>, row: Option<Arc<Row>>, changes: &mut Changes) {
        changes.rows.push(OnlineRow { view: self.view.clone(), entity: entity.clone(), row: row.clone() });
        self.dirty.insert(entity.clone(), row.clone());
        let old = match &row {
            Some(row) => self.rows.insert(row.clone()),
            None => self.rows.remove(&entity),
        };
        self.renew_due(old, row);
    }

    fn apply(
        &mut self,
        partition: Partition,
        watermark: Millis,
        tables: &[(&str, &RecordBatch)],
        known: &dyn Fn(&str) -> Option<Arc<str>>,
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
            let (entity, old) = match self.rows.get(entity) {
                Some(row) => (row.entity.clone(), Some(&**row)),
                None => (known(entity).unwrap_or_else(|| entity.into()), None),
            };
            let applied = old.map_or(0, |r| r.header.next_offset);
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
            let (events, contexts) = merged(&self.view, old, &mut new, &mut changed, horizon, next_offset)?;
            if let Some(at) = newest(&events, &contexts) {
                touched.push(Touched { entity, events, contexts, next_offset, at });
            }
        }
        if late > 0 {
            changes.late.push((self.view.clone(), late));
        }
        self.write(partition, watermark, touched, true, changes)
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
            let Source::List(list) = kept.events else { continue };
            let mut new: Vec<_> = (0..list.len()).map(|i| (list.time(i), list.bytes(i))).collect();
            let events = Tree::default().insert(&mut new, horizon, &self.view.layout, next_offset << IDS)?;
            let contexts: Vec<_> =
                kept.contexts.iter().map(|c| merge_contexts(*c, &mut [], horizon)).collect();
            if let Some(at) = newest(&events, &contexts) {
                touched.push(Touched { entity: entity.into(), events, contexts, next_offset, at });
            }
            if touched.len() >= 4_096 {
                self.write(partition, watermark, std::mem::take(&mut touched), true, changes)?;
            }
        }
        self.write(partition, watermark, touched, true, changes)
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
        let due = self.due.iter().take(limit).map(|due| due.0.clone());
        let due: Vec<_> = due.take_while(|row| row.header.until <= now).collect();
        let mut touched = Vec::with_capacity(due.len());
        for row in due {
            let mut nothing = vec![Vec::new(); self.view.context_tables()];
            let next_offset = row.header.next_offset;
            let (events, contexts) =
                merged(&self.view, Some(&row), &mut [], &mut nothing, horizon, next_offset)?;
            touched.push(Touched { entity: row.entity.clone(), events, contexts, next_offset, at: now });
        }
        self.write(partition, watermark, touched, false, changes)
    }

    /// Computes the values of the touched entities and replaces their rows.
    fn write(
        &mut self,
        partition: Partition,
        watermark: Millis,
        mut touched: Vec<Touched>,
        by_signal: bool,
        changes: &mut Changes,
    ) -> Result<(), FeatureError> {
        if touched.is_empty() {
            return Ok(());
        }
        let mut trees: Vec<&mut Tree> = touched.iter_mut().map(|t| &mut t.events).collect();
        self.view.seal(&mut trees, watermark)?;
        let kept: Vec<Kept<'_>> = touched.iter().map(Touched::kept).collect();
        let columns = self.view.evaluate(&kept)?;
        let untils: Vec<Millis> = kept.iter().map(|k| self.view.next_change(k)).collect::<Result<_, _>>()?;
        let newest: Vec<Millis> =
            kept.iter().map(|k| k.events.newest_until(k.at).unwrap_or(Millis::MIN)).collect();
        kept.iter().try_for_each(|k| k.events.check())?;
        changes.values.push((self.view.clone(), self.history(partition, &touched, by_signal, &columns)?));
        for (i, t) in touched.into_iter().enumerate() {
            let header = RowHeader {
                version: self.view.version,
                partition,
                next_offset: t.next_offset,
                from: t.at,
                until: untils[i],
                newest: newest[i],
            };
            // Nothing left in any window: no row reads the same.
            let empty = t.events.is_empty() && t.contexts.iter().all(EventBuffer::is_empty);
            let row = (!empty)
                .then(|| Arc::new(Row::new(t.entity.clone(), header, &columns, i, t.events, &t.contexts)));
            self.change(t.entity, row, changes);
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
        Kept { events: self.events.reader().into(), contexts, at: self.at }
    }
}

/// What is kept of an entity once `new` signals have come, and `changed` rows of slowly changing tables.
fn merged(
    view: &View,
    old: Option<&Row>,
    new: &mut [(Millis, &[u8])],
    changed: &mut [Vec<(Millis, &[u8])>],
    horizon: Millis,
    next_offset: Offset,
) -> Result<(Tree, Vec<EventBuffer>), FeatureError> {
    debug_assert_eq!(changed.len(), view.context_tables());
    let events = match old {
        Some(row) => row.events.insert(new, horizon, &view.layout, next_offset << IDS)?,
        None => Tree::default().insert(new, horizon, &view.layout, next_offset << IDS)?,
    };
    let before = old.map(Row::contexts).unwrap_or_default();
    let list = |number: usize| before.get(number).copied().unwrap_or_default();
    let contexts =
        changed.iter_mut().enumerate().map(|(number, new)| merge_contexts(list(number), new, horizon));
    Ok((events, contexts.collect()))
}

/// The time of the newest among what is kept of an entity.
fn newest(events: &Tree, contexts: &[EventBuffer]) -> Option<Millis> {
    let last = |b: &EventBuffer| b.len().checked_sub(1).map(|last| b.as_list().time(last));
    contexts.iter().filter_map(last).chain(events.last()).max()
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, FeatureError> {
    batch
        .column_by_name(name)
        .ok_or_else(|| FeatureError::Damaged(format!("a batch of signals lacks the column {name}")))
}
