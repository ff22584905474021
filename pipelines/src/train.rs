//! `kairos train`: a training set from logged decisions, and a policy taught from them.
//!
//! Both are made of what the log holds: settled decisions with the context that was seen, and the rewards in
//! the order in which they were settled. Features that the context did not have are joined to the set from
//! history, each as it could be known when the tip was shown ([`crate::join`]).
//!
//! Both go on where they were cut: the rows of the set are a file that appears when it is whole, before
//! features are joined to it; the policy is kept in a file every so many rewards, with the position reached.
//!
//! | module | what |
//! |---|---|
//! | [`policy`] | teaches a policy |
//! | [`set`] | writes a training set |

pub mod policy;
pub mod set;
#[cfg(test)]
mod tests;

use ingest::Millis;
use scorer::record::names_hash;

/// Which decisions to learn from, by when they were shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// From this instant on; from the beginning of the log, when unset.
    pub from: Option<Millis>,
    /// Before this instant; up to the end of the log, when unset.
    pub to: Option<Millis>,
}

impl Window {
    /// Whether a decision shown at this instant is in it.
    pub fn holds(&self, shown_at: Millis) -> bool {
        self.from.is_none_or(|from| shown_at >= from) && self.to.is_none_or(|to| shown_at < to)
    }

    /// Whether it leaves anything out.
    pub fn is_open(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// Identifies it; 0 for one that leaves nothing out, which is what a policy learns that serves.
    pub fn lineage(&self) -> u64 {
        match self.is_open() {
            true => 0,
            false => names_hash(&["trained", &format!("{:?} {:?}", self.from, self.to)]),
        }
    }
}
