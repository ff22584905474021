//! Decisions: which tip, for whom, or none.

mod impression;
mod publication;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use async_trait::async_trait;
use features::value::{FeatureRow, Part};
use ingest::{Millis, record::Record};
use ndarray::ArrayView1;
use rand::{Rng, RngCore};

use crate::{
    ScorerConfig, ScorerError,
    context::Layout,
    experiment::{self, Arm},
    learn::StateId,
    memory::Memory,
    policy::{Action, Choice, Snapshot, Uniform, choose},
    rules::Silence,
    telemetry,
    tips::{Conditions, Tip, TipCatalogue},
};

use self::impression::Written;
pub use self::publication::{Publication, Published};

/// Longest name of a user, in bytes; the door's own bound for subjects.
const MAX_USER_BYTES: usize = 256;

/// Where a decision gets its features from.
#[async_trait]
pub trait FeatureSource: Send + Sync {
    /// The values of [`Layout::features_to_read`], in that order, for a person at an instant.
    ///
    /// # Errors
    /// [`ScorerError::Unavailable`] when the values cannot be read at present.
    async fn read(&self, user: &str, now: Millis) -> Result<FeatureRow, ScorerError>;
}

/// Where impressions and reactions go: the door.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Appends without making the caller wait for the disk; failures are the sink's to report.
    fn append_later(&self, record: Record);

    /// Appends and answers once durable: whether the record is new.
    async fn append(&self, record: Record) -> Result<bool, ScorerError>;
}

/// What a caller may say beside the user.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Where the tip will be shown, such as `web`.
    pub channel: Option<String>,
    /// Values of the context that the caller knows better, by name, such as `time.hour`.
    pub context: BTreeMap<String, f64>,
}

/// The answer to a request for a tip.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A tip, and why.
    Tip(Box<Decision>),
    /// Better nothing.
    Silence(Silence),
}

/// A tip chosen.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Id of the impression, by which reactions refer to it: 32 hexadecimal digits.
    pub impression: String,
    /// The tip.
    pub tip: Arc<Tip>,
    /// One sentence: why now.
    pub why: String,
    /// Name of the policy.
    pub policy: &'static str,
    /// How many rewards it had learned.
    pub version: u64,
    /// Its state, together with the version.
    pub state: StateId,
    /// Probability with which the tip was chosen.
    pub propensity: f64,
    /// The random number behind the choice.
    pub draw: f64,
    /// Every tip that could have been chosen, in the order the draw walked.
    pub candidates: Vec<Scored>,
    /// The context as recorded, in the order of [`Layout::names`]; NaN where there is no value.
    pub context: Vec<f64>,
    /// What the context rests on.
    pub parts: Vec<Part>,
    /// The instant the context holds for.
    pub as_of: Millis,
    /// Whether the context may be older than it should be ([`FeatureRow::stale`]).
    pub stale: bool,
    /// What the other policy would have chosen, where two run: the shadow, or the incumbent where the shadow
    /// chose.
    pub beside: Option<Beside>,
    /// Name of the experiment that runs, and the person's side.
    pub arm: Option<(Arc<str>, Arm)>,
}

/// What a policy would have done whose choice is not shown.
#[derive(Debug, Clone)]
pub struct Beside {
    /// Its name.
    pub policy: &'static str,
    /// How many rewards it had learned.
    pub version: u64,
    /// Its state, together with the version.
    pub state: StateId,
    /// Its choice among the same candidates, by a draw of its own.
    pub choice: Choice,
}

