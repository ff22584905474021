//! Point-in-time joins against a plain reading of the definition, and their files, good and bad.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Int64Type,
};
use features::{
    Prepared, Registry,
    offline::{OfflineStore, Options, ParquetHistory},
    past,
};
use indicatif::ProgressBar;
use ingest::{
    Millis,
    catalogue::{Catalogue, UnknownFields},
    log::Position,
    record::Record,
};
use pipelines::{
    PipelineError,
    join::{JoinJob, JoinReport, Known, MEMORY, Rows, run},
};
use proptest::prelude::*;

const VIEW: &str = "CREATE FEATURE VIEW work ENTITY user_id WINDOWS (1 HOUR, 1 DAY) AS SELECT subject AS user_id, \
    count(*) AS done, sum(minutes) AS minutes, last(project) AS project FROM task_completed GROUP BY user_id";
const NAMES: [&str; 4] = ["work.done_1h", "work.minutes_1d", "work.project_1d", "work.done_1d"];
const HOUR: Millis = 3_600_000;

#[derive(Debug, Clone)]
struct Task {
    who: u8,
    time: Millis,
    delay: Millis,
    minutes: Option<i64>,
}

struct World {
    _dir: tempfile::TempDir,
    history: ParquetHistory,
    prepared: Prepared,
}

/// The rows as a declaration with fewer fields, in another order, would have stored them.
fn of_an_older_declaration(batch: &RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let place = |name: &str| schema.index_of(name).unwrap();
    let columns =
        ["subject", "project", "offset", "partition", "time", "minutes", "received_at", "source", "id"];
    batch.project(&columns.map(place)).unwrap()
}

/// History with these tasks, the first in an older form; every part of `flush` tasks goes to a file, the rest stays in memory.
fn world(tasks: &[Task], flush: usize) -> World {
    let catalogue = Catalogue::load(&[]).unwrap();
    let registry = Registry::from_texts(&catalogue, &[("work.sql", VIEW)]).unwrap();
    let kind = catalogue.get("task.completed").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let history = ParquetHistory::open(dir.path(), Options::new(Arc::new(|| 0))).unwrap();
    for (n, part) in tasks.chunks(flush).enumerate() {
        let mut table = kind.builder();
        for (i, task) in part.iter().enumerate() {
            let offset = n * flush + i;
            let data = serde_json::json!({"minutes": task.minutes, "project": format!("p{offset}")});
            let record = Record {
                kind: kind.name.clone(),
                id: format!("{:03}", offset * 7 % 1000),
                source: "test".into(),
                subject: format!("u{}", task.who),
                time: task.time,
                received_at: task.time + task.delay,
                data: kind.encode_value(&data, UnknownFields::Reject).unwrap().into(),
                extensions: vec![],
            };
            table.append(0, offset as u64, &record).unwrap();
        }
        let batch = table.finish();
        let batch = if n == 0 { of_an_older_declaration(&batch) } else { batch };
        history.append(&kind.table, batch).unwrap();
        if part.len() == flush {
            history.flush(&Position([(0, ((n + 1) * flush) as u64)].into())).unwrap();
            history.compact_step().unwrap();
        }
    }
    let prepared = registry.prepare(&NAMES).unwrap();
    World { _dir: dir, history, prepared }
}

/// The definition read plainly: counts over both windows, minutes and last project of a day; and whether a
/// signal was left out.
fn plainly(
    tasks: &[Task],
    who: &str,
    at: Millis,
    known: Known,
) -> ((i64, Option<i64>, Option<String>, i64), bool) {
    let inside = |span: Millis| {
        let of =
            move |(_, t): &(usize, &Task)| format!("u{}", t.who) == who && at - span < t.time && t.time <= at;
        tasks.iter().enumerate().filter(of).collect::<Vec<_>>()
    };
    let arrived = |(_, t): &&(usize, &Task)| known == Known::ByNow || t.time + t.delay <= at;
    let all = inside(24 * HOUR);
    let day: Vec<_> = all.iter().filter(arrived).collect();
    let hour = inside(HOUR).iter().filter(arrived).count() as i64;
    let minutes: Vec<i64> = day.iter().filter_map(|(_, t)| t.minutes).collect();
    let sum = (!minutes.is_empty()).then(|| minutes.iter().sum());
    let last = day.iter().max_by_key(|(i, t)| (t.time, format!("{:03}", i * 7 % 1000)));
    let project = last.map(|(i, _)| format!("p{i}"));
    ((hour, sum, project, day.len() as i64), all.len() > day.len())
}

