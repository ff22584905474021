//! A bandit for any program: named values in, a choice with its true propensity out.
//!
//! [`Bandit`] puts a policy of [`crate::policy`] behind values that have names, as programs have them, instead
//! of vectors. [`Session`] speaks it in JSON lines, which is `kairos bandit --stdio`: it remembers the rounds
//! that wait for their reward, and saves and loads everything.
//!
//! ```
//! use scorer::{bandit::{Bandit, Named, NamedAction, Value}, policy::PolicyConfig};
//!
//! let mut bandit = Bandit::new(&PolicyConfig::default(), 7);
//! let context = Named::from([("hour".into(), Value::Number(9.0)), ("place".into(), Value::Text("home".into()))]);
//! let actions = ["walk", "call"].map(|id| NamedAction { id: id.into(), features: None });
//! let distribution = bandit.distribution(&context, &actions);
//! bandit.learn(&context, &actions[0], distribution.propensities[0], 1.0);
//! ```
//!
//! | module | what |
//! |---|---|
//! | `encode` | names to a policy's inputs |
//! | `rounds` | rounds that wait for their reward |
//! | `session`, `lines`, `scan` | JSON lines in, JSON lines out |
//! | `saved` | the file that a session is saved in |

mod encode;
mod lines;
#[cfg(test)]
mod properties;
mod rounds;
mod saved;
mod scan;
mod session;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use ndarray::ArrayView1;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use self::encode::Encoder;
pub use self::{
    encode::{HASH_SEED, HASHED_INPUTS, OWN_INPUTS},
    rounds::Limits,
    session::{MOST_ACTIONS, MOST_PLACES, Session},
};
use crate::{
    ScorerError,
    policy::{self, Action, Choice, Distribution, Observation, Policy, PolicyConfig, Snapshot, Space},
};

/// One value of a context or of an action's features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// An input as it is. A number that is not finite counts as missing.
    Number(f64),
    /// One input for each text seen under this name: 1 where it is this one.
    Text(String),
    /// An input of 0 or 1.
    Flag(bool),
}

/// Values by name. What is missing counts as 0.
pub type Named = BTreeMap<String, Value>;

/// Something that can be chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedAction {
    /// Who it is; what is learned of it goes by this.
    pub id: String,
    /// What is known of it, where anything is. Actions never seen before have a score by their features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Named>,
}

/// A value on its way to the policy's inputs.
#[derive(Debug, Clone, PartialEq)]
pub enum Field<'a> {
    /// See [`Value::Number`].
    Number(f64),
    /// See [`Value::Text`].
    Text(Cow<'a, str>),
    /// See [`Value::Flag`].
    Flag(bool),
    /// Nothing is known, as if the name were not there.
    Missing,
}

/// Fields with their names. Of a name that stands there twice, the last counts.
pub type Fields<'a> = Vec<(Cow<'a, str>, Field<'a>)>;

/// An action to decide on, borrowed from where it was read.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// See [`NamedAction::id`].
    pub id: Cow<'a, str>,
    /// See [`NamedAction::features`].
    pub features: Fields<'a>,
}

/// What a decision must remember until its reward comes.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    context: Vec<f64>,
    id: String,
    features: Vec<f64>,
    propensity: f64,
}

/// A policy behind named values. The same calls with the same seed give the same answers.
pub struct Bandit {
    config: PolicyConfig,
    context: Encoder,
    features: Encoder,
    policy: Box<dyn Policy>,
    /// What decisions are made by; taken anew only when something was learned since, because it may be costly.
    snapshot: Option<Arc<dyn Snapshot>>,
    rng: ChaCha8Rng,
}

