use std::time::Duration;

use ingest::log::Position;
use prost::Message;
use rand::{SeedableRng, rngs::SmallRng};
use tempfile::TempDir;

mod following;

use super::{
    super::{
        GoOn, StateId,
        replay::{self, Again, Moment},
    },
    *,
};
use crate::{
    Answer, Scorer,
    context::Layout,
    decide::Request,
    explain::explain,
    feedback::Feedback,
    policy::PolicyName,
    record::{ReactionKind, Reward, SavedPolicy, Serving},
    testing::{World, config},
};

const MINUTE: Millis = 60_000;

/// Shows `count` tips and reacts to two of three; returns the impressions.
async fn live(world: &World, scorer: &Scorer, count: u64) -> Vec<String> {
    let mut rng = SmallRng::seed_from_u64(count ^ world.now() as u64);
    let mut shown = Vec::new();
    for i in 0..count {
        world.pass(1000);
        let user = format!("user-{}", i % 7);
        let answer = scorer.recommend(&user, world.now(), &mut rng, &Request::default()).await.unwrap();
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
        let policy = world.config.policy.clone();
        let mut through = Learner::untaught(world.log.clone(), world.brief(), policy, world.now()).unwrap();
        assert_eq!(through.catch_up().unwrap(), 39);
        assert_eq!(resumed.state(), through.state(), "{name:?}");
        assert_eq!(resumed.version(), 39);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reaction_moves_the_next_decision_at_once_and_can_be_explained() {
    let dir = TempDir::new().unwrap();
    let world = World::open(dir.path(), config());
    let learning = world.learning();
    let published = learning.published();
    let scorer = world.scorer_of(published.clone(), None);
    let stop = CancellationToken::new();
    let tasks = [
        tokio::spawn(world.joiner().run(stop.clone())),
        tokio::spawn(learning.run(world.clock(), stop.clone())),
    ];
    let mut rng = SmallRng::seed_from_u64(3);
    let answer = scorer.recommend("ann", world.now(), &mut rng, &Request::default()).await.unwrap();
    let Answer::Tip(decision) = answer else { panic!("silence") };
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
    for part in [impression.as_str(), "gives the same tip", "(done)", "v.steps_24h", "pool"] {
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
    let layout = Arc::new(Layout::new(&changed.context, &crate::testing::tips()).unwrap());
    let brief = Arc::new(Brief { layout, ..(*world.brief()).clone() });
    let mut learner = Learner::restore(world.log.clone(), brief, changed.policy, GoOn::Untrained, 0).unwrap();
    assert_eq!(learner.catch_up().unwrap(), 4);
    assert_eq!(learner.version(), 0);
}

#[tokio::test]
async fn scores_are_kept_by_policy() {
    let dir = TempDir::new().unwrap();
    let world = World::open(dir.path(), ScorerConfig { control_share: 0.5, ..config() });
    live(&world, &world.scorer(&world.learner()), 21).await;
    join(&world, 14).await;
    let mut learning = world.learning();
    let scores = learning.scoreboard();
    let mut reader = world.log.reader(Topic::Rewards, &[0], &Position::default()).unwrap();
    learning.learn(&reader.poll(BATCH).unwrap());
    let totals = scores.totals();
    assert_eq!(totals.values().map(|s| s.rewards).sum::<u64>(), 14);
    assert_eq!(totals.len(), 2, "{totals:?}");
    assert!(totals.values().all(|s| s.sum == s.accepted as f64));
}

fn with_shadow() -> ScorerConfig {
    let mut config = config();
    config.policy.name = PolicyName::LinTs;
    config.shadow = Some(PolicyConfig { name: PolicyName::LinUcb, ..PolicyConfig::default() });
    config
}

/// Shows tips under `learning`, settles all of them, and lets it learn.
async fn live_and_learn(world: &World, learning: &mut Learning, count: u64) -> Vec<String> {
    let scorer = world.scorer_of(learning.published(), learning.published_shadow());
    let before = world.log.end(Topic::Rewards).get(0);
    let shown = live(world, &scorer, count).await;
    world.pass(31 * MINUTE);
    join(world, before + count).await;
    learning.catch_up().unwrap();
    shown
}

async fn promote(learning: &mut Learning, now: Millis) -> Result<Serving, ScorerError> {
    let shadow = learning.shadow().map_or(0, |s| s.id().policy);
    learning.promote(shadow, "ann".into(), "{}".into(), now).await
}

fn served(learning: &Learning) -> (String, u64) {
    let served = learning.incumbent().served();
    (served.name, served.version)
}

#[tokio::test]
async fn a_promotion_holds_for_this_process_and_the_next_and_is_undone_by_one_order() {
    let dir = TempDir::new().unwrap();
    let world = World::open(dir.path(), with_shadow());
    let mut learning = world.learning();
    live_and_learn(&world, &mut learning, 12).await;
    assert_eq!(served(&learning), ("lints".into(), 12));
    let before = learning.incumbent().state();
    let other = learning.promote(1, "ann".into(), "{}".into(), world.now()).await.unwrap_err();
    assert!(other.to_string().contains("judge this one first"), "{other}");

    let change = promote(&mut learning, world.now()).await.unwrap();
    assert_eq!((change.by.as_str(), change.policy.unwrap().name.as_str()), ("ann", "linucb"));
    assert_eq!(learning.published().load().name(), "linucb");
    let shadow = learning.published_shadow().unwrap();
    assert_eq!(shadow.load().name(), "lints", "what served goes on in the shadow");
    assert!(!shadow.load().challenger, "and no experiment shows it");
    live_and_learn(&world, &mut learning, 9).await;
    assert_eq!(served(&learning), ("linucb".into(), 21));

    // As after kill -9: nothing was saved since.
    let mut learning = world.learning();
    assert_eq!(served(&learning), ("linucb".into(), 21));
    assert_eq!(learning.shadow().unwrap().version(), 21);

    world.pass(1);
    learning.roll_back(None, "ann".into(), world.now()).await.unwrap();
    assert_eq!(served(&learning), ("lints".into(), 12), "the snapshot that served");
    assert_eq!(learning.incumbent().state(), before, "to the bit");
    assert!(learning.published_shadow().unwrap().load().challenger);
    live_and_learn(&world, &mut learning, 6).await;
    assert_eq!(served(&learning), ("lints".into(), 18), "it learns on from what comes now");
    learning.save(world.now()).await.unwrap();
    assert_eq!(served(&world.learning()), ("lints".into(), 18));
    let actions: Vec<String> =
        registry::changes(&*world.log).unwrap().into_iter().map(|c| c.action).collect();
    assert_eq!(actions, ["promoted", "rolled back"]);
}

#[tokio::test]
async fn a_return_names_its_version_or_takes_the_one_before_and_another_configuration_wins() {
    let dir = TempDir::new().unwrap();
    let world = World::open(dir.path(), config());
    let mut learning = world.learning();
    let none = learning.roll_back(None, "ann".into(), world.now()).await.unwrap_err();
    assert!(none.to_string().contains("no earlier snapshot"), "{none}");
    let none = promote(&mut learning, world.now()).await.unwrap_err();
    assert!(none.to_string().contains("scorer.shadow"), "{none}");
    for _ in 0..3 {
        live_and_learn(&world, &mut learning, 6).await;
        learning.save(world.now()).await.unwrap();
    }
    learning.roll_back(Some(6), "ann".into(), world.now()).await.unwrap();
    assert_eq!(served(&learning).1, 6);
    world.pass(1);
    learning.roll_back(None, "ann".into(), world.now()).await.unwrap();
    assert_eq!(served(&learning).1, 18, "the second undoes the first");
    let none = learning.roll_back(Some(7), "ann".into(), world.now()).await.unwrap_err();
    assert!(none.to_string().contains("version 7"), "{none}");

    let mut other = config();
    other.policy.name = PolicyName::LinUcb;
    let learning = Learning::open(world.log.clone(), &other, world.brief(), world.now()).unwrap();
    assert_eq!(learning.incumbent().served().name, "linucb");
}

#[tokio::test]
async fn decisions_of_both_policies_are_computed_again_to_the_bit() {
    let dir = TempDir::new().unwrap();
    let world = World::open(dir.path(), with_shadow());
    let mut learning = world.learning();
    let mut shown = Vec::new();
    learning.save(world.now()).await.unwrap();
    for _ in 0..3 {
        shown.extend(live_and_learn(&world, &mut learning, 5).await);
    }
    promote(&mut learning, world.now()).await.unwrap();
    shown.extend(live_and_learn(&world, &mut learning, 5).await);
    learning.roll_back(None, "ann".into(), world.now()).await.unwrap();
    shown.extend(live_and_learn(&world, &mut learning, 5).await);
    for id in &shown {
        let told = explain(&*world.log, id).unwrap().unwrap();
        assert_eq!(told.replay.again, Again::Equal, "{told}");
        let shadow = told.shadow.unwrap();
        assert_eq!(shadow.again, Again::Equal);
        assert_ne!(shadow.policy, told.policy);
    }
    let told = explain(&*world.log, &shown[19]).unwrap().unwrap();
    assert_eq!((told.policy.as_str(), told.policy_version.as_str()), ("linucb", "15"));

    // One bit in a probability, or another tip drawn, is seen.
    let mut moments = moments(&world, &shown[12]);
    let [decision, shadow] = &mut moments[..] else { panic!("a decision and its shadow") };
    decision.propensities[0] = f64::from_bits(decision.propensities[0].to_bits() + 1);
    shadow.drawn = Some((shadow.drawn.clone().unwrap().0, "another".into()));
    let again = replay::again(&*world.log, &moments).unwrap();
    assert!(again.iter().all(|a| matches!(a, Again::Differs { .. })), "{again:?}");
    moments[0].state = Some(StateId { policy: 1, lineage: 0 });
    assert!(matches!(replay::again(&*world.log, &moments).unwrap()[0], Again::Impossible { .. }));

    // Whoever is erased takes the shadow's record along, and what was learned from them cannot be repeated.
    let ids: Vec<_> = shown.iter().map(|id| explain(&*world.log, id).unwrap().unwrap().user).collect();
    world.log.erase(&ids[0]).await.unwrap();
    assert_eq!(explain(&*world.log, &shown[0]).unwrap(), None);
    let left = shown.iter().zip(&ids).filter(|(_, user)| **user != ids[0]);
    let again = left.map(|(id, _)| explain(&*world.log, id).unwrap().unwrap().replay.again);
    assert!(again.clone().all(|a| !matches!(a, Again::Differs { .. })), "{:?}", again.collect::<Vec<_>>());
    decision_of_another_state(&world, &shown[12]);
}

/// What does not come out the same after an erasure is not called different, for nobody can know.
fn decision_of_another_state(world: &World, id: &str) {
    let mut moments = moments(world, id);
    moments[0].propensities[0] = f64::from_bits(moments[0].propensities[0].to_bits() + 1);
    let again = replay::again(&*world.log, &moments).unwrap().remove(0);
    let Again::Impossible { why } = again else { panic!("{again:?}") };
    assert!(why.contains("erased"), "{why}");
}

fn moments(world: &World, id: &str) -> Vec<Moment> {
    let mut found = Vec::new();
    let partitions: Vec<u32> = (0..world.log.partitions(Topic::Signals)).collect();
    let mut reader = world.log.reader(Topic::Signals, &partitions, &Position::default()).unwrap();
    loop {
        let records = reader.poll(BATCH).unwrap();
        if records.is_empty() {
            return found;
        }
        for record in records {
            let signal = ingest::record::RecordRef::decode(&record.subject, &record.payload).unwrap();
            if signal.id == id {
                let seen = crate::record::Impression::decode(signal.data).unwrap();
                found = vec![Moment::decision(&seen), Moment::shadow(&seen).unwrap()];
            }
        }
    }
}

#[tokio::test]
async fn a_large_state_goes_through_the_log_in_parts_and_damage_is_told() {
    let dir = TempDir::new().unwrap();
    let world = World::open(dir.path(), config());
    let state: Vec<u8> = (0..2_500_000u32).map(|i| (i % 251) as u8).collect();
    let saved = |version| SavedPolicy {
        name: "large".into(),
        version,
        fingerprint: 9,
        id: "9".into(),
        state: state.clone(),
        taken_at: 5,
        ..SavedPolicy::default()
    };
    registry::write(&*world.log, saved(1)).await.unwrap();
    registry::write(&*world.log, saved(2)).await.unwrap();
    let read = registry::latest(&*world.log, "large", 9, |_| true).unwrap().unwrap();
    assert_eq!((read.version, read.state == state), (2, true));
    assert_eq!(registry::nearest(&*world.log, "9", 1).unwrap().unwrap().version, 1);
    let broken = SavedPolicy { parts: 9, first_part: 0, state: vec![], bytes: 1, ..saved(3) };
    let why = registry::load_state(&*world.log, broken).unwrap_err().to_string();
    assert!(why.contains("not whole"), "{why}");
}

#[tokio::test]
async fn the_pool_and_its_shadow_go_on_after_a_restart_and_are_computed_again_to_the_bit() {
    let dir = TempDir::new().unwrap();
    let mut config = config();
    config.policy.name = PolicyName::Pool;
    config.shadow = Some(PolicyConfig { name: PolicyName::SquareCb, ..PolicyConfig::default() });
    let world = World::open(dir.path(), config);
    let mut learning = world.learning();
    learning.save(world.now()).await.unwrap();
    let mut shown = Vec::new();
    for _ in 0..3 {
        shown.extend(live_and_learn(&world, &mut learning, 7).await);
    }
    learning.save(world.now()).await.unwrap();
    let mut learning = world.learning();
    shown.extend(live_and_learn(&world, &mut learning, 7).await);
    promote(&mut learning, world.now()).await.unwrap();
    shown.extend(live_and_learn(&world, &mut learning, 7).await);
    for id in &shown {
        let told = explain(&*world.log, id).unwrap().unwrap();
        assert_eq!(told.replay.again, Again::Equal, "{told}");
        assert_eq!(told.shadow.unwrap().again, Again::Equal);
    }
}
