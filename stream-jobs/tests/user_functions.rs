//! User functions in the whole engine: the shipped ones equal another computation of the same thing, whatever the
//! order of arrival, crashes and partitions; what is wrong with one is told and stops nothing else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    f64::consts::TAU,
    path::Path,
    sync::{Arc, OnceLock},
};

use features::{
    FeatureError, Functions, Registry, Value,
    reference::Reference,
    registry::Beside,
    udf::{Builder, Folder, Source, shipped},
};
use ingest::{Millis, catalogue::Catalogue};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::json;
use support::{Engine, Signal, functions};

/// Depends on the order of its values.
const IN_ORDER: &str = "use arroyo_udf_plugin::udf;
#[udf]
fn in_order(values: Vec<i64>) -> i64 {
    values.iter().fold(7, |a, v| a.wrapping_mul(31).wrapping_add(*v))
}
";

const SHOUT: &str = "/*
[dependencies]
libm = \"0.2\"
*/
use arroyo_udf_plugin::udf;
#[udf]
fn shout(text: &str, times: Option<i64>) -> Option<String> {
    let times = libm::fmax(0.0, times? as f64) as usize;
    Some(text.to_uppercase().repeat(times))
}
";

const CAREFUL: &str = "use arroyo_udf_plugin::udf;
#[udf]
fn careful(x: i64) -> i64 {
    if x > 1000 {
        panic!(\"{x} is a person's secret\");
    }
    x
}
";

/// The folder of all functions of this file, built once.
fn folder() -> Option<&'static Folder> {
    static FOLDER: OnceLock<Option<(tempfile::TempDir, Folder)>> = OnceLock::new();
    let made = FOLDER.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let own = [("in_order.rs", IN_ORDER), ("shout.rs", SHOUT), ("careful.rs", CAREFUL)];
        let all: Vec<_> = shipped::ALL.iter().map(|s| (s.name, s.source)).chain(own).collect();
        functions::install(&folder, &all).then_some((dir, folder))
    });
    made.as_ref().map(|(_, folder)| folder)
}

fn loaded(dir: &Path) -> Functions {
    Functions::load(dir).unwrap()
}

fn beside(functions: Functions) -> Beside<'static> {
    Beside { functions, ..Beside::default() }
}

fn registry(catalogue: &Catalogue, functions: Functions, own: &str) -> Result<Registry, FeatureError> {
    let views = shipped::ALL.iter().map(|s| (s.name, s.view)).chain([("own.sql", own)]);
    Registry::from_texts_with(catalogue, &views.collect::<Vec<_>>(), &beside(functions))
}

const OWN: &str = "CREATE FEATURE VIEW own ENTITY user_id WINDOWS (6 HOURS, 2 DAYS, 28 DAYS) AS SELECT
  subject AS user_id,
  in_order(mood) AS moods,
  in_order(mood * 10) FILTER (WHERE stress > 2) AS tense_moods,
  ewma(fatigue, date_part('epoch', time), 86400.0) AS fatigue,
  max(shout(source, 2)) AS loudest,
  count(*) AS n
FROM mood_reported GROUP BY user_id;
CREATE FEATURE VIEW trusting ENTITY user_id WINDOWS (28 DAYS) AS SELECT
  subject AS user_id, sum(careful(times)) AS times, count(careful(times)) AS told FROM task_snoozed GROUP BY user_id;";

const DAY: Millis = 86_400_000;
const START: Millis = 1_577_836_800_000;

fn some(rng: &mut StdRng, range: std::ops::Range<i64>) -> serde_json::Value {
    if rng.random_bool(0.2) { json!(null) } else { json!(rng.random_range(range)) }
}

