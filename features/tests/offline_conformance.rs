//! The contract of an offline store as a suite: every backend passes it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod offline;

use std::{sync::Arc, time::Duration};

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use features::offline::{HistoryError, OfflineStore, ScanFilter};
use ingest::log::Position;
use offline::{Row, TestClock, at, batch, read, row, rows, sorted};

const T: &str = "task_completed";

/// A fresh, empty place for a store, and how to open it (again).
trait Place {
    fn open(&self) -> Arc<dyn OfflineStore>;
}

fn everything() -> ScanFilter {
    ScanFilter::default()
}

fn some_rows(offsets: std::ops::Range<u64>) -> Vec<Row> {
    offsets.map(|o| row(&format!("user{}", o % 5), ((o * 37) % 101) as i64, o)).collect()
}

fn reads_its_own_appends(place: &dyn Place) {
    let store = place.open();
    assert!(read(&*store, T, &everything()).is_empty());
    assert_eq!(store.schema(T).unwrap(), None);
    assert_eq!(store.append(T, batch(&some_rows(0..10), false)).unwrap(), 10);
    assert_eq!(read(&*store, T, &everything()), sorted(some_rows(0..10)));
    assert_eq!(store.tables().unwrap(), [T]);
    assert!(store.buffered_bytes() > 0);
    store.seal(&at(10)).unwrap();
    assert_eq!(store.durable_position().unwrap(), Position::default());
    store.append(T, batch(&some_rows(10..15), false)).unwrap();
    assert_eq!(read(&*store, T, &everything()), sorted(some_rows(0..15)));
    assert_eq!(store.persist().unwrap(), at(10));
    assert_eq!(read(&*store, T, &everything()), sorted(some_rows(0..15)));
}

fn only_what_was_sealed_and_persisted_survives(place: &dyn Place) {
    let store = place.open();
    store.append(T, batch(&some_rows(0..10), false)).unwrap();
    store.flush(&at(10)).unwrap();
    assert_eq!(store.buffered_bytes(), 0);
    store.append(T, batch(&some_rows(10..20), false)).unwrap();
    store.append("other", batch(&some_rows(10..20), false)).unwrap();
    drop(store);
    let store = place.open();
    assert_eq!(store.durable_position().unwrap(), at(10));
    assert_eq!(store.tables().unwrap(), [T]);
    assert_eq!(read(&*store, T, &everything()), sorted(some_rows(0..10)));
}

fn a_replay_changes_nothing(place: &dyn Place) {
    let store = place.open();
    store.append(T, batch(&some_rows(0..10), false)).unwrap();
    store.flush(&at(10)).unwrap();
    assert_eq!(store.append(T, batch(&some_rows(5..15), false)).unwrap(), 5);
    assert_eq!(read(&*store, T, &everything()), sorted(some_rows(0..15)));
    store.discard_unflushed().unwrap();
    assert_eq!(read(&*store, T, &everything()), sorted(some_rows(0..10)));
    assert_eq!(store.append(T, batch(&some_rows(10..15), false)).unwrap(), 5);
    assert!(matches!(store.seal(&at(14)), Err(HistoryError::Refused(_))), "row 14 was appended");
    store.flush(&at(15)).unwrap();
    store.flush(&at(15)).unwrap();
    assert_eq!(read(&*store, T, &everything()), sorted(some_rows(0..15)));
}

fn a_replay_from_before_the_durable_position_is_fine(place: &dyn Place) {
    let place_of = |partition: u32, offset: u64| Row { partition, ..row("a", offset as i64, offset) };
    let position = |a, b| Position([(0, a), (1, b)].into());
    let store = place.open();
    store.append(T, batch(&[place_of(0, 4), place_of(1, 7)], false)).unwrap();
    store.flush(&position(5, 8)).unwrap();
    assert_eq!(store.append(T, batch(&[place_of(0, 4), place_of(1, 9)], false)).unwrap(), 1);
    store.flush(&position(2, 10)).unwrap();
    assert_eq!(store.durable_position().unwrap(), position(5, 10));
    assert_eq!(read(&*store, T, &everything()).len(), 3);
}

