//! `kairos evaluate --logs` as a library: equal to Open Bandit Pipeline, liberal in what it reads, strict in what
//! it says.
#![allow(clippy::unwrap_used)]

mod forms;
mod policies;
mod properties;

use std::path::{Path, PathBuf};

use pipelines::{
    PipelineError,
    evaluate::{
        Estimator, Options, Thresholds,
        file::{FileEvaluation, Reason, evaluate_file},
    },
    table::{Input, Output},
};
use rand::{SeedableRng, rngs::SmallRng};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn options() -> Options {
    Options { resamples: 100, folds: 2, ..Options::default() }
}

fn judge_with(file: &Path, options: &Options) -> Result<FileEvaluation, PipelineError> {
    evaluate_file(file, None, options, &mut SmallRng::seed_from_u64(1), &mut |_| {})
}

fn judge(file: &Path) -> Result<FileEvaluation, PipelineError> {
    judge_with(file, &options())
}

/// Judges a text as a file of this name.
fn judge_text(name: &str, text: &str) -> Result<FileEvaluation, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    std::fs::write(&file, text).unwrap();
    judge(&file).map_err(|e| e.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

fn value(found: &FileEvaluation, estimator: Estimator) -> f64 {
    found.judgement.estimate(estimator).unwrap().value
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-6, "{a} is not {b}");
}

fn kinds(found: &FileEvaluation) -> Vec<&'static str> {
    found.judgement.diagnostics.warnings.iter().map(|w| w.kind).collect()
}

#[test]
fn estimates_are_those_of_open_bandit_pipeline() {
    let expected: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(data("obp.json")).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for file in forms::all(dir.path()) {
        for case in expected.as_array().unwrap() {
            let number = |of: &serde_json::Value| of.as_f64().unwrap();
            let thresholds = Thresholds { clip: number(&case["clip"]), switch: number(&case["switch"]) };
            let found = judge_with(&file, &Options { thresholds, ..options() }).unwrap();
            assert_eq!((found.judgement.rows, found.left_out, found.model), (240, 0, "file"));
            for estimator in Estimator::ALL {
                let (ours, theirs) = (value(&found, estimator), number(&case["estimates"][estimator.name()]));
                assert!((ours - theirs).abs() < 1e-6, "{} {estimator:?}: {ours}, {theirs}", file.display());
            }
            let positions: Vec<_> =
                found.positions.iter().map(|p| (p.position.as_str(), p.judgement.rows)).collect();
            assert_eq!(positions, [("0", 80), ("1", 80), ("2", 80)]);
        }
    }
}

#[test]
fn columns_that_do_not_matter_change_nothing_and_without_a_model_one_is_fitted() {
    let text = std::fs::read_to_string(data("obp.csv")).unwrap();
    let cut: Vec<String> = text
        .lines()
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            format!("{},more", cells[..cells.len() - 5].join(","))
        })
        .collect();
    let found = judge_text("cut.csv", &cut.join("\n")).unwrap();
    assert_eq!((found.model, found.judgement.rows, found.context), ("fitted", 240, 4));
    let whole = judge(&data("obp.csv")).unwrap();
    near(value(&found, Estimator::Snips), value(&whole, Estimator::Snips));
    let (fitted, given) = (value(&found, Estimator::Dr), value(&whole, Estimator::Dr));
    assert!(fitted != given && (fitted - given).abs() < 0.15, "{fitted} {given}");
}

#[test]
fn figures_by_hand() {
    // Weights 2, 0.5, 0; rewards 1, 1, 0.
    let text = r#"{"action": "a", "propensity": 0.4, "reward": 1, "target": {"a": 0.8, "b": 0.2}}
{"action": "b", "propensity": 0.6, "reward": true, "target.a": 0.7, "target.b": 0.3}
{"action": "b", "propensity": "0.5", "reward": "0", "target": {"a": 1.0}}
"#;
    let found = judge_text("log.jsonl", text).unwrap();
    near(value(&found, Estimator::Ips), 2.5 / 3.0);
    near(value(&found, Estimator::Snips), 1.0);
    near(found.judgement.diagnostics.largest_weight, 2.0);
    near(found.judgement.diagnostics.mean_reward, 2.0 / 3.0);
    assert_eq!((found.judgement.rows, found.left_out, found.actions), (3, 0, 2));
}

#[test]
fn one_action_has_one_name_however_it_is_written() {
    let text = "action,propensity,reward,target.1,target.2.0\n1.0,0.5,1,0.5,0.5\n2,0.5,False,0.5,0.5\n";
    let found = judge_text("log.csv", text).unwrap();
    assert_eq!((found.actions, found.judgement.rows), (2, 2));
    near(value(&found, Estimator::Ips), 0.5);
    let lines = "{\"action\":1,\"propensity\":1,\"reward\":2.5,\"target\":[0,1.0]}\n\n\
                 {\"action\":\"1\",\"propensity\":1,\"reward\":-0.5,\"target\":{\"1\":1}}";
    let found = judge_text("log.ndjson", lines).unwrap();
    near(value(&found, Estimator::Ips), 1.0);
    assert_eq!(found.rows_read, 2);
}

