//! The verdict, condition by condition.

use std::fmt;

use rand::RngCore;
use scorer::{PromotionConfig, learn::replay::Again, policy::PolicyName};
use serde::Serialize;

use super::evidence::Evidence;
use crate::evaluate::{
    Estimate, Estimator, Interval, Judgement, Options, Target, judge,
    sequential::{GainSequence, MeanSequence},
};

/// A mean weight this many standard errors from 1 speaks of wrong probabilities.
const FAR: f64 = 4.0;
/// Share of the shadow's choices that the log must be able to make.
const SUPPORT: f64 = 0.999;

/// Whether the shadow may serve, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Name of the policy that serves.
    pub incumbent: String,
    /// Name of its shadow.
    pub shadow: Option<String>,
    /// Which policy exactly was judged; only it may be promoted on this report.
    #[serde(skip)]
    pub shadow_id: u64,
    /// Whether every condition is met.
    pub promotable: bool,
    /// All that was looked at.
    pub conditions: Vec<Condition>,
    /// What both earn, where there was anything to judge by.
    pub figures: Option<Figures>,
}

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Condition {
    /// Its name.
    pub name: &'static str,
    /// Whether it holds.
    pub met: bool,
    /// What was found.
    pub found: String,
    /// What is wanted.
    pub wanted: String,
}

/// Mean rewards a decision, 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// What the incumbent earned.
    pub incumbent: f64,
    /// What the shadow would have, self-normalised.
    pub snips: Option<Span>,
    /// The same, doubly robust.
    pub dr: Option<Span>,
    /// What it would have earned beyond the incumbent, at every moment at once.
    pub gain: Span,
}

/// A value with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Span {
    /// The value.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4} ({:.4} to {:.4})", self.value, self.low, self.high)
    }
}

impl Span {
    /// The wider of an estimate's usual intervals.
    fn of(estimate: &Estimate) -> Option<Span> {
        let both = [estimate.normal, estimate.bootstrap].into_iter().flatten();
        let both: Vec<Interval> = both.collect();
        let low = both.iter().map(|i| i.low).reduce(f64::min)?;
        let high = both.iter().map(|i| i.high).reduce(f64::max)?;
        Some(Span { value: estimate.value, low, high })
    }

    fn meets(&self, other: &Span) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

/// Makes a report of evidence.
pub(super) struct Judge<'a> {
    pub incumbent: PolicyName,
    pub shadow: PolicyName,
    pub shadow_id: u64,
    pub config: &'a PromotionConfig,
    pub resamples: u32,
}

impl Report {
    /// There is nothing to judge.
    pub(super) fn without_shadow(incumbent: PolicyName) -> Report {
        let missing = Condition {
            name: "shadow",
            met: false,
            found: "no policy runs in the shadow".into(),
            wanted: "one, in the section `scorer.shadow`".into(),
        };
        Report {
            incumbent: incumbent.to_string(),
            shadow: None,
            shadow_id: 0,
            promotable: false,
            conditions: vec![missing],
            figures: None,
        }
    }

    /// The conditions that are not met.
    pub fn missing(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.iter().filter(|c| !c.met)
    }
}

