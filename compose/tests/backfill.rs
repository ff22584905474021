//! `kairos features backfill|drop|list` as somebody uses them who changes a view, killed in the middle too.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{Server, kairos, run};

const FIRST: &str = "-- Work done.
CREATE FEATURE VIEW work ENTITY user_id WINDOWS (1 HOUR, 1 DAY)
AS SELECT subject AS user_id, count(*) AS n FROM task_completed GROUP BY user_id;";
const SECOND: &str = "-- Work done, in minutes.
CREATE FEATURE VIEW work ENTITY user_id WINDOWS (1 HOUR, 1 DAY)
AS SELECT subject AS user_id, sum(minutes) AS n, count(*) AS tasks FROM task_completed GROUP BY user_id;";
const PEOPLE: usize = 60;
const EACH: usize = 250;

fn signals() -> String {
    let mut lines = String::new();
    for i in 0..PEOPLE * EACH {
        let (who, number) = (i % PEOPLE, i / PEOPLE);
        let time = jiff::Timestamp::from_second(1_767_225_600 + (number * 420 + who) as i64).unwrap();
        lines.push_str(
            &json!({"specversion": "1.0", "source": "test", "id": i.to_string(), "type": "task.completed",
            "subject": format!("user-{who:02}"), "time": time.to_string(), "data": {"minutes": i % 47}})
            .to_string(),
        );
        lines.push('\n');
    }
    lines
}

fn command(data: &Path, views: &Path, words: &[&str]) -> std::process::Command {
    let mut command = kairos();
    command.args(words).arg("--data").arg(data).arg("--views").arg(views);
    // Often, so that a run that is killed early has come somewhere.
    command.env("KAIROS__STREAM__CHECKPOINT_SECONDS", "0.3").stdin(Stdio::null());
    command
}

fn kairos_says(data: &Path, views: &Path, words: &[&str]) -> String {
    let (status, out, err) = run(&mut command(data, views, words));
    assert!(status.success(), "{words:?}: {status}\n{out}{err}");
    out + &err
}

/// The rows of a table about one person: by instant, without when they were written.
fn rows(data: &Path, views: &Path, table: &str, who: &str) -> BTreeMap<String, Value> {
    let mut rows = BTreeMap::new();
    for line in kairos_says(data, views, &["users", "export", who]).lines() {
        let Ok(mut row) = serde_json::from_str::<Value>(line) else { continue };
        if row["table"] == table {
            row.as_object_mut().unwrap().remove("written");
            let at = row["as_of"].as_str().unwrap().to_owned();
            assert!(rows.insert(at, row).is_none(), "twice: {line}");
        }
    }
    rows
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_changed_view_is_backfilled_though_killed_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let (views, whole, killed) = (dir.path().join("v"), dir.path().join("whole"), dir.path().join("killed"));
    std::fs::create_dir(&views).unwrap();
    std::fs::write(views.join("work.sql"), FIRST).unwrap();
    let file = dir.path().join("signals.ndjson");
    std::fs::write(&file, signals()).unwrap();
    kairos_says(&whole, &views, &["replay", file.to_str().unwrap()]);
    std::fs::write(views.join("work.sql"), SECOND).unwrap();
    copy(&whole, &killed);

    let said = kairos_says(&whole, &views, &["features", "backfill"]);
    assert!(said.contains("the history of work is complete"), "{said}");
    let said = kairos_says(&whole, &views, &["features", "backfill"]);
    assert!(said.contains("the history of every view is complete"), "{said}");

    let mut pause = Duration::from_millis(400);
    loop {
        let mut child = command(&killed, &views, &["features", "backfill", "work"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if begun.elapsed() > pause {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        pause += Duration::from_millis(700);
        if let Some(status) = ended {
            assert!(status.success(), "{status}");
            break;
        }
    }
    for who in ["user-00", "user-31", "user-59"] {
        let wanted = rows(&whole, &views, "features_work", who);
        assert_eq!(wanted.len(), EACH, "a row a signal");
        assert_eq!(rows(&killed, &views, "features_work", who), wanted);
    }

    let list = kairos_says(&whole, &views, &["features", "list", "--json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let of_work: Vec<_> = list.as_array().unwrap().iter().filter(|v| v["view"] == "work").collect();
    let [new, old] = of_work[..] else { panic!("{of_work:?}") };
    assert_eq!((&new["current"], &old["current"]), (&json!(true), &json!(false)));
    let version = old["version"].as_str().unwrap();
    let pinned = format!("work@{}.n_1d", &version[..5]);
    let read = [
        "features",
        "read",
        "user-00",
        "--as-of",
        "2026-01-02T00:00:00Z",
        "--json",
        "--feature",
        "work.n_1d",
    ];
    let read = kairos_says(&whole, &views, &[&read[..], &["--feature", &pinned]].concat());
    let read: Value = serde_json::from_str(read.lines().next().unwrap()).unwrap();
    // The first signal lies on the lower edge, which is open.
    assert_eq!(read["values"][&pinned], json!(205), "{read}");
    assert_eq!(
        read["values"]["work.n_1d"],
        json!((1..=205).map(|n| n * PEOPLE % 47).sum::<usize>()),
        "{read}"
    );
    assert!(!rows(&whole, &views, &format!("features_work__{version}"), "user-00").is_empty());

    let server = Server::start_with(&whole, &["--views", views.to_str().unwrap()]);
    for words in [&["features", "backfill", "work"][..], &["features", "drop", &format!("work@{version}")]] {
        let (status, _, err) = run(&mut command(&whole, &views, words));
        assert!(status.code() == Some(4) && err.contains("stop the server first"), "{status}: {err}");
    }
    server.stop();
    let (status, _, err) = run(&mut command(&whole, &views, &["features", "drop", "work"]));
    assert!(!status.success() && err.contains("view@version"), "{err}");
    kairos_says(&whole, &views, &["features", "drop", &format!("work@{}", &version[..6])]);
    assert!(rows(&whole, &views, &format!("features_work__{version}"), "user-00").is_empty());
    let list = kairos_says(&whole, &views, &["features", "list"]);
    assert!(!list.contains(version) && list.contains("work@"), "{list}");
}
