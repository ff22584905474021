//! The laboratory: what the policy earns and what it knows, against what the simulation knows to be true.
//!
//! Impressions are read from the log, as anybody could; only the true worth of each tip at that instant
//! comes from the simulation. So reward and regret are exact expected values, of the policy in charge and of
//! any other over the same candidates, and no luck of the draw is in them.
//!
//! | module | what |
//! |---|---|
//! | [`judge`] | one decision, held against the truth |
//! | [`curve`] | sums over all decisions |
//! | [`spread`] | how sure decisions were |
//! | [`learned`] | what the policy holds of each category |
//! | [`page`] | the page and the figures behind it |

mod curve;
mod judge;
mod learned;
pub mod page;
mod spread;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ingest::{
    log::{Log, Partition, Reader, Topic},
    record::RecordRef,
};
use prost::Message;
use scorer::{
    Scorer,
    experiment::Arm,
    policy::Snapshot,
    record::{IMPRESSION, Impression},
};

use self::{curve::Curve, judge::judge, learned::Learned, spread::Spread};
use crate::error::Result;

/// Records read from the log at once.
const BATCH: usize = 1_024;
/// Impressions awaited at most; the log has each within milliseconds.
const AWAITED: usize = 10_000;

/// What the page shows, fed by the [`Watcher`].
pub struct Lab {
    scorer: Scorer,
    figures: Mutex<Figures>,
}

struct Figures {
    curve: Curve,
    spread: Spread,
    learned: Learned,
}

impl Lab {
    /// Of this scorer's decisions.
    pub fn new(scorer: Scorer) -> Lab {
        let parts = scorer.parts();
        let learned = Learned::new(parts.layout.clone(), parts.catalogue.clone());
        let curve = Curve::new(learned.names().count());
        Lab { figures: Mutex::new(Figures { curve, spread: Spread::default(), learned }), scorer }
    }

    fn incumbent(&self) -> Arc<dyn Snapshot> {
        self.scorer.parts().policy.load().snapshot.clone()
    }

    fn shadow(&self) -> Option<Arc<dyn Snapshot>> {
        self.scorer.parts().shadow.as_ref().map(|shadow| shadow.load().snapshot.clone())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Figures) -> T) -> T {
        look(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, impression: &Impression, worth: &[f64]) {
        let tips = self.scorer.parts().catalogue.clone();
        let known = |tip: &str| {
            let index = tips.iter().position(|t| t.id == tip)?;
            Some((index, *worth.get(index)?))
        };
        let Some(judged) = judge(impression, known) else {
            tracing::warn!("an impression lacks candidates or propensities; the lab leaves it out");
            return;
        };
        let (incumbent, shadow) = (self.incumbent(), self.shadow());
        self.with(|figures| {
            let Figures { curve, spread, learned } = figures;
            learned.see(&impression.context, &judged.candidates);
            spread.add(judged.propensities);
            curve.add(&judged.worth, || learned.beliefs(&*incumbent, shadow.as_deref()));
        });
    }
}

/// Reads impressions from the log and counts those it was told the truth about.
pub struct Watcher {
    lab: Arc<Lab>,
    reader: Box<dyn Reader>,
    awaited: HashMap<String, Vec<f64>>,
}

impl Watcher {
    /// From the end of the log on.
    pub fn new(lab: Arc<Lab>, log: &dyn Log) -> Result<Watcher> {
        let partitions: Vec<Partition> = (0..log.partitions(Topic::Signals)).collect();
        let reader = log.reader(Topic::Signals, &partitions, &log.end(Topic::Signals))?;
        Ok(Watcher { lab, reader, awaited: HashMap::new() })
    }

    /// Whether this person's tips are counted: those that the policy in charge chooses.
    pub fn counts(&self, user: &str) -> bool {
        self.lab.scorer.arm(user) == Arm::Incumbent
    }

    /// An impression is to come; `worth` is the true worth of each tip of the catalogue to that person at
    /// that instant.
    pub fn expect(&mut self, impression: String, worth: Vec<f64>) {
        if self.awaited.len() >= AWAITED {
            tracing::warn!("impressions do not come back from the log; the lab starts over");
            self.awaited.clear();
        }
        self.awaited.insert(impression, worth);
    }

    /// Counts what the log has by now.
    pub fn catch_up(&mut self) -> Result<()> {
        loop {
            let records = self.reader.poll(BATCH)?;
            if records.is_empty() {
                return Ok(());
            }
            for record in &records {
                let Ok(record) = RecordRef::decode(&record.subject, &record.payload) else { continue };
                if record.kind != IMPRESSION {
                    continue;
                }
                let Some(worth) = self.awaited.remove(record.id) else { continue };
                match Impression::decode(record.data) {
                    Ok(impression) => self.lab.count(&impression, &worth),
                    Err(e) => tracing::warn!(error = %e, "an impression cannot be read back"),
                }
            }
        }
    }
}
