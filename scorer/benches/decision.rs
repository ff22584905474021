//! One decision among 50 candidates with 32 context values, and one step of learning.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ndarray::Array1;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use scorer::policy::{Action, Observation, Policy, PolicyConfig, PolicyName, Space, build, choose};

const CANDIDATES: usize = 50;
const CONTEXT: usize = 32;
const ACTION: usize = 3;
const GROUPS: usize = 10;

fn tips() -> Vec<(String, String, [f64; ACTION])> {
    (0..CANDIDATES).map(|i| (format!("tip-{i}"), format!("group-{}", i % GROUPS), [0.2, 0.4, 0.1])).collect()
}

fn actions(tips: &[(String, String, [f64; ACTION])]) -> Vec<Action<'_>> {
    tips.iter().map(|(tip, group, features)| Action { tip, group, features }).collect()
}

fn context(rng: &mut SmallRng) -> Array1<f64> {
    Array1::from_shape_fn(CONTEXT, |_| rng.random_range(-1.0..1.0))
}

/// A policy that has seen every tip many times.
fn taught(name: PolicyName, rng: &mut SmallRng) -> Box<dyn Policy> {
    let config = PolicyConfig { name, ..PolicyConfig::default() };
    let mut policy = build(&config, &Space { context: CONTEXT, action: ACTION, groups: Vec::new() });
    let tips = tips();
    for action in actions(&tips).into_iter().cycle().take(2000) {
        let reward = f64::from(u8::from(rng.random::<f64>() < 0.4));
        policy.learn(&Observation { context: context(rng).view(), action, propensity: 0.02, reward });
    }
    policy
}

fn benches(c: &mut Criterion) {
    let mut rng = SmallRng::seed_from_u64(1);
    let tips = tips();
    let actions = actions(&tips);
    for name in PolicyName::ALL {
        let mut policy = taught(name, &mut rng);
        let label = policy.name();
        let snapshot = policy.snapshot();
        let x = context(&mut rng);
        c.bench_function(&format!("decide/{label}"), |b| {
            b.iter(|| choose(&*snapshot, black_box(x.view()), black_box(&actions), &mut rng));
        });
        let mut turn = 0;
        c.bench_function(&format!("learn/{label}"), |b| {
            b.iter(|| {
                turn += 1;
                let action = actions[turn % CANDIDATES];
                policy.learn(&Observation {
                    context: black_box(x.view()),
                    action,
                    propensity: 0.02,
                    reward: 1.0,
                })
            });
        });
        c.bench_function(&format!("publish/{label}"), |b| {
            // One category learned since the last snapshot, as when a single reaction came in.
            b.iter_batched(
                || (),
                |()| {
                    let action = actions[0];
                    policy.learn(&Observation { context: x.view(), action, propensity: 0.02, reward: 0.0 });
                    policy.snapshot()
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(decision, benches);
criterion_main!(decision);
