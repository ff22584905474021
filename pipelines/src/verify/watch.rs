//! The comparison at a low rate, beside a running job.

use std::sync::Arc;

use features::{FeatureError, FeatureStore};
use ingest::{Millis, catalogue::Catalogue};
use metrics::{Unit, counter, describe_counter};
use rand::{Rng, rngs::StdRng, seq::SliceRandom};

use super::{Checker, Difference, sample};

/// Values compared, by view.
pub const CHECKED: &str = "kairos_verify_checked_total";
/// Values that were not what their SQL gives, by view; the expected number is zero.
pub const DIFFERENCES: &str = "kairos_verify_differences_total";
/// Comparisons that could not be made, by view.
pub const FAILURES: &str = "kairos_verify_failures_total";

/// Entities of a view drawn at once.
const DRAWN: usize = 64;

/// Describes all of them to the recorder.
pub fn describe() {
    describe_counter!(CHECKED, Unit::Count, "Served values compared with their SQL as a batch, by view");
    describe_counter!(DIFFERENCES, Unit::Count, "Served values that are not what their SQL gives, by view");
    describe_counter!(FAILURES, Unit::Count, "Comparisons that could not be made, by view");
}

/// Goes through entities and views in a random order, one at each step.
pub struct Watch {
    store: FeatureStore,
    checkers: Vec<Checker>,
    next: Vec<(usize, Arc<str>)>,
    rng: StdRng,
}

impl Watch {
    /// Compares every view of a store; one that cannot be computed as a batch is left out, with a warning.
    pub fn new(catalogue: &Catalogue, store: FeatureStore, rng: StdRng) -> Watch {
        let mut checkers = Vec::new();
        for view in store.registry().current() {
            // A counter that does not stand at zero first cannot be seen to rise.
            for name in [CHECKED, DIFFERENCES, FAILURES] {
                counter!(name, "view" => view.name.clone()).increment(0);
            }
            match Checker::new(catalogue, store.registry(), &view.name) {
                Ok(checker) => checkers.push(checker),
                Err(e) => {
                    tracing::warn!(view = %view.name, error = %e, "the view cannot be compared with its SQL")
                }
            }
        }
        Watch { store, checkers, next: Vec::new(), rng }
    }

    /// Compares one view of one entity, as it is now and as of one instant. May take some milliseconds, and
    /// reads from disk.
    pub async fn step(&mut self, now: Millis) {
        if self.next.is_empty() {
            self.draw().await;
        }
        let Some((which, entity)) = self.next.pop() else { return };
        let view = self.checkers[which].view().name.clone();
        match self.compare(which, &entity, now).await {
            Ok(differences) => {
                counter!(CHECKED, "view" => view.clone())
                    .increment(2 * self.checkers[which].names().len() as u64);
                counter!(DIFFERENCES, "view" => view.clone()).increment(differences.len() as u64);
                if let Some(first) = differences.first() {
                    tracing::error!(
                        feature = %first.feature,
                        read = ?first.read,
                        differences = differences.len(),
                        "served values are not what their SQL gives; `kairos features verify` tells whose"
                    );
                }
            }
            Err(e) => {
                counter!(FAILURES, "view" => view.clone()).increment(1);
                tracing::warn!(view = %view, error = %e, "values could not be compared with their SQL");
            }
        }
    }

    async fn compare(
        &mut self,
        which: usize,
        entity: &str,
        now: Millis,
    ) -> Result<Vec<Difference>, FeatureError> {
        let (checker, store) = (&self.checkers[which], &self.store);
        let at = sample::instant(store.history().as_ref(), checker.view(), entity, now, &mut self.rng)?;
        let look = async || -> Result<Vec<Difference>, FeatureError> {
            let mut found = checker.now(store, entity, now).await?;
            found.extend(checker.as_of(store, entity, at)?);
            Ok(found)
        };
        // Somebody who is erased between two reads looks like a difference, but only once.
        let found = look().await?;
        if found.is_empty() { Ok(found) } else { look().await }
    }

    async fn draw(&mut self) {
        for (which, checker) in self.checkers.iter().enumerate() {
            let Ok(mut entities) = self.store.entities(checker.view()).await else { continue };
            let n = entities.len().min(DRAWN);
            for i in 0..n {
                let j = self.rng.random_range(i..entities.len());
                entities.swap(i, j);
            }
            self.next.extend(entities.drain(..n).map(|e| (which, e)));
        }
        self.next.shuffle(&mut self.rng);
    }
}
