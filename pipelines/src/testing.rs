//! A small world of its own for tests: three tips, people, a log, and the policies over it.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use features::value::{FeatureRow, Value};
use ingest::{
    Millis,
    log::{Append, Appended, Log, LogOptions, Topic, embedded::EmbeddedLog},
    record::{Record, RecordRef},
};
use prost::Message;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use scorer::{
    Answer, Scorer, ScorerConfig, ScorerError,
    context::{ContextConfig, ContextFeature, Layout},
    decide::{FeatureSource, Parts, Request, Sink},
    learn::{Brief, LearnConfig, Learning},
    memory::Memory,
    record::{Impression, Reward, names_hash},
    rules::Rules,
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
why = "Fresh air."

[[tip]]
id = "nap"
title = "Nap"
body = "Take a nap."
action = "Rest"
category = "rest"
effort = 20
why = "You are tired."

[[tip]]
id = "read"
title = "Read"
body = "Read a page."
action = "Read"
category = "learning"
effort = 5
why = "It is quiet."
"#;

/// Settings without a rule in the way, and with windows that end soon.
pub fn config() -> ScorerConfig {
    ScorerConfig {
        context: ContextConfig {
            features: vec![ContextFeature { name: "v.x".into(), centre: 0.0, scale: 1.0 }],
            taste: vec![],
            taste_categories: vec![],
        },
        rules: Rules {
            tips_per_hour: usize::MAX,
            tips_per_day: usize::MAX,
            dismissals: 0,
            repeat_hours: 0.0,
            category_per_day: usize::MAX,
            ..Rules::default()
        },
        learn: LearnConfig { window_minutes: 0.001, grace_seconds: 0.0, ..LearnConfig::default() },
        ..ScorerConfig::default()
    }
}

struct OneFeature;

#[async_trait]
impl FeatureSource for OneFeature {
    async fn read(&self, user: &str, now: Millis) -> Result<FeatureRow, ScorerError> {
        let x = (user.len() % 3) as f64 - 1.0;
        let values = vec![Value::Float(x)];
        let (age_ms, parts) = (vec![Some(1)], vec![]);
        Ok(FeatureRow { entity: user.into(), values, age_ms, as_of: now, parts, stale: false })
    }
}

/// Keeps what it is given until it is written.
#[derive(Default)]
struct Kept(Mutex<Vec<Record>>);

#[async_trait]
impl Sink for Kept {
    fn append_later(&self, record: Record) {
        self.0.lock().unwrap().push(record);
    }

    async fn append(&self, record: Record) -> Result<bool, ScorerError> {
        self.append_later(record);
        Ok(true)
    }
}

/// A log with the policies over it.
pub struct World {
    pub log: Arc<dyn Log>,
    pub config: ScorerConfig,
    pub layout: Arc<Layout>,
    pub learning: Learning,
    pub now: Millis,
    /// What becomes of a record of an impression before it is written.
    pub tamper: fn(&mut Impression),
    scorer: Scorer,
    kept: Arc<Kept>,
    rng: SmallRng,
}

impl World {
    pub async fn open(dir: &std::path::Path, config: ScorerConfig) -> World {
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(dir, LogOptions::default()).unwrap());
        let mut catalogue = TipCatalogue::default();
        catalogue.add("test", TIPS).unwrap();
        let layout = Arc::new(Layout::new(&config.context, &catalogue).unwrap());
        let brief = brief(&config, &layout);
        let mut learning = Learning::open(log.clone(), &config, brief, T0).unwrap();
        learning.save(T0).await.unwrap();
        let kept = Arc::new(Kept::default());
        let parts = Parts {
            catalogue: Arc::new(catalogue),
            layout: layout.clone(),
            features: Arc::new(OneFeature),
            sink: kept.clone(),
            policy: learning.published(),
            shadow: learning.published_shadow(),
            memory: Arc::new(Memory::new(10)),
        };
        let scorer = Scorer::new(config.clone(), parts).unwrap();
        // Another world over the same log makes other impressions.
        let rng = SmallRng::seed_from_u64(5 + log.end(Topic::Rewards).get(0));
        let now = T0;
        World { log, config, layout, learning, now, tamper: |_| {}, scorer, kept, rng }
    }

    /// Shows so many tips, each worth 1 with the probability that `worth` says, and lets the policies learn.
    pub async fn live(&mut self, count: usize, worth: fn(&str) -> f64) {
        for i in 0..count {
            self.now += 1_000;
            let user = format!("user-{}", self.rng.random_range(0..200));
            let shown =
                self.scorer.recommend(&user, self.now, &mut self.rng, &Request::default()).await.unwrap();
            assert!(matches!(shown, Answer::Tip(_)), "silence");
            if i % 50 == 49 || i + 1 == count {
                self.settle(worth).await;
                self.learning.catch_up().unwrap();
            }
        }
        // Some time passes, so that nothing is fresh any more.
        self.now += 60_000;
    }

    async fn settle(&mut self, worth: fn(&str) -> f64) {
        let records: Vec<Record> = std::mem::take(&mut *self.kept.0.lock().unwrap());
        let (mut signals, mut rewards) = (Vec::new(), Vec::new());
        for mut record in records {
            let mut seen = Impression::decode(&record.data[..]).unwrap();
            (self.tamper)(&mut seen);
            record.data = seen.encode_to_vec().into();
            signals.push(Append {
                subject: record.subject.clone(),
                key: record.key(),
                payload: record.encode(),
            });
            let tip = seen.tip.clone().unwrap();
            let reward = f64::from(u8::from(self.rng.random::<f64>() < worth(&tip)));
            let reward = reward_of(&record, seen, reward, self.now);
            let key = Reward::key(&reward.impression);
            rewards.push(Append {
                subject: record.subject.clone(),
                key,
                payload: reward.encode_to_vec().into(),
            });
        }
        for (topic, appends) in [(Topic::Signals, signals), (Topic::Rewards, rewards)] {
            let written = self.log.append(topic, appends).await.unwrap();
            assert!(written.iter().all(|w| matches!(w, Appended::At(..))));
        }
    }

    pub fn brief(&self) -> Arc<Brief> {
        brief(&self.config, &self.layout)
    }

    /// Every impression in the log, with whom it is about.
    pub fn impressions(&self) -> Vec<(String, Impression)> {
        let partitions: Vec<u32> = (0..self.log.partitions(Topic::Signals)).collect();
        let mut reader = self.log.reader(Topic::Signals, &partitions, &Default::default()).unwrap();
        let mut all = Vec::new();
        loop {
            let records = reader.poll(1_000).unwrap();
            if records.is_empty() {
                return all;
            }
            for record in records {
                let signal = RecordRef::decode(&record.subject, &record.payload).unwrap();
                all.push((signal.subject.to_owned(), Impression::decode(signal.data).unwrap()));
            }
        }
    }
}

fn brief(config: &ScorerConfig, layout: &Arc<Layout>) -> Arc<Brief> {
    Arc::new(Brief {
        learn: config.learn.clone(),
        context: config.context.clone(),
        layout: layout.clone(),
        groups: ["movement", "rest", "learning"].map(str::to_owned).to_vec(),
        code: "test".into(),
        views: vec![],
    })
}

fn reward_of(record: &Record, seen: Impression, reward: f64, now: Millis) -> Reward {
    Reward {
        impression: record.id.clone(),
        tip: seen.tip.unwrap(),
        category: seen.category.unwrap(),
        reward,
        outcome: if reward > 0.0 { "accepted" } else { "dismissed" }.into(),
        propensity: seen.propensity.unwrap(),
        policy: seen.policy.unwrap(),
        policy_version: seen.policy_version.unwrap(),
        names: names_hash(&seen.context_names),
        context: seen.context,
        shown_at: record.time,
        settled_at: now,
    }
}
