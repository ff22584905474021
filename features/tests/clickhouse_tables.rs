//! The tables on ClickHouse: what they look like to others, what every type of column becomes, how they grow, and
//! what is left of a person who was erased.
#![cfg(feature = "clickhouse")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod offline;

use std::{fs, path::Path, sync::Arc, time::Duration};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array,
        Float64Array, Int64Array, ListArray, MapBuilder, RecordBatch, StringArray, StringBuilder,
        StructArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, Fields, Schema},
};
use features::offline::{
    Declared, HistoryError, HistoryOptions, OfflineStore, ScanFilter, Secret, clickhouse::ClickHouseHistory,
};
use ingest::catalogue::Catalogue;
use offline::{
    Row, at, batch,
    clickhouse::{ask, database, open, options},
    read, row, sorted,
};

const T: &str = "task_completed";
const LONG: Duration = Duration::from_secs(50);

fn everything(store: &dyn OfflineStore, table: &str) -> RecordBatch {
    let found: Vec<RecordBatch> =
        store.stream(table, &ScanFilter::default()).unwrap().collect::<Result<_, _>>().unwrap();
    arrow::compute::concat_batches(&found[0].schema(), &found).unwrap()
}

/// Entities a, b, c at instants 1, 2, 3, and this column.
fn with(column: ArrayRef) -> RecordBatch {
    let times = TimestampMillisecondArray::from_iter_values(1..4).with_timezone("+00:00");
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("user_id", Arc::new(StringArray::from(vec!["a", "b", "c"])), false),
        ("as_of", Arc::new(times), false),
        ("value", column, true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn parts(fields: Vec<(&str, ArrayRef)>, nulls: Option<Vec<bool>>) -> StructArray {
    let named = |(n, a): &(&str, ArrayRef)| Field::new(*n, a.data_type().clone(), true);
    let schema: Fields = fields.iter().map(named).collect();
    StructArray::new(schema, fields.into_iter().map(|f| f.1).collect(), nulls.map(NullBuffer::from))
}

fn list(values: ArrayRef, lengths: [usize; 3], nulls: [bool; 3]) -> ArrayRef {
    let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(lengths);
    Arc::new(ListArray::new(item, offsets, values, Some(NullBuffer::from(nulls.to_vec()))))
}

#[test]
fn every_type_of_column_reads_as_it_was_written() {
    let Some(database) = database() else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = open(&database.url, dir.path(), LONG);
    let ints = || Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(7)])) as ArrayRef;
    let texts = || Arc::new(StringArray::from(vec![Some("a'\\\n?{x}"), None, Some("")])) as ArrayRef;
    let inner =
        || Arc::new(parts(vec![("n", ints()), ("t", texts())], Some(vec![true, false, true]))) as ArrayRef;
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k");
    map.values().append_null();
    map.append(true).unwrap();
    map.append(false).unwrap();
    map.append(true).unwrap();
    let map = map.finish();
    // As signal types name the parts of a map.
    let entries = map.entries().clone();
    let fields = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
    ]);
    let entries = StructArray::new(fields.clone(), entries.columns().to_vec(), None);
    let entry = Arc::new(Field::new("entries", DataType::Struct(fields), false));
    let map = arrow::array::MapArray::new(entry, map.offsets().clone(), entries, map.nulls().cloned(), false);
    let far = vec![Some(-62_135_596_800_000), None, Some(253_402_300_799_000)];
    let columns: Vec<ArrayRef> = vec![
        ints(),
        texts(),
        inner(),
        Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(0)])),
        Arc::new(Float64Array::from(vec![Some(-0.1), None, Some(f64::INFINITY)])),
        Arc::new(Float32Array::from(vec![Some(1.5), None, Some(f32::MIN_POSITIVE)])),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(BinaryArray::from(vec![Some(&[0xff, 0][..]), None, Some(&[][..])])),
        Arc::new(Date32Array::from(vec![Some(19_000), None, Some(0)])),
        Arc::new(
            Decimal128Array::from(vec![Some(-12_345), None, Some(1)])
                .with_precision_and_scale(20, 3)
                .unwrap(),
        ),
        Arc::new(TimestampMillisecondArray::from(far.clone()).with_timezone("+00:00")),
        Arc::new(TimestampMillisecondArray::from(far)),
        Arc::new(
            TimestampNanosecondArray::from(vec![Some(1), None, Some(-1)]).with_timezone("Europe/Berlin"),
        ),
        Arc::new(parts(vec![("inner", inner()), ("f", ints())], Some(vec![true, true, false]))),
        list(ints(), [2, 0, 1], [true, false, true]),
        list(inner(), [0, 3, 0], [true, true, false]),
        Arc::new(map),
    ];
    let written: Vec<RecordBatch> = columns.into_iter().map(with).collect();
    for (i, rows) in written.iter().enumerate() {
        store.append(&format!("features_{i}"), rows.clone()).unwrap();
    }
    store.flush(&at(1)).unwrap();
    for delivered in [false, true] {
        if delivered {
            store.deliver(LONG).unwrap();
        }
        for (i, rows) in written.iter().enumerate() {
            assert_eq!(&everything(&store, &format!("features_{i}")), rows, "delivered: {delivered}");
        }
    }
    let odd = with(Arc::new(arrow::array::DurationSecondArray::from(vec![1, 2, 3])));
    store.append("features_odd", odd).unwrap();
    store.flush(&at(2)).unwrap();
    let error = store.deliver(Duration::from_secs(1)).unwrap_err().to_string();
    assert!(error.contains("`value` of table `features_odd`") && error.contains("Duration"), "{error}");
}

