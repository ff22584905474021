//! The reference of the stream job: the same features as one batch, in DataFusion and in Polars.

use std::{collections::HashMap, path::Path, sync::Arc, time::Instant};

use ::ingest::{Millis, catalogue::Catalogue};
use arrow::array::RecordBatch;
use features::{View, reference::Reference};
use pipelines::table::Output;

use crate::error::{Error, Result, on_file};

/// Runs whose best counts: a reference shall look as good as it can.
const RUNS: usize = 3;

/// Seconds DataFusion takes for every view and window, one query each, the machine's cores used.
pub async fn datafusion(
    catalogue: &Catalogue,
    views: &[Arc<View>],
    tables: &HashMap<String, Vec<Vec<RecordBatch>>>,
    at: Millis,
) -> Result<f64> {
    let broken = |e: features::FeatureError| Error::Broken(format!("the batch reference: {e}"));
    let references: Vec<Reference> = views
        .iter()
        .map(|v| Reference::new(catalogue, &[], &v.definition).map_err(broken))
        .collect::<Result<_>>()?;
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let began = Instant::now();
        for reference in &references {
            let table = reference.tables().next().unwrap_or_default();
            let parts = tables.get(table).cloned().unwrap_or_default();
            let answers = reference.everybody(parts, at).await.map_err(broken)?;
            if answers.iter().flatten().map(RecordBatch::num_rows).sum::<usize>() == 0 {
                return Err(Error::Broken(format!("the batch reference found nothing in {table}")));
            }
        }
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Writes the rows as one Parquet file a table, and the instant they are to be computed for.
pub fn write(dir: &Path, tables: &HashMap<String, Vec<Vec<RecordBatch>>>, at: Millis) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| on_file("make", dir, &e))?;
    let failed = |e: pipelines::PipelineError| Error::Input(e.to_string());
    for (table, parts) in tables {
        let Some(first) = parts.iter().flatten().next() else { continue };
        let file = dir.join(format!("{table}.parquet"));
        let mut output = Output::create(&file, &first.schema()).map_err(failed)?;
        parts.iter().flatten().try_for_each(|rows| output.write(rows)).map_err(failed)?;
        output.finish().map_err(failed)?;
    }
    let file = dir.join("at.json");
    std::fs::write(&file, serde_json::json!({"at_ms": at}).to_string())
        .map_err(|e| on_file("write", &file, &e))
}

/// Seconds another program takes for the same rows: it is given their directory, and its last line is JSON
/// with `seconds`.
pub fn other(command: &str, dir: &Path) -> Result<f64> {
    let failed = |what: String| Error::Input(format!("--reference `{command}`: {what}"));
    let mut words = command.split_whitespace();
    let program = words.next().ok_or_else(|| failed("names no program".to_owned()))?;
    let done = std::process::Command::new(program).args(words).arg(dir).output();
    let done = done.map_err(|e| failed(e.to_string()))?;
    let text = String::from_utf8_lossy(&done.stdout);
    let seconds = text.lines().last().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    match seconds.and_then(|v| v["seconds"].as_f64()) {
        Some(seconds) if done.status.success() => Ok(seconds),
        _ => Err(failed(format!("{}: {text}{}", done.status, String::from_utf8_lossy(&done.stderr)))),
    }
}
