//! Where replayed lines go: through the door in this process, or to a running server.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use features::FeatureStore;
use ingest::{
    admit::{Door, Incoming, Rejected},
    log::Position,
};
use serde::Deserialize;

use super::source::Line;
use crate::{
    client::Client,
    clock,
    config::Settings,
    error::{Error, Result},
    parts::{Core, Features},
    process::{Process, Tasks},
};

/// Longest the stream job may take over what was sent.
const LONGEST_APPLY: Duration = Duration::from_secs(600);

/// Where lines go.
pub enum Target {
    /// Through the door of this process, with the stream job behind it.
    Here(Box<Here>),
    /// To a running server.
    Server(Box<Server>),
}

/// The data directory, held by this process.
pub struct Here {
    process: Process,
    door: Arc<Door>,
    features: FeatureStore,
    position: Position,
}

impl Target {
    /// Opens the data directory.
    pub fn data_directory(settings: &Settings) -> Result<Target> {
        let core = Core::open(settings, clock::system()).map_err(|e| match e {
            Error::Unavailable(why) => Error::Unavailable(format!(
                "{why}\nif a server runs there, replay to it with `--url http://{}`",
                settings.http.listen
            )),
            other => other,
        })?;
        let door = core.door.clone();
        let parts = Features::open(settings, &core)?;
        let features = parts.store.clone();
        let process = Process::over(settings, core, Tasks { stream: true, ..Tasks::default() }, parts);
        Ok(Target::Here(Box::new(Here { process, door, features, position: Position::default() })))
    }

    /// Sends a batch.
    pub async fn send(&mut self, lines: &[Line]) -> Result<Answer> {
        match self {
            Target::Here(here) => here.send(lines).await,
            Target::Server(server) => server.send(lines).await,
        }
    }

    /// Waits until everything sent is in the features.
    pub async fn wait_until_applied(&mut self) -> Result<()> {
        match self {
            Target::Here(here) => {
                let applied = here.features.wait_for(&here.position, LONGEST_APPLY).await;
                applied.map_err(|e| Error::Unavailable(e.to_string()))
            }
            Target::Server(server) => server.wait_until_applied().await,
        }
    }

    /// Puts everything on disk.
    pub async fn close(self) -> Result<()> {
        match self {
            Target::Here(here) => here.process.stop().await,
            Target::Server(_) => Ok(()),
        }
    }
}

impl Here {
    async fn send(&mut self, lines: &[Line]) -> Result<Answer> {
        if self.process.failed.is_cancelled() {
            return Err(Error::Broken("the stream job stopped; the log lines before say why".into()));
        }
        let items = lines.iter().map(|line| Incoming::Json(&line.text)).collect();
        let admission = self.door.admit(clock::now(), items).await.map_err(|e| {
            Error::Unavailable(format!(
                "{e}; start again with the same files: what is there counts as a duplicate"
            ))
        })?;
        for (partition, offset) in &admission.position.0 {
            let at = self.position.0.entry(*partition).or_insert(0);
            *at = (*at).max(*offset);
        }
        let refusal = |r: Rejected| Refusal { index: r.index, id: r.id, reason: r.message };
        Ok(Answer {
            accepted: admission.accepted as u64,
            duplicates: admission.duplicates as u64,
            rejected: admission.rejected.into_iter().map(refusal).collect(),
            position: None,
        })
    }
}

/// Tries against a server that asks to wait, before giving up.
const TRIES: u32 = 8;
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What became of a batch.
#[derive(Debug, Default, Deserialize)]
pub struct Answer {
    /// Signals now in the log.
    pub accepted: u64,
    /// Signals that were there before.
    pub duplicates: u64,
    /// Signals refused.
    pub rejected: Vec<Refusal>,
    /// Where the log stands behind them.
    #[serde(default)]
    pub position: Option<String>,
}

/// One refused signal.
#[derive(Debug, Deserialize)]
pub struct Refusal {
    /// Its place in the batch.
    pub index: usize,
    /// Its id, where it could be read.
    pub id: Option<String>,
    /// Why.
    pub reason: String,
}

/// A running server.
pub struct Server {
    client: Client,
    position: Option<String>,
}

impl Server {
    /// The server at `url`.
    pub fn new(url: &str) -> Result<Server> {
        Ok(Server { client: Client::new(url)?, position: None })
    }

    /// Posts the lines; waits and tries again where the server asks for that.
    pub async fn send(&mut self, lines: &[Line]) -> Result<Answer> {
        let body = as_ndjson(lines);
        let mut tries = 1;
        loop {
            let answer = self.client.post("/v1/signals", "application/x-ndjson", body.clone()).await?;
            let busy = matches!(answer.status.as_u16(), 429 | 503);
            if busy && tries < TRIES {
                let wait = answer.retry_after().unwrap_or(Duration::from_secs(1 << tries.min(4)));
                tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
                tries += 1;
                continue;
            }
            let answer: Answer = serde_json::from_slice(&answer.success()?)
                .map_err(|e| Error::Unavailable(format!("the server's answer is not that of Kairos: {e}")))?;
            if answer.position.is_some() {
                self.position.clone_from(&answer.position);
            }
            return Ok(answer);
        }
    }

    /// Waits until the last position is in the features.
    pub async fn wait_until_applied(&mut self) -> Result<()> {
        let Some(position) = self.position.take() else { return Ok(()) };
        let question = serde_json::json!({"entities": [], "features": [], "after": position}).to_string();
        let answer = self.client.post("/v1/features/read", "application/json", question.into()).await?;
        answer.success().map(|_| ())
    }
}

/// The lines as one body; their breaks are the only ones in it.
fn as_ndjson(lines: &[Line]) -> Bytes {
    let mut body = BytesMut::with_capacity(lines.iter().map(|l| l.text.len() + 1).sum());
    for line in lines {
        body.put_slice(&line.text);
        body.put_u8(b'\n');
    }
    body.freeze()
}
