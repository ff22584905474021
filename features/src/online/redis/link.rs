//! A connection to Redis, made when needed and given up after a failure, so that the next one is fresh.

use std::time::Duration;

use parking_lot::RwLock;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline,
    ProtocolVersion, RedisError, TlsCertificates, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
};
use tokio::sync::Mutex;

use crate::{
    error::FeatureError,
    online::options::{OnlineOptions, shown},
};

/// Where Redis is, and as whom to speak to it.
#[derive(Clone)]
pub(super) struct Target {
    client: Servers,
    /// Its URL without secrets.
    pub shown: String,
}

#[derive(Clone)]
enum Servers {
    One(Box<Client>),
    Cluster(Box<ClusterClient>),
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(Box<ClusterConnection>),
}

impl Target {
    /// Reads a URL: `redis://host:port/database`, `rediss://` with TLS, `redis+cluster://host:port,host:port` and
    /// `rediss+cluster://`.
    pub fn new(url: &str, options: &OnlineOptions) -> Result<Target, FeatureError> {
        let shown = shown(url);
        let wrong = |e: RedisError| FeatureError::Request(format!("online.url = \"{shown}\" is wrong: {e}"));
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        let tls = scheme.starts_with("rediss");
        let plain = if tls { "rediss" } else { "redis" };
        let cluster = scheme.ends_with("+cluster");
        let (login, hosts) = rest.rsplit_once('@').map_or(("", rest), |(login, hosts)| (login, hosts));
        let at = if login.is_empty() { "" } else { "@" };
        let nodes = if cluster { hosts.split(',').collect() } else { vec![hosts] };
        let nodes: Vec<ConnectionInfo> = nodes
            .into_iter()
            .map(|host| info(&format!("{plain}://{login}{at}{host}"), options))
            .collect::<Result<_, _>>()?;
        if tls {
            // An error says that the process has chosen already.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let certificates = match &options.ca_file {
            Some(file) => Some(std::fs::read(file).map_err(|e| {
                FeatureError::Request(format!("online.ca_file: cannot read `{}`: {e}", file.display()))
            })?),
            None => None,
        };
        let certificates = TlsCertificates { client_tls: None, root_cert: certificates };
        let client = if cluster {
            let mut builder = ClusterClientBuilder::new(nodes)
                .retries(2)
                .connection_timeout(options.timeout)
                .response_timeout(options.timeout * WRITES_TAKE)
                .use_protocol(ProtocolVersion::RESP3)
                .tcp_settings(tcp());
            if tls {
                builder = builder.certs(certificates);
            }
            Servers::Cluster(Box::new(builder.build().map_err(wrong)?))
        } else {
            let node = nodes
                .into_iter()
                .next()
                .ok_or_else(|| FeatureError::Request(format!("online.url = \"{shown}\" names no host")))?;
            let client = if tls { Client::build_with_tls(node, certificates) } else { Client::open(node) };
            Servers::One(Box::new(client.map_err(wrong)?))
        };
        Ok(Target { client, shown })
    }

    pub fn is_cluster(&self) -> bool {
        matches!(self.client, Servers::Cluster(_))
    }

    async fn connect(&self, within: Duration) -> Result<Connection, RedisError> {
        match &self.client {
            Servers::One(client) => {
                // Whoever asks has a time limit for the whole.
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(within))
                    .set_response_timeout(None);
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::One)
            }
            Servers::Cluster(client) => {
                client.get_async_connection().await.map(|c| Connection::Cluster(Box::new(c)))
            }
        }
    }

    /// What an error of the server means, and what mends it. Trying again may help, once it is mended.
    pub fn told(&self, e: &RedisError) -> FeatureError {
        // Of a pipeline the first, which says what it is about.
        let first = e.clone().into_server_errors().and_then(|errors| errors.first().map(|(_, e)| e.clone()));
        let code = first.as_ref().map(|e| e.code()).or(e.code());
        let said = first.as_ref().map_or_else(|| e.to_string(), |e| e.to_string());
        let mend = match (e.kind(), code) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
                "it refused the login; set online.user and online.password_file to what its ACL has"
            }
            (_, Some("OOM")) => "it has no memory left; raise its `maxmemory`, or give it a larger machine",
            (_, Some("NOPERM")) => "the user may not do this; allow it `~kairos:* +@all` in its ACL",
            (_, Some("MISCONF")) => "it cannot write to its disk and so takes no writes; give it room there",
            (_, Some("READONLY")) => "it is a replica; name the primary in online.url",
            (_, Some("LOADING")) => "it is reading its data from disk; wait",
            _ => "see that it runs and that online.url names it",
        };
        FeatureError::Unavailable(format!("Redis at {}: {mend} ({said})", self.shown))
    }

    pub fn silent(&self, within: Duration) -> FeatureError {
        FeatureError::Unavailable(format!(
            "Redis at {}: no answer within {} ms; see that it runs and is not overloaded",
            self.shown,
            within.as_millis()
        ))
    }
}