fn tasks() -> impl Strategy<Value = Vec<Task>> {
    let instant = 0..60 * HOUR / 600_000;
    let task = (0..5u8, instant, prop_oneof![3 => Just(0), 1 => 0..10 * HOUR], prop::option::of(1..90i64))
        .prop_map(|(who, time, delay, minutes)| Task { who, time: time * 600_000, delay, minutes });
    prop::collection::vec(task, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn values_are_those_of_the_definition(
        tasks in tasks(),
        rows in prop::collection::vec((0..7u8, 0..90i64), 0..60),
        by_then in any::<bool>(),
    ) {
        let known = if by_then { Known::ByThen } else { Known::ByNow };
        let world = world(&tasks, 20);
        let rows: Vec<(String, Millis)> =
            rows.into_iter().map(|(who, at)| (format!("u{who}"), at * HOUR)).collect();
        let joined = past::join(&world.history, &world.prepared, &rows, known).unwrap();
        let values = joined.values;
        prop_assert_eq!(values.num_rows(), rows.len());
        let names: Vec<String> = values.schema().fields().iter().map(|f| f.name().clone()).collect();
        prop_assert_eq!(names, NAMES);
        let int = |c: usize, i: usize| {
            let column = values.column(c).as_primitive::<Int64Type>();
            column.is_valid(i).then(|| column.value(i))
        };
        let mut late = 0;
        for (i, (who, at)) in rows.iter().enumerate() {
            let projects = values.column(2).as_string::<i32>();
            let project = projects.is_valid(i).then(|| projects.value(i).to_owned());
            let (expected, left_out) = plainly(&tasks, who, *at, known);
            prop_assert_eq!((int(0, i).unwrap(), int(1, i), project, int(3, i).unwrap()), expected);
            late += usize::from(left_out);
        }
        prop_assert_eq!(joined.with_late_signals, late);
    }
}

fn some_tasks() -> Vec<Task> {
    let task = |who, hours: Millis, delay: Millis| Task {
        who,
        time: hours * HOUR,
        delay: delay * HOUR,
        minutes: Some(10),
    };
    vec![task(7, 1, 0), task(7, 2, 0), task(7, 3, 5), task(8, 2, 0)]
}

fn job(dir: &Path, input: &str, output: &str) -> JoinJob {
    JoinJob {
        input: Rows::File(dir.join(input)),
        output: dir.join(output),
        entity: "user".into(),
        as_of: "at".into(),
        known: Known::ByThen,
        memory: MEMORY,
    }
}

fn joined(dir: &Path, input: &str, output: &str) -> Result<JoinReport, PipelineError> {
    let world = world(&some_tasks(), 2);
    run(&world.history, &world.prepared, &job(dir, input, output), &ProgressBar::hidden())
}

const CSV: &str = "user,at,label,note\nu7,1970-01-01T04:00:00Z,1,first\nnobody,14400000,0,\nu8,1970-01-01T03:00:00+01:00,1,\"x,y\"\n";

#[test]
fn a_csv_file_keeps_its_rows_and_gains_values() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("labels.csv"), CSV).unwrap();
    let report = joined(dir.path(), "labels.csv", "out.csv").unwrap();
    assert_eq!(report, JoinReport { rows: 3, with_late_signals: 1 });
    let written = fs::read_to_string(dir.path().join("out.csv")).unwrap();
    let expected = "user,at,label,note,work.done_1h,work.minutes_1d,work.project_1d,work.done_1d\n\
        u7,1970-01-01T04:00:00Z,1,first,0,20,p1,2\n\
        nobody,14400000,0,,0,,,0\n\
        u8,1970-01-01T03:00:00+01:00,1,\"x,y\",1,10,p3,1\n";
    assert_eq!(written, expected);
}

