//! Names for what a policy is and what it knows, so that a record of long ago still says which.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value};

use crate::{context::Layout, policy::PolicyConfig, record::names_hash};

/// Settings of a policy that may change while it goes on from a saved state: how it explores.
const EXPLORATION: [&str; 3] = ["width", "floor", "floor_start"];

/// A policy, and the rewards it learns from. Together with a version (how many of those rewards) it names a
/// state to the bit. Written `policy` or `policy.lineage`, both in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct StateId {
    /// [`config_id`] and [`Layout::fingerprint`] together.
    pub policy: u64,
    /// 0 for every reward of the log from its beginning on; another number for other choices of rewards:
    /// a window of training, or a return to an earlier snapshot.
    pub lineage: u64,
}

impl StateId {
    /// Of a policy that decides by this layout.
    pub fn new(config: &PolicyConfig, layout: &Layout, lineage: u64) -> StateId {
        StateId { policy: config_id(config) ^ layout.fingerprint().rotate_left(3), lineage }
    }
}

impl fmt::Display for StateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.policy)?;
        if self.lineage != 0 {
            write!(f, ".{:016x}", self.lineage)?;
        }
        Ok(())
    }
}

impl FromStr for StateId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (policy, lineage) = text.split_once('.').unwrap_or((text, "0"));
        let number = |t: &str| u64::from_str_radix(t, 16);
        match (number(policy), number(lineage)) {
            (Ok(policy), Ok(lineage)) => Ok(StateId { policy, lineage }),
            _ => Err(format!("`{text}` is no state of a policy; it reads `policy` or `policy.lineage`")),
        }
    }
}

/// Identifies a policy by its name and by the settings that are not the default ones, so that a setting
/// added later leaves it as it is.
pub fn config_id(config: &PolicyConfig) -> u64 {
    names_hash(&settings(config, &[]))
}

/// Says whether a policy of this configuration can go on from a saved state: everything but exploration.
pub fn fingerprint(config: &PolicyConfig, layout: &Layout) -> u64 {
    layout.fingerprint() ^ names_hash(&settings(config, &EXPLORATION)).rotate_left(2)
}

fn settings(config: &PolicyConfig, without: &[&str]) -> Vec<String> {
    let object = |config: &PolicyConfig| match serde_json::to_value(config) {
        Ok(Value::Object(map)) => map,
        // A struct of plain fields is an object.
        _ => Map::new(),
    };
    let usual = object(&PolicyConfig::default());
    let mut settings: Vec<String> = object(config)
        .into_iter()
        .filter(|(name, _)| !without.contains(&name.as_str()))
        .filter(|(name, value)| name == "name" || usual.get(name) != Some(value))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    settings.sort();
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::PolicyName,
        testing::{config, tips},
    };

    #[test]
    fn a_state_is_written_and_read() {
        for id in [StateId { policy: 0xab, lineage: 0 }, StateId { policy: u64::MAX, lineage: 7 }] {
            assert_eq!(id.to_string().parse::<StateId>().unwrap(), id);
        }
        assert!("x".parse::<StateId>().is_err());
    }

    #[test]
    fn exploration_makes_another_policy_that_can_go_on_from_the_same_state() {
        let layout = Layout::new(&config().context, &tips()).unwrap();
        let plain = PolicyConfig { name: PolicyName::LinTs, ..PolicyConfig::default() };
        let wider = PolicyConfig { width: 9.0, ..plain.clone() };
        let stiffer = PolicyConfig { ridge: 9.0, ..plain.clone() };
        let other = PolicyConfig { name: PolicyName::LinUcb, ..plain.clone() };
        assert_ne!(config_id(&plain), config_id(&wider));
        assert_eq!(fingerprint(&plain, &layout), fingerprint(&wider, &layout));
        for different in [stiffer, other] {
            assert_ne!(config_id(&plain), config_id(&different));
            assert_ne!(fingerprint(&plain, &layout), fingerprint(&different, &layout));
        }
    }
}
