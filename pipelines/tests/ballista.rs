//! A scheduler and two executors: join, backfill and verify give what the local engine gives, an executor may go away
//! in the middle, and what cannot be done is said.
#![cfg(feature = "ballista")]
#![allow(clippy::unwrap_used)]

#[path = "ballista/world.rs"]
mod world;

use std::{
    fs,
    path::Path,
    sync::LazyLock,
    time::{Duration, Instant},
};

use arrow::array::{Array, ArrayRef};
use features::{
    FeatureError, Functions, Value, View,
    past::{Asked, Engine, Here, Known},
    reference::{same, value_at},
};
use indicatif::ProgressBar;
use ingest::{Millis, log::Position};
use pipelines::{
    ballista::{Cluster, Options, functions::Codec},
    join::{self, JoinJob, MEMORY, Rows},
    verify::{self, Checker, Served},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use stream_jobs::backfill::{Pieces, Run};
use world::{Servers, World};

/// One cluster for all tests but the one that kills.
static SERVERS: LazyLock<Servers> = LazyLock::new(|| Servers::start(2));

/// Rows to ask for, ordered as engines want them.
fn questions(world: &World, rng: &mut StdRng, many: usize) -> Vec<(String, Millis)> {
    let mut rows: Vec<(String, Millis)> = (0..many)
        .map(|_| {
            let who = format!("u{}", rng.random_range(0..world::PEOPLE + 2));
            let happened = world.times[rng.random_range(0..world.times.len())];
            // Often just when a signal comes in, or leaves a window.
            let at = match rng.random_range(0..4) {
                0 => rng.random_range(world::START..world::END),
                1 => happened,
                2 => happened + 3_600_000,
                _ => happened + 86_400_000 - rng.random_range(0..2),
            };
            (who, at)
        })
        .collect();
    rows.sort();
    rows
}

fn borrowed(rows: &[(String, Millis)]) -> Vec<(&str, Millis)> {
    rows.iter().map(|(who, at)| (who.as_str(), *at)).collect()
}

fn assert_same(view: &View, here: &[ArrayRef], there: &[ArrayRef], rows: &[(&str, Millis)]) {
    assert_eq!(here.len(), there.len(), "{}", view.name);
    for (name, (a, b)) in view.feature_names().zip(here.iter().zip(there)) {
        let name = format!("{}.{name}", view.name);
        assert_eq!(a.data_type(), b.data_type(), "{name}");
        assert_eq!((a.len(), b.len()), (rows.len(), rows.len()), "{name}");
        for (row, asked) in rows.iter().enumerate() {
            let (x, y) = (value_at(a, row).unwrap(), value_at(b, row).unwrap());
            assert!(same(&x, &y), "{name} of {asked:?}: here {x:?}, there {y:?}");
        }
    }
}

/// The views of the test, without the shipped ones.
const OURS: [&str; 4] = ["ours", "clocks", "ageing", "beside"];

#[test]
fn values_of_every_view_are_those_of_the_local_engine() {
    let mut rng = StdRng::seed_from_u64(7);
    let world = World::random(&mut rng, 1_500);
    for copy in [false, true] {
        let cluster = world.cluster(&SERVERS, |o| o.copy = copy);
        for view in world.registry.views().iter().filter(|v| &*v.name != "run") {
            let own = OURS.contains(&&*view.name);
            if copy && !own {
                continue;
            }
            let owned = questions(&world, &mut rng, if own { 60 } else { 20 });
            let rows = borrowed(&owned);
            let below = Position([(0, world.signals / 2)].into());
            // Not each of the many, for the sake of the time it takes.
            let by_then = !copy && (own || view.id % 4 == 0);
            let (known, below) = if by_then { (Known::ByThen, None) } else { (Known::ByNow, Some(&below)) };
            let asked = Asked { rows: &rows, known, below };
            let here = Here(&*world.history).values(view, &asked).unwrap();
            let there = cluster.values(view, &asked).unwrap();
            assert_same(view, &here.columns, &there.columns, &rows);
            assert_eq!(here.late, there.late, "{}: which rows leave out late signals", view.name);
        }
    }
    let left = fs::read_dir(world.dir.path().join("staging")).unwrap().count();
    assert_eq!(left, 0, "files of a run go with it");
}

#[test]
fn a_join_writes_the_same_file() {
    let mut rng = StdRng::seed_from_u64(8);
    let world = World::random(&mut rng, 400);
    let cluster = world.cluster(&SERVERS, |_| ());
    let names = ["ours.latest_7d", "task_activity.completed_24h", "ours.newest_lifetime", "ours.p90_1d"];
    let prepared = world.registry.prepare(&names).unwrap();
    // In no order, with repeats.
    let mut rows = String::from("entity,as_of,note\n");
    for (i, (who, at)) in questions(&world, &mut rng, 40).into_iter().rev().enumerate() {
        rows += &format!("{who},{at},n{i}\n{who},{at},again\n");
    }
    fs::write(world.dir.path().join("rows.csv"), rows).unwrap();
    let written = |engine: &dyn Engine, output: &str| {
        let job = JoinJob {
            input: Rows::File(world.dir.path().join("rows.csv")),
            output: world.dir.path().join(output),
            entity: "entity".into(),
            as_of: "as_of".into(),
            known: Known::ByThen,
            memory: MEMORY,
        };
        let report = join::run_on(engine, &*world.history, &prepared, &job, &ProgressBar::hidden()).unwrap();
        (report, fs::read_to_string(&job.output).unwrap())
    };
    let (here, there) = (written(&Here(&*world.history), "here.ndjson"), written(&cluster, "there.ndjson"));
    assert_eq!(here.0, there.0);
    assert!(here.0.rows == 80 && here.1.lines().count() == 80, "{:?}", here.0);
    for (a, b) in here.1.lines().zip(there.1.lines()) {
        assert_eq!(a, b);
    }
}

#[test]
fn a_backfill_makes_the_same_rows() {
    let mut rng = StdRng::seed_from_u64(9);
    let world = World::random(&mut rng, 300);
    let cluster: std::sync::Arc<dyn Engine> =
        std::sync::Arc::new(world.cluster(&SERVERS, |o| o.least_rows = 100));
    for name in ["ours", "clocks"] {
        let view = world.registry.resolve(name).unwrap().clone();
        let run = Run {
            view: view.clone(),
            written: 1,
            below: Position([(0, 250)].into()),
            from: None,
            until: Some(world::END - 86_400_000),
            after: None,
            done: 0,
            total: 0,
        };
        let rows = |engine| {
            let pieces = Pieces::of(world.history.clone(), engine, run.clone()).unwrap();
            let pieces: Vec<_> = pieces.map(Result::unwrap).collect();
            let signals: u64 = pieces.iter().map(|p| p.signals).sum();
            let batches: Vec<_> = pieces.iter().map(|p| &p.rows).collect();
            (signals, arrow::compute::concat_batches(&batches[0].schema(), batches).unwrap())
        };
        let ((here_signals, here), (there_signals, there)) = (rows(None), rows(Some(cluster.clone())));
        assert_eq!((here_signals, here.schema()), (there_signals, there.schema()));
        assert!(here.num_rows() > 100 && here.num_rows() == there.num_rows());
        for c in 0..here.num_columns() {
            for row in 0..here.num_rows() {
                let of = |b: &arrow::array::RecordBatch| value_at(b.column(c), row).unwrap();
                assert!(same(&of(&here), &of(&there)), "{name}, column {c}, row {row}");
            }
        }
    }
}

#[test]
fn verify_finds_the_one_wrong_value_and_no_other() {
    let mut rng = StdRng::seed_from_u64(10);
    let world = World::random(&mut rng, 400);
    let cluster = world.cluster(&SERVERS, |_| ());
    let checker = Checker::new(&world.catalogue, &world.registry, "ours").unwrap();
    let position = Position([(0, world.signals)].into());
    let owned = questions(&world, &mut rng, 30);
    let rows = borrowed(&owned);
    let asked = Asked { rows: &rows, known: Known::ByNow, below: Some(&position) };
    let made = Here(&*world.history).values(checker.view(), &asked).unwrap();
    let served = |row: usize, known: verify::Known| Served {
        entity: rows[row].0.to_owned(),
        at: rows[row].1,
        read: verify::Read::AsOf,
        values: made.columns.iter().map(|c| value_at(c, row).unwrap()).collect(),
        known,
    };
    let mut all: Vec<Served> =
        (0..rows.len()).map(|row| served(row, verify::Known::Exactly(position.clone()))).collect();
    // Another one says only that it rests on at least the first signals.
    all.push(served(5, verify::Known::AtLeast(Position([(0, world.signals - 3)].into()))));
    all.reverse();
    let compare = |all: &[Served]| checker.compare_all(&cluster, &*world.history, all).unwrap();
    assert_eq!(compare(&all), []);
    all[4].values[0] = Value::Int(-1);
    let found = compare(&all);
    let [only] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&*only.feature, &only.entity, &only.served), ("ours.n_1h", &all[4].entity, &Value::Int(-1)));
    assert_eq!(found, checker.compare(&*world.history, &all[4]).unwrap());
}

