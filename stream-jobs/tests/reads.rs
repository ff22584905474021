//! Reads: order of answers, read your writes, state carried over, new views filled from history.
#![allow(clippy::unwrap_used)]

mod support;

use std::{sync::Arc, time::Duration};

use features::{FeatureError, Registry, Value};
use ingest::{catalogue::Catalogue, log::Position};
use proptest::prelude::*;
use stream_jobs::golden;
use support::{Engine, Signal};

const TASKS: &str = "CREATE FEATURE VIEW tasks ENTITY user_id WINDOWS (1 HOUR, 1 DAY)
    AS SELECT subject AS user_id, count(*) AS n, last(project) AS latest FROM task_completed GROUP BY user_id;";
const MOOD: &str = "CREATE FEATURE VIEW mood ENTITY user_id WINDOWS (7 DAYS)
    AS SELECT subject AS user_id, avg(mood) AS mean FROM mood_reported GROUP BY user_id;";
const NOON: i64 = 1_767_268_800_000;

fn task(subject: &str, n: u32) -> Signal {
    Signal {
        id: format!("{subject}-{n}"),
        source: "test".to_owned(),
        kind: "task.completed".to_owned(),
        subject: subject.to_owned(),
        time: jiff::Timestamp::from_millisecond(NOON + i64::from(n)).unwrap(),
        data: serde_json::json!({"project": subject}),
    }
}

fn engine(dir: &tempfile::TempDir, views: &str) -> Engine {
    let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
    let registry = Arc::new(Registry::from_texts(&catalogue, &[("views.sql", views)]).unwrap());
    Engine::new(dir.path().to_owned(), catalogue, registry, 3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Entities and features in any order, repeated and unknown ones included: each answer stands where its
    /// question stood.
    #[test]
    fn answers_stand_in_the_order_asked(
        entities in prop::collection::vec(0..8u32, 0..20),
        features in prop::collection::vec(0..5usize, 0..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut engine = engine(&dir, &format!("{TASKS}{MOOD}"));
        for person in 0..6u32 {
            let signals: Vec<_> = (0..person).map(|n| task(&format!("u{person}"), n)).collect();
            engine.append(&signals);
        }
        engine.drain(7, usize::MAX);
        let names = ["tasks.n_1h", "mood.mean_7d", "tasks.latest_1d", "tasks.n_1d", "tasks.latest_1h"];
        let asked: Vec<&str> = features.iter().map(|f| names[*f]).collect();
        let prepared = engine.registry.prepare(&asked).unwrap();
        let people: Vec<String> = entities.iter().map(|e| format!("u{e}")).collect();
        let now = NOON + 1000;
        let read = futures::executor::block_on(engine.features.read_now(&prepared, &people, now)).unwrap();
        let past = engine.features.read_as_of(&prepared, &people, now).unwrap();
        for rows in [read, past] {
            prop_assert_eq!(rows.len(), entities.len());
            for (row, e) in rows.iter().zip(&entities) {
                prop_assert_eq!(&row.entity, &format!("u{e}"));
                let n = if *e < 6 { i64::from(*e) } else { 0 };
                for (value, f) in row.values.iter().zip(&features) {
                    let wanted = match f {
                        0 | 3 => Value::Int(n),
                        2 | 4 if n > 0 => Value::Text(format!("u{e}").into()),
                        _ => Value::Null,
                    };
                    prop_assert_eq!(value, &wanted);
                }
            }
        }
    }
}

#[test]
fn ages_tell_of_the_newest_signal_in_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = engine(&dir, TASKS);
    engine.append(&[task("ada", 0), task("ada", 500)]);
    engine.drain(10, usize::MAX);
    let prepared = engine.registry.prepare(&["tasks.n_1h", "tasks.n_1d"]).unwrap();
    let row = engine.features.read_here(&prepared, "ada", NOON + 1500).unwrap();
    assert_eq!(row.age_ms, [Some(1000), Some(1000)]);
    let later = engine.features.read_here(&prepared, "ada", NOON + 500 + 3_600_000).unwrap();
    assert_eq!(
        (later.age_ms, later.values),
        (vec![None, Some(3_600_000)], vec![Value::Int(0), Value::Int(2)])
    );
    assert_eq!(&*row.parts[0].view, "tasks");
    assert_eq!(row.parts[0].position.0.len(), 1);
}

#[test]
fn one_reads_what_one_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = engine(&dir, TASKS);
    engine.append(&[task("ada", 0)]);
    let end = engine.end();
    let runtime = engine.runtime.clone();
    let early = runtime.block_on(engine.features.wait_for(&end, Duration::from_millis(20)));
    assert!(matches!(early, Err(FeatureError::NotYet(..))));
    engine.drain(10, usize::MAX);
    runtime.block_on(engine.features.wait_for(&end, Duration::from_millis(20))).unwrap();
    runtime.block_on(engine.features.wait_for(&Position::default(), Duration::ZERO)).unwrap();
}

#[test]
fn a_new_view_is_filled_from_history() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = engine(&dir, MOOD);
    first.append(&[task("ada", 0), task("ada", 1), task("bo", 2)]);
    first.drain(10, usize::MAX);
    first.save();
    first.append(&[task("bo", 3)]);
    let second = first.crash();
    drop(second);
    let mut second = engine(&dir, &format!("{MOOD}{TASKS}"));
    second.drain(1, usize::MAX);
    for (who, n) in [("ada", 2), ("bo", 2)] {
        let values = second.values(who, NOON + 1000);
        assert_eq!(values[1], ("tasks.n_1h".to_owned(), Value::Int(n)), "{who}");
    }
}

