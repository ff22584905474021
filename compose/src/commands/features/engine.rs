//! `--engine`: where values are made.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use features::{Registry, offline::OfflineStore, past::Engine};
use ingest::catalogue::Catalogue;

use crate::{
    config::Settings,
    error::{Error, Result},
};

/// Where values are made, and the limits of that.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// Let a cluster make the values, ballista://HOST:PORT of its scheduler; here when unset
    #[arg(id = "engine", long = "engine", value_name = "URL")]
    pub url: Option<String>,
    /// Copy the rows a job needs into this directory, which every executor sees under the same path; when unset,
    /// executors read the files of history where they lie
    #[arg(long, value_name = "DIR", requires = "engine")]
    pub staging: Option<PathBuf>,
    /// How many jobs the cluster gets at a time; twice the slots of all executors is a good number
    #[arg(long, value_name = "N", default_value_t = 16, requires = "engine", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    /// Seconds that one job may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "engine", value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
    /// Most MiB that the answer to one job may have
    #[arg(long, value_name = "MIB", default_value_t = 1024, requires = "engine", value_parser = clap::value_parser!(u32).range(1..))]
    pub answer: u32,
}

impl EngineArgs {
    /// The engine that is asked for; `None` for the one of this process. `views` are those it must be able to make.
    pub fn open<'a>(
        &self,
        settings: &Settings,
        history: Arc<dyn OfflineStore>,
        catalogue: Arc<Catalogue>,
        registry: &Registry,
        views: impl Iterator<Item = &'a Arc<features::View>>,
    ) -> Result<Option<Arc<dyn Engine>>> {
        let Some(url) = &self.url else { return Ok(None) };
        match url.split_once("://") {
            #[cfg(feature = "ballista")]
            Some(("ballista", scheduler)) => {
                let open = super::super::ballista::connect;
                open(settings, self, scheduler, history, catalogue, registry, views).map(Some)
            }
            _ => {
                let _ = (settings, history, catalogue, registry, views.count());
                Err(Error::Input(format!(
                    "--engine: `{url}` is no engine of this build; write ballista://host:port (a build with the feature \
                     `ballista` has it), or leave it away to compute here"
                )))
            }
        }
    }
}