impl Bandit {
    /// Untaught. The seed decides the draws, and takes the place of the configuration's.
    pub fn new(config: &PolicyConfig, seed: u64) -> Bandit {
        let config = PolicyConfig { seed, ..config.clone() };
        Bandit {
            // Inputs join when their name is first seen.
            policy: policy::build(&config, &Space::default()),
            config,
            context: Encoder::default(),
            features: Encoder::default(),
            snapshot: None,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Name of the policy.
    pub fn name(&self) -> &'static str {
        self.policy.name()
    }

    /// How many rewards it has learned from.
    pub fn learned(&self) -> u64 {
        self.policy.version()
    }

    /// The probabilities over `actions`, in their order; empty without actions.
    pub fn distribution(&mut self, context: &Named, actions: &[NamedAction]) -> Distribution {
        let candidates: Vec<Candidate<'_>> = actions.iter().map(candidate).collect();
        let inputs = self.inputs(&fields(context), &candidates);
        self.snapshot().distribution(ArrayView1::from(&inputs.context), &inputs.actions(&candidates))
    }

    /// Learns what an action was worth in a context. Rewards may be any finite numbers; another is ignored.
    pub fn learn(&mut self, context: &Named, action: &NamedAction, propensity: f64, reward: f64) {
        let candidates = [candidate(action)];
        let Inputs { context, features, .. } = self.inputs(&fields(context), &candidates);
        self.settle(&Decided { context, id: action.id.clone(), features, propensity }, reward);
    }

    /// Draws one of `candidates`; `None` when there is none. What comes with the choice goes to
    /// [`Bandit::settle`] when the reward is known.
    pub fn decide(
        &mut self,
        context: &[(Cow<'_, str>, Field<'_>)],
        candidates: &[Candidate<'_>],
    ) -> Option<(Choice, Decided)> {
        let inputs = self.inputs(context, candidates);
        let snapshot = self.snapshot();
        let actions = inputs.actions(candidates);
        let seen = ArrayView1::from(&inputs.context);
        let choice = policy::choose(&*snapshot, seen, &actions, &mut self.rng)?;
        let decided = inputs.remember(&actions, &choice);
        Some((choice, decided))
    }

    /// Draws up to `k` of `candidates`, one after the other; see [`policy::choose_slate`]. Each has a reward of
    /// its own.
    pub fn decide_slate(
        &mut self,
        context: &[(Cow<'_, str>, Field<'_>)],
        candidates: &[Candidate<'_>],
        k: usize,
    ) -> Vec<(Choice, Decided)> {
        let inputs = self.inputs(context, candidates);
        let snapshot = self.snapshot();
        let actions = inputs.actions(candidates);
        let seen = ArrayView1::from(&inputs.context);
        let slate = policy::choose_slate(&*snapshot, seen, &actions, k, &mut self.rng);
        slate.into_iter().map(|choice| (choice.clone(), inputs.remember(&actions, &choice))).collect()
    }

    /// Learns what came of a decision. Rewards may come in any order; `false` when it could not be learned
    /// from, because it is no finite number.
    pub fn settle(&mut self, decided: &Decided, reward: f64) -> bool {
        self.snapshot = None;
        reward.is_finite()
            && self.policy.learn(&Observation {
                context: ArrayView1::from(&decided.context),
                action: Action { tip: &decided.id, group: &decided.id, features: &decided.features },
                propensity: decided.propensity,
                reward,
            })
    }

    /// The whole state, to the bit: what was learned, the names, the random numbers to come.
    pub fn save(&self) -> Vec<u8> {
        saved::of_bandit(self)
    }

    /// Takes over a state that [`Bandit::save`] wrote; on an error it is as before.
    ///
    /// # Errors
    /// A damaged state, or one of another policy.
    pub fn load(&mut self, state: &[u8]) -> Result<(), ScorerError> {
        *self = saved::to_bandit(state, self.config.name)?;
        Ok(())
    }

    fn snapshot(&mut self) -> Arc<dyn Snapshot> {
        self.snapshot.get_or_insert_with(|| self.policy.snapshot()).clone()
    }

    fn inputs(&mut self, context: &[(Cow<'_, str>, Field<'_>)], candidates: &[Candidate<'_>]) -> Inputs {
        let context = self.context.encode([context]);
        let features = self.features.encode(candidates.iter().map(|c| &c.features[..]));
        Inputs { context, features, width: self.features.inputs() }
    }
}

/// A decision's inputs as numbers.
struct Inputs {
    context: Vec<f64>,
    /// One row after the other, an action each.
    features: Vec<f64>,
    width: usize,
}

impl Inputs {
    fn actions<'a>(&'a self, candidates: &'a [Candidate<'_>]) -> Vec<Action<'a>> {
        let row = |i: usize| &self.features[i * self.width..(i + 1) * self.width];
        let actions = candidates.iter().enumerate();
        // Actions have no category here: each is a group of its own.
        actions.map(|(i, c)| Action { tip: &c.id, group: &c.id, features: row(i) }).collect()
    }

    fn remember(&self, actions: &[Action<'_>], choice: &Choice) -> Decided {
        let chosen = &actions[choice.index];
        Decided {
            context: self.context.clone(),
            id: chosen.tip.to_owned(),
            features: chosen.features.to_vec(),
            propensity: choice.propensity(),
        }
    }
}

fn candidate(action: &NamedAction) -> Candidate<'_> {
    let features = action.features.as_ref().map(fields).unwrap_or_default();
    Candidate { id: Cow::Borrowed(&action.id), features }
}

fn fields(named: &Named) -> Fields<'_> {
    named.iter().map(|(name, value)| (Cow::Borrowed(name.as_str()), field(value))).collect()
}

fn field(value: &Value) -> Field<'_> {
    match value {
        Value::Number(v) => Field::Number(*v),
        Value::Text(text) => Field::Text(Cow::Borrowed(text)),
        Value::Flag(flag) => Field::Flag(*flag),
    }
}
