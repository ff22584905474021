//! Redis in other shapes: with TLS and a password, and as a cluster.

use std::{path::Path, process::Command, time::Duration};

use ingest::servers::{self, Server, Wishes};

fn with(arguments: Vec<String>) -> Option<Server> {
    servers::redis_with(&Wishes { arguments, ..Wishes::default() }).filter(Server::is_own)
}

/// One that speaks TLS on the port of the URL, under a certificate of the authority in `dir/ca.pem`, and wants the
/// password `right`.
pub fn tls(dir: &Path) -> Option<(Server, String)> {
    let run = |arguments: &str| {
        let made = Command::new("openssl").current_dir(dir).args(arguments.split(' ')).output();
        made.is_ok_and(|made| made.status.success())
    };
    std::fs::write(dir.join("leaf.ext"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let made = run(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"))
        && run(&format!("req {key} -keyout leaf.key -out leaf.csr -subj /CN=redis"))
        && run(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile leaf.ext -out leaf.pem",
        );
    if !made {
        println!("skipped: no openssl");
        return None;
    }
    let port = servers::free_port();
    let file = |name: &str| dir.join(name).display().to_string();
    let pairs = [
        ("--tls-port", port.to_string()),
        ("--tls-cert-file", file("leaf.pem")),
        ("--tls-key-file", file("leaf.key")),
        ("--tls-ca-cert-file", file("ca.pem")),
        ("--tls-auth-clients", "no".to_owned()),
        ("--requirepass", "right".to_owned()),
    ];
    let server = with(pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect())?;
    Some((server, format!("rediss://127.0.0.1:{port}")))
}

/// A cluster of three; its URL, and its servers.
pub fn cluster() -> Option<(Vec<Server>, String)> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let bus = servers::free_port();
        let arguments = ["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()];
        nodes.push((with(arguments.map(String::from).into())?, bus));
    }
    let ask = |node: &Server, command: &mut redis::Cmd| -> redis::Value {
        let mut connection = redis::Client::open(node.url.as_str()).unwrap().get_connection().unwrap();
        command.query(&mut connection).unwrap()
    };
    let spans = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];
    for ((node, _), (from, to)) in nodes.iter().zip(spans) {
        ask(node, redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(from).arg(to));
    }
    for (node, bus) in &nodes[1..] {
        let port = node.address().port();
        ask(&nodes[0].0, redis::cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(port).arg(*bus));
    }
    let knows_all = |node: &Server| match ask(node, redis::cmd("CLUSTER").arg("INFO")) {
        redis::Value::BulkString(info) => {
            let info = String::from_utf8_lossy(&info).into_owned();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        }
        redis::Value::VerbatimString { text, .. } => text.contains("cluster_state:ok"),
        _ => false,
    };
    let began = std::time::Instant::now();
    while !nodes.iter().all(|(node, _)| knows_all(node)) {
        assert!(began.elapsed() < Duration::from_secs(30), "the cluster did not come together");
        std::thread::sleep(Duration::from_millis(50));
    }
    let addresses: Vec<String> = nodes.iter().map(|(node, _)| node.address().to_string()).collect();
    let url = format!("redis+cluster://{}", addresses.join(","));
    Some((nodes.into_iter().map(|(node, _)| node).collect(), url))
}
