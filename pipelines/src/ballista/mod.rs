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
//! | `stage` | rows as files that executors see |
//! | `told` | errors of the cluster, in words that help |

pub mod functions;
pub mod serve;
mod stage;
mod told;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arrow::{array::Array, compute::concat, record_batch::RecordBatch};
use ballista::prelude::{SessionConfigExt, SessionContextExt};
use datafusion::{
    dataframe::DataFrame,
    error::DataFusionError,
    execution::{SessionStateBuilder, context::SessionContext},
    prelude::SessionConfig,
};
use features::{
    FeatureError, Functions, View,
    offline::{OfflineStore, ScanFilter},
    past::{Asked, Engine, Known, Made},
    reference::{
        Reference,
        questions::Questions,
        spread::{CLOCKS, QUESTIONS, Scope, Spread, as_stored, raw},
    },
    view::ReferenceTable,
};
use futures::StreamExt;
use ingest::catalogue::Catalogue;

use functions::Codec;
use stage::Stage;

/// The port of a scheduler where none is said.
pub const PORT: u16 = 50_050;
/// Most rows of a job.
const MOST_ROWS: usize = 8_192;
/// How often a job is tried.
const TRIES: usize = 3;
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

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

    /// Makes ready what the view's query reads.
    fn stage(
        &self,
        spread: &Spread<'_>,
        questions: &Questions,
        filter: &ScanFilter,
        scope: &mut Scope,
    ) -> Result<Stage, FeatureError> {
        let mut stage = Stage::begin(&self.options.shared)?;
        let mut whole = |name: &str, rows: &RecordBatch| -> Result<(), FeatureError> {
            let file = stage.write(name, &rows.schema(), [Ok(rows.clone())])?;
            stage.add(name, rows.schema(), vec![file]);
            Ok(())
        };
        whole(QUESTIONS, &questions.rows)?;
        whole(CLOCKS, &questions.clocks)?;
        for (table, rows) in spread.given() {
            whole(&raw(table), rows)?;
        }
        for (table, schema) in spread.tables() {
            let (name, schema) = (raw(table), as_stored(schema));
            let lying = if self.options.copy { None } else { self.history.files(table)? };
            let files = match lying {
                Some(found) => {
                    scope.kept_after.extend(found.kept_after.map(|after| (table.to_owned(), after)));
                    let mut files = found.paths;
                    if files.is_empty() || !found.buffered.is_empty() {
                        files.push(stage.write(&name, &schema, found.buffered.into_iter().map(Ok))?);
                    }
                    files
                }
                None if self.options.copy => {
                    // What lies before every window can only be needed of tables that stand beside.
                    let main = spread.tables().next().is_some_and(|(own, _)| own == table);
                    let after = filter.after.filter(|_| main);
                    let rows = self.history.stream(table, &ScanFilter { after, ..filter.clone() })?;
                    vec![stage.write(&name, &schema, rows.map(|b| b.map_err(FeatureError::from)))?]
                }
                None => {
                    return Err(FeatureError::Request(
                        "this history is not made of files that executors could read; name with --staging a directory \
                         that every executor sees under the same path"
                            .to_owned(),
                    ));
                }
            };
            stage.add(&name, schema, files);
        }
        Ok(stage)
    }

    /// One job, again if its result was lost with an executor that had finished it. Work that an executor had begun
    /// is given to another by the scheduler.
    async fn in_the_end(&self, view: &View, asked: &Asked<'_>) -> Result<Made, FeatureError> {
        let mut tries = 1;
        loop {
            match self.job(view, asked).await {
                Err(FeatureError::Gone(why)) if tries == TRIES => return Err(FeatureError::Unavailable(why)),
                Err(FeatureError::Gone(why)) => {
                    tracing::warn!(view = %view.name, error = why, "the cluster is asked again");
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// One job.
    async fn job(&self, view: &View, asked: &Asked<'_>) -> Result<Made, FeatureError> {
        let reference = self.reference(view)?;
        let spread = reference.spread()?;
        let mut people: Vec<String> = asked.rows.iter().map(|(who, _)| (*who).to_owned()).collect();
        people.dedup();
        let instants = || asked.rows.iter().map(|(_, at)| *at);
        let filter = ScanFilter {
            subjects: Some(people),
            after: instants().min().map(|t| t.saturating_sub(view.longest())),
            until: instants().max(),
            max_position: asked.below.cloned(),
            ..ScanFilter::default()
        };
        let changes = match spread.clocks() {
            Some(table) => self.history.scan(table, &ScanFilter { after: None, ..filter.clone() })?,
            None => Vec::new(),
        };
        let questions = spread.questions(view, asked, &changes)?;
        let mut scope = Scope { known: asked.known, below: asked.below.cloned(), kept_after: Vec::new() };
        let mut late = vec![false; asked.rows.len()];
        let mut answers = Vec::new();
        if !asked.rows.is_empty() {
            // The files stay until both queries are done.
            let stage = self.stage(&spread, &questions, &filter, &mut scope)?;
            let ctx = self.session().await?;
            stage.register(&ctx)?;
            let query = spread.query(&ctx, &scope, &questions.bounds).await?;
            answers = self.answers(query).await?;
            if asked.known == Known::ByThen {
                let ctx = self.session().await?;
                stage.register(&ctx)?;
                let query = spread.late(&ctx, &scope, &questions.bounds).await?;
                for batch in self.answers(query).await? {
                    stage::numbers(&batch)?.into_iter().for_each(|row| late[row as usize] = true);
                }
                questions.late.iter().for_each(|row| late[*row as usize] = true);
            }
            drop(stage);
        }
        Ok(Made { columns: spread.columns(view, &questions, &answers)?, late })
    }

    /// Runs a query, within the limits.
    async fn answers(&self, query: DataFrame) -> Result<Vec<RecordBatch>, FeatureError> {
        let run = async {
            let mut stream = query.execute_stream().await?;
            let (mut answers, mut bytes) = (Vec::new(), 0);
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                bytes += batch.get_array_memory_size();
                if bytes > self.options.most_bytes {
                    return Err(DataFusionError::ResourcesExhausted(format!(
                        "the answer has more than {} bytes; ask for fewer features or use less --memory, so that rows go \
                         in smaller pieces",
                        self.options.most_bytes
                    )));
                }
                answers.push(batch);
            }
            Ok(answers)
        };
        match tokio::time::timeout(self.options.timeout, run).await {
            Ok(answers) => answers.map_err(|e| self.told(&e)),
            Err(_) => Err(FeatureError::Unavailable(format!(
                "the cluster at {} gave no answer within {} s; start more executors, ask for less, or allow it more time \
                 with --timeout",
                self.options.scheduler,
                self.options.timeout.as_secs()
            ))),
        }
    }

    fn told(&self, e: &DataFusionError) -> FeatureError {
        told::told(&self.options.scheduler, e)
    }
}

impl Engine for Cluster {
    fn values(&self, view: &View, asked: &Asked<'_>) -> Result<Made, FeatureError> {
        let jobs = self.options.jobs.max(1);
        // Rows come ordered by people, and so does history: each job reads its own stretch of it.
        let of_one = asked.rows.len().div_ceil(jobs).clamp(self.options.least_rows.max(1), MOST_ROWS);
        let jobs: Vec<Asked<'_>> = match asked.rows {
            [] => vec![*asked],
            rows => rows.chunks(of_one).map(|rows| Asked { rows, ..*asked }).collect(),
        };
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Made)>, FeatureError> {
            let mut done = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(asked) = jobs.get(i) else { return Ok(done) };
                let made = self.handle.block_on(self.in_the_end(view, asked));
                if made.is_err() {
                    next.store(jobs.len(), Ordering::Relaxed);
                }
                done.push((i, made?));
            }
        };
        // Threads of its own, because the caller may stand on a runtime, and plans are made by deep recursion.
        let mut made = std::thread::scope(|scope| {
            let start = |_| std::thread::Builder::new().stack_size(serve::STACK).spawn_scoped(scope, work);
            let threads: Result<Vec<_>, _> = (0..self.options.jobs.clamp(1, jobs.len())).map(start).collect();
            let threads =
                threads.map_err(|e| FeatureError::Unavailable(format!("no thread to wait on: {e}")))?;
            let ended =
                || FeatureError::Unavailable("a thread that waits for the cluster ended; see the log".into());
            let mut made = Vec::new();
            for thread in threads {
                made.extend(thread.join().map_err(|_| ended())??);
            }
            Ok::<_, FeatureError>(made)
        })?;
        made.sort_unstable_by_key(|(i, _)| *i);
        let columns = (0..view.slots()).map(|slot| {
            let parts: Vec<&dyn Array> = made.iter().map(|(_, m)| m.columns[slot].as_ref()).collect();
            concat(&parts)
                .map_err(|e| FeatureError::Damaged(format!("answers of the cluster do not fit: {e}")))
        });
        Ok(Made {
            columns: columns.collect::<Result<_, _>>()?,
            late: made.iter().flat_map(|(_, m)| m.late.iter().copied()).collect(),
        })
    }
}

/// Threads that may be let go of by somebody who stands on other threads of the kind.
struct Threads(Option<tokio::runtime::Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
    }
}
