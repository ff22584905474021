//! State in chunks: what a checkpoint keeps and drops, what a memory budget changes (nothing but memory), and what
//! an update of a large entity costs.
#![allow(clippy::unwrap_used)]

mod support;

use std::{path::Path, sync::Arc};

use features::{Registry, Value, chunks::Layout};
use ingest::{Millis, catalogue::Catalogue};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use support::{Engine, Signal, same};

const VIEWS: &str = "CREATE FEATURE VIEW tasks ENTITY user_id WINDOWS (1 HOUR, 1 DAY, LIFETIME)
    AS SELECT subject AS user_id, count(*) AS n, sum(minutes) AS total, avg(minutes) AS mean,
      count(DISTINCT project) AS projects, last(project) AS latest FROM task_completed GROUP BY user_id;
    CREATE FEATURE VIEW recent ENTITY user_id WINDOWS (10 MINUTES, 2 HOURS)
    AS SELECT subject AS user_id, count(*) AS n, max(minutes) AS most FROM task_completed GROUP BY user_id;";
const NOON: Millis = 1_767_268_800_000;

/// Signal `n` of a person: a second after the one before.
fn task(subject: &str, n: i64) -> Signal {
    Signal {
        id: format!("{subject}-{n}"),
        source: "test".to_owned(),
        kind: "task.completed".to_owned(),
        subject: subject.to_owned(),
        time: jiff::Timestamp::from_millisecond(NOON + n * 1_000).unwrap(),
        data: serde_json::json!({"minutes": n % 11, "project": format!("p{}", n % 5)}),
    }
}

fn engine(dir: &Path, layout: &Layout, budget: usize) -> Engine {
    let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
    let registry = Registry::from_texts(&catalogue, &[("views.sql", VIEWS)]).unwrap().laid_out(layout);
    Engine::within(dir.to_owned(), catalogue, Arc::new(registry), 2, budget)
}

fn small() -> Layout {
    Layout { chunk: 4, node: 3, ..Layout::default() }
}

/// Values of a person with signals `0..count`, `ahead` milliseconds after the last.
fn check(engine: &Engine, person: &str, count: i64, ahead: Millis) {
    let at = NOON + (count - 1) * 1_000 + ahead;
    let values = engine.values(person, at);
    let of = |name: &str| values.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap();
    for (label, window) in
        [("tasks.{}_1h", 3_600_000), ("tasks.{}_1d", 86_400_000), ("tasks.{}_lifetime", i64::MAX / 4)]
    {
        let inside: Vec<i64> = (0..count).filter(|n| NOON + n * 1_000 > at - window).collect();
        let of = |output: &str| of(&label.replace("{}", output));
        assert_eq!(of("n"), Value::Int(inside.len() as i64), "{person} {label} after {count} and {ahead} ms");
        if let Some(last) = inside.last() {
            let total: i64 = inside.iter().map(|n| n % 11).sum();
            assert_eq!(of("total"), Value::Int(total));
            assert!(same(&of("mean"), &Value::Float(total as f64 / inside.len() as f64)));
            assert_eq!(of("projects"), Value::Int(inside.len().min(5) as i64));
            assert_eq!(of("latest"), Value::Text(format!("p{}", last % 5).into()));
        }
    }
}

/// Keys in a table of the checkpoint that contain this text.
fn stored(file: &Path, table: &str, text: &str) -> usize {
    let db = redb::Database::open(file).unwrap();
    let table: TableDefinition<&[u8], &[u8]> = TableDefinition::new(table);
    let read = db.begin_read().unwrap();
    let table = read.open_table(table).unwrap();
    let named = |k: &[u8]| k.windows(text.len()).any(|w| w == text.as_bytes());
    table.iter().unwrap().filter(|e| named(e.as_ref().unwrap().0.value())).count()
}

