//! Freshness, NULLs, drift and late signals as the stream job tells them.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array,
    UInt64Array,
};
use features::{Registry, View, quality::Quality};
use ingest::{
    Millis,
    catalogue::{Catalogue, UnknownFields},
    record::Record,
};

const DAY: Millis = 86_400_000;
const VIEWS: &str =
    "CREATE FEATURE VIEW work ENTITY user_id WINDOWS (1 DAY) WITH (freshness = '2 seconds') AS \
    SELECT subject AS user_id, count(*) AS n, avg(minutes) AS mean FROM task_completed GROUP BY user_id;
    CREATE FEATURE VIEW mood ENTITY user_id WINDOWS (1 DAY) AS \
    SELECT subject AS user_id, count(*) AS n FROM mood_reported GROUP BY user_id;";

fn views(text: &str) -> Vec<Arc<View>> {
    let catalogue = Catalogue::load(&[]).unwrap();
    Registry::from_texts(&catalogue, &[("v.sql", text)]).unwrap().views().to_vec()
}

/// Values of `work` written for so many people at an instant.
fn values(view: &View, at: Millis, n: impl Fn(i64) -> i64, mean: impl Fn(i64) -> Option<f64>) -> RecordBatch {
    let rows = 0..200i64;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.clone().map(|i| format!("u{i}")))),
        Arc::new(TimestampMillisecondArray::from(vec![at; 200]).with_timezone("+00:00")),
        Arc::new(UInt32Array::from(vec![0; 200])),
        Arc::new(UInt64Array::from(vec![0; 200])),
        Arc::new(Int64Array::from_iter_values(rows.clone().map(n))),
        Arc::new(Float64Array::from_iter(rows.map(mean))),
    ];
    RecordBatch::try_new(view.history_schema(), columns).unwrap()
}

fn a_day(quality: &Quality, view: &View, day: i64, n: impl Fn(i64) -> i64, nulls: i64) {
    for hour in 0..5 {
        let at = day * DAY + hour * 3_600_000;
        quality.written(view, &values(view, at, &n, |i| (i >= nulls).then_some(i as f64 / 8.0)));
    }
}

#[test]
fn drift_is_seen_against_the_week_before_and_nulls_are_counted() {
    let views = views(VIEWS);
    let (quality, view) = (Quality::new(&views), &views[0]);
    assert_eq!(quality.report(view, 0).unwrap().features[0].null_rate, None);
    for day in 20_000..20_007 {
        a_day(&quality, view, day, |i| i % 30, 50);
    }
    let calm = quality.report(view, 0).unwrap().features;
    assert!(calm[0].drift.unwrap() < 0.01 && calm[1].drift.unwrap() < 0.01, "{calm:?}");
    assert_eq!((calm[0].null_rate, calm[1].null_rate), (Some(0.0), Some(0.25)));

    a_day(&quality, view, 20_007, |i| 100 + i % 30, 50);
    let moved = quality.report(view, 0).unwrap().features;
    assert!(moved[0].drift.unwrap() > 1.0, "every count is new: {moved:?}");
    assert!(moved[1].drift.unwrap() < 0.01, "the mean is as it was: {moved:?}");

    // Eight days on nothing of that week is left to compare with.
    a_day(&quality, view, 20_015, |i| i % 30, 50);
    assert_eq!(quality.report(view, 0).unwrap().features[0].drift, None);
}

#[test]
fn counts_survive_a_restart_but_not_a_new_definition() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("quality.json");
    let before = views(VIEWS);
    let quality = Quality::new(&before);
    quality.load(&file).unwrap();
    a_day(&quality, &before[0], 20_000, |i| i % 30, 50);
    a_day(&quality, &before[0], 20_001, |i| i % 7, 0);
    quality.save(&file).unwrap();

    let again = Quality::new(&before);
    again.load(&file).unwrap();
    assert_eq!(again.report(&before[0], 0), quality.report(&before[0], 0));
    assert!(again.report(&before[0], 0).unwrap().features[0].drift.unwrap() > 0.25);

    let changed = views(&VIEWS.replace("avg(minutes)", "max(minutes)"));
    let other = Quality::new(&changed);
    other.load(&file).unwrap();
    assert_eq!(other.report(&changed[0], 0).unwrap().features[0].null_rate, None);
    assert_eq!(other.report(&before[0], 0), None, "a view that is not known here");

    std::fs::write(&file, "{\"format\":1,\"views\":").unwrap();
    assert!(Quality::new(&before).load(&file).is_err());
}

#[test]
fn freshness_is_by_view_and_late_signals_are_counted() {
    let catalogue = Catalogue::load(&[]).unwrap();
    let views = views(VIEWS);
    let quality = Quality::new(&views);
    let kind = catalogue.get("task.completed").unwrap();
    let now = 1_700_000_000_000;
    let mut builder = kind.builder();
    for i in 0..100u64 {
        let record = Record {
            kind: kind.name.clone(),
            id: i.to_string(),
            source: "test".into(),
            subject: "ada".into(),
            time: now - 60_000 + i as Millis,
            // Ten of them took five seconds.
            received_at: now - if i < 10 { 5_000 } else { 4 },
            data: kind.encode_value(&serde_json::json!({}), UnknownFields::Reject).unwrap().into(),
            extensions: vec![],
        };
        builder.append(0, i, &record).unwrap();
    }
    quality.applied(&kind.table, &builder.finish(), now);
    quality.late(&views[0], 3);
    let work = quality.report(&views[0], now).unwrap();
    assert_eq!((work.freshness.objective_ms, work.freshness.p50_ms), (Some(2_000), Some(5)));
    let slowest = work.freshness.p99_ms.unwrap();
    assert!((5_000..7_500).contains(&slowest), "{slowest}");
    assert_eq!((work.late, work.watermark), (3, Some(now - 60_000 + 99)));
    let mood = quality.report(&views[1], now).unwrap();
    assert_eq!((mood.freshness.p99_ms, mood.freshness.objective_ms, mood.watermark), (None, None, None));
    let later = quality.report(&views[0], now + 3_600_000).unwrap();
    assert_eq!(later.freshness.p99_ms, None, "an hour ago is not lately");
}
