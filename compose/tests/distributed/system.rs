//! Kairos in one of its shapes: embedded, one process over servers, or a process for each role.

use std::{collections::BTreeMap, path::PathBuf};

use hyper::{Method, StatusCode};
use ingest::servers;
use serde_json::{Value, json};

use crate::support::{Server, json_or_null, send};

/// The servers behind the distributed shapes.
pub struct Backends {
    pub fluvio: servers::Server,
    pub redis: servers::Server,
    pub clickhouse: servers::Server,
}

impl Backends {
    /// All three, or `None` and a visible line where one cannot be had.
    pub fn start() -> Option<Backends> {
        Some(Backends {
            fluvio: servers::fluvio()?,
            redis: servers::redis()?,
            clickhouse: servers::clickhouse()?,
        })
    }
}

/// Processes by name, and the roles of each.
const APART: [(&str, &[&str]); 7] = [
    ("ingest", &["ingest"]),
    ("ingest-2", &["ingest"]),
    ("stream", &["stream"]),
    ("score", &["score"]),
    ("api", &["api"]),
    ("api-2", &["api"]),
    ("pipelines", &["pipelines"]),
];
const TOGETHER: [(&str, &[&str]); 1] = [("all", &[])];

pub struct System {
    pub backends: Option<Backends>,
    dir: tempfile::TempDir,
    processes: BTreeMap<&'static str, Option<Server>>,
    shape: &'static [(&'static str, &'static [&'static str])],
}

impl System {
    /// One process and a data directory.
    pub fn embedded() -> System {
        System::start(None, &TOGETHER, "")
    }

    /// One process over servers.
    pub fn together(backends: Backends) -> System {
        System::start(Some(backends), &TOGETHER, "")
    }

    /// A process for each role; two take signals in, two answer.
    pub fn apart(backends: Backends) -> System {
        System::start(Some(backends), &APART, "")
    }

    fn start(
        backends: Option<Backends>,
        shape: &'static [(&'static str, &'static [&'static str])],
        more: &str,
    ) -> System {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = "[stream]\ncheckpoint_seconds = 0.3\n".to_owned();
        if let Some(b) = &backends {
            settings += &format!(
                "[log]\nurl = \"{}\"\npartitions = 3\n[online]\nurl = \"{}\"\n\
                 [history]\nurl = \"{}\"\nbatch_seconds = 0.2\n",
                b.fluvio.url, b.redis.url, b.clickhouse.url
            );
        }
        std::fs::write(dir.path().join("kairos.toml"), settings + more).unwrap();
        let mut system = System { backends, dir, processes: BTreeMap::new(), shape };
        for (name, _) in shape {
            system.start_process(name);
        }
        system
    }

    /// Starts a process (again), on the data directory it had.
    pub fn start_process(&mut self, name: &'static str) {
        let name = self.name(name);
        let roles = self.shape.iter().find(|(n, _)| *n == name).unwrap().1;
        let command: Vec<&str> = ["run"].into_iter().chain(roles.iter().copied()).collect();
        let config = self.config();
        let arguments = ["--config", config.to_str().unwrap()];
        let server = Server::spawn(&command, &self.dir.path().join(name), &arguments);
        self.processes.insert(name, Some(server));
    }

    /// SIGKILL.
    pub fn kill(&mut self, name: &'static str) {
        let name = self.name(name);
        self.processes.get_mut(name).unwrap().take().unwrap().kill();
    }

    /// Where there is but one process, every name is its.
    fn name(&self, name: &'static str) -> &'static str {
        if self.shape.len() == 1 { "all" } else { name }
    }

    /// Whether roles run in processes of their own.
    pub fn is_apart(&self) -> bool {
        self.shape.len() > 1
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("kairos.toml")
    }

    pub fn process(&self, name: &'static str) -> &Server {
        self.processes[self.name(name)].as_ref().unwrap()
    }

    /// Posts signals; what became of them.
    pub async fn post(&self, process: &'static str, signals: &Value) -> Value {
        let (status, receipt) = self.process(process).post("/v1/signals", signals).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{receipt}\n{}", self.process(process).logged());
        receipt
    }

    /// Posts until it is taken.
    pub async fn post_until_taken(&self, process: &'static str, signals: &Value) -> Value {
        self.client(process).post_until_taken(signals).await
    }

    /// Who posts to a process, for as long as it stays at its address.
    pub fn client(&self, process: &'static str) -> Client {
        Client { address: self.process(process).address.clone() }
    }

    /// A server behind it, to be killed.
    pub fn server(&mut self, which: &str) -> &mut servers::Server {
        let backends = self.backends.as_mut().unwrap();
        match which {
            "redis" => &mut backends.redis,
            "clickhouse" => &mut backends.clickhouse,
            _ => &mut backends.fluvio,
        }
    }

    /// The answer to a read of features.
    pub async fn read(&self, process: &'static str, question: &Value) -> (StatusCode, Value) {
        self.process(process).post("/v1/features/read", question).await
    }

    /// Values of one person once everything below `after` is in them, however long that takes.
    pub async fn values(&self, process: &'static str, user: &str, features: &[&str], after: &str) -> Value {
        let question = json!({"entities": [user], "features": features, "after": after});
        let mut last = Value::Null;
        for _ in 0..60 {
            let (status, answer) = self.read(process, &question).await;
            if status == StatusCode::OK && answer["rows"][0]["stale"] != true {
                return answer["rows"][0]["values"].clone();
            }
            last = answer;
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
        panic!("{process} never had values behind {after}: {last}\n{}", self.process(process).logged());
    }

    /// Asks again until the answer is right.
    pub async fn eventually<F: Future<Output = Option<T>>, T>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> F,
    ) -> T {
        for _ in 0..200 {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        }
        let logs: Vec<String> = self
            .processes
            .iter()
            .filter_map(|(name, p)| Some(format!("== {name}\n{}", p.as_ref()?.logged())))
            .collect();
        panic!("waited in vain: {what}\n{}", logs.join("\n"));
    }
}

/// See [`System::client`].
#[derive(Clone)]
pub struct Client {
    address: String,
}

impl Client {
    /// What a client does on 503 and on a broken connection: the same again.
    pub async fn post_until_taken(&self, signals: &Value) -> Value {
        let mut last = String::new();
        for _ in 0..600 {
            let sent =
                send(&self.address, Method::POST, "/v1/signals", "application/json", signals.to_string());
            match sent.await {
                Ok((StatusCode::ACCEPTED, body)) => return json_or_null(&body),
                Ok((status, body)) => last = format!("{status} {}", String::from_utf8_lossy(&body)),
                Err(e) => last = e,
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("not taken within a minute; the last answer was {last}");
    }
}
