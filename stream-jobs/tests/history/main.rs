//! Versions of views and backfills: cut off anywhere, handed over to the live job, pinned, dropped, erased.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;
mod world;

use std::collections::BTreeMap;

use features::{Value, offline::ScanFilter, versions::Versions};
use ingest::{Millis, log::Log};
use stream_jobs::checkpoint::Checkpoint;
use world::*;

const OLD: &str = "-- How much was done.
CREATE FEATURE VIEW tasks ENTITY user_id WINDOWS (1 HOUR)
    AS SELECT subject AS user_id, count(*) AS n FROM task_completed GROUP BY user_id;";
const NEW: &str = "CREATE FEATURE VIEW tasks ENTITY user_id WINDOWS (1 HOUR)
    AS SELECT subject AS user_id, sum(minutes) AS n FROM task_completed GROUP BY user_id;";
const OTHER: &str = "CREATE FEATURE VIEW other ENTITY user_id WINDOWS (1 DAY)
    AS SELECT subject AS user_id, count(*) AS n FROM task_completed GROUP BY user_id;";

/// Where a backfill is cut off: after how many pieces, and what was durable by then.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// Nothing.
    Bare(usize),
    /// Everything but the last piece.
    Saved(usize),
    /// The rows, but not the note that tells of them.
    RowsAlone(usize),
}

#[test]
fn a_backfill_cut_off_anywhere_equals_an_uninterrupted_one() {
    let dir = tempfile::tempdir().unwrap();
    let base = World::new(&dir.path().join("base"));
    let signals = signals(40, 250);
    let mut engine = base.open(OTHER);
    base.append(&engine, &signals);
    engine.drain(usize::MAX);
    base.save(&mut engine);
    drop(engine);
    let views = format!("{OTHER}{NEW}");
    let wanted = plainly(&signals, minutes);
    let cuts = [
        vec![],
        vec![Cut::Bare(1)],
        vec![Cut::Saved(1)],
        vec![Cut::RowsAlone(1)],
        vec![Cut::Saved(2), Cut::Saved(1), Cut::RowsAlone(0)],
        vec![Cut::RowsAlone(2), Cut::Bare(1), Cut::Saved(0)],
    ];
    for (n, cuts) in cuts.iter().enumerate() {
        let world = base.copy(&dir.path().join(n.to_string()));
        for cut in cuts {
            let mut engine = world.open(&views);
            let (Cut::Bare(pieces) | Cut::Saved(pieces) | Cut::RowsAlone(pieces)) = *cut;
            for _ in 0..pieces {
                assert!(engine.job.backfill_step().unwrap());
            }
            match cut {
                Cut::Bare(_) => {}
                Cut::Saved(_) => {
                    world.save(&mut engine);
                    engine.job.backfill_step().unwrap();
                }
                Cut::RowsAlone(_) => engine.features.history().flush(engine.job.position()).unwrap(),
            }
        }
        let mut engine = world.open(&views);
        let mut told = Vec::new();
        world.runtime.block_on(engine.job.backfill(None, |p| told.push(p))).unwrap();
        assert_eq!(engine.rows("features_tasks"), wanted, "{cuts:?}");
        assert!(told.len() > 1 || !cuts.is_empty(), "it tells how far it is");
        for p in told {
            assert!(p.done <= p.total && p.total == signals.len() as u64, "{p:?}");
        }
        while engine.features.history().compact_step().unwrap() {}
        assert_eq!(engine.rows("features_tasks"), wanted, "compacted, {cuts:?}");
        drop(engine);
        let mut engine = world.open(&views);
        assert!(!engine.job.backfill_step().unwrap(), "done once and for all");
        assert_eq!(engine.rows("features_tasks"), wanted, "opened again, {cuts:?}");
    }
}

#[test]
fn a_new_version_takes_over_while_signals_flow() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path());
    let signals = signals(12, 120);
    let mut engine = world.open(OLD);
    world.append(&engine, &signals[..900]);
    engine.drain(500);
    world.save(&mut engine);
    engine.drain(200);
    // History gets further than the checkpoint, as after a crash between the two.
    engine.features.history().flush(engine.job.position()).unwrap();
    engine.drain(60);
    drop(engine);

    let mut engine = world.open(NEW);
    engine.drain(30);
    assert!(engine.job.backfill_step().unwrap());
    engine.drain(50);
    world.save(&mut engine);
    engine.drain(20);
    drop(engine);
    let mut engine = world.open(NEW);
    world.append(&engine, &signals[900..]);
    while engine.drain(40) {
        engine.job.backfill_step().unwrap();
    }
    while engine.job.backfill_step().unwrap() {}
    world.save(&mut engine);

    assert_eq!(engine.rows("features_tasks"), plainly(&signals, minutes));
    let old = engine.version(false);
    assert_eq!(engine.rows(&format!("features_tasks__{old}")), plainly(&signals, one));
    let pinned = format!("tasks@{}.n_1h", &old[..6]);
    for (who, at) in signals.iter().map(|s| (s.who.as_str(), s.time)).rev().take(300) {
        let inside: Vec<_> =
            signals.iter().filter(|s| s.who == who && at - HOUR < s.time && s.time <= at).collect();
        let (sum, count) = (inside.iter().map(|s| s.minutes).sum(), inside.len() as i64);
        assert_eq!(engine.now("tasks.n_1h", who, at), Value::Int(sum), "{who} at {at}");
        assert_eq!(engine.as_of("tasks.n_1h", who, at), Value::Int(sum), "{who} as of {at}");
        assert_eq!(engine.now(&pinned, who, at), Value::Int(count), "{who} at {at}, pinned");
        assert_eq!(engine.as_of(&pinned, who, at), Value::Int(count), "{who} as of {at}, pinned");
    }
}

