//! Golden cases: each folder of `golden/` holds views, signals and the values expected at instants. Every
//! case runs straight, cut by a checkpoint and a crash in the middle, shuffled, with repeats, and on other
//! partition counts; all give the expected values.
#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use features::Registry;
use ingest::{Millis, catalogue::Catalogue};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::Deserialize;
use support::{Engine, Signal};

#[derive(Debug, Deserialize)]
struct Expected {
    entity: String,
    #[serde(deserialize_with = "support::instant")]
    at: jiff::Timestamp,
    values: BTreeMap<String, serde_json::Value>,
}

struct Case {
    name: String,
    catalogue: Arc<Catalogue>,
    registry: Arc<Registry>,
    signals: Vec<Signal>,
    expected: Vec<Expected>,
}

fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).unwrap();
    let parse = |(i, l): (usize, &str)| {
        serde_json::from_str(l).unwrap_or_else(|e| panic!("{}:{}: {e}", path.display(), i + 1))
    };
    text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).map(parse).collect()
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut dirs: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.sort();
    let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
    dirs.into_iter()
        .map(|dir| {
            let sql = std::fs::read_to_string(dir.join("views.sql")).unwrap();
            Case {
                name: dir.file_name().unwrap().to_string_lossy().into_owned(),
                catalogue: catalogue.clone(),
                registry: Arc::new(Registry::from_texts(&catalogue, &[("views.sql", &sql)]).unwrap()),
                signals: lines(&dir.join("signals.ndjson")),
                expected: lines(&dir.join("expected.ndjson")),
            }
        })
        .collect()
}

fn check(case: &Case, how: &str, engine: &Engine) {
    for e in &case.expected {
        let at: Millis = e.at.as_millisecond();
        let reads = [("now", engine.values(&e.entity, at)), ("as_of", engine.values_as_of(&e.entity, at))];
        for (kind, values) in reads {
            let values: BTreeMap<_, _> = values.into_iter().collect();
            for (name, wanted) in &e.values {
                let got =
                    serde_json::to_value(values.get(name).unwrap_or_else(|| panic!("no feature {name}")))
                        .unwrap();
                let close = match (got.as_f64(), wanted.as_f64()) {
                    (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
                    _ => got == *wanted,
                };
                assert!(
                    close,
                    "{} ({how}, read {kind}): {} of {} at {} is {got}, expected {wanted}",
                    case.name, name, e.entity, e.at
                );
            }
        }
    }
}

fn run(case: &Case, how: &str, partitions: u32, feed: impl FnOnce(Engine, &[Signal]) -> Engine) {
    let dir = tempfile::tempdir().unwrap();
    let engine =
        Engine::new(dir.path().to_owned(), case.catalogue.clone(), case.registry.clone(), partitions);
    let engine = feed(engine, &case.signals);
    check(case, how, &engine);
}

fn whole(mut engine: Engine, signals: &[Signal]) -> Engine {
    engine.append(signals);
    engine.drain(1000, usize::MAX);
    engine
}

#[test]
fn straight() {
    for case in cases() {
        run(&case, "straight", 1, whole);
        run(&case, "one by one", 1, |mut engine, signals| {
            for s in signals {
                engine.append(std::slice::from_ref(s));
                engine.drain(1, usize::MAX);
            }
            engine
        });
    }
}

#[test]
fn cut_by_checkpoint_and_crash() {
    for case in cases() {
        for cut in 0..case.signals.len() {
            run(&case, &format!("cut at {cut}"), 2, |mut engine, signals| {
                engine.append(signals);
                engine.drain(1, cut);
                engine.save();
                engine.drain(2, 3);
                let mut engine = engine.crash();
                engine.drain(3, usize::MAX);
                engine
            });
        }
    }
}

#[test]
fn shuffled_and_repeated() {
    for case in cases() {
        for seed in 0..8 {
            run(&case, &format!("shuffled, seed {seed}"), 3, |engine, signals| {
                let mut signals = [signals, signals].concat();
                signals.shuffle(&mut StdRng::seed_from_u64(seed));
                whole(engine, &signals)
            });
        }
    }
}

#[test]
fn on_other_partition_counts() {
    for case in cases() {
        for partitions in [2, 4, 7] {
            run(&case, &format!("{partitions} partitions"), partitions, whole);
        }
    }
}
