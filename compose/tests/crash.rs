//! Kills the process at random instants under load, and then finds every acknowledged signal exactly once:
//! in the log, in the features, in history.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use features::offline::{OfflineStore, ScanFilter};
use hyper::Method;
use ingest::{
    log::{Log, Position, Topic, embedded::EmbeddedLog},
    record::Record,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use support::{Server, json_or_null};

const KILLS: usize = 50;
const CLIENTS: usize = 4;
const PEOPLE: usize = 12;

/// What the clients know.
#[derive(Default)]
struct Notes {
    /// Subject of each signal that was acknowledged, by id.
    acknowledged: HashMap<String, String>,
    /// Every signal sent, acknowledged or not, by id.
    sent: HashMap<String, Value>,
    /// Behind every acknowledged signal.
    position: Position,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_instants_nothing_acknowledged_is_lost_or_doubled() {
    let seed = std::env::var("CRASH_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    println!("seed {seed}; run again with CRASH_SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let data = tempfile::tempdir().unwrap();
    // Often enough that some kills hit a checkpoint under way.
    let settings = data.path().join("often.toml");
    std::fs::write(&settings, "[stream]\ncheckpoint_seconds = 0.05\n").unwrap();
    let often = ["--config", settings.to_str().unwrap()];
    let notes = Arc::new(Mutex::new(Notes::default()));
    let began = Instant::now();
    let mut ready = Vec::new();

    for round in 0..KILLS {
        let starting = Instant::now();
        let mut server = Server::start_with(data.path(), &often);
        ready.push(starting.elapsed());
        let shared = Arc::new(server_client(&server));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|c| {
                tokio::spawn(client(shared.clone(), notes.clone(), rng.random(), format!("{round}-{c}")))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..700))).await;
        server.kill();
        for c in clients {
            c.await.unwrap();
        }
    }

    let mut notes = std::mem::take(&mut *notes.lock().unwrap());
    println!(
        "{KILLS} kills in {:.1} s, {} signals sent, {} acknowledged, slowest start {:.2} s",
        began.elapsed().as_secs_f64(),
        notes.sent.len(),
        notes.acknowledged.len(),
        ready.iter().max().unwrap().as_secs_f64()
    );
    assert!(notes.acknowledged.len() > KILLS, "there was load");

    let server = Server::start(data.path());
    assert_repeats_are_duplicates(&server, &mut notes).await;
    let in_log = read_log(data.path());
    assert_features_agree(&server, &in_log, &notes.position).await;
    server.stop();
    assert_each_once(&in_log, &notes.acknowledged);
    assert_history_agrees(data.path(), &in_log);
    println!("the whole test took {:.1} s", began.elapsed().as_secs_f64());
}

/// The parts of a server that clients need after it is gone.
fn server_client(server: &Server) -> String {
    server.address.clone()
}

async fn client(address: Arc<String>, notes: Arc<Mutex<Notes>>, seed: u64, name: String) {
    let http: hyper_util::client::legacy::Client<_, http_body_util::Full<bytes::Bytes>> =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let mut rng = SmallRng::seed_from_u64(seed);
    for number in 0.. {
        let batch: Vec<Value> =
            (0..rng.random_range(1..6)).map(|i| signal(&format!("{name}-{number}-{i}"), &mut rng)).collect();
        {
            let mut notes = notes.lock().unwrap();
            notes.sent.extend(batch.iter().map(|s| (text(&s["id"]), s.clone())));
        }
        let request = hyper::Request::builder()
            .method(Method::POST)
            .uri(format!("http://{address}/v1/signals"))
            .header("content-type", "application/cloudevents-batch+json")
            .body(http_body_util::Full::new(Value::from(batch.clone()).to_string().into()))
            .unwrap();
        // From here on a broken connection says that the server is gone; what it did is not known.
        let Ok(answer) = http.request(request).await else { return };
        let status = answer.status();
        let Ok(body) = http_body_util::BodyExt::collect(answer.into_body()).await else { return };
        let body = json_or_null(&body.to_bytes());
        assert_eq!(status, 202, "{body}");
        assert_eq!(body["accepted"], batch.len(), "{body}");
        let position: Position = text(&body["position"]).parse().unwrap();
        let mut notes = notes.lock().unwrap();
        notes.acknowledged.extend(batch.iter().map(|s| (text(&s["id"]), text(&s["subject"]))));
        for (partition, offset) in position.0 {
            let known = notes.position.0.entry(partition).or_insert(0);
            *known = (*known).max(offset);
        }
    }
}

fn signal(id: &str, rng: &mut SmallRng) -> Value {
    json!({
        "id": id,
        "source": "crash",
        "type": "task.completed",
        "subject": format!("person-{}", rng.random_range(0..PEOPLE)),
        "data": {"task": id, "minutes": rng.random_range(1..100), "project": "p"},
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("text expected, got {value}")).to_owned()
}

/// Everything acknowledged is known to the door. What was not acknowledged may be there or not; sent again
/// it is there once.
async fn assert_repeats_are_duplicates(server: &Server, notes: &mut Notes) {
    let (old, open): (Vec<_>, Vec<_>) =
        notes.sent.iter().partition(|(id, _)| notes.acknowledged.contains_key(*id));
    for chunk in old.chunks(500) {
        let body = Value::from(chunk.iter().map(|(_, s)| (*s).clone()).collect::<Vec<_>>()).to_string();
        let (status, answer) =
            server.post_text("/v1/signals", "application/cloudevents-batch+json", body).await;
        assert_eq!(status, 202);
        assert_eq!(answer["duplicates"], chunk.len(), "an acknowledged signal is unknown: {answer}");
    }
    let mut again = Vec::new();
    for chunk in open.chunks(500) {
        let body = Value::from(chunk.iter().map(|(_, s)| (*s).clone()).collect::<Vec<_>>()).to_string();
        let (status, answer) =
            server.post_text("/v1/signals", "application/cloudevents-batch+json", body).await;
        assert_eq!(status, 202);
        assert_eq!(answer["rejected"], json!([]));
        notes.position = text(&answer["position"]).parse().unwrap();
        again.extend(chunk.iter().map(|(id, s)| ((*id).clone(), text(&s["subject"]))));
    }
    notes.acknowledged.extend(again);
}

/// Ids and minutes of the signals in the log, by subject.
type InLog = BTreeMap<String, Vec<(String, i64)>>;

fn read_log(data: &Path) -> InLog {
    let catalogue = ingest::catalogue::Catalogue::load(&[]).unwrap();
    let kind = catalogue.get("task.completed").unwrap();
    let log = EmbeddedLog::open_read_only(&data.join("log")).unwrap();
    let partitions: Vec<u32> = (0..log.partitions(Topic::Signals)).collect();
    let mut reader = log.reader(Topic::Signals, &partitions, &Position::default()).unwrap();
    let mut found = InLog::new();
    loop {
        let records = reader.poll(10_000).unwrap();
        if records.is_empty() {
            return found;
        }
        for entry in records {
            let record = Record::decode(&entry.subject, &entry.payload).unwrap();
            let minutes = kind.decode_json(&record.data).unwrap()["minutes"].clone();
            let minutes = minutes.as_i64().or_else(|| minutes.as_str()?.parse().ok()).unwrap();
            found.entry(record.subject).or_default().push((record.id, minutes));
        }
    }
}

fn assert_each_once(in_log: &InLog, acknowledged: &HashMap<String, String>) {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for (subject, signals) in in_log {
        for (id, _) in signals {
            assert_eq!(seen.insert(id, subject), None, "{id} is in the log twice");
        }
    }
    for (id, subject) in acknowledged {
        assert_eq!(seen.get(id.as_str()), Some(&subject.as_str()), "{id} was acknowledged");
    }
    assert_eq!(seen.len(), acknowledged.len());
}

async fn assert_features_agree(server: &Server, in_log: &InLog, position: &Position) {
    for (subject, signals) in in_log {
        let values = server
            .features(
                subject,
                &["task_activity.completed_7d", "task_activity.minutes_7d"],
                &position.to_string(),
            )
            .await;
        assert_eq!(values["task_activity.completed_7d"], signals.len(), "{subject}");
        let minutes: i64 = signals.iter().map(|(_, m)| m).sum();
        assert_eq!(values["task_activity.minutes_7d"], minutes, "{subject}");
    }
}

fn assert_history_agrees(data: &Path, in_log: &InLog) {
    let options = features::offline::Options::new(Arc::new(|| 0));
    let history = features::offline::ParquetHistory::open_read_only(&data.join("history"), options).unwrap();
    let mut ids = BTreeSet::new();
    let mut rows = 0;
    for batch in history.scan("task_completed", &ScanFilter::default()).unwrap() {
        let column = batch.column_by_name("id").unwrap();
        let column = column.as_any().downcast_ref::<arrow::array::StringArray>().unwrap();
        rows += batch.num_rows();
        ids.extend(column.iter().map(|id| id.unwrap().to_owned()));
    }
    let expected: BTreeSet<String> = in_log.values().flatten().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids, expected, "history holds what the log holds");
    assert_eq!(rows, expected.len(), "each of them once");
}
