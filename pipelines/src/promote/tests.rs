use rand::{SeedableRng, rngs::StdRng};
use scorer::{
    PromotionConfig,
    experiment::ExperimentConfig,
    policy::{PolicyConfig, PolicyName},
};

use super::*;
use crate::testing::{World, config};

fn policies(incumbent: PolicyName, shadow: PolicyName) -> ScorerConfig {
    let policy = |name| PolicyConfig { name, ..PolicyConfig::default() };
    let promotion = PromotionConfig { decisions: 500, ..PromotionConfig::default() };
    ScorerConfig { policy: policy(incumbent), shadow: Some(policy(shadow)), promotion, ..config() }
}

/// Walks are what people want.
fn walks(tip: &str) -> f64 {
    if tip == "walk" { 0.8 } else { 0.2 }
}

fn judged(world: &World) -> Report {
    let gate = Gate { config: &world.config, layout: &world.layout, resamples: 200 };
    gate.judge(&*world.log, &mut StdRng::seed_from_u64(1)).unwrap()
}

fn missing(report: &Report) -> Vec<&str> {
    report.missing().map(|c| c.name).collect()
}

#[tokio::test]
async fn a_better_shadow_is_found_worth_it_and_starts_from_nothing_after_its_promotion() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path(), policies(PolicyName::Uniform, PolicyName::LinUcb)).await;
    world.live(200, walks).await;
    let report = judged(&world);
    assert!(missing(&report).contains(&"decisions"), "{report}");
    world.live(1_000, walks).await;
    let report = judged(&world);
    assert!(report.promotable, "{report}");
    assert_eq!((report.incumbent.as_str(), report.shadow.as_deref()), ("uniform", Some("linucb")));
    let figures = report.figures.as_ref().unwrap();
    assert!((figures.incumbent - 0.4).abs() < 0.06, "{figures:?}");
    assert!(figures.gain.low > 0.0 && figures.gain.high < 0.6, "{figures:?}");

    let judged_policy = report.shadow_id;
    let now = world.now;
    world.learning.promote(judged_policy, "test".into(), "{}".into(), now).await.unwrap();
    let report = judged(&world);
    assert_eq!(report.incumbent, "linucb");
    assert!(!report.promotable && missing(&report).contains(&"decisions"), "nothing before counts: {report}");
}

#[tokio::test]
async fn a_worse_shadow_is_refused_for_its_figures() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path(), policies(PolicyName::LinTs, PolicyName::Uniform)).await;
    world.live(1_200, walks).await;
    let report = judged(&world);
    assert!(!report.promotable, "{report}");
    let missing = missing(&report);
    for condition in ["snips", "at any time"] {
        assert!(missing.contains(&condition), "{report}");
    }
    for condition in ["decisions", "records", "recomputed"] {
        assert!(!missing.contains(&condition), "{report}");
    }
}

#[tokio::test]
async fn a_shadow_that_did_not_run_as_recorded_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path(), policies(PolicyName::Uniform, PolicyName::LinUcb)).await;
    // The record flatters it: all on the walk, whatever the policy said.
    world.tamper = |seen| {
        let walk = seen.candidates.iter().position(|c| c.tip.as_deref() == Some("walk")).unwrap();
        let shadow = seen.shadow.as_mut().unwrap();
        shadow.propensities.iter_mut().enumerate().for_each(|(i, p)| *p = f64::from(u8::from(i == walk)));
        (shadow.tip, shadow.propensity) = (Some("walk".into()), Some(1.0));
    };
    world.live(800, walks).await;
    assert_eq!(missing(&judged(&world)), ["recomputed"]);
    world.tamper = |seen| seen.shadow.as_mut().unwrap().propensities.truncate(1);
    world.live(50, walks).await;
    assert_eq!(missing(&judged(&world)), ["records", "recomputed"]);
}

#[tokio::test]
async fn without_a_shadow_that_is_what_is_missing_and_an_experiment_has_its_say() {
    let dir = tempfile::tempdir().unwrap();
    let alone = ScorerConfig { shadow: None, ..policies(PolicyName::Uniform, PolicyName::LinUcb) };
    let world = World::open(dir.path(), alone).await;
    assert_eq!(missing(&judged(&world)), ["shadow"]);

    let dir = tempfile::tempdir().unwrap();
    let mut config = policies(PolicyName::LinUcb, PolicyName::Uniform);
    config.experiment = Some(ExperimentConfig { name: "try".into(), share: 0.5 });
    let mut world = World::open(dir.path(), config).await;
    world.live(1_000, walks).await;
    let report = judged(&world);
    assert!(missing(&report).contains(&"experiment"), "{report}");
}

#[tokio::test]
async fn what_a_reward_model_may_see_says_nothing_of_the_choice() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path(), policies(PolicyName::Uniform, PolicyName::LinUcb)).await;
    world.live(60, walks).await;
    let mut seen = 0;
    crate::evaluate::logged::each_decision(&*world.log, 10, |decision| {
        assert_eq!(decision.context_names, ["v.x", "time.hour", "time.weekday"]);
        assert_eq!(decision.context.len(), 3);
        seen += 1;
    })
    .unwrap();
    assert!(seen > 50);
}
