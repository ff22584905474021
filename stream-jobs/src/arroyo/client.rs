//! Arroyo's REST interface, as far as deploying needs it.

use std::{path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};
use ureq::{
    Agent,
    http::{Method, Request},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::Pipeline;
use crate::error::JobError;

/// The largest answer taken, in bytes. A pipeline's holds its SQL and its graph.
const MAX_ANSWER_BYTES: u64 = 16 << 20;
/// Pipelines, errors or checkpoints asked for at once.
const PAGE: usize = 100;
/// Most pages read.
const MAX_PAGES: usize = 100;

/// How to reach Arroyo.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Its address, such as `http://127.0.0.1:5115`.
    pub url: String,
    /// Key for `api.auth-mode.type = "static-api-key"`.
    pub key: Option<String>,
    /// Certificates (PEM) that sign Arroyo's own, for https.
    pub ca: Option<Vec<u8>>,
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest wait for an answer.
    pub answer: Duration,
    /// Longest wait for the answer to a new pipeline, whose user functions Arroyo builds first.
    pub build: Duration,
}

impl Reach {
    /// An address without key and certificates, with usual limits.
    pub fn of(url: &str) -> Reach {
        Reach {
            url: url.trim_end_matches('/').to_owned(),
            key: None,
            ca: None,
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(30),
            build: Duration::from_secs(900),
        }
    }

    /// Reads the key and the certificates.
    ///
    /// # Errors
    /// A file that cannot be read, or a key file that is empty.
    pub fn with_files(mut self, key: Option<&Path>, ca: Option<&Path>) -> Result<Reach, JobError> {
        let read = |what: &str, path: &Path| {
            std::fs::read(path)
                .map_err(|e| JobError::Arroyo(format!("{what} `{}` cannot be read: {e}", path.display())))
        };
        if let Some(path) = key {
            let text = String::from_utf8_lossy(&read("the key of Arroyo", path)?).trim().to_owned();
            if text.is_empty() || text.contains(|c: char| !c.is_ascii_graphic()) {
                let what =
                    format!("the key of Arroyo in `{}` is not one line of plain characters", path.display());
                return Err(JobError::Arroyo(what));
            }
            self.key = Some(text);
        }
        self.ca = ca.map(|path| read("the certificates", path)).transpose()?;
        Ok(self)
    }
}

/// A pipeline in Arroyo.
#[derive(Debug, Clone, Deserialize)]
pub struct Deployed {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its statements.
    pub query: String,
    /// `none` for one that is to run, else how it was stopped.
    pub stop: String,
    /// Made at, in microseconds since the epoch.
    pub created_at: u64,
    #[serde(default)]
    graph: Graph,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Graph {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Deserialize)]
struct Node {
    parallelism: u64,
}

impl Deployed {
    /// Subtasks of its widest operator.
    pub fn parallelism(&self) -> Option<u64> {
        self.graph.nodes.iter().map(|n| n.parallelism).max()
    }
}

/// A run of a pipeline.
#[derive(Debug, Clone, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// `Running`, `Stopped`, `Failed`, ….
    pub state: String,
    /// Why it failed.
    #[serde(default)]
    pub failure_reason: Option<Failure>,
}

/// Why a job failed.
#[derive(Debug, Clone, Deserialize)]
pub struct Failure {
    /// What Arroyo says.
    pub error: String,
}

impl Job {
    /// Whether it does nothing any more.
    pub fn ended(&self) -> bool {
        matches!(self.state.as_str(), "Stopped" | "Finished" | "Failed")
    }
}

/// A message of a job.
#[derive(Debug, Clone, Deserialize)]
pub struct Message {
    /// When, in microseconds since the epoch.
    pub created_at: u64,
    /// What.
    pub message: String,
}

/// A checkpoint of a job.
#[derive(Debug, Clone, Deserialize)]
pub struct Checkpoint {
    /// Counts up.
    pub epoch: u64,
    /// Finished at, in microseconds since the epoch; unset while it is made.
    pub finish_time: Option<u64>,
}

