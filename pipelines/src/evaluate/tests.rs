use ingest::{
    log::{Append, LogOptions, Topic, embedded::EmbeddedLog},
    record::Record,
};
use prost::Message;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use scorer::record::{self, IMPRESSION, IMPRESSION_SOURCE, Impression, Reward};

use super::*;

mod simulations;

/// A decision of `user` between tips named by their index, with these logged probabilities.
fn decision(user: &str, x: f64, logged: &[f64], chosen: usize, reward: f64) -> LoggedDecision {
    let candidates = logged.iter().enumerate();
    LoggedDecision {
        impression: String::new(),
        user: user.to_owned(),
        shown_at: 0,
        policy: "lints".into(),
        policy_version: "7".into(),
        context_names: vec!["x".into()],
        context: vec![x],
        candidates: candidates
            .map(|(i, p)| Candidate { tip: i.to_string(), score: 0.0, propensity: *p })
            .collect(),
        tip: chosen.to_string(),
        propensity: logged[chosen],
        reward,
    }
}

fn rng(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-6, "{a} is not {b}");
}

/// Weights under a uniform target: 0.625, 0.625, 2.5, 1.
fn four() -> Vec<LoggedDecision> {
    vec![
        decision("ann", 0.0, &[0.8, 0.2], 0, 1.0),
        decision("ann", 0.0, &[0.8, 0.2], 0, 0.0),
        decision("bob", 0.0, &[0.8, 0.2], 1, 1.0),
        decision("cid", 0.0, &[0.5, 0.5], 1, 0.0),
    ]
}

fn options(resamples: u32) -> Options {
    Options { resamples, folds: 2, ..Options::default() }
}

fn value(judgement: &Judgement, estimator: Estimator) -> f64 {
    judgement.estimate(estimator).unwrap().value
}

#[test]
fn the_figures_are_those_computed_by_hand() {
    let evaluation = evaluate(&four(), &[Target::uniform()], &options(100), &mut rng(1));
    assert_eq!((evaluation.decisions, evaluation.judgements.len()), (4, 1));
    let j = &evaluation.judgements[0];
    assert_eq!((j.target.as_str(), j.logged_by.as_str(), j.rows, j.people), ("uniform", "lints", 4, 3));
    // (0.625 + 2.5) / 4, and over the sum of the weights, 4.75.
    near(value(j, Estimator::Ips), 0.78125);
    near(value(j, Estimator::Snips), 0.657_894_737);
    let normal = j.estimate(Estimator::Ips).unwrap().normal.unwrap();
    near(normal.low, -0.378_172_491);
    near(normal.high, 1.940_672_491);
    let normal = j.estimate(Estimator::Snips).unwrap().normal.unwrap();
    near(normal.low, 0.098_368_843);
    near(normal.high, 1.217_420_630);
    let d = &j.diagnostics;
    near(d.effective_rows, 2.809_338_521);
    near(d.largest_weight, 2.5);
    assert_eq!(d.largest_weight_row, 3);
    near(d.mean_weight, 1.1875);
    near(d.mean_weight_error, 0.446_339_277);
    near(d.mean_weight_z, 0.1875 / 0.446_339_277);
    near(d.support, 1.0);
    assert_eq!((d.unsupported_rows, j.unanswered), (0, 0));
    near(d.mean_reward, 0.5);
}

#[test]
fn clipping_is_by_hand_too() {
    let thresholds = Thresholds { clip: 1.0, switch: 1.0 };
    let cut = Options { thresholds, ..options(100) };
    let j = evaluate(&four(), &[Target::uniform()], &cut, &mut rng(1)).judgements.remove(0);
    // Weights 0.625, 0.625, 1, 1; rewards 1, 0, 1, 0.
    near(value(&j, Estimator::ClippedIps), 0.40625);
    near(j.estimate(Estimator::ClippedIps).unwrap().effective_rows, 3.25 * 3.25 / 2.78125);
    assert_eq!((j.diagnostics.clipped_rows, j.diagnostics.switched_rows), (1, 1));
    near(j.diagnostics.clipped_share, 1.5 / 4.75);
    near(j.diagnostics.switched_share, 2.5 / 4.75);
}

