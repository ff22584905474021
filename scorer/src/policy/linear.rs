//! The linear model that LinUCB and Thompson sampling share.
//!
//! One ridge regression for each group (category) of actions, over
//! `[1, context, action features, one indicator for each tip of the group]`. So every tip of a group learns
//! from all the group's impressions, a tip never shown has its group's score, and what sets a tip apart
//! gets a weight of its own. Rewards are centred on their overall mean, so that a group or tip without data
//! starts at the average rather than at 0. (A hybrid model in the sense of Li and others, "A
//! contextual-bandit approach to personalized news article recommendation", 2010, with the blocks of the
//! shared part kept apart, which makes both learning and deciding cheap.)

use std::{collections::BTreeMap, sync::Arc};

use hashbrown::HashMap;
use ndarray::{Array1, Array2, ArrayView1, s};
use prost::Message;

use super::{Action, Observation, PolicyConfig, Ridge, Space};
use crate::ScorerError;

/// What exploration needs of a group, one row an input, all of one width. An action's exploration is
/// `xᵀ rows` for its inputs `x`; what the numbers mean is the policy's affair.
pub(super) type Rows = Array2<f32>;

/// The learning side.
pub(super) struct Linear {
    config: PolicyConfig,
    context: usize,
    action: usize,
    groups: BTreeMap<Arc<str>, Group>,
    /// Exploration of a group of which nothing is known.
    fresh_rows: Option<Arc<Rows>>,
    learned: u64,
    reward_sum: f64,
}

struct Group {
    ridge: Ridge,
    slots: Arc<HashMap<Arc<str>, usize>>,
    /// Kept until the group learns again.
    rows: Option<Arc<Rows>>,
}

impl Linear {
    pub(super) fn new(config: PolicyConfig, space: &Space) -> Linear {
        let mut linear = Linear {
            config,
            context: space.context,
            action: space.action,
            groups: BTreeMap::new(),
            fresh_rows: None,
            learned: 0,
            reward_sum: 0.0,
        };
        for group in &space.groups {
            let fresh = linear.fresh_group();
            linear.groups.insert(group.as_str().into(), fresh);
        }
        linear
    }

    pub(super) fn config(&self) -> &PolicyConfig {
        &self.config
    }

    pub(super) fn learned(&self) -> u64 {
        self.learned
    }

    /// Inputs that all tips of a group share.
    fn shared(&self) -> usize {
        1 + self.context + self.action
    }

    fn fresh_group(&self) -> Group {
        let ridge = Ridge::new(&vec![self.config.ridge; self.shared()]);
        Group { ridge, slots: Arc::default(), rows: None }
    }

    pub(super) fn learn(&mut self, seen: &Observation<'_>) -> bool {
        let (context, action) = (seen.context, seen.action);
        if context.len() != self.context
            || action.features.len() != self.action
            || !seen.reward.is_finite()
            || context.iter().chain(action.features).any(|v| !v.is_finite())
        {
            return false;
        }
        let shared = self.shared();
        if !self.groups.contains_key(action.group) {
            let fresh = self.fresh_group();
            self.groups.insert(action.group.into(), fresh);
        }
        let Some(group) = self.groups.get_mut(action.group) else { return false };
        if !group.slots.contains_key(action.tip) && group.slots.len() < self.config.tips_per_group {
            let slot = group.ridge.inputs();
            Arc::make_mut(&mut group.slots).insert(action.tip.into(), slot);
            group.ridge.grow(self.config.tip_ridge);
        }
        let mut x = Array1::zeros(group.ridge.inputs());
        x[0] = 1.0;
        x.slice_mut(s![1..=self.context]).assign(&context);
        x.slice_mut(s![1 + self.context..shared]).assign(&ArrayView1::from(action.features));
        if let Some(slot) = group.slots.get(action.tip) {
            x[*slot] = 1.0;
        }
        group.ridge.update(x.view(), seen.reward);
        group.rows = None;
        self.learned += 1;
        self.reward_sum += seen.reward;
        true
    }

    /// Freezes the model. `rows_of` makes the exploration rows of a group from its name and its regression;
    /// it must be a pure function of them, for it is called only for groups that learned since.
    pub(super) fn freeze(&mut self, rows_of: impl Fn(&str, &Ridge) -> Rows) -> Frozen {
        let mean = if self.learned == 0 { 0.0 } else { self.reward_sum / self.learned as f64 };
        let mut index = HashMap::with_capacity(self.groups.len());
        let mut groups = Vec::with_capacity(self.groups.len() + 1);
        let fresh = self.fresh_group();
        for (name, group) in &mut self.groups {
            let rows = group.rows.get_or_insert_with(|| Arc::new(rows_of(name, &group.ridge))).clone();
            index.insert(name.clone(), groups.len());
            groups.push(FrozenGroup {
                weights: group.ridge.weights(mean).mapv(|w| w as f32).to_vec(),
                rows,
                slots: group.slots.clone(),
            });
        }
        groups.push(FrozenGroup {
            weights: vec![0.0; fresh.ridge.inputs()],
            rows: self.fresh_rows.get_or_insert_with(|| Arc::new(rows_of("", &fresh.ridge))).clone(),
            slots: fresh.slots,
        });
        Frozen { learned: self.learned, mean, context: self.context, action: self.action, index, groups }
    }

