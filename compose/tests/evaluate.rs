//! `kairos evaluate` from the command line: a table, JSON, a page, and errors with their exit status.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use serde_json::Value;
use support::{kairos, run};

fn evaluate(arguments: &[&str]) -> (Option<i32>, String, String) {
    let (status, out, err) = run(kairos().arg("evaluate").args(arguments));
    (status.code(), out, err)
}

#[test]
fn a_file_is_judged_as_table_json_and_page() {
    let dir = tempfile::tempdir().unwrap();
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/tests/data/obp.csv");
    let page = dir.path().join("report.html");
    let (log, page) = (log.to_str().unwrap(), page.to_str().unwrap());

    let arguments =
        ["--logs", log, "--clip", "2", "--switch", "1.5", "--resamples", "100", "--json", "--html", page];
    let (status, out, err) = evaluate(&arguments);
    assert_eq!(status, Some(0), "{err}");
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&found["rows"], &found["left_out"]), (&240.into(), &0.into()));
    assert_eq!(found["options"]["thresholds"]["clip"], 2.0);
    assert_eq!(found["estimates"][6]["estimator"], "switch_dr");
    assert_eq!(evaluate(&arguments).1, out, "a seed gives the same answer again");
    let written = std::fs::read_to_string(page).unwrap();
    assert!(written.starts_with("<!doctype html>") && written.contains("clipped_ips"));

    let (status, out, _) =
        evaluate(&["--logs", log, "--policy", "linucb", "--resamples", "100", "--folds", "2"]);
    assert_eq!(status, Some(0));
    for told in ["target: linucb", "switch-DR", "no interval covers", "position 2: 80 rows"] {
        assert!(out.contains(told), "{told}: {out}");
    }
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log.jsonl");
    std::fs::write(&log, "{\"action\": \"a\", \"reward\": 1}\n").unwrap();
    let log = log.to_str().unwrap();
    let (status, out, err) = evaluate(&["--logs", log]);
    assert_eq!((status, out.as_str()), (Some(3), ""));
    assert!(err.contains("log.jsonl: it has no column `propensity`; it has action, reward"), "{err}");
    let (status, _, err) = evaluate(&["--logs", log, "--policy", "guess"]);
    assert!(status == Some(2) && err.contains("`guess` is no policy; there are"), "{err}");
    let (status, _, err) = evaluate(&["--logs", log, "--clip=-1"]);
    assert!(status == Some(2) && err.contains("0 or more"), "{err}");
}
