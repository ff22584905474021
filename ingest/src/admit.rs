//! The one door: every signal, whoever sends it, is checked and appended to the log here.
//!
//! | module | what |
//! |---|---|
//! | [`door`] | [`Door`]: check, then one append |
//! | `checks` | the envelope against bounds and catalogue |
//! | `append` | the append, and what it says of each signal |
//! | [`envelope`] | the CloudEvents 1.0 envelope, read without copying |
//! | [`outcome`] | what became of each signal |
//! | [`options`] | bounds and choices |
//! | [`time`] | RFC 3339 to milliseconds |

mod append;
mod checks;
pub mod door;
pub mod envelope;
pub mod options;
pub mod outcome;
pub mod time;

#[cfg(test)]
mod tests;

pub use append::{Checked, Pending};
pub use door::Door;
pub use envelope::{Envelope, Incoming};
pub use options::{DoorOptions, FutureTimes};
pub use outcome::{Admission, AdmitError, Outcome, Reason, Refusal, Rejected};