#[test]
fn large_entities_survive_crashes() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = engine(dir.path(), &Layout::default(), usize::MAX);
    for k in 0..8 {
        let signals: Vec<_> = (k * 500..(k + 1) * 500).map(|n| task("ada", n)).collect();
        engine.append(&signals);
        engine.drain(97, usize::MAX);
        check(&engine, "ada", (k + 1) * 500, 0);
        match k % 3 {
            0 => engine.save(),
            1 => {
                engine = engine.crash();
                engine.drain(1_000, usize::MAX);
                check(&engine, "ada", (k + 1) * 500, 0);
            }
            _ => {}
        }
    }
    let mut engine = engine.crash();
    engine.drain(1_000, usize::MAX);
    check(&engine, "ada", 4_000, 3_500_000);
    assert!(engine.registry.held().chunks() > 12);
}

#[test]
fn a_checkpoint_keeps_the_pieces_of_the_newest_tree_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.redb");
    let mut engine = engine(dir.path(), &small(), usize::MAX);
    for k in 0..6 {
        // Late ones too, which rebuild chunks in the middle.
        let order = (k * 50..(k + 1) * 50).map(|n| if n % 7 == 0 { n / 2 * 2 + 1 } else { n });
        engine.append(&order.map(|n| task("ada", n)).collect::<Vec<_>>());
        engine.append(&[task("bo", k / 2)]);
        engine.drain(20, usize::MAX);
        engine.save();
    }
    let pieces = |engine: &Engine| -> usize {
        let online = engine.features.online().clone();
        let trees =
            engine.registry.views().iter().filter_map(|v| online.resident().unwrap().get(v, "ada").unwrap());
        trees.map(|row| row.events.pieces(&Default::default(), |_| true).unwrap().len()).sum()
    };
    let wanted = pieces(&engine);
    assert!(wanted > 60, "{wanted}");
    engine = engine.crash_and(|_| {
        assert_eq!(stored(&file, "pieces", "ada"), wanted);
        assert_eq!(stored(&file, "pieces", "bo"), 0, "few events lie in the row itself");
    });
    // What leaves every window leaves the file.
    engine.append(&[task("ada", 200_000)]);
    engine.drain(20, usize::MAX);
    engine.save();
    let fewer = pieces(&engine);
    assert!(fewer < wanted, "{fewer} of {wanted}");
    engine = engine.crash_and(|_| assert_eq!(stored(&file, "pieces", "ada"), fewer));
    // So do the erased.
    let eraser = engine.job.eraser();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (stream_jobs::golden::Engine { job, features, registry, .. }, runtime) = engine.into_parts();
    runtime.block_on(async {
        let running = tokio::spawn(job.run(stopped));
        eraser.erase("ada").await.unwrap();
        stop.send(true).unwrap();
        running.await.unwrap().unwrap();
    });
    drop((features, registry));
    assert_eq!((stored(&file, "rows", "ada"), stored(&file, "pieces", "ada")), (0, 0));
    assert_eq!(stored(&file, "rows", "bo"), 2);
}

/// With memory for next to nothing, values are what they are with memory for all, and memory stays bounded.
#[test]
fn a_budget_changes_no_value() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let budget = 20_000;
    for (dir, budget) in dirs.iter().zip([usize::MAX, budget]) {
        let mut engine = engine(dir.path(), &small(), budget);
        let people: Vec<String> = (0..20).map(|p| format!("person-{p}")).collect();
        for k in 0..4 {
            let signals = (k * 40..(k + 1) * 40).flat_map(|n| people.iter().map(move |p| task(p, n)));
            engine.append(&signals.collect::<Vec<_>>());
            engine.drain(300, usize::MAX);
            engine.save();
            let held = engine.registry.held();
            if budget < usize::MAX {
                assert!(held.memory() <= budget, "{} bytes in memory", held.memory());
            }
            for p in &people {
                check(&engine, p, (k + 1) * 40, 0);
                check(&engine, p, (k + 1) * 40, 3_590_000);
            }
            if k == 2 {
                engine = engine.crash();
                if budget < usize::MAX {
                    let held = engine.registry.held();
                    assert!(held.memory() <= 2 * budget && held.spilled() > 0, "after a start: {held:?}");
                }
            }
        }
        // One who was quiet for long comes again, late.
        engine.append(&[task("person-3", 160)]);
        engine.drain(10, usize::MAX);
        check(&engine, "person-3", 161, 0);
        engine.job.sweep(NOON + 3_600_000, 5_000).unwrap();
        check(&engine, "person-4", 160, 3_441_000);
    }
}
