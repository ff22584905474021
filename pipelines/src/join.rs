//! `kairos features join`: rows (entity, instant, anything else) of a file, or of a table of history, get the
//! values that the entity's features had at that instant, as columns beside their own.
//!
//! Rows keep their order. What fits into the memory allowed is joined at once, each entity's history read once.
//! More than that is first sorted by entity on disk ([`sorted`]), so that history is still read once, not once
//! for every part of the file; a table comes sorted already.

mod sorted;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::{cast, concat_batches},
    datatypes::{DataType, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType},
};
pub use features::past::Known;
use features::{
    Prepared,
    offline::OfflineStore,
    past::{self, Engine, Here},
};
use indicatif::{ProgressBar, ProgressStyle};
use ingest::Millis;

use crate::{
    error::PipelineError,
    table::{Input, Output},
};

/// Memory for rows and values where nothing else is said, in bytes.
pub const MEMORY: usize = 256 << 20;
/// Bytes that a row takes while it is joined, about, and each of its values.
const ROW_BYTES: usize = 160;
const VALUE_BYTES: usize = 32;

/// What to join.
#[derive(Debug, Clone)]
pub struct JoinJob {
    /// The rows.
    pub input: Rows,
    /// File to write; its form by its extension too.
    pub output: PathBuf,
    /// Column that names the entity.
    pub entity: String,
    /// Column with the instant: RFC 3339 with a zone, or milliseconds since 1970.
    pub as_of: String,
    /// Which signals count; training sets want [`Known::ByThen`].
    pub known: Known,
    /// Bytes of memory for rows and values; one entity's signals and the columns of `input` come on top.
    pub memory: usize,
}

/// Where the rows of a join come from.
#[derive(Debug, Clone)]
pub enum Rows {
    /// A file; CSV, NDJSON or Parquet by its extension.
    File(PathBuf),
    /// A table of history.
    Table(String),
}

impl JoinJob {
    /// How many rows are joined together.
    fn piece(&self, prepared: &Prepared) -> usize {
        (self.memory / (ROW_BYTES + VALUE_BYTES * prepared.names.len())).max(1_024)
    }

    fn open(&self, history: &dyn OfflineStore) -> Result<Input, PipelineError> {
        match &self.input {
            Rows::File(file) => Input::open(file, &[&self.entity, &self.as_of]),
            Rows::Table(table) => Input::table(history, table),
        }
    }
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
    run_on(&Here(history), history, prepared, job, progress)
}

/// As [`run`], the values made by an engine of choice.
///
/// # Errors
/// As [`run`].
pub fn run_on(
    engine: &dyn Engine,
    history: &dyn OfflineStore,
    prepared: &Prepared,
    job: &JoinJob,
    progress: &ProgressBar,
) -> Result<JoinReport, PipelineError> {
    let input = job.open(history)?;
    let columns = (input.column(&job.entity)?, input.column(&job.as_of)?);
    let taken: HashSet<String> = input.schema().fields().iter().map(|f| f.name().clone()).collect();
    if let Some(name) = prepared.names.iter().find(|n| taken.contains(n.as_ref())) {
        return Err(input.wrong(format!("it already has a column `{name}`; rename that")));
    }
    progress.set_length(input.rows);
    if let Ok(style) =
        ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} rows, {per_sec}, {eta} left")
    {
        progress.set_style(style);
    }
    let join = Join { engine, history, prepared, job, columns, piece: job.piece(prepared), progress };
    let fits = input.rows <= join.piece as u64 || matches!(job.input, Rows::Table(_));
    let report = if fits { join.as_they_come(input)? } else { join.sorted(input)? };
    progress.finish();
    Ok(report)
}

/// A join under way.
struct Join<'a> {
    engine: &'a dyn Engine,
    history: &'a dyn OfflineStore,
    prepared: &'a Prepared,
    job: &'a JoinJob,
    /// Places of entity and instant.
    columns: (usize, usize),
    /// Rows joined together.
    piece: usize,
    progress: &'a ProgressBar,
}

impl<'a> Join<'a> {
    fn output(&self) -> Joined<'a> {
        Joined { file: &self.job.output, prepared: self.prepared, as_of: self.columns.1, to: None }
    }

    /// Piece by piece in the order of the rows.
    fn as_they_come(&self, mut input: Input) -> Result<JoinReport, PipelineError> {
        let mut report = JoinReport::default();
        let mut to = self.output();
        let own = input.schema();
        while let Some(piece) = next_piece(&mut input, &own, self.piece)? {
            let rows = questions(self.job, &input, &piece, self.columns, report.rows)?;
            let joined = past::join_on(self.engine, self.prepared.stored(), &rows, self.job.known)?;
            to.write(&piece, &joined.values)?;
            report.rows += piece.num_rows() as u64;
            report.with_late_signals += joined.with_late_signals as u64;
            self.progress.set_position(report.rows);
        }
        if report.rows == 0 {
            let nothing = past::join_on::<&str>(self.engine, self.prepared.stored(), &[], self.job.known)?;
            to.write(&RecordBatch::new_empty(own), &nothing.values)?;
        }
        to.finish()?;
        Ok(report)
    }
}

/// The output, begun with its first rows.
struct Joined<'a> {
    file: &'a Path,
    prepared: &'a Prepared,
    /// Place of the instant among a row's own columns.
    as_of: usize,
    to: Option<Output>,
}

impl Joined<'_> {
    /// Rows, and beside them their features: the stored ones of `values`, and those computed from them.
    fn write(&mut self, own: &RecordBatch, values: &RecordBatch) -> Result<(), PipelineError> {
        let instants = match own.num_rows() {
            0 => Vec::new(),
            _ => instants(own.column(self.as_of))
                .map_err(|(row, found)| PipelineError::input(self.file, format!("row {row}: {found}")))?,
        };
        let values = past::compute(self.prepared, values, Some(own), &instants)?;
        let wide = beside(own, &values).map_err(|e| PipelineError::input(self.file, e))?;
        let to = match &mut self.to {
            Some(to) => to,
            None => self.to.insert(Output::create(self.file, wide.schema_ref())?),
        };
        to.write(&wide)
    }

    fn finish(self) -> Result<(), PipelineError> {
        self.to.map_or(Ok(()), Output::finish)
    }
}

/// The next rows of an input, about `most` of them.
fn next_piece(
    input: &mut Input,
    schema: &SchemaRef,
    most: usize,
) -> Result<Option<RecordBatch>, PipelineError> {
    let (mut batches, mut rows) = (Vec::new(), 0);
    while rows < most
        && let Some(batch) = input.next().transpose()?
    {
        rows += batch.num_rows();
        batches.push(batch);
    }
    match batches.as_slice() {
        [] => Ok(None),
        [_] => Ok(batches.pop()),
        _ => {
            let whole = concat_batches(schema, &batches);
            whole.map(Some).map_err(|e| PipelineError::Features(damaged(&e)))
        }
    }
}

fn damaged(error: &dyn ToString) -> features::FeatureError {
    features::FeatureError::Damaged(error.to_string())
}

/// The entity and instant of each row; `before` rows came earlier.
fn questions(
    job: &JoinJob,
    input: &Input,
    piece: &RecordBatch,
    (entity, as_of): (usize, usize),
    before: u64,
) -> Result<Vec<(String, Millis)>, PipelineError> {
    let wrong = |row: usize, what: String| {
        let row = before + row as u64 + 1;
        input.wrong(format!("row {row}: {what}"))
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
