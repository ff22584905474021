//! Servers that fail under load, and what is left afterwards: every accepted signal, once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ingest::servers::proxy::{Network, Proxy};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::json;

use crate::{
    COUNT,
    system::{Backends, System},
    task_done,
};

const KILLS: usize = 12;

/// Posts until told to stop; what was accepted, by person.
struct Load {
    stop: Arc<AtomicBool>,
    accepted: Arc<Mutex<BTreeMap<String, u64>>>,
    last: Arc<Mutex<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    fn on(system: &System, name: &'static str) -> Load {
        let (stop, accepted) =
            (Arc::new(AtomicBool::new(false)), Arc::<Mutex<BTreeMap<String, u64>>>::default());
        let last = Arc::<Mutex<String>>::default();
        let client = system.client("ingest");
        let (stopping, counted, position) = (stop.clone(), accepted.clone(), last.clone());
        let task = tokio::spawn(async move {
            let mut number = 0;
            while !stopping.load(Ordering::Relaxed) {
                let batch: Vec<_> = (0..5)
                    .map(|i| task_done(&format!("{name}-{number}-{i}"), &format!("{name}-{}", i % 3), 1))
                    .collect();
                // The same batch until it is taken, as a client does: what was taken before is a duplicate.
                let receipt = client.post_until_taken(&json!(batch)).await;
                assert_eq!(receipt["rejected"], json!([]), "{receipt}");
                for signal in &batch {
                    *counted
                        .lock()
                        .unwrap()
                        .entry(signal["subject"].as_str().unwrap().to_owned())
                        .or_default() += 1;
                }
                *position.lock().unwrap() = receipt["position"].as_str().unwrap().to_owned();
                number += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Load { stop, accepted, last, task }
    }

    /// Ends it, and compares features and history with what was accepted.
    async fn must_be_whole(self, system: &System) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        let (accepted, last) = (self.accepted.lock().unwrap().clone(), self.last.lock().unwrap().clone());
        assert!(accepted.values().sum::<u64>() > 50, "there was load: {accepted:?}");
        for (person, count) in &accepted {
            let values = system.values("api", person, &[COUNT], &last).await;
            assert_eq!(values, json!({COUNT: count}), "{person}");
            let whole = || async {
                let (_, export) = system.process("api").get(&format!("/v1/users/{person}/export")).await;
                let export = String::from_utf8(export.to_vec()).unwrap();
                let rows =
                    export.lines().filter(|l| l.contains("\"table\":\"task_completed\"")).count() as u64;
                assert!(rows <= *count, "{person}: {rows} rows of {count} signals");
                (rows == *count).then_some(())
            };
            system.eventually("every signal in history", whole).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_may_die_under_load_and_come_back() {
    let Some(backends) = Backends::start() else { return };
    let mut system = System::apart(backends);
    for which in ["redis", "clickhouse", "fluvio"] {
        let load = Load::on(&system, which);
        tokio::time::sleep(Duration::from_millis(700)).await;
        system.server(which).kill();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let told = async |system: &System| {
            let (_, ready) = system.process("api").get("/readyz").await;
            String::from_utf8(ready.to_vec()).unwrap()
        };
        let part = match which {
            "redis" => "online",
            "clickhouse" => "history",
            _ => "log",
        };
        let says = || async {
            let ready: serde_json::Value = serde_json::from_str(&told(&system).await).unwrap();
            let parts = ready["parts"].as_array().unwrap().clone();
            parts.iter().any(|p| p["part"] == part && p["ready"] == false).then_some(())
        };
        system.eventually("readiness names the part that is away", says).await;
        system.server(which).start();
        tokio::time::sleep(Duration::from_millis(500)).await;
        load.must_be_whole(&system).await;
    }
}

/// The instants are random, and what each role is at then: between any two of its writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_killed_at_random_instants_lose_and_double_nothing() {
    let Some(backends) = Backends::start() else { return };
    let mut system = System::apart(backends);
    let seed = std::env::var("CRASH_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}; run again with CRASH_SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    // Its door stays, so that the load has somewhere to go.
    let load = Load::on(&system, "random");
    for _ in 0..KILLS {
        let role = ["stream", "stream", "stream", "score", "api-2", "ingest-2"][rng.random_range(0..6)];
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..900))).await;
        system.kill(role);
        system.start_process(role);
    }
    load.must_be_whole(&system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_drops_stalls_and_slows_loses_and_doubles_nothing() {
    let Some(backends) = Backends::start() else { return };
    let (redis, clickhouse) =
        (Proxy::before(backends.redis.address()), Proxy::before(backends.clickhouse.address()));
    let mut backends = backends;
    backends.redis.url = format!("redis://{}", redis.address());
    backends.clickhouse.url = format!("http://{}/kairos", clickhouse.address());
    let system = System::apart(backends);
    for (name, proxy) in [("redis", &redis), ("clickhouse", &clickhouse)] {
        let load = Load::on(&system, name);
        let bad = [
            Network::Slow(Duration::from_millis(20), 1 << 12),
            Network::Dropping,
            Network::Whole,
            Network::Stalled,
        ];
        for network in bad {
            proxy.set(network);
            tokio::time::sleep(Duration::from_millis(1_200)).await;
        }
        proxy.set(Network::Whole);
        load.must_be_whole(&system).await;
    }
}
