//! Distributions of long ago, computed again from the log: the nearest snapshot before, the rewards after it
//! up to the recorded version, and the recorded context.

use std::{collections::BTreeMap, sync::Arc};

use ingest::log::{Log, LogError, Position, Topic};
use serde::Serialize;

use super::{
    BATCH, StateId,
    learner::{decoded, teach},
    registry,
};
use crate::{
    context::{ContextConfig, Layout},
    policy::{self, Action, Distribution, Policy, PolicyConfig, Snapshot, Space, Uniform},
    record::{Impression, SavedPolicy},
    tips::TipCatalogue,
};

/// Name of the policy that has no state.
const UNIFORM: &str = "uniform";

/// One distribution as it was recorded, and what it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// Name of the policy.
    pub policy: String,
    /// Its state.
    pub state: Option<StateId>,
    /// How many rewards it had learned.
    pub version: u64,
    /// The context as recorded.
    pub context: Vec<f64>,
    /// Tip, category and effort of each candidate; nothing where the record is older than these fields.
    pub candidates: Option<Vec<(String, String, f64)>>,
    /// What was recorded.
    pub propensities: Vec<f64>,
    /// The random number that was drawn, and the tip it fell on.
    pub drawn: Option<(f64, String)>,
}

/// What came of computing a distribution again.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Again {
    /// The same probabilities to the bit, and the same draw.
    Equal,
    /// Something else.
    Differs {
        /// What.
        why: String,
    },
    /// The log no longer holds what it takes.
    Impossible {
        /// What is missing.
        why: String,
    },
}

impl std::fmt::Display for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Again::Equal => {
                f.write_str("from snapshot, rewards and context: the same probabilities to the bit")
            }
            Again::Differs { why } => write!(f, "from snapshot, rewards and context: NOT the same, {why}"),
            Again::Impossible { why } => write!(f, "cannot be computed again: {why}"),
        }
    }
}

impl Again {
    /// Not looked at yet.
    pub(crate) fn unknown() -> Again {
        Again::impossible("nobody tried")
    }

    fn impossible(why: impl Into<String>) -> Again {
        Again::Impossible { why: why.into() }
    }
}

impl Moment {
    /// The decision itself.
    pub fn decision(seen: &Impression) -> Moment {
        Moment {
            policy: seen.policy.clone().unwrap_or_default(),
            state: seen.policy_state.as_deref().and_then(|s| s.parse().ok()),
            version: number(seen.policy_version.as_deref()),
            context: seen.context.clone(),
            candidates: candidates(seen),
            propensities: seen.candidates.iter().filter_map(|c| c.propensity).collect(),
            drawn: seen.draw.zip(seen.tip.clone()),
        }
    }

    /// What the policy beside it made of the same candidates.
    pub fn shadow(seen: &Impression) -> Option<Moment> {
        let shadow = seen.shadow.as_ref()?;
        Some(Moment {
            policy: shadow.policy.clone().unwrap_or_default(),
            state: shadow.policy_state.as_deref().and_then(|s| s.parse().ok()),
            version: number(shadow.policy_version.as_deref()),
            context: seen.context.clone(),
            candidates: candidates(seen),
            propensities: shadow.propensities.clone(),
            drawn: shadow.draw.zip(shadow.tip.clone()),
        })
    }

    fn compare(&self, snapshot: &dyn Snapshot, layout: Option<&Layout>) -> Again {
        let Some(candidates) = &self.candidates else {
            return Again::impossible("the record does not say category and effort of the candidates");
        };
        let mut features = Vec::new();
        for (_, category, effort) in candidates {
            if let Some(layout) = layout {
                layout.action(&self.context, category, *effort, &mut features);
            }
        }
        let width = layout.map_or(0, Layout::action_len);
        let actions: Vec<Action<'_>> = candidates
            .iter()
            .enumerate()
            .map(|(i, (tip, group, _))| Action {
                tip,
                group,
                features: &features[i * width..(i + 1) * width],
            })
            .collect();
        let context = layout.map(|l| l.inputs(&self.context)).unwrap_or_default();
        self.verdict(&snapshot.distribution(context.view(), &actions), candidates)
    }

    fn verdict(&self, again: &Distribution, candidates: &[(String, String, f64)]) -> Again {
        let bits = |p: &[f64]| p.iter().map(|p| p.to_bits()).collect::<Vec<_>>();
        if bits(&again.propensities) != bits(&self.propensities) {
            let apart = again.propensities.iter().zip(&self.propensities).map(|(a, b)| (a - b).abs());
            let most = apart.fold(0.0, f64::max);
            let (now, then) = (again.propensities.len(), self.propensities.len());
            let why = match now == then {
                true => format!("probabilities differ by up to {most:e}"),
                false => format!("{now} probabilities instead of {then}"),
            };
            return Again::Differs { why };
        }
        match &self.drawn {
            Some((draw, tip)) => match again.at(*draw).map(|i| &candidates[i].0) {
                Some(same) if same == tip => Again::Equal,
                other => Again::Differs {
                    why: format!("the draw falls on `{}`", other.map_or("nothing", String::as_str)),
                },
            },
            None => Again::impossible("the record has no draw"),
        }
    }
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|t| t.parse().ok()).unwrap_or_default()
}

