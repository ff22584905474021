//! A ClickHouse for the tests of one file, with a database for each test.

use std::{
    path::Path,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use features::offline::{HistoryOptions, ServerOptions, clickhouse::ClickHouseHistory};
use ingest::servers::{self, Server};
use parking_lot::Mutex;

/// Shared by the tests that run at a time, and stopped with the last of them.
static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A database that nobody else has.
pub struct Database {
    pub url: String,
    _server: Arc<Server>,
}

/// Makes one; `None` where no server is.
pub fn database() -> Option<Database> {
    let mut shared = SERVER.lock();
    let server = match shared.upgrade() {
        Some(server) => server,
        None => Arc::new(servers::clickhouse()?),
    };
    *shared = Arc::downgrade(&server);
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let url = server.url.replace("/kairos", &format!("/kairos_{}_{number}", std::process::id()));
    Some(Database { url, _server: server })
}

/// Options of a store with its spool in this directory, whose batches are sent after so long.
pub fn options(url: &str, dir: &Path, batch_time: Duration) -> HistoryOptions {
    let server = ServerOptions { batch_time, timeout: Duration::from_secs(20), ..ServerOptions::default() };
    HistoryOptions { server, ..HistoryOptions::new(url, dir, Arc::new(|| 0)) }
}

/// Opens it.
pub fn open(url: &str, dir: &Path, batch_time: Duration) -> ClickHouseHistory {
    ClickHouseHistory::open(&options(url, dir, batch_time)).unwrap()
}

/// What the server itself answers.
pub fn ask(url: &str, sql: &str) -> String {
    use std::io::{Read, Write};
    let (host, database) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut line = std::net::TcpStream::connect(host).unwrap();
    let head = format!("POST /?database={database} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", sql.len());
    line.write_all(head.as_bytes()).and_then(|()| line.write_all(sql.as_bytes())).unwrap();
    let mut answer = String::new();
    line.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "{sql}: {body}");
    body.trim_end().to_owned()
}
