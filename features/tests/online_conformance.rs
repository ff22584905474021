//! The contract of [`features::online::OnlineStore`] as a suite; every backend runs it.
#![allow(clippy::unwrap_used)]

#[path = "support/rows.rs"]
mod rows;
#[cfg(feature = "redis")]
#[path = "support/servers.rs"]
mod servers;

use std::sync::Arc;

use features::{
    FeatureError, Registry, Row, Value, View,
    events::Timeline,
    online::{self, OnlineOptions, OnlineRow, OnlineStore},
};
use ingest::{catalogue::Catalogue, log::Position};
use proptest::prelude::*;
use rows::row_of;

const TWO: &str = "CREATE FEATURE VIEW a ENTITY u WINDOWS (1 DAY) AS SELECT subject AS u, count(*) AS n FROM task_completed GROUP BY u;
    CREATE FEATURE VIEW b ENTITY u WINDOWS (1 DAY) AS SELECT subject AS u, sum(minutes) AS n FROM task_completed GROUP BY u;";

fn views() -> Vec<Arc<View>> {
    let catalogue = Catalogue::load(&[]).unwrap();
    Registry::from_texts(&catalogue, &[("views.sql", TWO)]).unwrap().views().to_vec()
}

fn row(version: u64, offset: u64, value: i64) -> Arc<Row> {
    row_of("ada", version, offset, value)
}

/// What a store answers; it may need a runtime to wait in.
fn wait<T>(answer: impl Future<Output = T>) -> T {
    // A new one each time: a store must bear that those who ask come and go.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(answer)
}

fn get(store: &dyn OnlineStore, view: &View, entity: &str) -> Option<Vec<u8>> {
    let found = wait(store.get_many(&[(view, entity)])).unwrap().remove(0);
    assert!(!found.stale, "a store that can be reached gives what it has");
    found.row.map(|r| r.to_bytes().unwrap())
}

fn bytes(row: &Row) -> Option<Vec<u8>> {
    Some(row.to_bytes().unwrap())
}

fn try_put(
    store: &dyn OnlineStore,
    view: &Arc<View>,
    entity: &str,
    row: Option<Arc<Row>>,
) -> Result<(), FeatureError> {
    store.put_many(vec![OnlineRow { view: view.clone(), entity: entity.into(), row }])
}

fn put(store: &dyn OnlineStore, view: &Arc<View>, entity: &str, row: Option<Arc<Row>>) {
    try_put(store, view, entity, row).unwrap();
}

fn at(offset: u64) -> Position {
    Position([(0, offset)].into())
}

/// Makes this process the writer, and the store whole.
fn take_up(store: &dyn OnlineStore) {
    store.claim("state", &[0]).unwrap();
    store.clear(&[0]).unwrap();
    store.advance(&at(0)).unwrap();
}

fn conforms(store: &dyn OnlineStore) {
    let views = views();
    let [a, b] = &views[..] else { panic!("two views") };
    assert_eq!(
        store.claim("state", &[0]).unwrap(),
        Position::default(),
        "nothing is whole before it was put"
    );
    take_up(store);
    assert_eq!(store.claim("state", &[0]).unwrap(), at(0), "what is claimed can be claimed again");
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
    store.advance(&at(7)).unwrap();
    put(store, a, "ada", Some(row(a.version, 6, 3)));
    assert_eq!(get(store, a, "ada"), bytes(&newer));
    let aged = row(a.version, 7, 4);
    put(store, a, "ada", Some(aged.clone()));
    assert_eq!(get(store, a, "ada"), bytes(&aged));
    assert_eq!(wait(store.applied()).unwrap().get(0), 7);

    // Another version of the view is replaced whatever its offset.
    let foreign = row(b.version ^ 1, 900, 5);
    put(store, b, "ada", Some(foreign));
    let own = row(b.version, 1, 6);
    put(store, b, "ada", Some(own.clone()));
    assert_eq!(get(store, b, "ada"), bytes(&own));

    // Many keys are answered in their order, repeats and unknowns included.
    let keys = [(&**b, "ada"), (&**a, "nobody"), (&**a, "ada"), (&**b, "ada")];
    let many = wait(store.get_many(&keys)).unwrap();
    let many: Vec<_> = many.iter().map(|found| found.row.as_ref().and_then(|r| bytes(r))).collect();
    assert_eq!(many, [bytes(&own), None, bytes(&aged), bytes(&own)]);
    assert!(wait(store.get_many(&[])).unwrap().is_empty());

    // Any text names an entity.
    for entity in ["", "żółw 🐢", "a:b", "a\u{0}b", "*", "{1}"] {
        let first = row_of(entity, a.version, 5, 1);
        put(store, a, entity, Some(first.clone()));
        assert_eq!(get(store, a, entity), bytes(&first), "{entity:?}");
    }
    let mut there = wait(store.entities(a)).unwrap();
    there.sort();
    let names: Vec<&str> = there.iter().map(|e| &**e).collect();
    assert_eq!(names, ["", "*", "a\u{0}b", "a:b", "ada", "{1}", "żółw 🐢"]);
    put(store, a, "ada", None);
    put(store, a, "never there", None);
    assert_eq!((get(store, a, "ada"), wait(store.entities(a)).unwrap().len()), (None, 6));

    // An erasure takes every view's row, and nobody else's.
    put(store, a, "ada", Some(aged));
    wait(store.erase("ada")).unwrap();
    store.forget("ada");
    assert_eq!((get(store, a, "ada"), get(store, b, "ada")), (None, None));
    assert!(get(store, a, "a:b").is_some());
    assert_eq!(wait(store.entities(b)).unwrap().len(), 0);

    // Many rows are put whole, in one call.
    let crowd = |i: usize| row_of(&format!("person {i}"), a.version, 8 + i as u64, 1 + (i % 3) as i64);
    let rows = (0..1_000).map(crowd).map(|row| (row.entity.clone(), row));
    let rows = rows.map(|(entity, row)| OnlineRow { view: a.clone(), entity, row: Some(row) });
    store.put_many(rows.collect()).unwrap();
    let names: Vec<String> = (0..1_000).map(|i| format!("person {i}")).collect();
    let keys: Vec<_> = names.iter().map(|name| (&**a, name.as_str())).collect();
    for (i, found) in wait(store.get_many(&keys)).unwrap().iter().enumerate() {
        assert_eq!(found.row.as_ref().and_then(|r| bytes(r)), bytes(&crowd(i)));
    }

    // A claim finds what is whole; what was cleared is not.
    store.advance(&at(2_000)).unwrap();
    assert_eq!(store.claim("state", &[0]).unwrap(), at(2_000));
    assert_eq!(store.claim("another", &[0]).unwrap(), Position::default(), "rows of another log say nothing");
    assert_eq!(store.claim("state", &[0]).unwrap(), Position::default());
    store.clear(&[0]).unwrap();
    store.advance(&at(9)).unwrap();
    assert_eq!((get(store, a, "a:b"), wait(store.entities(a)).unwrap().len()), (None, 0));
    assert_eq!(wait(store.applied()).unwrap().get(0), 9);
}