#[test]
fn an_executor_that_dies_in_the_middle_changes_nothing() {
    let mut servers = Servers::start(2);
    let mut rng = StdRng::seed_from_u64(11);
    let world = World::random(&mut rng, 600);
    let cluster = world.cluster(&servers, |o| (o.jobs, o.least_rows) = (4, 4));
    let view = world.registry.resolve("task_activity").unwrap();
    let owned = questions(&world, &mut rng, 160);
    let rows = borrowed(&owned);
    let asked = Asked { rows: &rows, known: Known::ByNow, below: None };
    let here = Here(&*world.history).values(view, &asked).unwrap();
    let there = std::thread::scope(|threads| {
        let asking = threads.spawn(|| cluster.values(view, &asked));
        let begun = Instant::now();
        // Both have something to do by the time results lie with the first.
        while servers.results(0) < 2 {
            assert!(!asking.is_finished() && begun.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(5));
        }
        servers.kill(0);
        assert!(!asking.is_finished(), "it was in the middle");
        asking.join().unwrap()
    });
    assert_same(view, &here.columns, &there.unwrap().columns, &rows);
}

fn connected(world: &World, options: Options) -> Result<Cluster, FeatureError> {
    let (history, catalogue) = (world.history.clone(), world.catalogue.clone());
    Cluster::connect(options, history, catalogue, world.registry.tables(), &Functions::none())
}

