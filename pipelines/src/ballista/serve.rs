//! Scheduler and executor: Ballista's, with the functions of this program.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ballista_core::{
    ConfigProducer, config::TaskSchedulingPolicy, extension::SessionConfigExt,
    registry::BallistaFunctionRegistry,
};
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::{
    cluster::BallistaCluster,
    config::SchedulerConfig,
    scheduler_process::{create_scheduler, start_grpc_service_with_listener},
};
use datafusion::prelude::SessionConfig;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use features::{FeatureError, Functions};

use super::functions::{Codec, as_here, state};

/// Most bytes of one message between machines.
pub(super) const MESSAGE: usize = 64 << 20;
/// How often an executor says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Bytes of a thread's stack.
pub(super) const STACK: usize = 16 << 20;

/// How a scheduler behaves.
#[derive(Debug, Clone)]
pub struct Scheduler {
    /// The name under which executors reach it.
    pub host: String,
    /// How long an executor may be silent before its work is given to others; it speaks every two seconds.
    pub patience: Duration,
}

/// How an executor behaves.
#[derive(Debug, Clone)]
pub struct Executor {
    /// Host of the scheduler.
    pub scheduler_host: String,
    /// Its port.
    pub scheduler_port: u16,
    /// Where it gives its results to others, and on the next port takes work; port 0 takes two free ones.
    pub listen: SocketAddr,
    /// The name under which others reach it there; its address when unset.
    pub host: Option<String>,
    /// How many pieces of work it does at a time.
    pub slots: usize,
    /// Where results lie until they are fetched.
    pub work: PathBuf,
    /// Most bytes of memory for the work; more goes to `work`.
    pub memory: u64,
}

fn config_producer() -> ConfigProducer {
    Arc::new(|| {
        let mut config = SessionConfig::new_with_ballista();
        as_here(&mut config);
        config
    })
}

fn unavailable(what: &str, e: &dyn ToString) -> FeatureError {
    FeatureError::Unavailable(format!("{what}: {}", e.to_string()))
}

/// Runs a scheduler on a socket until it fails.
///
/// # Errors
/// When the socket cannot be served.
pub async fn scheduler(
    listener: tokio::net::TcpListener,
    options: Scheduler,
    functions: &Functions,
) -> Result<(), FeatureError> {
    let failed = |e: &dyn ToString| unavailable("the scheduler", e);
    let address = listener.local_addr().map_err(|e| failed(&e))?;
    let codec = Codec::of(functions)?;
    let patience = options.patience.as_secs().max(1);
    let functions = functions.clone();
    let session = move |config: SessionConfig| {
        state(config, &functions).map_err(|e| datafusion::error::DataFusionError::External(e.into()))
    };
    let config = SchedulerConfig {
        external_host: options.host,
        bind_host: address.ip().to_string(),
        bind_port: address.port(),
        scheduling_policy: TaskSchedulingPolicy::PushStaged,
        executor_timeout_seconds: patience,
        expire_dead_executor_interval_seconds: patience.div_ceil(4).max(1),
        no_executors_grace_period_seconds: patience,
        // A job that came before the first executor waits for it.
        job_resubmit_interval_ms: Some(500),
        finished_job_data_clean_up_interval_seconds: 60,
        finished_job_state_clean_up_interval_seconds: 600,
        grpc_server_max_decoding_message_size: MESSAGE as u32,
        grpc_server_max_encoding_message_size: MESSAGE as u32,
        grpc_client_max_message_size: MESSAGE as u32,
        override_config_producer: Some(config_producer()),
        override_session_builder: Some(Arc::new(session.clone())),
        override_logical_codec: Some(codec.logical()),
        override_physical_codec: Some(codec.physical()),
        ..SchedulerConfig::default()
    };
    let name = format!("{}:{}", config.external_host, config.bind_port);
    let cluster = BallistaCluster::new_memory(name, Arc::new(session), config_producer());
    let server = create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, Arc::new(config)).await;
    start_grpc_service_with_listener(listener, server.map_err(|e| failed(&e))?).await.map_err(|e| failed(&e))
}

/// Runs an executor until the process is told to stop, or it fails.
///
/// # Errors
/// When the scheduler cannot be reached within a minute, or the executor cannot work.
pub async fn executor(options: Executor, functions: &Functions) -> Result<(), FeatureError> {
    let failed = |e: &dyn ToString| unavailable("the executor", e);
    std::fs::create_dir_all(&options.work)
        .map_err(|e| failed(&format!("{}: {e}", options.work.display())))?;
    let work = std::path::absolute(&options.work).map_err(|e| failed(&e))?;
    let codec = Codec::of(functions)?;
    let known = state(SessionConfig::new_with_ballista(), functions)?;
    let [port, grpc_port] = match options.listen.port() {
        0 => free_ports(options.listen)?,
        port => [port, port.saturating_add(1)],
    };
    let config = ExecutorProcessConfig {
        bind_host: options.listen.ip().to_string(),
        external_host: Some(options.host.unwrap_or_else(|| options.listen.ip().to_string())),
        port,
        grpc_port,
        executor_heartbeat_interval_seconds: HEARTBEAT.as_secs(),
        scheduler_host: options.scheduler_host,
        scheduler_port: options.scheduler_port,
        scheduler_connect_timeout_seconds: 60,
        vcores: options.slots.max(1),
        task_scheduling_policy: TaskSchedulingPolicy::PushStaged,
        work_dir: Some(work.display().to_string()),
        job_data_ttl_seconds: 3_600,
        job_data_clean_up_interval_seconds: 600,
        grpc_max_decoding_message_size: MESSAGE as u32,
        grpc_max_encoding_message_size: MESSAGE as u32,
        memory_pool_size: Some(options.memory),
        override_function_registry: Some(Arc::new(BallistaFunctionRegistry::from(&known))),
        override_config_producer: Some(config_producer()),
        override_logical_codec: Some(codec.logical()),
        override_physical_codec: Some(codec.physical()),
        ..ExecutorProcessConfig::default()
    };
    start_executor_process(Arc::new(config)).await.map_err(|e| failed(&e))
}

fn free_ports(near: SocketAddr) -> Result<[u16; 2], FeatureError> {
    let taken = || {
        let both = [TcpListener::bind(near)?, TcpListener::bind(near)?];
        Ok::<_, std::io::Error>([both[0].local_addr()?.port(), both[1].local_addr()?.port()])
    };
    taken().map_err(|e| unavailable("no free ports for the executor", &e))
}

/// Threads with room for deep plans, which scheduler and executor take apart by recursion.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime, FeatureError> {
    let threads = tokio::runtime::Builder::new_multi_thread().thread_stack_size(STACK).enable_all().build();
    threads.map_err(|e| unavailable("no threads to run on", &e))
}