#[test]
fn embedded_conforms() {
    conforms(&*online::open("embedded:", &OnlineOptions::new(2)).unwrap());
}

#[cfg(feature = "redis")]
#[test]
fn redis_conforms() {
    let Some(server) = ingest::servers::redis() else { return };
    let options = OnlineOptions { partitions: 1, prefix: "conformance".into(), ..OnlineOptions::new(2) };
    conforms(&*online::open(&server.url, &options).unwrap());
}

#[cfg(feature = "redis")]
#[test]
fn redis_behind_tls_and_a_password_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_server, url)) = servers::tls(dir.path()) else { return };
    let password = dir.path().join("password");
    std::fs::write(&password, "right\n").unwrap();
    let options = OnlineOptions {
        partitions: 1,
        password_file: Some(password),
        ca_file: Some(dir.path().join("ca.pem")),
        ..OnlineOptions::new(2)
    };
    conforms(&*online::open(&url, &options).unwrap());
    assert!(online::check(&url, &options).unwrap().contains("version"));
    // Nobody is trusted unseen.
    let e = online::check(&url, &OnlineOptions { ca_file: None, ..options }).unwrap_err();
    assert!(matches!(e, FeatureError::Unavailable(_)), "{e}");
}

#[cfg(feature = "redis")]
#[test]
fn a_cluster_conforms() {
    let Some((_nodes, url)) = servers::cluster() else { return };
    let one = OnlineOptions { partitions: 1, ..OnlineOptions::new(2) };
    conforms(&*online::open(&url, &one).unwrap());
    online::check(&url, &one).unwrap();

    // Partitions on every server, in one call.
    let options = OnlineOptions { partitions: 16, prefix: "many".into(), ..OnlineOptions::new(2) };
    let store = online::open(&url, &options).unwrap();
    let all: Vec<u32> = (0..16).collect();
    store.claim("state", &all).unwrap();
    store.clear(&all).unwrap();
    let view = &views()[0];
    let names: Vec<String> = (0..300).map(|i| format!("person {i}")).collect();
    let row = |name: &String| OnlineRow {
        view: view.clone(),
        entity: name.as_str().into(),
        row: Some(row_of(name, view.version, 7, 2)),
    };
    store.put_many(names.iter().map(row).collect()).unwrap();
    let position = Position(all.iter().map(|p| (*p, 7)).collect());
    store.advance(&position).unwrap();
    assert_eq!(wait(store.applied()).unwrap(), position);
    let keys: Vec<_> = names.iter().map(|name| (&**view, name.as_str())).collect();
    let found = wait(store.get_many(&keys)).unwrap();
    assert!(found.iter().zip(&names).all(|(f, name)| *f.row.as_ref().unwrap().entity == **name && !f.stale));
    assert_eq!(wait(store.entities(view)).unwrap().len(), 300);
    wait(store.erase("person 7")).unwrap();
    assert_eq!((get(&*store, view, "person 7"), wait(store.entities(view)).unwrap().len()), (None, 299));
    store.clear(&all[..8]).unwrap();
    let left = wait(store.entities(view)).unwrap();
    assert!(left.iter().all(|e| ingest::log::partition_of(e, 16) >= 8) && !left.is_empty());
}

#[test]
fn an_unknown_backend_is_named() {
    let Err(e) = online::open("cassandra://somewhere", &OnlineOptions::new(2)) else { panic!("opened") };
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
