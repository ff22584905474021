//! From durable accept to readable value.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::ingest::admit::{Door, Incoming};
use features::Value;
use tokio_util::sync::CancellationToken;

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

/// How often the load comes, and people it is about.
const BEAT: Duration = Duration::from_millis(20);
const PEOPLE: u64 = 2_000;

/// Admits a signal, and waits until the count it raises can be read; again and again, while `load` other signals a
/// second come in beside it. What is between the log and a reader over servers gets 100 ms instead of 20.
pub async fn measure(subject: &Subject, seconds: f64, load: u32, over_servers: bool) -> Result<Vec<Figure>> {
    let stop = CancellationToken::new();
    let beside = tokio::spawn(beside(subject.door.clone(), subject.clock.clone(), load, stop.clone()));
    let mut figures = probe(subject, seconds, if over_servers { 100.0 } else { 20.0 }).await;
    stop.cancel();
    let admitted = beside.await.map_err(|e| Error::Broken(format!("the load stopped: {e}")))??;
    if let (Ok(figures), true) = (&mut figures, load > 0) {
        figures.push(Figure::alone("freshness, signals admitted beside it", admitted, "signals/s"));
    }
    figures
}

/// Admits `load` signals a second until told to stop; answers how many a second it were.
async fn beside(door: Arc<Door>, clock: ::ingest::Clock, load: u32, stop: CancellationToken) -> Result<f64> {
    let (began, mut number) = (Instant::now(), 0u64);
    let mut beats = tokio::time::interval(BEAT);
    while stop.run_until_cancelled(beats.tick()).await.is_some() {
        let due = (began.elapsed().as_secs_f64() * f64::from(load)) as u64;
        let lines: Vec<_> = (number..due)
            .map(|n| signal(1 << 61 | n, &format!("beside-{}", n.wrapping_mul(0x9e37_79b9) % PEOPLE)))
            .collect();
        number = due;
        let items = lines.iter().map(|line| Incoming::Json(line)).collect();
        door.admit(clock(), items).await.map_err(|e| Error::Unavailable(e.to_string()))?;
    }
    Ok(number as f64 / began.elapsed().as_secs_f64())
}

async fn probe(subject: &Subject, seconds: f64, at_most: f64) -> Result<Vec<Figure>> {
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
            .hold(Bound::AtMost(at_most)),
    ])
}
