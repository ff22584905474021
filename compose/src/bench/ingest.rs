//! Signals in over HTTP.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    bare,
    figures::{Bound, Figure, median},
    load::{self, Load},
    subject::{Subject, signal},
};
use crate::error::Result;

/// Callers at once; group commit lets them share one write to disk.
const CONNECTIONS: usize = 64;
const BATCH: u64 = 500;
/// Runs of each side, taken in turns so that both see the same machine.
const ROUNDS: u32 = 3;

/// One signal a request beside a bare handler; durable batches.
pub async fn measure(subject: &Subject, seconds: f64) -> Result<Vec<Figure>> {
    let bare = bare::start(bare::reads_the_body()).await?;
    let duration = Duration::from_secs_f64(seconds / f64::from(ROUNDS));
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let one = |address| Load {
            address,
            path: "/v1/signals",
            content_type: "application/json",
            accept: None,
            body: Arc::new(move |n| signal(u64::from(round) << 40 | n, &format!("person-{}", n % 1_000))),
            connections: CONNECTIONS,
            duration,
            most: 1_000_000,
            rate: None,
        };
        reference.push(load::run(one(bare.address)).await?.rate());
        ours.push(load::run(one(subject.address)).await?.rate());
    }
    let batches = load::run(Load {
        address: subject.address,
        path: "/v1/signals",
        content_type: "application/x-ndjson",
        accept: None,
        body: Arc::new(batch),
        connections: 4,
        duration: Duration::from_secs_f64(seconds),
        most: 10_000,
        rate: None,
    })
    .await?;
    Ok(vec![
        Figure::alone("ingest, one signal a request", median(ours), "signals/s")
            .beside("a bare handler", median(reference))
            .hold(Bound::AtLeast(0.6)),
        Figure::alone("ingest, batches of 500, durable", batches.rate() * BATCH as f64, "signals/s"),
    ])
}

fn batch(number: u64) -> Bytes {
    let mut body = Vec::with_capacity(200 * BATCH as usize);
    for i in 0..BATCH {
        let n = (1 << 50) | (number * BATCH + i);
        body.extend_from_slice(&signal(n, &format!("person-{}", n % 1_000)));
        body.push(b'\n');
    }
    body.into()
}
