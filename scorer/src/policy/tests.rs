use ndarray::Array1;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;

const CONTEXT: usize = 6;
const GROUPS: usize = 4;
const TIPS: usize = 6;

/// A world with linear tastes: each group's worth depends on the context, each tip adds a bit.
struct World {
    tips: Vec<(String, String)>,
    taste: Vec<Array1<f64>>,
    charm: Vec<f64>,
}

impl World {
    fn new(rng: &mut SmallRng) -> World {
        let tips = (0..GROUPS * TIPS).map(|i| (format!("tip-{i}"), format!("group-{}", i / TIPS))).collect();
        let taste =
            (0..GROUPS).map(|_| Array1::from_shape_fn(CONTEXT, |_| rng.random_range(-0.25..0.25))).collect();
        let charm = (0..GROUPS * TIPS).map(|_| rng.random_range(-0.1..0.1)).collect();
        World { tips, taste, charm }
    }

    fn worth(&self, context: &Array1<f64>, tip: usize) -> f64 {
        (0.4 + self.taste[tip / TIPS].dot(context) + self.charm[tip]).clamp(0.0, 1.0)
    }

    fn actions(&self) -> Vec<Action<'_>> {
        self.tips.iter().map(|(tip, group)| Action { tip, group, features: &[] }).collect()
    }
}

fn space() -> Space {
    Space { context: CONTEXT, action: 0, groups: (0..GROUPS).map(|g| format!("group-{g}")).collect() }
}

fn config(name: PolicyName) -> PolicyConfig {
    PolicyConfig { name, ..PolicyConfig::default() }
}

fn context(rng: &mut SmallRng) -> Array1<f64> {
    Array1::from_shape_fn(CONTEXT, |_| rng.random_range(-1.0..1.0))
}

/// Lets a policy act for `rounds`; returns its regret in the second half.
fn play(policy: &mut dyn Policy, rounds: usize, seed: u64) -> f64 {
    let mut rng = SmallRng::seed_from_u64(seed);
    let world = World::new(&mut rng);
    let actions = world.actions();
    let mut regret = 0.0;
    let mut snapshot = policy.snapshot();
    for round in 0..rounds {
        let x = context(&mut rng);
        let choice = choose(&*snapshot, x.view(), &actions, &mut rng).unwrap();
        let worth = world.worth(&x, choice.index);
        if round >= rounds / 2 {
            regret += (0..actions.len()).map(|a| world.worth(&x, a)).fold(0.0, f64::max) - worth;
        }
        let reward = f64::from(u8::from(rng.random::<f64>() < worth));
        let (action, propensity) = (actions[choice.index], choice.propensity());
        assert!(policy.learn(&Observation { context: x.view(), action, propensity, reward }));
        if round % 20 == 0 {
            snapshot = policy.snapshot();
        }
    }
    regret
}

#[test]
fn linear_policies_learn_a_linear_world() {
    let rounds = 3000;
    let uniform: f64 = (0..2).map(|seed| play(&mut Uniform, rounds, seed)).sum();
    let learners = PolicyName::ALL.into_iter().filter(|name| {
        // Actions without features are all one to a model that knows them by their features.
        !matches!(name, PolicyName::Uniform | PolicyName::LinUcbShared)
    });
    for name in learners {
        let regret: f64 = (0..2).map(|seed| play(&mut *build(&config(name), &space()), rounds, seed)).sum();
        let share = match name {
            PolicyName::Pool | PolicyName::LinUcb | PolicyName::LinTs => 0.3,
            PolicyName::LinUcbDisjoint => 0.7,
            _ => 0.6,
        };
        assert!(regret < share * uniform, "{name:?} lost {regret:.0}, uniform {uniform:.0}");
    }
}

fn taught(name: PolicyName, rounds: usize) -> Box<dyn Policy> {
    let mut policy = build(&config(name), &space());
    play(&mut *policy, rounds, 7);
    policy
}