#[test]
fn messages_grow_and_changed_types_are_refused() {
    let Some(database) = database() else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = open(&database.url, dir.path(), LONG);
    let ints = || Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef;
    let narrow = Arc::new(parts(vec![("x", ints())], None)) as ArrayRef;
    let texts = Arc::new(StringArray::from(vec!["p", "q", "r"])) as ArrayRef;
    let wide = Arc::new(parts(vec![("x", ints()), ("y", texts)], None)) as ArrayRef;
    for (i, part) in [narrow.clone(), wide.clone(), narrow.clone()].into_iter().enumerate() {
        let rows = [with(part.clone()), with(list(part, [1, 1, 1], [true; 3]))];
        for (table, rows) in ["features_one", "features_many"].into_iter().zip(rows) {
            // Other people each time.
            let names = StringArray::from_iter_values(["a", "b", "c"].map(|n| format!("{n}{i}")));
            let mut columns = rows.columns().to_vec();
            columns[0] = Arc::new(names);
            store.append(table, RecordBatch::try_new(rows.schema(), columns).unwrap()).unwrap();
        }
        store.flush(&at(i as u64 + 1)).unwrap();
        store.deliver(LONG).unwrap();
    }
    let one = everything(&store, "features_one");
    let y = one.column(2).as_struct().column_by_name("y").unwrap().as_string::<i32>().clone();
    assert_eq!(
        y.iter().collect::<Vec<_>>(),
        [None, Some("p"), None, None, Some("q"), None, None, Some("r"), None]
    );
    let many = everything(&store, "features_many");
    let y = many.column(2).as_list::<i32>().values().as_struct().column_by_name("y").unwrap().clone();
    assert_eq!(y.null_count(), 6);
    let changed = with(Arc::new(StringArray::from(vec!["p", "q", "r"])));
    let error = store.append("features_one", changed).unwrap_err();
    assert!(matches!(&error, HistoryError::Refused(m) if m.contains("under another name")), "{error}");
}

