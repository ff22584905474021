//! Random signals, views, batch sizes, restarts and partition counts: every value the engine serves equals
//! what the view's SQL gives as a plain batch over the admitted signals ([`features::reference`]).
//!
//! The number of cases is `PROPTEST_CASES` (default 24 here); a failing case prints its seed.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use features::{
    Registry, Value,
    reference::{Reference, same},
};
use ingest::{Millis, catalogue::Catalogue};
use proptest::prelude::*;
use support::{Engine, Signal};

/// Windows and SELECT of each view.
const VIEWS: [(&str, &str); 4] = [
    (
        "30 MINUTES, 1 HOUR, 1 DAY",
        "SELECT subject AS user_id, count(*) AS n, sum(minutes) AS total, avg(minutes) AS mean, min(minutes) AS least,
         max(minutes) AS most, count(DISTINCT project) AS projects, count(DISTINCT minutes) AS lengths
         FROM task_completed GROUP BY user_id",
    ),
    (
        "1 HOUR, 7 DAYS",
        "SELECT subject AS user_id, first(project) AS opened, last(project) AS closed,
         last(minutes) FILTER (WHERE minutes > 3) AS long, count(minutes) FILTER (WHERE project = 'b') AS of_b
         FROM task_completed WHERE minutes IS DISTINCT FROM 7 GROUP BY user_id",
    ),
    (
        "2 HOURS, 1 DAY, 4 WEEKS",
        "SELECT subject AS user_id, sum(mood / 7.0) AS total, avg(mood) AS mean, stddev(mood) AS spread,
         max(time) AS latest, bool_and(mood > 2) AS fine, coalesce(sum(stress), 0) + count(*) AS mixed
         FROM mood_reported GROUP BY user_id",
    ),
    (
        "1 HOUR, 1 DAY, 4 WEEKS",
        "SELECT subject AS user_id, last_n(project, 3) AS latest, first_n(minutes, 2) AS opening,
         array_agg(time, 4) FILTER (WHERE minutes > 1) AS instants, top_k(project, 2) AS favourites,
         approx_distinct(minutes) AS lengths, approx_median(minutes) AS typical, median(minutes) AS middle,
         approx_percentile_cont(minutes, 0.9) AS long,
         percentile_cont(0.3) WITHIN GROUP (ORDER BY minutes / 7.0) AS short, streak(time) AS run,
         array_length(last_n(id, 5)) AS few, sum(minutes) * 1.0 / count(*) AS ratio
         FROM task_completed GROUP BY user_id",
    ),
];

fn views_sql() -> String {
    let one = |(i, (windows, select)): (usize, &(&str, &str))| {
        format!("CREATE FEATURE VIEW v{i} ENTITY user_id WINDOWS ({windows}) AS {select};\n")
    };
    VIEWS.iter().enumerate().map(one).collect()
}

/// The batch recomputation of every feature of a view.
fn batch(
    catalogue: &Catalogue,
    view: &features::View,
    signals: &[Signal],
    entity: &str,
    at: Millis,
) -> Vec<Value> {
    let reference = Reference::new(catalogue, &[], &view.definition).unwrap();
    let of_table = |table: &str| {
        let kind = catalogue.by_table(table).unwrap();
        let mut builder = kind.builder();
        for (offset, s) in signals.iter().enumerate().filter(|(_, s)| s.kind == kind.name) {
            builder.append(0, offset as u64, &s.record(catalogue)).unwrap();
        }
        Ok(vec![builder.finish()])
    };
    reference.values(of_table, entity, at).unwrap()
}

const EPOCH: Millis = 1_700_000_000_000;

