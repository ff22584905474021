//! Policies as decisions find them.

use std::{ops::Deref, sync::Arc};

use arc_swap::ArcSwap;

use crate::{learn::StateId, policy::Snapshot};

/// A snapshot, and the name of its state.
#[derive(Clone)]
pub struct Publication {
    /// Decides.
    pub snapshot: Arc<dyn Snapshot>,
    /// With the snapshot's version, names the state.
    pub state: StateId,
    /// Whether it is the shadow that the configuration names, so that an experiment may show its tips; after
    /// its promotion the policy that served before is in the shadow, and the experiment is over.
    pub challenger: bool,
}

/// Where a learner puts a policy that decisions follow.
pub type Published = Arc<ArcSwap<Publication>>;

impl Publication {
    /// A place that holds this publication.
    pub fn published(self) -> Published {
        Arc::new(ArcSwap::from_pointee(self))
    }
}

impl From<Arc<dyn Snapshot>> for Publication {
    fn from(snapshot: Arc<dyn Snapshot>) -> Self {
        Publication { snapshot, state: StateId::default(), challenger: false }
    }
}

impl Deref for Publication {
    type Target = dyn Snapshot;

    fn deref(&self) -> &Self::Target {
        &*self.snapshot
    }
}