#[test]
fn two_writers_may_add_columns_at_a_time() {
    let Some(database) = database() else { return };
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let stores = [0, 1].map(|i| open(&database.url, dirs[i].path(), Duration::ZERO));
    for (i, store) in stores.iter().enumerate() {
        let rows = with(Arc::new(Int64Array::from(vec![1, 2, 3])));
        let mut fields = rows.schema().fields().to_vec();
        fields[2] = Arc::new(fields[2].as_ref().clone().with_name(format!("value_{i}")));
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), rows.columns().to_vec()).unwrap();
        store.append("features_x", rows).unwrap();
        store.flush(&at(i as u64 + 1)).unwrap();
    }
    for store in &stores {
        store.deliver(LONG).unwrap();
    }
    drop(stores);
    let store = open(&database.url, dirs[0].path(), Duration::ZERO);
    let schema = store.schema("features_x").unwrap().unwrap();
    assert!(schema.index_of("value_0").is_ok() && schema.index_of("value_1").is_ok(), "{schema}");
}

fn declared(catalogue: &Catalogue) -> Vec<Declared> {
    let of = |kind: &Arc<ingest::catalogue::SignalType>| Declared {
        table: kind.table.clone(),
        schema: kind.schema.clone(),
        signal: Some(kind.name.clone()),
    };
    catalogue.types().map(of).collect()
}

#[test]
fn every_type_of_signal_has_a_table_and_its_counts() {
    let Some(database) = database() else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = open(&database.url, dir.path(), Duration::ZERO);
    let catalogue = Catalogue::load(&[]).unwrap();
    let all = declared(&catalogue);
    store.ensure(&all).unwrap();
    store.ensure(&all).unwrap();
    assert!(store.tables().unwrap().is_empty(), "none has had a row");
    let kind = catalogue.by_table(T).unwrap();
    let rows = |offsets: std::ops::Range<u64>| {
        let plain =
            batch(&offsets.clone().map(|o| row("u", 1_600_000_000_000, o)).collect::<Vec<_>>(), false);
        let received = TimestampMillisecondArray::from_iter_values(
            offsets.map(|o| 1_600_000_000_000 + if o % 2 == 0 { 120_000 } else { 0 }),
        );
        let plain = plain.project(&[0, 1, 2, 3, 4, 5]).unwrap();
        let mut columns: Vec<(String, ArrayRef, bool)> = plain
            .schema()
            .fields()
            .iter()
            .zip(plain.columns())
            .map(|(f, c)| (f.name().clone(), c.clone(), false))
            .collect();
        columns.insert(4, ("received_at".into(), Arc::new(received.with_timezone("+00:00")), false));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    store.append(T, rows(0..10)).unwrap();
    store.flush(&at(10)).unwrap();
    store.append(T, rows(5..20)).unwrap();
    store.append("impressions", rows(20..26)).unwrap();
    store.flush(&at(26)).unwrap();
    store.deliver(LONG).unwrap();
    assert_eq!(store.schema(T).unwrap().unwrap(), kind.schema);
    assert_eq!(ask(&database.url, "SELECT count() FROM signals"), "26");
    assert_eq!(
        ask(&database.url, "SELECT type, count() FROM signals GROUP BY type ORDER BY type"),
        "impression\t6\ntask.completed\t20"
    );
    let counts = "SELECT type, sum(signals), sum(late) FROM signals_per_minute GROUP BY type ORDER BY type";
    assert_eq!(ask(&database.url, counts), "impression\t6\t3\ntask.completed\t20\t10");
    assert_eq!(ask(&database.url, "SELECT sum(impressions) FROM impressions_per_minute"), "6");
    for table in ["reactions", "deliveries", "llm_calls", "reactions_per_minute"] {
        assert_eq!(ask(&database.url, &format!("SELECT count() FROM {table}")), "0");
    }
    assert_eq!(
        ask(&database.url, "SELECT subject, count() FROM task_completed FINAL GROUP BY subject"),
        "u\t20"
    );
}

#[test]
fn rows_age_on_the_server() {
    let Some(database) = database() else { return };
    let dir = tempfile::tempdir().unwrap();
    let all = declared(&Catalogue::load(&[]).unwrap());
    let made = |days: Option<u64>| {
        let mut options = options(&database.url, dir.path(), Duration::ZERO);
        options.server.keep = days.map(|d| Duration::from_secs(d * 86_400));
        ClickHouseHistory::open(&options).unwrap().ensure(&all[..1]).unwrap();
        ask(
            &database.url,
            &format!(
                "SELECT create_table_query FROM system.tables WHERE name = '{}' AND database = currentDatabase()",
                all[0].table
            ),
        )
    };
    assert!(!made(None).contains(" TTL "));
    let aged = made(Some(30));
    assert!(aged.contains("toIntervalSecond(2592000)"), "{aged}");
    assert!(made(Some(60)).contains("toIntervalSecond(5184000)"));
    assert!(!made(None).contains(" TTL "));
}

fn holds(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holds(&path, text));
        } else if fs::read(&path).is_ok_and(|b| b.windows(text.len()).any(|w| w == text.as_bytes())) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn of_an_erased_person_no_byte_is_left() {
    let Some(server) = ingest::servers::clickhouse().filter(ingest::servers::Server::is_own) else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = open(&server.url, dir.path(), LONG);
    let name = "a-person-whose-name-8f3kq2zx-is-to-be-forgotten";
    let rows = |offsets: std::ops::Range<u64>| -> Vec<Row> {
        offsets.map(|o| row(if o % 5 == 0 { name } else { "someone" }, o as i64 * 1_000_000_000, o)).collect()
    };
    store.append(T, batch(&rows(0..100), false)).unwrap();
    store.append("features_x", with(Arc::new(Int64Array::from(vec![1, 2, 3])))).unwrap();
    store.flush(&at(100)).unwrap();
    store.deliver(LONG).unwrap();
    let data = server.dir().unwrap();
    assert!(!holds(&data, name).is_empty(), "the test can see the name where it is");
    store.append(T, batch(&rows(100..150), false)).unwrap();
    store.flush(&at(150)).unwrap();
    store.append(T, batch(&rows(150..160), false)).unwrap();
    assert!(!holds(dir.path(), name).is_empty());
    assert_eq!(store.erase(name).unwrap(), 32);
    assert_eq!(holds(&data, name), [""; 0]);
    assert_eq!(holds(dir.path(), name), [""; 0]);
    let rest = sorted(rows(0..160).into_iter().filter(|r| r.subject != name).collect());
    assert_eq!(read(&store, T, &ScanFilter::default()), rest);
    store.flush(&at(160)).unwrap();
    store.deliver(LONG).unwrap();
    assert_eq!(read(&store, T, &ScanFilter::default()), rest);
    assert_eq!(holds(&data, name), [""; 0]);
}

