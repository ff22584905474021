use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use parking_lot::Mutex;
use prost::Message;
use rand::{SeedableRng, rngs::SmallRng};

use super::*;
use crate::{
    feedback::Feedback,
    policy::{PolicyConfig, PolicyName, Space, build},
    record::{Impression, Reaction, ReactionKind},
    testing::{SomeFeatures, T0, config, tips},
};

/// Keeps what it is given.
#[derive(Default)]
struct Kept {
    records: Mutex<Vec<Record>>,
    failing: AtomicUsize,
}

#[async_trait]
impl Sink for Kept {
    fn append_later(&self, record: Record) {
        self.records.lock().push(record);
    }

    async fn append(&self, record: Record) -> Result<bool, ScorerError> {
        if self.failing.load(Ordering::SeqCst) > 0 {
            return Err(ScorerError::Unavailable("the log is full".into()));
        }
        let mut records = self.records.lock();
        let new = !records.iter().any(|r| r.key() == record.key());
        if new {
            records.push(record);
        }
        Ok(new)
    }
}

fn scorer(config: ScorerConfig) -> (Scorer, Arc<Kept>) {
    let catalogue = Arc::new(tips());
    let layout = Arc::new(Layout::new(&config.context, &catalogue).unwrap());
    let space = Space { context: layout.context_len(), action: layout.action_len(), groups: vec![] };
    let kept = Arc::new(Kept::default());
    let parts = Parts {
        catalogue,
        layout,
        features: Arc::new(SomeFeatures),
        sink: kept.clone(),
        policy: Publication::from(build(&config.policy, &space).snapshot()).published(),
        shadow: config.shadow.as_ref().map(|shadow| {
            let shadow = Publication::from(build(shadow, &space).snapshot());
            Publication { challenger: true, ..shadow }.published()
        }),
        memory: Arc::new(Memory::new(1000)),
    };
    (Scorer::new(config, parts).unwrap(), kept)
}

/// What it answers; features are there at once.
fn ask(
    scorer: &Scorer,
    user: &str,
    now: Millis,
    rng: &mut SmallRng,
    request: &Request,
) -> Result<Answer, ScorerError> {
    scorer.recommend(user, now, rng, request).now_or_never().unwrap()
}

fn tip(scorer: &Scorer, user: &str, now: Millis, seed: u64) -> Option<Decision> {
    let mut rng = SmallRng::seed_from_u64(seed);
    match ask(scorer, user, now, &mut rng, &Request::default()).unwrap() {
        Answer::Tip(decision) => Some(*decision),
        Answer::Silence(_) => None,
    }
}

#[test]
fn the_record_says_what_the_decision_was() {
    let (scorer, kept) = scorer(config());
    let request = Request { channel: Some("web".into()), context: [("time.hour".into(), 9.5)].into() };
    let mut rng = SmallRng::seed_from_u64(1);
    let Answer::Tip(decision) = ask(&scorer, "anna", T0, &mut rng, &request).unwrap() else { panic!() };
    let record = kept.records.lock()[0].clone();
    assert_eq!((record.kind.as_str(), record.source.as_str()), ("impression", "kairos/scorer"));
    assert_eq!((record.id.as_str(), record.subject.as_str()), (decision.impression.as_str(), "anna"));
    assert_eq!(record.id.len(), 32);
    let seen = Impression::decode(&record.data[..]).unwrap();
    assert_eq!(seen.channel.as_deref(), Some("web"));
    assert_eq!(seen.policy.as_deref(), Some("pool"));
    assert_eq!(seen.candidates.len(), 3);
    for (recorded, was) in seen.candidates.iter().zip(&decision.candidates) {
        assert_eq!(recorded.tip.as_deref(), Some(was.tip.id.as_str()));
        assert_eq!(recorded.category.as_deref(), Some(was.tip.category.as_str()));
        assert_eq!(recorded.effort, Some(f64::from(was.tip.effort)));
        assert_eq!((recorded.score, recorded.propensity), (Some(was.score), Some(was.propensity)));
    }
    let total: f64 = seen.candidates.iter().filter_map(|c| c.propensity).sum();
    assert!((total - 1.0).abs() < 1e-12);
    let names = ["v.steps_24h", "v.debt_7d", "v.mood_7d", "time.hour", "time.weekday", "tip.effort"];
    assert_eq!(seen.context_names, names);
    assert_eq!(seen.context[..2], [1200.0, 300.0]);
    assert!(seen.context[2].is_nan());
    // 14 November 2023 was a Tuesday.
    assert_eq!(seen.context[3..], [9.5, 1.0, f64::from(decision.tip.effort)]);
    assert_eq!(seen.parts[0].position.as_deref(), Some("0:7"));
}

