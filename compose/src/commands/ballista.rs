//! `kairos ballista scheduler|executor`, and the way to them for `kairos features … --engine`.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Subcommand;
use features::{Registry, View, offline::OfflineStore, past::Engine};
use ingest::catalogue::Catalogue;
use pipelines::ballista::{Cluster, Options, PORT, serve};

use super::features::{EngineArgs, told};
use crate::{
    config::Settings,
    error::{Error, Result},
    parts,
};

/// A cluster for `kairos features backfill|join|verify`. It trusts everybody who reaches its ports: keep them in a
/// network of your own
#[derive(Debug, Subcommand)]
pub enum BallistaCommand {
    /// Share jobs among executors; listens on --listen [default: 127.0.0.1:50050]
    Scheduler {
        /// Name under which executors and clients reach it [default: the host of --listen]
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// Seconds of silence after which an executor's work is given to others
        #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(3..))]
        patience: u32,
    },
    /// Do the work; gives its results on --listen and takes work on the next port [default: 127.0.0.1, free ports]
    Executor {
        /// The scheduler
        #[arg(long, value_name = "HOST:PORT")]
        scheduler: String,
        /// How many pieces of work at a time [default: the processors of this machine]
        #[arg(long, value_name = "N")]
        slots: Option<usize>,
        /// Where results lie until they are fetched [default: ballista under the data directory]
        #[arg(long, value_name = "DIR")]
        work: Option<PathBuf>,
        /// Name under which the scheduler and clients reach it [default: the host of --listen]
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// Memory for all work, in MiB; more goes to --work
        #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(64..))]
        memory: u32,
    },
}

/// Runs the command, until the process is told to stop.
pub async fn run(settings: &Settings, listen: Option<String>, command: BallistaCommand) -> Result<()> {
    let functions = parts::functions(settings)?;
    // Plans are taken apart by recursion, for which the threads of this process have little room.
    let runtime = serve::runtime().map_err(told)?;
    let address = |default: &str| resolve(listen.as_deref().unwrap_or(default));
    let work = match command {
        BallistaCommand::Scheduler { host, patience } => {
            let address = address(&format!("127.0.0.1:{PORT}"))?;
            let host = host.unwrap_or_else(|| address.ip().to_string());
            let options = serve::Scheduler { host, patience: Duration::from_secs(patience.into()) };
            runtime.spawn(async move {
                let listener = tokio::net::TcpListener::bind(address).await;
                let listener =
                    listener.map_err(|e| Error::Unavailable(format!("cannot listen on {address}: {e}")))?;
                let at = listener.local_addr().map_or(address, |at| at);
                eprintln!("the scheduler listens on {at}");
                tokio::select! {
                    ended = serve::scheduler(listener, options, &functions) => ended.map_err(told),
                    _ = tokio::signal::ctrl_c() => Ok(()),
                }
            })
        }
        BallistaCommand::Executor { scheduler, slots, work, host, memory } => {
            let (scheduler_host, scheduler_port) = host_and_port(&scheduler)?;
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            let options = serve::Executor {
                scheduler_host,
                scheduler_port,
                listen: address("127.0.0.1:0")?,
                host,
                slots: slots.unwrap_or(processors),
                work: work.unwrap_or_else(|| settings.data.dir.join("ballista")),
                memory: u64::from(memory) << 20,
            };
            eprintln!("an executor with {} slots for the scheduler at {scheduler}", options.slots);
            runtime.spawn(async move { serve::executor(options, &functions).await.map_err(told) })
        }
    };
    let ended = work.await.map_err(|e| Error::Broken(format!("it stopped: {e}")));
    runtime.shutdown_background();
    ended?
}

/// The cluster of a scheduler, once it is known that it answers and can make these views.
pub fn connect<'a>(
    settings: &Settings,
    arguments: &EngineArgs,
    scheduler: &str,
    history: Arc<dyn OfflineStore>,
    catalogue: Arc<Catalogue>,
    registry: &Registry,
    views: impl Iterator<Item = &'a Arc<View>>,
) -> Result<Arc<dyn Engine>> {
    let (host, port) = host_and_port(scheduler.trim_end_matches('/'))?;
    let shared = arguments.staging.clone().unwrap_or_else(|| settings.data.dir.join("staging"));
    let options = Options {
        copy: arguments.staging.is_some(),
        timeout: Duration::from_secs(arguments.timeout.into()),
        most_bytes: (arguments.answer as usize) << 20,
        jobs: arguments.jobs.into(),
        ..Options::new(&format!("{host}:{port}"), shared)
    };
    let cluster = Cluster::connect(options, history, catalogue, registry.tables(), registry.functions());
    let cluster = cluster.map_err(told)?;
    for view in views {
        cluster.check(view).map_err(told)?;
    }
    Ok(Arc::new(cluster))
}

fn host_and_port(text: &str) -> Result<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (text, Some(PORT)),
    };
    match port {
        Some(port) if !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(Error::Input(format!(
            "`{text}` names no scheduler; write host:port, such as 127.0.0.1:{PORT}"
        ))),
    }
}

fn resolve(listen: &str) -> Result<SocketAddr> {
    let wrong = |why: String| Error::Setting(format!("--listen: `{listen}`: {why}; write host:port"));
    let mut found = std::net::ToSocketAddrs::to_socket_addrs(listen).map_err(|e| wrong(e.to_string()))?;
    found.next().ok_or_else(|| wrong("no such host".into()))
}