#[test]
fn rows_of_no_use_are_counted_and_told() {
    let mut text = "action,propensity,reward,target.a,target.b\n".to_owned();
    for row in [
        "a,0.5,1,0.5,0.5",
        "b,0.5,0,0.5,0.5",
        ",0.5,1,0.5,0.5",
        "a,0,1,0.5,0.5",
        "a,1.5,1,0.5,0.5",
        "a,-0.5,1,0.5,0.5",
        "a,,1,0.5,0.5",
        "a,much,1,0.5,0.5",
        "a,0.5,,0.5,0.5",
        "a,0.5,inf,0.5,0.5",
        "a,0.5,1,0.5,0.6",
        "a,0.5,1,-0.5,1.5",
        "a,0.5,1,x,0.5",
        "a,0.5,1,,",
    ] {
        text += row;
        text.push('\n');
    }
    let found = judge_text("log.csv", &text).unwrap();
    assert_eq!((found.judgement.rows, found.left_out, found.rows_read), (2, 12, 14));
    let told: Vec<_> = found.unusable.iter().map(|u| (u.reason, u.rows, u.first_row)).collect();
    let expected =
        [(Reason::Action, 1, 3), (Reason::Propensity, 5, 4), (Reason::Reward, 2, 9), (Reason::Target, 4, 11)];
    assert_eq!(told, expected);
    assert_eq!(found.unusable[1].example, "row 4, column `propensity`: 0 is not above 0 and at most 1");
    assert!(found.unusable[3].example.contains("sum to 1.1"), "{:?}", found.unusable[3]);
    assert!(kinds(&found).contains(&"left_out"));
    let told = found.to_string();
    assert!(told.contains("12 left out") && told.contains("row 9, column `reward`"), "{told}");
}

#[test]
fn what_cannot_be_read_says_where_and_why() {
    for (name, text, wanted) in [
        ("log.csv", "", "log.csv: "),
        ("log.jsonl", "", "log.jsonl: it has no rows"),
        ("log.txt", "", "its name must end in .csv, .ndjson, .jsonl"),
        (
            "log.csv",
            "action,reward,target.a\na,1,1\n",
            "it has no column `propensity`; it has action, reward",
        ),
        ("log.csv", "action,propensity,reward\na,1,1\n", "no columns `target.<action>`"),
        ("log.csv", "action,propensity,reward,target.a\na,1\n", "line 2"),
        (
            "log.jsonl",
            "{\"action\": 1}\n{\"action\": 1",
            "row 2: EOF while parsing an object at character 12",
        ),
        ("log.jsonl", "[1, 2]\n", "row 1: invalid type: sequence, expected an object a line"),
        ("log.jsonl", "{\"action\": {\"id\": 1}}\n", "row 1: column `action` must be one plain value"),
        ("log.parquet", "no parquet", "log.parquet: "),
        ("log.parquet.gz", "", "Parquet packs its columns itself"),
        (
            "log.csv",
            "action,propensity,reward,target.a\na,0,1,1\n",
            "none of its 1 rows can be used; row 1, column `propensity`: 0 is not above 0 and at most 1",
        ),
        (
            "log.csv",
            "action,propensity,reward,target.x\na,1,1,1\n",
            "no action taken has a column of the target: taken were a; the columns are of x",
        ),
    ] {
        let said = judge_text(name, text).unwrap_err();
        assert!(said.contains(wanted), "{said}\nshould have: {wanted}");
    }
    assert!(judge(Path::new("nowhere.csv")).unwrap_err().to_string().starts_with("nowhere.csv: "));
}

#[test]
fn what_the_file_cannot_tell_is_warned_of() {
    let text: String = (0..200)
        .map(|i| {
            format!(
                "{{\"action\":\"a\",\"propensity\":0.5,\"reward\":{},\"target\":{{\"a\":0.5,\"b\":0.5}}}}\n",
                i % 2
            )
        })
        .collect();
    let found = judge_text("log.jsonl", &text).unwrap();
    near(found.judgement.diagnostics.support, 0.5);
    assert_eq!(found.judgement.diagnostics.unsupported_rows, 200);
    // Always `a`, although it says it was drawn half of the time.
    assert_eq!(kinds(&found), ["support", "frequency"]);
    let text: String = (0..200)
        .map(|i| format!("{{\"action\":{},\"propensity\":0.5,\"reward\":1,\"target\":{{\"0\":1}}}}\n", i % 3))
        .collect();
    assert!(kinds(&judge_text("log.jsonl", &text).unwrap()).contains(&"no_target_column"));
}

#[test]
fn a_row_without_a_model_where_others_have_one_is_left_out() {
    let text = "action,propensity,reward,target.a,target.b,model.a,model.b\n\
                a,0.5,1,0.5,0.5,0.6,0.2\nb,0.5,0,0.5,0.5,,\nb,0.5,0,0.5,0.5,0.6,\n";
    let found = judge_text("log.csv", text).unwrap();
    assert_eq!((found.judgement.rows, found.left_out), (1, 2));
    near(value(&found, Estimator::Dm), 0.4);
    near(value(&found, Estimator::Dr), 0.8);
}

#[test]
fn the_json_has_the_documented_shape() {
    let json = serde_json::to_value(judge(&data("obp.csv")).unwrap()).unwrap();
    for name in [
        "rows",
        "rows_read",
        "left_out",
        "unusable",
        "estimates",
        "diagnostics",
        "gain",
        "positions",
        "options",
    ] {
        assert!(json.get(name).is_some(), "{name}");
    }
    let first = &json["estimates"][0];
    assert_eq!(first["estimator"], "ips");
    for interval in ["normal", "bootstrap", "bernstein"] {
        assert!(first[interval]["low"].as_f64().unwrap() <= first["value"].as_f64().unwrap());
        assert!(first[interval]["high"].as_f64().unwrap() >= first["value"].as_f64().unwrap());
    }
    assert!(json["diagnostics"]["support"].is_number() && json["diagnostics"]["warnings"].is_array());
}
