//! Which signals a comparison counts, and that it tells what differs.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use features::{Registry, Value, offline::OfflineStore};
use futures::FutureExt;
use ingest::{
    Millis,
    catalogue::{Catalogue, UnknownFields},
    log::Position,
    record::Record,
};
use pipelines::verify::{Checker, Known, Read, Served, sample, watch::Watch};
use rand::{SeedableRng, rngs::StdRng};
use stream_jobs::golden::engine::Engine;

const VIEW: &str = "CREATE FEATURE VIEW work ENTITY user_id WINDOWS (1 HOUR, 1 DAY) AS SELECT subject AS user_id, \
    count(*) AS done, sum(minutes) AS minutes FROM task_completed GROUP BY user_id";
const NOW: Millis = 1_700_000_000_000;

fn task(catalogue: &Catalogue, who: &str, id: u64, minutes: i64) -> Record {
    let kind = catalogue.get("task.completed").unwrap();
    let data = serde_json::json!({"minutes": minutes});
    Record {
        kind: kind.name.clone(),
        id: id.to_string(),
        source: "test".into(),
        subject: who.into(),
        time: NOW - 60_000 * id as Millis,
        received_at: NOW,
        data: kind.encode_value(&data, UnknownFields::Reject).unwrap().into(),
        extensions: vec![],
    }
}

async fn engine(dir: &std::path::Path) -> (Engine, Checker) {
    let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
    let registry = Arc::new(Registry::from_texts(&catalogue, &[("work.sql", VIEW)]).unwrap());
    let checker = Checker::new(&catalogue, &registry, "work").unwrap();
    let mut engine = Engine::open(dir.to_owned(), catalogue.clone(), registry, 1).unwrap();
    let people = ["ada", "grace"];
    let tasks: Vec<Record> = (0..200).map(|i| task(&catalogue, people[i as usize % 2], i, 2)).collect();
    engine.append(&tasks).await.unwrap();
    engine.drain(64, usize::MAX).unwrap();
    (engine, checker)
}

/// Puts a signal into history that the engine knows nothing of.
fn slip_in(engine: &Engine, who: &str, offset: u64) {
    let kind = engine.catalogue.get("task.completed").unwrap();
    let mut table = kind.builder();
    let mut record = task(&engine.catalogue, who, 20_000 + offset, 7);
    record.time = NOW - 1;
    table.append(0, offset, &record).unwrap();
    assert_eq!(engine.features.history().append("task_completed", table.finish()).unwrap(), 1);
}

#[tokio::test]
async fn signals_after_the_rows_position_are_no_difference() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, checker) = engine(dir.path()).await;
    assert_eq!(checker.now(&engine.features, "ada", NOW).await.unwrap(), []);
    // They stand in history before they are applied.
    slip_in(&engine, "ada", 200);
    assert_eq!(checker.now(&engine.features, "ada", NOW).await.unwrap(), []);
    assert_eq!(checker.as_of(&engine.features, "ada", NOW).unwrap(), [], "a read of history has them");
    assert_eq!(checker.now(&engine.features, "nobody", NOW).await.unwrap(), []);
}

#[tokio::test]
async fn a_row_that_lacks_a_signal_is_told_with_both_values() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, checker) = engine(dir.path()).await;
    slip_in(&engine, "ada", 150);
    let found = checker.now(&engine.features, "ada", NOW).await.unwrap();
    let of = |feature: &str| found.iter().find(|d| d.feature.as_ref() == feature).unwrap();
    let done = of("work.done_1h");
    assert_eq!((&done.served, &done.recomputed), (&Value::Int(30), &Value::Int(31)));
    assert_eq!((done.read, done.entity.as_str(), &done.at), (Read::Now, "ada", &Value::Time(NOW)));
    assert_eq!(of("work.minutes_1h").recomputed, Value::Int(67));
    assert_eq!(found.len(), 4);
    // A person without a row, although signals below the applied position are there.
    slip_in(&engine, "eve", 151);
    assert_eq!(checker.now(&engine.features, "eve", NOW).await.unwrap().len(), 4);
}

#[tokio::test]
async fn values_without_a_position_may_rest_on_any_of_the_signals_since() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, checker) = engine(dir.path()).await;
    let history = engine.features.history().as_ref();
    let served = |done: i64, minutes: i64| Served {
        entity: "ada".into(),
        at: NOW,
        read: Read::Now,
        values: [done, minutes, done, minutes].map(Value::Int).into(),
        // Of ada's hundred signals the last five, at even offsets, may not have been there.
        known: Known::AtLeast(Position([(0, 190)].into())),
    };
    let fits = |history: &dyn OfflineStore, s: &Served| checker.compare(history, s).unwrap().is_empty();
    let hour = |done| {
        let mut s = served(done, 2 * done);
        (s.values[2], s.values[3]) = (Value::Int(95), Value::Int(190));
        s
    };
    assert!(fits(history, &hour(30)), "without any of the five");
    assert!(!fits(history, &hour(29)));
    for since in 1..=5 {
        let mut s = hour(30);
        (s.values[2], s.values[3]) = (Value::Int(95 + since), Value::Int(190 + 2 * since));
        assert!(fits(history, &s), "with {since}");
    }
    let mut s = hour(30);
    (s.values[2], s.values[3]) = (Value::Int(97), Value::Int(192));
    assert!(!fits(history, &s), "a count with one more signal than the sum");
}

#[tokio::test]
async fn everybody_can_be_drawn_and_instants_lie_at_edges() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, checker) = engine(dir.path()).await;
    let (history, view) = (engine.features.history().as_ref(), checker.view());
    let mut rng = StdRng::seed_from_u64(7);
    let all = sample::entities(history, &[], view, 10, &mut rng).unwrap();
    assert_eq!(all, ["ada", "grace"]);
    let online = engine.features.entities(view).await.unwrap();
    let drawn: std::collections::BTreeSet<String> =
        (0..20).flat_map(|_| sample::entities(history, &online, view, 1, &mut rng).unwrap()).collect();
    assert_eq!(drawn.len(), 2, "a sample of one is not always the same");
    for _ in 0..50 {
        let at = sample::instant(history, view, "ada", NOW, &mut rng).unwrap();
        let from_edge = (NOW - at).rem_euclid(60_000);
        assert!(at <= NOW && (from_edge <= 1), "{at}");
        assert_eq!(checker.as_of(&engine.features, "ada", at).unwrap(), []);
    }
}

#[tokio::test]
async fn the_watch_goes_through_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = engine(dir.path()).await;
    let mut watch = Watch::new(&engine.catalogue, engine.features.clone(), StdRng::seed_from_u64(1));
    let mut steps = |count| {
        // With the online store in the process nothing is waited for.
        (0..count).for_each(|_| watch.step(NOW).now_or_never().unwrap());
    };
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || steps(4));
    let text = recorder.handle().render();
    assert!(text.contains(r#"kairos_verify_checked_total{view="work"} 32"#), "{text}");
    assert!(text.contains(r#"kairos_verify_differences_total{view="work"} 0"#), "{text}");
    slip_in(&engine, "ada", 150);
    metrics::with_local_recorder(&recorder, || steps(2));
    let text = recorder.handle().render();
    assert!(text.contains(r#"kairos_verify_differences_total{view="work"} 4"#), "{text}");
}