#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct Validation {
    errors: Vec<Diagnostic>,
}

/// What Arroyo has against a text; older ones say only the message.
#[derive(Deserialize)]
#[serde(untagged)]
enum Diagnostic {
    Text(String),
    Placed { message: String, span: Option<Json> },
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    reach: Reach,
}

impl Client {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// An address that is none; certificates that cannot be read.
    pub fn new(reach: Reach) -> Result<Client, JobError> {
        let web = reach.url.starts_with("http://") || reach.url.starts_with("https://");
        if !web || reach.url.contains('@') {
            return Err(JobError::Arroyo(
                "the address of Arroyo is not of the form `http://host:5115`; a key belongs into a file of its own"
                    .to_owned(),
            ));
        }
        // An error says that it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut tls = TlsConfig::builder();
        if let Some(pem) = &reach.ca {
            let certificate = |item| match item {
                Ok(PemItem::Certificate(c)) => Some(c),
                _ => None,
            };
            let known: Vec<Certificate<'static>> = parse_pem(pem).filter_map(certificate).collect();
            if known.is_empty() {
                return Err(JobError::Arroyo(
                    "the file of certificates for Arroyo has none in PEM".to_owned(),
                ));
            }
            tls = tls.root_certs(RootCerts::Specific(Arc::new(known)));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(reach.connect))
            .timeout_global(Some(reach.answer))
            .tls_config(tls.build())
            .build();
        Ok(Client { agent: config.into(), reach })
    }

    /// Where it asks.
    pub fn url(&self) -> &str {
        &self.reach.url
    }

    /// Whether Arroyo answers.
    ///
    /// # Errors
    /// It does not, or refuses the key.
    pub fn ping(&self) -> Result<(), JobError> {
        self.call::<Json>(Method::GET, "/ping", None).map(drop)
    }

    /// Has Arroyo plan a text, without running it.
    ///
    /// # Errors
    /// What Arroyo has against it.
    pub fn validate(&self, pipeline: &Pipeline) -> Result<(), JobError> {
        let body = json!({"query": pipeline.sql, "udfs": functions(pipeline)});
        let found: Validation = self.call(Method::POST, "/pipelines/validate_query", Some(body))?;
        let told = found.errors.into_iter().map(|e| match e {
            Diagnostic::Text(message) | Diagnostic::Placed { message, span: None } => message,
            Diagnostic::Placed { message, span: Some(span) } => {
                format!("line {}: {message}", span["start"]["line"])
            }
        });
        match told.collect::<Vec<_>>().join("; ") {
            none if none.is_empty() => Ok(()),
            told => {
                Err(JobError::Arroyo(format!("Arroyo refuses the SQL of the view {}: {told}", pipeline.view)))
            }
        }
    }

    /// Every pipeline.
    ///
    /// # Errors
    /// Arroyo does not answer.
    pub fn pipelines(&self) -> Result<Vec<Deployed>, JobError> {
        let mut all: Vec<Deployed> = Vec::new();
        for _ in 0..MAX_PAGES {
            let after = all.last().map(|p| format!("&starting_after={}", p.id)).unwrap_or_default();
            let page: Page<Deployed> =
                self.call(Method::GET, &format!("/pipelines?limit={PAGE}{after}"), None)?;
            let more = page.has_more && !page.data.is_empty();
            all.extend(page.data);
            if !more {
                return Ok(all);
            }
        }
        Err(JobError::Arroyo(format!(
            "Arroyo at {} has more than {} pipelines",
            self.url(),
            PAGE * MAX_PAGES
        )))
    }

    /// Makes a pipeline under an id of ours.
    ///
    /// # Errors
    /// Arroyo refuses it, or a user function does not build there.
    pub fn create(&self, id: &str, name: &str, pipeline: &Pipeline, how: &How) -> Result<(), JobError> {
        let body = json!({
            "name": name,
            "query": pipeline.sql,
            "udfs": functions(pipeline),
            "parallelism": how.parallelism,
            "checkpoint_interval_micros": how.checkpoint_seconds * 1_000_000,
        });
        self.call::<Json>(Method::PUT, &format!("/pipelines/{id}"), Some(body)).map(drop)
    }

