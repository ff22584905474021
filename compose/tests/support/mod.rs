//! Starts the real binary on a directory of its own and speaks HTTP to it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test.
pub fn kairos() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kairos"));
    // What the developer has set for himself must not change a test.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KAIROS__")) {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end and gives status, stdout and stderr.
pub fn run(command: &mut Command) -> (ExitStatus, String, String) {
    let done = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status, text(&done.stdout), text(&done.stderr))
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    pub address: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Server {
    /// `kairos run` on this data directory and a free port; returns once it listens.
    pub fn start(data: &Path) -> Server {
        Server::start_with(data, &[])
    }

    /// The same with more arguments.
    pub fn start_with(data: &Path, arguments: &[&str]) -> Server {
        Server::spawn(&["run"], data, arguments)
    }

    /// Any command that serves.
    pub fn spawn(command: &[&str], data: &Path, arguments: &[&str]) -> Server {
        let mut child = kairos()
            .args(command)
            .args(["--listen", "127.0.0.1:0", "--log-format", "json", "--data"])
            .arg(data)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (found, address) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(address) = address_in(&line) {
                    let _ = found.send(address);
                }
                kept.lock().unwrap().push(line);
            }
        });
        let address = address.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("the server did not come up:\n{}", lines.lock().unwrap().join("\n"));
        });
        let client = Client::builder(TokioExecutor::new()).build_http();
        Server { child, lines, address, client }
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM.
    pub fn ask_to_stop(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the server did not stop:\n{}", self.logged());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it in order.
    pub fn stop(mut self) {
        self.ask_to_stop();
        let status = self.wait();
        assert!(status.success(), "{status}:\n{}", self.logged());
    }

    /// One request; an error where the connection broke.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Result<(StatusCode, Bytes), String> {
        exchange(&self.client, &self.address, method, path, content_type, body.into()).await
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.post_text(path, "application/json", body.to_string()).await
    }

    /// Posts any text.
    pub async fn post_text(&self, path: &str, kind: &str, body: impl Into<Bytes>) -> (StatusCode, Value) {
        let (status, body) = self.try_send(Method::POST, path, kind, body).await.unwrap();
        (status, json_or_null(&body))
    }

    /// Gets.
    pub async fn get(&self, path: &str) -> (StatusCode, Bytes) {
        self.try_send(Method::GET, path, "text/plain", Bytes::new()).await.unwrap()
    }

    /// Reads features of one person after a position.
    pub async fn features(&self, user: &str, features: &[&str], after: &str) -> Value {
        let question = serde_json::json!({"entities": [user], "features": features, "after": after});
        let (status, answer) = self.post("/v1/features/read", &question).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["rows"][0]["values"].clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection of its own.
pub async fn send(
    address: &str,
    method: Method,
    path: &str,
    content_type: &str,
    body: impl Into<Bytes>,
) -> Result<(StatusCode, Bytes), String> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    exchange(&client, address, method, path, content_type, body.into()).await
}

async fn exchange(
    client: &Client<HttpConnector, Full<Bytes>>,
    address: &str,
    method: Method,
    path: &str,
    content_type: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), String> {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"))
        .header("content-type", content_type)
        .body(Full::new(body))
        .unwrap();
    let answer = client.request(request).await.map_err(|e| e.to_string())?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|e| e.to_string())?;
    Ok((status, body.to_bytes()))
}

/// JSON, or null for an empty body.
pub fn json_or_null(body: &[u8]) -> Value {
    if body.is_empty() { Value::Null } else { serde_json::from_slice(body).unwrap_or_else(|_| text_of(body)) }
}

fn text_of(body: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(body).into_owned())
}

fn address_in(line: &str) -> Option<String> {
    let entry: Value = serde_json::from_str(line).ok()?;
    (entry["message"] == "listening").then(|| entry["address"].as_str().map(str::to_owned))?
}
