//! Reading features: now, as of an instant of the past, and after one's own writes.

use std::{sync::Arc, time::Duration};

use ingest::{
    Millis,
    log::{Offset, Partition, Position},
};
use tokio::sync::watch;

use crate::{
    error::FeatureError,
    history::PastEvents,
    kernel::{Kept, value_at},
    offline::OfflineStore,
    online::OnlineStore,
    quality::Quality,
    registry::{Prepared, PreparedView, Registry},
    table::FeatureTable,
    value::{FeatureRow, Part, Value},
    view::View,
};

/// How far the stream job has come, for those who wait for it.
#[derive(Debug, Clone)]
pub struct Applied(watch::Sender<Position>);

impl Default for Applied {
    fn default() -> Self {
        Applied(watch::Sender::new(Position::default()))
    }
}

impl Applied {
    /// Tells that everything below `position` can be read.
    pub fn advance(&self, position: &Position) {
        self.0.send_if_modified(|at| {
            let changed = at != position;
            at.clone_from(position);
            changed
        });
    }

    /// How far it has come.
    pub fn position(&self) -> Position {
        self.0.borrow().clone()
    }
}

/// Features, to be read: a cheap handle.
#[derive(Clone)]
pub struct FeatureStore {
    registry: Arc<Registry>,
    online: Arc<dyn OnlineStore>,
    history: Arc<dyn OfflineStore>,
    applied: Applied,
    quality: Arc<Quality>,
}

impl FeatureStore {
    /// Puts the parts together; `applied` is moved by the stream job.
    pub fn new(
        registry: Arc<Registry>,
        online: Arc<dyn OnlineStore>,
        history: Arc<dyn OfflineStore>,
        applied: Applied,
    ) -> Self {
        let current: Vec<_> = registry.current().cloned().collect();
        let quality = Arc::new(Quality::new(&current));
        FeatureStore { registry, online, history, applied, quality }
    }

    /// The views there are.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The history behind `as_of` reads.
    pub fn history(&self) -> &Arc<dyn OfflineStore> {
        &self.history
    }

    /// The values for now.
    pub fn online(&self) -> &Arc<dyn OnlineStore> {
        &self.online
    }

    /// How far the stream job has come.
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// How well the features are, as the stream job tells.
    pub fn quality(&self) -> &Arc<Quality> {
        &self.quality
    }

    /// Entities that a view has values for online.
    pub fn entities(&self, view: &View) -> Result<Vec<Arc<str>>, FeatureError> {
        self.online.entities(view)
    }

