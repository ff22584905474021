//! What a policy holds of each category, beside what is true.
//!
//! For each category, the mean is taken over the occasions on which it could have been offered: of the
//! context, of the action features, and of the true worth of its candidates. The policy's score at that mean
//! is its answer to the question whose true answer is the mean worth.

use std::{collections::BTreeMap, sync::Arc};

use ndarray::{Array1, ArrayView1};
use scorer::{
    context::Layout,
    policy::{Action, Snapshot},
    tips::TipCatalogue,
};

use super::curve::Belief;

/// Occasions over which the mean is taken, the older ones fading: about a day of the demo.
const MEMORY: u64 = 3_000;

/// Means by category.
pub struct Learned {
    layout: Arc<Layout>,
    tips: Arc<TipCatalogue>,
    categories: Vec<Category>,
    /// The category of each tip.
    of_tip: Vec<usize>,
}

struct Category {
    name: String,
    seen: u64,
    context: Array1<f64>,
    truth: f64,
    /// Of the tips that were candidates, by their place in the catalogue.
    tips: BTreeMap<usize, MeanTip>,
}

struct MeanTip {
    /// Share of the category's candidates that were this tip.
    share: f64,
    features: Vec<f64>,
}

impl Learned {
    /// Nothing seen yet.
    pub fn new(layout: Arc<Layout>, tips: Arc<TipCatalogue>) -> Learned {
        let category = |name: &str| Category {
            name: name.to_owned(),
            seen: 0,
            context: Array1::zeros(layout.context_len()),
            truth: 0.0,
            tips: BTreeMap::new(),
        };
        let categories: Vec<Category> = tips.categories().into_iter().map(category).collect();
        let place = |name: &str| categories.iter().position(|c| c.name == name).unwrap_or_default();
        let of_tip = tips.iter().map(|t| place(&t.category)).collect();
        Learned { layout, tips, categories, of_tip }
    }

    /// The names, in the order of everything else here.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.categories.iter().map(|c| c.name.as_str())
    }

    /// Takes in an occasion: the raw context as recorded, and the candidates with their true worth.
    pub fn see(&mut self, raw: &[f64], candidates: &[(usize, f64)]) {
        let inputs = self.layout.inputs(raw);
        for (at, category) in self.categories.iter_mut().enumerate() {
            let mine: Vec<(usize, f64)> =
                candidates.iter().filter(|(tip, _)| self.of_tip.get(*tip) == Some(&at)).copied().collect();
            if mine.is_empty() {
                continue;
            }
            category.seen += 1;
            let weight = 1.0 / category.seen.min(MEMORY) as f64;
            category.context.zip_mut_with(&inputs, |mean, new| *mean += weight * (new - *mean));
            let truth = mine.iter().map(|(_, worth)| worth).sum::<f64>() / mine.len() as f64;
            category.truth += weight * (truth - category.truth);
            for tip in category.tips.values_mut() {
                tip.share *= 1.0 - weight;
            }
            let mut features = Vec::with_capacity(self.layout.action_len());
            for (index, _) in &mine {
                let tip = &self.tips.tips()[*index];
                features.clear();
                self.layout.action(raw, &tip.category, f64::from(tip.effort), &mut features);
                let mean = category.tips.entry(*index);
                let mean = mean.or_insert_with(|| MeanTip { share: 0.0, features: features.clone() });
                mean.share += weight / mine.len() as f64;
                for (mean, new) in mean.features.iter_mut().zip(&features) {
                    *mean += weight * (new - *mean);
                }
            }
        }
    }

    /// What two policies hold of each category, beside the truth.
    pub fn beliefs(&self, incumbent: &dyn Snapshot, shadow: Option<&dyn Snapshot>) -> Vec<Belief> {
        let shadow: Vec<Option<f64>> = match shadow {
            Some(shadow) => self.scores(shadow).collect(),
            None => vec![None; self.categories.len()],
        };
        let both = self.scores(incumbent).zip(shadow).zip(self.truths());
        both.map(|((incumbent, shadow), truth)| Belief { incumbent, shadow, truth }).collect()
    }

    /// The true mean worth of each category.
    fn truths(&self) -> impl Iterator<Item = Option<f64>> {
        self.categories.iter().map(|c| (c.seen > 0).then_some(c.truth))
    }

    /// A policy's mean score of each category's tips at the category's mean context.
    fn scores(&self, policy: &dyn Snapshot) -> impl Iterator<Item = Option<f64>> {
        self.categories.iter().map(move |category| {
            let tips: Vec<(&usize, &MeanTip)> = category.tips.iter().collect();
            let actions: Vec<Action<'_>> = tips
                .iter()
                .map(|(index, mean)| Action {
                    tip: &self.tips.tips()[**index].id,
                    group: &category.name,
                    features: &mean.features,
                })
                .collect();
            let context = ArrayView1::from(category.context.as_slice()?);
            let scores = policy.distribution(context, &actions).scores;
            let shares: f64 = tips.iter().map(|(_, mean)| mean.share).sum();
            let sum: f64 = tips.iter().zip(&scores).map(|((_, mean), score)| mean.share * score).sum();
            (shares > 0.0).then(|| sum / shares)
        })
    }
}

