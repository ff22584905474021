//! `kairos evaluate`.

use clap::Args;
use pipelines::evaluate::{Options, evaluate_log};
use rand::{SeedableRng, rngs::StdRng};

use super::log_to_read;
use crate::{
    config::Settings,
    error::{Error, Result},
};

/// How policies are judged.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Samples of the bootstrap
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=100_000))]
    pub resamples: u32,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Tells what other policies would have earned, from the log alone.
pub fn run(settings: &Settings, arguments: &EvaluateArgs) -> Result<()> {
    let log = log_to_read(settings)?;
    let learn = &settings.scorer.learn;
    let window = (learn.window_minutes * 60.0 + learn.grace_seconds) * 1_000.0;
    let options = Options { window: window as i64, resamples: arguments.resamples };
    let mut rng = StdRng::seed_from_u64(arguments.seed);
    let evaluation = evaluate_log(&log, &options, &mut rng)?;
    if arguments.json {
        let text = serde_json::to_string_pretty(&evaluation).map_err(|e| Error::Broken(e.to_string()))?;
        println!("{text}");
    } else {
        print!("{evaluation}");
    }
    Ok(())
}