impl Beside {
    fn choose(
        policy: &Publication,
        context: ArrayView1<'_, f64>,
        actions: &[Action<'_>],
        rng: &mut dyn RngCore,
    ) -> Option<Beside> {
        let choice = choose(&*policy.snapshot, context, actions, rng)?;
        Some(Beside { policy: policy.name(), version: policy.version(), state: policy.state, choice })
    }
}

/// A candidate and what the policy made of it.
#[derive(Debug, Clone)]
pub struct Scored {
    /// The tip.
    pub tip: Arc<Tip>,
    /// The policy's score.
    pub score: f64,
    /// Probability of choosing it.
    pub propensity: f64,
}

/// The living parts a scorer works with.
pub struct Parts {
    /// What can be said.
    pub catalogue: Arc<TipCatalogue>,
    /// What the context is made of; of the same configuration and catalogue.
    pub layout: Arc<Layout>,
    /// Where values come from.
    pub features: Arc<dyn FeatureSource>,
    /// Where records go.
    pub sink: Arc<dyn Sink>,
    /// What decisions follow; the learner publishes here.
    pub policy: Published,
    /// What runs beside it, asked for every decision and shown only to people of an experiment.
    pub shadow: Option<Published>,
    /// What was shown lately; the joiner feeds the same.
    pub memory: Arc<Memory>,
}

/// Chooses tips and takes reactions. A cheap handle; clone it freely.
#[derive(Clone)]
pub struct Scorer {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: ScorerConfig,
    parts: Parts,
    conditions: Conditions,
    tips: Vec<Arc<Tip>>,
    control: Publication,
    /// Name of the experiment that runs, the control group's when there is no other.
    experiment: Option<Arc<str>>,
    written: Written,
}

/// Said of the control group where no experiment has a name.
const CONTROL: &str = "control";

impl Scorer {
    /// # Errors
    /// A setting that makes no sense, or tips whose conditions name features that are not read.
    pub fn new(config: ScorerConfig, parts: Parts) -> Result<Scorer, ScorerError> {
        config.check()?;
        let conditions = parts
            .catalogue
            .resolve(parts.layout.features_to_read())
            .map_err(|e| ScorerError::Config(e.to_string()))?;
        if let Some(unknown) = config.rules.blocked.iter().find(|id| parts.catalogue.get(id).is_none()) {
            let text = format!("scorer.rules.blocked: there is no tip `{unknown}`; name a tip's id");
            return Err(ScorerError::Config(text));
        }
        let tips = parts.catalogue.iter().map(|t| Arc::new(t.clone())).collect();
        let control = Publication::from(Arc::new(Uniform) as Arc<dyn Snapshot>);
        let named = config.experiment.as_ref().map(|e| e.name.as_str());
        let experiment = named.or((config.control_share > 0.0).then_some(CONTROL)).map(Arc::from);
        let written = Written::new(&parts.layout, &parts.catalogue);
        let inner = Inner { config, parts, conditions, tips, control, experiment, written };
        Ok(Scorer { inner: Arc::new(inner) })
    }

    /// The living parts.
    pub fn parts(&self) -> &Parts {
        &self.inner.parts
    }

    /// The settings.
    pub fn config(&self) -> &ScorerConfig {
        &self.inner.config
    }

    /// Whether this person's tips are chosen uniformly, for comparison.
    pub fn in_control(&self, user: &str) -> bool {
        experiment::in_control(user, self.inner.config.control_share)
    }

    /// Whose tips this person gets. A function of their id and the configuration, and of nothing else until
    /// the shadow is promoted.
    pub fn arm(&self, user: &str) -> Arm {
        let challenger = || self.parts().shadow.as_ref().is_some_and(|s| s.load().challenger);
        match &self.inner.config.experiment {
            _ if self.in_control(user) => Arm::Control,
            Some(experiment) if experiment.challenges(user) && challenger() => Arm::Challenger,
            _ => Arm::Incumbent,
        }
    }

    /// Chooses a tip for `user` at `now`, or silence. The impression is on its way to the log when this
    /// returns. Touches no disk, and waits for nothing but the features.
    ///
    /// # Errors
    /// [`ScorerError::Invalid`] when the request is wrong.
    pub async fn recommend(
        &self,
        user: &str,
        now: Millis,
        rng: &mut (dyn RngCore + Send),
        request: &Request,
    ) -> Result<Answer, ScorerError> {
        let began = Instant::now();
        let answer = self.decide(user, now, rng, request).await?;
        match &answer {
            Answer::Tip(decision) => {
                metrics::counter!(telemetry::DECISIONS, "policy" => decision.policy).increment(1);
                metrics::histogram!(telemetry::CANDIDATES).record(decision.candidates.len() as f64);
            }
            Answer::Silence(why) => {
                metrics::counter!(telemetry::SILENCES, "reason" => why.code()).increment(1);
            }
        }
        metrics::histogram!(telemetry::DECISION_SECONDS).record(began.elapsed().as_secs_f64());
        Ok(answer)
    }

