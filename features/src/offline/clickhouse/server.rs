//! The server: its client on a runtime of its own, so that callers on any thread, async or not, may wait for it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use clickhouse::{Client, Compression, error::Error, query::Query};
use futures::{SinkExt, channel::mpsc};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Handle, Runtime};

use super::{
    HistoryError,
    answer::Answer,
    sql::{Sql, literal, quoted},
};
use crate::offline::HistoryOptions;

/// Oldest server that keeps NULL messages in Arrow.
const OLDEST: (u32, u32) = (26, 8);
/// Longest that a server which is there takes to say so.
const SHORT: Duration = Duration::from_secs(3);
/// Bytes of an insert handed over at once.
const CHUNK: usize = 1 << 20;

/// A database of a ClickHouse server.
pub(super) struct Server {
    client: Client,
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
    timeout: Duration,
    pub database: String,
    /// The server as messages name it; holds no secret.
    pub place: String,
}

impl Server {
    /// Takes the address apart. Nothing is sent yet.
    pub fn new(options: &HistoryOptions) -> Result<Server, HistoryError> {
        let (place, database) = parts(&options.url)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("clickhouse")
            .enable_all()
            .build()
            .map_err(|e| HistoryError::Unavailable(format!("no threads to speak with ClickHouse on: {e}")))?;
        let mut client = Client::default()
            .with_url(&place)
            .with_compression(Compression::Lz4)
            .with_setting("output_format_arrow_string_as_string", "0")
            .with_setting("output_format_arrow_low_cardinality_as_dictionary", "0")
            .with_setting("output_format_arrow_compression_method", "none")
            .with_setting("date_time_input_format", "best_effort")
            .with_setting("enable_nullable_tuple_type", "1");
        if let Some(user) = &options.server.user {
            client = client.with_user(user);
        }
        if let Some(password) = &options.server.password {
            client = client.with_password(password.reveal());
        }
        Ok(Server {
            client,
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            timeout: options.server.timeout,
            database,
            place,
        })
    }

    /// Checks that the server is there and new enough, and makes the database unless it only reads.
    pub fn greet(&self, read_only: bool) -> Result<(), HistoryError> {
        let version: Vec<(String,)> = self.ask_server("SELECT version()")?;
        let text = version.into_iter().next().map(|(v,)| v).unwrap_or_default();
        let mut numbers = text.split('.').map_while(|n| n.parse::<u32>().ok());
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found < OLDEST {
            return Err(HistoryError::Refused(format!(
                "ClickHouse at {} is version {text}; history needs {}.{} or later, so upgrade it",
                self.place, OLDEST.0, OLDEST.1
            )));
        }
        if read_only {
            let named = literal(&self.database);
            let there: Vec<(u64,)> =
                self.ask_server(&format!("SELECT count() FROM system.databases WHERE name = {named}"))?;
            if there != [(1,)] {
                return Err(HistoryError::Unavailable(format!(
                    "there is no history in ClickHouse at {} yet: no database `{}`; start the system once",
                    self.place, self.database
                )));
            }
        } else {
            let sql = format!("CREATE DATABASE IF NOT EXISTS {}", quoted(&self.database));
            self.run(false, sql.into(), &[])?;
        }
        Ok(())
    }

    /// Whether it answers now.
    pub fn ping(&self) -> Result<(), HistoryError> {
        let query = self.query(false, &"SELECT 1".into(), &[("log_queries", "0")]);
        self.wait_for(SHORT.min(self.timeout), query.execute())
    }

    fn client(&self, in_database: bool) -> Client {
        match in_database {
            true => self.client.clone().with_database(&self.database),
            false => self.client.clone(),
        }
    }

    fn query(&self, in_database: bool, sql: &Sql, settings: &[(&str, &str)]) -> Query {
        // `?` has no meaning of its own in our statements.
        let mut query = self.client(in_database).query_raw(&sql.text);
        for (name, values) in &sql.params {
            query = query.param(name, values);
        }
        for (name, value) in settings {
            query = query.with_setting(*name, *value);
        }
        query
    }

    /// Runs a statement that answers nothing.
    pub fn execute(&self, sql: impl Into<Sql>) -> Result<(), HistoryError> {
        self.run(true, sql.into(), &[])
    }

    /// The same with settings.
    pub fn execute_with(&self, sql: impl Into<Sql>, settings: &[(&str, &str)]) -> Result<(), HistoryError> {
        self.run(true, sql.into(), settings)
    }

    fn run(&self, in_database: bool, sql: Sql, settings: &[(&str, &str)]) -> Result<(), HistoryError> {
        let query = self.query(in_database, &sql, settings);
        self.wait(query.execute())
    }

    /// The rows of a small answer, as tuples.
    pub fn ask<T: DeserializeOwned>(&self, sql: impl Into<Sql>) -> Result<Vec<T>, HistoryError> {
        self.read(true, sql.into())
    }

    fn ask_server<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>, HistoryError> {
        self.read(false, sql.into())
    }

    fn read<T: DeserializeOwned>(&self, in_database: bool, sql: Sql) -> Result<Vec<T>, HistoryError> {
        let settings = [("output_format_json_quote_64bit_integers", "0"), ("log_queries", "0")];
        let query = self.query(in_database, &sql, &settings);
        let text = self.wait(async move { query.fetch_bytes("JSONCompactEachRow")?.collect().await })?;
        let rows = serde_json::Deserializer::from_slice(&text).into_iter().collect::<Result<_, _>>();
        rows.map_err(|e| {
            HistoryError::Damaged(format!("ClickHouse at {} gave an answer that is none: {e}", self.place))
        })
    }

