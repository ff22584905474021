//! Any logged data: a file of JSON lines, CSV or Parquet, one decision a row.
//!
//! | column | what |
//! |---|---|
//! | `action` | the action taken; a text or a number |
//! | `propensity` | the probability with which it was taken, above 0 and at most 1 |
//! | `reward` | what came of it; a number or a flag |
//! | `position` | optional: the place in a slate. The target's probabilities of a row are those for its place |
//! | `ctx.NAME` | optional: the context; numbers, flags, texts, or nothing |
//! | `target.ACTION` | the target's probability of each action; nothing is 0 |
//! | `model.ACTION` | optional: the reward to be expected of each action, in place of our own models |
//!
//! In JSON lines and Parquet `ctx`, `target` and `model` may be objects (or lists, whose places are the names).
//! With a slate every row is judged by itself, within its position, and the estimates are means over all rows:
//! so does Open Bandit Pipeline (Saito and others, 2021), to whose figures ours are equal.

mod cells;
mod contexts;
mod json;
mod judge;
mod open;
mod policy;
mod rows;

use std::path::Path;

use rand::RngCore;
use scorer::policy::PolicyConfig;
use serde::Serialize;

pub use self::rows::{Reason, Unusable};
use super::{Judgement, Options};
use crate::PipelineError;

/// How far the work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The file is being read.
    Reading {
        /// Bytes read.
        bytes: u64,
        /// Bytes of the file.
        total: u64,
        /// Rows read.
        rows: u64,
    },
    /// A policy of ours learns and decides, fold by fold.
    Deciding {
        /// Rows decided.
        done: u64,
        /// Rows to decide.
        rows: u64,
    },
}

/// What came out of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileEvaluation {
    /// The file.
    pub file: String,
    /// Rows read, with those that could not be used.
    pub rows_read: u64,
    /// Rows that could not be used.
    pub left_out: u64,
    /// Why not.
    pub unusable: Vec<Unusable>,
    /// Actions in the log or with a probability of the target.
    pub actions: u64,
    /// Columns of the context.
    pub context: u64,
    /// Where expected rewards come from: `file` or `fitted`.
    pub model: &'static str,
    /// How the evaluation was made.
    pub options: Options,
    /// All rows together.
    #[serde(flatten)]
    pub judgement: Judgement,
    /// The rows of each position alone, where there are several.
    pub positions: Vec<PositionJudgement>,
}

/// The rows of one position.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PositionJudgement {
    /// As the file names it; empty for rows without.
    pub position: String,
    /// What they say.
    #[serde(flatten)]
    pub judgement: Judgement,
}

/// Judges the target of a file: its columns `target.*`, or a policy of ours, which learns from the file itself,
/// cross-fitted, so that it is never judged on rows it learned from.
///
/// # Errors
/// A file that cannot be read as a whole, with row and column; columns that are missing; no row that can be
/// used. Single rows that cannot be used are left out and told in the answer.
pub fn evaluate_file(
    file: &Path,
    policy: Option<&PolicyConfig>,
    options: &Options,
    rng: &mut dyn RngCore,
    progress: &mut dyn FnMut(Progress),
) -> Result<FileEvaluation, PipelineError> {
    let mut rows = rows::Rows::default();
    rows.without_target = policy.is_some();
    let mut heard = |bytes, total, rows| progress(Progress::Reading { bytes, total, rows });
    open::read(file, &mut rows, &mut heard)?;
    let mut heard = |done, rows| progress(Progress::Deciding { done, rows });
    judge::judge(file, rows, policy, options, rng, &mut heard)
        .map_err(|what| PipelineError::input(file, what))
}