#[test]
fn what_keeps_it_from_opening_is_told_without_secrets() {
    let Some(database) = database() else { return };
    let dir = tempfile::tempdir().unwrap();
    let refusal = |change: &dyn Fn(&mut HistoryOptions)| {
        let mut options = options(&database.url, dir.path(), Duration::ZERO);
        options.server.password = Some(Secret::new("hunter2"));
        change(&mut options);
        let error = ClickHouseHistory::open(&options).err().expect("it is refused").to_string();
        assert!(
            !error.contains("hunter2") && !format!("{:?}", options.server).contains("hunter2"),
            "{error}"
        );
        error
    };
    assert!(refusal(&|o| o.server.user = Some("nobody".into())).contains("history.password_file"));
    assert!(refusal(&|o| o.url = "http://127.0.0.1:1/kairos".into()).contains("http://127.0.0.1:1"));
    let url = refusal(&|o| o.url = "http://me:hunter2@127.0.0.1:1/kairos".into());
    assert!(url.contains("history.user"), "{url}");
    assert!(refusal(&|o| o.url = "http://127.0.0.1:8123/a b".into()).contains("letters, digits"));
    let _held = open(&database.url, dir.path(), Duration::ZERO);
    let second = refusal(&|o| o.server.password = None);
    assert!(second.contains("another process"), "{second}");
}

#[test]
fn an_asynchronous_caller_may_ask_as_often_as_it_likes() {
    let Some(database) = database() else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = open(&database.url, dir.path(), LONG);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Beyond what a task may poll before it must give way.
    let asking = async { (0..300).all(|_| store.reachable().is_ok()) };
    assert!(runtime.block_on(asking));
}