    /// Waits until everything below `position` can be read.
    ///
    /// # Errors
    /// `NotYet` when that takes longer than `timeout`.
    pub async fn wait_for(&self, position: &Position, timeout: Duration) -> Result<(), FeatureError> {
        let mut at = self.applied.0.subscribe();
        let reached = tokio::time::timeout(timeout, at.wait_for(|at| at.covers(position))).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => Err(FeatureError::NotYet(position.to_string(), timeout.as_millis() as u64)),
        }
    }

    /// The values of one entity at `now`.
    pub fn read_one(
        &self,
        prepared: &Prepared,
        entity: &str,
        now: Millis,
    ) -> Result<FeatureRow, FeatureError> {
        if let Some(computed) = &prepared.computed {
            return computed.finish(self.read_one(&computed.stored, entity, now)?);
        }
        let mut row = blank(prepared, entity, now);
        for part in &prepared.parts {
            let place = self.read_part(part, entity, now, &mut row.values, &mut row.age_ms)?;
            push_part(&mut row, part, Position(place.into_iter().collect()));
        }
        Ok(row)
    }

    /// The values of one view, put where they belong among `values` and `ages`; what is not stored is left
    /// as it is. Answers the partition and the offset below which every signal is in them.
    fn read_part(
        &self,
        part: &PreparedView,
        entity: &str,
        now: Millis,
        values: &mut [Value],
        ages: &mut [Option<i64>],
    ) -> Result<Option<(Partition, Offset)>, FeatureError> {
        let mut tries = 0;
        loop {
            match self.try_read_part(part, entity, now, values, ages) {
                // Its events lay on disk and have been replaced meanwhile, as the row has.
                Err(FeatureError::Gone(_)) if tries < 3 => tries += 1,
                done => return done,
            }
        }
    }

    fn try_read_part(
        &self,
        part: &PreparedView,
        entity: &str,
        now: Millis,
        values: &mut [Value],
        ages: &mut [Option<i64>],
    ) -> Result<Option<(Partition, Offset)>, FeatureError> {
        let stored = self.online.get(&part.view, entity)?.filter(|r| r.header.version == part.view.version);
        let Some(stored) = stored else {
            if part.view.ages() {
                let nothing = part.view.nothing(now);
                let computed = part.view.evaluate(std::slice::from_ref(&nothing))?;
                fill(values, ages, part, |slot| value_at(&computed[slot], 0), &nothing)?;
            }
            return Ok(None);
        };
        let (header, kept) = (stored.header, stored.kept(now));
        if header.from <= now && now < header.until && !part.view.ages() {
            fill(values, ages, part, |slot| stored.value(slot), &kept)?;
        } else {
            let computed = part.view.evaluate(std::slice::from_ref(&kept))?;
            fill(values, ages, part, |slot| value_at(&computed[slot], 0), &kept)?;
        }
        Ok(Some((header.partition, header.next_offset)))
    }

    /// The values of many entities at one `now`: rows in the order asked, repeats and unknowns included.
    pub fn read_now<S: AsRef<str>>(
        &self,
        prepared: &Prepared,
        entities: &[S],
        now: Millis,
    ) -> Result<Vec<FeatureRow>, FeatureError> {
        entities.iter().map(|e| self.read_one(prepared, e.as_ref(), now)).collect()
    }

    /// As [`read_now`](Self::read_now), side by side and without what each row rests on.
    pub fn read_table(
        &self,
        prepared: &Prepared,
        entities: Vec<String>,
        now: Millis,
    ) -> Result<FeatureTable, FeatureError> {
        if prepared.computed.is_some() {
            let position = self.applied.position();
            let rows = self.read_now(prepared, &entities, now)?;
            return Ok(FeatureTable::from_rows(prepared.columns.clone(), rows, now, position));
        }
        let width = prepared.names.len();
        let mut table = FeatureTable {
            columns: prepared.columns.clone(),
            // Before the values, so that it holds for all of them.
            position: self.applied.position(),
            as_of: now,
            values: Vec::with_capacity(entities.len() * width),
            ages: vec![None; entities.len() * width],
            entities,
        };
        for (i, entity) in table.entities.iter().enumerate() {
            table.values.extend_from_slice(&prepared.empty);
            let cells = i * width..(i + 1) * width;
            let (values, ages) = (&mut table.values[cells.clone()], &mut table.ages[cells]);
            for part in &prepared.parts {
                self.read_part(part, entity, now, values, ages)?;
            }
        }
        Ok(table)
    }

    /// The values of many entities as of an instant of the past, from history, knowing all that is known
    /// today: rows in the order asked, repeats and unknowns included.
    pub fn read_as_of<S: AsRef<str>>(
        &self,
        prepared: &Prepared,
        entities: &[S],
        as_of: Millis,
    ) -> Result<Vec<FeatureRow>, FeatureError> {
        if let Some(computed) = &prepared.computed {
            let rows = self.read_as_of(&computed.stored, entities, as_of)?;
            return rows.into_iter().map(|r| computed.finish(r)).collect();
        }
        let mut rows: Vec<_> = entities.iter().map(|e| blank(prepared, e.as_ref(), as_of)).collect();
        for part in &prepared.parts {
            let subjects: Vec<&str> = entities.iter().map(|e| e.as_ref()).collect();
            let past = PastEvents::read(self.history.as_ref(), &part.view, &subjects, as_of)?;
            let lists: Vec<_> = subjects.iter().map(|s| past.of(s, as_of)).collect();
            let values = part.view.evaluate(&lists)?;
            for (i, (row, kept)) in rows.iter_mut().zip(&lists).enumerate() {
                let FeatureRow { values: to, age_ms, .. } = &mut *row;
                fill(to, age_ms, part, |slot| value_at(&values[slot], i), kept)?;
                push_part(row, part, past.position(subjects[i]));
            }
        }
        Ok(rows)
    }
}

fn blank(prepared: &Prepared, entity: &str, as_of: Millis) -> FeatureRow {
    FeatureRow {
        entity: entity.to_owned(),
        age_ms: vec![None; prepared.empty.len()],
        values: prepared.empty.clone(),
        as_of,
        parts: Vec::with_capacity(prepared.parts.len()),
    }
}

fn fill(
    values: &mut [Value],
    ages: &mut [Option<i64>],
    part: &PreparedView,
    value: impl Fn(usize) -> Value,
    kept: &Kept<'_>,
) -> Result<(), FeatureError> {
    let (newest, held) = part.view.newest_in(kept)?;
    let age = newest.map(|t| kept.at - t);
    for s in &part.slots {
        values[s.at] = value(s.slot);
        ages[s.at] = age.filter(|_| held[s.window]);
    }
    Ok(())
}

fn push_part(row: &mut FeatureRow, part: &PreparedView, position: Position) {
    row.parts.push(Part { view: part.view.name.clone(), version: part.view.version_text.clone(), position });
}
