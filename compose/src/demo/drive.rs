//! Lets the simulated people live: they post signals, look for tips and react, all through the program's own
//! HTTP routes, called in process.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, http::Request};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::StatusCode;
use ingest::{Clock, Millis};
use scorer::learn::RewardTable;
use serde::Deserialize;
use serde_json::json;
use tower::ServiceExt;

use super::{
    lab::Watcher,
    page::{AboutTip, Board},
    stats::{Arm, Shown},
    world::{MINUTE, Person},
};
use crate::error::{Error, Result};

/// Signals in one request.
const BATCH: usize = 1_000;
/// Requests under way at once.
const AT_ONCE: usize = 32;
/// How often people are looked after, in wall time.
const TICK: Duration = Duration::from_millis(50);
/// How often a person who is awake looks for a tip.
const LOOKS_EVERY: Millis = 50 * MINUTE;

/// Everything it takes to let people live.
pub struct Driver {
    routes: Router,
    people: Vec<Person>,
    clock: Clock,
    board: Arc<Board>,
    observed: Observed,
    replies: BinaryHeap<Reverse<Due>>,
}

/// What the laboratory is told.
pub struct Observed {
    /// Counts decisions.
    pub watcher: Watcher,
    /// Every tip, in the order of the catalogue.
    pub tips: Vec<AboutTip>,
    /// What reactions are worth.
    pub rewards: RewardTable,
}

/// A reaction to be posted at its time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Millis,
    impression: String,
    reaction: &'static str,
}

#[derive(Deserialize)]
struct Recommended {
    tip: Tip,
    impression: String,
    policy: String,
    propensity: f64,
}

#[derive(Deserialize)]
struct Tip {
    id: String,
    title: String,
}

impl Driver {
    /// People who are about to begin.
    pub fn new(
        routes: Router,
        people: Vec<Person>,
        clock: Clock,
        board: Arc<Board>,
        observed: Observed,
    ) -> Driver {
        Driver { routes, people, clock, board, observed, replies: BinaryHeap::new() }
    }

    /// Posts what happened before now, in order of time, as a new installation would import it.
    pub async fn catch_up(&mut self) -> Result<usize> {
        let posted = self.post_signals((self.clock)()).await?;
        tracing::info!(signals = posted, "the past of the simulated people was posted");
        Ok(posted)
    }

    /// Lets them live until the future is dropped.
    pub async fn live(mut self) -> Result<()> {
        let began = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            let now = (self.clock)();
            self.post_signals(now).await?;
            self.post_replies(now).await?;
            self.look_for_tips(now, began.elapsed().as_secs_f64()).await?;
            self.observed.watcher.catch_up()?;
        }
    }

    async fn post_signals(&mut self, now: Millis) -> Result<usize> {
        let mut due: Vec<(Millis, String)> = Vec::new();
        for person in &mut self.people {
            for signal in person.signals_until(now) {
                due.push((signal.time, signal.envelope(person)));
            }
        }
        due.sort_by_key(|(time, _)| *time);
        for batch in due.chunks(BATCH) {
            let body: String = batch.iter().flat_map(|(_, line)| [line.as_str(), "\n"]).collect();
            let (status, answer) =
                post(&self.routes, "/v1/signals", "application/x-ndjson", body.into()).await?;
            let refused = !answer.windows(13).any(|w| w == b"\"rejected\":[]");
            if status != StatusCode::ACCEPTED || refused {
                return Err(unexpected("signals", status, &answer));
            }
        }
        Ok(due.len())
    }

    async fn post_replies(&mut self, now: Millis) -> Result<()> {
        let mut due = Vec::new();
        while self.replies.peek().is_some_and(|Reverse(next)| next.at <= now) {
            due.extend(self.replies.pop().map(|Reverse(reply)| reply));
        }
        let router = &self.routes;
        let mut answers = stream::iter(due)
            .map(|reply| async move {
                let at = jiff::Timestamp::from_millisecond(reply.at).unwrap_or_default().to_string();
                let body = json!({"impression": reply.impression, "reaction": reply.reaction, "at": at});
                post(router, "/v1/feedback", "application/json", body.to_string().into()).await
            })
            .buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            let (status, body) = answer?;
            if !status.is_success() {
                return Err(unexpected("feedback", status, &body));
            }
        }
        Ok(())
    }

    async fn look_for_tips(&mut self, now: Millis, seconds: f64) -> Result<()> {
        for index in 0..self.people.len() {
            let person = &mut self.people[index];
            if !person.looks(now, LOOKS_EVERY) {
                continue;
            }
            let body = json!({"user": person.id, "channel": "web"}).to_string();
            let (status, answer) =
                post(&self.routes, "/v1/recommend", "application/json", body.into()).await?;
            match status {
                StatusCode::OK => self.react(index, &answer, now, seconds)?,
                StatusCode::NO_CONTENT => self.board.silent(seconds),
                _ => return Err(unexpected("recommend", status, &answer)),
            }
        }
        self.board.advance(seconds);
        Ok(())
    }

    fn react(&mut self, index: usize, answer: &[u8], now: Millis, seconds: f64) -> Result<()> {
        let shown: Recommended =
            serde_json::from_slice(answer).map_err(|_| unexpected("recommend", StatusCode::OK, answer))?;
        let arm = if shown.policy.starts_with("uniform") { Arm::Uniform } else { Arm::Bandit };
        let about = self.board.tips.get(&shown.tip.id).cloned().unwrap_or_default();
        let person = &mut self.people[index];
        let Observed { watcher, tips, rewards } = &mut self.observed;
        if watcher.counts(&person.id) {
            let worth = tips.iter().map(|t| person.worth(&t.category, t.effort, now, rewards));
            watcher.expect(shown.impression.clone(), worth.collect());
        }
        let (reply, after) = person.reply(&about.category, about.effort, now);
        if let Some(reaction) = reply.name() {
            self.replies.push(Reverse(Due { at: now + after, impression: shown.impression, reaction }));
        }
        let shown = Shown {
            at: now,
            user: person.id.clone(),
            title: shown.tip.title,
            category: about.category,
            arm,
            propensity: shown.propensity,
            reaction: reply.name(),
        };
        self.board.add(seconds, shown, reply.took_up());
        Ok(())
    }
}

async fn post(router: &Router, path: &str, content_type: &str, body: Bytes) -> Result<(StatusCode, Bytes)> {
    let request = Request::post(path)
        .header("content-type", content_type)
        .header("content-length", body.len())
        .body(Body::from(body))
        .map_err(|e| Error::Broken(format!("no request for {path}: {e}")))?;
    let Ok(answer) = router.clone().oneshot(request).await;
    let status = answer.status();
    let body = answer.into_body().collect().await;
    let body = body.map_err(|e| Error::Broken(format!("{path}: the answer broke off: {e}")))?;
    Ok((status, body.to_bytes()))
}

fn unexpected(what: &str, status: StatusCode, answer: &[u8]) -> Error {
    let said: String = String::from_utf8_lossy(answer).chars().take(400).collect();
    Error::Broken(format!("demo: {what} answered {status}: {said}"))
}
