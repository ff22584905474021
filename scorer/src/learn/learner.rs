//! One policy, taught from the topic of rewards.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ingest::{
    Millis,
    log::{Log, LogError, LogRecord, Offset, Position, Topic},
};
use prost::Message;

use super::{BATCH, Brief, StateId, identity::fingerprint, registry};
use crate::{
    ScorerError,
    context::Layout,
    decide::{Publication, Published},
    policy::{self, Action, Observation, Policy, PolicyConfig, Space},
    record::{Reward, SavedPolicy, ServedPolicy, Taught, names_hash},
    telemetry,
};

/// Which of a policy's snapshots to go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoOn {
    /// The newest of this lineage: what served goes on serving.
    Lineage(u64),
    /// The newest that no training made.
    Untrained,
    /// The newest of all, one that training made included: for what is not shown to anybody.
    Any,
}

/// Teaches one policy, in log order, and publishes it.
pub struct Learner {
    log: Arc<dyn Log>,
    brief: Arc<Brief>,
    config: PolicyConfig,
    policy: Box<dyn Policy>,
    published: Published,
    challenger: bool,
    lineage: u64,
    trained: bool,
    /// Everything below it is learned.
    position: Position,
    taught: Taught,
    /// The last snapshot of it in the log: `state@version`.
    last: Option<String>,
    saved_version: u64,
    saved_at: Millis,
}

impl Learner {
    /// Takes up the snapshot in the log that fits, or starts untaught. Rewards after the snapshot are learned
    /// by [`Learner::catch_up`].
    pub fn restore(
        log: Arc<dyn Log>,
        brief: Arc<Brief>,
        config: PolicyConfig,
        which: GoOn,
        now: Millis,
    ) -> Result<Learner, ScorerError> {
        let mut learner = Learner::untaught(log, brief, config, now)?;
        let (name, fingerprint) =
            (learner.policy.name(), fingerprint(&learner.config, &learner.brief.layout));
        let saved = registry::latest(&*learner.log, name, fingerprint, |saved| match which {
            GoOn::Any => true,
            GoOn::Untrained => !saved.trained,
            GoOn::Lineage(lineage) => saved.id.parse().is_ok_and(|id: StateId| id.lineage == lineage),
        })?;
        if let Some(saved) = saved
            && let Err(e) = learner.take_up(&saved)
        {
            tracing::warn!(why = %e, "the last snapshot is unusable; learning starts from all rewards");
        }
        Ok(learner)
    }

    /// A policy that has learned nothing, at the beginning of the rewards.
    pub fn untaught(
        log: Arc<dyn Log>,
        brief: Arc<Brief>,
        config: PolicyConfig,
        now: Millis,
    ) -> Result<Learner, ScorerError> {
        let mut policy = policy::build(&config, &brief.space());
        let first = log.reader(Topic::Rewards, &[0], &Position::default())?.poll(1)?;
        // Retention may have dropped the first rewards; then the same version is another state.
        let lineage = match first.first().map_or(0, |r| r.offset) {
            0 => 0,
            dropped => names_hash(&["rewards from", &dropped.to_string()]),
        };
        let id = StateId::new(&config, &brief.layout, lineage);
        let publication = Publication { snapshot: policy.snapshot(), state: id, challenger: false };
        Ok(Learner {
            log,
            brief,
            config,
            policy,
            published: Arc::new(ArcSwap::from_pointee(publication)),
            challenger: false,
            lineage,
            trained: false,
            position: Position::default(),
            taught: Taught::default(),
            last: None,
            saved_version: 0,
            saved_at: now,
        })
    }

    /// Goes on from a snapshot of this policy.
    ///
    /// # Errors
    /// One that cannot be read; the learner is as before.
    pub fn take_up(&mut self, saved: &SavedPolicy) -> Result<(), ScorerError> {
        let unreadable = |e: String| ScorerError::Snapshot(format!("snapshot {}: {e}", saved.reference()));
        let position = saved.rewards.parse().map_err(unreadable)?;
        let id: StateId = saved.id.parse().map_err(unreadable)?;
        self.policy.load(&saved.state)?;
        (self.position, self.lineage, self.trained) = (position, id.lineage, saved.trained);
        self.taught = saved.taught.clone().unwrap_or_default();
        self.last = Some(saved.reference());
        self.saved_version = self.policy.version();
        self.publish();
        Ok(())
    }

    /// Learns another choice of rewards from now on: those from `position` on, beside what it knows.
    pub fn branch(&mut self, lineage: u64, position: Position, trained: bool) {
        (self.lineage, self.position, self.trained) = (lineage, position, trained);
        self.publish();
    }

    /// Calls this snapshot, `state@version`, its parent.
    pub fn follow(&mut self, parent: String) {
        self.last = Some(parent);
    }

    /// Publishes from now on here, as the configured challenger or not.
    pub(super) fn publish_at(&mut self, published: Published, challenger: bool) {
        (self.published, self.challenger) = (published, challenger);
        self.publish();
    }

    /// Where decisions find the policy.
    pub fn published(&self) -> Published {
        self.published.clone()
    }

    /// Its settings.
    pub fn config(&self) -> &PolicyConfig {
        &self.config
    }

    /// How many rewards the policy has learned.
    pub fn version(&self) -> u64 {
        self.policy.version()
    }

    /// Which policy it is, and which rewards it learns.
    pub fn id(&self) -> StateId {
        StateId::new(&self.config, &self.brief.layout, self.lineage)
    }

    /// Everything below this position of the rewards is learned.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The policy's state, to the bit.
    pub fn state(&self) -> Vec<u8> {
        self.policy.save()
    }

