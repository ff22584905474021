//! Bounds and choices of the door.

use serde::{Deserialize, Serialize};

use crate::catalogue::UnknownFields;

/// What to do with an event time that is too far ahead of its arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FutureTimes {
    /// Refuse the signal and say by how much.
    #[default]
    Reject,
    /// Set the time to that of the arrival, and count it.
    Clamp,
}

/// Bounds and choices of the door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DoorOptions {
    /// What to do with fields of `data` that the type does not declare.
    pub unknown_fields: UnknownFields,
    /// What to do with an event time further ahead than `future_bound_ms`.
    pub future_times: FutureTimes,
    /// How far an event time may be ahead of its arrival, in milliseconds.
    pub future_bound_ms: i64,
    /// Longest `id` and longest `source`, in bytes.
    pub max_id_bytes: usize,
    /// Longest `subject`, in bytes.
    pub max_subject_bytes: usize,
    /// Largest `data`, in bytes of JSON.
    pub max_data_bytes: usize,
    /// Largest sum of names and values of extension attributes, in bytes.
    pub max_extension_bytes: usize,
}

impl Default for DoorOptions {
    fn default() -> Self {
        DoorOptions {
            unknown_fields: UnknownFields::Reject,
            future_times: FutureTimes::Reject,
            future_bound_ms: 5 * 60 * 1000,
            max_id_bytes: 256,
            max_subject_bytes: 256,
            max_data_bytes: 256 << 10,
            max_extension_bytes: 4 << 10,
        }
    }
}
