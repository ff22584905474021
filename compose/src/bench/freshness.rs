//! From durable accept to readable value.

use std::time::{Duration, Instant};

use ::ingest::admit::Incoming;
use features::Value;

use super::{
    figures::{Bound, Figure, Latencies},
    subject::{Subject, signal},
};
use crate::error::{Error, Result};

const FEATURE: &str = "task_activity.completed_24h";
/// Most signals measured.
const MOST: u64 = 20_000;
/// Between two signals: freshness is asked of a server that is not overloaded.
const PAUSE: Duration = Duration::from_millis(1);

/// Admits a signal, and waits until the count it raises can be read; again and again.
pub async fn measure(subject: &Subject, seconds: f64) -> Result<Vec<Figure>> {
    let broken = |e: &dyn std::fmt::Display| Error::Broken(format!("freshness: {e}"));
    let prepared = subject.features.registry().prepare(&[FEATURE]).map_err(|e| broken(&e))?;
    let mut latencies = Latencies::default();
    let began = Instant::now();
    for number in 1..=MOST {
        if began.elapsed().as_secs_f64() >= seconds {
            break;
        }
        let line = signal(1 << 60 | number, "freshness");
        let admission = subject
            .door
            .admit((subject.clock)(), vec![Incoming::Json(&line)])
            .await
            .map_err(|e| broken(&e))?;
        let accepted = Instant::now();
        let patience = Duration::from_secs(10);
        subject.features.wait_for(&admission.position, patience).await.map_err(|e| broken(&e))?;
        let read = subject.features.read_one(&prepared, "freshness", (subject.clock)());
        let row = read.await.map_err(|e| broken(&e))?;
        latencies.add(accepted.elapsed());
        if row.values[0] != Value::Int(number as i64) {
            return Err(broken(&format!(
                "{number} signals were applied, the count reads {:?}",
                row.values[0]
            )));
        }
        tokio::time::sleep(PAUSE).await;
    }
    let ms = |latency: Option<Duration>| latency.unwrap_or_default().as_secs_f64() * 1e3;
    Ok(vec![
        Figure::alone("freshness, accept to readable, p50", ms(latencies.quantile(0.5)), "ms"),
        Figure::alone("freshness, accept to readable, p99", ms(latencies.quantile(0.99)), "ms")
            .hold(Bound::AtMost(20.0)),
    ])
}
