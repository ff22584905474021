//! Golden cases: signals, and the values that views must give at instants. One runner serves
//! `kairos features test` and the tests of this crate.
//!
//! A case runs in many [`ways`](way) on a whole engine in a directory that goes away: straight, signal by
//! signal, cut by a checkpoint and a crash at every place, in another order with repeats, on other counts of
//! partitions. Each expected value is looked at twice in each, as a read of now and as a read of the past.
//!
//! | module | what |
//! |---|---|
//! | [`case`] | a case's folder, read and written |
//! | [`engine`] | log, job, online store and history, driven by hand |
//! | [`way`] | the ways of running a case |
//! | [`report`] | what came of it |

pub mod case;
pub mod engine;
pub mod report;
pub mod way;

use std::collections::{BTreeMap, BTreeSet};

use features::{Prepared, Value};
use ingest::Millis;

pub use case::{Case, Expected, Surroundings, find};
pub use engine::Engine;
pub use report::{Difference, Report};

use crate::error::JobError;
use way::{Step, Way};

/// A value found: line, feature, value, whether by a read of now or of the past.
type Found = (usize, usize, Value, &'static str);

/// Runs a case in every way.
///
/// # Errors
/// When a feature is not known or the engine cannot run at all; a value that differs is no error but stands
/// in the report.
pub fn run(case: &Case) -> Result<Report, JobError> {
    let names: Vec<String> = case
        .expected
        .iter()
        .flat_map(|e| e.values.keys().cloned())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let prepared = case.prepare(&names)?;
    let mut report = Report::new(case);
    let ways = way::all(case);
    for (way, found) in ways.iter().zip(look_at_all(case, &ways, &prepared)) {
        let found = found?;
        let now = found.iter().filter(|(.., kind)| *kind == NOW).map(|(line, ..)| *line).collect();
        report.ran(case, way, now);
        for (line, feature, value, kind) in found {
            let name = &names[feature];
            if let Some(wanted) = case.expected[line].values.get(name) {
                report.looked(line, name, wanted, &value, &format!("{}, {kind}", way.name));
            }
        }
    }
    Ok(report)
}

/// Fills in the values that expected lines do not tell, for every feature of the case, and adds a line for
/// each entity at each of `instants` that has none. Answers how many values are new. Nothing is checked or
/// written here.
///
/// # Errors
/// When the engine cannot run.
pub fn complete(case: &mut Case, instants: &[Millis]) -> Result<usize, JobError> {
    case.add_lines(instants);
    let names = case.feature_names();
    let prepared = case.prepare(&names)?;
    let mut new = 0;
    let found = look_at_all(case, &[way::straight(case)], &prepared).remove(0)?;
    for (line, feature, value, kind) in found {
        if kind == AS_OF && !case.expected[line].values.contains_key(&names[feature]) {
            let json = serde_json::to_value(&value).map_err(|e| JobError::Case(e.to_string()))?;
            case.expected[line].values.insert(names[feature].clone(), json);
            new += 1;
        }
    }
    Ok(new)
}

/// Ways run at the same time.
const THREADS: usize = 8;
const NOW: &str = "now";
const AS_OF: &str = "as of";

/// Runs several ways at once, each with a runtime of its own: most of a run is waiting for the disk.
fn look_at_all(case: &Case, ways: &[Way], prepared: &Prepared) -> Vec<Result<Vec<Found>, JobError>> {
    let run = |way: &Way| -> Result<Vec<Found>, JobError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| JobError::Case(format!("no runtime for a case: {e}")))?;
        runtime.block_on(look(case, way, prepared))
    };
    let part = |ways: &[Way]| ways.iter().map(run).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let size = ways.len().div_ceil(THREADS).max(1);
        let threads: Vec<_> = ways.chunks(size).map(|ways| scope.spawn(move || part(ways))).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
    })
}

