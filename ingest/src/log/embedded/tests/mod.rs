//! Tests of the files themselves; what every log must do is in `tests/log_conformance.rs` of this crate.

mod basics;
pub mod faults;
