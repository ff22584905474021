//! The values a running server gives, compared.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::datatypes::DataType;
use features::{Value, offline::OfflineStore};
use ingest::{
    Millis,
    log::{Log, Topic},
};
use pipelines::verify::{Checker, Known, Read, Served, sample};
use rand::Rng;
use serde_json::json;

use super::{
    super::{super::log_to_read, history_to_read, instant, told},
    Plan, Report,
};
use crate::{
    client::Client,
    clock,
    config::Settings,
    error::{Error, Result},
};

/// Entities asked for in one request.
const TOGETHER: usize = 50;
/// How long a server may take to make durable what it has applied.
const PATIENCE: Duration = Duration::from_secs(120);

/// Compares what a server gives. History, which lies on disk, is behind it by up to a checkpoint, so all is
/// read first and compared once history has what the reads may rest on.
pub(super) async fn compare(settings: &Settings, mut plan: Plan, client: &Client) -> Result<Report> {
    let log = log_to_read(settings)?;
    let history = history_to_read(settings)?;
    let mut report = Report::default();
    let mut reads: Vec<(usize, Served)> = Vec::new();
    for (i, checker) in plan.checkers.iter().enumerate() {
        plan.bar.set_prefix(checker.view().name.to_string());
        let entities =
            sample::entities(&*history, &[], checker.view(), plan.sample, &mut plan.rng).map_err(told)?;
        plan.bar.inc_length(entities.len() as u64);
        report.entities += entities.len();
        for some in entities.chunks(TOGETHER) {
            let at = match plan.at {
                Some(at) => at,
                None => {
                    reads.extend(read(client, &*log, checker, some, None).await?.into_iter().map(|s| (i, s)));
                    let one = &some[plan.rng.random_range(0..some.len())];
                    sample::instant(&*history, checker.view(), one, clock::now(), &mut plan.rng)
                        .map_err(told)?
                }
            };
            reads.extend(read(client, &*log, checker, some, Some(at)).await?.into_iter().map(|s| (i, s)));
        }
    }
    catch_up(&*log, &*history).await?;
    let checkers = plan.checkers;
    let compare = move || {
        plan.bar.set_prefix("comparing");
        plan.bar.set_length(reads.len() as u64);
        for (i, checker) in checkers.iter().enumerate() {
            let of_view: Vec<Served> =
                reads.extract_if(.., |(of, _)| *of == i).map(|(_, served)| served).collect();
            let together = if plan.engine.is_some() { of_view.len() } else { 1 };
            for served in of_view.chunks(together.max(1)) {
                report.compare(checker, plan.engine.as_deref(), &*history, served)?;
                plan.bar.set_message(format!("{} differences", report.differences.len()));
                plan.bar.inc(served.len() as u64);
            }
        }
        plan.bar.finish_and_clear();
        Ok(report)
    };
    tokio::task::spawn_blocking(compare)
        .await
        .map_err(|e| Error::Broken(format!("the comparison stopped: {e}")))?
}

/// Waits until history has on disk what stands in the log now.
async fn catch_up(log: &dyn Log, history: &dyn OfflineStore) -> Result<()> {
    let (end, began) = (log.end(Topic::Signals), Instant::now());
    loop {
        let durable = history.durable_position().map_err(|e| Error::Broken(e.to_string()))?;
        if durable.covers(&end) {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(Error::Unavailable(format!(
                "history stands at {durable} and does not reach {end}; does this server run on this data directory?"
            )));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Reads one view of some entities from the server, now or as of an instant.
async fn read(
    client: &Client,
    log: &dyn Log,
    checker: &Checker,
    entities: &[String],
    as_of: Option<Millis>,
) -> Result<Vec<Served>> {
    let position = log.end(Topic::Signals);
    let mut body = json!({
        "entities": entities,
        "views": [checker.name()],
        "after": position.to_string(),
        "deadline_ms": PATIENCE.as_millis() as u64,
    });
    if let Some(at) = as_of {
        body["as_of"] = json!(Value::Time(at));
    }
    let answer = client.post("/v1/features/read", "application/json", body.to_string().into()).await?;
    let odd = |what: &str| Error::Broken(format!("the server's answer is not understood: {what}"));
    let answer: serde_json::Value =
        serde_json::from_slice(&answer.success()?).map_err(|e| odd(&e.to_string()))?;
    let rows = answer["rows"].as_array().ok_or_else(|| odd("no rows"))?;
    rows.iter()
        .map(|row| {
            let at = row["as_of"].as_str().ok_or_else(|| odd("no as_of"))?;
            let types = checker.view().outputs.iter().map(|o| &o.data_type).cycle();
            let value = |(name, t): (&Arc<str>, _)| from_json(t, &row["values"][name.as_ref()]);
            Ok(Served {
                entity: row["entity"].as_str().ok_or_else(|| odd("no entity"))?.to_owned(),
                at: instant("as_of", at)?,
                read: if as_of.is_some() { Read::AsOf } else { Read::Now },
                values: checker.names().iter().zip(types).map(value).collect(),
                known: Known::AtLeast(position.clone()),
            })
        })
        .collect()
}

/// A value as the API writes it.
fn from_json(t: &DataType, json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match (t, json) {
        (DataType::Int64, Json::Number(n)) => n.as_i64().map_or(Value::Null, Value::Int),
        (DataType::Float64, Json::Number(n)) => n.as_f64().map_or(Value::Null, Value::Float),
        // NaN and the infinities.
        (DataType::Float64, Json::String(s)) => s.parse().map_or(Value::Null, Value::Float),
        (DataType::Timestamp(..), Json::String(s)) => {
            s.parse::<jiff::Timestamp>().map_or(Value::Null, |t| Value::Time(t.as_millisecond()))
        }
        (DataType::List(item), Json::Array(items)) => {
            Value::List(items.iter().map(|i| from_json(item.data_type(), i)).collect())
        }
        (_, Json::Bool(b)) => Value::Bool(*b),
        (_, Json::String(s)) => Value::Text(s.as_str().into()),
        _ => Value::Null,
    }
}
