//! The pool: several models on one log, weighed by how well they predict.
//!
//! No one model is best everywhere: where contexts say nothing a plain mean wins, where rewards are yes or no
//! a logistic model does, where the world is not linear random features do. So the pool teaches eight kinds
//! of models ([`member::Kind`]) from every reward, keeps each one's discounted one-step error, and decides by
//! their predictions weighed by it ([`referee`]), each with a bonus for what it does not know. What is known
//! is forgotten at once when the leader's errors show that the world has changed.
//!
//! | module | what |
//! |---|---|
//! | [`inputs`] | values on one scale, random features |
//! | [`segments`] | people alike |
//! | [`member`], [`head`] | the models |
//! | [`decide`] | the deciding side |
//! | [`referee`] | errors, weights, change |
//! | [`saved`] | the state as bytes |

mod decide;
mod head;
mod inputs;
mod member;
mod referee;
mod saved;
mod segments;

use std::sync::Arc;

use self::{
    decide::{PoolSnapshot, Voice},
    inputs::{Fourier, Scaler},
    member::{KINDS, Lens, Member},
    referee::Referee,
    segments::Segments,
};
use super::{Observation, Policy, PolicyConfig, Snapshot};
use crate::ScorerError;

/// The first rewards are kept, and all is learned from them anew when 4, 8, … of them have shown what scale
/// the inputs have: what is learned on a wrong scale would stay.
const EARLY: usize = 128;

/// A reward as the pool keeps it.
#[derive(Debug, Clone)]
struct Row {
    context: Vec<f64>,
    tip: Arc<str>,
    group: Arc<str>,
    features: Vec<f64>,
    reward: f64,
}

/// The pool of models.
pub struct Pool {
    config: PolicyConfig,
    lens: Lens,
    members: Vec<Member>,
    referee: Referee,
    early: Vec<Row>,
    learned: u64,
}

impl Pool {
    /// Untaught.
    pub fn new(config: PolicyConfig) -> Pool {
        let lens = Lens {
            context: Arc::new(Scaler::default()),
            action: Arc::new(Scaler::default()),
            fourier: Arc::new(Fourier::new(config.seed)),
            segments: Arc::new(Segments::default()),
            size: 1.0,
        };
        let members = KINDS.map(Member::new).to_vec();
        Pool { config, lens, referee: Referee::new(members.len()), members, early: Vec::new(), learned: 0 }
    }

    /// Learns anew from the first rewards, on the scale they have.
    fn begin_anew(&mut self) {
        let contexts: Vec<Vec<f32>> =
            self.early.iter().map(|row| self.lens.context.scaled(row.context.iter())).collect();
        self.lens.segments = Arc::new(Segments::of(&contexts));
        self.lens.size = (self.lens.context.len().max(1) as f64).sqrt();
        self.members = KINDS.map(Member::new).to_vec();
        for row in std::mem::take(&mut self.early) {
            self.teach(&row);
            self.early.push(row);
        }
    }

    /// Every member learns; their predictions from before.
    fn teach(&mut self, row: &Row) -> Vec<f64> {
        let seen = self.lens.see(row.context.iter());
        let features = self.lens.action.scaled(row.features.iter());
        let (low, high) = (self.referee.low, self.referee.high);
        let share = (row.reward - low) / (high - low);
        let mut x = Vec::new();
        let teach = |member: &mut Member| {
            member.cover(&seen, &features);
            let predicted = f64::from(member.predict(&seen, &row.group, &row.tip, &features, &mut x));
            member.learn(&row.group, &row.tip, &x, row.reward, share);
            if matches!(member.kind, member::Kind::Logistic(_)) {
                low + (high - low) * predicted
            } else {
                predicted
            }
        };
        self.members.iter_mut().map(teach).collect()
    }
}

impl Policy for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn version(&self) -> u64 {
        self.learned
    }

    fn learn(&mut self, seen: &Observation<'_>) -> bool {
        if !seen.reward.is_finite() || seen.context.iter().chain(seen.action.features).any(|v| !v.is_finite())
        {
            return false;
        }
        self.learned += 1;
        self.referee.reward(seen.reward);
        Arc::make_mut(&mut self.lens.context).add(seen.context.iter());
        Arc::make_mut(&mut self.lens.action).add(seen.action.features.iter());
        if self.lens.fourier.inputs() < seen.context.len() {
            Arc::make_mut(&mut self.lens.fourier).cover(seen.context.len());
        }
        if (4..=EARLY as u64).contains(&self.learned) && self.learned.is_power_of_two() {
            self.begin_anew();
        }
        let row = Row {
            context: seen.context.to_vec(),
            tip: seen.action.tip.into(),
            group: seen.action.group.into(),
            features: seen.action.features.to_vec(),
            reward: seen.reward,
        };
        let predictions = self.teach(&row);
        if self.learned < EARLY as u64 {
            self.early.push(row);
        } else {
            self.early = Vec::new();
        }
        if self.referee.judge(&predictions, seen.reward, self.config.half_life) {
            tracing::info!(learned = self.learned, "the world has changed; the pool begins anew");
            self.members = KINDS.map(Member::new).to_vec();
        }
        true
    }

    fn snapshot(&mut self) -> Arc<dyn Snapshot> {
        let shares = self.referee.shares();
        let voices = self.members.iter().zip(shares).enumerate().filter(|(_, (_, share))| *share > 0.0);
        Arc::new(PoolSnapshot {
            lens: self.lens.clone(),
            voices: voices
                .map(|(i, (member, share))| Voice {
                    kind: member.kind,
                    columns: member.columns.clone(),
                    index: member.index.clone(),
                    views: member.views.clone(),
                    share: share as f32,
                    deviation: self.referee.deviation(i) as f32,
                })
                .collect(),
            low: self.referee.low as f32,
            range: (self.referee.high - self.referee.low) as f32,
            learned: self.learned,
            floor: self.config.floor_after(self.learned),
        })
    }

    fn save(&self) -> Vec<u8> {
        self.to_bytes()
    }

    fn load(&mut self, state: &[u8]) -> Result<(), ScorerError> {
        self.take_over(state)
    }
}
