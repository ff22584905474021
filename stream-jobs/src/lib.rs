//! The streaming engine: reads the log, keeps every feature view's values fresh, writes history, and
//! checkpoints all of it together with the log position it reflects.
//!
//! A micro-batch goes this way: [`decode`] turns log records into one Arrow batch a signal type, a [`shard`]
//! (one a partition) adds the new events to the rows of the entities they concern, and [`job`] puts rows
//! online, signals and values into history, and moves the position on. [`checkpoint`] makes that durable.
//!
//! | module | what |
//! |---|---|
//! | [`job`] | the loop |
//! | [`decode`] | log records to Arrow |
//! | [`shard`] | the state of one partition: rows, due departures, watermark |
//! | [`seen`] | deduplication by (source, id) |
//! | [`entities`] | a map that never pauses to grow |
//! | [`checkpoint`] | durable state |
//! | [`spill`] | the memory budget |
//! | [`backfill`] | values of the past, for new views and after late signals |
//! | [`golden`] | cases of signals and expected values, run in every way |
//! | [`arroyo`] | the views on Arroyo: their SQL, deployed; tiles taken into history |
//! | [`sizes`] | how large entities are in a checkpoint |
//! | [`metrics`] | names of what is measured |

pub mod arroyo;
pub mod backfill;
pub mod checkpoint;
pub mod decode;
pub mod entities;
pub mod error;
pub mod golden;
pub mod job;
pub mod metrics;
pub mod seen;
pub mod shard;
pub mod sizes;
pub mod spill;

pub use error::JobError;
pub use job::{Job, JobOptions};