#[test]
fn the_same_seed_makes_the_same_decision() {
    let decide = |seed| {
        let (scorer, _) = scorer(config());
        let d = tip(&scorer, "anna", T0, seed).unwrap();
        (d.impression, d.tip.id.clone(), d.draw)
    };
    assert_eq!(decide(5), decide(5));
    assert_ne!(decide(5).0, decide(6).0);
    let tips: std::collections::HashSet<String> = (0..40).map(|seed| decide(seed).1).collect();
    assert_eq!(tips.len(), 3, "different seeds reach all tips");
}

#[test]
fn only_tips_that_apply_are_candidates_and_the_reason_tells_the_figures() {
    let (scorer, _) = scorer(config());
    // A name of odd length sleeps 90 minutes too little, one of even length 300: both above an hour.
    for seed in 0..20 {
        let decision = tip(&scorer, "bob", T0 + seed as i64, seed).unwrap();
        let why = match decision.tip.id.as_str() {
            "walk" => "You took 1200 steps today.",
            "nap" => "You are 1 h 30 min short of sleep.",
            _ => "It takes two minutes.",
        };
        assert_eq!(decision.why, why);
    }
}

#[test]
fn nothing_that_applies_is_silence() {
    let mut config = config();
    config.rules.mutes_for_category = 1;
    let (scorer, _) = scorer(config);
    let memory = &scorer.parts().memory;
    for (id, tip, category) in [("a", "walk", "movement"), ("b", "nap", "rest")] {
        memory.impression(id, "ann", tip, category, T0 - 1000);
        memory.reaction(id, ReactionKind::Muted, T0 - 900);
    }
    let mut rng = SmallRng::seed_from_u64(1);
    let answer = ask(&scorer, "ann", T0, &mut rng, &Request::default()).unwrap();
    assert!(matches!(answer, Answer::Silence(Silence::NoCandidate)), "{answer:?}");
}

#[test]
fn an_hour_full_of_tips_is_silence_until_it_has_passed() {
    let mut config = config();
    config.rules.tips_per_hour = 2;
    let (scorer, kept) = scorer(config);
    assert!(tip(&scorer, "ann", T0, 1).is_some());
    assert!(tip(&scorer, "ann", T0 + 1000, 2).is_some());
    assert!(tip(&scorer, "ann", T0 + 2000, 3).is_none());
    assert!(tip(&scorer, "bob", T0 + 2000, 3).is_some(), "another person's hour is empty");
    assert!(tip(&scorer, "ann", T0 + 3_600_001, 4).is_some());
    assert_eq!(kept.records.lock().len(), 4, "silence leaves no impression");
}

#[test]
fn a_wrong_request_says_what_is_wrong() {
    let (scorer, _) = scorer(config());
    let mut rng = SmallRng::seed_from_u64(1);
    let mut error = |user: &str, request: &Request| ask(&scorer, user, T0, &mut rng, request).unwrap_err();
    assert!(error("", &Request::default()).to_string().contains("user"));
    assert!(error(&"x".repeat(1 << 20), &Request::default()).to_string().contains("256"));
    let request = Request { channel: None, context: [("weather".into(), 1.0)].into() };
    assert!(error("ann", &request).to_string().contains("`weather`"));
}