#[test]
fn propensities_are_the_frequencies_of_draws() {
    let mut rng = SmallRng::seed_from_u64(3);
    let world = World::new(&mut rng);
    let actions = world.actions();
    for name in PolicyName::ALL {
        // A floor high enough that every candidate is expected often.
        let mut policy = build(&PolicyConfig { floor: 0.2, ..config(name) }, &space());
        play(&mut *policy, 200, 7);
        let snapshot = policy.snapshot();
        let x = context(&mut rng);
        let expected = snapshot.distribution(x.view(), &actions).propensities;
        let draws = 8000;
        let mut seen = vec![0u32; actions.len()];
        for _ in 0..draws {
            let choice = choose(&*snapshot, x.view(), &actions, &mut rng).unwrap();
            assert_eq!(choice.propensity(), expected[choice.index]);
            seen[choice.index] += 1;
        }
        let chi: f64 = expected
            .iter()
            .zip(&seen)
            .map(|(p, n)| {
                let e = p * f64::from(draws);
                (f64::from(*n) - e).powi(2) / e
            })
            .sum();
        // 23 degrees of freedom: a true distribution exceeds 50 once in a thousand.
        assert!(chi < 50.0, "{name:?}: chi-square {chi:.1}");
    }
}

#[test]
fn every_draw_of_a_snapshot_wins_where_its_own_weights_say() {
    // With one group, no floor and known tips, the winner under draw k can be recomputed from many
    // single-candidate comparisons: pairwise propensities must agree with the full decision's ordering.
    let mut config = config(PolicyName::LinTs);
    (config.floor, config.floor_start) = (0.0, 0.0);
    let mut policy = build(&config, &space());
    play(&mut *policy, 300, 5);
    let snapshot = policy.snapshot();
    let mut rng = SmallRng::seed_from_u64(9);
    let world = World::new(&mut rng);
    let actions = world.actions();
    let x = context(&mut rng);
    let all = snapshot.distribution(x.view(), &actions).propensities;
    for (i, p) in all.iter().enumerate() {
        // Winning against all implies winning against any one.
        for j in (0..actions.len()).filter(|j| *j != i) {
            let pair = snapshot.distribution(x.view(), &[actions[i], actions[j]]).propensities;
            assert!(pair[0] + 1e-12 >= *p);
        }
        let in_64ths = p * DRAWS as f64;
        assert!((in_64ths - in_64ths.round()).abs() < 1e-9);
    }
}

#[test]
fn save_and_load_and_go_on_equals_an_uninterrupted_run() {
    for name in PolicyName::ALL {
        let mut through = taught(name, 150);
        let mut resumed = build(&config(name), &space());
        resumed.load(&through.save()).unwrap();
        play(&mut *through, 100, 11);
        play(&mut *resumed, 100, 11);
        assert_eq!(through.save(), resumed.save(), "{name:?}");
        let mut rng = SmallRng::seed_from_u64(1);
        let world = World::new(&mut rng);
        let x = context(&mut rng);
        let decide = |p: &mut dyn Policy| p.snapshot().distribution(x.view(), &world.actions());
        assert_eq!(decide(&mut *through), decide(&mut *resumed), "{name:?}");
    }
}

#[test]
fn a_snapshot_does_not_depend_on_when_others_were_taken() {
    let mut often = build(&config(PolicyName::LinTs), &space());
    let mut once = build(&config(PolicyName::LinTs), &space());
    let mut rng = SmallRng::seed_from_u64(4);
    let world = World::new(&mut rng);
    for i in 0..60 {
        let x = context(&mut rng);
        let action = world.actions()[i % 24];
        let seen = Observation { context: x.view(), action, propensity: 0.1, reward: (i % 3) as f64 / 2.0 };
        often.learn(&seen);
        often.snapshot();
        once.learn(&seen);
    }
    let x = context(&mut rng);
    assert_eq!(
        often.snapshot().distribution(x.view(), &world.actions()),
        once.snapshot().distribution(x.view(), &world.actions())
    );
}

#[test]
fn a_damaged_or_foreign_state_is_refused_and_changes_nothing() {
    let mut policy = taught(PolicyName::LinTs, 50);
    let before = policy.save();
    let mut cut = before.clone();
    cut.truncate(before.len() / 2);
    assert!(policy.load(&cut).is_err());
    assert_eq!(policy.save(), before);
    let mut pool = taught(PolicyName::Pool, 50);
    let before = pool.save();
    for end in [1, before.len() / 3, before.len() / 2, before.len() - 1] {
        assert!(pool.load(&before[..end]).is_err());
        assert_eq!(pool.save(), before);
    }
}

