//! The linear model that LinUCB, linear Thompson sampling and the policies over predicted rewards share.
//!
//! By default one ridge regression for each group (category) of actions, over
//! `[1, context, action features, one indicator for each tip of the group]`. So every tip of a group learns
//! from all the group's impressions, a tip never shown has its group's score, and what sets a tip apart
//! gets a weight of its own. Rewards are centred on their overall mean, so that a group or tip without data
//! starts at the average rather than at 0. (A hybrid model in the sense of Li and others, "A
//! contextual-bandit approach to personalized news article recommendation", 2010, with the blocks of the
//! shared part kept apart, which makes both learning and deciding cheap.)
//!
//! [`Sharing`] says otherwise: a regression for each tip, as in that paper's algorithm 1, or one for all,
//! over the products of context and action features too.

use std::{collections::BTreeMap, sync::Arc};

use hashbrown::HashMap;
use ndarray::{Array1, Array2, ArrayView1};

use super::{Action, Observation, PolicyConfig, Ridge, Space, columns::Columns};

mod saved;

/// What exploration needs of a group, one row an input, all of one width. An action's exploration is
/// `xᵀ rows` for its inputs `x`; what the numbers mean is the policy's affair.
pub(super) type Rows = Array2<f32>;

/// Which actions learn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Those of a group, each with an effect of its own.
    Group,
    /// None: a model for each tip.
    Tip,
    /// All, told apart by their features alone.
    All,
}

impl Sharing {
    fn key<'a>(self, action: &Action<'a>) -> &'a str {
        match self {
            Sharing::Group => action.group,
            Sharing::Tip => action.tip,
            Sharing::All => "",
        }
    }
}

/// Groups with a model of their own …
const MOST_GROUPS: usize = 4096;
/// … and the one in which all further ones are learned, so that memory is bounded.
const OTHERS: &str = "\0others";

/// The learning side.
pub(super) struct Linear {
    config: PolicyConfig,
    sharing: Sharing,
    groups: BTreeMap<Arc<str>, Group>,
    /// Inputs known when a group begins.
    start: Arc<Columns>,
    /// Exploration of a group of which nothing is known.
    fresh_rows: Option<Arc<Rows>>,
    learned: u64,
    reward_sum: f64,
    scratch: Vec<f32>,
}

struct Group {
    ridge: Ridge,
    columns: Arc<Columns>,
    slots: Arc<HashMap<Arc<str>, usize>>,
    /// Kept until the group learns again.
    rows: Option<Arc<Rows>>,
}

