//! How each server is started, and when it is ready.

use std::{net::SocketAddr, process::Command};

use super::{Found, Launch, Server, Wishes, answers, find, free_port};

/// A Redis without persistence.
pub fn redis() -> Option<Server> {
    redis_with(&Wishes::default())
}

/// The same with more arguments, such as `--maxmemory 1mb`.
pub fn redis_with(wishes: &Wishes) -> Option<Server> {
    let program = match find("KAIROS_TEST_REDIS_URL", "redis-server")? {
        Found::Running(url) => return Some(Server::elsewhere(url)),
        Found::Program(program) => program,
    };
    let (port, more) = (free_port(), wishes.arguments.clone());
    let launch: Launch = Box::new(move |dir| {
        let mut command = Command::new(&program);
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"]);
        command.arg(dir).args(&more);
        command
    });
    let ready = |at: SocketAddr| answers(at, b"PING\r\n", b"+PONG") || answers(at, b"PING\r\n", b"-NOAUTH");
    Some(Server::launched(format!("redis://127.0.0.1:{port}"), port, vec![launch], ready, wishes))
}

/// A ClickHouse of one node. Its URL names the database `kairos`, which is not there yet.
pub fn clickhouse() -> Option<Server> {
    clickhouse_with(&Wishes::default())
}

/// The same with wishes.
pub fn clickhouse_with(wishes: &Wishes) -> Option<Server> {
    let program = match find("KAIROS_TEST_CLICKHOUSE_URL", "clickhouse")? {
        Found::Running(url) => return Some(Server::elsewhere(url)),
        Found::Program(program) => program,
    };
    let (port, more) = (free_port(), wishes.arguments.clone());
    let launch: Launch = Box::new(move |dir| {
        let (file, data) = (dir.join("config.xml"), dir.join("data"));
        let config = format!(
            "<clickhouse><logger><level>warning</level><console>1</console></logger><path>{}/</path>
             <listen_host>127.0.0.1</listen_host><http_port>{port}</http_port><mark_cache_size>67108864</mark_cache_size>
             <profiles><default/></profiles><quotas><default/></quotas>
             <users><default><password></password><profile>default</profile><quota>default</quota>
             <networks><ip>127.0.0.1</ip></networks></default></users></clickhouse>",
            data.display()
        );
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(&program);
        command.arg("server").arg(format!("--config-file={}", file.display())).args(&more);
        command
    });
    let ready = |at: SocketAddr| answers(at, b"GET /ping HTTP/1.0\r\n\r\n", b"HTTP/1.0 200");
    let url = format!("http://127.0.0.1:{port}/kairos");
    Some(Server::launched(url, port, vec![launch], ready, wishes))
}