#[cfg(test)]
mod tests {
    use scorer::{
        context::ContextConfig,
        policy::{Observation, PolicyConfig, PolicyName, Space, build},
    };

    use super::*;

    fn learned() -> Learned {
        let tips = Arc::new(TipCatalogue::builtin().unwrap());
        Learned::new(Arc::new(Layout::new(&ContextConfig::default(), &tips).unwrap()), tips)
    }

    fn of(learned: &Learned, category: &str) -> (Vec<usize>, usize) {
        let tips = learned.tips.iter().enumerate().filter(|(_, t)| t.category == category);
        (tips.map(|(i, _)| i).collect(), learned.names().position(|n| n == category).unwrap())
    }

    #[test]
    fn the_truth_is_the_mean_over_occasions() {
        let mut learned = learned();
        let (tips, sleep) = of(&learned, "sleep");
        let raw = vec![f64::NAN; learned.layout.names().len()];
        learned.see(&raw, &[(tips[0], 0.2), (tips[1], 0.4)]);
        learned.see(&raw, &[(tips[1], 0.6)]);
        let truths: Vec<_> = learned.truths().collect();
        assert!((truths[sleep].unwrap() - 0.45).abs() < 1e-12);
        assert_eq!(truths.iter().flatten().count(), 1, "the others were never candidates");
    }

    #[test]
    fn a_taught_policy_scores_a_category_as_it_was_rewarded() {
        let mut learned = learned();
        let layout = learned.layout.clone();
        let groups = learned.names().map(str::to_owned).collect();
        let space = Space { context: layout.context_len(), action: layout.action_len(), groups };
        let config = PolicyConfig { name: PolicyName::LinTs, ..PolicyConfig::default() };
        let mut policy = build(&config, &space);
        let raw = vec![f64::NAN; layout.names().len()];
        for (category, reward) in [("sleep", 0.8), ("mail", 0.1)] {
            let (tips, _) = of(&learned, category);
            let tip = learned.tips.tips()[tips[0]].clone();
            learned.see(&raw, &[(tips[0], reward)]);
            let mut features = Vec::new();
            layout.action(&raw, category, f64::from(tip.effort), &mut features);
            let (context, action) =
                (layout.inputs(&raw), Action { tip: &tip.id, group: category, features: &features });
            for _ in 0..500 {
                let seen = Observation { context: context.view(), action, propensity: 0.5, reward };
                assert!(policy.learn(&seen));
            }
        }
        let scores: Vec<_> = learned.scores(&*policy.snapshot()).collect();
        for (category, reward) in [("sleep", 0.8), ("mail", 0.1)] {
            let score = scores[of(&learned, category).1].unwrap();
            assert!((score - reward).abs() < 0.1, "{category}: {score} for {reward}");
        }
        assert_eq!(scores[of(&learned, "music").1], None);
    }
}