fn signals(rng: &mut StdRng) -> Vec<Signal> {
    let instant = |t: Millis| jiff::Timestamp::from_millisecond(t).unwrap();
    // One of them lives nine hours ahead of UTC.
    let mut all = vec![Signal {
        id: "zone".to_owned(),
        source: "phone".to_owned(),
        kind: "context.changed".to_owned(),
        subject: "ada".to_owned(),
        time: instant(START - DAY),
        data: json!({ "time_zone": "Asia/Tokyo" }),
    }];
    for i in 0..400 {
        // Coarse, so that times are often equal.
        let time = START + rng.random_range(0..40 * 24) * 3_600_000;
        let minutes = rng.random_range(200..640);
        let (kind, data) = match i % 4 {
            0 => ("task.completed", json!({ "minutes": some(rng, 1..90) })),
            1 => ("heart.resting", json!({ "bpm": some(rng, 48..80) })),
            2 => (
                "sleep.session",
                json!({
                    "start": instant(time - minutes * 60_000).to_string(),
                    "end": instant(time).to_string(),
                    "minutes_asleep": some(rng, 100..minutes),
                    "minutes_in_bed": if rng.random_bool(0.3) { json!(null) } else { json!(minutes) },
                    "main_sleep": if rng.random_bool(0.5) { json!(null) } else { json!(rng.random_bool(0.8)) },
                }),
            ),
            _ => (
                "mood.reported",
                json!({ "mood": some(rng, 0..6), "stress": some(rng, 0..6), "fatigue": some(rng, 1..6) }),
            ),
        };
        let mut data = data;
        data.as_object_mut().unwrap().retain(|_, v| !v.is_null());
        all.push(Signal {
            id: format!("{i}"),
            source: ["watch", "phone", "päivä"][rng.random_range(0..3)].to_owned(),
            kind: kind.to_owned(),
            subject: ["ada", "bo", "cy"][rng.random_range(0..3)].to_owned(),
            time: instant(time),
            data,
        });
    }
    all
}

