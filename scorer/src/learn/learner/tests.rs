use std::time::Duration;

use rand::{SeedableRng, rngs::SmallRng};
use tempfile::TempDir;

use super::*;
use crate::{
    Answer, Scorer,
    decide::Request,
    explain::explain,
    feedback::Feedback,
    policy::PolicyName,
    record::ReactionKind,
    testing::{World, config},
};

const MINUTE: Millis = 60_000;

/// Shows `count` tips and reacts to two of three; returns the impressions.
async fn live(world: &World, scorer: &Scorer, count: u64) -> Vec<String> {
    let mut rng = SmallRng::seed_from_u64(count);
    let mut shown = Vec::new();
    for i in 0..count {
        world.pass(1000);
        let user = format!("user-{}", i % 7);
        let answer = scorer.recommend(&user, world.now(), &mut rng, &Request::default()).unwrap();
        let Answer::Tip(decision) = answer else { panic!("silence") };
        let id = decision.impression.clone();
        if i % 3 != 2 {
            let reaction =
                if decision.tip.id == "nap" { ReactionKind::Accepted } else { ReactionKind::Dismissed };
            let feedback = Feedback { impression: id.clone(), reaction, at: None, channel: None };
            scorer.feedback(&feedback, world.now() + 100).await.unwrap();
        }
        shown.push(id);
    }
    shown
}

/// Lets the joiner run until the rewards number `count`.
async fn join(world: &World, count: u64) {
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.joiner().run(stop.clone()));
    wait_until(|| world.log.end(Topic::Rewards).get(0) >= count).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

async fn wait_until(mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited ten seconds in vain");
}

fn rewards(world: &World) -> Vec<Reward> {
    let mut reader = world.log.reader(Topic::Rewards, &[0], &Position::default()).unwrap();
    let mut all = Vec::new();
    loop {
        let records = reader.poll(BATCH).unwrap();
        if records.is_empty() {
            return all;
        }
        all.extend(records.iter().map(|r| Reward::decode(&r.payload[..]).unwrap()));
    }
}

#[tokio::test]
async fn every_impression_has_one_reward_however_often_the_log_is_replayed() {
    let dir = TempDir::new().unwrap();
    let world = World::open(dir.path(), config());
    let shown = live(&world, &world.scorer(&world.learner()), 30).await;
    join(&world, 20).await;
    assert_eq!(rewards(&world).len(), 20, "reactions settle at once, the silent ones wait");
    world.pass(31 * MINUTE);
    join(&world, 30).await;
    let settled = rewards(&world);
    assert_eq!(settled.len(), 30);
    assert_eq!(settled.iter().filter(|r| r.outcome == "ignored").count(), 10);
    assert!(shown.iter().all(|id| settled.iter().any(|r| r.impression == *id)));
    assert!(settled.iter().all(|r| r.propensity > 0.0 && r.names == world.layout.names_hash()));

    // From the very beginning, twice over. Compared as bytes, for missing values are NaN.
    let bytes = |rewards: Vec<Reward>| rewards.iter().map(Reward::encode_to_vec).collect::<Vec<_>>();
    let settled = bytes(settled);
    let done = world.log.committed("scorer-joiner", Topic::Signals).unwrap();
    for _ in 0..2 {
        let from_start = Position(done.0.keys().map(|partition| (*partition, 0)).collect());
        world.log.commit("scorer-joiner", Topic::Signals, &from_start).await.unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(world.joiner().run(stop.clone()));
        wait_until(|| world.log.committed("scorer-joiner", Topic::Signals).unwrap() == done).await;
        stop.cancel();
        running.await.unwrap().unwrap();
        assert!(bytes(rewards(&world)) == settled);
    }
}

