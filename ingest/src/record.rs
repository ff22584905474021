//! A signal once admitted, as the log carries it.

use bytes::Bytes;

use crate::Millis;

/// An admitted signal. `data` is the protobuf encoding of the declared message.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Declared type, such as `task.completed`.
    pub kind: String,
    /// With `source`, identifies the signal.
    pub id: String,
    /// Who reported it.
    pub source: String,
    /// Whom it is about.
    pub subject: String,
    /// Event time.
    pub time: Millis,
    /// Arrival time, stamped at the door.
    pub received_at: Millis,
    /// Protobuf encoding of the declared message.
    pub data: Bytes,
    /// CloudEvents extension attributes, kept as they came (name, value as JSON text).
    pub extensions: Vec<(String, String)>,
}

impl Record {
    /// The idempotency key of (`source`, `id`): xxh3-128 of `source`, a zero byte, `id`. Never 0.
    pub fn key(&self) -> u128 {
        idempotency_key(&self.source, &self.id)
    }
}

/// The idempotency key of (`source`, `id`): xxh3-128 of `source`, a zero byte, `id`. Never 0.
pub fn idempotency_key(source: &str, id: &str) -> u128 {
    let mut h = xxhash_rust::xxh3::Xxh3::new();
    h.update(source.as_bytes());
    h.update(&[0]);
    h.update(id.as_bytes());
    h.digest128().max(1)
}