#[test]
fn as_logged_is_the_plain_mean() {
    let evaluation = evaluate(&four(), &[Target::as_logged()], &options(100), &mut rng(1));
    let j = &evaluation.judgements[0];
    near(value(j, Estimator::Ips), 0.5);
    near(value(j, Estimator::Snips), 0.5);
    near(j.diagnostics.effective_rows, 4.0);
    near(j.diagnostics.largest_weight, 1.0);
}

#[test]
fn most_likely_takes_the_best_and_shares_ties() {
    let target = Target::most_likely();
    assert_eq!(target.probabilities(&four()[0]), Some(vec![1.0, 0.0]));
    assert_eq!(target.probabilities(&four()[3]), Some(vec![0.5, 0.5]));
}

#[test]
fn each_logging_policy_is_judged_alone_and_all_together() {
    let mut decisions = four();
    decisions[3].policy = "uniform".into();
    let evaluation = evaluate(&decisions, &[Target::uniform()], &options(10), &mut rng(1));
    let by: Vec<(&str, u64)> = evaluation.judgements.iter().map(|j| (j.logged_by.as_str(), j.rows)).collect();
    assert_eq!(by, [("all", 4), ("lints", 3), ("uniform", 1)]);
    let alone = evaluation.judgements[2].estimate(Estimator::Ips).unwrap();
    assert!(alone.normal.is_none() && alone.bootstrap.is_none() && alone.bernstein.is_none());
    let together = judge(&decisions, Target::uniform(), &options(10), &mut rng(1)).unwrap();
    assert_eq!((together.logged_by.as_str(), together.rows), ("all", 4));
    assert_eq!(judge(&[], Target::uniform(), &options(10), &mut rng(1)), None);
}

#[test]
fn what_the_log_never_shows_is_told() {
    let logged = [1.0, 0.0];
    let decisions: Vec<_> = (0..10).map(|i| decision(&i.to_string(), 0.0, &logged, 0, 1.0)).collect();
    let other = Target::new("other", |_| vec![0.25, 0.75]);
    let evaluation = evaluate(&decisions, &[other], &options(10), &mut rng(1));
    let d = &evaluation.judgements[0].diagnostics;
    near(d.support, 0.25);
    near(d.mean_weight, 0.25);
    near(d.mean_weight_z, 0.0);
    assert_eq!(d.unsupported_rows, 10);
    assert!(evaluation.to_string().contains("in 10 rows the target could choose what was never shown"));
}

#[test]
fn a_target_that_never_agrees_has_no_snips() {
    let decisions = vec![decision("ann", 0.0, &[0.5, 0.5], 0, 1.0); 5];
    let other = Target::new("other", |_| vec![0.0, 1.0]);
    let j = &evaluate(&decisions, &[other], &options(10), &mut rng(1)).judgements[0];
    assert_eq!((value(j, Estimator::Ips), j.diagnostics.effective_rows), (0.0, 0.0));
    assert!(j.estimate(Estimator::Snips).is_none() && j.estimate(Estimator::Sndr).is_none());
}

#[test]
fn records_that_contradict_themselves_are_counted_and_left_out() {
    let sound = decision("ann", 0.0, &[0.8, 0.2], 0, 1.0);
    let spoilt: [fn(&mut LoggedDecision); 6] = [
        |d| d.propensity = 0.0,
        |d| d.propensity = 0.7,
        |d| d.tip = "another".into(),
        |d| d.candidates[1].propensity = f64::NAN,
        |d| d.candidates[1].propensity = 0.5,
        |d| d.reward = f64::NAN,
    ];
    let mut decisions = vec![sound.clone()];
    decisions.extend(spoilt.iter().map(|spoil| {
        let mut d = sound.clone();
        spoil(&mut d);
        d
    }));
    let evaluation = evaluate(&decisions, &[Target::uniform()], &options(10), &mut rng(1));
    assert_eq!((evaluation.decisions, evaluation.left_out.unusable), (1, spoilt.len() as u64));
}

