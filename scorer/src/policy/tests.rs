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
    for name in [PolicyName::LinUcb, PolicyName::LinTs] {
        let regret: f64 = (0..2).map(|seed| play(&mut *build(&config(name), &space()), rounds, seed)).sum();
        assert!(regret < 0.3 * uniform, "{name:?} lost {regret:.0}, uniform {uniform:.0}");
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
    for name in [PolicyName::Uniform, PolicyName::LinUcb, PolicyName::LinTs] {
        let snapshot = taught(name, 200).snapshot();
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
    for name in [PolicyName::LinUcb, PolicyName::LinTs] {
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
    let mut other = build(&config(PolicyName::LinTs), &Space { context: 3, action: 0, groups: vec![] });
    assert!(policy.load(&other.save()).is_err());
    assert!(other.load(&before).is_err());
    assert_eq!(policy.save(), before);
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
fn observations_of_the_wrong_shape_or_size_are_not_learned() {
    let mut policy = build(&config(PolicyName::LinTs), &space());
    let before = policy.save();
    let action = Action { tip: "t", group: "g", features: &[] };
    let short = Array1::zeros(2);
    assert!(!policy.learn(&Observation { context: short.view(), action, propensity: 1.0, reward: 1.0 }));
    let wild = Array1::from_elem(CONTEXT, f64::NAN);
    assert!(!policy.learn(&Observation { context: wild.view(), action, propensity: 1.0, reward: 1.0 }));
    assert_eq!(policy.save(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn probabilities_are_positive_and_sum_to_one(
        seed in any::<u64>(), rounds in 0usize..60, n in 1usize..24, name in 0usize..3,
    ) {
        let name = [PolicyName::Uniform, PolicyName::LinUcb, PolicyName::LinTs][name];
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
    for name in [PolicyName::Uniform, PolicyName::LinUcb, PolicyName::LinTs] {
        assert!(choose(&*build(&config(name), &space()).snapshot(), x.view(), &[], &mut rng).is_none());
    }
}
