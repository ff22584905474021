//! Reading features: now, as of an instant of the past, and after one's own writes.
//!
//! | module | what |
//! |---|---|
//! | [`applied`] | how far the stream job has come |
//! | `rows` | from stored rows to the values asked for |

pub mod applied;
mod rows;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use ingest::{Millis, log::Position};
use tokio::sync::Mutex;

pub use applied::Applied;
use rows::{Rows, blank, fill, push_part};

use crate::{
    error::FeatureError,
    history::PastEvents,
    kernel::value_at,
    offline::OfflineStore,
    online::OnlineStore,
    quality::Quality,
    registry::{Prepared, Registry},
    table::FeatureTable,
    value::FeatureRow,
    view::View,
};

/// How often a store outside this process is asked how far it is while somebody waits for it.
const ASK_EVERY: Duration = Duration::from_millis(4);

/// Features, to be read: a cheap handle.
#[derive(Clone)]
pub struct FeatureStore {
    registry: Arc<Registry>,
    online: Arc<dyn OnlineStore>,
    history: Arc<dyn OfflineStore>,
    applied: Applied,
    quality: Arc<Quality>,
    /// Whether the job is too far behind the log.
    behind: Arc<AtomicBool>,
    /// Held by the one who asks the online store how far it is, for all who wait.
    asking: Arc<Mutex<()>>,
}