#[test]
fn every_form_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    fs::write(path.join("labels.csv"), CSV).unwrap();
    joined(path, "labels.csv", "a.csv").unwrap();
    let world = world(&some_tasks(), 2);
    let plain = world.prepared.clone();
    let nothing = Registry::from_texts(&Catalogue::load(&[]).unwrap(), &[("work.sql", VIEW)]).unwrap();
    let nothing = nothing.prepare::<&str>(&[]).unwrap();
    for (from, to, prepared) in [
        ("labels.csv", "labels.parquet", &nothing),
        ("labels.parquet", "labels.ndjson", &nothing),
        ("labels.ndjson", "b.parquet", &plain),
        // Objects of JSON have no order, so their columns come by name: in both files alike.
        ("b.parquet", "b.ndjson", &nothing),
        ("b.ndjson", "b.csv", &nothing),
        ("a.csv", "a.ndjson", &nothing),
        ("a.ndjson", "a.csv", &nothing),
    ] {
        run(&world.history, prepared, &job(path, from, to), &ProgressBar::hidden()).unwrap();
    }
    let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
    assert_eq!(read("a.csv"), read("b.csv"));
}

/// Rows in no order, more than may be in memory: sorted on disk, joined, and back in their order.
#[test]
fn more_rows_than_memory_holds_give_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let mut rows = String::from("note,user,at\n");
    for i in 0..9_000u64 {
        let shuffled = i * 7_919 % 9_000;
        rows.push_str(&format!("n{i},u{},{}\n", shuffled % 11, (shuffled % 60) * HOUR as u64 / 2));
    }
    fs::write(path.join("rows.csv"), rows).unwrap();
    let tasks: Vec<Task> = (0..200)
        .map(|i| Task { who: (i % 9) as u8, time: i * HOUR / 8, delay: i % 5 * HOUR, minutes: Some(i % 60) })
        .collect();
    let world = world(&tasks, 50);
    let mut reports = Vec::new();
    for (memory, output) in [(MEMORY, "whole.parquet"), (0, "sorted.parquet")] {
        let job = JoinJob { memory, ..job(path, "rows.csv", output) };
        reports.push(run(&world.history, &world.prepared, &job, &ProgressBar::hidden()).unwrap());
    }
    assert_eq!(reports[0], reports[1]);
    assert!(reports[0].rows == 9_000 && reports[0].with_late_signals > 0, "{reports:?}");
    let read = |name: &str| {
        let input = pipelines::table::Input::open(&path.join(name), &[]).unwrap();
        let schema = input.schema();
        let batches: Vec<RecordBatch> = input.map(Result::unwrap).collect();
        arrow::compute::concat_batches(&schema, &batches).unwrap()
    };
    assert_eq!(read("whole.parquet"), read("sorted.parquet"));
    let left: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "nothing stays of the sorting: {left:?}");
}

#[test]
fn a_table_of_history_gives_rows_too() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&some_tasks(), 2);
    let of = |table: &str| JoinJob {
        input: Rows::Table(table.into()),
        entity: "subject".into(),
        as_of: "time".into(),
        known: Known::ByNow,
        ..job(dir.path(), "", "out.ndjson")
    };
    let report = run(&world.history, &world.prepared, &of("task_completed"), &ProgressBar::hidden()).unwrap();
    assert_eq!(report.rows, 4);
    let written = fs::read_to_string(dir.path().join("out.ndjson")).unwrap();
    let done: Vec<i64> = written
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["work.done_1d"].as_i64().unwrap())
        .collect();
    assert_eq!(done, [1, 2, 3, 1], "by person and time");
    let error = run(&world.history, &world.prepared, &of("nothing"), &ProgressBar::hidden()).unwrap_err();
    assert!(error.to_string().contains("it has task_completed"), "{error}");
}