fn many_small_batches_are_one_table(place: &dyn Place) {
    let store = place.open();
    let expected = some_rows(0..300);
    for (i, one) in expected.iter().enumerate() {
        store.append(T, batch(std::slice::from_ref(one), i > 150)).unwrap();
    }
    assert!(store.scan(T, &everything()).unwrap().len() < 30);
    assert_eq!(read(&*store, T, &everything()), sorted(expected));
}

fn filters_mean_what_they_say(place: &dyn Place) {
    let store = place.open();
    for part in [0..300, 300..310, 310..400] {
        let end = part.end;
        store.append(T, batch(&some_rows(part), false)).unwrap();
        if end < 400 {
            store.flush(&at(end)).unwrap();
        }
    }
    let all = some_rows(0..400);
    let expect = |f: &ScanFilter, test: &dyn Fn(&Row) -> bool| {
        assert_eq!(read(&*store, T, f), sorted(all.iter().filter(|r| test(r)).cloned().collect()), "{f:?}");
    };
    let of = |names: &[&str]| Some(names.iter().map(|n| (*n).to_owned()).collect());
    expect(&ScanFilter { subjects: of(&["user3"]), ..everything() }, &|r| r.subject == "user3");
    expect(&ScanFilter { subjects: of(&["user3", "nobody", "user1", "user3"]), ..everything() }, &|r| {
        ["user1", "user3"].contains(&r.subject.as_str())
    });
    expect(&ScanFilter { subjects: of(&[]), ..everything() }, &|_| false);
    expect(&ScanFilter::window("user2", 20, 40), &|r| r.subject == "user2" && r.time > 20 && r.time <= 40);
    expect(&ScanFilter { after: Some(100), ..everything() }, &|r| r.time > 100);
    expect(&ScanFilter { until: Some(0), ..everything() }, &|r| r.time <= 0);
    expect(&ScanFilter { max_position: Some(at(305)), ..everything() }, &|r| r.offset < 305);

    let columns = Some(vec!["minutes".to_owned(), "subject".to_owned()]);
    let narrow = ScanFilter { columns, ..ScanFilter::window("user2", 20, 40) };
    for found in
        [store.scan(T, &narrow).unwrap(), store.stream(T, &narrow).unwrap().map(Result::unwrap).collect()]
    {
        let names: Vec<_> = found[0].schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["minutes", "subject"]);
    }
    let unknown = ScanFilter { columns: Some(vec!["colour".into()]), ..everything() };
    let error = store.scan(T, &unknown).unwrap_err().to_string();
    assert!(error.contains("`colour`") && error.contains("minutes"), "{error}");
}

fn columns_are_added_never_changed(place: &dyn Place) {
    let store = place.open();
    store.append(T, batch(&some_rows(0..5), false)).unwrap();
    store.flush(&at(5)).unwrap();
    let noted: Vec<Row> = some_rows(5..10).into_iter().map(|r| Row { note: Some("n".into()), ..r }).collect();
    store.append(T, batch(&noted, true)).unwrap();
    store.append(T, batch(&some_rows(10..12), false)).unwrap();
    let expected = sorted([some_rows(0..5), noted.clone(), some_rows(10..12)].concat());
    assert_eq!(read(&*store, T, &everything()), expected);
    store.flush(&at(12)).unwrap();
    drop(store);
    let store = place.open();
    assert_eq!(read(&*store, T, &everything()), expected);
    assert!(store.schema(T).unwrap().unwrap().field_with_name("note").unwrap().is_nullable());

    let changed = Arc::new(StringArray::from(vec!["long"]));
    let wrong = batch(&some_rows(12..13), false);
    let mut columns: Vec<(String, arrow::array::ArrayRef)> =
        wrong.schema().fields().iter().map(|f| f.name().clone()).zip(wrong.columns().to_vec()).collect();
    columns[6].1 = changed;
    let error = store.append(T, RecordBatch::try_from_iter(columns).unwrap()).unwrap_err();
    assert!(matches!(error, HistoryError::Refused(_)) && error.to_string().contains("`minutes`"), "{error}");
    assert_eq!(read(&*store, T, &everything()), expected);
}