#[tokio::test]
async fn a_restart_continues_to_the_bit_where_an_uninterrupted_run_would_be() {
    for name in [PolicyName::LinTs, PolicyName::LinUcb] {
        let dir = TempDir::new().unwrap();
        let mut config = config();
        config.policy.name = name;
        let world = World::open(dir.path(), config);
        let mut interrupted = world.learner();
        let scorer = world.scorer(&interrupted);
        live(&world, &scorer, 24).await;
        world.pass(31 * MINUTE);
        join(&world, 24).await;
        assert_eq!(interrupted.catch_up().unwrap(), 24);
        interrupted.save(world.now()).await.unwrap();
        live(&world, &scorer, 15).await;
        world.pass(31 * MINUTE);
        join(&world, 39).await;
        drop(interrupted);

        let mut resumed = world.learner();
        assert_eq!(resumed.version(), 24, "from the snapshot");
        assert_eq!(resumed.catch_up().unwrap(), 15, "and only the rewards after it");
        let space = Space {
            context: world.layout.context_len(),
            action: world.layout.action_len(),
            groups: vec!["movement".into(), "rest".into()],
        };
        let mut through = world.learner();
        through.policy = policy::build(&world.config.policy, &space);
        through.position = Position::default();
        assert_eq!(through.catch_up().unwrap(), 39);
        assert_eq!(resumed.state(), through.state(), "{name:?}");
        assert_eq!(resumed.version(), 39);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reaction_moves_the_next_decision_at_once_and_can_be_explained() {
    let dir = TempDir::new().unwrap();
    let world = World::open(dir.path(), config());
    let learner = world.learner();
    let (scorer, published) = (world.scorer(&learner), learner.published());
    let stop = CancellationToken::new();
    let tasks = [
        tokio::spawn(world.joiner().run(stop.clone())),
        tokio::spawn(learner.run(world.clock(), stop.clone())),
    ];
    let mut rng = SmallRng::seed_from_u64(3);
    let Answer::Tip(decision) = scorer.recommend("ann", world.now(), &mut rng, &Request::default()).unwrap()
    else {
        panic!("silence")
    };
    let impression = decision.impression.clone();
    let feedback =
        Feedback { impression: impression.clone(), reaction: ReactionKind::Done, at: None, channel: None };
    scorer.feedback(&feedback, world.now() + 50).await.unwrap();
    let began = std::time::Instant::now();
    wait_until(|| published.load().version() == 1).await;
    // The promise is 100 ms; a loaded test machine gets more.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    stop.cancel();
    for task in tasks {
        task.await.unwrap().unwrap();
    }

    let told = explain(&*world.log, &impression).unwrap().unwrap();
    assert_eq!((told.tip.as_str(), told.user.as_str()), (decision.tip.id.as_str(), "ann"));
    assert!(told.replay.same);
    assert_eq!(told.replay.tip.as_deref(), Some(decision.tip.id.as_str()));
    assert_eq!(told.reactions[0].reaction, "done");
    assert_eq!(told.reward.as_ref().unwrap().reward, 1.0);
    assert_eq!(told.policy_version, "0");
    assert_eq!(told.context[2].value, None, "no mood");
    let text = told.to_string();
    for part in [impression.as_str(), "gives the same tip", "(done)", "v.steps_24h", "lints"] {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
    assert!(serde_json::to_string(&told).unwrap().contains("\"shown_at\":\"2023-11-14T"));
    assert_eq!(explain(&*world.log, "nowhere").unwrap(), None);

    // The learner saved itself at the end.
    assert_eq!(world.learner().version(), 1);
}

#[tokio::test]
async fn what_was_shown_is_remembered_across_a_restart() {
    let dir = TempDir::new().unwrap();
    let world = World::open(dir.path(), config());
    let shown = live(&world, &world.scorer(&world.learner()), 9).await;
    join(&world, 6).await;
    let config = world.config.clone();
    drop(world);
    let world = World::open(dir.path(), config);
    // Settled ones come from the rewards, open ones as the joiner reads them again.
    assert!(world.memory.shown(&shown[0]).is_some());
    assert!(world.memory.shown(&shown[2]).is_none());
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.joiner().run(stop.clone()));
    wait_until(|| shown.iter().all(|id| world.memory.shown(id).is_some())).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn rewards_seen_through_another_context_are_left_out() {
    let dir = TempDir::new().unwrap();
    let world = World::open(dir.path(), config());
    live(&world, &world.scorer(&world.learner()), 6).await;
    join(&world, 4).await;
    let mut changed = config();
    changed.context.features.pop();
    let layout = Layout::new(&changed.context, &crate::testing::tips()).unwrap();
    let mut learner = Learner::restore(world.log.clone(), &changed, Arc::new(layout), vec![], 0).unwrap();
    assert_eq!(learner.catch_up().unwrap(), 4);
    assert_eq!(learner.version(), 0);
}

#[tokio::test]
async fn scores_are_kept_by_policy() {
    let dir = TempDir::new().unwrap();
    let world = World::open(dir.path(), ScorerConfig { control_share: 0.5, ..config() });
    live(&world, &world.scorer(&world.learner()), 21).await;
    join(&world, 14).await;
    let mut learner = world.learner();
    learner.catch_up().unwrap();
    let totals = learner.scoreboard().totals();
    assert_eq!(totals.values().map(|s| s.rewards).sum::<u64>(), 14);
    assert_eq!(totals.len(), 2, "{totals:?}");
    assert!(totals.values().all(|s| s.sum == s.accepted as f64));
}