    /// Changes what is told by `change`: `stop`, `parallelism`, ….
    ///
    /// # Errors
    /// Arroyo does not take it.
    pub fn change(&self, id: &str, change: Json) -> Result<(), JobError> {
        self.call::<Json>(Method::PATCH, &format!("/pipelines/{id}"), Some(change)).map(drop)
    }

    /// Starts a pipeline again from its last checkpoint.
    ///
    /// # Errors
    /// Arroyo does not take it.
    pub fn restart(&self, id: &str) -> Result<(), JobError> {
        let body = json!({"force": false, "ignore_state": false});
        self.call::<Json>(Method::POST, &format!("/pipelines/{id}/restart"), Some(body)).map(drop)
    }

    /// The jobs of a pipeline; Arroyo makes one.
    ///
    /// # Errors
    /// Arroyo does not answer.
    pub fn jobs(&self, pipeline: &str) -> Result<Vec<Job>, JobError> {
        self.call::<Page<Job>>(Method::GET, &format!("/pipelines/{pipeline}/jobs"), None).map(|p| p.data)
    }

    /// The latest messages of a job, as Arroyo orders them.
    ///
    /// # Errors
    /// Arroyo does not answer.
    pub fn errors(&self, pipeline: &str, job: &str) -> Result<Vec<Message>, JobError> {
        let path = format!("/pipelines/{pipeline}/jobs/{job}/errors");
        self.call::<Page<Message>>(Method::GET, &path, None).map(|p| p.data)
    }

    /// The checkpoints of a job.
    ///
    /// # Errors
    /// Arroyo does not answer.
    pub fn checkpoints(&self, pipeline: &str, job: &str) -> Result<Vec<Checkpoint>, JobError> {
        let path = format!("/pipelines/{pipeline}/jobs/{job}/checkpoints");
        self.call::<Page<Checkpoint>>(Method::GET, &path, None).map(|p| p.data)
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Json>,
    ) -> Result<T, JobError> {
        let url = format!("{}/api/v1{path}", self.reach.url);
        let away = |e: &dyn std::fmt::Display| {
            JobError::ArroyoAway(format!(
                "Arroyo at {}: {method} {path}: {e}; check arroyo.url, and that its API runs there",
                self.url()
            ))
        };
        let builds = method == Method::PUT || path.ends_with("validate_query");
        let mut request =
            Request::builder().method(method.clone()).uri(&url).header("accept", "application/json");
        if let Some(key) = &self.reach.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let text = body.map(|b| b.to_string());
        if text.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(text.unwrap_or_default()).map_err(|e| away(&e))?;
        let limit = if builds { self.reach.build } else { self.reach.answer };
        let request = self.agent.configure_request(request).timeout_global(Some(limit)).build();
        let mut answer = self.agent.run(request).map_err(|e| away(&e))?;
        let status = answer.status();
        let text =
            answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string().map_err(|e| away(&e))?;
        let refused =
            |what: &str| JobError::Arroyo(format!("Arroyo at {}: {method} {path}: {what}", self.url()));
        match status.as_u16() {
            200..=299 => serde_json::from_str(&text).map_err(|e| {
                refused(&format!("its answer is not that of the API this program knows (0.16): {e}"))
            }),
            401 | 403 => {
                Err(refused(&format!("{status}; put its static API key into the file arroyo.key_file names")))
            }
            502..=504 => Err(away(&status)),
            _ => {
                let told = serde_json::from_str::<Json>(&text).ok();
                let told = told.as_ref().and_then(|t| t["error"].as_str()).unwrap_or("no reason given");
                Err(refused(&format!("{status}: {told}")))
            }
        }
    }
}

/// How a pipeline is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    /// Subtasks of each operator.
    pub parallelism: u64,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: u64,
}

fn functions(pipeline: &Pipeline) -> Vec<Json> {
    pipeline.functions.iter().map(|(_, text)| json!({"definition": text, "language": "rust"})).collect()
}