#[test]
fn a_tip_never_shown_takes_its_groups_score() {
    let mut policy = build(&config(PolicyName::LinUcb), &space());
    let x = Array1::from_elem(CONTEXT, 0.1);
    for i in 0..100 {
        let group = ["group-0", "group-1"][i % 2];
        let action = Action { tip: ["a", "b"][i % 2], group, features: &[] };
        policy.learn(&Observation { context: x.view(), action, propensity: 0.5, reward: (i % 2) as f64 });
    }
    let new = |group| Action { tip: "new", group, features: &[] };
    let scores =
        policy.snapshot().distribution(x.view(), &[new("group-0"), new("group-1"), new("elsewhere")]).scores;
    assert!(scores[1] > scores[0] + 0.3, "{scores:?}");
    assert!(scores.iter().all(|s| s.is_finite()));
}

#[test]
fn what_is_no_number_is_not_learned() {
    let action = Action { tip: "t", group: "g", features: &[] };
    let wild = Array1::from_elem(CONTEXT, f64::NAN);
    let tame = Array1::zeros(CONTEXT);
    for name in PolicyName::ALL.into_iter().filter(|n| *n != PolicyName::Uniform) {
        let mut policy = build(&config(name), &space());
        let before = policy.save();
        assert!(!policy.learn(&Observation { context: wild.view(), action, propensity: 1.0, reward: 1.0 }));
        let reward = f64::INFINITY;
        assert!(!policy.learn(&Observation { context: tame.view(), action, propensity: 1.0, reward }));
        assert_eq!(policy.save(), before, "{name:?}");
    }
}

#[test]
fn inputs_may_join_while_it_learns() {
    let mut rng = SmallRng::seed_from_u64(6);
    for name in PolicyName::ALL {
        let mut policy = build(&config(name), &Space::default());
        let features = [1.0, -1.0, 0.5];
        for i in 0..300 {
            let x = Array1::from_shape_fn(i / 50, |_| rng.random_range(-1.0..1.0));
            let tip = ["a", "b", "c"][i % 3];
            let action = Action { tip, group: tip, features: &features[..i / 100] };
            let choice = choose(&*policy.snapshot(), x.view(), &[action], &mut rng).unwrap();
            assert!(choice.distribution.scores[0].is_finite(), "{name:?}");
            let reward = f64::from(u8::from(i % 3 == 0));
            assert!(policy.learn(&Observation { context: x.view(), action, propensity: 1.0, reward }));
        }
        let all = ["a", "b", "c"].map(|tip| Action { tip, group: tip, features: &features });
        let x = Array1::zeros(9);
        let scores = policy.snapshot().distribution(x.view(), &all).scores;
        assert!(scores.iter().all(|s| s.is_finite()), "{name:?}");
        if !matches!(name, PolicyName::Uniform | PolicyName::LinUcbShared) {
            assert!(scores[0] > scores[1] && scores[0] > scores[2], "{name:?}: {scores:?}");
        }
    }
}

#[test]
fn a_tip_never_shown_is_known_by_its_features() {
    let mut rng = SmallRng::seed_from_u64(8);
    for name in [PolicyName::Pool, PolicyName::LinUcbShared] {
        let mut policy = build(&config(name), &Space::default());
        let x = Array1::zeros(0);
        for i in 0..400 {
            let features = [rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0)];
            let tip = format!("tip-{i}");
            let action = Action { tip: &tip, group: &tip, features: &features };
            let reward = f64::from(u8::from(rng.random::<f64>() < 0.5 + 0.4 * features[0]));
            policy.learn(&Observation { context: x.view(), action, propensity: 1.0, reward });
        }
        let new = |tip, features| Action { tip, group: tip, features };
        let actions = [new("good", &[0.9, 0.0][..]), new("bad", &[-0.9, 0.0][..])];
        let found = policy.snapshot().distribution(x.view(), &actions);
        assert!(found.propensities[0] > 0.9, "{name:?}: {found:?}");
    }
}

