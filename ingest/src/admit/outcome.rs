//! What became of signals at the door.

use serde::Serialize;
use utoipa::ToSchema;

use crate::log::{LogError, Offset, Partition, Position};

/// Longest piece of foreign text repeated in a reason or as an id, in bytes.
const MAX_ECHO: usize = 400;

/// Why a signal was turned away, as a class for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not JSON, not UTF-8, or no object.
    Malformed,
    /// An attribute of the envelope is missing, wrong, or too long.
    Envelope,
    /// No such type is declared.
    UnknownType,
    /// `data` does not fit its type.
    Data,
    /// The time is too far ahead.
    FutureTime,
}

impl Reason {
    /// A stable word for metrics and programs.
    pub fn code(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::Envelope => "invalid_envelope",
            Reason::UnknownType => "unknown_type",
            Reason::Data => "invalid_data",
            Reason::FutureTime => "future_time",
        }
    }
}

/// One signal turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Its id, where one could be read.
    pub id: Option<String>,
    /// The class.
    pub reason: Reason,
    /// What is wrong with which part, and what would be right.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal { id: None, reason, message: clip(message.into()) }
    }

    pub(super) fn of(mut self, id: &str) -> Refusal {
        self.id = Some(clip(id.to_owned()));
        self
    }
}

/// Shortens foreign text, so that an answer stays small whatever was sent.
fn clip(mut text: String) -> String {
    if text.len() > MAX_ECHO {
        text.truncate(text.floor_char_boundary(MAX_ECHO));
        text.push('…');
    }
    text
}

/// A signal of a batch that was turned away. The others are not touched by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rejected {
    /// Its place among the signals sent, from 0.
    pub index: usize,
    /// Its id, where one could be read.
    pub id: Option<String>,
    /// What is wrong with which part, and what would be right.
    #[serde(rename = "reason")]
    #[schema(example = "data.minutes: expected an integer, got \"ten\"")]
    pub message: String,
    /// The class, for programs in this process.
    #[serde(skip)]
    pub reason: Reason,
}

/// What became of one signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Durable at this place.
    Accepted(Partition, Offset),
    /// It was durable already, or stands earlier in the same batch.
    Duplicate,
    /// Turned away; [`Admission::rejected`] says why.
    Rejected,
}

/// What became of the signals of one call, all of it durable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admission {
    /// How many were appended.
    pub accepted: usize,
    /// How many were there already.
    pub duplicates: usize,
    /// Those turned away, in the order sent.
    pub rejected: Vec<Rejected>,
    /// A position that covers every signal accepted or found to be a duplicate: once a reader has reached
    /// it, it has seen them all.
    pub position: Position,
    /// One for each signal, in the order sent.
    pub outcomes: Vec<Outcome>,
}

/// Why nothing of a call counts as accepted.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// The log did not answer for the records. The same signals may be sent again: those which did reach
    /// the log will be answered as duplicates.
    #[error("nothing of this call counts as accepted: {0}")]
    Log(#[from] LogError),
    /// The task that appends was stopped, as when the program ends.
    #[error("the append was stopped before the log answered; send the signals again")]
    Stopped,
}
