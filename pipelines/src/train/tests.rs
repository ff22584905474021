use std::{cell::Cell, path::PathBuf};

use arrow::array::AsArray;
use indicatif::ProgressBar;
use ingest::log::{Position, Topic};
use scorer::{
    ScorerConfig,
    learn::{Learner, replay},
    policy::{PolicyConfig, PolicyName},
};

use super::{
    policy::{TeachJob, forget, keep, progress_name, read, teach},
    set::{SetJob, write},
    *,
};
use crate::{
    table::Input,
    testing::{T0, World, config},
};

async fn lived(dir: &std::path::Path, count: usize) -> World {
    let policy = PolicyConfig { name: PolicyName::LinTs, ..PolicyConfig::default() };
    let mut world = World::open(dir, ScorerConfig { policy, ..config() }).await;
    world.live(count, |tip| if tip == "walk" { 0.7 } else { 0.3 }).await;
    world
}

fn job(world: &World, dir: &std::path::Path, window: Window) -> TeachJob {
    let policy = PolicyConfig { name: PolicyName::LinUcb, ..world.config.policy.clone() };
    let progress_file = dir.join(progress_name(&policy, &window));
    TeachJob { policy, window, progress_file, keep_every: 1_000_000 }
}

#[tokio::test]
async fn a_policy_taught_from_the_log_is_the_one_that_had_been_there_all_along_however_often_it_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    let world = lived(&dir.path().join("log"), 4_500).await;
    let job = job(&world, dir.path(), Window::default());
    let bar = ProgressBar::hidden();
    let teach =
        |go_on: &dyn Fn() -> bool| teach(world.log.clone(), world.brief(), &job, 7, &bar, go_on).unwrap();
    let mut cuts = 0;
    let cut = loop {
        let left = Cell::new(1);
        // One batch at a time, then the process is gone.
        let go_on = || left.replace(left.get() - 1) > 1;
        match teach(&go_on) {
            Some(done) => break done,
            None => cuts += 1,
        }
        assert!(job.progress_file.exists() && cuts < 20);
    };
    assert!(cuts >= 4, "{cuts}");
    forget(&job.progress_file).unwrap();
    forget(&job.progress_file).unwrap();
    let straight = teach(&|| true).unwrap();
    assert!(cut == straight, "cut {cuts} times");
    assert_eq!((straight.version, straight.trained), (4_500, false));
    let taught = straight.taught.clone().unwrap();
    assert_eq!((taught.rewards, taught.own), (4_500, 0));
    assert!(taught.from < taught.to && taught.sum > 0.0);

    let mut learner = Learner::untaught(world.log.clone(), world.brief(), job.policy.clone(), T0).unwrap();
    learner.catch_up().unwrap();
    assert!(learner.state() == straight.state, "the same state as a learner's that read all rewards");

    // What is damaged is made again.
    std::fs::write(&job.progress_file, b"half a file").unwrap();
    assert!(teach(&|| true).unwrap() == straight);
    keep(&job.progress_file, &straight).unwrap();
    assert!(read(&job.progress_file).unwrap() == straight);
    assert!(read(&PathBuf::from("nowhere")).is_err());
}

#[tokio::test]
async fn a_window_is_a_lineage_of_its_own_that_the_shadow_takes_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = lived(&dir.path().join("log"), 300).await;
    let window = Window { from: Some(T0 + 100_000), to: Some(T0 + 200_000) };
    let job = TeachJob { policy: world.config.policy.clone(), ..job(&world, dir.path(), window) };
    let bar = ProgressBar::hidden();
    let trained = teach(world.log.clone(), world.brief(), &job, 7, &bar, || true).unwrap().unwrap();
    assert_eq!((trained.version, trained.trained), (100, true));
    assert!(trained.id.contains('.'), "{}", trained.id);
    assert!(trained.parent.ends_with("@0"), "the snapshot there was: {}", trained.parent);

    let state = world.learning.incumbent().state();
    let now = world.now;
    world.learning.take_up(trained.clone(), now).await.unwrap();
    assert!(world.learning.incumbent().state() == state, "what serves is not touched");
    drop(world);

    let shadow = job.policy.clone();
    let policy = PolicyConfig { name: PolicyName::Uniform, ..PolicyConfig::default() };
    let config = ScorerConfig { policy, shadow: Some(shadow), ..config() };
    let mut world = World::open(&dir.path().join("log"), config).await;
    assert_eq!(world.learning.shadow().unwrap().id().to_string(), trained.id);
    world.now = now;
    world.live(60, |_| 0.5).await;
    assert_eq!(world.learning.shadow().unwrap().version(), 160, "it learns on from there");
    let moments: Vec<_> =
        world.impressions().iter().filter_map(|(_, seen)| replay::Moment::shadow(seen)).collect();
    assert_eq!(moments.len(), 60);
    let again = replay::again(&*world.log, &moments).unwrap();
    assert!(again.iter().all(|a| *a == replay::Again::Equal), "{again:?}");
}

#[tokio::test]
async fn the_set_has_a_row_a_decision_with_what_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let world = lived(&dir.path().join("log"), 120).await;
    let names = world.layout.names().to_vec();
    let output = dir.path().join("set.parquet");
    let window = Window { from: Some(T0 + 21_000), to: None };
    let job = SetJob { window, settle: 10, context: &names, output: &output, memory: 1 << 20 };
    let rows = write(&*world.log, &job, None, &ProgressBar::hidden()).unwrap();
    // The last one was shown when the newest reward was settled.
    assert_eq!(rows, 99);
    let mut input = Input::open(&output, &[]).unwrap();
    for name in ["ctx.v.x", "ctx.time.hour", "action", "propensity", "reward", "user", "shown_at"] {
        input.column(name).unwrap();
    }
    assert!(input.column("ctx.tip.effort").is_err(), "it would tell the choice");
    let batch = input.next().unwrap().unwrap();
    let column = |name: &str| batch.column_by_name(name).unwrap().clone();
    let (users, x) = (column("user"), column("ctx.v.x"));
    for (user, x) in users.as_string::<i32>().iter().zip(x.as_primitive::<arrow::datatypes::Float64Type>()) {
        assert_eq!(x.unwrap(), (user.unwrap().len() % 3) as f64 - 1.0);
    }
    let end = world.log.end(Topic::Rewards);
    assert_eq!(end, Position([(0, 120)].into()));
}