/// What a view's SQL means, said again without the engine and without the functions' own code.
fn expected(signals: &[Signal], entity: &str, at: Millis) -> BTreeMap<String, Value> {
    let mut sorted: Vec<_> = signals.iter().filter(|s| s.subject == entity).collect();
    sorted.sort_by_key(|s| (s.time, s.source.clone(), s.id.clone()));
    let mut values = BTreeMap::new();
    let hours = 3_600_000;
    let ahead = if entity == "ada" { 9 * hours } else { 0 };
    for (label, window) in
        [("6h", 6 * hours), ("24h", DAY), ("2d", 2 * DAY), ("7d", 7 * DAY), ("28d", 28 * DAY)]
    {
        let inside = |kind: &str| -> Vec<&Signal> {
            let lies_in =
                |s: &&&Signal| (at - window..at).contains(&(s.time.as_millisecond() - 1)) && s.kind == kind;
            sorted.iter().filter(lies_in).copied().collect()
        };
        let number = |s: &Signal, field: &str| s.data.get(field).and_then(|v| v.as_f64());
        let seconds = |s: &Signal| s.time.as_millisecond() as f64 / 1_000.0;
        let mut put = |name: &str, v: Value| values.insert(format!("{name}_{label}"), v);

        let moods = inside("mood.reported");
        let decayed = |field: &str, half: f64| {
            let (mut sum, mut weight, mut last) = (0.0, 0.0, None);
            for s in &moods {
                let Some(v) = number(s, field).filter(|v| *v > 0.0) else { continue };
                let fade = 0.5_f64.powf((seconds(s) - last.unwrap_or(seconds(s))) / half);
                (sum, weight, last) = (sum * fade + v, weight * fade + 1.0, Some(seconds(s)));
            }
            last.map_or(Value::Null, |_| Value::Float(sum / weight))
        };
        put("mood_level.mood", decayed("mood", 259_200.0));
        put("mood_level.calm", decayed("stress", 259_200.0));
        put("own.fatigue", decayed("fatigue", 86_400.0));
        let folded = |rows: Vec<&Signal>, by: i64| {
            let fold = |a: i64, v: i64| a.wrapping_mul(31).wrapping_add(v * by);
            let values = rows.iter().filter_map(|s| s.data.get("mood")?.as_i64());
            if rows.is_empty() { Value::Null } else { Value::Int(values.fold(7, fold)) }
        };
        put("own.moods", folded(moods.clone(), 1));
        let tense = moods.iter().filter(|s| number(s, "stress").is_some_and(|v| v > 2.0)).copied();
        put("own.tense_moods", folded(tense.collect(), 10));
        let loudest = moods.iter().map(|s| s.source.to_uppercase().repeat(2)).max();
        put("own.loudest", loudest.map_or(Value::Null, |t| Value::Text(t.as_str().into())));
        put("own.n", Value::Int(moods.len() as i64));

        let tasks = inside("task.completed");
        let mut by_hour: BTreeMap<i64, f64> = BTreeMap::new();
        for s in &tasks {
            *by_hour.entry((s.time.as_millisecond() + ahead).rem_euclid(DAY) / hours).or_default() += 1.0;
        }
        let n = tasks.len() as f64;
        let spread = n.log2() - by_hour.values().map(|c| c * c.log2()).sum::<f64>() / n;
        put("task_hours.hour_spread", if tasks.is_empty() { Value::Null } else { Value::Float(spread) });

        let hearts: Vec<_> = inside("heart.resting")
            .iter()
            .filter_map(|s| Some((seconds(s) / 86_400.0, number(s, "bpm")?)))
            .collect();
        let shift = hearts.first().map_or(0.0, |h| h.0);
        let sum = |f: &dyn Fn(f64, f64) -> f64| hearts.iter().map(|(x, y)| f(x - shift, *y)).sum::<f64>();
        let n = hearts.len() as f64;
        let (sx, sy, sxx, sxy) = (sum(&|x, _| x), sum(&|_, y| y), sum(&|x, _| x * x), sum(&|x, y| x * y));
        let moves = hearts.iter().any(|(x, _)| *x != hearts[0].0);
        let slope = (n * sxy - sx * sy) / (n * sxx - sx * sx);
        put("heart_trend.resting_bpm_a_day", if moves { Value::Float(slope) } else { Value::Null });

        let naps = |s: &&&Signal| s.data.get("main_sleep") == Some(&json!(false));
        let nights = inside("sleep.session");
        let nights: Vec<_> = nights.iter().filter(|s| !naps(s)).copied().collect();
        for (field, name) in [("start", "bedtime.lies_down_hour"), ("end", "bedtime.gets_up_hour")] {
            let angles = nights.iter().map(|s| {
                let at: jiff::Timestamp = s.data[field].as_str().unwrap().parse().unwrap();
                (at.as_millisecond() + ahead).rem_euclid(DAY) as f64 / DAY as f64 * TAU
            });
            let (x, y) = angles.fold((0.0, 0.0), |(x, y), a| (x + a.cos(), y + a.sin()));
            let hour = (y.atan2(x) / TAU).rem_euclid(1.0) * 24.0;
            put(name, if x.hypot(y) > 1e-6 { Value::Float(hour) } else { Value::Null });
        }
        let score = |s: &&Signal| {
            let asleep = number(s, "minutes_asleep")?;
            let length = if asleep <= 540.0 {
                (asleep / 420.0).min(1.0)
            } else {
                (1.0 - (asleep - 540.0) / 240.0).max(0.0)
            };
            Some(match number(s, "minutes_in_bed") {
                Some(bed) => 70.0 * length + 30.0 * (asleep / bed / 0.85).min(1.0),
                None => 100.0 * length,
            })
        };
        let scores: Vec<f64> = nights.iter().filter_map(score).collect();
        let worst = scores.iter().copied().reduce(f64::min);
        put("night_quality.worst_score", worst.map_or(Value::Null, Value::Float));
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        put("night_quality.score", if scores.is_empty() { Value::Null } else { Value::Float(mean) });
        put("night_quality.latest_score", nights.last().and_then(score).map_or(Value::Null, Value::Float));
    }
    values
}

