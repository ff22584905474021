//! A past decision, told from its record.

use std::fmt;

use ingest::{
    Millis,
    log::{Log, LogError, LogRecord, Partition, Position, Topic},
    record::RecordRef,
};
use prost::Message;
use serde::Serialize;

use crate::{
    learn::replay::{self, Again, Moment},
    policy::Distribution,
    record::{IMPRESSION, Impression, REACTION, Reaction, Reward},
};

/// All that is known of one decision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Id of the impression.
    pub impression: String,
    /// To whom.
    pub user: String,
    /// When.
    #[serde(serialize_with = "instant")]
    pub shown_at: Millis,
    /// Where.
    pub channel: Option<String>,
    /// The tip.
    pub tip: String,
    /// Its category.
    pub category: String,
    /// Who chose it.
    pub policy: String,
    /// How many rewards that policy had learned.
    pub policy_version: String,
    /// Probability with which the tip was chosen.
    pub propensity: f64,
    /// The random number behind the choice.
    pub draw: Option<f64>,
    /// What the policy saw; no value where there was none.
    pub context: Vec<ContextValue>,
    /// The views behind it.
    pub parts: Vec<ExplainedPart>,
    /// What could have been chosen, in the order the draw walked.
    pub candidates: Vec<ExplainedCandidate>,
    /// What the person did.
    pub reactions: Vec<ExplainedReaction>,
    /// What came of it, once settled.
    pub reward: Option<ExplainedReward>,
    /// Whether the decision comes out the same again.
    pub replay: Replay,
    /// What the policy beside it would have done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ExplainedShadow>,
    /// The experiment, and the person's side of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<(String, String)>,
}

/// One value of the context.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ContextValue {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<f64>,
}

/// What the values of one view rest on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedPart {
    /// The view.
    pub view: String,
    /// Hash of its definition.
    pub version: String,
    /// Log position behind its values.
    pub position: String,
}

/// One candidate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedCandidate {
    /// The tip.
    pub tip: String,
    /// The policy's score.
    pub score: f64,
    /// Probability of choosing it.
    pub propensity: f64,
}

/// One reaction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedReaction {
    /// What the person did.
    pub reaction: String,
    /// When it came in.
    #[serde(serialize_with = "instant")]
    pub at: Millis,
}

/// The reward.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedReward {
    /// The reaction that decided, or `ignored`.
    pub outcome: String,
    /// What it was worth.
    pub reward: f64,
    /// When it was settled.
    #[serde(serialize_with = "instant")]
    pub settled_at: Millis,
}

/// The decision made again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// The tip on which the recorded number falls among the recorded probabilities.
    pub tip: Option<String>,
    /// Whether that is the tip shown, with the probability recorded.
    pub same: bool,
    /// Whether the policy's snapshot, the rewards after it and the recorded context give the recorded
    /// probabilities again, to the bit.
    pub again: Again,
}

/// A policy whose choice was not shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedShadow {
    /// Its name.
    pub policy: String,
    /// How many rewards it had learned.
    pub policy_version: String,
    /// The tip it would have chosen.
    pub tip: String,
    /// Its probability of that tip.
    pub propensity: f64,
    /// Its probability of each candidate.
    pub propensities: Vec<f64>,
    /// As of the decision.
    pub again: Again,
}

/// Finds an impression in the log and tells all about it; `None` when it is not there. Reads the whole log,
/// and only reads: a log opened read-only will do.
pub fn explain(log: &dyn Log, impression: &str) -> Result<Option<Explanation>, LogError> {
    let mut found: Option<(Explanation, Vec<Moment>)> = None;
    let mut reactions = Vec::new();
    each(log, Topic::Signals, |record| {
        let Ok(signal) = RecordRef::decode(&record.subject, &record.payload) else { return };
        if signal.kind == IMPRESSION && signal.id == impression {
            if let Ok(seen) = Impression::decode(signal.data) {
                let moments = [Some(Moment::decision(&seen)), Moment::shadow(&seen)];
                found = Some((told(&signal, seen), moments.into_iter().flatten().collect()));
            }
        } else if signal.kind == REACTION {
            let Ok(seen) = Reaction::decode(signal.data) else { return };
            if seen.impression.as_deref() == Some(impression) {
                let reaction = seen.reaction.unwrap_or_default();
                reactions.push(ExplainedReaction { reaction, at: signal.received_at });
            }
        }
    })?;
    let Some((mut found, moments)) = found else { return Ok(None) };
    let mut again = replay::again(log, &moments)?.into_iter();
    found.replay.again = again.next().unwrap_or(found.replay.again);
    if let (Some(shadow), Some(again)) = (&mut found.shadow, again.next()) {
        shadow.again = again;
    }
    reactions.sort_by_key(|r| r.at);
    found.reactions = reactions;
    let key = Reward::key(impression);
    each(log, Topic::Rewards, |record| {
        if record.key != key {
            return;
        }
        if let Ok(Reward { outcome, reward, settled_at, .. }) = Reward::decode(&record.payload[..]) {
            found.reward = Some(ExplainedReward { outcome, reward, settled_at });
        }
    })?;
    Ok(Some(found))
}

fn each(log: &dyn Log, topic: Topic, mut visit: impl FnMut(&LogRecord)) -> Result<(), LogError> {
    let partitions: Vec<Partition> = (0..log.partitions(topic)).collect();
    let mut reader = log.reader(topic, &partitions, &Position::default())?;
    loop {
        let records = reader.poll(4096)?;
        if records.is_empty() {
            return Ok(());
        }
        records.iter().for_each(&mut visit);
    }
}

