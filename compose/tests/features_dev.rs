//! `kairos features test` and `explain`, as somebody who writes views uses them.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{Server, kairos, run};

const VIEW: &str = "CREATE FEATURE VIEW walks ENTITY user_id WINDOWS (1 HOUR, 1 DAY)
AS SELECT subject AS user_id, count(*) AS n, sum(steps) AS steps, last(place) AS place
FROM walk GROUP BY user_id;";
const TYPE: &str = r#"syntax = "proto3";
package my.signals;
import "kairos/signal.proto";
message Walk {
  option (kairos.signal_type) = "walk";
  optional int64 steps = 1;
  optional string place = 2;
}"#;
const SIGNALS: &str = r#"{"id":"1","type":"walk","subject":"ada","time":"2026-03-01T10:00:00Z","data":{"steps":100,"place":"park"}}
{"specversion":"1.0","source":"watch","id":"2","type":"walk","subject":"ada","time":"2026-03-01T10:30:00Z","data":{"steps":50}}

{"id":"3","type":"walk","subject":"bo","time":"2026-03-01T10:30:00Z","data":{"place":"wood"}}
"#;

fn case(dir: &Path, expected: &str) {
    std::fs::create_dir_all(dir).unwrap();
    for (file, text) in [("walks.sql", VIEW), ("walk.proto", TYPE), ("signals.ndjson", SIGNALS)] {
        std::fs::write(dir.join(file), text).unwrap();
    }
    if !expected.is_empty() {
        std::fs::write(dir.join("expected.ndjson"), expected).unwrap();
    }
}

fn test(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    // No data directory is made or asked for.
    let (status, out, err) = run(kairos().current_dir(dir).args(["features", "test", "."]).args(arguments));
    assert!(!dir.join("kairos-data").exists());
    (status.code().unwrap(), out, err)
}

#[test]
fn cases_pass_or_show_what_differs() {
    let dir = tempfile::tempdir().unwrap();
    case(
        &dir.path().join("good"),
        r#"{"entity":"ada","at":"2026-03-01T11:00:00Z","values":{"walks.n_1h":1,"walks.steps_1d":150,"walks.place_1d":null}}"#,
    );
    let (code, out, err) = test(dir.path(), &[]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("ok   ./good: 3 values") && out.contains("1 cases, 0 failed"), "{out}");

    case(
        &dir.path().join("deep/wrong"),
        r#"{"entity":"ada","at":"2026-03-01T11:00:00Z","values":{"walks.n_1h":2,"walks.steps_1d":150}}"#,
    );
    let (code, out, err) = test(dir.path(), &[]);
    assert_eq!(code, 1, "{out}{err}");
    for part in [
        "FAIL ./deep/wrong: 2 values",
        "ada at 2026-03-01T11:00:00Z",
        "walks.n_1h\n      expected  2\n      got       1  in every way",
        "ok   ./good",
        "2 cases, 1 failed",
    ] {
        assert!(out.contains(part), "no `{part}` in:\n{out}");
    }
    assert!(!out.contains("steps_1d"), "{out}");
    assert!(err.contains("1 of 2 cases failed"), "{err}");
}