/// What stands in the data directory beside the log can be moved away, alone or together.
#[test]
fn what_is_lost_beside_the_log_is_built_again() {
    let lose: [&[&str]; 3] = [&["history"], &["state.redb"], &["history", "state.redb"]];
    for lost in lose {
        let dir = tempfile::tempdir().unwrap();
        let mut engine = engine(&dir, TASKS);
        engine.append(&[task("ada", 0), task("ada", 1), task("bo", 2)]);
        engine.drain(2, usize::MAX);
        engine.save();
        engine.append(&[task("bo", 3)]);
        let mut engine = engine.crash_and(|dir| {
            for name in lost {
                let path = dir.join(name);
                if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
                    .unwrap();
            }
        });
        engine.drain(2, usize::MAX);
        for who in ["ada", "bo"] {
            let wanted = ("tasks.n_1h".to_owned(), Value::Int(2));
            assert_eq!(engine.values(who, NOON + 1000)[0], wanted, "now, without {lost:?}");
            assert_eq!(engine.values_as_of(who, NOON + 1000)[0], wanted, "as of, without {lost:?}");
        }
        engine.save();
        let mut engine = engine.crash();
        engine.drain(2, usize::MAX);
        assert_eq!(engine.values("bo", NOON + 1000)[0].1, Value::Int(2), "once more, without {lost:?}");
    }
}

#[test]
fn the_erased_are_gone_and_stay_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = engine(&dir, TASKS);
    engine.append(&[task("ada", 0), task("bo", 1)]);
    engine.drain(10, usize::MAX);
    engine.save();
    let eraser = engine.job.eraser();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (golden::Engine { job, log, features, .. }, runtime) = engine.into_parts();
    runtime.block_on(async {
        let running = tokio::spawn(job.run(stopped));
        use ingest::log::Log;
        assert_eq!(log.erase("ada").await.unwrap(), 1);
        assert!(eraser.erase("ada").await.unwrap() >= 2, "one signal, and values");
        stop.send(true).unwrap();
        running.await.unwrap().unwrap();
    });
    let prepared = features.registry().prepare(&["tasks.n_1d"]).unwrap();
    let rows = futures::executor::block_on(features.read_now(&prepared, &["ada", "bo"], NOON + 10)).unwrap();
    assert_eq!((&rows[0].values, &rows[1].values), (&vec![Value::Int(0)], &vec![Value::Int(1)]));
    let rows = features.read_as_of(&prepared, &["ada", "bo"], NOON + 10).unwrap();
    assert_eq!((&rows[0].values, &rows[1].values), (&vec![Value::Int(0)], &vec![Value::Int(1)]));
    drop((features, log));
    for entry in walk(dir.path()) {
        if entry.extension().is_some_and(|e| e == "redb") {
            continue; // a page freed by redb may keep old bytes until it is used again
        }
        let bytes = std::fs::read(&entry).unwrap();
        assert!(!bytes.windows(5).any(|w| w == b"ada-0"), "{} still names the erased", entry.display());
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut out = Vec::new();
    for e in std::fs::read_dir(dir).unwrap() {
        let path = e.unwrap().path();
        if path.is_dir() { out.extend(walk(&path)) } else { out.push(path) }
    }
    out
}

/// A reference table whose rows hold from a date: each signal is read with the row of its own time, and a key
/// that is NULL or unknown has none.
#[test]
fn reference_rows_hold_from_their_date() {
    use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray};
    let since = TimestampMillisecondArray::from(vec![NOON - 1, NOON + 10, NOON]).with_timezone("+00:00");
    let rows = RecordBatch::try_from_iter([
        ("name", Arc::new(StringArray::from(vec!["ada", "ada", "bo"])) as ArrayRef),
        ("area", Arc::new(StringArray::from(vec!["old", "new", "else"]))),
        ("valid_from", Arc::new(since)),
    ]);
    let table = features::view::ReferenceTable { name: "projects".to_owned(), rows: rows.unwrap() };
    let sql = "CREATE FEATURE VIEW areas ENTITY user_id WINDOWS (1 HOUR)
        AS SELECT t.subject AS user_id, count(p.area) AS known, last(p.area) AS latest, first(p.area) AS earliest,
        count(*) FILTER (WHERE p.area = 'new') AS fresh
        FROM task_completed t LEFT JOIN projects AS p ON t.project = p.name GROUP BY user_id;";
    let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
    let registry = Registry::with_tables(&catalogue, &[table], &[("views.sql", sql)]);
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::new(
        dir.path().to_owned(),
        catalogue,
        Arc::new(registry.unwrap_or_else(|e| panic!("{e}"))),
        2,
    );
    let nameless = Signal { data: serde_json::json!({}), ..task("ada", 2) };
    engine.append(&[task("ada", 1), nameless, task("ada", 10), task("ada", 20), task("cy", 1)]);
    engine.drain(2, usize::MAX);
    for values in [engine.values("ada", NOON + 30), engine.values_as_of("ada", NOON + 30)] {
        let values: Vec<Value> = values.into_iter().map(|(_, v)| v).collect();
        let text = |t: &str| Value::Text(t.into());
        assert_eq!(values, [Value::Int(3), text("new"), text("old"), Value::Int(2)]);
    }
    assert_eq!(engine.values("cy", NOON + 30)[0].1, Value::Int(0));
}