    /// The bytes of an answer as they come; the query runs from now on.
    pub fn fetch(self: &Arc<Self>, sql: &Sql) -> Result<Answer, HistoryError> {
        let query = self.query(true, sql, &[("log_queries", "0")]);
        let (mut sender, chunks) = mpsc::channel(4);
        let (timeout, place) = (self.timeout, self.place.clone());
        // The first piece is waited for here: an error in the statement shows at once, and what is read is as of now.
        let first = async move {
            let mut cursor = query.fetch_bytes("ArrowStream")?;
            let first = cursor.next().await?;
            Ok((cursor, first))
        };
        let (mut cursor, first) = self.wait(first)?;
        self.handle.spawn(async move {
            loop {
                // A reader that takes its time holds the line up; only silence of the server counts.
                let next = match tokio::time::timeout(timeout, cursor.next()).await {
                    Ok(Ok(Some(chunk))) => Ok(chunk),
                    Ok(Ok(None)) => break,
                    Ok(Err(e)) => Err(failed(&place, &e)),
                    Err(_) => Err(silent(&place, timeout)),
                };
                let over = next.is_err();
                if sender.send(next).await.is_err() || over {
                    return;
                }
            }
            // Tells an end from a line that was cut.
            let _ = sender.send(Ok(Bytes::new())).await;
        });
        Ok(Answer {
            chunks,
            now: first.unwrap_or_default(),
            ended: false,
            error: None,
            _server: self.clone(),
        })
    }

    /// Inserts a stream of Arrow, all of it or (most likely) nothing; the same `token` is taken once.
    pub fn insert(&self, sql: &str, body: Bytes, token: &str) -> Result<(), HistoryError> {
        let mut insert = self
            .client(true)
            .insert_formatted_with(sql)
            .with_setting("async_insert", "0")
            .with_setting("wait_end_of_query", "1")
            .with_setting("insert_deduplicate", "1")
            .with_setting("insert_deduplication_token", token)
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
            .with_setting("max_partitions_per_insert_block", "0")
            .with_setting("input_format_null_as_default", "1")
            .with_timeouts(Some(self.timeout), Some(self.timeout));
        self.wait_for(3 * self.timeout, async move {
            let mut body = body;
            while !body.is_empty() {
                insert.send(body.split_to(CHUNK.min(body.len()))).await?;
            }
            insert.end().await
        })
    }

    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, HistoryError> {
        self.wait_for(self.timeout, work)
    }

    fn wait_for<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, HistoryError> {
        // A channel of the standard library: tokio's own count against the budget of the task this is called in, and
        // beyond it would never be ready.
        let (sender, done) = std::sync::mpsc::sync_channel(1);
        self.handle.spawn(async move { drop(sender.send(tokio::time::timeout(limit, work).await)) });
        match done.recv() {
            Ok(Ok(Ok(done))) => Ok(done),
            Ok(Ok(Err(e))) => Err(failed(&self.place, &e)),
            Ok(Err(_)) => Err(silent(&self.place, limit)),
            Err(_) => Err(HistoryError::Unavailable("history is being closed".into())),
        }
    }

    /// Gives up everything under way.
    pub fn close(&self) {
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

/// `http://host:port` and the database of a URL.
fn parts(url: &str) -> Result<(String, String), HistoryError> {
    let refused = |what: &str| {
        Err(HistoryError::Refused(format!("`history.url` {what}; write it as `http://host:8123/kairos`")))
    };
    let Some((scheme, rest)) = url.split_once("://") else { return refused("has no host") };
    if rest.contains('@') {
        return refused(
            "names a user; that stands in `history.user`, the password in the file of `history.password_file`",
        );
    }
    let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match (host, database) {
        ("", _) => refused("has no host"),
        (_, "") => Ok((format!("{scheme}://{host}"), "kairos".into())),
        (_, name) if name.chars().all(fine) => Ok((format!("{scheme}://{host}"), name.into())),
        _ => refused("names a database of other characters than letters, digits and underscores"),
    }
}

fn silent(place: &str, limit: Duration) -> HistoryError {
    let seconds = limit.as_secs_f64();
    HistoryError::Unavailable(format!("ClickHouse at {place} did not answer within {seconds} s"))
}

/// What the server or the way to it says, by what the caller can do.
fn failed(place: &str, error: &Error) -> HistoryError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    if let Some(cause) = cause.map(ToString::to_string).filter(|c| !text.contains(c.as_str())) {
        text = format!("{text}: {cause}");
    }
    let text: String = text.chars().take(400).collect();
    let code = text.split_once("Code: ").and_then(|(_, rest)| rest.split_once('.')?.0.parse::<u32>().ok());
    let at = format!("ClickHouse at {place}");
    match code {
        Some(192..=194 | 516) => HistoryError::Refused(format!(
            "{at} does not know the user or the password; see `history.user` and `history.password_file`"
        )),
        Some(164 | 497) => HistoryError::Refused(format!(
            "{at} refuses for want of rights: {text}; grant the user of `history.user` SELECT, INSERT, CREATE, ALTER, \
             DROP and TRUNCATE on the database, and CREATE DATABASE or make it yourself"
        )),
        _ => HistoryError::Unavailable(format!("{at} failed: {text}")),
    }
}