fn close(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(x), Value::Float(y)) => (x - y).abs() <= 1e-9 * x.abs().max(y.abs()).max(1.0),
        _ => a == b,
    }
}

#[test]
fn shipped_functions_equal_another_computation_in_any_order_of_arrival() {
    let Some(folder) = folder() else { return };
    let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
    for seed in 0..4 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut arriving = signals(&mut rng);
        arriving.sort_by_key(|s| s.time);
        let all = arriving.clone();
        // Out of order by less than the lateness a view allows for, with repeats.
        for few in arriving.chunks_mut(5) {
            few.shuffle(&mut rng);
        }
        arriving.extend_from_within(390..);
        let functions = loaded(&folder_dir(folder));
        let registry = Arc::new(registry(&catalogue, functions, OWN).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let mut engine = Engine::new(dir.path().to_owned(), catalogue.clone(), registry, 1 + seed as u32);
        engine.append(&arriving);
        engine.drain(7, 200);
        engine.save();
        engine.drain(7, 50);
        let mut engine = engine.crash();
        engine.drain(64, usize::MAX);
        let mut compared = 0;
        let newest = all.last().unwrap().time.as_millisecond();
        for at in [newest, newest + 1, newest + DAY, newest + 9 * DAY, newest + 60 * DAY] {
            for entity in ["ada", "bo", "cy", "nobody"] {
                let wanted = expected(&all, entity, at);
                let reads = [("now", engine.values(entity, at)), ("as of", engine.values_as_of(entity, at))];
                for (read, (name, got)) in
                    reads.into_iter().flat_map(|(r, v)| v.into_iter().map(move |v| (r, v)))
                {
                    if let Some(wanted) = wanted.get(&name) {
                        compared += 1;
                        assert!(
                            close(&got, wanted),
                            "seed {seed}: {name} of {entity} at {at} read {read} is {got:?}, expected {wanted:?}"
                        );
                    }
                }
            }
        }
        assert!(compared > 1_000, "{compared}");

        // Nor do they differ from their SQL as a batch, where DataFusion calls them without our kernel.
        let at = newest - 3 * DAY;
        let batch: BTreeMap<String, Value> = engine.values_as_of("ada", at).into_iter().collect();
        for view in engine.registry.views() {
            let functions = engine.registry.functions();
            let reference = Reference::calling(&catalogue, &[], functions, &view.definition).unwrap();
            let rows = |table: &str| {
                let kind = catalogue.by_table(table).unwrap();
                let mut builder = kind.builder();
                for (offset, s) in arriving.iter().enumerate().filter(|(_, s)| s.kind == kind.name) {
                    builder.append(0, offset as u64, &s.record(&catalogue)).unwrap();
                }
                Ok(vec![builder.finish()])
            };
            let wanted = reference.values(rows, "ada", at).unwrap();
            for (name, wanted) in view.feature_names().zip(wanted) {
                let got = &batch[&format!("{}.{name}", view.name)];
                assert!(close(got, &wanted), "seed {seed}: {name} is {got:?}, as a batch {wanted:?}");
            }
        }
    }
}

fn folder_dir(folder: &Folder) -> std::path::PathBuf {
    folder.views().parent().unwrap().to_owned()
}

