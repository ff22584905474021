//! Policies of ours as targets.

use rand::Rng;
use scorer::policy::{PolicyConfig, PolicyName};

use super::*;

fn judge_policy(name: PolicyName, text: &str, options: &Options) -> FileEvaluation {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("log.jsonl");
    std::fs::write(&file, text).unwrap();
    let config = PolicyConfig { name, ..PolicyConfig::default() };
    evaluate_file(&file, Some(&config), options, &mut SmallRng::seed_from_u64(3), &mut |_| {}).unwrap()
}

#[test]
fn the_uniform_policy_is_judged_by_hand() {
    // At position 1 there are two actions, at position 2 there is one: weights 2, 0.5, 1.
    let text = r#"{"action": "a", "propensity": 0.25, "reward": 1, "position": 1, "target.a": "of no matter"}
{"action": "b", "propensity": 1.0, "reward": 0.5, "position": 1}
{"action": "c", "propensity": 1.0, "reward": 1, "position": 2}
"#;
    let found = judge_policy(PolicyName::Uniform, text, &options());
    assert_eq!((found.judgement.target.as_str(), found.judgement.rows), ("uniform", 3));
    near(value(&found, Estimator::Ips), (2.0 + 0.25 + 1.0) / 3.0);
    near(found.judgement.diagnostics.support, 1.0);
    let with_model =
        text.replace(", \"position\"", ", \"model\": {\"a\": 0.8, \"b\": 0.4, \"c\": 0.5}, \"position\"");
    let found = judge_policy(PolicyName::Uniform, &with_model, &options());
    assert_eq!(found.model, "file");
    near(value(&found, Estimator::Dm), (0.6 + 0.6 + 0.5) / 3.0);
}

/// A uniform log of three actions; `reward` tells the worth of an action in a context from 0 to 1.
fn uniform_log(rows: usize, rng: &mut SmallRng, reward: impl Fn(f64, usize) -> f64) -> String {
    let mut text = String::new();
    for row in 0..rows {
        let (x, action) = (rng.random::<f64>(), rng.random_range(0..3));
        let won = rng.random::<f64>() < reward(x, action);
        text += &format!(
            "{{\"action\":{action},\"propensity\":{},\"reward\":{won},\"ctx\":{{\"x\":{x},\"who\":\"{row}\"}}}}\n",
            1.0 / 3.0
        );
    }
    text
}

#[test]
fn a_policy_that_learns_beats_the_uniform_log() {
    let mut rng = SmallRng::seed_from_u64(8);
    let worth = |x: f64, action: usize| [0.5, 0.1 + 0.8 * x, 0.9 - 0.8 * x][action];
    let text = uniform_log(1_500, &mut rng, worth);
    let found = judge_policy(PolicyName::LinUcb, &text, &options());
    let gain = found.judgement.gain.unwrap();
    // The best choice earns 0.7 on average, the log 0.5.
    assert!(gain.bootstrap.unwrap().low > 0.05 && gain.value < 0.25, "{gain:?}");
}

#[test]
fn no_policy_is_judged_by_what_it_learned_from() {
    // Every row has a name of its own, and rewards are a coin: who remembers rows would win, who foresees cannot.
    let mut rng = SmallRng::seed_from_u64(9);
    let text = uniform_log(1_200, &mut rng, |_, _| 0.5);
    let options = Options { folds: 3, ..options() };
    let found = judge_policy(PolicyName::LinUcb, &text, &options);
    let dr = found.judgement.estimate(Estimator::Dr).unwrap();
    let error = (dr.normal.unwrap().high - dr.value) / 1.96;
    assert!((dr.value - 0.5).abs() < 4.0 * error && error < 0.05, "{dr:?}");
}
