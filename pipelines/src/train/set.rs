//! Writes a training set: a row for each settled decision.

use std::{collections::HashMap, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Float64Builder, RecordBatch, StringBuilder, TimestampMillisecondBuilder},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use features::{Prepared, offline::OfflineStore};
use indicatif::ProgressBar;
use ingest::{Millis, log::Log};
use scorer::context::is_of_the_tip;

use super::Window;
use crate::{
    PipelineError,
    evaluate::{LoggedDecision, logged},
    join::{self, JoinJob, Known, Rows},
    table::Output,
};

/// Rows written at once.
const BATCH: usize = 8_192;
/// Columns before those of the context. They are named so that `kairos evaluate --logs` reads the file.
const COLUMNS: [&str; 8] =
    ["impression", "user", "shown_at", "policy", "policy_version", "action", "propensity", "reward"];

/// What the set is made of.
#[derive(Debug, Clone, Copy)]
pub struct SetJob<'a> {
    /// Which decisions.
    pub window: Window,
    /// Decisions younger than this, seen from the newest reward, are left out: their silences are not known.
    pub settle: Millis,
    /// Values of the context that get a column, as `ctx.NAME`.
    pub context: &'a [String],
    /// File to write; CSV, NDJSON or Parquet by its extension.
    pub output: &'a Path,
    /// Memory for the join, in bytes.
    pub memory: usize,
}

/// Features to join to the rows, from this history.
pub struct Joined<'a> {
    /// Where signals and values are.
    pub history: &'a dyn OfflineStore,
    /// Which features.
    pub features: &'a Prepared,
}

/// Writes the set and answers how many rows it has. What a run before left behind is used again.
///
/// # Errors
/// A log or history that cannot be read, a file that cannot be written.
pub fn write(
    log: &dyn Log,
    job: &SetJob<'_>,
    joined: Option<&Joined<'_>>,
    progress: &ProgressBar,
) -> Result<u64, PipelineError> {
    let Some(joined) = joined else { return rows(log, job, job.output, progress) };
    let rows_file = job.output.with_extension(format!("{:016x}.rows.parquet", job.window.lineage()));
    if !rows_file.exists() {
        rows(log, job, &rows_file, progress)?;
    }
    let join = JoinJob {
        input: Rows::File(rows_file.clone()),
        output: job.output.to_owned(),
        entity: "user".into(),
        as_of: "shown_at".into(),
        known: Known::ByThen,
        memory: job.memory,
    };
    let report = join::run(joined.history, joined.features, &join, progress)?;
    std::fs::remove_file(&rows_file).map_err(PipelineError::file(&rows_file))?;
    Ok(report.rows)
}

fn rows(log: &dyn Log, job: &SetJob<'_>, file: &Path, progress: &ProgressBar) -> Result<u64, PipelineError> {
    let schema = schema(job.context);
    let mut output = Output::create(file, &schema)?;
    let (mut piece, mut count) = (Vec::with_capacity(BATCH), 0);
    let mut failed = None;
    logged::each_decision(log, job.settle, |decision| {
        // A record that contradicts itself is nothing to learn from.
        let sound = decision.propensity > 0.0 && decision.reward.is_finite();
        if failed.is_some() || !sound || !job.window.holds(decision.shown_at) {
            return;
        }
        piece.push(decision);
        count += 1;
        progress.inc(1);
        if piece.len() == BATCH {
            failed = put(&mut output, &schema, job.context, &mut piece).err();
        }
    })?;
    if let Some(e) = failed {
        return Err(e);
    }
    put(&mut output, &schema, job.context, &mut piece)?;
    output.finish()?;
    Ok(count)
}

fn schema(context: &[String]) -> SchemaRef {
    let own = COLUMNS.iter().map(|name| {
        let kind = match *name {
            "shown_at" => instant(),
            "propensity" | "reward" => DataType::Float64,
            _ => DataType::Utf8,
        };
        Field::new(*name, kind, false)
    });
    let context = context
        .iter()
        .filter(|name| !is_of_the_tip(name))
        .map(|name| Field::new(format!("ctx.{name}"), DataType::Float64, true));
    Arc::new(Schema::new(own.chain(context).collect::<Vec<_>>()))
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()))
}

fn put(
    output: &mut Output,
    schema: &SchemaRef,
    context: &[String],
    decisions: &mut Vec<LoggedDecision>,
) -> Result<(), PipelineError> {
    let text = |of: &dyn Fn(&LoggedDecision) -> &str| -> ArrayRef {
        let mut column = StringBuilder::new();
        decisions.iter().for_each(|d| column.append_value(of(d)));
        Arc::new(column.finish())
    };
    let number = |of: &dyn Fn(&LoggedDecision) -> Option<f64>| -> ArrayRef {
        let mut column = Float64Builder::new();
        decisions.iter().for_each(|d| column.append_option(of(d).filter(|v| !v.is_nan())));
        Arc::new(column.finish())
    };
    let mut shown_at = TimestampMillisecondBuilder::new().with_data_type(instant());
    decisions.iter().for_each(|d| shown_at.append_value(d.shown_at));
    let mut columns = vec![
        text(&|d| &d.impression),
        text(&|d| &d.user),
        Arc::new(shown_at.finish()) as ArrayRef,
        text(&|d| &d.policy),
        text(&|d| &d.policy_version),
        text(&|d| &d.tip),
        number(&|d| Some(d.propensity)),
        number(&|d| Some(d.reward)),
    ];
    // Contexts of other configurations have other names, or the same elsewhere.
    let mut places: HashMap<&[String], HashMap<&str, usize>> = HashMap::new();
    for d in decisions.iter() {
        places
            .entry(&d.context_names)
            .or_insert_with(|| d.context_names.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect());
    }
    for name in context.iter().filter(|name| !is_of_the_tip(name)) {
        let at = |d: &LoggedDecision| places.get(d.context_names.as_slice())?.get(name.as_str()).copied();
        columns.push(number(&|d| d.context.get(at(d)?).copied()));
    }
    let batch = RecordBatch::try_new(schema.clone(), columns)
        .map_err(|e| PipelineError::Features(features::FeatureError::Damaged(e.to_string())))?;
    output.write(&batch)?;
    decisions.clear();
    Ok(())
}