/// So many values that they lie in chunks, whose partial states are merged.
#[test]
fn values_of_many_chunks_come_in_order() {
    let Some(folder) = folder() else { return };
    let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
    let mut rng = StdRng::seed_from_u64(9);
    let mut all: Vec<Signal> = (0..3_000)
        .map(|i| Signal {
            id: format!("{i}"),
            source: ["watch", "phone"][rng.random_range(0..2)].to_owned(),
            kind: "mood.reported".to_owned(),
            subject: "ada".to_owned(),
            time: jiff::Timestamp::from_millisecond(START + rng.random_range(0..9_000) * 240_000).unwrap(),
            data: json!({ "mood": rng.random_range(0..6), "stress": rng.random_range(0..6), "fatigue": 3 }),
        })
        .collect();
    all.sort_by_key(|s| s.time);
    let mut arriving = all.clone();
    arriving.chunks_mut(8).for_each(|few| few.shuffle(&mut rng));
    let registry = Arc::new(registry(&catalogue, loaded(&folder_dir(folder)), OWN).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::new(dir.path().to_owned(), catalogue.clone(), registry, 1);
    engine.append(&arriving);
    engine.drain(100, 1_500);
    engine.save();
    let mut engine = engine.crash();
    engine.drain(500, usize::MAX);
    let newest = all[all.len() - 1].time.as_millisecond();
    for at in [newest, newest + DAY, newest + 20 * DAY] {
        let wanted = expected(&all, "ada", at);
        for (name, got) in engine.values("ada", at).into_iter().filter(|(name, _)| name.starts_with("own.")) {
            assert!(close(&got, &wanted[&name]), "{name} at {at} is {got:?}, expected {:?}", wanted[&name]);
        }
    }
}

#[test]
fn a_panic_costs_its_value_alone() {
    let Some(folder) = folder() else { return };
    let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
    let registry = Arc::new(registry(&catalogue, loaded(&folder_dir(folder)), OWN).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::new(dir.path().to_owned(), catalogue.clone(), registry, 1);
    let snoozed = |(i, times): (i64, i64)| Signal {
        id: format!("{i}"),
        source: "s".into(),
        kind: "task.snoozed".into(),
        subject: "ada".into(),
        time: jiff::Timestamp::from_millisecond(START + i).unwrap(),
        data: json!({ "times": times }),
    };
    let signals: Vec<Signal> = (0..).zip([5, 2_000, 7, 3_000, 4_000, 30]).map(snoozed).collect();
    engine.append(&signals);
    engine.drain(100, usize::MAX);
    for values in [engine.values("ada", START + 10), engine.values_as_of("ada", START + 10)] {
        let values: BTreeMap<_, _> = values.into_iter().collect();
        assert_eq!(values["trusting.times_28d"], Value::Int(42));
        assert_eq!(values["trusting.told_28d"], Value::Int(3));
    }
}

#[test]
fn a_views_version_follows_the_functions_it_calls() {
    let Some(folder) = folder() else { return };
    let catalogue = Catalogue::load(&[]).unwrap();
    let versions = |dir: &Path| -> Vec<u64> {
        registry(&catalogue, loaded(dir), OWN).unwrap().views().iter().map(|v| v.version).collect()
    };
    let names: Vec<String> = registry(&catalogue, loaded(&folder_dir(folder)), OWN)
        .unwrap()
        .views()
        .iter()
        .map(|v| v.name.to_string())
        .collect();
    let before = versions(&folder_dir(folder));

    let other = tempfile::tempdir().unwrap();
    let same = Folder::new(other.path());
    let edited = format!("{IN_ORDER}// another meaning, as far as anybody can tell\n");
    let all: Vec<_> = shipped::ALL
        .iter()
        .map(|s| (s.name, s.source))
        .chain([("in_order.rs", edited.as_str()), ("shout.rs", SHOUT), ("careful.rs", CAREFUL)])
        .collect();
    assert!(functions::install(&same, &all));
    for ((name, a), b) in names.iter().zip(before).zip(versions(other.path())) {
        assert_eq!(a != b, name == "own", "{name}");
    }
}

#[test]
fn a_view_that_calls_what_is_not_there_is_told_how_to_add_it() {
    let catalogue = Catalogue::load(&[]).unwrap();
    let message = registry(&catalogue, Functions::none(), OWN).unwrap_err().to_string();
    assert!(message.starts_with("circular_mean_hour:"), "{message}");
    assert!(message.contains("kairos udf add circular_mean_hour.rs"), "{message}");
}

#[test]
fn what_was_changed_since_it_was_built_is_not_loaded() {
    let Some(folder) = folder() else { return };
    let fails = |change: &dyn Fn(&Path)| {
        let copy = tempfile::tempdir().unwrap();
        for name in ["shout.rs", "shout.json", &format!("shout.{}", std::env::consts::DLL_EXTENSION)] {
            std::fs::copy(folder_dir(folder).join(name), copy.path().join(name)).unwrap();
        }
        assert_eq!(loaded(copy.path()).sources().count(), 1);
        change(copy.path());
        Functions::load(copy.path()).unwrap_err().to_string()
    };
    let library = format!("shout.{}", std::env::consts::DLL_EXTENSION);
    let append = |dir: &Path, name: &str| {
        let mut bytes = std::fs::read(dir.join(name)).unwrap();
        bytes.push(b'\n');
        // Not in place: the file is mapped into this process.
        std::fs::write(dir.join("changed"), bytes).unwrap();
        std::fs::rename(dir.join("changed"), dir.join(name)).unwrap();
    };
    let message = fails(&|dir| append(dir, &library));
    assert!(message.contains("it is not the library that was built"), "{message}");
    let message = fails(&|dir| append(dir, "shout.rs"));
    assert!(message.contains("edited since it was built") && message.contains("kairos udf add"), "{message}");
    let message = fails(&|dir| std::fs::rename(dir.join("shout.json"), dir.join("scream.json")).unwrap());
    assert!(message.contains("another name"), "{message}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let message = fails(&|dir| {
            std::fs::set_permissions(dir.join(&library), std::fs::Permissions::from_mode(0o777)).unwrap();
        });
        assert!(message.contains("written by everybody"), "{message}");
    }
}

