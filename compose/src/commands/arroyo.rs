//! `kairos arroyo export|deploy|load|status|stop`.

#[cfg(feature = "arroyo")]
mod loading;
#[cfg(feature = "arroyo")]
mod running;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use ingest::Millis;
use stream_jobs::arroyo::{self, Pipeline, Places, Redis, Refusal};

use crate::{
    config::Settings,
    error::{Error, Result, on_file},
    parts,
};

/// Feature views on Arroyo.
#[derive(Debug, Subcommand)]
pub enum ArroyoCommand {
    /// The Arroyo SQL of the views, and the user functions they call
    Export {
        /// Write each view to DIR/VIEW.sql and each function to DIR/udfs/NAME.rs instead of standard output
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Views; all that Arroyo can hold when none is named
        #[arg(value_name = "VIEW")]
        names: Vec<String>,
    },
    /// Bring views to run in Arroyo; what runs already with the same text is left alone
    #[cfg(feature = "arroyo")]
    Deploy {
        /// Views; all that Arroyo can hold when none is named
        #[arg(value_name = "VIEW")]
        names: Vec<String>,
    },
    /// Take the tiles of the views into history, and make those of late signals again; runs until it is stopped
    #[cfg(feature = "arroyo")]
    Load,
    /// How the views fare in Arroyo
    #[cfg(feature = "arroyo")]
    Status {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Stop views with a checkpoint, from which a deploy goes on
    #[cfg(feature = "arroyo")]
    Stop {
        /// Views; all when none is named
        #[arg(value_name = "VIEW")]
        names: Vec<String>,
    },
}

/// Runs the command.
pub async fn run(settings: &Settings, command: &ArroyoCommand) -> Result<()> {
    match command {
        ArroyoCommand::Export { out, names } => export(settings, out.as_deref(), names),
        #[cfg(feature = "arroyo")]
        ArroyoCommand::Deploy { names } => running::deploy(settings, names).await,
        #[cfg(feature = "arroyo")]
        ArroyoCommand::Load => loading::run(settings).await,
        #[cfg(feature = "arroyo")]
        ArroyoCommand::Status { json } => running::status(settings, *json),
        #[cfg(feature = "arroyo")]
        ArroyoCommand::Stop { names } => running::stop(settings, names),
    }
}

/// Whether the Arroyo of the settings answers; `None` when there is none in them.
pub fn check(settings: &Settings) -> Option<Result<String>> {
    settings.arroyo.url.as_ref()?;
    #[cfg(feature = "arroyo")]
    return Some(running::check(settings));
    #[cfg(not(feature = "arroyo"))]
    Some(Err(Error::Setting(
        "arroyo.url: this build does not speak with Arroyo; take the setting out".into(),
    )))
}

fn export(settings: &Settings, out: Option<&Path>, names: &[String]) -> Result<()> {
    let chosen = pipelines(settings, names)?;
    for pipeline in &chosen.pipelines {
        match out {
            None => println!("{}", pipeline.sql),
            Some(dir) => {
                write(&dir.join(format!("{}.sql", pipeline.view)), &pipeline.sql)?;
                for (name, text) in &pipeline.functions {
                    write(&dir.join("udfs").join(format!("{name}.rs")), text)?;
                }
            }
        }
    }
    if let Some(dir) = out {
        println!("{} views written to {}", chosen.pipelines.len(), dir.display());
    }
    chosen.tell_refusals(names)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| std::fs::write(path, text)).map_err(|e| on_file("write", path, &e))
}

/// Views for Arroyo.
struct Chosen {
    pipelines: Vec<Pipeline>,
    refusals: Vec<Refusal>,
}

impl Chosen {
    /// Tells what was left out; an error where it was asked for by name.
    fn tell_refusals(&self, names: &[String]) -> Result<()> {
        self.refusals.iter().for_each(|r| eprintln!("left out: {r}"));
        match self.refusals.len() {
            n if n > 0 && !names.is_empty() => {
                Err(Error::Refused(format!("{n} of the views named cannot be held by Arroyo")))
            }
            _ => Ok(()),
        }
    }
}

/// The views of these names, or all.
fn pipelines(settings: &Settings, names: &[String]) -> Result<Chosen> {
    let catalogue = parts::catalogue(settings)?;
    let registry = parts::registry(settings, &catalogue)?;
    let places = places(settings);
    let mut views = Vec::new();
    for name in names {
        views.push(registry.resolve(name).map_err(|e| Error::Setting(e.to_string()))?);
    }
    if names.is_empty() {
        views.extend(registry.current());
    }
    let mut chosen = Chosen { pipelines: Vec::new(), refusals: Vec::new() };
    for view in views {
        match arroyo::pipeline(view, &catalogue, registry.functions(), &places) {
            Ok(pipeline) => chosen.pipelines.push(pipeline),
            Err(refusal) => chosen.refusals.push(refusal),
        }
    }
    Ok(chosen)
}

fn places(settings: &Settings) -> Places {
    let arroyo = &settings.arroyo;
    let redis = match &arroyo.redis_profile {
        Some(name) => Redis::Profile(name.clone()),
        None => Redis::Address(arroyo.redis.clone()),
    };
    Places {
        topic_prefix: topic_prefix(settings).to_owned(),
        fluvio: arroyo.fluvio.clone(),
        redis,
        key_prefix: settings.online.prefix.clone(),
        wait_ms: arroyo.wait_seconds as Millis * 1_000,
    }
}

fn topic_prefix(settings: &Settings) -> &str {
    &settings.log.topic_prefix
}
