//! The baseline: every candidate alike.

use std::sync::Arc;

use ndarray::ArrayView1;

use super::{Action, Distribution, Observation, Policy, Snapshot};
use crate::ScorerError;

/// Chooses every candidate with the same probability and learns nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Uniform;

impl Snapshot for Uniform {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn version(&self) -> u64 {
        0
    }

    fn distribution(&self, _: ArrayView1<'_, f64>, actions: &[Action<'_>]) -> Distribution {
        let n = actions.len();
        Distribution { scores: vec![0.0; n], propensities: vec![1.0 / n.max(1) as f64; n] }
    }
}

impl Policy for Uniform {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn version(&self) -> u64 {
        0
    }

    fn learn(&mut self, _: &Observation<'_>) -> bool {
        true
    }

    fn snapshot(&mut self) -> Arc<dyn Snapshot> {
        Arc::new(*self)
    }

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    fn load(&mut self, _: &[u8]) -> Result<(), ScorerError> {
        Ok(())
    }
}
