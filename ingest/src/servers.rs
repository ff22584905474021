//! Real servers for tests of this crate and of those above it, and a network that breaks on command.
//!
//! A server is the one an environment variable names, or the program found on `PATH`, started on a directory
//! of its own. Without either the test says `skipped: no redis-server` and passes; where
//! `KAIROS_TEST_REQUIRE` is set that fails, unless `KAIROS_TEST_OPTIONAL` names the program.
//!
//! | variable | program | server |
//! |---|---|---|
//! | `KAIROS_TEST_REDIS_URL` | `redis-server` | [`redis`] |
//! | `KAIROS_TEST_CLICKHOUSE_URL` | `clickhouse` | [`clickhouse`] |
//! | `KAIROS_TEST_FLUVIO_URL` | `fluvio-run` | [`fluvio()`] |
//!
//! | module | what |
//! |---|---|
//! | [`proxy`] | a connection that drops, stalls and slows |
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "for tests alone")]

mod certificates;
mod cluster;
mod programs;
pub mod proxy;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub use certificates::Certificates;
pub use cluster::{Between, fluvio, fluvio_behind, fluvio_secured, fluvio_with};
pub use programs::{clickhouse, clickhouse_with, redis, redis_with};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a test changes about a server it starts.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// No file of the server may grow beyond so many KiB, as if the disk were full.
    pub file_kib: Option<u64>,
    /// Further arguments of the program.
    pub arguments: Vec<String>,
}

/// How a process of a server is started: anew after each [`Server::kill`].
type Launch = Box<dyn Fn(&Path) -> Command + Send + Sync>;

/// A server under test; stopped when dropped.
pub struct Server {
    /// Its URL as Kairos' settings write it.
    pub url: String,
    address: SocketAddr,
    dir: Option<tempfile::TempDir>,
    launches: Vec<Launch>,
    ready: fn(SocketAddr) -> bool,
    children: Vec<Child>,
    /// `ulimit -f` of the next start.
    file_kib: Option<u64>,
}

impl Server {
    /// One that runs already.
    fn elsewhere(url: String) -> Server {
        let authority = url.split("://").nth(1).unwrap_or(&url);
        let authority = authority.rsplit('@').next().unwrap().split(['/', '?']).next().unwrap();
        let address = std::net::ToSocketAddrs::to_socket_addrs(authority).unwrap().next().unwrap();
        Server {
            url,
            address,
            dir: None,
            launches: Vec::new(),
            ready: |_| true,
            children: Vec::new(),
            file_kib: None,
        }
    }

    fn launched(
        url: String,
        port: u16,
        launches: Vec<Launch>,
        ready: fn(SocketAddr) -> bool,
        wishes: &Wishes,
    ) -> Server {
        let mut server = Server {
            url,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            dir: Some(tempfile::tempdir().unwrap()),
            launches,
            ready,
            children: Vec::new(),
            file_kib: wishes.file_kib,
        };
        server.start();
        server
    }

    /// Where it listens; for a [`proxy::Proxy`] in front of it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the test started it, and so may kill it.
    pub fn is_own(&self) -> bool {
        !self.launches.is_empty()
    }

    /// Its directory; `None` for one that runs elsewhere.
    pub fn dir(&self) -> Option<PathBuf> {
        self.dir.as_ref().map(|d| d.path().to_owned())
    }

    /// Starts it (again), on the same port and directory; returns once it answers.
    pub fn start(&mut self) {
        let dir = self.dir.as_ref().expect("a server that runs elsewhere").path().to_owned();
        for launch in &self.launches {
            let plain = launch(&dir);
            let mut command = match self.file_kib {
                // Writes beyond the limit fail as on a full disk.
                Some(kib) => {
                    let mut limited = Command::new("bash");
                    limited.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\""));
                    limited.arg(plain.get_program()).args(plain.get_args());
                    limited.envs(plain.get_envs().filter_map(|(k, v)| Some((k, v?))));
                    limited
                }
                None => plain,
            };
            let out =
                std::fs::OpenOptions::new().create(true).append(true).open(dir.join("out.log")).unwrap();
            command.current_dir(&dir).stdin(Stdio::null());
            command.stdout(out.try_clone().unwrap()).stderr(out);
            self.children.push(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")));
        }
        let began = Instant::now();
        while !(self.ready)(self.address) {
            let ended = self.children.iter_mut().any(|c| c.try_wait().unwrap().is_some());
            if ended || began.elapsed() > PATIENCE {
                let said = std::fs::read_to_string(dir.join("out.log")).unwrap_or_default();
                panic!("the server at {} did not start:\n{said}", self.address);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lifts or sets the limit of [`Wishes::file_kib`] for the next start.
    pub fn limit_files(&mut self, kib: Option<u64>) {
        self.file_kib = kib;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        for mut child in self.children.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP: it holds its connections and answers nothing.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        for child in &self.children {
            Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server of this variable, or the program of this name; `None`, and one visible line, without either.
fn find(variable: &str, program: &str) -> Option<Found> {
    if let Ok(url) = std::env::var(variable) {
        return Some(Found::Running(url));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(file) = std::env::split_paths(&path).map(|d| d.join(program)).find(|f| f.is_file()) {
        return Some(Found::Program(file));
    }
    println!("skipped: no {program}");
    let optional = std::env::var("KAIROS_TEST_OPTIONAL").unwrap_or_default();
    let required = std::env::var_os("KAIROS_TEST_REQUIRE").is_some();
    assert!(
        !required || optional.split([',', ' ']).any(|o| o == program),
        "{program} is required here; install it or set {variable}"
    );
    None
}

enum Found {
    Running(String),
    Program(PathBuf),
}

/// A port nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether a request is answered by something that begins with `wanted`.
fn answers(address: SocketAddr, request: &[u8], wanted: &[u8]) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        connection.write_all(request)?;
        let mut answer = vec![0; wanted.len()];
        connection.read_exact(&mut answer)?;
        Ok(answer == wanted)
    };
    ask().unwrap_or(false)
}
