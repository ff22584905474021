//! What the log says about a shadow.

use std::collections::{HashMap, VecDeque};

use ingest::{
    Millis,
    log::{Log, LogError, Partition, Position, Topic},
    record::RecordRef,
};
use prost::Message;
use rand::{Rng, RngCore};
use scorer::{
    PromotionConfig,
    learn::{
        StateId,
        replay::{self, Again, Moment},
    },
    record::{IMPRESSION, IMPRESSION_SOURCE, Impression},
};

use crate::evaluate::{LoggedDecision, logged};

/// Which decisions count.
pub(super) struct Wanted<'a> {
    /// [`StateId::policy`] of who serves.
    pub incumbent: u64,
    /// The same of the shadow.
    pub shadow: u64,
    /// Those after this instant.
    pub since: Millis,
    /// Name of the experiment that shows the shadow's choices.
    pub experiment: Option<&'a str>,
}

/// Settled decisions, with what the shadow would have done.
#[derive(Default)]
pub(super) struct Evidence {
    /// Decisions of the incumbent, in the order in which they were made.
    pub decisions: Vec<LoggedDecision>,
    /// The shadow's probabilities of the candidates of each decision, by impression.
    pub shadow: HashMap<String, Vec<f64>>,
    /// Records of the shadow that contradict themselves.
    pub unsound: u64,
    /// Some of the records, computed again.
    pub again: Vec<Again>,
    /// Rewards of the people of the experiment: those whom the incumbent chose for, and the shadow.
    pub arms: [Vec<f64>; 2],
}

impl Evidence {
    /// Reads the log twice: what was recorded, and what came of it.
    pub fn gather(
        log: &dyn Log,
        wanted: &Wanted<'_>,
        config: &PromotionConfig,
        window: Millis,
        rng: &mut dyn RngCore,
    ) -> Result<Evidence, LogError> {
        let mut evidence = Evidence::default();
        let mut order: VecDeque<String> = VecDeque::new();
        let mut arms: HashMap<String, usize> = HashMap::new();
        let mut sample = Sample { moments: Vec::new(), seen: 0, most: config.recomputed };
        each_impression(log, |signal, seen| {
            if signal.received_at <= wanted.since {
                return;
            }
            if let Some(arm) = arm(&seen, wanted) {
                arms.insert(signal.id.to_owned(), arm);
            }
            if policy(seen.policy_state.as_deref()) != Some(wanted.incumbent) {
                return;
            }
            let Some(moment) =
                Moment::shadow(&seen).filter(|m| m.state.map(|s| s.policy) == Some(wanted.shadow))
            else {
                return;
            };
            if !sound(&seen) {
                evidence.unsound += 1;
                return;
            }
            evidence.shadow.insert(signal.id.to_owned(), moment.propensities.clone());
            sample.see(moment, rng);
            order.push_back(signal.id.to_owned());
            while order.len() as u64 > config.at_most {
                if let Some(oldest) = order.pop_front() {
                    evidence.shadow.remove(&oldest);
                }
            }
        })?;
        let known = &evidence.shadow;
        let (decisions, rewards) = (&mut evidence.decisions, &mut evidence.arms);
        logged::each_decision(log, window, |decision| {
            if let Some(arm) = arms.get(&decision.impression) {
                rewards[*arm].push(decision.reward);
            }
            if known.contains_key(&decision.impression) {
                decisions.push(decision);
            }
        })?;
        evidence.decisions.sort_by(|a, b| (a.shown_at, &a.impression).cmp(&(b.shown_at, &b.impression)));
        evidence.again = replay::again(log, &sample.moments)?;
        Ok(evidence)
    }
}

/// So many of what comes by, each as likely (reservoir sampling; Vitter, 1985, algorithm R).
struct Sample {
    moments: Vec<Moment>,
    seen: usize,
    most: usize,
}

impl Sample {
    fn see(&mut self, moment: Moment, rng: &mut dyn RngCore) {
        self.seen += 1;
        if self.moments.len() < self.most {
            self.moments.push(moment);
        } else if let Some(place) = self.moments.get_mut(rng.random_range(0..self.seen)) {
            *place = moment;
        }
    }
}

fn each_impression(log: &dyn Log, mut visit: impl FnMut(&RecordRef<'_>, Impression)) -> Result<(), LogError> {
    let partitions: Vec<Partition> = (0..log.partitions(Topic::Signals)).collect();
    let mut reader = log.reader(Topic::Signals, &partitions, &Position::default())?;
    loop {
        let records = reader.poll(4096)?;
        if records.is_empty() {
            return Ok(());
        }
        for record in &records {
            let Ok(signal) = RecordRef::decode(&record.subject, &record.payload) else { continue };
            if signal.kind == IMPRESSION
                && signal.source == IMPRESSION_SOURCE
                && let Ok(seen) = Impression::decode(signal.data)
            {
                visit(&signal, seen);
            }
        }
    }
}

fn policy(state: Option<&str>) -> Option<u64> {
    state?.parse::<StateId>().ok().map(|id| id.policy)
}

/// 0 where the incumbent chose for somebody of the experiment, 1 where the shadow did.
fn arm(seen: &Impression, wanted: &Wanted<'_>) -> Option<usize> {
    let name = seen.experiment.as_ref()?.name.as_deref();
    let chose = policy(seen.policy_state.as_deref())?;
    (name.is_some() && name == wanted.experiment).then_some(())?;
    [wanted.incumbent, wanted.shadow].iter().position(|id| *id == chose)
}

/// Whether the shadow's record holds together: a probability for each candidate, and a tip that its draw falls
/// on.
fn sound(seen: &Impression) -> bool {
    let Some(shadow) = &seen.shadow else { return false };
    let p = &shadow.propensities;
    let distribution = p.len() == seen.candidates.len()
        && p.iter().all(|p| (0.0..=1.0 + 1e-9).contains(p))
        && (p.iter().sum::<f64>() - 1.0).abs() < 1e-6;
    let place = seen.candidates.iter().position(|c| c.tip == shadow.tip);
    distribution && place.is_some_and(|at| Some(p[at]) == shadow.propensity)
}
