//! Metrics of the process: one recorder, every crate's names described.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::error::{Error, Result};

/// Upper edges for times that nobody gave edges of their own, in seconds.
const SECONDS: [f64; 14] =
    [0.000_005, 0.000_02, 0.000_1, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0];
/// Upper edges for counts.
const COUNTS: [f64; 9] = [1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 500.0, 1_000.0, 10_000.0];
/// How often the recorder tidies up.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the recorder; once a process.
pub fn start() -> Result<PrometheusHandle> {
    let failed =
        |e: metrics_exporter_prometheus::BuildError| Error::Broken(format!("metrics cannot start: {e}"));
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
        .and_then(|b| {
            let http = Matcher::Full(api::observe::SECONDS.into());
            b.set_buckets_for_metric(http, api::observe::SECONDS_BUCKETS)
        })
        .and_then(|b| b.set_buckets_for_metric(Matcher::Full(scorer::telemetry::CANDIDATES.into()), &COUNTS))
        .and_then(|b| {
            b.set_buckets_for_metric(Matcher::Full(ingest::telemetry::BATCH_SIGNALS.into()), &COUNTS)
        })
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(failed)?;
    ingest::telemetry::describe();
    features::offline::metrics::describe();
    features::online::metrics::describe();
    features::quality::metrics::describe();
    features::udf::metrics::describe();
    pipelines::verify::watch::describe();
    stream_jobs::metrics::describe();
    scorer::telemetry::describe();
    api::observe::describe_metrics();
    Ok(handle)
}

/// Tidies up for as long as the process lives.
pub async fn upkeep(handle: PrometheusHandle) {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tick.tick().await;
        handle.run_upkeep();
    }
}