    /// What it learned from.
    pub fn taught(&self) -> &Taught {
        &self.taught
    }

    /// How it stands in the record of what serves.
    pub fn served(&self) -> ServedPolicy {
        ServedPolicy {
            name: self.policy.name().to_owned(),
            version: self.version(),
            id: self.id().to_string(),
            config: as_json(&self.config),
        }
    }

    /// Learns what is in the log now, and publishes. Returns how many rewards were read.
    pub fn catch_up(&mut self) -> Result<usize, LogError> {
        let mut reader = self.log.reader(Topic::Rewards, &[0], &self.position)?;
        let mut read = 0;
        loop {
            let records = reader.poll(BATCH)?;
            if records.is_empty() {
                self.publish();
                return Ok(read);
            }
            read += records.len();
            for record in &records {
                self.take(record.offset, decoded(record).as_ref());
            }
        }
    }

    /// Learns the reward at an offset, unless it has; `None` is one that cannot be read.
    pub fn take(&mut self, offset: Offset, reward: Option<&Reward>) {
        if offset < self.position.get(0) {
            return;
        }
        self.position.advance(0, offset);
        let Some(reward) = reward else { return };
        if !teach(&mut *self.policy, &self.brief.layout, reward) {
            metrics::counter!(telemetry::REWARDS_FOREIGN).increment(1);
            return;
        }
        let taught = &mut self.taught;
        if taught.rewards == 0 {
            taught.from_position = Position([(0, offset)].into()).to_string();
            taught.from = Some(reward.settled_at);
        }
        taught.to = Some(taught.to.unwrap_or(Millis::MIN).max(reward.settled_at));
        taught.rewards += 1;
        taught.sum += reward.reward;
        if reward.policy == self.policy.name() {
            taught.own += 1;
            taught.own_sum += reward.reward;
        }
    }

    /// Lets decisions follow what it has learned.
    pub fn publish(&mut self) {
        let (state, challenger) = (self.id(), self.challenger);
        let snapshot = self.policy.snapshot();
        self.published.store(Arc::new(Publication { snapshot, state, challenger }));
        metrics::gauge!(telemetry::POLICY_VERSION, "policy" => self.policy.name())
            .set(self.policy.version() as f64);
    }

    /// Whether enough was learned since the last snapshot, or it is long ago.
    pub(super) fn save_is_due(&self, now: Millis) -> bool {
        let new = self.policy.version().saturating_sub(self.saved_version);
        let waited = (now - self.saved_at) as f64 / 60_000.0;
        new >= self.brief.learn.snapshot_rewards.max(1)
            || (new > 0 && waited >= self.brief.learn.snapshot_minutes)
    }

    /// No snapshot for a while, then.
    pub(super) fn give_up_saving(&mut self, now: Millis) {
        (self.saved_version, self.saved_at) = (self.policy.version(), now);
    }

    /// Writes a snapshot to the log, unless the one it went on from says it all.
    pub async fn save(&mut self, now: Millis) -> Result<(), LogError> {
        let saved = self.snapshot(now);
        if self.last.as_ref() == Some(&saved.reference()) {
            return Ok(());
        }
        let reference = saved.reference();
        registry::write(&*self.log, saved).await?;
        self.last = Some(reference);
        metrics::counter!(telemetry::SNAPSHOTS).increment(1);
        (self.saved_version, self.saved_at) = (self.policy.version(), now);
        Ok(())
    }

    /// The snapshot that [`Learner::save`] would write.
    pub fn snapshot(&self, now: Millis) -> SavedPolicy {
        SavedPolicy {
            name: self.policy.name().to_owned(),
            version: self.policy.version(),
            fingerprint: fingerprint(&self.config, &self.brief.layout),
            rewards: self.position.to_string(),
            taken_at: now,
            state: self.policy.save(),
            id: self.id().to_string(),
            config: as_json(&self.config),
            context: as_json(&self.brief.context),
            parent: self.last.clone().unwrap_or_default(),
            taught: Some(self.taught.clone()),
            code: self.brief.code.clone(),
            views: self.brief.views.clone(),
            trained: self.trained,
            ..SavedPolicy::default()
        }
    }
}

/// A record of the topic of rewards; nothing where it was erased, for that must not be learned from.
pub(crate) fn decoded(record: &LogRecord) -> Option<Reward> {
    Reward::decode(&record.payload[..]).ok()
}

/// Teaches one reward; `false` when it was seen through another context, and changes nothing then.
pub(crate) fn teach(policy: &mut dyn Policy, layout: &Layout, reward: &Reward) -> bool {
    if reward.names != layout.names_hash() || reward.context.len() != layout.names().len() {
        return false;
    }
    let context = layout.inputs(&reward.context);
    let effort = reward.context.last().copied().unwrap_or_default();
    let mut features = Vec::with_capacity(layout.action_len());
    layout.action(&reward.context, &reward.category, effort, &mut features);
    policy.learn(&Observation {
        context: context.view(),
        action: Action { tip: &reward.tip, group: &reward.category, features: &features },
        propensity: reward.propensity,
        reward: reward.reward,
    })
}

pub(super) fn as_json(settings: &impl serde::Serialize) -> String {
    // Settings are numbers, words and lists of them, which JSON can say.
    serde_json::to_string(settings).unwrap_or_default()
}

impl Brief {
    /// What the inputs of its policies look like.
    pub fn space(&self) -> Space {
        let (context, action) = (self.layout.context_len(), self.layout.action_len());
        Space { context, action, groups: self.groups.clone() }
    }
}
