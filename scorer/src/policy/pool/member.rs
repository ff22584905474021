//! The members: one kind of model each, with a head for each group of actions.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{
    head::{Head, View},
    inputs::{Fourier, PAIRS, Scaler},
};
use crate::policy::columns::Columns;

/// What a member models.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// The mean reward of a group, whatever the context: best where contexts say nothing.
    Mean,
    /// Ridge regression on the context, shrunk by its size: slow and steady.
    Shrunk,
    /// Ridge regression on the context.
    Plain,
    /// Ridge regression on random features: what is not linear.
    Fourier,
    /// Logistic regression with this learning rate: sharp where rewards are yes or no.
    Logistic(f64),
    /// One ridge regression for all actions over their features and the products with the context: what an
    /// action never shown is worth.
    Shared,
    /// The mean reward of a group among people alike: what someone new is given.
    Segment,
}

/// The members, in the order in which they are judged.
pub(super) const KINDS: [Kind; 8] = [
    Kind::Mean,
    Kind::Shrunk,
    Kind::Plain,
    Kind::Fourier,
    Kind::Logistic(0.5),
    Kind::Logistic(0.1),
    Kind::Shared,
    Kind::Segment,
];

/// The parts of one context, as the members take them.
pub(super) struct Seen {
    /// In standard deviations.
    pub(super) plain: Vec<f32>,
    /// The same, over the root of its length.
    pub(super) shrunk: Vec<f32>,
    /// Random features.
    pub(super) fourier: Vec<f32>,
    /// Which people it resembles, one of them 1.
    pub(super) segment: Vec<f32>,
}

/// What brings a context into that form.
#[derive(Clone)]
pub(super) struct Lens {
    pub(super) context: Arc<Scaler>,
    pub(super) action: Arc<Scaler>,
    pub(super) fourier: Arc<Fourier>,
    pub(super) segments: Arc<super::segments::Segments>,
    /// Root of the number of inputs; settles when the first rewards are in, so that features stay the same.
    pub(super) size: f64,
}

impl Lens {
    pub(super) fn see<'a>(&self, context: impl Iterator<Item = &'a f64>) -> Seen {
        let plain = self.context.scaled(context);
        let shrunk = plain.iter().map(|v| v / self.size as f32).collect();
        let fourier = self.fourier.features(&plain, self.size);
        let segment = self.segments.indicator(&plain);
        Seen { plain, shrunk, fourier, segment }
    }
}

impl Kind {
    /// The context part of this member's inputs.
    pub(super) fn context(self, seen: &Seen) -> &[f32] {
        match self {
            Kind::Mean => &[],
            Kind::Shrunk | Kind::Shared => &seen.shrunk,
            Kind::Plain | Kind::Logistic(_) => &seen.plain,
            Kind::Fourier => &seen.fourier,
            Kind::Segment => &seen.segment,
        }
    }

    /// How much of the action's features it takes.
    pub(super) fn action(self, features: &[f32]) -> &[f32] {
        match self {
            Kind::Mean | Kind::Segment => &[],
            _ => features,
        }
    }

    /// The head an action belongs to.
    pub(super) fn key(self, group: &str) -> &str {
        if self == Kind::Shared { "" } else { group }
    }

    /// Penalty of its weights.
    pub(super) fn ridge(self) -> f64 {
        match self {
            Kind::Mean => 1.0,
            Kind::Plain => 3.0,
            Kind::Segment => 4.0,
            _ => 0.3,
        }
    }

    /// Standard errors added for exploration.
    pub(super) fn width(self) -> f32 {
        match self {
            Kind::Logistic(_) => 0.0,
            Kind::Mean | Kind::Segment => 1.0,
            Kind::Plain | Kind::Shrunk => 2.0,
            _ => 1.5,
        }
    }
}

/// Numbers that the heads of a member may take.
const NUMBERS: usize = 16 << 20;
/// Heads of a member, however large …
const FEWEST_HEADS: usize = 64;
/// … and however small.
const MOST_HEADS: usize = 1024;

/// One member: its heads, and what readers see of them.
#[derive(Clone)]
pub(super) struct Member {
    /// Counts what it learned.
    pub(super) turn: u64,
    pub(super) kind: Kind,
    pub(super) columns: Arc<Columns>,
    pub(super) index: Arc<HashMap<Arc<str>, usize>>,
    pub(super) heads: Vec<Head>,
    pub(super) views: Arc<Vec<Arc<View>>>,
}

impl Member {
    pub(super) fn new(kind: Kind) -> Member {
        let mut columns = Columns::new(kind == Kind::Shared);
        if kind == Kind::Fourier {
            columns.cover(2 * PAIRS, 0);
        }
        Member {
            turn: 0,
            kind,
            columns: Arc::new(columns),
            index: Arc::default(),
            heads: Vec::new(),
            views: Arc::default(),
        }
    }

    /// Its prediction for one action, and the inputs it is made of.
    pub(super) fn predict(
        &self,
        seen: &Seen,
        group: &str,
        tip: &str,
        features: &[f32],
        x: &mut Vec<f32>,
    ) -> f32 {
        self.columns.fill(self.kind.context(seen), self.kind.action(features), x);
        match self.index.get(self.kind.key(group)) {
            Some(at) => {
                let view = &self.views[*at];
                view.mean(x) + view.own(tip, group).0
            }
            None => View::unknown(self.kind).mean(x),
        }
    }

    /// Learns what inputs `x`, of [`Member::predict`], came to. `share` places the reward between the smallest
    /// and the largest there is.
    pub(super) fn learn(&mut self, group: &str, tip: &str, x: &[f32], reward: f64, share: f64) {
        let key = self.kind.key(group);
        let at = match self.index.get(key) {
            Some(at) => *at,
            None => self.begin(key, x.len()),
        };
        self.turn += 1;
        self.heads[at].turn = self.turn;
        let own = (tip != group).then_some(tip);
        let view = self.heads[at].learn(self.kind, x, own, reward, share);
        Arc::make_mut(&mut self.views)[at] = Arc::new(view);
    }

    /// A head for one more group. There are only so many: beyond, the one that has learned nothing for longest
    /// makes way, so that programs whose actions never come twice need no more memory for it.
    fn begin(&mut self, key: &str, inputs: usize) -> usize {
        let most = (NUMBERS / (inputs * inputs)).clamp(FEWEST_HEADS, MOST_HEADS);
        let index = Arc::make_mut(&mut self.index);
        let fresh = Head::new(self.kind, inputs);
        let oldest = || self.heads.iter().enumerate().min_by_key(|(_, head)| head.turn).map(|(at, _)| at);
        let at = if self.heads.len() < most { None } else { oldest() };
        let Some(at) = at else {
            index.insert(key.into(), self.heads.len());
            self.heads.push(fresh);
            Arc::make_mut(&mut self.views).push(Arc::new(View::unknown(self.kind)));
            return self.heads.len() - 1;
        };
        index.retain(|_, other| *other != at);
        index.insert(key.into(), at);
        self.heads[at] = fresh;
        at
    }

    /// Makes room for a context and an action of these lengths.
    pub(super) fn cover(&mut self, seen: &Seen, features: &[f32]) {
        let (context, action) = (self.kind.context(seen).len(), self.kind.action(features).len());
        if !self.columns.covers(context, action) {
            Arc::make_mut(&mut self.columns).cover(context, action);
        }
    }
}
