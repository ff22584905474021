//! Changes of what serves: promotion, return, a trained snapshot.

use ingest::{Millis, log::Topic};

use super::{Learning, roles::last_change};
use crate::{
    ScorerError,
    learn::{
        Learner, StateId,
        identity::{config_id, fingerprint},
        learner::as_json,
        registry,
    },
    policy::PolicyConfig,
    record::{SavedPolicy, ServedPolicy, Serving, names_hash},
};

impl Learning {
    /// Lets the shadow serve from now on, and what served go on in its shadow. `judged` is the
    /// [`StateId::policy`] that was found worth it.
    ///
    /// # Errors
    /// No shadow, or another than the one judged; a log that does not take the change. Nothing has changed
    /// then.
    pub async fn promote(
        &mut self,
        judged: u64,
        by: String,
        why: String,
        now: Millis,
    ) -> Result<Serving, ScorerError> {
        let Some(shadow) = &mut self.shadow else {
            let text = "there is no shadow to promote; configure one in the section `scorer.shadow`";
            return Err(ScorerError::Invalid(text.into()));
        };
        if shadow.id().policy != judged {
            let text = "another policy is in the shadow than the one that was judged; judge this one first";
            return Err(ScorerError::Invalid(text.into()));
        }
        shadow.save(now).await?;
        self.incumbent.save(now).await?;
        let served = shadow.served();
        self.serve("promoted", served, by, why, now).await
    }

    /// Lets a snapshot serve as it was: that of `version` of the policy that serves, or else what served
    /// before the last change, or else, where nothing ever changed, the snapshot before the last. It learns on
    /// from the rewards that come from now on; those since the snapshot was taken are left out for good.
    ///
    /// # Errors
    /// No such snapshot; a log that does not take the change. Nothing has changed then.
    pub async fn roll_back(
        &mut self,
        version: Option<u64>,
        by: String,
        now: Millis,
    ) -> Result<Serving, ScorerError> {
        let saved = self.earlier(version)?;
        let config: PolicyConfig = serde_json::from_str(&saved.config).map_err(|e| {
            ScorerError::Snapshot(format!(
                "the settings of snapshot {} cannot be read: {e}",
                saved.reference()
            ))
        })?;
        if saved.fingerprint != fingerprint(&config, &self.brief.layout) {
            return Err(ScorerError::Invalid(format!(
                "snapshot {} was taken of another context; put `scorer.context` back first",
                saved.reference()
            )));
        }
        self.incumbent.save(now).await?;
        let mut back = Learner::untaught(self.log.clone(), self.brief.clone(), config, now)?;
        back.take_up(&saved)?;
        let lineage = names_hash(&["rolled back", &saved.reference(), &now.to_string()]);
        back.branch(lineage, self.log.end(Topic::Rewards), saved.trained);
        back.save(now).await?;
        let why = as_json(&serde_json::json!({ "to": saved.reference(), "taken_at": saved.taken_at }));
        self.serve("rolled back", back.served(), by, why, now).await
    }

    fn earlier(&self, version: Option<u64>) -> Result<SavedPolicy, ScorerError> {
        let log = &*self.log;
        let (id, now) = (self.incumbent.id(), self.incumbent.version());
        let found = match (version, last_change(log, &self.configured)?.and_then(|s| s.previous)) {
            (Some(version), _) => {
                let same = |saved: &SavedPolicy| saved.version == version;
                let of = |saved: &SavedPolicy| saved.id.parse::<StateId>().ok();
                match registry::newest(log, |s| same(s) && of(s) == Some(id))? {
                    None => {
                        registry::newest(log, |s| same(s) && of(s).is_some_and(|o| o.policy == id.policy))?
                    }
                    found => found,
                }
            }
            (None, Some(previous)) => {
                registry::newest(log, |s| s.id == previous.id && s.version == previous.version)?
            }
            (None, None) => registry::newest(log, |s| s.id == id.to_string() && s.version < now)?,
        };
        found.ok_or_else(|| {
            ScorerError::Invalid(match version {
                Some(version) => format!(
                    "there is no snapshot of the policy that serves with version {version}; `kairos policy list` \
                     shows those there are"
                ),
                None => "there is no earlier snapshot to go back to".into(),
            })
        })
    }

    /// Registers a snapshot that training made. The shadow goes on from it where it is of the shadow's policy;
    /// what serves is not touched.
    ///
    /// # Errors
    /// A log that does not take it.
    pub async fn take_up(&mut self, saved: SavedPolicy, now: Millis) -> Result<(), ScorerError> {
        self.incumbent.save(now).await?;
        registry::write(&*self.log, saved).await?;
        self.reseat(now)
    }

    async fn serve(
        &mut self,
        action: &str,
        policy: ServedPolicy,
        by: String,
        why: String,
        now: Millis,
    ) -> Result<Serving, ScorerError> {
        let serving = Serving {
            action: action.to_owned(),
            at: now,
            by,
            policy: Some(policy),
            previous: Some(self.incumbent.served()),
            configured: config_id(&self.configured),
            why,
        };
        registry::write_serving(&*self.log, &serving).await?;
        self.reseat(now)?;
        tracing::info!(action, policy = self.incumbent.served().name, "another policy serves");
        Ok(serving)
    }
}
