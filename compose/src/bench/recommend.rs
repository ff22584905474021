//! Tips over HTTP, beside a handler that answers the same bytes; then the latency at half load.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng};
use scorer::{Answer, decide::Request};

use super::{
    bare,
    figures::{Bound, Figure, median},
    load::{self, Load},
    subject::Subject,
};
use crate::error::{Error, Result};

const PATH: &str = "/v1/recommend";
const CONNECTIONS: usize = 8;
const ROUNDS: u32 = 3;
/// The people asked for are those with at least so many tips to choose from.
const CANDIDATES: usize = 50;

/// The most it can do, by turns with the reference; then the latency at half of that.
pub async fn measure(subject: &Subject, seconds: f64) -> Result<Vec<Figure>> {
    let (people, candidates) = people_with_choice(subject).await?;
    let bare = bare::start(bare::answers(PATH, subject.ask(PATH, question(&people[0])).await?)).await?;
    let ask = Load {
        address: subject.address,
        path: PATH,
        content_type: "application/json",
        accept: None,
        body: Arc::new(move |n| question(&people[n as usize % people.len()])),
        connections: CONNECTIONS,
        duration: Duration::from_secs_f64(seconds / f64::from(ROUNDS)),
        most: 1_000_000,
        rate: None,
    };
    let (mut reference, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        reference.push(load::run(Load { address: bare.address, ..ask.clone() }).await?.rate());
        ours.push(load::run(ask.clone()).await?.rate());
        subject.settle().await?;
    }
    let full = median(ours);
    let half = Load { rate: Some(full / 2.0), duration: Duration::from_secs_f64(seconds), ..ask };
    let mut half = load::run(half).await?;
    let ms = |latency: Option<Duration>| latency.unwrap_or_default().as_secs_f64() * 1e3;
    Ok(vec![
        Figure::alone("recommend, candidates of a decision", candidates, "tips"),
        Figure::alone("recommend, full load", full, "tips/s")
            .beside("a bare handler with the same bytes", median(reference))
            .hold(Bound::AtLeast(0.4)),
        Figure::alone("recommend, half load, p50", ms(half.latencies.quantile(0.5)), "ms"),
        Figure::alone("recommend, half load, p99", ms(half.latencies.quantile(0.99)), "ms")
            .hold(Bound::AtMost(3.0)),
    ])
}

/// Those with [`CANDIDATES`] or more to choose from, and how many they have on average.
async fn people_with_choice(subject: &Subject) -> Result<(Arc<[String]>, f64)> {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut people, mut sum) = (Vec::new(), 0);
    for person in &subject.people {
        let answer = subject
            .scorer
            .recommend(person, (subject.clock)(), &mut rng, &Request::default())
            .await
            .map_err(|e| Error::Broken(format!("recommend: {e}")))?;
        if let Answer::Tip(decision) = answer
            && decision.candidates.len() >= CANDIDATES
        {
            sum += decision.candidates.len();
            people.push(person.clone());
        }
    }
    if people.is_empty() {
        return Err(Error::Broken(format!("nobody has {CANDIDATES} tips to choose from")));
    }
    let mean = sum as f64 / people.len() as f64;
    Ok((people.into(), mean))
}

fn question(user: &str) -> Bytes {
    serde_json::json!({"user": user, "channel": "web"}).to_string().into()
}
