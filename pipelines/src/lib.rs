//! Batch jobs over history and the log.
//!
//! | module | what |
//! |---|---|
//! | [`join`] | `kairos features join`: feature values beside the rows of a file, each as of its instant |
//! | [`table`] | CSV, NDJSON and Parquet files, read and written by their extension |
//! | [`evaluate`] | `kairos evaluate`: what another policy would have earned, from logged decisions |
//! | [`verify`] | `kairos features verify`: served values beside the same SQL as a batch |

pub mod error;
pub mod evaluate;
pub mod join;
pub mod table;
pub mod verify;

pub use error::PipelineError;
