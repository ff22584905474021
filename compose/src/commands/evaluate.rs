//! `kairos evaluate`.

mod html;

use std::path::{Path, PathBuf};

use clap::Args;
use pipelines::evaluate::{
    Options, Thresholds, evaluate_log,
    file::{FileEvaluation, Progress as Step, evaluate_file},
};
use rand::{SeedableRng, rngs::StdRng};
use scorer::policy::{PolicyConfig, PolicyName};
use serde::Serialize;

use self::html::Report;

use super::log_to_read;
use crate::{
    config::Settings,
    error::{Error, Result, on_file},
    progress::Progress,
};

/// How policies are judged.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Judge by this file instead of Kairos's own log: JSON lines, CSV (each also .gz) or Parquet with columns
    /// action, propensity, reward, position?, ctx.*, target.<action>, model.<action>?
    #[arg(long, value_name = "FILE")]
    pub logs: Option<PathBuf>,
    /// Judge this policy of ours, learned from the file by folds, instead of its columns target.<action>
    #[arg(long, value_name = "POLICY", requires = "logs")]
    pub policy: Option<PolicyName>,
    /// Write a report with charts, one page that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Largest weight of clipped IPS (inf: none)
    #[arg(long, default_value_t = Thresholds::default().clip, value_name = "WEIGHT", value_parser = threshold)]
    pub clip: f64,
    /// Largest weight with which switch-DR trusts a row more than the reward model (inf: any)
    #[arg(long, default_value_t = Thresholds::default().switch, value_name = "WEIGHT", value_parser = threshold)]
    pub switch: f64,
    /// Folds of the cross-fitting: no row is judged by a model that learned from it
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=50))]
    pub folds: u32,
    /// Samples of the bootstrap
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=100_000))]
    pub resamples: u32,
    /// Seed of the bootstrap and of the folds
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn threshold(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if v >= 0.0 => Ok(v),
        _ => Err("it must be a number, 0 or more, or inf".to_owned()),
    }
}

/// Tells what other policies would have earned, from logged decisions alone.
pub fn run(settings: &Settings, arguments: &EvaluateArgs) -> Result<()> {
    let learn = &settings.scorer.learn;
    let window = (learn.window_minutes * 60.0 + learn.grace_seconds) * 1_000.0;
    let options = Options {
        window: window as i64,
        resamples: arguments.resamples,
        folds: arguments.folds,
        thresholds: Thresholds { clip: arguments.clip, switch: arguments.switch },
    };
    let mut rng = StdRng::seed_from_u64(arguments.seed);
    match &arguments.logs {
        Some(file) => {
            let config = arguments.policy.map(|name| PolicyConfig { name, ..PolicyConfig::default() });
            let evaluation = judge_file(file, config.as_ref(), &options, &mut rng)?;
            tell(arguments, &evaluation, &Report::from(&evaluation))
        }
        None => {
            let log = log_to_read(settings)?;
            let evaluation = evaluate_log(&*log, &options, &mut rng)?;
            tell(arguments, &evaluation, &Report::from(&evaluation))
        }
    }
}

fn judge_file(
    file: &Path,
    policy: Option<&PolicyConfig>,
    options: &Options,
    rng: &mut StdRng,
) -> Result<FileEvaluation> {
    let size = std::fs::metadata(file).map(|m| m.len()).ok();
    let mut reading = Some(Progress::bytes("reading", size).of("rows"));
    let mut deciding = None;
    let evaluation = evaluate_file(file, policy, options, rng, &mut |step| match step {
        Step::Reading { bytes, rows, .. } => {
            if let Some(shown) = &mut reading {
                shown.at(bytes, rows);
            }
        }
        Step::Deciding { done, rows } => {
            if let Some(shown) = reading.take() {
                shown.done();
            }
            deciding.get_or_insert_with(|| Progress::items("deciding", rows).of("rows")).at(done, done);
        }
    });
    for shown in [reading, deciding].into_iter().flatten() {
        shown.done();
    }
    evaluation.map_err(|e| Error::Input(e.to_string()))
}

fn tell(
    arguments: &EvaluateArgs,
    evaluation: &(impl Serialize + std::fmt::Display),
    report: &Report<'_>,
) -> Result<()> {
    let broken = |e: serde_json::Error| Error::Broken(e.to_string());
    if let Some(file) = &arguments.html {
        let page = report.page().map_err(broken)?;
        std::fs::write(file, page).map_err(|e| on_file("write", file, &e))?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(evaluation).map_err(broken)?);
    } else {
        print!("{evaluation}");
    }
    Ok(())
}