impl Linear {
    pub(super) fn new(config: PolicyConfig, space: &Space, sharing: Sharing) -> Linear {
        let mut start = Columns::new(sharing == Sharing::All);
        start.cover(space.context, space.action);
        let mut linear = Linear {
            config,
            sharing,
            groups: BTreeMap::new(),
            start: Arc::new(start),
            fresh_rows: None,
            learned: 0,
            reward_sum: 0.0,
            scratch: Vec::new(),
        };
        for group in space.groups.iter().filter(|_| sharing == Sharing::Group) {
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

    fn fresh_group(&self) -> Group {
        let ridge = Ridge::new(&vec![self.config.ridge; self.start.len()]);
        Group { ridge, columns: self.start.clone(), slots: Arc::default(), rows: None }
    }

    pub(super) fn learn(&mut self, seen: &Observation<'_>) -> bool {
        let (context, action) = (seen.context, seen.action);
        if !seen.reward.is_finite() || context.iter().chain(action.features).any(|v| !v.is_finite()) {
            return false;
        }
        let mut key = self.sharing.key(&action);
        if self.groups.len() >= MOST_GROUPS && !self.groups.contains_key(key) {
            key = OTHERS;
        }
        if !self.groups.contains_key(key) {
            let fresh = self.fresh_group();
            self.groups.insert(key.into(), fresh);
        }
        let Some(group) = self.groups.get_mut(key) else { return false };
        if !group.columns.covers(context.len(), action.features.len()) {
            Arc::make_mut(&mut group.columns).cover(context.len(), action.features.len());
            if group.slots.is_empty() {
                // Groups of one shape share it, which decisions make use of.
                if self.start.len() < group.columns.len() {
                    self.start = group.columns.clone();
                } else if self.start == group.columns {
                    group.columns = self.start.clone();
                }
            }
        }
        while group.ridge.inputs() < group.columns.len() {
            group.ridge.grow(self.config.ridge);
        }
        let own = self.sharing == Sharing::Group && action.tip != action.group;
        if own && !group.slots.contains_key(action.tip) && group.slots.len() < self.config.tips_per_group {
            let slot = Arc::make_mut(&mut group.columns).take();
            Arc::make_mut(&mut group.slots).insert(action.tip.into(), slot);
            group.ridge.grow(self.config.tip_ridge);
        }
        let (context, features) = (narrow(context), narrow(ArrayView1::from(action.features)));
        group.columns.fill(&context, &features, &mut self.scratch);
        if let Some(slot) = group.slots.get(action.tip) {
            self.scratch[*slot] = 1.0;
        }
        let x: Array1<f64> = self.scratch.iter().map(|v| f64::from(*v)).collect();
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
                triangular: triangular(&rows),
                rows,
                columns: group.columns.clone(),
                slots: group.slots.clone(),
            });
        }
        if self.fresh_rows.as_ref().is_some_and(|rows| rows.nrows() != fresh.ridge.inputs()) {
            self.fresh_rows = None;
        }
        let rows = self.fresh_rows.get_or_insert_with(|| Arc::new(rows_of("", &fresh.ridge))).clone();
        groups.push(FrozenGroup {
            weights: vec![0.0; fresh.ridge.inputs()],
            triangular: triangular(&rows),
            rows,
            columns: fresh.columns,
            slots: fresh.slots,
        });
        Frozen { learned: self.learned, mean, sharing: self.sharing, index, groups }
    }
}

fn narrow(values: ArrayView1<'_, f64>) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

/// The deciding side.
pub(super) struct Frozen {
    pub(super) learned: u64,
    mean: f64,
    sharing: Sharing,
    index: HashMap<Arc<str>, usize>,
    /// The last one stands for every group not known.
    groups: Vec<FrozenGroup>,
}

struct FrozenGroup {
    weights: Vec<f32>,
    rows: Arc<Rows>,
    /// Whether the rows are a triangle, as those of a factor.
    triangular: bool,
    columns: Arc<Columns>,
    slots: Arc<HashMap<Arc<str>, usize>>,
}

/// What a group's candidates of one decision have in common.
#[derive(Clone, Copy)]
struct Base {
    mean: f32,
    /// Where its exploration begins.
    exploration: usize,
    /// Where its inputs are.
    inputs: usize,
}

/// The context as groups of one shape see it.
struct Inputs<'a> {
    columns: &'a Columns,
    values: Vec<f32>,
    products: Vec<f32>,
}