impl Judge<'_> {
    pub fn report(&self, evidence: &Evidence, rng: &mut dyn RngCore) -> Report {
        let mut conditions = self.records(evidence);
        let probabilities = |impression: &str| evidence.shadow.get(impression).cloned().unwrap_or_default();
        let target = Target::new("shadow", |d| probabilities(&d.impression));
        let options = Options { resamples: self.resamples, ..Options::default() };
        let figures = judge(&evidence.decisions, target, &options, rng).map(|judgement| {
            conditions.extend(self.weights(&judgement));
            let figures = self.figures(&judgement, evidence);
            conditions.extend(self.values(&figures));
            figures
        });
        conditions.extend(self.experiment(evidence));
        Report {
            incumbent: self.incumbent.to_string(),
            shadow: Some(self.shadow.to_string()),
            shadow_id: self.shadow_id,
            promotable: figures.is_some() && conditions.iter().all(|c| c.met),
            conditions,
            figures,
        }
    }

    fn records(&self, evidence: &Evidence) -> Vec<Condition> {
        let found = evidence.decisions.len() as u64;
        let count = |wanted: fn(&&Again) -> bool| evidence.again.iter().filter(wanted).count();
        let (equal, differ) =
            (count(|a| matches!(a, Again::Equal)), count(|a| matches!(a, Again::Differs { .. })));
        let why = evidence.again.iter().find_map(|a| match a {
            Again::Differs { why } | Again::Impossible { why } => Some(why.as_str()),
            Again::Equal => None,
        });
        let note = why.map(|why| format!(" ({why})")).unwrap_or_default();
        vec![
            Condition {
                name: "decisions",
                met: found >= self.config.decisions,
                found: format!(
                    "{found} settled decisions of `{}` with a record of `{}`",
                    self.incumbent, self.shadow
                ),
                wanted: format!("at least {}", self.config.decisions),
            },
            Condition {
                name: "records",
                met: evidence.unsound == 0,
                found: format!("{} records of the shadow contradict themselves", evidence.unsound),
                wanted: "none".into(),
            },
            Condition {
                name: "recomputed",
                met: equal > 0 && differ == 0,
                found: format!(
                    "{equal} of {} records came out the same to the bit{note}",
                    evidence.again.len()
                ),
                wanted: "all that can be computed again, and at least one".into(),
            },
        ]
    }

    fn weights(&self, judgement: &Judgement) -> Vec<Condition> {
        let d = &judgement.diagnostics;
        vec![
            Condition {
                name: "propensities",
                met: d.mean_weight_z.abs() <= FAR,
                found: format!(
                    "mean weight {:.3}, {:.1} standard errors off",
                    d.mean_weight, d.mean_weight_z
                ),
                wanted: format!("at most {FAR} standard errors from 1"),
            },
            Condition {
                name: "support",
                met: d.support >= SUPPORT,
                found: format!("{:.4} of the shadow's choices could have been shown", d.support),
                wanted: format!("at least {SUPPORT}"),
            },
            Condition {
                name: "effective decisions",
                met: d.effective_rows >= self.config.effective_decisions,
                found: format!("{:.0}", d.effective_rows),
                wanted: format!("at least {}", self.config.effective_decisions),
            },
            Condition {
                name: "largest share",
                met: d.largest_weight_share <= self.config.largest_share,
                found: format!("one decision has {:.4} of all weight", d.largest_weight_share),
                wanted: format!("at most {}", self.config.largest_share),
            },
        ]
    }

    fn figures(&self, judgement: &Judgement, evidence: &Evidence) -> Figures {
        let span = |estimator| judgement.estimate(estimator).and_then(Span::of);
        let mut gains = GainSequence::new(self.config.error);
        let (mut n, mut sum, mut gain) = (0.0, 0.0, 0.0);
        for decision in &evidence.decisions {
            let place = decision.candidates.iter().position(|c| c.tip == decision.tip);
            let wanted = evidence.shadow.get(&decision.impression);
            let Some(p) = place.and_then(|at| wanted?.get(at)) else { continue };
            let weight = p / decision.propensity;
            gains.add(weight, decision.reward.clamp(0.0, 1.0));
            gain += (weight - 1.0) * decision.reward;
            sum += decision.reward;
            n += 1.0;
        }
        let Interval { low, high } = gains.interval();
        let share = |sum: f64| if n > 0.0 { sum / n } else { 0.0 };
        Figures {
            incumbent: share(sum),
            snips: span(Estimator::Snips),
            dr: span(Estimator::Dr),
            gain: Span { value: share(gain), low, high },
        }
    }

    fn values(&self, figures: &Figures) -> Vec<Condition> {
        let beats = |name, span: Option<Span>| Condition {
            name,
            met: span.is_some_and(|s| s.low > figures.incumbent),
            found: span.map_or("no estimate".into(), |s| s.to_string()),
            wanted: format!("a lower end above {:.4}, which the incumbent earned", figures.incumbent),
        };
        let agree = figures.snips.zip(figures.dr);
        vec![
            beats("snips", figures.snips),
            beats("doubly robust", figures.dr),
            Condition {
                name: "agreement",
                met: agree.is_some_and(|(a, b)| a.meets(&b)),
                found: agree.map_or("no estimates".into(), |(a, b)| format!("{a} and {b}")),
                wanted: "intervals of SNIPS and doubly robust that meet".into(),
            },
            Condition {
                name: "at any time",
                met: figures.gain.low > 0.0,
                found: format!("gain {}", figures.gain),
                wanted: "an interval above 0".into(),
            },
        ]
    }

    /// People of the experiment must not have liked the shadow's choices less; without one there is nothing to
    /// say.
    fn experiment(&self, evidence: &Evidence) -> Option<Condition> {
        if evidence.arms[1].is_empty() {
            return None;
        }
        let [incumbent, shadow] = evidence.arms.each_ref().map(|rewards| {
            // Half of the error for each side.
            let mut mean = MeanSequence::new(self.config.error / 2.0);
            rewards.iter().for_each(|r| mean.add(r.clamp(0.0, 1.0)));
            let value = rewards.iter().sum::<f64>() / (rewards.len().max(1) as f64);
            let Interval { low, high } = mean.interval();
            Span { value, low, high }
        });
        Some(Condition {
            name: "experiment",
            met: shadow.high >= incumbent.low,
            found: format!("shown, the shadow earned {shadow}, the incumbent {incumbent}"),
            wanted: "not less, at any time".into(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shadow = self.shadow.as_deref().unwrap_or("nothing");
        writeln!(f, "{shadow} in the shadow of {}", self.incumbent)?;
        for c in &self.conditions {
            let mark = if c.met { "ok     " } else { "MISSING" };
            writeln!(f, "{mark} {:<20} {}; wanted: {}", c.name, c.found, c.wanted)?;
        }
        Ok(())
    }
}