async fn look(case: &Case, way: &Way, prepared: &Prepared) -> Result<Vec<Found>, JobError> {
    let dir = tempfile::tempdir().map_err(|e| JobError::Case(format!("no temporary directory: {e}")))?;
    let (catalogue, registry) = (case.catalogue.clone(), case.registry.clone());
    let mut engine = Engine::open(dir.path().to_owned(), catalogue, registry, way.partitions)?;
    let mut found = Vec::new();
    let mut done = 0;
    let steps = way.steps(case).into_iter().map(|(n, step)| (n, Some(step)));
    for (until, step) in steps.chain([(way.order.len(), None)]) {
        let records: Vec<_> =
            way.order[done..until].iter().map(|i| case.signals[*i].record.clone()).collect();
        engine.append(&records).await?;
        engine.drain(way.batch, usize::MAX)?;
        done = until;
        match step {
            None => {}
            Some(Step::Save) => engine.save().await?,
            Some(Step::Crash) => {
                engine = engine.crash()?;
                engine.drain(way.batch, usize::MAX)?;
            }
            Some(Step::Read(line)) => {
                let e = &case.expected[line];
                let row = engine.features.read_here(prepared, &e.entity, e.instant)?;
                found.extend(row.values.into_iter().enumerate().map(|(i, v)| (line, i, v, NOW)));
            }
        }
    }
    let mut at: BTreeMap<Millis, Vec<usize>> = BTreeMap::new();
    for (line, e) in case.expected.iter().enumerate() {
        at.entry(e.instant).or_default().push(line);
    }
    for (instant, lines) in at {
        let entities: Vec<&str> = lines.iter().map(|l| case.expected[*l].entity.as_str()).collect();
        let rows = engine.features.read_as_of(prepared, &entities, instant)?;
        for (line, row) in lines.into_iter().zip(rows) {
            found.extend(row.values.into_iter().enumerate().map(|(i, v)| (line, i, v, AS_OF)));
        }
    }
    Ok(found)
}

/// Whether a value is the one written down: floats to 1e-9 relative, instants whatever their notation,
/// everything else exactly.
pub fn same(got: &Value, wanted: &serde_json::Value) -> bool {
    use serde_json::Value as Json;
    match (got, wanted) {
        (Value::Float(a), Json::Number(b)) => {
            b.as_f64().is_some_and(|b| *a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()))
        }
        (Value::Time(t), Json::String(text)) => {
            text.parse::<jiff::Timestamp>().is_ok_and(|wanted| wanted.as_millisecond() == *t)
        }
        (Value::List(got), Json::Array(wanted)) => {
            got.len() == wanted.len() && got.iter().zip(wanted).all(|(g, w)| same(g, w))
        }
        (Value::Int(i), Json::Number(n)) => n.as_i64().map_or(n.as_f64() == Some(*i as f64), |n| n == *i),
        _ => serde_json::to_value(got).is_ok_and(|got| got == *wanted),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_the_same_by_their_type() {
        assert!(same(&Value::Float(0.1 + 0.2), &json!(0.3)));
        assert!(same(&Value::Float(2.0), &json!(2)));
        assert!(!same(&Value::Float(2.0), &json!(2.00001)));
        assert!(same(&Value::Float(f64::NAN), &json!("NaN")));
        assert!(same(&Value::Int(2), &json!(2.0)));
        assert!(!same(&Value::Int(2), &json!("2")));
        assert!(same(&Value::Time(0), &json!("1970-01-01T01:00:00+01:00")));
        assert!(!same(&Value::Text("1970-01-01T00:00:00Z".into()), &json!("1970-01-01T00:00:00.000Z")));
        assert!(same(&Value::List(vec![Value::Int(1), Value::Null]), &json!([1, null])));
        assert!(!same(&Value::List(vec![Value::Int(1)]), &json!([1, null])));
        assert!(!same(&Value::Int(0), &json!(null)));
    }
}
