//! `kairos features test`: golden cases.

use std::{path::PathBuf, time::Instant};

use clap::Args;
use stream_jobs::{
    JobError,
    golden::{self, Surroundings},
};

use crate::{
    commands::instant,
    config::Settings,
    error::{Error, Result},
    parts,
};

/// Which cases, and whether to fill them in.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Folders of cases: views (*.sql), signals.ndjson, expected.ndjson; folders of folders too
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Fill in the values that expected.ndjson does not tell, for review
    #[arg(long)]
    complete: bool,
    /// With --complete: add a line for each entity at this instant, RFC 3339; may be given several times
    #[arg(long, value_name = "INSTANT", requires = "complete")]
    at: Vec<String>,
}

/// Runs every case and prints what came of it.
pub fn run(settings: &Settings, arguments: &TestArgs) -> Result<()> {
    let began = Instant::now();
    let at = arguments.at.iter().map(|text| instant("--at", text)).collect::<Result<Vec<_>>>()?;
    let around = Surroundings {
        signals: settings.signals.dirs.clone(),
        views: settings.views_dirs(),
        functions: parts::functions(settings)?,
    };
    let mut cases = golden::find(&arguments.dirs, &around).map_err(told)?;
    let mut failed = 0;
    for case in &mut cases {
        let new = if arguments.complete { golden::complete(case, &at).map_err(told)? } else { 0 };
        let report = golden::run(case).map_err(told)?;
        print!("{report}");
        if !report.passed() {
            failed += 1;
        }
        if new > 0 && report.passed() {
            case.write().map_err(told)?;
            println!("  {new} values filled in; look at them before you trust them");
        } else if new > 0 {
            println!("  nothing was filled in: mend the differences first");
        }
    }
    println!("{} cases, {failed} failed, {:.1} s", cases.len(), began.elapsed().as_secs_f64());
    if failed > 0 {
        return Err(Error::Broken(format!("{failed} of {} cases failed", cases.len())));
    }
    Ok(())
}

fn told(e: JobError) -> Error {
    match e {
        JobError::Case(message) => Error::Input(message),
        JobError::Features(e) => super::told(e),
        other => Error::Broken(other.to_string()),
    }
}
