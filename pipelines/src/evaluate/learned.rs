//! Reward models of Kairos's own decisions: the context of the impression tells the worth of its candidates.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use rand::{Rng, RngCore};

use super::{
    LoggedDecision,
    encode::{self, Cell, Encoder},
    model::{CrossFitted, Training},
};

/// Decisions the models learn from; of more, this many drawn at random.
const MOST: usize = 50_000;

/// Looks at decisions: what their contexts hold, and a sample of them to learn from.
#[derive(Default)]
pub(super) struct Survey {
    names: HashMap<String, usize>,
    sample: Vec<Kept>,
    people: HashMap<u64, ()>,
    seen: u64,
}

struct Kept {
    /// By column.
    context: Vec<(usize, f64)>,
    tip: String,
    reward: f64,
    user: u64,
    number: u64,
}

impl Survey {
    pub(super) fn see(&mut self, decision: &LoggedDecision, rng: &mut dyn RngCore) {
        if decision.chosen().is_none() {
            return;
        }
        self.seen += 1;
        let user = hash(&decision.user);
        self.people.insert(user, ());
        let place = match self.sample.len() < MOST {
            true => self.sample.len(),
            // A reservoir: each decision stays with the same chance (Vitter, 1985).
            false => rng.random_range(0..self.seen) as usize,
        };
        if place >= MOST {
            return;
        }
        let context = decision.context_names.iter().zip(&decision.context);
        let context = context.map(|(name, value)| (column(&mut self.names, name), *value)).collect();
        let (tip, reward) = (decision.tip.clone(), decision.reward);
        let kept = Kept { context, tip, reward, user, number: hash(&decision.impression) };
        if place == self.sample.len() {
            self.sample.push(kept);
        } else {
            self.sample[place] = kept;
        }
    }

    /// The models of so many folds.
    pub(super) fn learn(self, folds: u32) -> Learned {
        let by_people = self.people.len() as u32 >= 2 * folds;
        let mut survey = encode::Survey::default();
        let mut row = vec![Cell::Missing; self.names.len()];
        for kept in &self.sample {
            spread(&kept.context, &mut row);
            row.iter().enumerate().for_each(|(i, cell)| survey.see(i, *cell));
        }
        let encoder = survey.encoder();
        let width = encoder.width();
        let mut tips: HashMap<String, u32> = HashMap::new();
        let mut training = Training { width, ..Training::default() };
        let most = Training::most_rows(width, folds);
        let mut inputs = vec![0.0; width];
        for kept in self.sample.iter().take(most) {
            spread(&kept.context, &mut row);
            encoder.encode(|i| row[i], &mut inputs);
            let next = tips.len() as u32;
            training.inputs.extend_from_slice(&inputs);
            training.actions.push(*tips.entry(kept.tip.clone()).or_insert(next));
            training.rewards.push(kept.reward);
            training.folds.push(fold(if by_people { kept.user } else { kept.number }, folds));
        }
        let models = training.fit(folds);
        Learned { names: self.names, encoder, tips, models, by_people, folds, inputs, row }
    }
}

fn spread(context: &[(usize, f64)], row: &mut [Cell<'static>]) {
    row.fill(Cell::Missing);
    for (column, value) in context {
        row[*column] = Cell::Number(*value);
    }
}

fn column(names: &mut HashMap<String, usize>, name: &str) -> usize {
    if let Some(known) = names.get(name) {
        return *known;
    }
    let next = names.len();
    names.insert(name.to_owned(), next);
    next
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn fold(hash: u64, folds: u32) -> u32 {
    (hash % u64::from(folds.max(1))) as u32
}

/// What was learned.
pub(super) struct Learned {
    names: HashMap<String, usize>,
    encoder: Encoder,
    tips: HashMap<String, u32>,
    models: CrossFitted,
    /// Whether the decisions of one person are in one fold; with few people that would leave folds empty.
    by_people: bool,
    folds: u32,
    inputs: Vec<f32>,
    row: Vec<Cell<'static>>,
}

impl Learned {
    /// What each candidate can be expected to earn, by a model that did not learn from this decision.
    pub(super) fn expected(&mut self, decision: &LoggedDecision) -> Vec<f64> {
        self.row.fill(Cell::Missing);
        for (name, value) in decision.context_names.iter().zip(&decision.context) {
            if let Some(column) = self.names.get(name) {
                self.row[*column] = Cell::Number(*value);
            }
        }
        self.encoder.encode(|i| self.row[i], &mut self.inputs);
        let by = if self.by_people { &decision.user } else { &decision.impression };
        let fold = fold(hash(by), self.folds);
        let expected = decision.candidates.iter().map(|candidate| {
            let tip = self.tips.get(&candidate.tip).copied().unwrap_or(u32::MAX);
            self.models.expected(fold, tip, &self.inputs)
        });
        expected.collect()
    }
}
