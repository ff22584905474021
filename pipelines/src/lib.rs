//! Batch jobs over history and the log.
//!
//! | module | what |
//! |---|---|
//! | `ballista` | values made by a cluster, and its scheduler and executors; with the feature of that name |
//! | [`join`] | `kairos features join`: feature values beside the rows of a file, each as of its instant |
//! | [`table`] | CSV, NDJSON and Parquet files, read and written by their extension |
//! | [`evaluate`] | `kairos evaluate`: what another policy would have earned, from logged decisions |
//! | [`promote`] | `kairos policy promote`: whether the shadow has shown itself better |
//! | [`train`] | `kairos train`: training sets from logged decisions, policies taught from them |
//! | [`verify`] | `kairos features verify`: served values beside the same SQL as a batch |

#[cfg(feature = "ballista")]
pub mod ballista;
pub mod error;
pub mod evaluate;
pub mod join;
pub mod promote;
pub mod table;
#[cfg(test)]
mod testing;
pub mod train;
pub mod verify;

pub use error::PipelineError;
