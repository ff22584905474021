//! Who serves, and who is in the shadow.

use std::sync::Arc;

use ingest::{
    Millis,
    log::{Log, LogError},
};

use crate::{
    ScorerConfig, ScorerError,
    learn::{Brief, Learner, StateId, config_id, learner::GoOn, registry},
    policy::PolicyConfig,
    record::Serving,
};

/// The last change of what serves, unless the configuration names another policy since.
pub(super) fn last_change(log: &dyn Log, configured: &PolicyConfig) -> Result<Option<Serving>, LogError> {
    let last = registry::serving(log)?.map(|(_, serving)| serving);
    Ok(last.filter(|serving| serving.configured == config_id(configured)))
}

/// Who serves and who is in the shadow, told from a log that may be open for reading only.
#[derive(Debug, Clone, PartialEq)]
pub struct Roles {
    /// The policy that serves.
    pub incumbent: PolicyConfig,
    /// The one in its shadow.
    pub shadow: Option<PolicyConfig>,
    /// When the last change was made, if there was one.
    pub since: Option<Millis>,
    which: GoOn,
}

impl Roles {
    /// The two configured, or whom the last change names and the other.
    ///
    /// # Errors
    /// What the log says when it cannot be read.
    pub fn read(log: &dyn Log, config: &ScorerConfig) -> Result<Roles, LogError> {
        Self::of(log, &config.policy, config.shadow.as_ref())
    }

    fn of(
        log: &dyn Log,
        configured: &PolicyConfig,
        shadow: Option<&PolicyConfig>,
    ) -> Result<Roles, LogError> {
        let change = last_change(log, configured)?;
        let since = change.as_ref().map(|change| change.at);
        let served = change.and_then(|change| change.policy).and_then(|policy| {
            let config: PolicyConfig = serde_json::from_str(&policy.config).ok()?;
            Some((config, GoOn::Lineage(policy.id.parse::<StateId>().ok()?.lineage)))
        });
        let (incumbent, which) = served.unwrap_or((configured.clone(), GoOn::Untrained));
        let promoted = |shadow: &PolicyConfig| config_id(shadow) == config_id(&incumbent);
        let shadow = shadow.map(|shadow| if promoted(shadow) { configured } else { shadow }.clone());
        Ok(Roles { incumbent, shadow, since, which })
    }
}

/// The learners in their places.
pub(super) fn seats(
    log: &Arc<dyn Log>,
    configured: &PolicyConfig,
    configured_shadow: Option<&PolicyConfig>,
    brief: &Arc<Brief>,
    now: Millis,
) -> Result<(Learner, Option<Learner>), ScorerError> {
    let roles = Roles::of(&**log, configured, configured_shadow)?;
    let restore =
        |config: PolicyConfig, which| Learner::restore(log.clone(), brief.clone(), config, which, now);
    let incumbent = restore(roles.incumbent, roles.which)?;
    let Some(shadow) = roles.shadow else { return Ok((incumbent, None)) };
    let mut shadow = restore(shadow, GoOn::Any)?;
    let challenger = configured_shadow == Some(shadow.config());
    shadow.publish_at(shadow.published(), challenger);
    Ok((incumbent, Some(shadow)))
}
