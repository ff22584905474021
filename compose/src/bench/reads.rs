//! Twenty features of one person, in process and over HTTP, and of a hundred in one read.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    bare,
    figures::{Bound, Figure, median},
    load::{self, Load},
    subject::Subject,
};
use crate::error::{Error, Result};

const PATH: &str = "/v1/features/read";
const ARROW: &str = "application/vnd.apache.arrow.stream";
const VIEWS: [&str; 3] = ["task_load", "movement", "sleep_debt"];
const FEATURES: usize = 20;
const PEOPLE: usize = 100;
const CONNECTIONS: usize = 16;
const ROUNDS: u32 = 3;
const IN_PROCESS: u32 = 200_000;
pub(super) const SETTLE: Duration = Duration::from_secs(3);

/// Reads in process, then over HTTP beside a handler that answers the same bytes; then many people in one
/// read beside one person with as many values.
pub async fn measure(subject: &Subject, seconds: f64) -> Result<Vec<Figure>> {
    // The sweep renews rows whose values changed since the signals were made; it begins with the job.
    tokio::time::sleep(SETTLE).await;
    let names = features_with_values(subject)?;
    let in_process = in_process(subject, &names).await?;
    let asked = question(&names, &subject.people[..1]);
    let answer = subject.ask(PATH, asked.clone()).await?;
    let bare = bare::start(bare::answers(PATH, answer)).await?;
    let many = question(&names, &subject.people[..PEOPLE]);
    let many_bytes = subject.ask(PATH, many.clone()).await?.len();
    let one = one_of_as_many_bytes(subject, many_bytes).await?;
    let duration = Duration::from_secs_f64(seconds / f64::from(ROUNDS));
    let load = |address, accept, body: &Bytes| {
        let body = body.clone();
        load::run(Load {
            address,
            path: PATH,
            content_type: "application/json",
            accept,
            body: Arc::new(move |_| body.clone()),
            connections: CONNECTIONS,
            duration,
            most: 1_000_000,
            rate: None,
        })
    };
    let mut rates: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        rates[0].push(load(bare.address, None, &asked).await?.rate());
        rates[1].push(load(subject.address, None, &asked).await?.rate());
        rates[2].push(load(subject.address, None, &one).await?.rate());
        rates[3].push(load(subject.address, None, &many).await?.rate());
        rates[4].push(load(subject.address, Some(ARROW), &many).await?.rate());
    }
    let [reference, ours, one, many, arrow] = rates.map(median);
    let micros = |rate: f64| 1e6 / rate.max(1e-9);
    let what = format!("read {PEOPLE} people x {FEATURES} features, HTTP");
    Ok(vec![
        Figure::alone("read 20 features, in process", in_process, "µs").hold(Bound::AtMost(2.0)),
        Figure::alone("read 20 features, HTTP", ours, "reads/s")
            .beside("a bare handler with the same bytes", reference)
            .hold(Bound::AtLeast(0.8)),
        Figure::alone(what.clone(), micros(many), "µs")
            .beside("one person with as many bytes", micros(one))
            .hold(Bound::AtMost(2.0)),
        Figure::alone(format!("{what}, as Arrow"), micros(arrow), "µs"),
    ])
}

/// A question about one person whose answer has at least so many bytes: whole views, again and again.
async fn one_of_as_many_bytes(subject: &Subject, bytes: usize) -> Result<Bytes> {
    let question = |times: usize| {
        let views: Vec<&str> = VIEWS.iter().copied().cycle().take(VIEWS.len() * times).collect();
        serde_json::json!({"entities": [subject.people[0]], "views": views}).to_string().into()
    };
    let once = subject.ask(PATH, question(1)).await?.len();
    Ok(question(bytes.div_ceil(once)))
}

/// Twenty features from few views, as a model would ask for them.
pub(super) fn features_with_values(subject: &Subject) -> Result<Vec<String>> {
    let names: Vec<String> = subject
        .features
        .registry()
        .feature_names()
        .filter(|name| VIEWS.iter().any(|view| name.split('.').next() == Some(view)))
        .take(FEATURES)
        .collect();
    if names.len() < FEATURES {
        return Err(Error::Broken(format!("the bench needs {FEATURES} features, there are {}", names.len())));
    }
    Ok(names)
}

async fn in_process(subject: &Subject, names: &[String]) -> Result<f64> {
    let broken = |e: features::FeatureError| Error::Broken(format!("features: {e}"));
    let prepared = subject.features.registry().prepare(names).map_err(broken)?;
    let now = (subject.clock)();
    let began = Instant::now();
    for i in 0..IN_PROCESS {
        let person = &subject.people[i as usize % subject.people.len()];
        black_box(subject.features.read_one(black_box(&prepared), person, now).await.map_err(broken)?);
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(IN_PROCESS))
}

fn question(names: &[String], people: &[String]) -> Bytes {
    serde_json::json!({"entities": people, "features": names}).to_string().into()
}
