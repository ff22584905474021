//! `kairos features join`: a file of rows (entity, instant, anything else) gets the values that the entity's
//! features had at that instant, as columns beside its own.
//!
//! Rows keep their order. They are taken in pieces, so memory is bounded by a piece and its values; within a
//! piece each entity's history is read once.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::{cast, concat_batches},
    datatypes::{DataType, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType},
};
pub use features::past::Known;
use features::{Prepared, offline::OfflineStore, past};
use indicatif::{ProgressBar, ProgressStyle};
use ingest::Millis;

use crate::{
    error::PipelineError,
    table::{Input, Output},
};

/// Rows of a piece.
const PIECE: usize = 65_536;

/// What to join.
#[derive(Debug, Clone)]
pub struct JoinJob {
    /// File with the rows; CSV, NDJSON or Parquet by its extension.
    pub input: PathBuf,
    /// File to write; its form by its extension too.
    pub output: PathBuf,
    /// Column that names the entity.
    pub entity: String,
    /// Column with the instant: RFC 3339 with a zone, or milliseconds since 1970.
    pub as_of: String,
    /// Which signals count; training sets want [`Known::ByThen`].
    pub known: Known,
}

/// What a join did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JoinReport {
    /// Rows written.
    pub rows: u64,
    /// Rows whose values leave out some signal that arrived only after their instant.
    pub with_late_signals: u64,
}

/// Runs a join, showing its progress on `progress`.
///
/// # Errors
/// When the input cannot be understood (with its row), history not read, or the output not written. The
/// output then does not appear under its name.
pub fn run(
    history: &dyn OfflineStore,
    prepared: &Prepared,
    job: &JoinJob,
    progress: &ProgressBar,
) -> Result<JoinReport, PipelineError> {
    let mut input = Input::open(&job.input, &[&job.entity, &job.as_of])?;
    let columns = (input.column(&job.entity)?, input.column(&job.as_of)?);
    let taken: HashSet<String> = input.schema().fields().iter().map(|f| f.name().clone()).collect();
    if let Some(name) = prepared.names.iter().find(|n| taken.contains(n.as_ref())) {
        return Err(PipelineError::input(
            &job.input,
            format!("it already has a column `{name}`; rename that"),
        ));
    }
    progress.set_length(input.rows);
    if let Ok(style) =
        ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} rows, {per_sec}, {eta} left")
    {
        progress.set_style(style);
    }
    let mut report = JoinReport::default();
    let mut output: Option<Output> = None;
    let own = input.schema();
    loop {
        let piece = next_piece(&mut input, &own).transpose()?;
        let Some(piece) = piece.or_else(|| output.is_none().then(|| RecordBatch::new_empty(own.clone())))
        else {
            break;
        };
        let rows = questions(job, &piece, columns, report.rows)?;
        let joined = past::join(history, prepared, &rows, job.known)?;
        let wide = beside(&piece, &joined.values).map_err(|e| PipelineError::input(&job.output, e))?;
        let to = match &mut output {
            Some(to) => to,
            None => output.insert(Output::create(&job.output, wide.schema_ref())?),
        };
        to.write(&wide)?;
        report.rows += wide.num_rows() as u64;
        report.with_late_signals += joined.with_late_signals as u64;
        progress.set_position(report.rows);
    }
    if let Some(output) = output {
        output.finish()?;
    }
    progress.finish();
    Ok(report)
}

fn next_piece(input: &mut Input, schema: &SchemaRef) -> Option<Result<RecordBatch, PipelineError>> {
    let (mut batches, mut rows) = (Vec::new(), 0);
    while rows < PIECE {
        match input.next() {
            Some(Ok(batch)) => {
                rows += batch.num_rows();
                batches.push(batch);
            }
            Some(Err(e)) => return Some(Err(e)),
            None => break,
        }
    }
    let whole = || concat_batches(schema, &batches).map_err(|e| PipelineError::Features(damaged(&e)));
    (rows > 0).then(whole)
}

fn damaged(error: &dyn ToString) -> features::FeatureError {
    features::FeatureError::Damaged(error.to_string())
}

/// The entity and instant of each row; `before` rows came earlier.
fn questions(
    job: &JoinJob,
    piece: &RecordBatch,
    (entity, as_of): (usize, usize),
    before: u64,
) -> Result<Vec<(String, Millis)>, PipelineError> {
    let wrong = |row: usize, what: String| {
        let row = before + row as u64 + 1;
        PipelineError::input(&job.input, format!("row {row}: {what}"))
    };
    let entities = cast(piece.column(entity), &DataType::Utf8).map_err(|e| wrong(0, e.to_string()))?;
    let entities = entities.as_string::<i32>();
    let instants = instants(piece.column(as_of)).map_err(|(row, found)| {
        let want = "write an instant with its zone, such as 2026-01-31T08:00:00Z, or milliseconds since 1970";
        wrong(row, format!("column `{}` is {found}; {want}", job.as_of))
    })?;
    let entity = |row: usize| {
        if entities.is_null(row) || entities.value(row).is_empty() {
            return Err(wrong(row, format!("column `{}` is empty; it names the entity", job.entity)));
        }
        Ok(entities.value(row).to_owned())
    };
    instants.into_iter().enumerate().map(|(row, at)| Ok((entity(row)?, at))).collect()
}

/// A column of instants in milliseconds; the error names the row and what stands there.
fn instants(column: &ArrayRef) -> Result<Vec<Millis>, (usize, String)> {
    let unfit = |what: String| (0, what);
    if let Some(row) = (0..column.len()).find(|i| column.is_null(*i)) {
        return Err((row, "empty".into()));
    }
    match column.data_type() {
        DataType::Utf8 => {
            let read = |(row, text): (usize, Option<&str>)| {
                let text = text.unwrap_or_default().trim();
                let instant = text.parse::<jiff::Timestamp>().map(|t| t.as_millisecond());
                instant.or_else(|_| text.parse::<Millis>()).map_err(|_| (row, format!("`{text}`")))
            };
            column.as_string::<i32>().iter().enumerate().map(read).collect()
        }
        DataType::Int64 => Ok(column.as_primitive::<Int64Type>().values().to_vec()),
        DataType::Timestamp(_, Some(_)) => {
            let millis = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
            let millis = cast(column, &millis).map_err(|e| unfit(e.to_string()))?;
            Ok(millis.as_primitive::<TimestampMillisecondType>().values().to_vec())
        }
        other => Err(unfit(format!("of type {other}"))),
    }
}

/// Two batches of as many rows as one.
fn beside(left: &RecordBatch, right: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
    let fields = left.schema_ref().fields().iter().chain(right.schema_ref().fields()).cloned();
    let columns = left.columns().iter().chain(right.columns()).cloned().collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)
}
