//! A small HTTP client for commands that speak to a running server.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri, header};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::error::{Error, Result};

/// Where the key for a server stands, so that it never shows in a list of processes.
pub const KEY_VARIABLE: &str = "KAIROS_API_KEY";

const PATIENCE: Duration = Duration::from_secs(60);

/// A server, and how to reach it.
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    base: String,
    key: Option<String>,
}

/// What the server said.
pub struct Answer {
    /// How it went.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// What it said.
    pub body: Bytes,
}

impl Client {
    /// A client of the server at `url`; takes the key from the environment.
    pub fn new(url: &str) -> Result<Client> {
        let base = url.trim_end_matches('/');
        let uri: Option<Uri> = base.parse().ok();
        if !uri.is_some_and(|u| u.scheme_str() == Some("http") && u.authority().is_some()) {
            return Err(Error::Setting(format!(
                "--url: `{url}` is no address of a server; write for example `http://127.0.0.1:8080`"
            )));
        }
        let pool = Pool::builder(TokioExecutor::new()).build_http();
        Ok(Client { pool, base: base.to_owned(), key: std::env::var(KEY_VARIABLE).ok() })
    }

    /// Posts a body of this type.
    pub async fn post(&self, path: &str, content_type: &str, body: Bytes) -> Result<Answer> {
        self.send(Method::POST, path, content_type, body).await
    }

    async fn send(&self, method: Method, path: &str, content_type: &str, body: Bytes) -> Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, content_type);
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request.body(Full::new(body)).map_err(|e| {
            Error::Setting(format!("--url: no request to `{}{path}` can be made: {e}", self.base))
        })?;
        let unreachable = |why: String| {
            Error::Unavailable(format!("the server at {} did not answer ({why}); is it running?", self.base))
        };
        let whole = async {
            let answer = self.pool.request(request).await.map_err(|e| unreachable(e.to_string()))?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|e| unreachable(e.to_string()))?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(PATIENCE, whole)
            .await
            .map_err(|_| unreachable(format!("nothing within {} s", PATIENCE.as_secs())))?
    }
}

impl Answer {
    /// How long the server asks to wait, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// The body, or what went wrong.
    pub fn success(self) -> Result<Bytes> {
        let said = || String::from_utf8_lossy(&self.body).chars().take(500).collect::<String>();
        match self.status {
            s if s.is_success() => Ok(self.body),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::Setting(format!(
                "the server refused the key ({}): {}; set {KEY_VARIABLE} to one with the right scope",
                self.status,
                said()
            ))),
            s if s.is_server_error() || s == StatusCode::TOO_MANY_REQUESTS => {
                Err(Error::Unavailable(format!("the server answered {s}: {}", said())))
            }
            s => Err(Error::Input(format!("the server answered {s}: {}", said()))),
        }
    }
}
