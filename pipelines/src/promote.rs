//! `kairos policy promote`: whether the shadow has shown itself better than the policy that serves.
//!
//! Everything is told from the log, which may be open for reading only. What counts are decisions of the
//! incumbent itself, settled, made since the last change of what serves, whose record has the shadow's
//! probabilities of the same candidates. Each [`Condition`] says what was found and what is wanted; all of them
//! must be met.
//!
//! | condition | guards against |
//! |---|---|
//! | decisions | too little to look at |
//! | records, recomputed | a shadow that did not run as recorded |
//! | propensities, support | a log whose probabilities are wrong, or that never shows what the shadow would |
//! | effective decisions, largest share | a verdict by a handful of heavy decisions |
//! | SNIPS, doubly robust, agreement | an estimate that hangs on one method |
//! | at any time | looking again and again until it fits |
//! | experiment | people who liked the shadow's choices less, where an experiment shows them |

mod evidence;
mod report;

use ingest::{
    Millis,
    log::{Log, LogError},
};
use rand::RngCore;
use scorer::{
    ScorerConfig,
    context::Layout,
    learn::{Roles, StateId},
};

pub use self::report::{Condition, Figures, Report};
use self::{evidence::Evidence, report::Judge};

/// What a gate needs beside the log.
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a> {
    /// The policies, and what a shadow must show.
    pub config: &'a ScorerConfig,
    /// What the policies' inputs are.
    pub layout: &'a Layout,
    /// Samples of the bootstrap.
    pub resamples: u32,
}

impl Gate<'_> {
    /// Judges the shadow. `rng` draws the records that are computed again, and the bootstrap.
    ///
    /// # Errors
    /// What the log says when it cannot be read.
    pub fn judge(&self, log: &dyn Log, rng: &mut dyn RngCore) -> Result<Report, LogError> {
        let roles = Roles::read(log, self.config)?;
        let Some(shadow) = &roles.shadow else {
            return Ok(Report::without_shadow(roles.incumbent.name));
        };
        let id = |policy| StateId::new(policy, self.layout, 0).policy;
        let (incumbent, challenger) = (id(&roles.incumbent), id(shadow));
        let experiment = self.config.experiment.as_ref().map(|e| e.name.as_str());
        let since = roles.since.unwrap_or(Millis::MIN);
        let evidence = Evidence::gather(
            log,
            &evidence::Wanted { incumbent, shadow: challenger, since, experiment },
            &self.config.promotion,
            self.window(),
            rng,
        )?;
        let judge = Judge {
            incumbent: roles.incumbent.name,
            shadow: shadow.name,
            shadow_id: challenger,
            config: &self.config.promotion,
            resamples: self.resamples,
        };
        Ok(judge.report(&evidence, rng))
    }

    fn window(&self) -> Millis {
        let learn = &self.config.learn;
        ((learn.window_minutes * 60.0 + learn.grace_seconds) * 1_000.0) as Millis
    }
}

#[cfg(test)]
mod tests;