/// Writes may take so many times as long as reads.
pub(super) const WRITES_TAKE: u32 = 10;

fn tcp() -> redis::io::tcp::TcpSettings {
    redis::io::tcp::TcpSettings::default().set_nodelay(true)
}

fn info(url: &str, options: &OnlineOptions) -> Result<ConnectionInfo, FeatureError> {
    let info = url.into_connection_info().map_err(|e| {
        FeatureError::Request(format!(
            "online.url = \"{}\" is wrong: {e}; write redis://host:port, rediss:// for TLS, or \
             redis+cluster://host:port,host:port",
            shown(url)
        ))
    })?;
    let mut login = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    if let Some(user) = &options.user {
        login = login.set_username(user);
    }
    if let Some(file) = &options.password_file {
        let password = std::fs::read_to_string(file).map_err(|e| {
            FeatureError::Request(format!("online.password_file: cannot read `{}`: {e}", file.display()))
        })?;
        login = login.set_password(password.trim_end_matches(['\r', '\n']));
    }
    Ok(info.set_redis_settings(login).set_tcp_settings(tcp()))
}

/// See the module. Cheap to share; what several ask at once travels together.
pub(super) struct Link {
    pub target: Target,
    /// How long an answer may take.
    pub within: Duration,
    current: RwLock<Option<Connection>>,
    connecting: Mutex<()>,
}

impl Link {
    pub fn new(target: Target, within: Duration) -> Link {
        Link { target, within, current: RwLock::default(), connecting: Mutex::default() }
    }

    /// The answer to a command.
    pub async fn ask(&self, command: &Cmd) -> Result<Value, FeatureError> {
        let ask = async |connection| match connection {
            Connection::One(mut c) => c.req_packed_command(command).await?.extract_error(),
            Connection::Cluster(mut c) => c.req_packed_command(command).await?.extract_error(),
        };
        self.within(async {
            match ask(self.connection().await?).await {
                Err(e) if self.had_ended(&e) => ask(self.connection().await?).await,
                answer => answer,
            }
        })
        .await
    }

    /// The answers to commands on keys of one partition, which are done in their order.
    pub async fn ask_all(&self, commands: &Pipeline) -> Result<Vec<Value>, FeatureError> {
        let ask = async |connection| match connection {
            Connection::One(mut c) => commands.query_async(&mut c).await,
            Connection::Cluster(mut c) => commands.query_async(&mut *c).await,
        };
        self.within(async {
            match ask(self.connection().await?).await {
                Err(e) if self.had_ended(&e) => ask(self.connection().await?).await,
                answer => answer,
            }
        })
        .await
    }

    /// Whether the connection was found closed, as one is that nobody used for long; then the question is put once
    /// more. Whatever is asked may be asked twice.
    fn had_ended(&self, e: &RedisError) -> bool {
        let ended = !matches!(e.kind(), ErrorKind::Server(_) | ErrorKind::Extension) && !e.is_timeout();
        if ended {
            self.give_up();
        }
        ended
    }

    /// Gives the connection up; the next question makes a new one.
    pub fn give_up(&self) {
        *self.current.write() = None;
    }

    async fn connection(&self) -> Result<Connection, RedisError> {
        if let Some(connection) = self.current.read().clone() {
            return Ok(connection);
        }
        let _alone = self.connecting.lock().await;
        if let Some(connection) = self.current.read().clone() {
            return Ok(connection);
        }
        let connection = self.target.connect(self.within).await?;
        *self.current.write() = Some(connection.clone());
        Ok(connection)
    }

    async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, FeatureError> {
        match tokio::time::timeout(self.within, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => {
                if !matches!(e.kind(), ErrorKind::Server(_) | ErrorKind::Extension) {
                    self.give_up();
                }
                Err(self.target.told(&e))
            }
            Err(_) => {
                self.give_up();
                Err(self.target.silent(self.within))
            }
        }
    }
}