#[test]
fn an_answer_that_is_no_distribution_is_told() {
    for wrong in [vec![0.5], vec![0.9, 0.9], vec![1.5, -0.5], vec![f64::NAN, 1.0]] {
        let target = Target::new("wrong", |_| wrong.clone());
        let evaluation = evaluate(&four(), &[target], &options(10), &mut rng(1));
        let j = &evaluation.judgements[0];
        assert_eq!((j.rows, j.unanswered), (0, 4), "{wrong:?}");
        assert!(evaluation.to_string().contains("no distribution over the candidates in 4 decisions"));
    }
}

#[test]
fn a_seed_gives_the_same_answer_again() {
    let run = |seed| evaluate(&four(), &[Target::uniform()], &options(200), &mut rng(seed));
    assert_eq!(run(3), run(3));
}

/// An impression of one of two tips, at `at`.
fn impression(id: &str, at: Millis) -> Append {
    let message = Impression {
        tip: Some("walk".into()),
        policy: Some("lints".into()),
        policy_version: Some("3".into()),
        propensity: Some(0.75),
        candidates: [("walk", 0.75), ("nap", 0.25)]
            .map(|(tip, p)| record::Candidate {
                tip: Some(tip.into()),
                score: Some(0.0),
                propensity: Some(p),
                ..record::Candidate::default()
            })
            .to_vec(),
        ..Impression::default()
    };
    let record = Record {
        kind: IMPRESSION.into(),
        id: id.into(),
        source: IMPRESSION_SOURCE.into(),
        subject: "ann".into(),
        time: at,
        received_at: at,
        data: message.encode_to_vec().into(),
        extensions: Vec::new(),
    };
    Append { subject: "ann".into(), key: record.key(), payload: record.encode() }
}

fn reward(impression: &str, reward: f64, shown_at: Millis, settled_at: Millis) -> Append {
    let message = Reward {
        impression: impression.into(),
        tip: "walk".into(),
        reward,
        shown_at,
        settled_at,
        ..Reward::default()
    };
    Append { subject: "ann".into(), key: Reward::key(impression), payload: message.encode_to_vec().into() }
}

#[tokio::test]
async fn decisions_meet_their_rewards_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
    let shown = [("one", 1_000), ("two", 2_000), ("silent", 3_000), ("young", 9_500), ("open", 9_900)];
    let impressions = shown.map(|(id, at)| impression(id, at)).to_vec();
    log.append(Topic::Signals, impressions).await.unwrap();
    let rewards = vec![
        reward("one", 1.0, 1_000, 1_100),
        reward("two", 0.0, 2_000, 4_000),
        reward("gone", 1.0, 500, 600),
        reward("young", 1.0, 9_500, 10_000),
    ];
    log.append(Topic::Rewards, rewards).await.unwrap();

    let options = Options { window: 2_000, ..options(10) };
    let evaluation = evaluate_log(&log, &options, &mut rng(1)).unwrap();
    let left_out = LeftOut { fresh: 2, unsettled: 1, orphaned: 1, unusable: 0 };
    assert_eq!((evaluation.decisions, evaluation.left_out), (2, left_out));
    assert_eq!((evaluation.from, evaluation.to), (Some(1_000), Some(2_000)));
    let names: Vec<&str> = evaluation.judgements.iter().map(|j| j.target.as_str()).collect();
    assert_eq!(names, ["as logged", "uniform", "most likely"]);
    let ips = |i: usize| value(&evaluation.judgements[i], Estimator::Ips);
    near(ips(0), 0.5);
    // 0.5 / 0.75 and 1 / 0.75, each times 1 and 0.
    near(ips(1), 1.0 / 3.0);
    near(ips(2), 2.0 / 3.0);
    let json = serde_json::to_value(&evaluation).unwrap();
    assert_eq!(json["judgements"][1]["logged_by"], "lints");
    assert_eq!(json["judgements"][1]["estimates"][0]["estimator"], "ips");
}

#[tokio::test]
async fn an_empty_log_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
    let evaluation = evaluate_log(&log, &options(10), &mut rng(1)).unwrap();
    assert!(evaluation.judgements.is_empty());
    assert!(evaluation.to_string().starts_with("no decision is settled yet"));
}
