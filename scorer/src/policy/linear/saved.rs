//! The model as bytes.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message;

use super::{Group, Linear};
use crate::{
    ScorerError,
    policy::{
        Ridge,
        columns::{Columns, slots_from_lists, slots_to_lists},
    },
};

#[derive(Clone, PartialEq, Message)]
struct Saved {
    #[prost(uint64, tag = "1")]
    learned: u64,
    #[prost(double, tag = "2")]
    reward_sum: f64,
    #[prost(message, repeated, tag = "6")]
    groups: Vec<SavedGroup>,
    /// What a group begins with.
    #[prost(uint32, repeated, tag = "7")]
    start: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedGroup {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    tips: Vec<String>,
    /// The place of each tip.
    #[prost(uint64, repeated, tag = "3")]
    slots: Vec<u64>,
    #[prost(uint64, tag = "4")]
    rows: u64,
    #[prost(double, repeated, tag = "5")]
    numbers: Vec<f64>,
    #[prost(uint32, repeated, tag = "6")]
    columns: Vec<u32>,
}

impl Linear {
    pub(in crate::policy) fn save(&self) -> Vec<u8> {
        let groups = self.groups.iter().map(|(name, group)| {
            let (tips, slots) = slots_to_lists(&group.slots);
            SavedGroup {
                name: name.to_string(),
                tips,
                slots,
                rows: group.ridge.rows(),
                numbers: group.ridge.to_numbers(),
                columns: group.columns.to_numbers(),
            }
        });
        Saved {
            learned: self.learned,
            reward_sum: self.reward_sum,
            groups: groups.collect(),
            start: self.start.to_numbers(),
        }
        .encode_to_vec()
    }

    pub(in crate::policy) fn load(&mut self, state: &[u8]) -> Result<(), ScorerError> {
        let damaged = |why: String| ScorerError::Snapshot(format!("the saved policy cannot be read: {why}"));
        let saved = Saved::decode(state).map_err(|e| damaged(e.to_string()))?;
        let start = Columns::from_numbers(&saved.start)
            .ok_or_else(|| damaged("what a group begins with is not whole".into()))?;
        let start = Arc::new(start);
        let mut groups = BTreeMap::new();
        for group in saved.groups {
            let name: Arc<str> = group.name.as_str().into();
            let mut read = restored(group)
                .ok_or_else(|| damaged(format!("the numbers of group `{name}` are not whole")))?;
            if read.columns == start {
                // Groups of one shape share it.
                read.columns = start.clone();
            }
            groups.insert(name, read);
        }
        self.groups = groups;
        self.start = start;
        self.fresh_rows = None;
        self.learned = saved.learned;
        self.reward_sum = saved.reward_sum;
        Ok(())
    }
}

fn restored(group: SavedGroup) -> Option<Group> {
    let columns = Columns::from_numbers(&group.columns)?;
    let ridge = Ridge::from_numbers(columns.len(), group.rows, &group.numbers)?;
    let slots = slots_from_lists(&group.tips, &group.slots, columns.len())?;
    Some(Group { ridge, columns: Arc::new(columns), slots: Arc::new(slots), rows: None })
}