#[test]
fn the_pool_recovers_from_a_change_of_the_world() {
    let mut rng = SmallRng::seed_from_u64(10);
    let mut policy = build(&config(PolicyName::Pool), &Space::default());
    let actions = ["a", "b", "c", "d"].map(|tip| Action { tip, group: tip, features: &[] });
    let mut late = 0.0;
    for round in 0..4000 {
        let x = context(&mut rng);
        let best = usize::from(x[0] > 0.0) + 2 * usize::from(round >= 2000);
        let choice = choose(&*policy.snapshot(), x.view(), &actions, &mut rng).unwrap();
        let reward = f64::from(u8::from(choice.index == best));
        let (action, propensity) = (actions[choice.index], choice.propensity());
        policy.learn(&Observation { context: x.view(), action, propensity, reward });
        late += if round >= 2500 { reward / 1500.0 } else { 0.0 };
    }
    assert!(late > 0.85, "{late}");
}

#[test]
fn actions_that_never_come_twice_need_no_more_memory() {
    let mut policy = build(&config(PolicyName::Pool), &Space::default());
    let x = Array1::zeros(0);
    let mut sizes = Vec::new();
    for i in 0..2600 {
        let tip = format!("tip-{i:05}");
        let action = Action { tip: &tip, group: &tip, features: &[] };
        assert!(policy.learn(&Observation { context: x.view(), action, propensity: 1.0, reward: 0.5 }));
        if i % 1300 == 1299 {
            sizes.push(policy.save().len());
        }
    }
    assert!(sizes[1] < sizes[0] + 4096, "{sizes:?}");
}

#[test]
fn a_slate_takes_each_action_once_by_its_place() {
    let mut rng = SmallRng::seed_from_u64(3);
    let world = World::new(&mut rng);
    let actions = world.actions();
    let snapshot = taught(PolicyName::LinTs, 100).snapshot();
    let x = context(&mut rng);
    let slate = choose_slate(&*snapshot, x.view(), &actions, 5, &mut rng);
    assert_eq!(slate.len(), 5);
    let mut taken: Vec<usize> = Vec::new();
    for choice in &slate {
        let sum: f64 = choice.distribution.propensities.iter().sum();
        assert!((sum - 1.0).abs() < 1e-12 && choice.propensity() > 0.0);
        assert!(taken.iter().all(|i| choice.distribution.propensities[*i] == 0.0));
        taken.push(choice.index);
    }
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), 5);
    assert_eq!(choose_slate(&*snapshot, x.view(), &actions[..2], 5, &mut rng).len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn probabilities_are_positive_and_sum_to_one(
        seed in any::<u64>(), rounds in 0usize..60, n in 1usize..24, name in 0..PolicyName::ALL.len(),
    ) {
        let name = PolicyName::ALL[name];
        let mut policy = build(&config(name), &space());
        play(&mut *policy, rounds, seed);
        let mut rng = SmallRng::seed_from_u64(seed);
        let world = World::new(&mut rng);
        let x = context(&mut rng);
        let found = policy.snapshot().distribution(x.view(), &world.actions()[..n]);
        prop_assert_eq!(found.propensities.len(), n);
        prop_assert!(found.propensities.iter().all(|p| *p > 0.0));
        prop_assert!((found.propensities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_draw_falls_where_the_sums_say(weights in prop::collection::vec(0.01f64..1.0, 1..20), draw in 0.0f64..1.0) {
        let total: f64 = weights.iter().sum();
        let propensities: Vec<f64> = weights.iter().map(|w| w / total).collect();
        let at = Distribution { scores: vec![], propensities: propensities.clone() }.at(draw).unwrap();
        let below: f64 = propensities[..at].iter().sum();
        prop_assert!(below <= draw + 1e-12 && draw < below + propensities[at] + 1e-12);
    }
}

#[test]
fn nothing_to_choose_from_is_no_choice() {
    let mut rng = SmallRng::seed_from_u64(0);
    let x = Array1::zeros(CONTEXT);
    for name in PolicyName::ALL {
        assert!(choose(&*build(&config(name), &space()).snapshot(), x.view(), &[], &mut rng).is_none());
    }
}
