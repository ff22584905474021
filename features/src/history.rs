//! What a view keeps of its entities, made again from history.

use std::collections::HashMap;

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{UInt32Type, UInt64Type},
};
use ingest::{Millis, log::Position};

use crate::{
    error::FeatureError,
    events::{EventBuffer, EventList},
    kernel::Kept,
    offline::{OfflineStore, ScanFilter},
    view::View,
};

/// Events of a view found in history, by entity.
#[derive(Debug, Default)]
pub struct PastEvents {
    entities: HashMap<String, Past>,
    /// How many slowly changing tables the view has.
    tables: usize,
}

#[derive(Debug, Default)]
struct Past {
    events: EventBuffer,
    contexts: Vec<EventBuffer>,
    position: Position,
}

impl PastEvents {
    /// Reads what the view's values at `at` rest on, of these entities.
    pub fn read<S: AsRef<str>>(
        history: &dyn OfflineStore,
        view: &View,
        entities: &[S],
        at: Millis,
    ) -> Result<PastEvents, FeatureError> {
        let subjects = entities.iter().map(|s| s.as_ref().to_owned()).collect();
        Self::between(history, view, Some(subjects), at.saturating_sub(view.longest()), Some(at))
    }

    /// Reads the signals with `after < time <= until`, of these subjects or of all, and what stands beside them.
    pub fn between(
        history: &dyn OfflineStore,
        view: &View,
        subjects: Option<Vec<String>>,
        after: Millis,
        until: Option<Millis>,
    ) -> Result<PastEvents, FeatureError> {
        let mut past = PastEvents { entities: HashMap::new(), tables: view.context_tables() };
        let filter =
            ScanFilter { subjects: subjects.clone(), after: Some(after), until, ..ScanFilter::default() };
        for batch in history.scan(&view.table, &filter)? {
            past.add(view, None, &batch)?;
        }
        let filter = ScanFilter { subjects, until, ..ScanFilter::default() };
        for (number, table) in view.contexts().enumerate() {
            for batch in history.scan(table, &filter)? {
                past.add(view, Some(number), &batch)?;
            }
        }
        Ok(past)
    }

    /// Adds rows of the view's own table, or of one of its slowly changing tables.
    fn add(&mut self, view: &View, context: Option<usize>, batch: &RecordBatch) -> Result<(), FeatureError> {
        let events = match context {
            None => view.project(batch)?,
            Some(number) => view.project_context(number, batch)?,
        };
        let missing = |c| FeatureError::Damaged(format!("history of {} has no column {c}", view.table));
        let column = |c| batch.column_by_name(c).ok_or_else(|| missing(c));
        let subjects = column("subject")?.as_string::<i32>();
        let partitions = column("partition")?.as_primitive::<UInt32Type>();
        let offsets = column("offset")?.as_primitive::<UInt64Type>();
        let mut by_entity: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, row) in events.rows.iter().enumerate() {
            by_entity.entry(subjects.value(*row as usize)).or_default().push(i);
        }
        for (entity, found) in by_entity {
            let past = self.entities.entry(entity.to_owned()).or_default();
            past.contexts.resize_with(self.tables, EventBuffer::default);
            let buffer = context.map_or(&mut past.events, |number| &mut past.contexts[number]);
            let mut new: Vec<_> = found.iter().map(|i| events.get(*i)).collect();
            *buffer = EventBuffer::merge(buffer.as_list(), &mut new, Millis::MIN);
            for i in found {
                let row = events.rows[i] as usize;
                past.position.advance(partitions.value(row), offsets.value(row));
            }
        }
        Ok(())
    }

    /// Who was found.
    pub fn entities(&self) -> impl Iterator<Item = &str> + '_ {
        self.entities.keys().map(String::as_str)
    }

    /// What is kept of one entity, asked at an instant.
    pub fn of(&self, entity: &str, at: Millis) -> Kept<'_> {
        match self.entities.get(entity) {
            Some(past) => Kept {
                events: past.events.as_list().into(),
                contexts: past.contexts.iter().map(EventBuffer::as_list).collect(),
                at,
            },
            None => Kept {
                events: EventList::default().into(),
                contexts: vec![EventList::default(); self.tables],
                at,
            },
        }
    }

    /// Everything of the entity below is in what was read.
    pub fn position(&self, entity: &str) -> Position {
        self.entities.get(entity).map(|p| p.position.clone()).unwrap_or_default()
    }
}