    async fn decide(
        &self,
        user: &str,
        now: Millis,
        rng: &mut (dyn RngCore + Send),
        request: &Request,
    ) -> Result<Answer, ScorerError> {
        if user.is_empty() || user.len() > MAX_USER_BYTES {
            return Err(ScorerError::Invalid(format!(
                "user: use 1 to {MAX_USER_BYTES} bytes, not {}",
                user.len()
            )));
        }
        let Inner { config, parts, conditions, tips, control, experiment, written } = &*self.inner;
        let (rules, memory, layout) = (&config.rules, &parts.memory, &parts.layout);
        if let Some(silence) = memory.with_person(user, |p| rules.silence(p, now)) {
            return Ok(Answer::Silence(silence));
        }
        let row = parts.features.read(user, now).await?;
        let raw = layout.raw(&row, now, &request.context)?;
        let applicable: Vec<usize> = conditions.applicable(&row.values).collect();
        let candidates =
            memory.with_person(user, |p| rules.allowed(p, now, parts.catalogue.tips(), applicable));
        let inputs = layout.inputs(&raw.0);
        let width = layout.action_len();
        let mut features = Vec::with_capacity(candidates.len() * width);
        for tip in candidates.iter().map(|i| &tips[*i]) {
            layout.action(&raw.0, &tip.category, f64::from(tip.effort), &mut features);
        }
        let actions: Vec<Action<'_>> = candidates
            .iter()
            .zip(features.chunks_exact(width))
            .map(|(i, features)| Action { tip: &tips[*i].id, group: &tips[*i].category, features })
            .collect();
        let arm = self.arm(user);
        let incumbent = parts.policy.load();
        let shadow = parts.shadow.as_ref().map(|s| s.load());
        let (policy, other) = match (arm, shadow.as_deref()) {
            (Arm::Control, shadow) => (control, shadow.map(|s| &**s)),
            (Arm::Challenger, Some(shadow)) => (&**shadow, Some(&**incumbent)),
            (_, shadow) => (&**incumbent, shadow.map(|s| &**s)),
        };
        let Some(choice) = choose(&*policy.snapshot, inputs.view(), &actions, rng) else {
            return Ok(Answer::Silence(Silence::NoCandidate));
        };
        let tip = tips[candidates[choice.index]].clone();
        let Choice { draw, ref distribution, .. } = choice;
        let scored = candidates.iter().zip(&distribution.scores).zip(&distribution.propensities);
        let decision = Decision {
            impression: format!("{:032x}", rng.random::<u128>()),
            why: tip
                .why
                .render(layout.features_to_read(), &row.values)
                .unwrap_or_else(|| ANY_TIME.to_owned()),
            policy: policy.name(),
            version: policy.version(),
            state: policy.state,
            propensity: choice.propensity(),
            draw,
            candidates: scored
                .map(|((i, score), propensity)| Scored {
                    tip: tips[*i].clone(),
                    score: *score,
                    propensity: *propensity,
                })
                .collect(),
            context: layout.recorded(raw, &tip),
            parts: row.parts,
            as_of: row.as_of,
            stale: row.stale,
            // Drawn last, so that a shadow changes no decision.
            beside: other.and_then(|other| Beside::choose(other, inputs.view(), &actions, rng)),
            arm: experiment.clone().map(|name| (name, arm)),
            tip,
        };
        memory.impression(&decision.impression, user, &decision.tip.id, &decision.tip.category, now);
        let record = written.record(user, now, request.channel.as_deref(), &candidates, &decision);
        parts.sink.append_later(record);
        Ok(Answer::Tip(Box::new(decision)))
    }
}

/// Said of a tip whose own sentence lacks a value.
const ANY_TIME: &str = "It fits at any time.";

#[cfg(test)]
mod tests;
