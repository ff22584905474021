//! stream-jobs