#[test]
fn names_mean_the_newest_definition_and_pins_a_version() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path());
    let signals = signals(3, 5);
    let (who, at) = (signals[14].who.as_str(), signals[14].time);
    let mut engine = world.open(OLD);
    world.append(&engine, &signals);
    engine.drain(usize::MAX);
    world.save(&mut engine);
    let old = engine.version(true);
    drop(engine);

    let mut engine = world.open(NEW);
    while engine.job.backfill_step().unwrap() {}
    world.save(&mut engine);
    let (new, kept) = (engine.version(true), engine.version(false));
    assert_eq!(kept, old);
    let both = engine.registry.prepare_views(&["tasks".to_owned(), format!("tasks@{old}")]).unwrap();
    assert_eq!(&*both.names[1], format!("tasks@{old}.n_1h"));
    let row = engine.features.read_here(&both, who, at).unwrap();
    assert_eq!(
        row.values,
        [Value::Int(signals.iter().filter(|s| s.who == who).map(minutes).sum()), Value::Int(5)]
    );
    assert_eq!((&*row.parts[0].version, &*row.parts[1].version), (new.as_str(), old.as_str()));
    let listed: Vec<_> = engine.registry.describe().into_iter().map(|v| (v.version, v.current)).collect();
    assert_eq!(listed, [(new.clone(), true), (old.clone(), false)]);
    let refused = |name: &str| engine.registry.prepare(&[name]).unwrap_err().to_string();
    assert!(refused(&format!("tasks@{}.n_1h", &old[..3])).contains(&old), "too short, and which there are");
    assert!(refused("tasks@ffffffffffffffff.n_1h").contains(&new));
    assert!(refused("nothing@ffff.n_1h").contains("no view `nothing`"));
    drop(engine);

    // Changed back: the first definition is the current one again, with its rows.
    let engine = world.open(OLD);
    assert_eq!(engine.version(true), old);
    assert_eq!(engine.rows("features_tasks"), plainly(&signals, one));
    assert_eq!(engine.rows(&format!("features_tasks__{new}")), plainly(&signals, minutes));
    drop(engine);

    // Removed: it goes on as it was, under its version alone.
    let mut engine = world.open(OTHER);
    assert!(engine.registry.prepare(&["tasks.n_1h"]).is_err());
    let removed = engine.registry.resolve("tasks").unwrap_err().to_string();
    assert!(removed.contains("no definition any more"), "{removed}");
    let later = Signal { time: at + MINUTE, number: 1_000, ..signals[14].clone() };
    world.append(&engine, std::slice::from_ref(&later));
    engine.drain(usize::MAX);
    assert_eq!(engine.now(&format!("tasks@{old}.n_1h"), who, later.time), Value::Int(6));
    assert_eq!(engine.rows(&format!("features_tasks__{old}")).len(), signals.len() + 1);
}

