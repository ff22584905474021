//! The HTTP side of ingestion, and the one shape of every error body.
//!
//! | module | what |
//! |---|---|
//! | [`problem`] | [`Problem`]: the error body of every route, here and elsewhere |
//! | [`signals`] | `POST /v1/signals` |
//! | [`body`] | the forms a body may have |
//! | [`openapi`] | what only the running catalogue knows of the API description |

pub mod body;
pub mod openapi;
pub mod problem;
pub mod signals;

#[cfg(test)]
mod tests;

pub use problem::{Problem, ProblemBody, ProblemDetail};
pub use signals::{HttpOptions, IngestState, Receipt, router};
