//! `kairos run`: serves until asked to stop.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    config::Settings,
    error::{Error, Result},
    parts::{self, Core, Features},
    process::{self, Process, Tasks},
    roles::{self, Part, Role},
    serve, telemetry,
};

/// How long the parts may take to put everything on disk after the last request.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Runs these roles until SIGTERM or SIGINT.
pub async fn run(settings: &Settings, named: &[Role]) -> Result<()> {
    let roles = roles::chosen(named);
    let needed = roles::parts_of(&roles);
    roles::within_reach(settings, &roles)?;
    let gate = parts::gate(settings)?;
    let listener = serve::bind(settings, !gate.is_open()).await?;
    let metrics = telemetry::start()?;
    let core = Core::open(settings, clock::system())?;
    let tasks = Tasks {
        ingest: roles.contains(&Role::Ingest),
        stream: needed.contains(&Part::StreamJob),
        score: roles.contains(&Role::Score),
        follow: needed.contains(&Part::Scorer) && !roles.contains(&Role::Score),
        verify_per_minute: if needed.contains(&Part::Verify) { settings.verify.per_minute } else { 0 },
        retention: needed.contains(&Part::Retention),
        train: needed.contains(&Part::Training),
    };
    let seed = process_seed()?;
    let ingestion = roles.contains(&Role::Ingest).then(|| process::ingestion(settings, &core, &gate));
    let (process, app) = if needed.contains(&Part::Scorer) {
        let full = process::start_full(settings, core, &gate, tasks, metrics.clone(), seed)?;
        (full.process, roles.contains(&Role::Api).then_some(full.app))
    } else if needed.contains(&Part::StreamJob) {
        let features = Features::open(settings, &core)?;
        (Process::over(settings, core, tasks, features), None)
    } else {
        (Process::bare(core, tasks), None)
    };
    // Every process says how it is.
    let app =
        app.unwrap_or_else(|| api::part_router(process.service(settings, metrics.clone(), seed), ingestion));
    tokio::spawn(telemetry::upkeep(metrics));
    let stop = stop_signal(process.failed.clone())?;
    announce(&listener, gate.is_open());
    let drain = Duration::from_secs(settings.http.drain_seconds);
    let served = serve::serve(listener, app, stop.clone(), drain).await;
    tracing::info!("no more requests are taken; putting everything on disk");
    let stopped = stop_within(process, STOP_WITHIN).await;
    served.and(stopped)?;
    tracing::info!("stopped");
    Ok(())
}

/// Stops the parts, but not for ever: what is acknowledged is in the log, so nothing is lost by leaving.
pub async fn stop_within(process: Process, patience: Duration) -> Result<()> {
    tokio::time::timeout(patience, process.stop()).await.unwrap_or_else(|_| {
        Err(Error::Broken(format!(
            "the parts did not stop within {} s; the next start goes on from the last checkpoint",
            patience.as_secs()
        )))
    })
}

/// Tells where it listens, and to whom.
pub fn announce(listener: &tokio::net::TcpListener, open: bool) {
    let address = listener.local_addr().map(|a| a.to_string()).unwrap_or_default();
    if open {
        tracing::info!(
            "no API key is configured: only this machine is served, and every local caller may do everything"
        );
    }
    tracing::info!(address, "listening");
}

/// A token that is cancelled at the first SIGTERM or SIGINT, or when `failed` is; a second signal ends the
/// process at once.
pub fn stop_signal(failed: CancellationToken) -> Result<CancellationToken> {
    let broken = |e: std::io::Error| Error::Broken(format!("signals of the system cannot be watched: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = failed.cancelled() => {}
        }
        stopping.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("asked twice: leaving at once; the next start goes on from the last checkpoint");
        std::process::exit(130);
    });
    Ok(stop)
}

/// A seed nobody can guess, for draws and request ids.
pub fn process_seed() -> Result<u64> {
    use rand::TryRngCore;
    rand::rngs::OsRng
        .try_next_u64()
        .map_err(|e| Error::Unavailable(format!("the system gave no random bytes: {e}")))
}
