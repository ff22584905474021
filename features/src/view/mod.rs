//! A feature view: its definition, compiled.
//!
//! | module | what |
//! |---|---|
//! | [`parse`] | the statement around the SELECT |
//! | [`plan`] | the SELECT, planned by DataFusion and taken apart into a projection and aggregates |

pub mod parse;
pub mod plan;

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use ingest::Millis;

use crate::{
    error::FeatureError,
    kernel::Kernel,
    value::{Value, ValueType},
};
pub use parse::{Definition, Window};

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
    /// Hash of everything that decides its values.
    pub version: u64,
    /// The same in hexadecimal.
    pub version_text: Arc<str>,
    /// Its name, shared.
    pub name: Arc<str>,
    pub(crate) kernel: Kernel,
}

impl View {
    /// Its windows, shortest first.
    pub fn windows(&self) -> &[Window] {
        &self.definition.windows
    }

    /// The longest look-back, in milliseconds.
    pub fn longest(&self) -> Millis {
        self.definition.windows.last().map_or(0, |w| w.millis)
    }

    /// How long a signal is kept in streaming state, measured back from the watermark.
    pub fn horizon(&self) -> Millis {
        self.longest() + self.definition.lateness_ms
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

    /// Name of the table its values go to in history.
    pub fn history_table(&self) -> String {
        format!("features_{}", self.name)
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

    /// Takes from a batch of the view's signal table the events that count, as the view's state keeps them.
    pub fn project(&self, signals: &RecordBatch) -> Result<Events, FeatureError> {
        self.kernel.project(signals)
    }

    /// The values of every slot for each entity at its instant: the one place where values are made.
    pub fn evaluate(
        &self,
        entities: &[(EventList<'_>, Millis)],
    ) -> Result<Vec<arrow::array::ArrayRef>, FeatureError> {
        self.kernel.evaluate(entities)
    }
}

pub use crate::kernel::{EventList, Events};
