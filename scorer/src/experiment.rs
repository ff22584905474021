//! Who gets whose tips: sides of an experiment, fixed by a hash of person and experiment.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::ScorerError;

/// Longest name, in bytes.
const LONGEST_NAME: usize = 64;
/// Fixes who is in the control group, whatever the experiment.
const CONTROL: u64 = 0xc0;

/// The section `scorer.experiment`: some people get the tips that the shadow chooses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentConfig {
    /// Its name. Another name puts people on other sides.
    pub name: String,
    /// Share of people, 0 to 1, for whom the shadow chooses.
    pub share: f64,
}

impl ExperimentConfig {
    /// Whether it makes sense.
    pub(crate) fn check(&self) -> Result<(), ScorerError> {
        if self.name.is_empty() || self.name.len() > LONGEST_NAME {
            let text = format!(
                "scorer.experiment.name has {} bytes; it must have 1 to {LONGEST_NAME}",
                self.name.len()
            );
            return Err(ScorerError::Config(text));
        }
        if !(0.0..=1.0).contains(&self.share) {
            let text = format!("scorer.experiment.share is {}; it must be from 0 to 1", self.share);
            return Err(ScorerError::Config(text));
        }
        Ok(())
    }

    /// Whether the shadow chooses for this person.
    pub fn challenges(&self, user: &str) -> bool {
        share_of(user, xxh3_64(self.name.as_bytes())) < self.share
    }
}

/// Whether this person is in the control group of this share.
pub fn in_control(user: &str, share: f64) -> bool {
    share_of(user, CONTROL) < share
}

/// A person's place among all, 0 to 1.
fn share_of(user: &str, seed: u64) -> f64 {
    xxh3_64_with_seed(user.as_bytes(), seed) as f64 / u64::MAX as f64
}

/// A side of an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// The policy that serves chooses.
    Incumbent,
    /// Its shadow chooses.
    Challenger,
    /// Every candidate is as likely.
    Control,
}

impl Arm {
    /// The word for it in records.
    pub fn name(self) -> &'static str {
        match self {
            Arm::Incumbent => "incumbent",
            Arm::Challenger => "challenger",
            Arm::Control => "control",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_fixed_by_person_and_name_and_near_their_share() {
        let experiment = |name: &str| ExperimentConfig { name: name.into(), share: 0.3 };
        let (a, b) = (experiment("a"), experiment("b"));
        let users: Vec<String> = (0..4_000).map(|i| format!("user-{i}")).collect();
        let count = |on: &dyn Fn(&str) -> bool| users.iter().filter(|u| on(u)).count();
        for experiment in [&a, &b] {
            let on = count(&|u| experiment.challenges(u));
            assert!((1_080..1_320).contains(&on), "{on} of 4000");
        }
        let both = count(&|u| a.challenges(u) && b.challenges(u));
        assert!((260..460).contains(&both), "two experiments are independent: {both}");
        assert!(users.iter().all(|u| a.challenges(u) == experiment("a").challenges(u)));
        let wider = ExperimentConfig { share: 0.6, ..experiment("a") };
        assert!(
            users.iter().all(|u| !a.challenges(u) || wider.challenges(u)),
            "a larger share keeps who is in"
        );
    }
}
