//! A decision as the log keeps it.
//!
//! Most of a record is the same in each: the names of the context's values, and what candidates are. That part
//! is written once, and a decision copies it.

use ingest::{Millis, record::Record};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};

use super::{Beside, Decision};
use crate::{
    context::Layout,
    record::{self, IMPRESSION, IMPRESSION_SOURCE, Impression},
    tips::{Tip, TipCatalogue},
};

/// Number of the field of candidates in an [`Impression`].
const CANDIDATES: u32 = 10;
/// A number in a message: its key, and eight bytes.
const DOUBLE: usize = 9;

/// What does not change from record to record.
pub(super) struct Written {
    names: Vec<u8>,
    /// In the order of the catalogue.
    tips: Vec<WrittenTip>,
}

/// A candidate as a field of the impression.
struct WrittenTip {
    bytes: Vec<u8>,
    /// Where the value of its score stands; that of its propensity follows.
    score_at: usize,
}

impl Written {
    pub fn new(layout: &Layout, catalogue: &TipCatalogue) -> Written {
        let named = Impression { context_names: layout.names().to_vec(), ..Impression::default() };
        Written { names: named.encode_to_vec(), tips: catalogue.iter().map(WrittenTip::new).collect() }
    }

    /// The record of a decision for `user`; `candidates` are those of the decision, by their places in the
    /// catalogue.
    pub fn record(
        &self,
        user: &str,
        now: Millis,
        channel: Option<&str>,
        candidates: &[usize],
        decision: &Decision,
    ) -> Record {
        let message = message(channel, decision);
        let tips = || candidates.iter().filter_map(|i| self.tips.get(*i));
        let length = message.encoded_len() + self.names.len() + tips().map(|t| t.bytes.len()).sum::<usize>();
        let mut data = Vec::with_capacity(length);
        message.encode_raw(&mut data);
        data.extend_from_slice(&self.names);
        for (tip, candidate) in tips().zip(&decision.candidates) {
            tip.write(candidate.score, candidate.propensity, &mut data);
        }
        Record {
            kind: IMPRESSION.to_owned(),
            id: decision.impression.clone(),
            source: IMPRESSION_SOURCE.to_owned(),
            subject: user.to_owned(),
            time: now,
            received_at: now,
            data: data.into(),
            extensions: Vec::new(),
        }
    }
}

impl WrittenTip {
    fn new(tip: &Tip) -> WrittenTip {
        let candidate = record::Candidate {
            tip: Some(tip.id.clone()),
            score: Some(0.0),
            propensity: Some(0.0),
            category: Some(tip.category.clone()),
            effort: Some(f64::from(tip.effort)),
        };
        let before = record::Candidate { tip: candidate.tip.clone(), ..record::Candidate::default() };
        let mut bytes = Vec::new();
        encode_key(CANDIDATES, WireType::LengthDelimited, &mut bytes);
        encode_varint(candidate.encoded_len() as u64, &mut bytes);
        let score_at = bytes.len() + before.encoded_len() + 1;
        candidate.encode_raw(&mut bytes);
        WrittenTip { bytes, score_at }
    }

    fn write(&self, score: f64, propensity: f64, data: &mut Vec<u8>) {
        let score_at = data.len() + self.score_at;
        data.extend_from_slice(&self.bytes);
        for (at, value) in [(score_at, score), (score_at + DOUBLE, propensity)] {
            data[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// The message without what is [`Written`].
fn message(channel: Option<&str>, decision: &Decision) -> Impression {
    let parts = decision.parts.iter().map(|p| record::Part {
        view: Some(p.view.to_string()),
        version: Some(p.version.to_string()),
        position: Some(p.position.to_string()),
    });
    Impression {
        tip: Some(decision.tip.id.clone()),
        category: Some(decision.tip.category.clone()),
        channel: channel.map(str::to_owned),
        policy: Some(decision.policy.to_owned()),
        policy_version: Some(decision.version.to_string()),
        propensity: Some(decision.propensity),
        draw: Some(decision.draw),
        context_names: Vec::new(),
        context: decision.context.clone(),
        candidates: Vec::new(),
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