fn candidates(seen: &Impression) -> Option<Vec<(String, String, f64)>> {
    seen.candidates.iter().map(|c| Some((c.tip.clone()?, c.category.clone()?, c.effort?))).collect()
}

/// Computes distributions again, in the order given. Reads snapshots, and the rewards after the earliest.
///
/// # Errors
/// What the log says when it cannot be read.
pub fn again(log: &dyn Log, moments: &[Moment]) -> Result<Vec<Again>, LogError> {
    let mut answers: Vec<Option<Again>> = vec![None; moments.len()];
    let mut by_state: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    for (i, moment) in moments.iter().enumerate() {
        match moment.state {
            _ if moment.policy == UNIFORM => answers[i] = Some(moment.compare(&Uniform, None)),
            Some(state) => by_state.entry((moment.policy.clone(), state.to_string())).or_default().push(i),
            None => answers[i] = Some(Again::impossible("the record does not name the policy's state")),
        }
    }
    for ((_, state), mut these) in by_state {
        these.sort_by_key(|i| moments[*i].version);
        let first = these.first().map_or(0, |i| moments[*i].version);
        let mut walk = match Walk::from(log, &state, first)? {
            Ok(walk) => walk,
            Err(why) => {
                these.iter().for_each(|i| answers[*i] = Some(Again::impossible(why.clone())));
                continue;
            }
        };
        for i in these {
            let answer = match walk.to(log, moments[i].version)? {
                true => walk.judge(&moments[i]),
                false => Again::impossible(format!(
                    "the log holds rewards up to version {} of this state, and {} were erased",
                    walk.policy.version(),
                    walk.erased
                )),
            };
            answers[i] = Some(answer);
        }
    }
    Ok(answers.into_iter().flatten().collect())
}

/// A policy on its way through the rewards.
struct Walk {
    policy: Box<dyn Policy>,
    layout: Arc<Layout>,
    position: Position,
    /// Rewards passed that cannot be read any more.
    erased: u64,
}

impl Walk {
    fn from(log: &dyn Log, state: &str, version: u64) -> Result<Result<Walk, String>, LogError> {
        let Some(saved) = registry::nearest(log, state, version)? else {
            return Ok(Err("no snapshot of this state at or before this version is in the log".into()));
        };
        Ok(Walk::at(&saved).map_err(|why| format!("snapshot {}: {why}", saved.reference())))
    }

    fn at(saved: &SavedPolicy) -> Result<Walk, String> {
        let config: PolicyConfig = serde_json::from_str(&saved.config).map_err(|e| e.to_string())?;
        let context: ContextConfig = serde_json::from_str(&saved.context).map_err(|e| e.to_string())?;
        let layout = Layout::new(&context, &TipCatalogue::default()).map_err(|e| e.to_string())?;
        let space = Space { context: layout.context_len(), action: layout.action_len(), groups: Vec::new() };
        let mut policy = policy::build(&config, &space);
        policy.load(&saved.state).map_err(|e| e.to_string())?;
        Ok(Walk { policy, layout: Arc::new(layout), position: saved.rewards.parse()?, erased: 0 })
    }

    /// Learns up to a version; `false` when the rewards end before.
    fn to(&mut self, log: &dyn Log, version: u64) -> Result<bool, LogError> {
        let mut reader = log.reader(Topic::Rewards, &[0], &self.position)?;
        while self.policy.version() < version {
            let records = reader.poll(BATCH)?;
            if records.is_empty() {
                return Ok(false);
            }
            for record in &records {
                if self.policy.version() == version {
                    break;
                }
                // An erased reward leaves a gap.
                self.erased += record.offset.saturating_sub(self.position.get(record.partition));
                self.position.advance(record.partition, record.offset);
                if let Some(reward) = decoded(record) {
                    teach(&mut *self.policy, &self.layout, &reward);
                }
            }
        }
        Ok(self.policy.version() == version)
    }

    fn judge(&mut self, moment: &Moment) -> Again {
        let snapshot = self.policy.snapshot();
        match moment.compare(&*snapshot, Some(&self.layout)) {
            Again::Differs { why } if self.erased > 0 => Again::impossible(format!(
                "{} of the rewards it had learned were erased with the people they were about ({why})",
                self.erased
            )),
            answer => answer,
        }
    }
}
