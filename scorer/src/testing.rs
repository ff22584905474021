//! What the tests of this crate share.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;
use features::value::{FeatureRow, Part, Value};
use ingest::{
    Clock, Millis,
    log::{Append, Appended, Log, LogOptions, Position, Topic, embedded::EmbeddedLog},
    record::Record,
};
use prost::Message;

use crate::{
    Scorer, ScorerConfig, ScorerError,
    context::{ContextConfig, ContextFeature, Layout},
    decide::{FeatureSource, Parts, Published, Sink},
    learn::{Brief, GoOn, Joiner, Learner, Learning},
    memory::Memory,
    record::{IMPRESSION, IMPRESSION_SOURCE, Impression, REACTION, REACTION_SOURCE, Reaction, ReactionKind},
    tips::TipCatalogue,
};

pub const T0: Millis = 1_700_000_000_000;

const TIPS: &str = r#"
[[tip]]
id = "walk"
title = "Walk"
body = "Go for a walk."
action = "Go"
category = "movement"
effort = 10
when = ["v.steps_24h < 5000"]
why = "You took {v.steps_24h} steps today."

[[tip]]
id = "stretch"
title = "Stretch"
body = "Stretch a little."
action = "Stretch"
category = "movement"
effort = 2
why = "It takes two minutes."

[[tip]]
id = "nap"
title = "Nap"
body = "Take a nap."
action = "Rest"
category = "rest"
effort = 20
when = ["v.debt_7d > 60"]
why = "You are {v.debt_7d|hours} short of sleep."
"#;

/// Three tips of two categories.
pub fn tips() -> TipCatalogue {
    let mut catalogue = TipCatalogue::default();
    catalogue.add("test", TIPS).unwrap();
    catalogue
}

pub fn impression(id: &str, user: &str, tip: &str, at: Millis) -> Record {
    let message =
        Impression { tip: Some(tip.into()), category: Some("movement".into()), ..Impression::default() };
    record(IMPRESSION, IMPRESSION_SOURCE, id, user, at, &message)
}

pub fn reaction(impression: &str, user: &str, kind: ReactionKind, at: Millis) -> Record {
    let message = Reaction {
        impression: Some(impression.into()),
        reaction: Some(kind.name().into()),
        ..Reaction::default()
    };
    record(REACTION, REACTION_SOURCE, &format!("{impression}/{kind}/{at}"), user, at, &message)
}

fn record(kind: &str, source: &str, id: &str, user: &str, at: Millis, message: &impl Message) -> Record {
    Record {
        kind: kind.into(),
        id: id.into(),
        source: source.into(),
        subject: user.into(),
        time: at,
        received_at: at,
        data: message.encode_to_vec().into(),
        extensions: vec![],
    }
}

/// Straight to the log, as the door does it.
pub struct ToLog(pub Arc<dyn Log>);

fn append(record: &Record) -> Append {
    Append { subject: record.subject.clone(), key: record.key(), payload: record.encode() }
}

#[async_trait]
impl Sink for ToLog {
    fn append_later(&self, record: Record) {
        let log = self.0.clone();
        tokio::spawn(async move { log.append(Topic::Signals, vec![append(&record)]).await });
    }

    async fn append(&self, record: Record) -> Result<bool, ScorerError> {
        let outcome = self.0.append(Topic::Signals, vec![append(&record)]).await?;
        Ok(matches!(outcome[0], Appended::At(..)))
    }
}

/// The same values for everybody, except that every other user sleeps badly.
pub struct SomeFeatures;

#[async_trait]
impl FeatureSource for SomeFeatures {
    async fn read(&self, user: &str, now: Millis) -> Result<FeatureRow, ScorerError> {
        let tired = user.len().is_multiple_of(2);
        Ok(FeatureRow {
            entity: user.into(),
            values: vec![Value::Int(1200), if tired { Value::Int(300) } else { Value::Int(90) }, Value::Null],
            age_ms: vec![Some(5), Some(5), None],
            as_of: now,
            parts: vec![Part {
                view: "v".into(),
                version: "abc".into(),
                position: Position([(0, 7)].into()),
            }],
            stale: false,
        })
    }
}

/// A scorer over a log on disk, with both of its consumers.
pub struct World {
    pub log: Arc<dyn Log>,
    pub config: ScorerConfig,
    pub layout: Arc<Layout>,
    pub memory: Arc<Memory>,
    pub now: Arc<AtomicI64>,
}

pub fn config() -> ScorerConfig {
    let feature = |name: &str, centre, scale| ContextFeature { name: name.into(), centre, scale };
    ScorerConfig {
        context: ContextConfig {
            features: vec![
                feature("v.steps_24h", 5000.0, 2000.0),
                feature("v.debt_7d", 120.0, 60.0),
                feature("v.mood_7d", 3.0, 1.0),
            ],
            taste: vec![],
            taste_categories: vec![],
        },
        rules: crate::rules::Rules {
            tips_per_hour: 1000,
            tips_per_day: 1000,
            dismissals: 0,
            keep_at_least: 3,
            ..Default::default()
        },
        ..ScorerConfig::default()
    }
}

impl World {
    pub fn open(dir: &std::path::Path, config: ScorerConfig) -> World {
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(dir, LogOptions::default()).unwrap());
        let layout = Arc::new(Layout::new(&config.context, &tips()).unwrap());
        let memory = Arc::new(Memory::new(config.remembered_impressions));
        memory.rebuild(&*log).unwrap();
        World { log, config, layout, memory, now: Arc::new(AtomicI64::new(T0)) }
    }

    pub fn brief(&self) -> Arc<Brief> {
        Arc::new(Brief {
            learn: self.config.learn.clone(),
            context: self.config.context.clone(),
            layout: self.layout.clone(),
            groups: tips().categories().into_iter().map(str::to_owned).collect(),
            code: "test".into(),
            views: vec!["v@abc".into()],
        })
    }

    pub fn learner(&self) -> Learner {
        let config = self.config.policy.clone();
        Learner::restore(self.log.clone(), self.brief(), config, GoOn::Untrained, self.now()).unwrap()
    }

    pub fn learning(&self) -> Learning {
        let mut learning = Learning::open(self.log.clone(), &self.config, self.brief(), self.now()).unwrap();
        learning.catch_up().unwrap();
        learning
    }

    pub fn joiner(&self) -> Joiner {
        Joiner::new(self.log.clone(), &self.config.learn, self.memory.clone(), self.clock()).unwrap()
    }

    pub fn scorer(&self, learner: &Learner) -> Scorer {
        self.scorer_of(learner.published(), None)
    }

    pub fn scorer_of(&self, policy: Published, shadow: Option<Published>) -> Scorer {
        let parts = Parts {
            catalogue: Arc::new(tips()),
            layout: self.layout.clone(),
            features: Arc::new(SomeFeatures),
            sink: Arc::new(ToLog(self.log.clone())),
            policy,
            shadow,
            memory: self.memory.clone(),
        };
        Scorer::new(self.config.clone(), parts).unwrap()
    }

    pub fn clock(&self) -> Clock {
        let now = self.now.clone();
        Arc::new(move || now.load(Ordering::SeqCst))
    }

    pub fn now(&self) -> Millis {
        self.now.load(Ordering::SeqCst)
    }

    pub fn pass(&self, span: Millis) {
        self.now.fetch_add(span, Ordering::SeqCst);
    }
}