fn told(signal: &RecordRef<'_>, seen: Impression) -> Explanation {
    let tip = seen.tip.unwrap_or_default();
    let propensity = seen.propensity.unwrap_or_default();
    let candidates: Vec<ExplainedCandidate> = seen
        .candidates
        .into_iter()
        .map(|c| ExplainedCandidate {
            tip: c.tip.unwrap_or_default(),
            score: c.score.unwrap_or_default(),
            propensity: c.propensity.unwrap_or_default(),
        })
        .collect();
    let again = Distribution {
        scores: candidates.iter().map(|c| c.score).collect(),
        propensities: candidates.iter().map(|c| c.propensity).collect(),
    };
    let drawn = seen.draw.and_then(|draw| again.at(draw)).map(|i| &candidates[i]);
    let replay = Replay {
        tip: drawn.map(|c| c.tip.clone()),
        same: drawn.is_some_and(|c| c.tip == tip && c.propensity == propensity),
        again: Again::unknown(),
    };
    let shadow = seen.shadow.map(|s| ExplainedShadow {
        policy: s.policy.unwrap_or_default(),
        policy_version: s.policy_version.unwrap_or_default(),
        tip: s.tip.unwrap_or_default(),
        propensity: s.propensity.unwrap_or_default(),
        propensities: s.propensities,
        again: Again::unknown(),
    });
    let context = seen.context_names.into_iter().zip(seen.context);
    let parts = seen.parts.into_iter().map(|p| ExplainedPart {
        view: p.view.unwrap_or_default(),
        version: p.version.unwrap_or_default(),
        position: p.position.unwrap_or_default(),
    });
    Explanation {
        impression: signal.id.to_owned(),
        user: signal.subject.to_owned(),
        shown_at: signal.time,
        channel: seen.channel,
        tip,
        category: seen.category.unwrap_or_default(),
        policy: seen.policy.unwrap_or_default(),
        policy_version: seen.policy_version.unwrap_or_default(),
        propensity,
        draw: seen.draw,
        context: context.map(|(name, v)| ContextValue { name, value: (!v.is_nan()).then_some(v) }).collect(),
        parts: parts.collect(),
        candidates,
        reactions: Vec::new(),
        reward: None,
        replay,
        shadow,
        experiment: seen.experiment.map(|e| (e.name.unwrap_or_default(), e.arm.unwrap_or_default())),
    }
}

fn instant<S: serde::Serializer>(at: &Millis, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&Instant(*at))
}

/// Writes itself as RFC 3339.
struct Instant(Millis);

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => at.fmt(f),
            Err(_) => self.0.fmt(f),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "impression  {}", self.impression)?;
        writeln!(f, "shown       {} to {} at {}", self.tip, self.user, Instant(self.shown_at))?;
        if let Some(channel) = &self.channel {
            writeln!(f, "channel     {channel}")?;
        }
        writeln!(f, "policy      {} after {} rewards", self.policy, self.policy_version)?;
        writeln!(f, "propensity  {:.4}", self.propensity)?;
        let same = match (&self.replay.tip, self.replay.same) {
            (_, true) => "gives the same tip".to_owned(),
            (Some(tip), false) => format!("gives `{tip}` instead: the record is not whole"),
            (None, false) => "cannot be repeated: the record has no draw".to_owned(),
        };
        match self.draw {
            Some(draw) => writeln!(f, "draw        {draw:.6}; made again it {same}")?,
            None => writeln!(f, "draw        {same}")?,
        }
        writeln!(f, "recomputed  {}", self.replay.again)?;
        if let Some(s) = &self.shadow {
            writeln!(
                f,
                "shadow      {} after {} rewards: {} ({:.4})",
                s.policy, s.policy_version, s.tip, s.propensity
            )?;
            writeln!(f, "            {}", s.again)?;
        }
        if let Some((name, arm)) = &self.experiment {
            writeln!(f, "experiment  {name}, {arm}")?;
        }
        for r in &self.reactions {
            writeln!(f, "reaction    {} at {}", r.reaction, Instant(r.at))?;
        }
        match &self.reward {
            Some(r) => {
                writeln!(f, "reward      {} ({}), settled {}", r.reward, r.outcome, Instant(r.settled_at))?
            }
            None => writeln!(f, "reward      not settled yet")?,
        }
        writeln!(f, "\n{:<44} {:>10} {:>10}", "candidate", "score", "propensity")?;
        let mut candidates: Vec<_> = self.candidates.iter().collect();
        candidates.sort_by(|a, b| b.propensity.total_cmp(&a.propensity).then(b.score.total_cmp(&a.score)));
        for c in candidates {
            let mark = if c.tip == self.tip { "*" } else { " " };
            writeln!(f, "{mark} {:<42} {:>10.4} {:>10.4}", c.tip, c.score, c.propensity)?;
        }
        writeln!(f, "\n{:<44} {:>10}", "context", "value")?;
        for c in &self.context {
            match c.value {
                Some(v) => writeln!(f, "  {:<42} {v:>10.3}", c.name)?,
                None => writeln!(f, "  {:<42} {:>10}", c.name, "none")?,
            }
        }
        writeln!(f, "\n{:<24} {:<20} position", "view", "version")?;
        for p in &self.parts {
            writeln!(f, "  {:<22} {:<20} {}", p.view, p.version, p.position)?;
        }
        Ok(())
    }
}