fn signal() -> impl Strategy<Value = Signal> {
    let time = prop_oneof![
        4 => 0..7_200_000i64,                          // a burst
        2 => (0..200i64).prop_map(|i| i * 60_000),     // equal times
        2 => 0..90_000_000i64,                         // a day
        1 => 0..3_000_000_000i64,                      // gaps of weeks
    ];
    let who = prop::sample::select(vec!["ada", "grace", "żółw 🐢", "o"]);
    let minutes = prop::option::weighted(0.8, 0..10i64);
    let project = prop::option::weighted(0.7, prop::sample::select(vec!["a", "b", "", "ünïcode"]));
    (any::<bool>(), 0..60u32, prop::sample::select(vec!["s", "s2"]), who, time, minutes, project).prop_map(
        |(task, id, source, subject, time, minutes, project)| Signal {
            // Few ids, so that repeats happen; a repeat is the same signal, whatever else it says.
            id: format!("{id}-{time}-{subject}"),
            source: source.to_owned(),
            kind: if task { "task.completed" } else { "mood.reported" }.to_owned(),
            subject: subject.to_owned(),
            time: jiff::Timestamp::from_millisecond(EPOCH + time).unwrap(),
            data: if task {
                serde_json::json!({"minutes": minutes, "project": project})
            } else {
                serde_json::json!({"mood": minutes, "stress": minutes.map(|m| m % 3)})
            },
        },
    )
}

#[derive(Debug, Clone)]
enum Step {
    Drain { batch: usize, limit: usize },
    Save,
    Crash,
    Sweep(Millis),
    Look(Millis),
}

fn step() -> impl Strategy<Value = Step> {
    let instant = prop_oneof![0..8_000_000i64, 0..100_000_000i64, 0..3_100_000_000i64];
    prop_oneof![
        4 => (1..40usize, 1..80usize).prop_map(|(batch, limit)| Step::Drain { batch, limit }),
        1 => Just(Step::Save),
        1 => Just(Step::Crash),
        1 => instant.clone().prop_map(Step::Sweep),
        2 => instant.prop_map(Step::Look),
    ]
}

fn look(engine: &Engine, catalogue: &Catalogue, known: &[Signal], at: Millis) -> Result<(), TestCaseError> {
    for entity in ["ada", "grace", "żółw 🐢", "o", "nobody"] {
        let now = engine.values(entity, at);
        let past = engine.values_as_of(entity, at);
        let mut i = 0;
        for view in engine.registry.views() {
            for wanted in batch(catalogue, view, known, entity, at) {
                let select = &view.definition.select;
                prop_assert!(
                    same(&past[i].1, &wanted),
                    "as_of: {} of {entity} at {at}: {:?}, batch {wanted:?} ({select})",
                    past[i].0,
                    past[i].1
                );
                // Streaming state reaches back from the newest signal, not further.
                let newest = known.iter().map(|s| s.time.as_millisecond()).max().unwrap_or(0);
                if at >= newest - 86_400_000 {
                    prop_assert!(
                        same(&now[i].1, &wanted),
                        "now: {} of {entity} at {at}: {:?}, batch {wanted:?} ({select})",
                        now[i].0,
                        now[i].1
                    );
                }
                i += 1;
            }
        }
        prop_assert_eq!(i, now.len());
    }
    Ok(())
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn engine_equals_batch(
        signals in prop::collection::vec(signal(), 1..160),
        steps in prop::collection::vec(step(), 0..14),
        partitions in 1..5u32,
    ) {
        let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
        let registry = Arc::new(Registry::from_texts(&catalogue, &[("views.sql", &views_sql())]).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let mut engine = Engine::new(dir.path().to_owned(), catalogue.clone(), registry, partitions);
        engine.append(&signals);
        for step in steps {
            match step {
                Step::Drain { batch, limit } => { engine.drain(batch, limit); }
                Step::Save => engine.save(),
                Step::Crash => engine = engine.crash(),
                Step::Sweep(at) => engine.job.sweep(EPOCH + at, 3).unwrap(),
                Step::Look(at) => {
                    engine.drain(64, usize::MAX);
                    look(&engine, &catalogue, &signals, EPOCH + at)?;
                }
            }
        }
        engine.drain(50, usize::MAX);
        let newest = signals.iter().map(|s| s.time.as_millisecond()).max().unwrap_or(0);
        for at in [newest, newest + 1, newest + 1_800_000, newest + 90_000_000] {
            look(&engine, &catalogue, &signals, at)?;
        }
    }
}