fn compaction_changes_no_answer(place: &dyn Place) {
    let store = place.open();
    let mut expected = Vec::new();
    for i in 0..40 {
        let part = some_rows(i * 10..i * 10 + 10);
        store.append(T, batch(&part, i % 3 == 0)).unwrap();
        store.flush(&at(i * 10 + 10)).unwrap();
        expected.extend(part);
        if i % 5 == 0 {
            store.compact_step().unwrap();
        }
    }
    let open_before = store.stream(T, &everything()).unwrap();
    while store.compact_step().unwrap() {}
    let expected = sorted(expected);
    assert_eq!(rows(&open_before.map(Result::unwrap).collect::<Vec<_>>()), expected);
    assert_eq!(read(&*store, T, &everything()), expected);
    drop(store);
    let store = place.open();
    assert_eq!(read(&*store, T, &everything()), expected);
    assert_eq!(store.durable_position().unwrap(), at(400));
}

fn an_erased_person_is_gone_everywhere(place: &dyn Place) {
    let store = place.open();
    for table in [T, "mood_reported"] {
        store.append(table, batch(&some_rows(0..50), false)).unwrap();
    }
    store.flush(&at(50)).unwrap();
    store.append(T, batch(&some_rows(50..60), false)).unwrap();
    store.seal(&at(60)).unwrap();
    store.append(T, batch(&some_rows(60..70), false)).unwrap();
    assert_eq!(store.erase("user3").unwrap(), 10 + 10 + 2 + 2);
    assert_eq!(store.erase("user3").unwrap(), 0);
    let rest = |end| sorted(some_rows(0..end).into_iter().filter(|r| r.subject != "user3").collect());
    assert_eq!(read(&*store, T, &everything()), rest(70));
    assert_eq!(read(&*store, "mood_reported", &everything()), rest(50));
    store.flush(&at(70)).unwrap();
    drop(store);
    assert_eq!(read(&*place.open(), T, &everything()), rest(70));
}

fn retention_hides_what_is_old(place: &dyn Place) {
    let store = place.open();
    let old: Vec<Row> = (0..50).map(|o| row("a", o as i64, o)).collect();
    let new: Vec<Row> = (50..100).map(|o| row("a", o as i64, o)).collect();
    store.append(T, batch(&old, false)).unwrap();
    store.flush(&at(50)).unwrap();
    store.append(T, batch(&new, false)).unwrap();
    store.flush(&at(100)).unwrap();
    assert!(store.enforce_retention(110, T, Duration::from_millis(50)).unwrap() > 0);
    let kept = |after: i64| {
        sorted([old.clone(), new.clone()].concat().into_iter().filter(|r| r.time > after).collect())
    };
    assert_eq!(read(&*store, T, &everything()), kept(60));
    let late = row("a", 10, 100);
    store.append(T, batch(&[late], false)).unwrap();
    assert_eq!(read(&*store, T, &everything()), kept(60));
    store.flush(&at(101)).unwrap();
    drop(store);
    let store = place.open();
    assert_eq!(read(&*store, T, &everything()), kept(60));
    assert_eq!(store.enforce_retention(110, "unheard_of", Duration::ZERO).unwrap(), 0);
}

fn feature_tables_need_no_place_in_the_log(place: &dyn Place) {
    let store = place.open();
    let times = TimestampMillisecondArray::from(vec![3, 1]).with_timezone("+00:00");
    let rows = RecordBatch::try_from_iter(vec![
        ("user_id", Arc::new(StringArray::from(vec!["a", "a"])) as arrow::array::ArrayRef),
        ("as_of", Arc::new(times)),
        ("completed_1h", Arc::new(Int64Array::from(vec![2, 1]))),
    ])
    .unwrap();
    store.append("features_task_activity", rows).unwrap();
    store.flush(&at(7)).unwrap();
    let found: Vec<RecordBatch> =
        store.stream("features_task_activity", &everything()).unwrap().map(Result::unwrap).collect();
    let values = found[0].column(2).as_ref();
    assert_eq!(values, &Int64Array::from(vec![1, 2]) as &dyn arrow::array::Array);
}

