//! Random signals of a few people, in history, with views over them; and a cluster.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use features::{
    Functions, Registry,
    offline::{OfflineStore, Options as HistoryOptions, ParquetHistory},
};
use ingest::{
    Millis,
    catalogue::{Catalogue, UnknownFields},
    log::Position,
    record::Record,
};
use pipelines::ballista::{Cluster, Options, serve};
use rand::{Rng, rngs::StdRng};
use serde_json::json;

pub const PEOPLE: u32 = 6;
pub const START: Millis = 1_700_000_000_000;
pub const END: Millis = START + 40 * 86_400_000;

pub struct World {
    pub dir: tempfile::TempDir,
    pub history: Arc<dyn OfflineStore>,
    pub catalogue: Arc<Catalogue>,
    pub registry: Registry,
    /// When signals happened.
    pub times: Vec<Millis>,
    /// How many there are.
    pub signals: u64,
}

impl World {
    /// Some signals of every type that has a JSON example here; most in files, some not yet.
    pub fn random(rng: &mut StdRng, many: usize) -> World {
        let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
        let shipped =
            std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/views")).unwrap();
        let mut texts: Vec<(String, String)> = shipped
            .map(|f| f.unwrap().path())
            .map(|p| (p.display().to_string(), std::fs::read_to_string(&p).unwrap()))
            .collect();
        texts.sort();
        let more = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ballista/views.sql");
        texts.push(("views.sql".into(), std::fs::read_to_string(more).unwrap()));
        let texts: Vec<(&str, &str)> = texts.iter().map(|(f, t)| (f.as_str(), t.as_str())).collect();
        let registry = Registry::from_texts(&catalogue, &texts).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let history =
            ParquetHistory::open(&dir.path().join("history"), HistoryOptions::new(Arc::new(|| 0))).unwrap();
        let mut times = Vec::new();
        for offset in 0..many {
            let time = rng.random_range(START..END) / 60_000 * 60_000;
            times.push(time);
            let (name, data) = signal(rng);
            let kind = catalogue.get(name).unwrap();
            let record = Record {
                kind: kind.name.clone(),
                // In another order than the log's, where times are the same.
                id: format!("{:04}", offset * 7 % 10_000),
                source: format!("s{}", offset % 2),
                subject: format!("u{}", rng.random_range(0..PEOPLE)),
                time,
                received_at: time
                    + if rng.random_bool(0.2) { rng.random_range(0..10 * 3_600_000) } else { 0 },
                data: kind.encode_value(&data, UnknownFields::Reject).unwrap().into(),
                extensions: vec![],
            };
            let mut table = kind.builder();
            table.append(0, offset as u64, &record).unwrap();
            history.append(&kind.table, table.finish()).unwrap();
            if offset % 400 == 399 {
                history.flush(&Position([(0, offset as u64 + 1)].into())).unwrap();
            }
        }
        World { dir, history: Arc::new(history), catalogue, registry, times, signals: many as u64 }
    }

    pub fn cluster(&self, servers: &Servers, with: impl FnOnce(&mut Options)) -> Cluster {
        let mut options = Options::new(&servers.scheduler.to_string(), self.dir.path().join("staging"));
        (options.jobs, options.least_rows) = (4, 20);
        options.timeout = Duration::from_secs(50);
        with(&mut options);
        let (catalogue, history) = (self.catalogue.clone(), self.history.clone());
        Cluster::connect(options, history, catalogue, self.registry.tables(), self.registry.functions())
            .unwrap()
    }
}

fn signal(rng: &mut StdRng) -> (&'static str, serde_json::Value) {
    match rng.random_range(0..10) {
        0 => {
            let zone = ["Europe/Oslo", "America/New_York", "Asia/Kolkata"][rng.random_range(0..3)];
            let place = ["home", "work"][rng.random_range(0..2)];
            let zone = rng.random_bool(0.6).then_some(zone);
            ("context.changed", json!({"time_zone": zone, "place": place}))
        }
        1 => ("mood.reported", json!({"mood": rng.random_range(0..5)})),
        2 => ("task.created", json!({"project": format!("p{}", rng.random_range(0..4)), "priority": "high"})),
        _ => {
            let minutes = rng.random_bool(0.8).then(|| rng.random_range(1..90));
            ("task.completed", json!({"minutes": minutes, "project": format!("p{}", rng.random_range(0..5))}))
        }
    }
}

/// A scheduler and executors, each with threads of its own, so that it can be ended like a process.
pub struct Servers {
    pub scheduler: SocketAddr,
    executors: Vec<Option<tokio::runtime::Runtime>>,
    _scheduler: tokio::runtime::Runtime,
    work: tempfile::TempDir,
}

impl Servers {
    pub fn start(executors: usize) -> Servers {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let scheduler = listener.local_addr().unwrap();
        let runs = serve::runtime().unwrap();
        runs.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let options = serve::Scheduler { host: "127.0.0.1".into(), patience: Duration::from_secs(6) };
            serve::scheduler(listener, options, &Functions::none()).await.unwrap();
        });
        let mut servers = Servers {
            scheduler,
            executors: Vec::new(),
            _scheduler: runs,
            work: tempfile::tempdir().unwrap(),
        };
        (0..executors).for_each(|_| servers.add());
        servers
    }

    pub fn add(&mut self) {
        let runs = serve::runtime().unwrap();
        let options = serve::Executor {
            scheduler_host: self.scheduler.ip().to_string(),
            scheduler_port: self.scheduler.port(),
            listen: "127.0.0.1:0".parse().unwrap(),
            host: None,
            slots: 2,
            work: self.work.path().join(self.executors.len().to_string()),
            memory: 256 << 20,
        };
        runs.spawn(async move { serve::executor(options, &Functions::none()).await });
        self.executors.push(Some(runs));
    }

    /// How many results of jobs lie with an executor.
    pub fn results(&self, i: usize) -> usize {
        std::fs::read_dir(self.work.path().join(i.to_string())).map_or(0, Iterator::count)
    }

    /// Ends an executor without a word.
    pub fn kill(&mut self, i: usize) {
        self.executors[i].take().unwrap().shutdown_background();
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.executors
            .iter_mut()
            .flat_map(Option::take)
            .for_each(tokio::runtime::Runtime::shutdown_background);
    }
}