impl FeatureStore {
    /// Puts the parts together; `applied` is moved by the stream job of this process, if it has one.
    pub fn new(
        registry: Arc<Registry>,
        online: Arc<dyn OnlineStore>,
        history: Arc<dyn OfflineStore>,
        applied: Applied,
    ) -> Self {
        let current: Vec<_> = registry.current().cloned().collect();
        let quality = Arc::new(Quality::new(&current));
        let (behind, asking) = Default::default();
        FeatureStore { registry, online, history, applied, quality, behind, asking }
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

    /// Says whether the job is so far behind the log that values count as stale.
    pub fn set_behind(&self, behind: bool) {
        self.behind.store(behind, Relaxed);
    }

    /// Entities that a view has values for online.
    pub async fn entities(&self, view: &View) -> Result<Vec<Arc<str>>, FeatureError> {
        self.online.entities(view).await
    }

    /// Learns from the online store how far the stream jobs of other processes have come.
    pub async fn refresh(&self) -> Result<(), FeatureError> {
        self.applied.advance(&self.online.applied().await?);
        Ok(())
    }

    /// Waits until everything below `position` can be read.
    ///
    /// # Errors
    /// `NotYet` when that takes longer than `timeout`.
    pub async fn wait_for(&self, position: &Position, timeout: Duration) -> Result<(), FeatureError> {
        let mut at = self.applied.0.subscribe();
        let reached = async {
            tokio::select! {
                reached = at.wait_for(|at| at.covers(position)) => reached.is_ok(),
                () = self.follow(), if self.online.resident().is_none() => false,
            }
        };
        match tokio::time::timeout(timeout, reached).await {
            Ok(true) => Ok(()),
            _ => Err(FeatureError::NotYet(position.to_string(), timeout.as_millis() as u64)),
        }
    }

    /// Asks the online store how far it is again and again; does not end.
    async fn follow(&self) {
        let _turn = self.asking.lock().await;
        loop {
            // While it is away nothing new can be read, and whoever waits has a timeout.
            let _ = self.refresh().await;
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// The values of one entity at `now`.
    pub async fn read_one(
        &self,
        prepared: &Prepared,
        entity: &str,
        now: Millis,
    ) -> Result<FeatureRow, FeatureError> {
        let rows = self.rows(prepared, &[entity]).await?;
        self.row_of(&rows, prepared, 0, entity, now)
    }

    /// The same without waiting, where the online store is in this process.
    ///
    /// # Errors
    /// `Request` where it is elsewhere.
    pub fn read_here(
        &self,
        prepared: &Prepared,
        entity: &str,
        now: Millis,
    ) -> Result<FeatureRow, FeatureError> {
        let rows = self.online.resident().ok_or_else(|| {
            FeatureError::Request("the online store is not in this process; read with `read_one`".into())
        })?;
        self.row_of(&Rows::Here(rows), prepared, 0, entity, now)
    }

    /// The values of many entities at one `now`: rows in the order asked, repeats and unknowns included.
    pub async fn read_now<S: AsRef<str> + Sync>(
        &self,
        prepared: &Prepared,
        entities: &[S],
        now: Millis,
    ) -> Result<Vec<FeatureRow>, FeatureError> {
        let rows = self.rows(prepared, entities).await?;
        let entities = entities.iter().enumerate();
        entities.map(|(i, e)| self.row_of(&rows, prepared, i, e.as_ref(), now)).collect()
    }

    /// As [`read_now`](Self::read_now), side by side and without what each row rests on.
    pub async fn read_table(
        &self,
        prepared: &Prepared,
        entities: Vec<String>,
        now: Millis,
    ) -> Result<FeatureTable, FeatureError> {
        // Before the values, so that it holds for all of them.
        let mut position = self.applied.position();
        let rows = self.rows(prepared, &entities).await?;
        if matches!(&rows, Rows::Fetched(found) if found.iter().any(|f| f.stale)) {
            // Rows read earlier: nothing is promised of them.
            position = Position::default();
        }
        if prepared.computed.is_some() {
            let of_entity = |(i, e): (usize, &String)| self.row_of(&rows, prepared, i, e, now);
            let rows = entities.iter().enumerate().map(of_entity).collect::<Result<_, _>>()?;
            return Ok(FeatureTable::from_rows(prepared.columns.clone(), rows, now, position));
        }
        let width = prepared.names.len();
        let mut table = FeatureTable {
            columns: prepared.columns.clone(),
            position,
            as_of: now,
            values: Vec::with_capacity(entities.len() * width),
            ages: vec![None; entities.len() * width],
            stale: vec![self.behind.load(Relaxed); entities.len()],
            entities,
        };
        for (i, entity) in table.entities.iter().enumerate() {
            table.values.extend_from_slice(&prepared.empty);
            let cells = i * width..(i + 1) * width;
            let (values, ages) = (&mut table.values[cells.clone()], &mut table.ages[cells]);
            for (number, part) in prepared.parts.iter().enumerate() {
                let at = i * prepared.parts.len() + number;
                let (_, stale) = rows.read_part(part, at, entity, now, values, ages)?;
                table.stale[i] |= stale;
            }
        }
        Ok(table)
    }

    /// Where the rows of these entities are; fetched, all at once, unless they are in this process.
    async fn rows<S: AsRef<str> + Sync>(
        &self,
        prepared: &Prepared,
        entities: &[S],
    ) -> Result<Rows<'_>, FeatureError> {
        if let Some(here) = self.online.resident() {
            return Ok(Rows::Here(here));
        }
        let parts = &prepared.stored().parts;
        let mut keys: Vec<(&View, &str)> = Vec::with_capacity(entities.len() * parts.len());
        for entity in entities {
            keys.extend(parts.iter().map(|part| (&*part.view, entity.as_ref())));
        }
        Ok(Rows::Fetched(self.online.get_many(&keys).await?))
    }

    /// The values of the entity asked for as number `index`.
    fn row_of(
        &self,
        rows: &Rows<'_>,
        prepared: &Prepared,
        index: usize,
        entity: &str,
        now: Millis,
    ) -> Result<FeatureRow, FeatureError> {
        let stored = prepared.stored();
        let mut row = blank(stored, entity, now);
        row.stale = self.behind.load(Relaxed);
        for (number, part) in stored.parts.iter().enumerate() {
            let at = index * stored.parts.len() + number;
            let (place, stale) = rows.read_part(part, at, entity, now, &mut row.values, &mut row.age_ms)?;
            row.stale |= stale;
            push_part(&mut row, part, Position(place.into_iter().collect()));
        }
        match &prepared.computed {
            Some(computed) => computed.finish(row),
            None => Ok(row),
        }
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
