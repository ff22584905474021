//! A decision as the log keeps it.

use ingest::{Millis, record::Record};
use prost::Message;

use super::{Beside, Decision};
use crate::record::{self, IMPRESSION, IMPRESSION_SOURCE, Impression};

/// The record of a decision for `user`.
pub(super) fn record(
    user: &str,
    now: Millis,
    channel: Option<&str>,
    names: &[String],
    decision: &Decision,
) -> Record {
    let candidates = decision.candidates.iter().map(|c| record::Candidate {
        tip: Some(c.tip.id.clone()),
        score: Some(c.score),
        propensity: Some(c.propensity),
        category: Some(c.tip.category.clone()),
        effort: Some(f64::from(c.tip.effort)),
    });
    let parts = decision.parts.iter().map(|p| record::Part {
        view: Some(p.view.to_string()),
        version: Some(p.version.to_string()),
        position: Some(p.position.to_string()),
    });
    let message = Impression {
        tip: Some(decision.tip.id.clone()),
        category: Some(decision.tip.category.clone()),
        channel: channel.map(str::to_owned),
        policy: Some(decision.policy.to_owned()),
        policy_version: Some(decision.version.to_string()),
        propensity: Some(decision.propensity),
        draw: Some(decision.draw),
        context_names: names.to_vec(),
        context: decision.context.clone(),
        candidates: candidates.collect(),
        parts: parts.collect(),
        as_of: Some(prost_types::Timestamp {
            seconds: decision.as_of.div_euclid(1000),
            nanos: (decision.as_of.rem_euclid(1000) * 1_000_000) as i32,
        }),
        shadow: decision.beside.as_ref().map(|beside| shadow(beside, decision)),
        experiment: decision.arm.as_ref().map(|(name, arm)| record::Experiment {
            name: Some(name.to_string()),
            arm: Some(arm.name().to_owned()),
        }),
        policy_state: Some(decision.state.to_string()),
    };
    Record {
        kind: IMPRESSION.to_owned(),
        id: decision.impression.clone(),
        source: IMPRESSION_SOURCE.to_owned(),
        subject: user.to_owned(),
        time: now,
        received_at: now,
        data: message.encode_to_vec().into(),
        extensions: Vec::new(),
    }
}

fn shadow(beside: &Beside, decision: &Decision) -> record::Shadow {
    let choice = &beside.choice;
    record::Shadow {
        policy: Some(beside.policy.to_owned()),
        policy_version: Some(beside.version.to_string()),
        tip: decision.candidates.get(choice.index).map(|c| c.tip.id.clone()),
        propensity: Some(choice.propensity()),
        propensities: choice.distribution.propensities.clone(),
        draw: Some(choice.draw),
        policy_state: Some(beside.state.to_string()),
    }
}