#[test]
fn mistakes_of_the_source_are_told_in_the_compilers_words() {
    if folder().is_none() {
        return;
    }
    let builder = Builder::new(&functions::build_dir());
    let text = "use arroyo_udf_plugin::udf;\n#[udf]\nfn wrong(a: f64) -> f64 {\n    a + nothing\n}\n";
    let source = Source::parse("mine/wrong.rs", text).unwrap();
    let error = builder.build(&source, "mine/wrong.rs", &mut |_| ()).unwrap_err();
    let FeatureError::Request(message) = &error else { panic!("{error:?}") };
    assert!(message.contains("--> mine/wrong.rs:4:9"), "{message}");
    assert!(message.contains("cannot find value `nothing`"), "{message}");

    // Compiles, and fails on the first value.
    let text = "use arroyo_udf_plugin::udf;\n#[udf]\nfn fragile(a: i64) -> i64 {\n    10 / a\n}\n";
    let source = Source::parse("fragile.rs", text).unwrap();
    let built = builder.build(&source, "fragile.rs", &mut |_| ()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let message = Folder::new(dir.path()).install(&source, &built).unwrap_err().to_string();
    assert!(message.contains("panicked at line 4") && message.contains("tried with 0"), "{message}");
    assert_eq!(Functions::load(dir.path()).unwrap().sources().count(), 0);
}

#[test]
fn the_name_of_a_built_in_function_is_refused() {
    if folder().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let text = "use arroyo_udf_plugin::udf;\n#[udf]\nfn sqrt(a: f64) -> f64 {\n    a\n}\n";
    assert!(functions::install(&Folder::new(dir.path()), &[("sqrt.rs", text)]));
    let catalogue = Catalogue::load(&[]).unwrap();
    let message = Registry::load_with(&catalogue, &[], &beside(loaded(dir.path()))).unwrap_err().to_string();
    assert!(message.contains("sqrt() is built in"), "{message}");
}