#[test]
fn a_control_group_gets_uniform_tips() {
    let (scorer, _) = scorer(ScorerConfig { control_share: 0.25, ..config() });
    let users: Vec<String> = (0..2000).map(|i| format!("user-{i}")).collect();
    let control = users.iter().filter(|u| scorer.in_control(u)).count();
    assert!((400..600).contains(&control), "{control} of 2000");
    for user in &users[..50] {
        let decision = tip(&scorer, user, T0, 1).unwrap();
        assert_eq!(decision.policy == "uniform", scorer.in_control(user));
    }
}

#[tokio::test]
async fn a_reaction_is_taken_once_and_only_for_a_known_impression() {
    let (scorer, kept) = scorer(config());
    let decision = tip(&scorer, "ann", T0, 1).unwrap();
    let reaction = ReactionKind::Snoozed;
    let feedback = Feedback { impression: decision.impression.clone(), reaction, at: None, channel: None };
    let taken = scorer.feedback(&feedback, T0 + 10).await.unwrap();
    assert_eq!((taken.user.as_str(), taken.tip.as_str(), taken.new), ("ann", decision.tip.id.as_str(), true));
    assert!(!scorer.feedback(&feedback, T0 + 20).await.unwrap().new, "a repeat");
    let record = kept.records.lock()[1].clone();
    assert_eq!(record.id, format!("{}/snoozed", decision.impression));
    let seen = Reaction::decode(&record.data[..]).unwrap();
    assert_eq!(seen.category, Some(decision.tip.category.clone()));
    assert_eq!(kept.records.lock().len(), 2);

    let unknown = Feedback { impression: "f".repeat(32), ..feedback.clone() };
    assert!(matches!(scorer.feedback(&unknown, T0).await, Err(ScorerError::UnknownImpression(_))));

    kept.failing.store(1, Ordering::SeqCst);
    let other = Feedback { reaction: ReactionKind::Muted, ..feedback };
    assert!(matches!(scorer.feedback(&other, T0).await, Err(ScorerError::Unavailable(_))));
    assert!(scorer.parts().memory.with_person("ann", |p| p.muted.is_empty()), "what failed has no effect");
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let refused = |config: ScorerConfig| config.check().unwrap_err().to_string();
    let policy = |p: PolicyConfig| refused(ScorerConfig { policy: p, ..config() });
    assert!(policy(PolicyConfig { floor: 0.0, ..Default::default() }).contains("scorer.policy.floor"));
    assert!(policy(PolicyConfig { width: f64::NAN, ..Default::default() }).contains("scorer.policy.width"));
    let both = [PolicyName::LinTs, PolicyName::LinUcb];
    assert!(both.iter().all(|n| config().check().is_ok() && *n != PolicyName::Uniform));
    assert!(refused(ScorerConfig { control_share: 2.0, ..config() }).contains("scorer.control_share"));
}

#[test]
fn the_shipped_configuration_fits_the_shipped_tips_and_views() {
    let catalogue = TipCatalogue::builtin().unwrap();
    let config = ScorerConfig::default();
    config.check().unwrap();
    let layout = Layout::new(&config.context, &catalogue).unwrap();
    assert!(catalogue.resolve(layout.features_to_read()).is_ok());
    let types = ingest::catalogue::Catalogue::load(&[]).unwrap();
    let views = features::Registry::load(&types, &[], &[]).unwrap();
    views.prepare(layout.features_to_read()).unwrap();
    for category in catalogue.categories() {
        assert!(config.context.taste_categories.iter().any(|c| c == category), "no tastes for {category}");
    }
}

fn with_shadow() -> ScorerConfig {
    let shadow = PolicyConfig { name: PolicyName::Uniform, ..PolicyConfig::default() };
    ScorerConfig { shadow: Some(shadow), ..config() }
}

fn impressions(kept: &Kept) -> Vec<Impression> {
    kept.records.lock().iter().map(|r| Impression::decode(&r.data[..]).unwrap()).collect()
}

