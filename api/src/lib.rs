//! The HTTP surface of Kairos and its tip page.
//!
//! [`router`] takes what it talks to as an [`AppState`]: small traits, a clock, a handle to the metrics. It
//! reads no clock, draws no randomness and opens nothing by itself, so a test runs the same router as the
//! binary does.
//!
//! | module | what |
//! |---|---|
//! | [`state`] | what the router is handed |
//! | [`ports`] | the traits behind the routes, and their implementations for the real parts |
//! | [`routes`] | one module for each group of routes, and the table that joins them |
//! | [`error`] | every error to its status, in one place |
//! | [`body`] | JSON bodies: limits on size and time, errors that name the field |
//! | [`rows`] | feature values as JSON and as Arrow, by `Accept` |
//! | [`observe`] | around every request: id, time limit, metrics, security headers |
//! | [`assets`] | the files of the pages, kept in the binary |

pub mod assets;
pub mod body;
pub mod error;
pub mod observe;
pub mod ports;
pub mod routes;
pub mod rows;
pub mod state;

pub use error::ApiError;
pub use routes::{part_router, router};
pub use state::{AppState, Limits, Service};
