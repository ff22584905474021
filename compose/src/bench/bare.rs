//! The references: bare axum handlers, served the same way as ours.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, header},
    routing::post,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    error::{Error, Result},
    serve,
};

/// How long connections may take to close.
const PATIENCE: Duration = Duration::from_secs(2);

/// A server that runs until it is stopped or dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<Result<()>>,
    stop: DropGuard,
}

/// Serves `app` on a free port of this machine.
pub async fn start(app: Router) -> Result<Server> {
    let failed = |e: std::io::Error| Error::Unavailable(format!("no port for the bench: {e}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve::serve(listener, app, stop.clone(), PATIENCE));
    Ok(Server { address, task, stop: stop.drop_guard() })
}

impl Server {
    /// Stops it and waits until it is gone, and its routes with it.
    pub async fn stop(self) -> Result<()> {
        drop(self.stop);
        self.task.await.map_err(|e| Error::Broken(format!("a server of the bench stopped: {e}")))?
    }
}

/// Reads the body and says 202.
pub fn reads_the_body() -> Router {
    Router::new().route("/v1/signals", post(async |_body: Bytes| StatusCode::ACCEPTED))
}

/// Reads the body and answers these bytes, whatever was asked.
pub fn answers(path: &str, bytes: Bytes) -> Router {
    let answer = async move |_body: Bytes| ([(header::CONTENT_TYPE, "application/json")], bytes.clone());
    Router::new().route(path, post(answer))
}
