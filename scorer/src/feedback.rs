//! Reactions to tips shown.

use ingest::{Millis, record::Record};
use prost::Message;
use serde::Serialize;

use crate::{
    Scorer, ScorerError,
    record::{REACTION, REACTION_SOURCE, Reaction, ReactionKind},
    telemetry,
};

/// A reaction as the caller reports it.
#[derive(Debug, Clone)]
pub struct Feedback {
    /// Id of the impression, as it came with the tip.
    pub impression: String,
    /// What the person did.
    pub reaction: ReactionKind,
    /// When, if that is not now. Part of the reaction's identity: the same reaction to the same impression
    /// at the same time, or without a time, is a repeat.
    pub at: Option<Millis>,
    /// Where it came from, such as `web`.
    pub channel: Option<String>,
}

/// What became of a reaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// Who reacted.
    pub user: String,
    /// To which tip.
    pub tip: String,
    /// Whether it is new; a repeat changes nothing.
    pub new: bool,
}

impl Scorer {
    /// Takes a reaction: a signal like any other, answered once it is durable.
    ///
    /// # Errors
    /// [`ScorerError::UnknownImpression`] when the impression is not remembered, [`ScorerError::Unavailable`]
    /// when the log did not take it; the same reaction may then be sent again.
    pub async fn feedback(&self, feedback: &Feedback, now: Millis) -> Result<Taken, ScorerError> {
        let memory = &self.parts().memory;
        let shown = memory.shown(&feedback.impression).ok_or_else(|| {
            let id: String = feedback.impression.chars().take(64).collect();
            ScorerError::UnknownImpression(id)
        })?;
        let kind = feedback.reaction;
        let message = Reaction {
            impression: Some(feedback.impression.clone()),
            tip: Some(shown.tip.to_string()),
            category: Some(shown.category.to_string()),
            reaction: Some(kind.name().to_owned()),
            channel: feedback.channel.clone(),
        };
        let time = feedback.at.unwrap_or(now);
        let record = Record {
            kind: REACTION.to_owned(),
            id: match feedback.at {
                Some(at) => format!("{}/{kind}/{at}", feedback.impression),
                None => format!("{}/{kind}", feedback.impression),
            },
            source: REACTION_SOURCE.to_owned(),
            subject: shown.user.to_string(),
            time,
            received_at: now,
            data: message.encode_to_vec().into(),
            extensions: Vec::new(),
        };
        let new = self.parts().sink.append(record).await?;
        memory.reaction(&feedback.impression, kind, now);
        if new {
            metrics::counter!(telemetry::REACTIONS, "reaction" => kind.name()).increment(1);
        }
        Ok(Taken { user: shown.user.to_string(), tip: shown.tip.to_string(), new })
    }
}
