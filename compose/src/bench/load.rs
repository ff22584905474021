//! A load generator over loopback: keep-alive connections with one request under way each, on a thread
//! of their own. Bounded in time and in count.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::figures::Latencies;
use crate::error::{Error, Result};

/// Makes the body of the n-th request.
pub type MakeBody = Arc<dyn Fn(u64) -> Bytes + Send + Sync>;

/// What to send, to whom, and for how long.
#[derive(Clone)]
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// Where there.
    pub path: &'static str,
    /// What the body is.
    pub content_type: &'static str,
    /// What the answer shall be; anything when unset.
    pub accept: Option<&'static str>,
    /// Bodies by number.
    pub body: MakeBody,
    /// Connections, each with one request under way.
    pub connections: usize,
    /// When to stop.
    pub duration: Duration,
    /// Stop earlier after this many requests.
    pub most: u64,
    /// Requests a second over all connections; as fast as answers come when unset. With a rate a latency
    /// counts from the instant the request was due, so that a stall shows in every request it held up.
    pub rate: Option<f64>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Requests answered with success.
    pub answered: u64,
    /// Requests refused or broken.
    pub failed: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Of the answered ones.
    pub latencies: Latencies,
}

impl Outcome {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Runs the load on a thread of its own, so that it shares no executor with the server.
pub async fn run(load: Load) -> Result<Outcome> {
    let (done, finished) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("load".into())
        .spawn(move || {
            let outcome = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| Error::Broken(format!("no runtime for the load: {e}")))
                .and_then(|runtime| runtime.block_on(all_connections(load)));
            // Whoever no longer waits has given up on the figure.
            let _ = done.send(outcome);
        })
        .map_err(|e| Error::Broken(format!("no thread for the load: {e}")))?;
    finished.await.map_err(|_| Error::Broken("the load generator stopped".into()))?
}

async fn all_connections(load: Load) -> Result<Outcome> {
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let connections: Vec<_> = (0..load.connections.max(1))
        .map(|_| tokio::spawn(one_connection(load.clone(), next.clone(), began)))
        .collect();
    let mut all = Outcome::default();
    for connection in connections {
        let part = connection.await.map_err(|e| Error::Broken(format!("a connection stopped: {e}")))??;
        all.answered += part.answered;
        all.failed += part.failed;
        all.latencies.merge(part.latencies);
    }
    all.elapsed = began.elapsed();
    Ok(all)
}

async fn one_connection(load: Load, next: Arc<AtomicU64>, began: Instant) -> Result<Outcome> {
    let broken = |e: String| Error::Unavailable(format!("the connection to {} broke: {e}", load.address));
    let stream = TcpStream::connect(load.address).await.map_err(|e| broken(e.to_string()))?;
    stream.set_nodelay(true).map_err(|e| broken(e.to_string()))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(e.to_string()))?;
    tokio::spawn(connection);
    let host = load.address.to_string();
    let mut outcome = Outcome::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= load.most || began.elapsed() >= load.duration {
            return Ok(outcome);
        }
        let due = match load.rate {
            Some(rate) => {
                let due = began + Duration::from_secs_f64(number as f64 / rate);
                tokio::time::sleep_until(due.into()).await;
                due
            }
            None => Instant::now(),
        };
        let mut request = Request::post(load.path)
            .header(header::HOST, &host)
            .header(header::CONTENT_TYPE, load.content_type);
        if let Some(accept) = load.accept {
            request = request.header(header::ACCEPT, accept);
        }
        let request = request.body(Full::new((load.body)(number))).map_err(|e| broken(e.to_string()))?;
        let answer = sender.send_request(request).await.map_err(|e| broken(e.to_string()))?;
        let status = answer.status();
        answer.into_body().collect().await.map_err(|e| broken(e.to_string()))?;
        if status.is_success() {
            outcome.answered += 1;
            outcome.latencies.add(due.elapsed());
        } else {
            outcome.failed += 1;
        }
    }
}
