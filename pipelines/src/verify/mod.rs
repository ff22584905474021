//! `kairos features verify`: values as the engine serves them beside what the view's SQL gives as a batch over
//! history ([`features::reference`]).
//!
//! Signals come in while values are read, so a comparison says which signals the value may rest on: those
//! below a position in the log, and, where the read told no position, maybe some of those that came since.
//!
//! | module | what |
//! |---|---|
//! | [`sample`] | whom and which instants to look at |
//! | [`watch`] | one after the other, at a low rate |
//! | `together` | many at once, by an engine |

pub mod sample;
mod together;
pub mod watch;

use std::sync::Arc;

use arrow::{
    array::AsArray,
    datatypes::{UInt32Type, UInt64Type},
};
use features::{
    FeatureError, FeatureStore, Prepared, Registry, Value, View,
    offline::{OfflineStore, ScanFilter},
    reference::{Reference, same},
};
use ingest::{Millis, catalogue::Catalogue, log::Position};
use serde::Serialize;

/// Signals of one entity that may have come in during a read; more are not tried one by one.
const MEANWHILE: usize = 256;

/// Which signals a served value rests on.
#[derive(Debug, Clone)]
pub enum Known {
    /// Those below the position.
    Exactly(Position),
    /// Those below the position, and those of the entity that came after it up to a point that is not known.
    AtLeast(Position),
}

/// How a value was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Read {
    /// From the online store.
    Now,
    /// From history.
    AsOf,
}

/// The values of a view that were served for an entity.
#[derive(Debug, Clone)]
pub struct Served {
    /// Whose.
    pub entity: String,
    /// The instant they hold for.
    pub at: Millis,
    /// How they were read.
    pub read: Read,
    /// One a feature of the view, in its order.
    pub values: Vec<Value>,
    /// What they rest on.
    pub known: Known,
}

/// A value that is not what it must be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// `view.feature_window`.
    pub feature: Arc<str>,
    /// Whose.
    pub entity: String,
    /// The instant it holds for.
    pub at: Value,
    /// How it was read.
    pub read: Read,
    /// What the engine gave.
    pub served: Value,
    /// What the SQL gives.
    pub recomputed: Value,
}

/// Compares the values of one view.
#[derive(Debug)]
pub struct Checker {
    name: String,
    view: Arc<View>,
    prepared: Prepared,
    reference: Reference,
}

impl Checker {
    /// Makes ready a view of a registry, or a version of one (`view@version`).
    ///
    /// # Errors
    /// A view that is not there, or whose SELECT cannot run as a batch.
    pub fn new(catalogue: &Catalogue, registry: &Registry, view: &str) -> Result<Checker, FeatureError> {
        let name = view.to_owned();
        let prepared = registry.prepare_views(&[view])?;
        let view = registry.resolve(view)?.clone();
        let reference =
            Reference::calling(catalogue, registry.tables(), registry.functions(), &view.definition)?;
        Ok(Checker { name, view, prepared, reference })
    }

    /// The view as it was named.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The view.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Its features, as `view.feature_window`.
    pub fn names(&self) -> &[Arc<str>] {
        &self.prepared.names
    }

    /// Reads an entity's values of now, all at once, and compares them.
    pub async fn now(
        &self,
        store: &FeatureStore,
        entity: &str,
        now: Millis,
    ) -> Result<Vec<Difference>, FeatureError> {
        self.compare(store.history().as_ref(), &self.served_now(store, entity, now).await?)
    }

    /// Reads an entity's values of now, all at once.
    pub async fn served_now(
        &self,
        store: &FeatureStore,
        entity: &str,
        now: Millis,
    ) -> Result<Served, FeatureError> {
        // What was applied before the read is in the row. So is all that the row itself says.
        let mut position = store.applied().position();
        let row = store.read_one(&self.prepared, entity, now).await?;
        for (partition, next) in row.parts.iter().flat_map(|p| &p.position.0) {
            if let Some(last) = next.checked_sub(1) {
                position.advance(*partition, last);
            }
        }
        Ok(Served {
            entity: row.entity,
            at: now,
            read: Read::Now,
            values: row.values,
            known: Known::Exactly(position),
        })
    }

    /// Reads an entity's values as of an instant and compares them.
    pub fn as_of(
        &self,
        store: &FeatureStore,
        entity: &str,
        at: Millis,
    ) -> Result<Vec<Difference>, FeatureError> {
        self.compare(store.history().as_ref(), &self.served_as_of(store, entity, at)?)
    }

    /// Reads an entity's values as of an instant.
    pub fn served_as_of(
        &self,
        store: &FeatureStore,
        entity: &str,
        at: Millis,
    ) -> Result<Served, FeatureError> {
        let known = Known::AtLeast(store.applied().position());
        let row = store.read_as_of(&self.prepared, &[entity], at)?.remove(0);
        Ok(Served { entity: row.entity, at, read: Read::AsOf, values: row.values, known })
    }

    /// Compares values that were served, here or elsewhere, with what history gives.
    pub fn compare(
        &self,
        history: &dyn OfflineStore,
        served: &Served,
    ) -> Result<Vec<Difference>, FeatureError> {
        let recomputed =
            |known: &Position| self.reference.from_history(history, &served.entity, served.at, Some(known));
        let (first, later) = match &served.known {
            Known::Exactly(position) => (position, Vec::new()),
            Known::AtLeast(position) => (position, self.since(history, served, position)?),
        };
        let mut differences = self.differences(served, &recomputed(first)?);
        for position in &later {
            if differences.is_empty() {
                break;
            }
            differences = self.differences(served, &recomputed(position)?);
        }
        Ok(differences)
    }

    /// The positions after each of the entity's signals that stand at or above `position`.
    fn since(
        &self,
        history: &dyn OfflineStore,
        served: &Served,
        position: &Position,
    ) -> Result<Vec<Position>, FeatureError> {
        let filter = ScanFilter {
            subjects: Some(vec![served.entity.clone()]),
            until: Some(served.at),
            columns: Some(["partition", "offset"].map(str::to_owned).into()),
            ..ScanFilter::default()
        };
        let mut places = Vec::new();
        for table in self.reference.tables() {
            for batch in history.scan(table, &filter)? {
                let partitions = batch.column(0).as_primitive::<UInt32Type>().values();
                let offsets = batch.column(1).as_primitive::<UInt64Type>().values();
                places.extend(partitions.iter().copied().zip(offsets.iter().copied()));
            }
        }
        places.retain(|(partition, offset)| *offset >= position.get(*partition));
        places.sort_unstable();
        places.truncate(MEANWHILE);
        let mut reached = position.clone();
        Ok(places
            .into_iter()
            .map(|(partition, offset)| {
                reached.advance(partition, offset);
                reached.clone()
            })
            .collect())
    }

    fn differences(&self, served: &Served, recomputed: &[Value]) -> Vec<Difference> {
        let pairs = served.values.iter().zip(recomputed);
        let differing = self.prepared.names.iter().zip(pairs).filter(|(_, (a, b))| !same(a, b));
        differing
            .map(|(feature, (a, b))| Difference {
                feature: feature.clone(),
                entity: served.entity.clone(),
                at: Value::Time(served.at),
                read: served.read,
                served: a.clone(),
                recomputed: b.clone(),
            })
            .collect()
    }
}
