//! Tips over HTTP.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    figures::{Bound, Figure},
    load::{self, Load},
    subject::Subject,
};
use crate::error::Result;

const CONNECTIONS: usize = 8;

/// The most it can do, then the latency at half of that.
pub async fn measure(subject: &Subject, seconds: f64) -> Result<Vec<Figure>> {
    let people: Arc<[String]> = subject.people.clone().into();
    let ask = Load {
        address: subject.address,
        path: "/v1/recommend",
        content_type: "application/json",
        accept: None,
        body: Arc::new(move |n| question(&people[n as usize % people.len()])),
        connections: CONNECTIONS,
        duration: Duration::from_secs_f64(seconds / 2.0),
        most: 1_000_000,
        rate: None,
    };
    let full = load::run(ask.clone()).await?;
    let half = Load { rate: Some(full.rate() / 2.0), duration: Duration::from_secs_f64(seconds), ..ask };
    let mut half = load::run(half).await?;
    let ms = |latency: Option<Duration>| latency.unwrap_or_default().as_secs_f64() * 1e3;
    Ok(vec![
        Figure::alone("recommend, full load", full.rate(), "tips/s"),
        Figure::alone("recommend, half load, p50", ms(half.latencies.quantile(0.5)), "ms"),
        Figure::alone("recommend, half load, p99", ms(half.latencies.quantile(0.99)), "ms")
            .hold(Bound::AtMost(3.0)),
    ])
}

fn question(user: &str) -> Bytes {
    serde_json::json!({"user": user, "channel": "web"}).to_string().into()
}