#[test]
fn a_shadow_is_recorded_and_changes_nothing() {
    let (alone, kept_alone) = scorer(config());
    let (both, kept) = scorer(with_shadow());
    for seed in 0..20 {
        let user = format!("user-{seed}");
        let (a, b) = (tip(&alone, &user, T0, seed).unwrap(), tip(&both, &user, T0, seed).unwrap());
        assert_eq!((a.impression, a.tip, a.draw), (b.impression, b.tip, b.draw));
    }
    assert!(impressions(&kept_alone).iter().all(|i| i.shadow.is_none() && i.experiment.is_none()));
    let mut would = std::collections::HashSet::new();
    for seen in impressions(&kept) {
        let shadow = seen.shadow.unwrap();
        assert_eq!(shadow.policy.as_deref(), Some("uniform"));
        assert_eq!(shadow.propensities, [1.0 / 3.0; 3]);
        let place = seen.candidates.iter().position(|c| c.tip == shadow.tip).unwrap();
        assert_eq!(shadow.propensity, Some(shadow.propensities[place]));
        assert_eq!((shadow.draw.unwrap() * 3.0) as usize, place, "drawn by a number of its own");
        assert_ne!(shadow.draw, seen.draw);
        assert!(seen.candidates.iter().all(|c| c.category.is_some() && c.effort > Some(0.0)));
        would.insert(shadow.tip);
    }
    assert_eq!(would.len(), 3);
}

#[test]
fn an_experiment_shows_the_shadows_choice_to_its_share_of_people() {
    let experiment = crate::experiment::ExperimentConfig { name: "try".into(), share: 0.5 };
    let config = ScorerConfig { control_share: 0.2, experiment: Some(experiment), ..with_shadow() };
    let (scorer, kept) = scorer(config);
    let mut arms = BTreeMap::new();
    for i in 0..200 {
        let user = format!("user-{i}");
        let decision = tip(&scorer, &user, T0, i).unwrap();
        assert_eq!(decision.arm.as_ref().map(|(_, arm)| *arm), Some(scorer.arm(&user)));
        *arms.entry(scorer.arm(&user).name()).or_insert(0) += 1;
    }
    assert!(arms["control"] > 20 && arms["challenger"] > 60 && arms["incumbent"] > 60, "{arms:?}");
    for seen in impressions(&kept) {
        let experiment = seen.experiment.unwrap();
        assert_eq!(experiment.name.as_deref(), Some("try"));
        let beside = seen.shadow.unwrap().policy.unwrap();
        let policies = (seen.policy.as_deref().unwrap(), beside.as_str());
        match experiment.arm.as_deref().unwrap() {
            "incumbent" => assert_eq!(policies, ("pool", "uniform")),
            // The one that did not choose is recorded, whichever it is.
            "challenger" => assert_eq!(policies, ("uniform", "pool")),
            _ => assert_eq!(policies, ("uniform", "uniform")),
        }
    }
}

#[test]
fn a_blocked_tip_must_exist() {
    let mut config = config();
    config.rules.blocked = vec!["wlak".into()];
    let parts = |config: &ScorerConfig| scorer(config.clone());
    let refused = std::panic::catch_unwind(|| parts(&config)).is_err();
    assert!(refused);
    config.rules.blocked = vec!["walk".into()];
    let (scorer, _) = parts(&config);
    assert!((0..20).all(|seed| tip(&scorer, &format!("u{seed}"), T0, seed).unwrap().tip.id != "walk"));
}

#[test]
fn a_shadow_that_makes_no_sense_is_named() {
    let refused = |config: ScorerConfig| config.check().unwrap_err().to_string();
    let same = ScorerConfig { shadow: Some(config().policy), ..config() };
    assert!(refused(same).contains("scorer.shadow is the same policy"));
    let experiment = Some(crate::experiment::ExperimentConfig { name: "e".into(), share: 0.1 });
    assert!(refused(ScorerConfig { experiment, ..config() }).contains("no scorer.shadow"));
    let floor = PolicyConfig { floor: 0.0, name: PolicyName::LinUcb, ..PolicyConfig::default() };
    assert!(refused(ScorerConfig { shadow: Some(floor), ..config() }).contains("scorer.shadow.floor"));
}
