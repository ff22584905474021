//! Decisions with what came of them, read from the log.

use std::collections::HashMap;

use ingest::{
    Millis,
    log::{Log, LogError, LogRecord, Partition, Position, Topic},
    record::RecordRef,
};
use prost::Message;
use scorer::{
    context::is_of_the_tip,
    record::{IMPRESSION, IMPRESSION_SOURCE, Impression, Reward},
};
use serde::Serialize;

use super::target::is_distribution;

/// A decision, and what it was worth.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedDecision {
    /// Id of the impression.
    pub impression: String,
    /// To whom.
    pub user: String,
    /// When.
    pub shown_at: Millis,
    /// Who chose.
    pub policy: String,
    /// How many rewards that policy had learned.
    pub policy_version: String,
    /// Names of the context's values.
    pub context_names: Vec<String>,
    /// What the policy saw, NaN where there was no value.
    pub context: Vec<f64>,
    /// Every tip that could have been chosen.
    pub candidates: Vec<Candidate>,
    /// The tip chosen.
    pub tip: String,
    /// Probability with which it was chosen.
    pub propensity: f64,
    /// What it was worth, 0 to 1.
    pub reward: f64,
}

/// A tip that could have been chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its id.
    pub tip: String,
    /// The logging policy's score of it.
    pub score: f64,
    /// The logging policy's probability of it.
    pub propensity: f64,
}

impl LoggedDecision {
    /// Index of the chosen candidate; nothing where the record contradicts itself, so that no weight can be
    /// made of it.
    pub(super) fn chosen(&self) -> Option<usize> {
        let chosen = self.candidates.iter().position(|c| c.tip == self.tip)?;
        let logged = self.candidates.iter().map(|c| c.propensity).collect::<Vec<_>>();
        let sound = is_distribution(&logged)
            && self.propensity > 0.0
            && (logged[chosen] - self.propensity).abs() < 1e-9
            && self.reward.is_finite();
        sound.then_some(chosen)
    }
}

/// What the log holds but no estimate rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LeftOut {
    /// Impressions so young that only their reactions are known yet, and not their silences.
    pub fresh: u64,
    /// Older impressions without a reward.
    pub unsettled: u64,
    /// Rewards whose impression is no longer in the log.
    pub orphaned: u64,
    /// Decisions whose record contradicts itself: probabilities that are none, or a tip not among the
    /// candidates.
    pub unusable: u64,
}

/// What is known of a reward until its impression is met.
struct Settled {
    reward: f64,
    shown_at: Millis,
}

/// Hands over every settled decision older than `window`, seen from the newest reward. The rewards are held
/// in memory, the impressions pass by; [`LeftOut::unusable`] is for the receiver to count.
pub fn each_decision(
    log: &dyn Log,
    window: Millis,
    mut visit: impl FnMut(LoggedDecision),
) -> Result<LeftOut, LogError> {
    let mut rewards: HashMap<String, Settled> = HashMap::new();
    let mut newest = Millis::MIN;
    each_record(log, Topic::Rewards, |record| {
        // Erased rewards cannot be read, and their impressions are erased too.
        let Ok(seen) = Reward::decode(&record.payload[..]) else { return };
        newest = newest.max(seen.settled_at);
        rewards.insert(seen.impression, Settled { reward: seen.reward, shown_at: seen.shown_at });
    })?;
    let old_enough = newest.saturating_sub(window);
    let mut left_out = LeftOut::default();
    each_record(log, Topic::Signals, |record| {
        let Ok(signal) = RecordRef::decode(&record.subject, &record.payload) else { return };
        if signal.kind != IMPRESSION || signal.source != IMPRESSION_SOURCE {
            return;
        }
        let settled = rewards.remove(signal.id);
        let shown_at = settled.as_ref().map_or(signal.received_at, |s| s.shown_at);
        match settled {
            _ if shown_at > old_enough => left_out.fresh += 1,
            None => left_out.unsettled += 1,
            Some(settled) => match Impression::decode(signal.data) {
                Ok(seen) => visit(decision(&signal, seen, &settled)),
                Err(_) => left_out.unsettled += 1,
            },
        }
    })?;
    left_out.orphaned = rewards.len() as u64;
    Ok(left_out)
}

fn each_record(log: &dyn Log, topic: Topic, mut visit: impl FnMut(&LogRecord)) -> Result<(), LogError> {
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

/// Absent numbers become NaN, which [`LoggedDecision::chosen`] refuses.
fn decision(signal: &RecordRef<'_>, seen: Impression, settled: &Settled) -> LoggedDecision {
    let candidates = seen.candidates.into_iter().map(|c| Candidate {
        tip: c.tip.unwrap_or_default(),
        score: c.score.unwrap_or(f64::NAN),
        propensity: c.propensity.unwrap_or(f64::NAN),
    });
    // What belongs to the tip chosen is no context: a reward model that saw it would know the choice.
    let (context_names, context) =
        seen.context_names.into_iter().zip(seen.context).filter(|(name, _)| !is_of_the_tip(name)).unzip();
    LoggedDecision {
        impression: signal.id.to_owned(),
        user: signal.subject.to_owned(),
        shown_at: settled.shown_at,
        policy: seen.policy.unwrap_or_default(),
        policy_version: seen.policy_version.unwrap_or_default(),
        context_names,
        context,
        candidates: candidates.collect(),
        tip: seen.tip.unwrap_or_default(),
        propensity: seen.propensity.unwrap_or(f64::NAN),
        reward: settled.reward,
    }
}