#[test]
fn what_cannot_be_done_is_said() {
    let mut rng = StdRng::seed_from_u64(12);
    let world = World::random(&mut rng, 50);
    let cluster = world.cluster(&SERVERS, |_| ());
    let said = cluster.check(world.registry.resolve("run").unwrap()).unwrap_err().to_string();
    assert!(said.starts_with("run: the window session_30m is a session"), "{said}");

    let away = Options::new("127.0.0.1:1", world.dir.path().join("staging"));
    let said = connected(&world, away).err().unwrap().to_string();
    assert!(said.starts_with("no Ballista scheduler at 127.0.0.1:1") && said.contains("--listen"), "{said}");

    // A staging directory that cannot be, and a time that is too short.
    let view = world.registry.resolve("ours").unwrap();
    let asked = Asked { rows: &[("u1", world::END)], known: Known::ByNow, below: None };
    let told = |with: &dyn Fn(&mut Options)| {
        world.cluster(&SERVERS, with).values(view, &asked).unwrap_err().to_string()
    };
    let said = told(&|o| o.shared = Path::new("/dev/null/staging").to_owned());
    assert!(said.contains("--staging"), "{said}");
    let said = told(&|o| o.timeout = Duration::from_millis(1));
    assert!(said.contains("no answer within") && said.contains("--timeout"), "{said}");
    let said = told(&|o| o.most_bytes = 10);
    assert!(said.contains("more than 10 bytes"), "{said}");
}

#[test]
fn another_version_is_refused_and_so_is_an_unknown_function() {
    let (here, there) =
        (Codec::of(&Functions::none()).unwrap(), Codec::of_version(&Functions::none(), "0.0.1").unwrap());
    let known = features::reference::functions_of(&Functions::none()).unwrap();
    let top = known.aggregates.iter().find(|f| f.name() == "top_k").unwrap();
    let mut written = Vec::new();
    there.physical().try_encode_udaf(top, &mut written).unwrap();
    let said = here.physical().try_decode_udaf("top_k", &written).unwrap_err().to_string();
    assert!(said.contains("Kairos `0.0.1`") && said.contains("same version"), "{said}");
    written.clear();
    here.logical().try_encode_udaf(top, &mut written).unwrap();
    assert_eq!(here.logical().try_decode_udaf("top_k", &written).unwrap().name(), "top_k");
    let said = here.logical().try_decode_udaf("my_own", &written).unwrap_err().to_string();
    assert!(said.contains("my_own() is not known on this machine"), "{said}");
}