#[test]
fn an_entity_that_looks_like_a_number_stays_as_written() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("labels.csv"), "user,at\n007,0\n").unwrap();
    joined(dir.path(), "labels.csv", "out.ndjson").unwrap();
    let written = fs::read_to_string(dir.path().join("out.ndjson")).unwrap();
    assert!(
        written.contains("\"user\":\"007\"") && written.contains("\"work.minutes_1d\":null"),
        "{written}"
    );
}

#[test]
fn a_file_without_rows_gives_one_without_rows() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("labels.csv"), "user,at,label\n").unwrap();
    let report = joined(dir.path(), "labels.csv", "out.csv").unwrap();
    assert_eq!(report, JoinReport::default());
    assert!(fs::exists(dir.path().join("out.csv")).unwrap());
}

#[test]
fn bad_input_is_named_with_its_row_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8], &str); 9] = [
        ("a.csv", b"user,when\nu1,0\n", "it has user, when"),
        ("b.csv", b"user,at\nu1,0\nu1,2026-01-31T08:00:00\n", "row 2: column `at` is `2026-01-31T08:00:00`"),
        ("c.csv", b"user,at\nu1,\n", "row 1: column `at` is empty"),
        ("d.csv", b"user,at\n,5\n", "row 1: column `user` is empty"),
        ("e.csv", b"user,at,work.done_1h\nu1,5,1\n", "already has a column `work.done_1h`"),
        ("f.txt", b"user,at\n", ".parquet"),
        ("g.csv", b"user,at\nu1,5,6,7\n", "g.csv"),
        ("h.ndjson", b"{\"user\":\"u1\",\"at\":\n", "h.ndjson"),
        ("i.parquet", b"no parquet at all", "i.parquet"),
    ];
    for (name, content, expected) in cases {
        fs::write(dir.path().join(name), content).unwrap();
        let error = joined(dir.path(), name, "out.csv").unwrap_err();
        assert!(matches!(error, PipelineError::Input { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(expected), "{text}");
        assert!(!fs::exists(dir.path().join("out.csv")).unwrap());
    }
    let missing = joined(dir.path(), "missing.csv", "out.csv").unwrap_err();
    assert!(matches!(missing, PipelineError::File { .. }), "{missing}");
    fs::write(dir.path().join("labels.csv"), CSV).unwrap();
    let nowhere: PathBuf = ["no", "such", "out.csv"].iter().collect();
    assert!(joined(dir.path(), "labels.csv", nowhere.to_str().unwrap()).is_err());
}

/// On-demand features take what a request would bring from columns of the rows, and say which one is missing.
#[test]
fn on_demand_features_take_their_request_from_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    fs::write(path.join("rows.csv"), "user,at,request.free\nu7,14400000,30\nnobody,14400000,\n").unwrap();
    let text = format!(
        "{VIEW}; CREATE ON DEMAND FEATURE VIEW room ENTITY user_id REQUEST (free BIGINT)
        AS SELECT request.free - coalesce(work.minutes_1d, 0) AS left_over, as_of() AS at;"
    );
    let registry = Registry::from_texts(&Catalogue::load(&[]).unwrap(), &[("work.sql", &text)]).unwrap();
    let prepared = registry.prepare(&["room.left_over", "work.done_1d", "room.at"]).unwrap();
    let world = world(&some_tasks(), 2);
    let joined =
        |input: &str| run(&world.history, &prepared, &job(path, input, "out.csv"), &ProgressBar::hidden());
    joined("rows.csv").unwrap();
    let written = fs::read_to_string(path.join("out.csv")).unwrap();
    let expected = "user,at,request.free,room.left_over,work.done_1d,room.at\n\
        u7,14400000,30,10,2,1970-01-01T04:00:00Z\n\
        nobody,14400000,,,0,1970-01-01T04:00:00Z\n";
    assert_eq!(written, expected);
    fs::write(path.join("bare.csv"), "user,at\nu7,14400000\n").unwrap();
    let e = joined("bare.csv").unwrap_err().to_string();
    assert!(e.contains("room takes `request.free`"), "{e}");
}
