//! Every entity at once, one query a window over the whole table: what a batch job computes, and what the cost
//! of streaming is measured against.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
use ingest::Millis;

use super::{Reference, session};
use crate::{error::FeatureError, view::Span};

impl Reference {
    /// For each window the features of every entity that has signals in it at `at`, the entity in the first
    /// column. `parts` are the signals of the view's table, worked on side by side. Needs a Tokio runtime.
    ///
    /// # Errors
    /// `Request` for a view with a window that is not a plain span of time, or that looks at other tables.
    pub async fn everybody(
        &self,
        parts: Vec<Vec<RecordBatch>>,
        at: Millis,
    ) -> Result<Vec<Vec<RecordBatch>>, FeatureError> {
        let wrong = FeatureError::compute(&self.definition.name);
        if !self.select.joined.is_empty() || self.zoned {
            let message = format!("{} looks at more than its own signals", self.definition.name);
            return Err(FeatureError::Request(message));
        }
        let ctx = session(&self.functions, parts.len().max(1))?;
        let (name, schema) = &self.tables[0];
        let schema = parts.iter().flatten().next().map_or_else(|| schema.clone(), RecordBatch::schema);
        let table = MemTable::try_new(schema, parts).map_err(&wrong)?;
        ctx.register_table(name.as_str(), Arc::new(table)).map_err(&wrong)?;
        let mut answers = Vec::new();
        for w in &self.definition.windows {
            let Span::Sliding(span) = w.span else {
                let message =
                    format!("the window {} of {} is no span of time", w.label, self.definition.name);
                return Err(FeatureError::Request(message));
            };
            let sql = self.select.of_everybody(at - span, at);
            let sql = sql.map_err(|e| FeatureError::Request(format!("{}: {e}", self.definition.name)))?;
            let frame = ctx.sql(&sql).await.map_err(&wrong)?;
            answers.push(frame.collect().await.map_err(&wrong)?);
        }
        Ok(answers)
    }
}
