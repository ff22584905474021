//! Decisions weighed, target by target.

use std::collections::{BTreeMap, HashMap};

use ingest::Millis;
use rand::RngCore;

use super::{
    ALL, Evaluation, Judgement, LeftOut, LoggedDecision, Options, Rest, Target, diagnostics::Known,
    estimators::Row, frequency::Offered, learned::Learned,
};

/// Takes decisions one by one, and keeps a row of numbers of each and target.
pub(super) struct Evaluator<'a> {
    targets: &'a [Target<'a>],
    learned: Learned,
    /// For each target.
    weighed: Vec<Weighed>,
    /// Logging policies by name, with how often they should have chosen what.
    policies: BTreeMap<String, Logger>,
    people: HashMap<String, u32>,
    decisions: u64,
    span: Option<(Millis, Millis)>,
    unusable: u64,
}

struct Logger {
    number: u32,
    tips: BTreeMap<String, Offered>,
}

#[derive(Default)]
struct Weighed {
    rows: Vec<Row>,
    /// Number of the logging policy of each row.
    by: Vec<u32>,
    /// For each logging policy.
    support: Vec<Support>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Support {
    covered: f64,
    unsupported: u64,
    unanswered: u64,
    largest: f64,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(targets: &'a [Target<'a>], learned: Learned) -> Evaluator<'a> {
        Evaluator {
            targets,
            learned,
            weighed: targets.iter().map(|_| Weighed::default()).collect(),
            policies: BTreeMap::new(),
            people: HashMap::new(),
            decisions: 0,
            span: None,
            unusable: 0,
        }
    }

    /// Adds a decision; one whose record contradicts itself is counted and left out.
    pub(super) fn add(&mut self, decision: &LoggedDecision) {
        let Some(chosen) = decision.chosen() else {
            self.unusable += 1;
            return;
        };
        self.decisions += 1;
        let at = decision.shown_at;
        self.span = Some(self.span.map_or((at, at), |(from, to)| (from.min(at), to.max(at))));
        let next = self.people.len() as u32;
        let unit = match self.people.get(&decision.user) {
            Some(unit) => *unit,
            None => *self.people.entry(decision.user.clone()).or_insert(next),
        };
        let by = self.offer(decision, chosen);
        let expected = self.learned.expected(decision);
        for (target, weighed) in self.targets.iter().zip(&mut self.weighed) {
            if weighed.support.len() <= by as usize {
                weighed.support.resize(by as usize + 1, Support::default());
            }
            let support = &mut weighed.support[by as usize];
            let Some(wanted) = target.probabilities(decision) else {
                support.unanswered += 1;
                continue;
            };
            let possible = decision.candidates.iter().zip(&wanted).filter(|(c, _)| c.propensity > 0.0);
            let (covered, largest) = possible.fold((0.0, support.largest), |(sum, largest), (c, p)| {
                (sum + p, f64::max(largest, p / c.propensity))
            });
            support.covered += f64::min(covered, 1.0);
            support.unsupported += u64::from(covered < 1.0 - 1e-6);
            support.largest = largest;
            weighed.by.push(by);
            weighed.rows.push(Row {
                weight: wanted[chosen] / decision.propensity,
                reward: decision.reward,
                expected: expected[chosen],
                direct: wanted.iter().zip(&expected).map(|(p, q)| p * q).sum(),
                propensity: decision.propensity,
                unit,
            });
        }
    }

    /// Notes what the logging policy could have chosen, and says its number.
    fn offer(&mut self, decision: &LoggedDecision, chosen: usize) -> u32 {
        let number = self.policies.len() as u32;
        if !self.policies.contains_key(&decision.policy) {
            self.policies.insert(decision.policy.clone(), Logger { number, tips: BTreeMap::new() });
        }
        let Some(logger) = self.policies.get_mut(&decision.policy) else { return number };
        for (i, candidate) in decision.candidates.iter().enumerate() {
            if !logger.tips.contains_key(&candidate.tip) {
                logger.tips.insert(candidate.tip.clone(), Offered::default());
            }
            if let Some(offered) = logger.tips.get_mut(&candidate.tip) {
                offered.add(candidate.propensity, i == chosen);
            }
        }
        logger.number
    }

    /// The judgements.
    pub(super) fn finish(self, options: &Options, rng: &mut dyn RngCore) -> Evaluation {
        let mut judgements = Vec::new();
        for (target, weighed) in self.targets.iter().zip(&self.weighed) {
            // With one logging policy, all together is that one again.
            if self.policies.len() > 1 {
                let all: Vec<&Logger> = self.policies.values().collect();
                judgements.push(weighed.judge([target.name(), ALL], &all, options, rng));
            }
            for (policy, logger) in &self.policies {
                judgements.push(weighed.judge([target.name(), policy], &[logger], options, rng));
            }
        }
        Evaluation {
            decisions: self.decisions,
            from: self.span.map(|(from, _)| from),
            to: self.span.map(|(_, to)| to),
            left_out: LeftOut { unusable: self.unusable, ..LeftOut::default() },
            judgements,
        }
    }
}

impl Weighed {
    fn judge(&self, names: [&str; 2], by: &[&Logger], options: &Options, rng: &mut dyn RngCore) -> Judgement {
        let theirs = |number: u32| by.iter().any(|l| l.number == number);
        let rows = self.rows.iter().zip(&self.by).filter(|(_, by)| theirs(**by)).map(|(row, _)| *row);
        let rows: Vec<Row> = rows.collect();
        let support = by.iter().filter_map(|l| self.support.get(l.number as usize));
        let support = support.fold(Support::default(), |sum, s| Support {
            covered: sum.covered + s.covered,
            unsupported: sum.unsupported + s.unsupported,
            unanswered: sum.unanswered + s.unanswered,
            largest: sum.largest.max(s.largest),
        });
        let mut people: Vec<u32> = rows.iter().map(|r| r.unit).collect();
        people.sort_unstable();
        people.dedup();
        let tips = by.iter().flat_map(|l| &l.tips);
        let mut offered: BTreeMap<&str, Offered> = BTreeMap::new();
        tips.for_each(|(tip, o)| offered.entry(tip).or_default().join(o));
        let known = Known {
            support: if rows.is_empty() { 0.0 } else { support.covered / rows.len() as f64 },
            may_be_more: false,
            unsupported_rows: support.unsupported,
            frequencies: offered.iter().filter_map(|(tip, o)| o.frequency(tip)).collect(),
        };
        let rest = Rest {
            known,
            people: people.len() as u64,
            unanswered: support.unanswered,
            largest_weight: Some(support.largest),
        };
        Judgement::of(names, &rows, rest, options, rng)
    }
}