#[test]
fn a_case_is_filled_in_for_review() {
    let dir = tempfile::tempdir().unwrap();
    case(dir.path(), "");
    let (code, out, _) = test(dir.path(), &[]);
    assert_eq!(code, 1, "nothing expected is no success: {out}");
    assert!(out.contains("--complete"), "{out}");

    let at = ["--complete", "--at", "2026-03-01T11:00:00Z", "--at", "2026-03-02T10:00:00.001Z"];
    let (code, out, err) = test(dir.path(), &at);
    assert_eq!(code, 0, "{out}{err}");
    let file = dir.path().join("expected.ndjson");
    let filled = std::fs::read_to_string(&file).unwrap();
    let wanted = r#"{"entity":"ada","at":"2026-03-01T11:00:00Z","values":{"walks.n_1d":2,"walks.n_1h":1,"walks.place_1d":null,"walks.place_1h":null,"walks.steps_1d":150,"walks.steps_1h":50}}
{"entity":"bo","at":"2026-03-01T11:00:00Z","values":{"walks.n_1d":1,"walks.n_1h":1,"walks.place_1d":"wood","walks.place_1h":"wood","walks.steps_1d":null,"walks.steps_1h":null}}
{"entity":"ada","at":"2026-03-02T10:00:00.001Z","values":{"walks.n_1d":1,"walks.n_1h":0,"walks.place_1d":null,"walks.place_1h":null,"walks.steps_1d":50,"walks.steps_1h":null}}
{"entity":"bo","at":"2026-03-02T10:00:00.001Z","values":{"walks.n_1d":1,"walks.n_1h":0,"walks.place_1d":"wood","walks.place_1h":null,"walks.steps_1d":null,"walks.steps_1h":null}}
"#;
    assert_eq!(filled, wanted);
    assert_eq!(test(dir.path(), &[]).0, 0);

    // Again changes nothing; what is wrong stays as it was written.
    assert_eq!(test(dir.path(), &at).0, 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted);
    let broken =
        wanted.lines().next().unwrap().replace("\"walks.n_1d\":2,\"walks.n_1h\":1,", "\"walks.n_1d\":3,");
    std::fs::write(&file, &broken).unwrap();
    let (code, out, _) = test(dir.path(), &["--complete"]);
    assert_eq!(code, 1);
    assert!(out.contains("nothing was filled in"), "{out}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), broken);
}

#[test]
fn mistakes_in_a_case_name_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let line = r#"{"entity":"ada","at":"2026-03-01T11:00:00Z","values":{"walks.n_1h":1}}"#;
    let mistakes = [
        ("signals.ndjson", SIGNALS.replace("\"steps\":50", "\"step\":50"), "signals.ndjson:2: ", "step"),
        (
            "signals.ndjson",
            SIGNALS.replace("\"walk\"", "\"walc\""),
            "signals.ndjson:1: ",
            "did you mean `walk`",
        ),
        (
            "signals.ndjson",
            SIGNALS.replace("\"id\":\"3\"", "\"id\":\"1\""),
            "signals.ndjson:4: ",
            "line 1 again",
        ),
        (
            "signals.ndjson",
            r#"{"id":"1","type":"walk","subject":"a"}"#.to_owned(),
            "signals.ndjson:1: ",
            "`time`",
        ),
        ("expected.ndjson", line.replace("values", "vals"), "expected.ndjson:1: ", "vals"),
        ("expected.ndjson", line.replace("2026-03", "soon"), "expected.ndjson:1: ", "no instant"),
        ("expected.ndjson", line.replace("n_1h", "n_2h"), "expected.ndjson: ", "did you mean `walks.n_1h`"),
        ("walks.sql", VIEW.replace("sum", "sun"), "walks.sql:2:", "sun"),
    ];
    for (file, text, place, said) in mistakes {
        case(dir.path(), line);
        std::fs::write(dir.path().join(file), text).unwrap();
        let (code, out, err) = test(dir.path(), &[]);
        assert!(matches!(code, 2 | 3), "{file}: {code} {out}{err}");
        assert!(err.contains(place) && err.contains(said), "{file}, `{said}`: {err}");
    }
    let empty = tempfile::tempdir().unwrap();
    let (code, _, err) = test(empty.path(), &[]);
    assert!(code == 3 && err.contains("no case here"), "{err}");
}

