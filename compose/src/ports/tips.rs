//! Recommendations, reactions and explanations for the routes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use api::{
    ApiError,
    ports::{Ask, Reaction, Recommendation, Recommends, Recorded, TipText},
};
use async_trait::async_trait;
use ingest::{Millis, log::Log};
use rand::{SeedableRng, rngs::StdRng};
use scorer::{Answer, Scorer, ScorerError, decide::Request, feedback::Feedback, record::ReactionKind};

/// The scorer behind the routes.
pub struct Tips {
    scorer: Scorer,
    log: Arc<dyn Log>,
    rng: Mutex<StdRng>,
}

impl Tips {
    /// Decisions draw from one generator that begins with `seed`.
    pub fn new(scorer: Scorer, log: Arc<dyn Log>, seed: u64) -> Tips {
        Tips { scorer, log, rng: Mutex::new(StdRng::seed_from_u64(seed)) }
    }
}

#[async_trait]
impl Recommends for Tips {
    async fn recommend(&self, ask: Ask, now: Millis) -> Result<Option<Recommendation>, ApiError> {
        let request = Request { channel: ask.channel, context: numbers(ask.context.unwrap_or_default())? };
        // A decision has a generator of its own, so that none waits while another one thinks.
        let mut rng = StdRng::from_rng(&mut *self.rng.lock().unwrap_or_else(PoisonError::into_inner));
        let decision = match self.scorer.recommend(&ask.user, now, &mut rng, &request).await.map_err(told)? {
            Answer::Silence(_) => return Ok(None),
            Answer::Tip(decision) => decision,
        };
        let tip = &decision.tip;
        Ok(Some(Recommendation {
            tip: TipText {
                id: tip.id.clone(),
                title: tip.title.clone(),
                body: tip.body.clone(),
                action: Some(tip.action.clone()),
                why: Some(decision.why),
            },
            impression: decision.impression,
            policy: format!("{}@{}", decision.policy, decision.version),
            propensity: decision.propensity,
            stale: decision.stale,
        }))
    }

    async fn feedback(
        &self,
        impression: &str,
        reaction: Reaction,
        at: Option<Millis>,
        now: Millis,
    ) -> Result<Recorded, ApiError> {
        let reaction = match reaction {
            Reaction::Accepted => ReactionKind::Accepted,
            Reaction::Dismissed => ReactionKind::Dismissed,
            Reaction::Snoozed => ReactionKind::Snoozed,
            Reaction::Done => ReactionKind::Done,
            Reaction::Muted => ReactionKind::Muted,
        };
        let feedback = Feedback { impression: impression.to_owned(), reaction, at, channel: None };
        let taken = self.scorer.feedback(&feedback, now).await.map_err(told)?;
        Ok(if taken.new { Recorded::New } else { Recorded::Again })
    }

    async fn explain(&self, impression: &str) -> Result<serde_json::Value, ApiError> {
        let (log, id) = (self.log.clone(), impression.to_owned());
        let found = tokio::task::spawn_blocking(move || scorer::explain::explain(&*log, &id))
            .await
            .map_err(|e| ApiError::Internal(format!("an explanation stopped: {e}")))?
            .map_err(|e| ApiError::Unavailable(e.to_string()))?;
        let explanation = found.ok_or_else(|| {
            let id: String = impression.chars().take(64).collect();
            ApiError::NotFound(format!("impression `{id}` is not in the log"))
        })?;
        serde_json::to_value(explanation).map_err(|e| ApiError::Internal(e.to_string()))
    }
}

fn numbers(context: serde_json::Map<String, serde_json::Value>) -> Result<BTreeMap<String, f64>, ApiError> {
    let number = |value: &serde_json::Value| {
        value.as_f64().or_else(|| value.as_bool().map(|b| f64::from(u8::from(b))))
    };
    let named = context.into_iter().map(|(name, value)| match number(&value) {
        Some(number) => Ok((name, number)),
        None => Err(ApiError::Invalid(format!("context.{name}: give a number or true or false"))),
    });
    named.collect()
}

fn told(e: ScorerError) -> ApiError {
    match e {
        ScorerError::Invalid(_) => ApiError::Invalid(e.to_string()),
        ScorerError::UnknownImpression(_) => ApiError::NotFound(e.to_string()),
        ScorerError::Unavailable(_) | ScorerError::Log(_) => ApiError::Unavailable(e.to_string()),
        ScorerError::Config(_) | ScorerError::Snapshot(_) => ApiError::Internal(e.to_string()),
    }
}
