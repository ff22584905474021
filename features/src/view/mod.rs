//! A feature view: its definition, compiled.
//!
//! | module | what |
//! |---|---|
//! | [`parse`] | the statement around the SELECT |
//! | [`plan`] | the SELECT, planned by DataFusion and taken apart into a projection and aggregates |
//! | [`source`] | its FROM: the signal table, and slowly changing and reference tables beside it |
//! | [`time`] | `as_of()` and `local_time(t)` |
//! | [`window`] | which events count at an instant |

pub mod parse;
pub mod plan;
pub mod source;
pub mod time;
pub mod window;

use std::sync::Arc;

use arrow::{
    array::{Array, RecordBatch, StringArray, TimestampMillisecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use ingest::Millis;

use crate::{
    chunks::{Layout, Tree},
    error::FeatureError,
    events::Timeline,
    kernel::Kernel,
    tiles::Tiling,
    value::{Value, ValueType},
};
pub use parse::{Definition, OnDemandDefinition};
pub use source::ReferenceTable;
pub use window::{Period, Span, Window};

/// Events younger than this are kept, should a read be for an instant somewhat behind the newest signal.
const SHORTEST_FOLD: Millis = 2 * 86_400_000;

/// Number of a view within its registry.
pub type ViewId = u32;

/// One column of a view, before windows.
#[derive(Debug, Clone)]
pub struct Output {
    /// Name in the SELECT.
    pub name: String,
    /// Type of its values.
    pub kind: ValueType,
    /// Arrow type its values are kept and shown in.
    pub data_type: DataType,
    /// What an empty window gives.
    pub empty: Value,
}

/// A compiled feature view.
#[derive(Debug)]
pub struct View {
    /// Its number.
    pub id: ViewId,
    /// Its definition.
    pub definition: Definition,
    /// SQL table it reads, and the type of signal behind it.
    pub table: String,
    /// Its columns, in the order of the SELECT, without the entity.
    pub outputs: Vec<Output>,
    /// Marks state: a hash of its definition, of the engine's format and of the table it reads.
    pub version: u64,
    /// Its version as people see and pin it: a hash of its definition alone, in hexadecimal.
    pub version_text: Arc<str>,
    /// Whether its name alone means it; older versions are read by `name@version`.
    pub current: bool,
    /// Its statement as written, with the comment above it.
    pub text: String,
    /// Its name, shared.
    pub name: Arc<str>,
    /// How the events of its entities lie in memory.
    pub layout: Layout,
    /// How it is computed from tiles of a minute, or why it cannot be.
    pub tiling: Result<Tiling, String>,
    pub(crate) kernel: Kernel,
}

impl View {
    /// Its windows: sliding ones first, the shortest first.
    pub fn windows(&self) -> &[Window] {
        &self.definition.windows
    }

    /// The longest look-back, in milliseconds.
    pub fn longest(&self) -> Millis {
        let reach = self.windows().iter().map(|w| w.span.reach()).max().unwrap_or(0);
        reach.saturating_add(self.definition.resolution_ms)
    }

    /// How long a signal is kept in streaming state, measured back from the watermark.
    pub fn horizon(&self) -> Millis {
        self.longest().saturating_add(self.definition.lateness_ms)
    }

    /// What is kept of an entity of which nothing is known.
    pub fn nothing(&self, at: Millis) -> Kept<'static> {
        Kept {
            events: EventList::default().into(),
            contexts: vec![EventList::default(); self.context_tables()],
            at,
        }
    }

    /// Whether its values change with every instant, so that none is kept finished.
    pub fn ages(&self) -> bool {
        self.kernel.ages
    }

    /// How many slowly changing tables stand beside its signals.
    pub fn context_tables(&self) -> usize {
        self.kernel.contexts.tables().count()
    }

    /// The names of those, by number; one may come twice.
    pub fn contexts(&self) -> impl Iterator<Item = &Arc<str>> + '_ {
        self.kernel.contexts.tables()
    }

    /// Takes from a batch of slowly changing table number `table` what the view's state keeps.
    pub fn project_context(&self, table: usize, rows: &RecordBatch) -> Result<Events, FeatureError> {
        self.kernel.contexts.project(table, rows)
    }

    /// When the values at the instant of `kept` stop to hold, but for outputs that change with every instant.
    pub fn next_change(&self, kept: &Kept<'_>) -> Result<Millis, FeatureError> {
        let given = self.kernel.given(kept)?;
        let events = window::next_change(self.windows(), &kept.events, kept.at, &given);
        let newer = |list: &EventList<'_>| {
            let known = list.count_until(kept.at);
            if known < list.len() { list.time(known) } else { Millis::MAX }
        };
        kept.events.check()?;
        Ok(kept.contexts.iter().map(newer).min().unwrap_or(Millis::MAX).min(events))
    }

    /// For each window, whether the newest of the kept signals lies in it.
    pub fn newest_in(&self, kept: &Kept<'_>) -> Result<(Option<Millis>, Vec<bool>), FeatureError> {
        let Some(newest) = kept.events.newest_until(kept.at) else {
            return Ok((None, vec![false; self.windows().len()]));
        };
        kept.events.check()?;
        let given = self.kernel.given(kept)?;
        let held = self.windows().iter().map(|w| w.span.holds(newest, kept.at, &given)).collect();
        Ok((Some(newest), held))
    }

    /// Values in a row: one an output and window, windows outermost.
    pub fn slots(&self) -> usize {
        self.windows().len() * self.outputs.len()
    }

    /// Names of all features, in the order of the slots: `completed_1h`, …
    pub fn feature_names(&self) -> impl Iterator<Item = String> + '_ {
        self.windows()
            .iter()
            .flat_map(|w| self.outputs.iter().map(move |o| format!("{}_{}", o.name, w.label)))
    }

    /// What an entity without signals reads as.
    pub fn empty_values(&self) -> impl Iterator<Item = &Value> {
        self.windows().iter().flat_map(|_| self.outputs.iter().map(|o| &o.empty))
    }

    /// Its name, with the version if that is not the current one: what a reader writes.
    pub fn pinned_name(&self) -> String {
        if self.current { self.name.to_string() } else { format!("{}@{}", self.name, self.version_text) }
    }

    /// Name of the table its values go to in history: `features_<view>`, with the version behind it if that is
    /// not the current one.
    pub fn history_table(&self) -> String {
        if self.current {
            format!("features_{}", self.name)
        } else {
            format!("features_{}__{}", self.name, self.version_text)
        }
    }

    /// Schema of that table: entity, `as_of`, `partition` and `offset` of the signal that brought the values
    /// (NULL when it was the passing of time), then one column a feature.
    pub fn history_schema(&self) -> SchemaRef {
        let instant = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
        let mut fields = vec![
            Field::new(&self.definition.entity, DataType::Utf8, false),
            Field::new("as_of", instant, false),
            Field::new("partition", DataType::UInt32, true),
            Field::new("offset", DataType::UInt64, true),
        ];
        let types = self.windows().iter().flat_map(|_| self.outputs.iter().map(|o| o.data_type.clone()));
        fields.extend(self.feature_names().zip(types).map(|(name, t)| Field::new(name, t, true)));
        Arc::new(Schema::new(fields))
    }

    /// Rows of [`history_schema`](Self::history_schema) as history keeps them: with the view's `version`, and
    /// `written`, the instant they were made. Of the rows of one entity and `as_of` the newest counts.
    pub fn stamped(&self, rows: &RecordBatch, written: Millis) -> Result<RecordBatch, FeatureError> {
        let count = rows.num_rows();
        let instants = TimestampMillisecondArray::from_value(written, count).with_timezone("+00:00");
        let versions = StringArray::from_iter_values(std::iter::repeat_n(&self.version_text, count));
        let mut fields = rows.schema_ref().fields().to_vec();
        fields.insert(4, Arc::new(Field::new("written", instants.data_type().clone(), false)));
        fields.insert(4, Arc::new(Field::new("version", DataType::Utf8, false)));
        let mut columns = rows.columns().to_vec();
        columns.insert(4, Arc::new(instants));
        columns.insert(4, Arc::new(versions));
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .map_err(|e| FeatureError::compute(&self.name)(e.into()))
    }

    /// Takes from a batch of the view's signal table the events that count, as the view's state keeps them.
    pub fn project(&self, signals: &RecordBatch) -> Result<Events, FeatureError> {
        self.kernel.project(signals)
    }

    /// Makes new trees of events ready to be read and shared: whole chunks get their states, and events that only
    /// a window without a begin still reaches, `watermark` being the newest event time, are given up for theirs.
    pub fn seal(&self, trees: &mut [&mut Tree], watermark: Millis) -> Result<(), FeatureError> {
        self.kernel.seal(trees, self.fold_reach().map(|reach| watermark.saturating_sub(reach)))
    }

    /// How far back events are kept although a window without a begin holds them; `None` without such a window.
    fn fold_reach(&self) -> Option<Millis> {
        let finite = self.windows().iter().map(|w| w.span.reach()).filter(|r| *r < window::FOR_EVER);
        let reach = finite.max().unwrap_or(0).saturating_add(self.definition.resolution_ms);
        let forever = self.windows().iter().any(|w| w.span == Span::Lifetime);
        forever.then(|| reach.saturating_add(self.definition.lateness_ms).max(SHORTEST_FOLD))
    }

    /// The values of every slot for each entity at its instant: the one place where values are made.
    pub fn evaluate(&self, entities: &[Kept<'_>]) -> Result<Vec<arrow::array::ArrayRef>, FeatureError> {
        self.kernel.evaluate(entities)
    }
}

pub use crate::kernel::{EventList, Events, Kept};
