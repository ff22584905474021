//! The one door: every signal, whoever sends it, is checked and appended to the log here.
//!
//! | module | what |
//! |---|---|
//! | [`door`] | [`Door`]: check, then one append |
//! | [`envelope`] | the CloudEvents 1.0 envelope, read without copying |
//! | [`outcome`] | what became of each signal |
//! | [`options`] | bounds and choices |
//! | [`time`] | RFC 3339 to milliseconds |

pub mod door;
pub mod envelope;
pub mod options;
pub mod outcome;
pub mod time;

#[cfg(test)]
mod tests;

pub use door::{Checked, Door, Pending};
pub use envelope::{Envelope, Incoming};
pub use options::{DoorOptions, FutureTimes};
pub use outcome::{Admission, AdmitError, Outcome, Reason, Refusal, Rejected};