/// Without views of its own a case tests those of the program: the built-in ones and those of `--views`.
#[test]
fn a_case_can_test_views_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (views, here) = (dir.path().join("views"), dir.path().join("case"));
    std::fs::create_dir_all(&views).unwrap();
    std::fs::create_dir_all(&here).unwrap();
    std::fs::write(
        views.join("mine.sql"),
        "CREATE FEATURE VIEW mine ENTITY user_id WINDOWS (1 DAY)
         AS SELECT subject AS user_id, count(*) AS n FROM task_completed GROUP BY user_id;",
    )
    .unwrap();
    std::fs::write(
        here.join("signals.ndjson"),
        r#"{"id":"1","type":"task.completed","subject":"ada","time":"2026-03-01T10:00:00Z"}"#,
    )
    .unwrap();
    std::fs::write(
        here.join("expected.ndjson"),
        r#"{"entity":"ada","at":"2026-03-01T11:00:00Z","values":{"mine.n_1d":1,"task_activity.completed_24h":1}}"#,
    )
    .unwrap();
    let views = views.display().to_string();
    let (code, out, err) = test(&here, &["--views", &views]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("2 values"), "{out}");
}

fn explain(data: &Path, name: &str, more: &[&str]) -> (i32, String, String) {
    let (status, out, err) = run(kairos().args(["features", "explain", name, "--data"]).arg(data).args(more));
    (status.code().unwrap(), out, err)
}

#[test]
fn a_view_is_explained_without_any_data() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = explain(dir.path(), "code_rhythm", &[]);
    assert_eq!(code, 0, "{err}");
    for part in [
        "reads      code_pushed",
        "entity     user_id",
        "lateness   1 day",
        "kept       8 days behind the newest signal",
        "t - 1 day < time <= t",
        "sum(code_pushed.commits)",
        "source",
        "9 bytes",
        "reckoned",
        "there is no checkpoint",
    ] {
        assert!(out.contains(part), "no `{part}` in:\n{out}");
    }
    assert!(!out.contains("state ;"), "every aggregate has a state:\n{out}");

    let (code, out, _) = explain(dir.path(), "code_rhythm.commits_24h", &["--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    let plan = &told["plan"];
    assert_eq!(plan["windows"].as_array().unwrap().len(), 1);
    assert_eq!(plan["outputs"].as_array().unwrap().len(), 1);
    assert_eq!(plan["aggregates"].as_array().unwrap().len(), 1);
    assert_eq!(plan["aggregates"][0]["state"], json!(["Int64"]));
    assert!(told["measured"].is_null());

    for (name, said) in [("code_rythm", "code_rhythm"), ("code_rhythm.commits_25h", "commits_24h")] {
        let (code, _, err) = explain(dir.path(), name, &[]);
        assert!(code == 3 && err.contains(said), "{name}: {code} {err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_measured_in_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let signal = |person: &str, n: usize| {
        json!({"id": format!("{person}-{n}"), "source": "test", "type": "code.pushed", "subject": person,
               "data": {"repo": "garden", "commits": n, "files": 1}})
    };
    let signals: Vec<Value> =
        (0..5).map(|n| signal("ada", n)).chain((0..2).map(|n| signal("bo", n))).collect();
    let (status, answer) = server
        .post_text("/v1/signals", "application/cloudevents-batch+json", json!(signals).to_string())
        .await;
    assert!(status.is_success(), "{answer}");
    let position = answer["position"].as_str().unwrap().to_owned();
    let values = server.features("ada", &["code_rhythm.pushes_1h"], &position).await;
    assert_eq!(values["code_rhythm.pushes_1h"], 5);
    server.ask_to_stop();
    assert!(server.wait().success());
    let (code, out, err) = explain(dir.path(), "code_rhythm", &["--json"]);
    assert_eq!(code, 0, "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    let measured = &told["measured"];
    assert_eq!(measured["entities"], 2, "{out}");
    assert_eq!((&measured["events"]["min"], &measured["events"]["max"]), (&json!(2), &json!(5)));
    assert!(measured["bytes"]["max"].as_u64().unwrap() > measured["bytes"]["min"].as_u64().unwrap());
    let (_, out, _) = explain(dir.path(), "code_rhythm", &[]);
    assert!(out.contains("measured in the checkpoint, 2 entities"), "{out}");
}
