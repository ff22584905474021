//! Lists as feature values on their way: from signals through Parquet and back, and to a join of the past.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array,
        UInt64Array,
    },
    datatypes::{Int64Type, TimestampMillisecondType},
};
use features::{
    Registry,
    events::EventBuffer,
    kernel::{EventList, Kept},
    offline::{self, ScanFilter},
    past::{self, Known},
};
use ingest::{catalogue::Catalogue, log::Position};

const AT: i64 = 1_700_000_100_000;

fn signals(catalogue: &Catalogue) -> RecordBatch {
    let data = [
        serde_json::json!({"project": "żółw", "minutes": 3}),
        serde_json::json!({"minutes": 5}),
        serde_json::json!({"project": ""}),
    ];
    let timed = data.into_iter().enumerate().map(|(i, data)| (AT - 1_000 * (3 - i as i64), data));
    support::signals(catalogue, "task_completed", &timed.collect::<Vec<_>>())
}

/// Texts, whole numbers, instants and truths of the first row.
fn assert_lists(columns: &[&ArrayRef]) {
    let [texts, ints, times, truths] = columns else { panic!("{} columns", columns.len()) };
    let first = |c: &ArrayRef| c.as_list::<i32>().value(0);
    let texts: Vec<_> = first(texts).as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect();
    assert_eq!(texts, [Some(String::new()), None, Some("żółw".to_owned())]);
    assert_eq!(first(ints).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(5), None]);
    let times: Vec<_> = first(times).as_primitive::<TimestampMillisecondType>().iter().collect();
    assert_eq!(times, [Some(AT - 3_000)]);
    assert_eq!(first(truths).as_boolean().iter().collect::<Vec<_>>(), [Some(true), Some(false), None]);
}

#[test]
fn lists_come_back_from_history_and_from_the_past() {
    let catalogue = Catalogue::load(&[]).unwrap();
    let sql = "CREATE FEATURE VIEW v ENTITY user_id WINDOWS (1 HOUR) AS SELECT subject AS user_id, \
        last_n(project, 3) AS texts, array_agg(minutes, 2) AS ints, first_n(time, 1) AS times, \
        first_n(CASE WHEN project <> '' THEN true WHEN minutes > 4 THEN false END, 3) AS truths \
        FROM task_completed GROUP BY user_id";
    let registry = Registry::from_texts(&catalogue, &[("v.sql", sql)]).unwrap();
    let view = registry.view("v").unwrap();
    let signals = signals(&catalogue);
    let events = view.project(&signals).unwrap();
    let mut kept: Vec<_> = (0..events.len()).map(|i| events.get(i)).collect();
    let events = EventBuffer::merge(EventList::default(), &mut kept, i64::MIN);
    let nobody = view.nothing(AT);
    let values =
        view.evaluate(&[Kept { events: events.as_list().into(), ..nobody.clone() }, nobody]).unwrap();
    assert_lists(&values.iter().collect::<Vec<_>>());
    assert!(values.iter().all(|c| c.is_null(1)), "nothing is NULL and not an empty list");

    let dir = tempfile::tempdir().unwrap();
    let clock: ingest::Clock = Arc::new(|| AT);
    let history =
        offline::open(&features::offline::HistoryOptions::new("embedded:", dir.path(), clock.clone()))
            .unwrap();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["ada", "nobody"])),
        Arc::new(TimestampMillisecondArray::from(vec![AT; 2]).with_timezone("+00:00")),
        Arc::new(UInt32Array::from(vec![0; 2])),
        Arc::new(UInt64Array::from(vec![0, 1])),
    ];
    columns.extend(values);
    let batch = RecordBatch::try_new(view.history_schema(), columns).unwrap();
    history.append(&view.history_table(), batch).unwrap();
    history.append("task_completed", signals).unwrap();
    let position: Position = "0:3".parse().unwrap();
    history.flush(&position).unwrap();
    drop(history);

    let history =
        offline::open(&features::offline::HistoryOptions::new("embedded:", dir.path(), clock)).unwrap();
    let found = history.scan(&view.history_table(), &ScanFilter::default()).unwrap();
    let found = arrow::compute::concat_batches(found[0].schema_ref(), &found).unwrap();
    let subjects = found.column(0).as_string::<i32>();
    assert_eq!((subjects.value(0), subjects.value(1)), ("ada", "nobody"));
    assert_lists(&found.columns()[4..].iter().collect::<Vec<_>>());

    let prepared = registry.prepare_views(&["v"]).unwrap();
    let joined =
        past::join(history.as_ref(), &prepared, &[("ada", AT), ("nobody", AT)], Known::ByNow).unwrap();
    assert_lists(&joined.values.columns().iter().collect::<Vec<_>>());
    assert!(joined.values.columns().iter().all(|c| c.is_null(1)));
}