/// Rows of values: whose, when, `written`, offset in the log if there is one, the value.
fn values(rows: &[(&str, i64, i64, Option<u64>, i64)]) -> RecordBatch {
    let instants = |f: fn(&(&str, i64, i64, Option<u64>, i64)) -> i64| {
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(f)).with_timezone("+00:00")) as _
    };
    let columns: Vec<(&str, arrow::array::ArrayRef)> = vec![
        ("user_id", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0)))),
        ("as_of", instants(|r| r.1)),
        ("partition", Arc::new(rows.iter().map(|r| r.3.map(|_| 0)).collect::<arrow::array::UInt32Array>())),
        ("offset", Arc::new(rows.iter().map(|r| r.3).collect::<arrow::array::UInt64Array>())),
        ("written", instants(|r| r.2)),
        ("n", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.4)))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn found(batches: Vec<RecordBatch>) -> Vec<(String, i64)> {
    use arrow::{array::AsArray, datatypes::Int64Type};
    let of = |b: &RecordBatch| {
        let (who, n) = (b.column(0).as_string::<i32>(), b.column_by_name("n").unwrap());
        let n = n.as_primitive::<Int64Type>();
        (0..b.num_rows()).map(|i| (who.value(i).to_owned(), n.value(i))).collect::<Vec<_>>()
    };
    batches.iter().flat_map(of).collect()
}

fn of_values_written_twice_the_newest_counts(place: &dyn Place) {
    const F: &str = "features_x";
    let store = place.open();
    let all = |store: &dyn OfflineStore| {
        let streamed: Vec<_> = store.stream(F, &everything()).unwrap().map(Result::unwrap).collect();
        let streamed = found(streamed);
        assert_eq!(found(store.scan(F, &everything()).unwrap()), streamed);
        streamed
    };
    let expected = [("a", 2), ("a", 4), ("b", 6), ("c", 7)].map(|(who, n)| (who.to_owned(), n));
    let first =
        [("a", 1, 10, Some(0), 1), ("a", 1, 20, None, 2), ("a", 2, 10, Some(1), 3), ("b", 1, 10, Some(2), 5)];
    store.append(F, values(&first)).unwrap();
    store.flush(&at(3)).unwrap();
    store
        .append(F, values(&[("a", 2, 10, Some(3), 4), ("b", 1, 11, None, 6), ("c", 1, 5, None, 7)]))
        .unwrap();
    assert_eq!(all(&*store), expected);
    store.flush(&at(4)).unwrap();
    assert_eq!(all(&*store), expected);
    for offset in 4..8 {
        store.append(F, values(&[("c", 1, 4, Some(offset), 0)])).unwrap();
        store.flush(&at(offset + 1)).unwrap();
    }
    assert_eq!(all(&*store), expected, "an older one comes later");
    while store.compact_step().unwrap() {}
    assert_eq!(all(&*store), expected, "compacted");
    let from = ScanFilter { from_subject: Some("b".into()), ..everything() };
    assert_eq!(found(store.scan(F, &from).unwrap()), expected[2..]);
    let no_other_column = ScanFilter { columns: Some(vec!["user_id".into(), "n".into()]), ..everything() };
    assert_eq!(found(store.scan(F, &no_other_column).unwrap()), expected);
}

fn tables_are_renamed_and_dropped_whole(place: &dyn Place) {
    let store = place.open();
    store.append(T, batch(&some_rows(0..40), false)).unwrap();
    store.append("b", batch(&some_rows(0..3), false)).unwrap();
    store.flush(&at(100)).unwrap();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert!(store.rename_tables(&[pair(T, "x")]).is_err(), "rows were appended");
    drop(store);
    let store = place.open();
    let rows = read(&*store, T, &everything());
    assert_eq!(store.estimate_rows(T, &everything()).unwrap(), 40);
    // One makes room for the next; what is taken or not there stays.
    store.rename_tables(&[pair(T, "x"), pair("b", T), pair("nothing", "y"), pair("x", T)]).unwrap();
    drop(store);
    let store = place.open();
    assert_eq!(store.tables().unwrap(), [T, "x"]);
    assert_eq!(read(&*store, "x", &everything()), rows);
    assert_eq!(read(&*store, T, &everything()).len(), 3);
    store.append("x", batch(&[row("zoe", 5, 200)], false)).unwrap();
    store.drop_table("x").unwrap();
    store.drop_table("unheard_of").unwrap();
    store.flush(&at(201)).unwrap();
    drop(store);
    let store = place.open();
    assert_eq!(store.tables().unwrap(), [T]);
    assert!(read(&*store, "x", &everything()).is_empty());
}

