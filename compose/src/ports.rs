//! What the routes and the scorer ask for, answered by the real parts.
//!
//! | module | what |
//! |---|---|
//! | [`features`] | reads for the routes |
//! | [`scoring`] | features for the scorer, and its way into the log |
//! | [`tips`] | recommendations for the routes |
//! | [`people`] | export and erasure |
//! | [`policies`] | snapshots, promotion, return |
//! | [`health`] | readiness |

pub mod features;
pub mod health;
pub mod people;
pub mod policies;
pub mod scoring;
pub mod tips;
