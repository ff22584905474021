//! The batch recomputation against values worked out by hand, and over every shipped view.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use features::{
    Registry, Value,
    reference::{Reference, same},
    view::source::ReferenceTable,
};
use ingest::{
    Millis,
    catalogue::{Catalogue, UnknownFields},
    record::Record,
};

const HOUR: Millis = 3_600_000;

fn place(catalogue: &Catalogue, changes: &[(Millis, &str, &str)]) -> RecordBatch {
    let kind = catalogue.get("context.changed").unwrap();
    let mut builder = kind.builder();
    for (offset, (time, field, value)) in changes.iter().enumerate() {
        let data = serde_json::json!({*field: value});
        let record = Record {
            kind: kind.name.clone(),
            id: format!("c{offset}"),
            source: "test".into(),
            subject: "ada".into(),
            time: *time,
            received_at: *time,
            data: kind.encode_value(&data, UnknownFields::Reject).unwrap().into(),
            extensions: vec![],
        };
        builder.append(0, 1_000 + offset as u64, &record).unwrap();
    }
    builder.finish()
}

struct Task(&'static str, &'static str, Millis, Option<i64>, &'static str);

fn tasks(catalogue: &Catalogue, tasks: &[Task]) -> RecordBatch {
    let kind = catalogue.get("task.completed").unwrap();
    let mut builder = kind.builder();
    for (offset, Task(subject, id, time, minutes, project)) in tasks.iter().enumerate() {
        let data = serde_json::json!({"minutes": minutes, "project": project});
        let record = Record {
            kind: kind.name.clone(),
            id: (*id).into(),
            source: "test".into(),
            subject: (*subject).into(),
            time: *time,
            received_at: *time,
            data: kind.encode_value(&data, UnknownFields::Reject).unwrap().into(),
            extensions: vec![],
        };
        builder.append(0, offset as u64, &record).unwrap();
    }
    builder.finish()
}

fn reference(catalogue: &Catalogue, sql: &str) -> Reference {
    let registry = Registry::from_texts(catalogue, &[("v.sql", sql)]).unwrap();
    Reference::new(catalogue, &[], &registry.views()[0].definition).unwrap()
}

#[test]
fn windows_repeats_and_order_are_as_the_definition_says() {
    let catalogue = Catalogue::load(&[]).unwrap();
    let reference = reference(
        &catalogue,
        "CREATE FEATURE VIEW v ENTITY who WINDOWS (1 HOUR, 2 HOURS) AS SELECT subject AS who, count(*) AS n, \
         sum(t.minutes) AS total, last(project) AS latest, first(project) FILTER (WHERE minutes > 1) AS first_long, \
         sum(minutes) * 1.0 / count(*) AS mean FROM task_completed t WHERE project <> 'x' GROUP BY who",
    );
    let at = 10 * HOUR;
    let signals = tasks(
        &catalogue,
        &[
            Task("ada", "a", at, Some(5), "now"),
            Task("ada", "late", at + 1, Some(99), "future"),
            Task("ada", "edge", at - HOUR, Some(7), "an hour ago"),
            Task("ada", "in", at - HOUR + 1, Some(1), "just inside"),
            // The same signal again, with other words: it counts as it first came.
            Task("ada", "a", at, Some(50), "again"),
            Task("ada", "left out", at, Some(3), "x"),
            // The same instant: the id decides which is last.
            Task("ada", "B", at, None, "id before a"),
            Task("eve", "z", at, Some(1_000), "another's"),
        ],
    );
    let text = |s: &str| Value::Text(s.into());
    let values = reference.values(|_| Ok(vec![signals.clone()]), "ada", at).unwrap();
    let wanted = [
        Value::Int(3),
        Value::Int(6),
        text("now"),
        text("now"),
        Value::Float(2.0),
        Value::Int(4),
        Value::Int(13),
        text("now"),
        text("an hour ago"),
        Value::Float(13.0 / 4.0),
    ];
    assert_eq!(values, wanted);
    // `'a' > 'B'`; a millisecond before, neither is there.
    let before = reference.values(|_| Ok(vec![signals.clone()]), "ada", at - 1).unwrap();
    assert_eq!(before[..3], [Value::Int(2), Value::Int(8), text("just inside")]);
    let nobody = reference.values(|_| Ok(vec![signals.clone()]), "nobody", at).unwrap();
    assert_eq!(nobody[..2], [Value::Int(0), Value::Null]);
}

#[test]
fn joined_rows_are_those_that_held_when_the_signal_happened() {
    let catalogue = Catalogue::load(&[]).unwrap();
    let rates = RecordBatch::try_from_iter([
        ("code", Arc::new(StringArray::from(vec!["a", "a", "b"])) as ArrayRef),
        ("rate", Arc::new(Int64Array::from(vec![10, 20, 7])) as ArrayRef),
        (
            "valid_from",
            Arc::new(TimestampMillisecondArray::from(vec![0, 5 * HOUR, 0]).with_timezone("+00:00"))
                as ArrayRef,
        ),
    ]);
    let rates = ReferenceTable { name: "rates".into(), rows: rates.unwrap() };
    let sql = "CREATE FEATURE VIEW v ENTITY who WINDOWS (LIFETIME) AS SELECT t.subject AS who, count(*) AS n, \
        sum(r.rate * t.minutes) AS paid, count(c.place) AS placed, last(c.place) AS latest, \
        count(*) FILTER (WHERE extract(hour FROM local_time(t.time)) = 3) AS at_three FROM task_completed t \
        LEFT JOIN rates r ON r.code = t.project LEFT JOIN context_changed c ON c.subject = t.subject GROUP BY who";
    let registry =
        Registry::with_tables(&catalogue, std::slice::from_ref(&rates), &[("v.sql", sql)]).unwrap();
    let reference = Reference::new(&catalogue, registry.tables(), &registry.views()[0].definition).unwrap();
    let signals = tasks(
        &catalogue,
        &[
            Task("ada", "1", HOUR, Some(1), "a"),
            Task("ada", "2", 5 * HOUR, Some(1), "a"),
            Task("ada", "3", 6 * HOUR, Some(1), "nothing"),
            Task("ada", "4", 7 * HOUR, Some(2), "b"),
        ],
    );
    // At home from two o'clock; in a zone two hours ahead of UTC from one o'clock, which is three there.
    let changes = place(
        &catalogue,
        &[(2 * HOUR, "place", "home"), (HOUR, "time_zone", "Africa/Harare"), (7 * HOUR + 1, "place", "work")],
    );
    let of =
        |table: &str| Ok(vec![if table == "task_completed" { signals.clone() } else { changes.clone() }]);
    assert_eq!(reference.tables().collect::<Vec<_>>(), ["task_completed", "context_changed"]);
    let values = reference.values(of, "ada", 8 * HOUR).unwrap();
    let wanted =
        [Value::Int(4), Value::Int(10 + 20 + 14), Value::Int(3), Value::Text("home".into()), Value::Int(1)];
    assert_eq!(values, wanted);
}

#[test]
fn every_shipped_view_can_be_computed_as_a_batch() {
    let catalogue = Catalogue::load(&[]).unwrap();
    let registry = Registry::load(&catalogue, &[], &[]).unwrap();
    for view in registry.views() {
        let reference = Reference::new(&catalogue, &[], &view.definition).unwrap();
        let values = reference.values(|_| Ok(Vec::new()), "nobody", HOUR).unwrap();
        let empty: Vec<Value> = view.empty_values().cloned().collect();
        assert_eq!(values, empty, "{}", view.name);
    }
}

#[test]
fn numbers_are_the_same_to_a_billionth() {
    let float = Value::Float;
    assert!(same(&float(1e12), &float(1e12 + 1.0)) && !same(&float(1e12), &float(1e12 + 1e4)));
    assert!(same(&float(0.1 + 0.2 - 0.3), &float(0.0)) && !same(&float(1e-6), &float(0.0)));
    assert!(same(&float(f64::NAN), &float(f64::NAN)) && !same(&Value::Int(1), &float(1.0)));
    let list = |x| Value::List(vec![float(x), Value::Null]);
    assert!(same(&list(1.0), &list(1.0 + 1e-12)) && !same(&list(1.0), &list(2.0)));
}

#[test]
fn a_streak_counts_days_of_the_clock_but_dates_as_they_are() {
    let catalogue = Catalogue::load(&[]).unwrap();
    let counting = |what: &str| {
        let sql = format!(
            "CREATE FEATURE VIEW v ENTITY who WINDOWS (LIFETIME) AS SELECT subject AS who, streak({what}) AS days \
             FROM task_completed GROUP BY who"
        );
        reference(&catalogue, &sql)
    };
    // Nine and eleven at night of one day in UTC are two days in a zone two hours ahead.
    let signals =
        tasks(&catalogue, &[Task("ada", "1", 21 * HOUR, None, "a"), Task("ada", "2", 23 * HOUR, None, "a")]);
    let zone = place(&catalogue, &[(0, "time_zone", "Africa/Harare")]);
    let of = |table: &str| Ok(vec![if table == "task_completed" { signals.clone() } else { zone.clone() }]);
    for (what, wanted) in [("time", 2), ("CAST(time AS DATE)", 1)] {
        let values = |at| counting(what).values(of, "ada", at).unwrap();
        assert_eq!(values(23 * HOUR), [Value::Int(wanted)], "{what}");
        assert_eq!(values(96 * HOUR), [Value::Int(0)], "{what}");
    }
}
