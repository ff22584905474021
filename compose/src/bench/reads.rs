//! Twenty features of one person, in process and over HTTP.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use super::{
    bare,
    figures::{Bound, Figure, median},
    load::{self, Load},
    subject::Subject,
};
use crate::error::{Error, Result};

const FEATURES: usize = 20;
const CONNECTIONS: usize = 16;
const ROUNDS: u32 = 3;
const IN_PROCESS: u32 = 200_000;

/// Reads in process, then over HTTP beside a handler that answers the same bytes.
pub async fn measure(subject: &Subject, seconds: f64) -> Result<Vec<Figure>> {
    let names = features_with_values(subject)?;
    let in_process = in_process(subject, &names)?;
    let question = question(&names, &subject.people[0]);
    let answer = ask(subject, question.clone()).await?;
    let bare = bare::start(bare::answers("/v1/features/read", answer)).await?;
    let duration = Duration::from_secs_f64(seconds / f64::from(ROUNDS));
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let question = question.clone();
        let read = Load {
            address: bare.address,
            path: "/v1/features/read",
            content_type: "application/json",
            body: Arc::new(move |_| question.clone()),
            connections: CONNECTIONS,
            duration,
            most: 1_000_000,
            rate: None,
        };
        reference.push(load::run(read.clone()).await?.rate());
        ours.push(load::run(Load { address: subject.address, ..read }).await?.rate());
    }
    Ok(vec![
        Figure::alone("read 20 features, in process", in_process, "µs").hold(Bound::AtMost(2.0)),
        Figure::alone("read 20 features, HTTP", median(ours), "reads/s")
            .beside("a bare handler with the same bytes", median(reference))
            .hold(Bound::AtLeast(0.8)),
    ])
}

/// Twenty features from few views, as a model would ask for them.
fn features_with_values(subject: &Subject) -> Result<Vec<String>> {
    let names: Vec<String> = subject
        .features
        .registry()
        .feature_names()
        .filter(|name| ["task_load.", "movement.", "sleep_debt."].iter().any(|view| name.starts_with(view)))
        .take(FEATURES)
        .collect();
    if names.len() < FEATURES {
        return Err(Error::Broken(format!("the bench needs {FEATURES} features, there are {}", names.len())));
    }
    Ok(names)
}

fn in_process(subject: &Subject, names: &[String]) -> Result<f64> {
    let broken = |e: features::FeatureError| Error::Broken(format!("features: {e}"));
    let prepared = subject.features.registry().prepare(names).map_err(broken)?;
    let now = (subject.clock)();
    let began = Instant::now();
    for i in 0..IN_PROCESS {
        let person = &subject.people[i as usize % subject.people.len()];
        black_box(subject.features.read_one(black_box(&prepared), person, now).map_err(broken)?);
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(IN_PROCESS))
}

fn question(names: &[String], person: &str) -> Bytes {
    serde_json::json!({"entities": [person], "features": names}).to_string().into()
}

async fn ask(subject: &Subject, question: Bytes) -> Result<Bytes> {
    let broken = |e: &dyn std::fmt::Display| Error::Broken(format!("features: {e}"));
    let request = Request::post(format!("http://{}/v1/features/read", subject.address))
        .header("content-type", "application/json")
        .body(Full::new(question))
        .map_err(|e| broken(&e))?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request).await.map_err(|e| broken(&e))?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|e| broken(&e))?.to_bytes();
    if !status.is_success() {
        return Err(broken(&format!("the read answered {status}: {}", String::from_utf8_lossy(&body))));
    }
    Ok(body)
}