    pub(super) fn save(&self) -> Vec<u8> {
        let groups = self.groups.iter().map(|(name, group)| {
            let mut tips = vec![String::new(); group.slots.len()];
            for (tip, slot) in group.slots.iter() {
                tips[slot - self.shared()] = tip.to_string();
            }
            SavedGroup {
                name: name.to_string(),
                tips,
                rows: group.ridge.rows(),
                numbers: group.ridge.to_numbers(),
            }
        });
        let (context, action) = (self.context as u64, self.action as u64);
        Saved {
            learned: self.learned,
            reward_sum: self.reward_sum,
            context,
            action,
            groups: groups.collect(),
        }
        .encode_to_vec()
    }

    pub(super) fn load(&mut self, state: &[u8]) -> Result<(), ScorerError> {
        let damaged = |why: String| ScorerError::Snapshot(format!("the saved policy cannot be read: {why}"));
        let saved = Saved::decode(state).map_err(|e| damaged(e.to_string()))?;
        if (saved.context, saved.action) != (self.context as u64, self.action as u64) {
            return Err(damaged(format!(
                "it has {} context values and {} action features, this policy {} and {}",
                saved.context, saved.action, self.context, self.action
            )));
        }
        let mut groups = BTreeMap::new();
        for group in saved.groups {
            let shared = self.shared();
            let ridge = Ridge::from_numbers(shared + group.tips.len(), group.rows, &group.numbers)
                .ok_or_else(|| damaged(format!("the numbers of group `{}` are not whole", group.name)))?;
            let slots = group.tips.iter().enumerate().map(|(i, t)| (t.as_str().into(), shared + i)).collect();
            groups.insert(group.name.as_str().into(), Group { ridge, slots: Arc::new(slots), rows: None });
        }
        self.groups = groups;
        self.learned = saved.learned;
        self.reward_sum = saved.reward_sum;
        Ok(())
    }
}

/// The deciding side.
pub(super) struct Frozen {
    pub(super) learned: u64,
    mean: f64,
    context: usize,
    action: usize,
    index: HashMap<Arc<str>, usize>,
    /// The last one stands for every group not known.
    groups: Vec<FrozenGroup>,
}

struct FrozenGroup {
    weights: Vec<f32>,
    rows: Arc<Rows>,
    slots: Arc<HashMap<Arc<str>, usize>>,
}

/// What a group's candidates of one decision have in common.
struct Base {
    mean: f32,
    exploration: Vec<f32>,
}

impl Frozen {
    /// Calls `visit` for each action with its index, its expected reward, its exploration row and whether the
    /// tip's own effect is known. Values missing from the context or the action count as 0.
    ///
    /// What a group's tips share is computed once, which is what keeps a decision cheap.
    pub(super) fn score(
        &self,
        context: ArrayView1<'_, f64>,
        actions: &[Action<'_>],
        mut visit: impl FnMut(usize, f32, &[f32], bool),
    ) {
        let context: Vec<f32> = context.iter().take(self.context).map(|v| *v as f32).collect();
        let mut bases: Vec<Option<Base>> = (0..self.groups.len()).map(|_| None).collect();
        let mut own: Vec<f32> = Vec::new();
        for (i, action) in actions.iter().enumerate() {
            let at = self.index.get(action.group).copied().unwrap_or(self.groups.len() - 1);
            let group = &self.groups[at];
            let base = bases[at].get_or_insert_with(|| group.base(&context));
            let mut mean = self.mean as f32 + base.mean;
            own.clear();
            own.extend_from_slice(&base.exploration);
            let features = action.features.iter().take(self.action).enumerate();
            let slot = group.slots.get(action.tip);
            let inputs = features.map(|(k, v)| (1 + self.context + k, *v as f32));
            for (input, value) in inputs.chain(slot.map(|s| (*s, 1.0))) {
                mean += value * group.weights[input];
                add_scaled(&mut own, group.row(input), value);
            }
            visit(i, mean, &own, slot.is_some());
        }
    }
}

impl FrozenGroup {
    fn row(&self, input: usize) -> &[f32] {
        let width = self.rows.ncols();
        self.rows.as_slice().and_then(|all| all.get(input * width..(input + 1) * width)).unwrap_or(&[])
    }

    fn base(&self, context: &[f32]) -> Base {
        let mut base = Base { mean: self.weights[0], exploration: self.row(0).to_vec() };
        for (i, v) in context.iter().enumerate() {
            if *v != 0.0 {
                base.mean += v * self.weights[1 + i];
                add_scaled(&mut base.exploration, self.row(1 + i), *v);
            }
        }
        base
    }
}

fn add_scaled(sum: &mut [f32], row: &[f32], scale: f32) {
    for (s, v) in sum.iter_mut().zip(row) {
        *s += scale * v;
    }
}

/// A saved model.
#[derive(Clone, PartialEq, Message)]
struct Saved {
    #[prost(uint64, tag = "1")]
    learned: u64,
    #[prost(double, tag = "2")]
    reward_sum: f64,
    #[prost(uint64, tag = "3")]
    context: u64,
    #[prost(uint64, tag = "4")]
    action: u64,
    #[prost(message, repeated, tag = "5")]
    groups: Vec<SavedGroup>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedGroup {
    #[prost(string, tag = "1")]
    name: String,
    /// In the order of their slots.
    #[prost(string, repeated, tag = "2")]
    tips: Vec<String>,
    #[prost(uint64, tag = "3")]
    rows: u64,
    #[prost(double, repeated, tag = "4")]
    numbers: Vec<f64>,
}
