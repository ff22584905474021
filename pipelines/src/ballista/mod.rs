//! Values of many rows made by a Ballista cluster in place of this process: `--engine ballista://host:port`.
//!
//! A view's SELECT goes to the cluster as one query over all rows asked for ([`features::reference::spread`]). Rows
//! of history reach the executors as Parquet: the files of history where every machine sees their directory, else
//! copies in a directory that is named for that. Scheduler and executors are this program too ([`serve`]), because
//! they must know our aggregates and the functions of users ([`functions`]).
//!
//! | module | what |
//! |---|---|
//! | [`functions`] | functions in plans: which, and of which version |
//! | [`serve`] | scheduler and executor |
//! | `engine` | rows cut into jobs, and their answers put together |
//! | `job` | one job |
//! | `stage` | rows as files that executors see |
//! | `told` | errors of the cluster, in words that help |

mod engine;
pub mod functions;
mod job;
pub mod serve;
mod stage;
mod told;

use std::{path::PathBuf, sync::Arc, time::Duration};

use ballista::prelude::{SessionConfigExt, SessionContextExt};
use datafusion::{
    error::DataFusionError,
    execution::{SessionStateBuilder, context::SessionContext},
    prelude::SessionConfig,
};
use features::{
    FeatureError, Functions, View, offline::OfflineStore, reference::Reference, view::ReferenceTable,
};
use ingest::catalogue::Catalogue;

use functions::Codec;

/// The port of a scheduler where none is said.
pub const PORT: u16 = 50_050;

/// Where a cluster is and how it is used.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port` of its scheduler.
    pub scheduler: String,
    /// A directory under the same path on every machine, for the questions of a run.
    pub shared: PathBuf,
    /// Whether rows of history are copied there too, because executors do not see the directory of history.
    pub copy: bool,
    /// How long one query may take.
    pub timeout: Duration,
    /// Most bytes that a query may bring back.
    pub most_bytes: usize,
    /// How many jobs are under way at a time; twice the slots of all executors is a good number.
    pub jobs: usize,
    /// Least rows of a job.
    pub least_rows: usize,
}

impl Options {
    /// The defaults: ten minutes, 1 GiB, 16 jobs of 256 rows or more, the files of history as they lie.
    pub fn new(scheduler: &str, shared: PathBuf) -> Options {
        let timeout = Duration::from_secs(600);
        Options {
            scheduler: scheduler.to_owned(),
            shared,
            copy: false,
            timeout,
            most_bytes: 1 << 30,
            jobs: 16,
            least_rows: 256,
        }
    }
}

/// A cluster that makes values.
pub struct Cluster {
    options: Options,
    history: Arc<dyn OfflineStore>,
    catalogue: Arc<Catalogue>,
    given: Vec<ReferenceTable>,
    functions: Functions,
    codec: Arc<Codec>,
    /// Its own, because values are made in the middle of work that waits on another.
    handle: tokio::runtime::Handle,
    _threads: Threads,
}

impl Cluster {
    /// Reaches for the scheduler, so that a cluster that is away is known before any work.
    ///
    /// # Errors
    /// `Unavailable` when nothing answers there.
    pub fn connect(
        options: Options,
        history: Arc<dyn OfflineStore>,
        catalogue: Arc<Catalogue>,
        given: &[ReferenceTable],
        functions: &Functions,
    ) -> Result<Cluster, FeatureError> {
        let threads = serve::runtime()?;
        let (handle, threads) = (threads.handle().clone(), Threads(Some(threads)));
        let address = options.scheduler.clone();
        let reach = handle.spawn(async move {
            tokio::time::timeout(Duration::from_secs(10), tokio::net::TcpStream::connect(&address)).await
        });
        let reached = futures::executor::block_on(reach);
        let why = match reached {
            Ok(Ok(Ok(_))) => None,
            Ok(Ok(Err(e))) => Some(e.to_string()),
            _ => Some("no answer within 10 s".to_owned()),
        };
        if let Some(why) = why {
            return Err(FeatureError::Unavailable(format!(
                "no Ballista scheduler at {} ({why}); start one with `kairos ballista scheduler --listen {0}`, or leave \
                 --engine away to compute here",
                options.scheduler
            )));
        }
        Ok(Cluster {
            codec: Arc::new(Codec::of(functions)?),
            given: given.to_vec(),
            functions: functions.clone(),
            options,
            history,
            catalogue,
            handle,
            _threads: threads,
        })
    }

    /// Refuses a view that the cluster cannot compute, with the reason.
    ///
    /// # Errors
    /// `Request` names the view.
    pub fn check(&self, view: &View) -> Result<(), FeatureError> {
        self.reference(view)?.spread().map(drop)
    }

    fn reference(&self, view: &View) -> Result<Reference, FeatureError> {
        Reference::calling(&self.catalogue, &self.given, &self.functions, &view.definition)
    }

    async fn session(&self) -> Result<SessionContext, FeatureError> {
        let mut config = SessionConfig::new_with_ballista()
            // A job is one piece of work: what can be done side by side is in other jobs.
            .with_target_partitions(1)
            .with_ballista_broadcast_join_threshold_bytes(0)
            .with_ballista_broadcast_join_threshold_rows(0)
            .with_ballista_logical_extension_codec(self.codec.logical())
            .with_ballista_physical_extension_codec(self.codec.physical())
            .with_ballista_adaptive_query_planner(false)
            .with_ballista_grpc_client_max_message_size(serve::MESSAGE);
        functions::as_here(&mut config);
        let state = SessionStateBuilder::new().with_config(config).with_default_features().build();
        let url = format!("df://{}", self.options.scheduler);
        let ctx = SessionContext::remote_with_state(&url, state).await.map_err(|e| self.told(&e))?;
        features::reference::make_known(&ctx, &self.functions)?;
        Ok(ctx)
    }

    fn told(&self, e: &DataFusionError) -> FeatureError {
        told::told(&self.options.scheduler, e)
    }
}

/// Threads that may be let go of by somebody who stands on other threads of the kind.
struct Threads(Option<tokio::runtime::Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
    }
}