fn what_cannot_be_stored_is_refused(place: &dyn Place) {
    let store = place.open();
    let refused = |table: &str, rows: RecordBatch| {
        assert!(matches!(store.append(table, rows), Err(HistoryError::Refused(_))));
    };
    refused("../evil", batch(&some_rows(0..1), false));
    refused("", batch(&some_rows(0..1), false));
    refused(T, batch(&some_rows(0..1), false).project(&[0, 1, 2]).unwrap());
    let untimed = RecordBatch::try_from_iter(vec![
        ("user_id", Arc::new(StringArray::from(vec![None::<&str>])) as arrow::array::ArrayRef),
        ("as_of", Arc::new(TimestampMillisecondArray::from(vec![1]))),
    ]);
    refused(T, untimed.unwrap());
    assert!(store.tables().unwrap().is_empty());
}

struct Parquet {
    dir: tempfile::TempDir,
    clock: TestClock,
}

impl Place for Parquet {
    fn open(&self) -> Arc<dyn OfflineStore> {
        Arc::new(self.clock.open(self.dir.path()))
    }
}

/// ClickHouse, with a database of its own.
#[cfg(feature = "clickhouse")]
struct ClickHouse {
    database: offline::clickhouse::Database,
    dir: tempfile::TempDir,
    /// How long batches stay on local disk.
    batch_time: Duration,
}

#[cfg(feature = "clickhouse")]
impl ClickHouse {
    fn after(batch_time: Duration) -> Option<Self> {
        let database = offline::clickhouse::database()?;
        Some(ClickHouse { database, dir: tempfile::tempdir().unwrap(), batch_time })
    }
}

#[cfg(feature = "clickhouse")]
impl Place for ClickHouse {
    fn open(&self) -> Arc<dyn OfflineStore> {
        Arc::new(offline::clickhouse::open(&self.database.url, self.dir.path(), self.batch_time))
    }
}

macro_rules! suite {
    ($($(#[$when:meta])* $backend:ident: $place:expr;)* => $cases:tt) => {
        $(suite!(@one $(#[$when])* $backend: $place => $cases);)*
    };
    (@one $(#[$when:meta])* $backend:ident: $place:expr => ($($case:ident),* $(,)?)) => {
        $(#[$when])*
        mod $backend {
            #[allow(unused_imports)]
            use std::time::Duration;
            $(#[test]
            fn $case() {
                // Without a server the test has said so.
                if let Some(place) = $place {
                    super::$case(&place);
                }
            })*
        }
    };
}

suite!(
    parquet: Some(super::Parquet { dir: tempfile::tempdir().unwrap(), clock: super::TestClock::default() });
    #[cfg(feature = "clickhouse")]
    clickhouse_sends_at_once: super::ClickHouse::after(Duration::ZERO);
    #[cfg(feature = "clickhouse")]
    clickhouse_spools: super::ClickHouse::after(Duration::from_secs(3_600));
    => (
    reads_its_own_appends,
    only_what_was_sealed_and_persisted_survives,
    a_replay_changes_nothing,
    a_replay_from_before_the_durable_position_is_fine,
    many_small_batches_are_one_table,
    filters_mean_what_they_say,
    columns_are_added_never_changed,
    compaction_changes_no_answer,
    an_erased_person_is_gone_everywhere,
    retention_hides_what_is_old,
    feature_tables_need_no_place_in_the_log,
    of_values_written_twice_the_newest_counts,
    tables_are_renamed_and_dropped_whole,
    what_cannot_be_stored_is_refused,
    )
);
