//! A Fluvio cluster of one controller and one processing unit.

use std::{
    ffi::OsString,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{
    Certificates, Found, Launch, PATIENCE, Server, Wishes, find, free_port,
    proxy::{Network, Proxy},
};

/// The network before a cluster: every client is sent through it.
pub struct Between {
    controller: Proxy,
    unit: Proxy,
}

impl Between {
    /// Changes what the network does to controller and unit.
    pub fn set(&self, network: Network) {
        self.controller.set(network);
        self.unit.set(network);
    }

    /// Closes the connections there are; new ones are welcome.
    pub fn cut(&self) {
        self.controller.cut();
        self.unit.cut();
    }
}

/// A Fluvio cluster of one controller and one processing unit.
pub fn fluvio() -> Option<Server> {
    fluvio_with(&Wishes::default())
}

/// The same with wishes.
pub fn fluvio_with(wishes: &Wishes) -> Option<Server> {
    match find("KAIROS_TEST_FLUVIO_URL", "fluvio-run")? {
        Found::Running(url) => Some(Server::elsewhere(url)),
        Found::Program(program) => {
            let ports = Ports::free();
            Some(launch(program, &ports, (ports.controller, ports.unit), None, wishes))
        }
    }
}

/// One behind a network that breaks on command; always one of its own, never one that runs already.
pub fn fluvio_behind(wishes: &Wishes) -> Option<(Server, Between)> {
    let Found::Program(program) = find("", "fluvio-run")? else { return None };
    let ports = Ports::free();
    let before = |port| Proxy::before(SocketAddr::from(([127, 0, 0, 1], port)));
    let between = Between { controller: before(ports.controller), unit: before(ports.unit) };
    let (controller, unit) = (between.controller.address().port(), between.unit.address().port());
    Some((launch(program, &ports, (controller, unit), None, wishes), between))
}

/// One that is reached by TLS alone, and by those alone who show a certificate of the same authority.
pub fn fluvio_secured(certificates: &Certificates) -> Option<Server> {
    let Found::Program(program) = find("", "fluvio-run")? else { return None };
    let ports = Ports::free();
    let told = (ports.controller, ports.unit);
    Some(launch(program, &ports, told, Some(certificates), &Wishes::default()))
}

struct Ports {
    controller: u16,
    controller_private: u16,
    unit: u16,
    unit_private: u16,
}

impl Ports {
    fn free() -> Ports {
        let [controller, controller_private, unit, unit_private] = [(); 4].map(|()| free_port());
        Ports { controller, controller_private, unit, unit_private }
    }
}

/// Starts it; clients are told other ports of controller and unit where something stands between.
fn launch(
    program: PathBuf,
    ports: &Ports,
    (controller, unit): (u16, u16),
    certificates: Option<&Certificates>,
    wishes: &Wishes,
) -> Server {
    let (secure_controller, secure_unit) = (secure(certificates), secure(certificates));
    let (public, private) = (ports.controller, ports.controller_private);
    let (unit_public, unit_private) = (ports.unit, ports.unit_private);
    let controlling = {
        let program = program.clone();
        move |dir: &Path| {
            let units = dir.join("meta/SPU");
            std::fs::create_dir_all(&units).unwrap();
            let file = units.join("custom-spu-5001.yaml");
            if !file.exists() {
                std::fs::write(file, unit_metadata(unit, unit_private)).unwrap();
            }
            let mut command = Command::new(&program);
            command.env("RUST_LOG", "warn").arg("sc").arg("--local").arg(dir.join("meta"));
            command.args(["--bind-public", &format!("127.0.0.1:{public}")]);
            command.args(["--bind-private", &format!("127.0.0.1:{private}")]).args(&secure_controller);
            command
        }
    };
    let processing = move |dir: &Path| {
        // It gives up when the controller is not there yet.
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", private)).is_err() && began.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
        let mut command = Command::new(&program);
        command.env("RUST_LOG", "warn").args(["spu", "-i", "5001"]);
        command.args(["-p", &format!("127.0.0.1:{unit_public}"), "-v", &format!("127.0.0.1:{unit_private}")]);
        command.args(["--sc-addr", &format!("127.0.0.1:{private}"), "--log-base-dir"]).arg(dir.join("data"));
        command.args(&secure_unit);
        command
    };
    let launches: Vec<Launch> = vec![Box::new(controlling), Box::new(processing)];
    let ready = |at: SocketAddr| TcpStream::connect(at).is_ok();
    Server::launched(format!("fluvio://127.0.0.1:{controller}"), public, launches, ready, wishes)
}

/// What a program is told to listen by TLS.
fn secure(certificates: Option<&Certificates>) -> Vec<OsString> {
    let Some(certificates) = certificates else { return Vec::new() };
    let (certificate, key) = certificates.of("server");
    let plain = format!("127.0.0.1:{}", free_port());
    let files =
        [("--server-cert", certificate), ("--server-key", key), ("--ca-cert", certificates.authority())];
    let flags = ["--tls", "--enable-client-cert", "--bind-non-tls-public", &plain].map(OsString::from);
    let files = files.into_iter().flat_map(|(flag, file)| [flag.into(), file.into_os_string()]);
    flags.into_iter().chain(files).collect()
}

/// The controller's description of the processing unit.
fn unit_metadata(public: u16, private: u16) -> String {
    format!(
        "!1.0.0
meta:
  id: custom-spu-5001
  revision: 0
key: custom-spu-5001
status:
  resolution: Init
spec:
  spuId: 5001
  spuType: Custom
  publicEndpoint:
    port: {public}
    ingress:
    - hostname: 127.0.0.1
      ip: null
    encryption: PLAINTEXT
  privateEndpoint:
    port: {private}
    host: 127.0.0.1
    encryption: PLAINTEXT
"
    )
}
