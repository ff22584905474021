//! Rows cut into jobs, and their answers put together.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::{array::Array, compute::concat};
use features::{
    FeatureError, View,
    past::{Asked, Engine, Made},
};

use super::{Cluster, serve};

/// Most rows of a job.
const MOST_ROWS: usize = 8_192;

impl Engine for Cluster {
    fn values(&self, view: &View, asked: &Asked<'_>) -> Result<Made, FeatureError> {
        let jobs = self.options.jobs.max(1);
        // Rows come ordered by people, and so does history: each job reads its own stretch of it.
        let of_one = asked.rows.len().div_ceil(jobs).max(self.options.least_rows).clamp(1, MOST_ROWS);
        let jobs: Vec<Asked<'_>> = match asked.rows {
            [] => vec![*asked],
            rows => rows.chunks(of_one).map(|rows| Asked { rows, ..*asked }).collect(),
        };
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Made)>, FeatureError> {
            let mut done = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(asked) = jobs.get(i) else { return Ok(done) };
                let made = self.handle.block_on(self.in_the_end(view, asked));
                if made.is_err() {
                    next.store(jobs.len(), Ordering::Relaxed);
                }
                done.push((i, made?));
            }
        };
        // Threads of its own, because the caller may stand on a runtime, and plans are made by deep recursion.
        let mut made = std::thread::scope(|scope| {
            let start = |_| std::thread::Builder::new().stack_size(serve::STACK).spawn_scoped(scope, work);
            let threads: Result<Vec<_>, _> = (0..self.options.jobs.clamp(1, jobs.len())).map(start).collect();
            let threads =
                threads.map_err(|e| FeatureError::Unavailable(format!("no thread to wait on: {e}")))?;
            let ended =
                || FeatureError::Unavailable("a thread that waits for the cluster ended; see the log".into());
            let mut made = Vec::new();
            for thread in threads {
                made.extend(thread.join().map_err(|_| ended())??);
            }
            Ok::<_, FeatureError>(made)
        })?;
        made.sort_unstable_by_key(|(i, _)| *i);
        let columns = (0..view.slots()).map(|slot| {
            let parts: Vec<&dyn Array> = made.iter().map(|(_, m)| m.columns[slot].as_ref()).collect();
            concat(&parts)
                .map_err(|e| FeatureError::Damaged(format!("answers of the cluster do not fit: {e}")))
        });
        Ok(Made {
            columns: columns.collect::<Result<_, _>>()?,
            late: made.iter().flat_map(|(_, m)| m.late.iter().copied()).collect(),
        })
    }
}