impl Frozen {
    /// Calls `visit` for each action with its index, its expected reward, its exploration row and whether the
    /// tip's own effect is known, or is none of the model's. Values missing from the context or the action
    /// count as 0.
    ///
    /// What a group's tips share is computed once, which is what keeps a decision cheap.
    pub(super) fn score(
        &self,
        context: ArrayView1<'_, f64>,
        actions: &[Action<'_>],
        mut visit: impl FnMut(usize, f32, &[f32], bool),
    ) {
        let context = narrow(context);
        let mut bases: Vec<Option<Base>> = vec![None; self.groups.len()];
        let mut shapes: Vec<Inputs<'_>> = Vec::new();
        let mut explorations: Vec<f32> = Vec::with_capacity(64 * actions.len());
        let mut own: Vec<f32> = Vec::new();
        let mut features: Vec<f32> = Vec::new();
        for (i, action) in actions.iter().enumerate() {
            let at = self.index.get(self.sharing.key(action)).copied().unwrap_or(self.groups.len() - 1);
            let group = &self.groups[at];
            let base = *bases[at].get_or_insert_with(|| group.base(&context, &mut shapes, &mut explorations));
            let mut mean = self.mean as f32 + base.mean;
            let exploration = &explorations[base.exploration..base.exploration + group.rows.ncols()];
            let slot = group.slots.get(action.tip);
            let known = slot.is_some() || self.sharing != Sharing::Group || action.tip == action.group;
            if action.features.is_empty() && slot.is_none() {
                visit(i, mean, exploration, known);
                continue;
            }
            own.clear();
            own.extend_from_slice(exploration);
            features.clear();
            features.extend(action.features.iter().map(|v| *v as f32));
            let mut add = |input: usize, value: f32| {
                mean += value * group.weights[input];
                add_scaled(&mut own, group.row(input), value);
            };
            group.columns.action(&features).for_each(|(input, value)| add(input, value));
            if let Some((first, sum)) = group.columns.crossed(&shapes[base.inputs].products, &features) {
                sum.iter().enumerate().for_each(|(k, value)| add(first + k, *value));
            }
            if let Some(slot) = slot {
                add(*slot, 1.0);
            }
            visit(i, mean, &own, known);
        }
    }
}

impl FrozenGroup {
    fn row(&self, input: usize) -> &[f32] {
        let width = self.rows.ncols();
        self.rows.as_slice().and_then(|all| all.get(input * width..(input + 1) * width)).unwrap_or(&[])
    }

    fn base<'a>(
        &'a self,
        context: &[f32],
        shapes: &mut Vec<Inputs<'a>>,
        explorations: &mut Vec<f32>,
    ) -> Base {
        let same = |shape: &Inputs<'_>| std::ptr::eq(shape.columns, &*self.columns);
        let inputs = shapes.iter().position(same).unwrap_or_else(|| {
            let mut values = Vec::new();
            self.columns.base(context, &mut values);
            shapes.push(Inputs { columns: &self.columns, values, products: self.columns.products(context) });
            shapes.len() - 1
        });
        let exploration = explorations.len();
        explorations.resize(exploration + self.rows.ncols(), 0.0);
        let sums = &mut explorations[exploration..];
        let values = &shapes[inputs].values;
        let mean = values.iter().zip(&self.weights).map(|(v, w)| v * w).sum();
        let width = self.rows.ncols();
        let rows = self.rows.as_slice().unwrap_or(&[]);
        // Four rows at a time, so that the sums are loaded and stored a quarter as often.
        let mut blocks = values.chunks_exact(4).zip(rows.chunks_exact((4 * width).max(1)));
        for (block, (v, rows)) in blocks.by_ref().enumerate() {
            if v == [0.0; 4] {
                continue;
            }
            // What stands before the diagonal of a triangle is 0.
            let first = if self.triangular { 4 * block } else { 0 };
            let (a, rest) = rows.split_at(width);
            let (b, rest) = rest.split_at(width);
            let (c, d) = rest.split_at(width);
            let rows = a[first..].iter().zip(&b[first..]).zip(&c[first..]).zip(&d[first..]);
            for (sum, (((a, b), c), d)) in sums[first..].iter_mut().zip(rows) {
                *sum += v[0] * a + v[1] * b + v[2] * c + v[3] * d;
            }
        }
        for (i, value) in values.iter().enumerate().skip(values.len() / 4 * 4) {
            add_scaled(sums, self.row(i), *value);
        }
        Base { mean, exploration, inputs }
    }
}

fn triangular(rows: &Rows) -> bool {
    rows.is_square() && rows.nrows() > 1 && rows.row(rows.nrows() - 1)[0] == 0.0
}

fn add_scaled(sum: &mut [f32], row: &[f32], scale: f32) {
    for (s, v) in sum.iter_mut().zip(row) {
        *s += scale * v;
    }
}
