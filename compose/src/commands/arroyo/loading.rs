//! `kairos arroyo load`.

use std::{sync::Arc, time::Duration};

use features::online::redis::RedisTiles;
use ingest::{Millis, log::Topic};
use stream_jobs::arroyo::load::{Loader, Parts};

use super::running::{keep, told};
use crate::{
    clock,
    commands::log_to_read,
    config::Settings,
    error::{Error, Result},
    parts,
};

/// Pause while there is nothing to take.
const IDLE: Duration = Duration::from_millis(200);
/// Pause after a failure.
const AWAY: Duration = Duration::from_secs(2);

pub(super) async fn run(settings: &Settings) -> Result<()> {
    if !settings.log.url.starts_with("fluvio:") || !settings.online.url.starts_with("redis") {
        return Err(Error::Setting(
            "log.url and online.url: Arroyo works between Fluvio and Redis; write `fluvio://host:port` and \
             `redis://host:port`"
                .into(),
        ));
    }
    let log = log_to_read(settings)?;
    let catalogue = Arc::new(parts::catalogue(settings)?);
    let registry = parts::registry(settings, &catalogue)?;
    let options = settings.online.options(registry.views().len(), log.partitions(Topic::Signals));
    let tiles =
        RedisTiles::open(&settings.online.url, &options).map_err(|e| Error::Setting(e.to_string()))?;
    let parts = Parts {
        log,
        catalogue,
        functions: registry.functions().clone(),
        history: parts::history(settings, clock::system())?,
        tiles: Arc::new(tiles),
        clock: clock::system(),
    };
    let wait = settings.arroyo.wait_seconds as Millis * 1_000;
    let views: Vec<_> = registry.current().cloned().collect();
    let fluvio = settings.log.fluvio();
    let mut loader =
        Loader::open(parts, &settings.log.url, &fluvio, &views, wait, keep(settings)).await.map_err(told)?;
    tracing::info!("taking tiles into history");
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    loop {
        // History may block; nothing else runs in this process.
        let step = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(loader.step()));
        let pause = match step {
            Ok(done) if done.idle() => IDLE,
            Ok(done) => {
                tracing::info!(
                    tiles = done.tiles,
                    left_out = done.left_out,
                    signals = done.signals,
                    mended = done.mended,
                    due = loader.due(),
                    "took tiles"
                );
                Duration::ZERO
            }
            Err(e) => {
                tracing::warn!(error = %e, "trying again");
                AWAY
            }
        };
        tokio::select! {
            _ = &mut stop => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}
