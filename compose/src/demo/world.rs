//! The simulated people: how they live, what they report, and what they like. Pure functions of a seed.
//!
//! The rest of the program sees them only through signals and reactions. What they like (`taste`) reaches
//! the policy in no other way.

mod day;
mod person;
mod taste;

use ingest::Millis;
use serde_json::{Value, json};

pub use person::{Person, people};
pub use taste::Reply;

/// One minute in milliseconds.
pub const MINUTE: Millis = 60_000;
/// One hour in milliseconds.
pub const HOUR: Millis = 60 * MINUTE;
/// One day in milliseconds.
pub const DAY: Millis = 24 * HOUR;

/// A signal as a person's devices and apps would post it.
#[derive(Debug, Clone, PartialEq)]
pub struct Posted {
    /// When it happened.
    pub time: Millis,
    /// Its type.
    pub kind: &'static str,
    /// The app that reports it.
    pub source: &'static str,
    /// What it says.
    pub data: Value,
}

impl Posted {
    /// The signal as CloudEvents JSON, with an id no other signal of this person has.
    pub fn envelope(&self, person: &mut Person) -> String {
        let number = person.next_number();
        json!({
            "id": format!("{}-{number}", person.id),
            "source": format!("demo/{}", self.source),
            "type": self.kind,
            "subject": person.id,
            "time": jiff::Timestamp::from_millisecond(self.time).unwrap_or_default().to_string(),
            "data": self.data,
        })
        .to_string()
    }
}

/// How a person fares at one instant; what they like depends on it. Each part from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Sleep missed over the last days; 1 is very much.
    pub tired: f64,
    /// Work that has piled up.
    pub loaded: f64,
    /// Stress.
    pub tense: f64,
    /// How little they have moved today.
    pub still: f64,
    /// How full of meetings the day is.
    pub booked: f64,
    /// How low the mood is.
    pub low: f64,
    /// Hour of the day, 0 to 24.
    pub hour: f64,
}