#[test]
fn a_dropped_version_is_gone_from_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path());
    let signals = signals(3, 5);
    let mut engine = world.open(OLD);
    world.append(&engine, &signals);
    engine.drain(usize::MAX);
    world.save(&mut engine);
    drop(engine);
    let mut engine = world.open(NEW);
    while engine.job.backfill_step().unwrap() {}
    world.save(&mut engine);
    let versions = Versions::of(dir.path());
    let (current, old) = (engine.version(true), engine.version(false));
    let refused = versions.forget(engine.registry.resolve(&format!("tasks@{current}")).unwrap());
    assert!(refused.unwrap_err().to_string().contains("current version"));
    let dropped = engine.registry.resolve(&format!("tasks@{old}")).unwrap().clone();
    versions.forget(&dropped).unwrap();
    drop(engine);

    let engine = world.open(NEW);
    assert!(engine.registry.resolve(&format!("tasks@{old}")).is_err());
    // One that is not valid any more can be dropped all the same.
    let broken = dir.path().join("views/tasks@0123456789abcdef.sql");
    std::fs::write(&broken, OLD.replace("task_completed", "no_such_table")).unwrap();
    let registry = world.registry(NEW);
    assert_eq!(registry.views().len(), 1);
    assert!(versions.forget_pinned(&registry, "tasks@0124").is_err());
    assert_eq!(versions.forget_pinned(&registry, "tasks@0123").unwrap(), "tasks@0123456789abcdef");
    assert!(!broken.exists());
    assert_eq!(engine.features.history().tables().unwrap(), ["features_tasks", "task_completed"]);
    assert_eq!(engine.registry.describe().len(), 1);
    assert_eq!(engine.rows("features_tasks"), plainly(&signals, minutes));
    drop(engine);
    let state = Checkpoint::open(&dir.path().join("state.redb"), None).unwrap();
    assert!(state.load(std::slice::from_ref(&dropped), usize::MAX).unwrap().rows.is_empty());
    assert_eq!(versions.read().unwrap().len(), 1);
}

#[test]
fn late_signals_are_mended_from_an_instant_on() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path());
    let (late, timely): (Vec<_>, Vec<_>) = signals(4, 100).into_iter().partition(|s| s.number % 5 == 0);
    let mut engine = world.open(NEW);
    world.append(&engine, &timely);
    engine.drain(usize::MAX);
    world.append(&engine, &late);
    while engine.drain(usize::MAX) {}
    world.save(&mut engine);
    let all: Vec<Signal> = timely.iter().chain(&late).cloned().collect();
    let right = plainly(&all, minutes);
    let before = engine.rows("features_tasks");
    let from = NOON + 5 * HOUR;
    let until = NOON + 8 * HOUR;
    let wrong = |rows: &BTreeMap<(String, Millis), i64>| {
        right
            .iter()
            .filter(|(key, value)| rows.get(*key) != Some(*value))
            .map(|(k, _)| k.1)
            .collect::<Vec<_>>()
    };
    assert!(wrong(&before).iter().any(|t| (from..=until).contains(t)), "there is something to mend");
    let view = engine.registry.view("tasks").unwrap().clone();
    engine.job.add_backfill(&view, Some(from), Some(until)).unwrap();
    while engine.job.backfill_step().unwrap() {}
    let after = engine.rows("features_tasks");
    assert!(wrong(&after).iter().all(|t| !(from..=until).contains(t)), "{:?}", wrong(&after));
    let elsewhere = |rows: &BTreeMap<(String, Millis), i64>| {
        rows.iter()
            .filter(|(k, _)| !(from..=until).contains(&k.1))
            .map(|(k, v)| (k.clone(), *v))
            .collect::<Vec<_>>()
    };
    assert_eq!(elsewhere(&before), elsewhere(&after), "what was not asked for stays");
    engine.job.add_backfill(&view, None, None).unwrap();
    while engine.job.backfill_step().unwrap() {}
    world.save(&mut engine);
    assert_eq!(engine.rows("features_tasks"), right);
}

#[test]
fn the_erased_do_not_come_back_by_a_backfill() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path());
    let signals = signals(40, 250);
    let mut engine = world.open(OLD);
    world.append(&engine, &signals);
    engine.drain(usize::MAX);
    world.save(&mut engine);
    drop(engine);
    let engine = world.open(NEW);
    let Engine { job, log, features, registry } = engine;
    let eraser = job.eraser();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let gone = "user-039";
    world.runtime.block_on(async {
        let running = tokio::spawn(job.run(stopped));
        log.erase(gone).await.unwrap();
        assert!(eraser.erase(gone).await.unwrap() >= 500, "signals, and the old version's values");
        // The last person is filled in.
        let last = ScanFilter { subjects: Some(vec!["user-038".into()]), ..ScanFilter::default() };
        let begun = std::time::Instant::now();
        while features
            .history()
            .scan("features_tasks", &last)
            .unwrap()
            .iter()
            .map(|b| b.num_rows())
            .sum::<usize>()
            < 250
        {
            assert!(begun.elapsed().as_secs() < 120, "the backfill does not get there");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        stop.send(true).unwrap();
        running.await.unwrap().unwrap();
    });
    let of_gone = ScanFilter { subjects: Some(vec![gone.into()]), ..ScanFilter::default() };
    for table in features.history().tables().unwrap() {
        assert!(features.history().scan(&table, &of_gone).unwrap().is_empty(), "{table}");
    }
    for view in registry.views() {
        let prepared = registry.prepare_views(&[view.pinned_name()]).unwrap();
        let row = features.read_here(&prepared, gone, NOON + 29 * HOUR).unwrap();
        assert!(row.values.iter().zip(view.empty_values()).all(|(a, b)| a == b), "{row:?}");
    }
}
