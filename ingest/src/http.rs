//! The HTTP side of ingestion, and the one shape of every error body.
//!
//! | module | what |
//! |---|---|
//! | [`problem`] | [`Problem`]: the error body of every route, here and elsewhere |

pub mod problem;

pub use problem::{Problem, ProblemBody};
