//! The contract of [`features::online::OnlineStore`] as a suite; every backend runs it.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use features::{
    Registry, Row, Value, View,
    chunks::{Layout, Tree},
    events::Timeline,
    online::{self, OnlineRow, OnlineStore},
    row::RowHeader,
};
use ingest::catalogue::Catalogue;
use proptest::prelude::*;

const TWO: &str = "CREATE FEATURE VIEW a ENTITY u WINDOWS (1 DAY) AS SELECT subject AS u, count(*) AS n FROM task_completed GROUP BY u;
    CREATE FEATURE VIEW b ENTITY u WINDOWS (1 DAY) AS SELECT subject AS u, sum(minutes) AS n FROM task_completed GROUP BY u;";

fn views() -> Vec<Arc<View>> {
    let catalogue = Catalogue::load(&[]).unwrap();
    Registry::from_texts(&catalogue, &[("views.sql", TWO)]).unwrap().views().to_vec()
}

fn row(version: u64, offset: u64, value: i64) -> Arc<Row> {
    of("ada", version, offset, value)
}

fn of(entity: &str, version: u64, offset: u64, value: i64) -> Arc<Row> {
    let header = RowHeader { version, partition: 0, next_offset: offset, from: 0, until: 10, newest: 0 };
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![value]))];
    let layout = Layout { chunk: 2, ..Layout::default() };
    let mut events: Vec<_> = (0..value).map(|i| (i, &b"bytes"[..])).collect();
    let events = Tree::default().insert(&mut events, i64::MIN, &layout, 0).unwrap();
    Arc::new(Row::new(entity.into(), header, &columns, 0, events, &[]))
}

fn get(store: &dyn OnlineStore, view: &View, entity: &str) -> Option<Vec<u8>> {
    store.get(view, entity).unwrap().map(|r| r.to_bytes().unwrap())
}

fn bytes(row: &Row) -> Option<Vec<u8>> {
    Some(row.to_bytes().unwrap())
}

fn put(store: &dyn OnlineStore, view: &Arc<View>, entity: &str, row: Option<Arc<Row>>) {
    store.put_many(vec![OnlineRow { view: view.clone(), entity: entity.into(), row }]).unwrap();
}

fn conforms(store: &dyn OnlineStore) {
    let views = views();
    let [a, b] = &views[..] else { panic!("two views") };
    assert_eq!(get(store, a, "ada"), None);

    // A row is read as it was put, under its view and entity alone.
    let first = row(a.version, 5, 1);
    put(store, a, "ada", Some(first.clone()));
    assert_eq!(get(store, a, "ada"), bytes(&first));
    assert_eq!(get(store, b, "ada"), None);
    assert_eq!(get(store, a, "ad"), None);

    // Newer replaces, equal replaces (time passed), older does not.
    let newer = row(a.version, 7, 2);
    put(store, a, "ada", Some(newer.clone()));
    put(store, a, "ada", Some(row(a.version, 6, 3)));
    assert_eq!(get(store, a, "ada"), bytes(&newer));
    let aged = row(a.version, 7, 4);
    put(store, a, "ada", Some(aged.clone()));
    assert_eq!(get(store, a, "ada"), bytes(&aged));

    // Another version of the view is replaced whatever its offset.
    let foreign = row(b.version ^ 1, 900, 5);
    put(store, b, "ada", Some(foreign));
    let own = row(b.version, 1, 6);
    put(store, b, "ada", Some(own.clone()));
    assert_eq!(get(store, b, "ada"), bytes(&own));

    // Many keys are answered in their order, repeats and unknowns included.
    let keys = [(&**b, "ada"), (&**a, "nobody"), (&**a, "ada"), (&**b, "ada")];
    let many: Vec<_> =
        store.get_many(&keys).unwrap().iter().map(|r| r.as_ref().and_then(|r| bytes(r))).collect();
    assert_eq!(many, [bytes(&own), None, bytes(&aged), bytes(&own)]);

    // Any text names an entity.
    for entity in ["", "żółw 🐢", "a:b", "a\u{0}b"] {
        let first = of(entity, a.version, 5, 1);
        put(store, a, entity, Some(first.clone()));
        assert_eq!(get(store, a, entity), bytes(&first), "{entity:?}");
    }
    assert_eq!(store.entities(a).unwrap().len(), 5);
    put(store, a, "ada", None);
    put(store, a, "never there", None);
    assert_eq!((get(store, a, "ada"), store.entities(a).unwrap().len()), (None, 4));
}

#[test]
fn embedded_conforms() {
    conforms(&*online::open("embedded:", &online::OnlineOptions::new(2)).unwrap());
}

#[test]
fn an_unknown_backend_is_named() {
    let Err(e) = online::open("cassandra://somewhere", &online::OnlineOptions::new(2)) else { panic!("opened") };
    assert!(e.to_string().contains("cassandra://somewhere") && e.to_string().contains("online.url"), "{e}");
}

proptest! {
    /// Whatever bytes a store holds, reading them as a row is safe.
    #[test]
    fn any_bytes_are_read_safely(events in 1..7i64, cut in 0..600usize, flips in prop::collection::vec((0..400usize, any::<u8>()), 0..6), noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let views = views();
        let good = row(views[0].version, 5, events);
        let mut bytes = good.to_bytes().unwrap();
        let whole = Row::parse(&bytes, &views[0], "ada".into()).unwrap();
        prop_assert_eq!(whole.to_bytes().unwrap(), bytes.clone());
        prop_assert_eq!((whole.header, whole.value(0)), (good.header, Value::Int(events)));
        for (at, value) in flips {
            if let Some(b) = bytes.get_mut(at) {
                *b = value;
            }
        }
        bytes.truncate(cut.max(1));
        for bytes in [&bytes[..], &noise[..]] {
            if let Some(row) = Row::parse(bytes, &views[0], "ada".into()) {
                let _ = (row.value(0), row.value(9), views[0].next_change(&row.kept(5)), row.to_bytes());
                let events = row.events.reader();
                let len = Timeline::len(&events).min(99);
                for i in 0..len {
                    let _ = (events.time(i), events.run_start(0, i, 1), events.parts(i, len, true, &mut Vec::new()));
                }
            }
        }
    }

    /// Whatever a file of views holds, it gives views or an error with a place.
    #[test]
    fn any_text_is_parsed_safely(words in prop::collection::vec(prop::sample::select(vec![
        "CREATE", "FEATURE", "VIEW", "v", "ENTITY", "u", "WINDOWS", "(", "1", "HOUR", ",", ")", "WITH", "owner", "=", "'x'",
        "AS", "SELECT", "subject", "count(*)", "FROM", "task_completed", "GROUP BY", ";", "--x\n", "'", "/*", "\u{0}", "ß", "\n",
    ]), 0..40)) {
        let text = words.join(" ");
        if let Err(e) = features::view::parse::parse("f.sql", &text) {
            prop_assert!(e.to_string().starts_with("f.sql:"), "{}", e);
        }
    }
}
