//! What the topic of policies holds: snapshots, whole or in parts, and which policy serves.

use ingest::Millis;
use prost::Message;

/// A policy as it was after some rewards. Subject of its record: [`SavedPolicy::SUBJECT`] and the name.
#[derive(Clone, PartialEq, Message)]
pub struct SavedPolicy {
    /// Name of the policy.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How many rewards it had learned.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Says whether a configuration can go on from it.
    #[prost(fixed64, tag = "3")]
    pub fingerprint: u64,
    /// Position in the topic of rewards: everything below it is learned, or left out for good.
    #[prost(string, tag = "4")]
    pub rewards: String,
    /// When it was taken.
    #[prost(int64, tag = "5")]
    pub taken_at: Millis,
    /// What [`crate::policy::Policy::save`] gave; empty where it lies in [`SavedPolicy::parts`].
    #[prost(bytes = "vec", tag = "6")]
    pub state: Vec<u8>,
    /// The [`crate::learn::StateId`]: which policy, and which rewards it learned from.
    #[prost(string, tag = "7")]
    pub id: String,
    /// [`crate::policy::PolicyConfig`] as JSON.
    #[prost(string, tag = "8")]
    pub config: String,
    /// [`crate::context::ContextConfig`] as JSON.
    #[prost(string, tag = "9")]
    pub context: String,
    /// `state@version` of the snapshot it went on from; empty for the first.
    #[prost(string, tag = "10")]
    pub parent: String,
    /// The rewards it learned.
    #[prost(message, optional, tag = "11")]
    pub taught: Option<Taught>,
    /// Version of the program.
    #[prost(string, tag = "12")]
    pub code: String,
    /// `view@version` of each feature view that the context reads.
    #[prost(string, repeated, tag = "13")]
    pub views: Vec<String>,
    /// Whether `kairos train` made it, or what it went on from.
    #[prost(bool, tag = "14")]
    pub trained: bool,
    /// Into how many [`SavedPart`]s the state is cut; 0 where it is in `state`.
    #[prost(uint32, tag = "15")]
    pub parts: u32,
    /// Offset of the first of them.
    #[prost(uint64, tag = "16")]
    pub first_part: u64,
    /// Bytes of the state.
    #[prost(uint64, tag = "17")]
    pub bytes: u64,
}

impl SavedPolicy {
    /// Begins the subject of the record of a snapshot.
    pub const SUBJECT: &'static str = "policy/";

    /// What a child calls it.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }

    /// Ties its parts to it.
    pub fn mark(&self) -> u64 {
        super::names_hash(&[self.name.as_str(), &self.reference(), &self.taken_at.to_string()])
    }
}

/// What a policy learned from, from its first reward on.
#[derive(Clone, PartialEq, Message)]
pub struct Taught {
    /// When the first of the rewards was settled.
    #[prost(int64, optional, tag = "1")]
    pub from: Option<Millis>,
    /// When the last of them was.
    #[prost(int64, optional, tag = "2")]
    pub to: Option<Millis>,
    /// Position of the first in the topic of rewards.
    #[prost(string, tag = "3")]
    pub from_position: String,
    /// How many.
    #[prost(uint64, tag = "4")]
    pub rewards: u64,
    /// Their sum.
    #[prost(double, tag = "5")]
    pub sum: f64,
    /// How many of them this policy's own tips earned.
    #[prost(uint64, tag = "6")]
    pub own: u64,
    /// The sum of those.
    #[prost(double, tag = "7")]
    pub own_sum: f64,
}

/// A piece of a state that is larger than one record of the log may be.
#[derive(Clone, PartialEq, Message)]
pub struct SavedPart {
    /// Bytes of the state, in order.
    #[prost(bytes = "vec", tag = "1")]
    pub bytes: Vec<u8>,
    /// [`SavedPolicy::mark`] of the snapshot.
    #[prost(fixed64, tag = "2")]
    pub of: u64,
}

impl SavedPart {
    /// Subject of its record.
    pub const SUBJECT: &'static str = "policy-part";
}

/// Says which policy serves from now on.
#[derive(Clone, PartialEq, Message)]
pub struct Serving {
    /// `promoted` or `rolled back`.
    #[prost(string, tag = "1")]
    pub action: String,
    /// When.
    #[prost(int64, tag = "2")]
    pub at: Millis,
    /// Name of the key of whoever asked for it, or `local`.
    #[prost(string, tag = "3")]
    pub by: String,
    /// What serves.
    #[prost(message, optional, tag = "4")]
    pub policy: Option<ServedPolicy>,
    /// What served until then.
    #[prost(message, optional, tag = "5")]
    pub previous: Option<ServedPolicy>,
    /// Which policy the configuration named then; when it names another one, the configuration holds.
    #[prost(fixed64, tag = "6")]
    pub configured: u64,
    /// The figures it rests on, as JSON.
    #[prost(string, tag = "7")]
    pub why: String,
}

impl Serving {
    /// Subject of its record.
    pub const SUBJECT: &'static str = "serving";
}

/// A policy that serves or served, with the snapshot it did so from.
#[derive(Clone, PartialEq, Message)]
pub struct ServedPolicy {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How many rewards it had learned.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Its [`crate::learn::StateId`].
    #[prost(string, tag = "3")]
    pub id: String,
    /// [`crate::policy::PolicyConfig`] as JSON.
    #[prost(string, tag = "4")]
    pub config: String,
}
