//! The checkpoint protocol, cut between any two steps: before each sync, rename and removal of a file of history
//! and each sync of the state file, a run is copied as a crash there would leave it; the state file once with all
//! that was written and not yet synced, once with none of it, once with a part drawn by a seed. From every such
//! copy the job comes back to the same values, with every signal in history once. (What a crash can leave of
//! history's files alone is tried where history is.)
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::array::AsArray;
use features::{
    FeatureStore, Registry, Value,
    offline::{
        OfflineStore, ParquetHistory, ScanFilter,
        parquet::{
            Options,
            disk::{FileHook, FileOp},
        },
    },
    online,
    store::Applied,
};
use ingest::{
    Millis,
    catalogue::{Catalogue, UnknownFields},
    log::{Append, Log, LogOptions, Topic, embedded::EmbeddedLog},
    record::Record,
};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use stream_jobs::{
    Job, JobOptions,
    checkpoint::{Checkpoint, StateHook, StateOp},
};

use support::copy_dir;

const VIEWS: &str = "
    CREATE FEATURE VIEW tasks ENTITY user_id WINDOWS (1 HOUR, TODAY, LIFETIME)
    AS SELECT subject AS user_id, count(*) AS n, sum(minutes) AS minutes, last(project) AS latest FROM task_completed
    GROUP BY user_id;
    CREATE FEATURE VIEW mood ENTITY user_id WINDOWS (7 DAYS)
    AS SELECT m.subject AS user_id, avg(mood) AS mean, count(DISTINCT c.place) AS places FROM mood_reported m
    LEFT JOIN context_changed c ON c.subject = m.subject GROUP BY user_id;";
const NOON: Millis = 1_767_268_800_000;
const PEOPLE: [&str; 3] = ["ada", "bo", "żółw"];

/// What a crash would leave.
struct Image {
    history: PathBuf,
    state: Vec<u8>,
}

/// Watches a run's files.
struct Crashes {
    root: PathBuf,
    images: PathBuf,
    taken: Vec<Image>,
    /// The state file as last synced, and what was done to it since.
    synced: Vec<u8>,
    pending: Vec<Pending>,
    rng: StdRng,
}

enum Pending {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl Crashes {
    /// Keeps what a crash now would leave, the state file in each of these ways: with a change not yet synced or
    /// without it.
    fn image(&mut self, ways: &[fn(&mut StdRng) -> bool]) {
        for keeps in ways {
            let mut state = self.synced.clone();
            for p in &self.pending {
                if keeps(&mut self.rng) {
                    apply(&mut state, p);
                }
            }
            let history = self.images.join(self.taken.len().to_string());
            copy_dir(&self.root.join("history"), &history);
            self.taken.push(Image { history, state });
        }
    }

    fn on_history(&mut self, op: FileOp) {
        if !matches!(op, FileOp::Create | FileOp::Write) {
            self.image(&[|_| true]);
        }
    }

    fn on_state(&mut self, op: &StateOp<'_>) {
        match op {
            StateOp::Write(at, bytes) => self.pending.push(Pending::Write(*at, bytes.to_vec())),
            StateOp::SetLen(len) => self.pending.push(Pending::SetLen(*len)),
            StateOp::Sync => {
                self.image(&[|_| true, |_| false, |rng| rng.random_bool(0.5)]);
                for p in std::mem::take(&mut self.pending) {
                    apply(&mut self.synced, &p);
                }
            }
        }
    }
}

fn apply(state: &mut Vec<u8>, p: &Pending) {
    match p {
        Pending::SetLen(len) => state.resize(*len as usize, 0),
        Pending::Write(at, bytes) => {
            let end = *at as usize + bytes.len();
            if state.len() < end {
                state.resize(end, 0);
            }
            state[*at as usize..end].copy_from_slice(bytes);
        }
    }
}

struct Setup {
    catalogue: Arc<Catalogue>,
    registry: Arc<Registry>,
    log: Arc<EmbeddedLog>,
    runtime: tokio::runtime::Runtime,
}

impl Setup {
    fn open(&self, dir: &Path, hooks: Option<(FileHook, StateHook)>) -> (Job, FeatureStore) {
        let clock: ingest::Clock = Arc::new(|| 0);
        let (file_hook, state_hook) = hooks.unzip();
        let options = Options { hook: file_hook, ..Options::new(clock.clone()) };
        let history: Arc<dyn OfflineStore> =
            Arc::new(ParquetHistory::open(&dir.join("history"), options).unwrap());
        let online =
            online::open("embedded:", &online::OnlineOptions::new(self.registry.views().len())).unwrap();
        let features = FeatureStore::new(self.registry.clone(), online.clone(), history, Applied::default());
        let options = JobOptions { state_hook, ..JobOptions::new(dir.join("state.redb")) };
        let (log, catalogue) = (self.log.clone(), self.catalogue.clone());
        (Job::open(log, catalogue, &features, online, clock, options).unwrap(), features)
    }

    fn append(&self, signals: &[(u32, &str, &str, i64, serde_json::Value)]) {
        let entry = |(id, kind, subject, time, data): &(u32, &str, &str, i64, serde_json::Value)| {
            let declared = self.catalogue.get(kind).unwrap();
            let record = Record {
                kind: declared.name.clone(),
                id: id.to_string(),
                source: "test".to_owned(),
                subject: (*subject).to_owned(),
                time: NOON + time,
                received_at: NOON + time,
                data: declared.encode_value(data, UnknownFields::Reject).unwrap().into(),
                extensions: vec![],
            };
            // Without a key the log takes repeats, so that it is the job that must find them.
            Append { subject: record.subject.clone(), key: 0, payload: record.encode() }
        };
        let records = signals.iter().map(entry).collect();
        self.runtime.block_on(self.log.append(Topic::Signals, records)).unwrap();
    }

    fn drain(&self, job: &mut Job, batch: usize) {
        let partitions: Vec<u32> = (0..self.log.partitions(Topic::Signals)).collect();
        let mut reader = self.log.reader(Topic::Signals, &partitions, job.position()).unwrap();
        loop {
            let records = reader.poll(batch).unwrap();
            if records.is_empty() {
                return;
            }
            job.apply(&records).unwrap();
        }
    }

    fn save(&self, job: &mut Job) {
        self.runtime.block_on(job.save()).unwrap();
    }

    /// Every value of everyone at several instants, now and as of then.
    fn values(&self, features: &FeatureStore) -> BTreeMap<String, Value> {
        let names: Vec<String> = self.registry.feature_names().collect();
        let prepared = self.registry.prepare(&names).unwrap();
        let mut all = BTreeMap::new();
        for at in [NOON + 400_000, NOON + 3_700_000, NOON + 90_000_000] {
            for who in PEOPLE {
                let now = features.read_here(&prepared, who, at).unwrap().values;
                let past = features.read_as_of(&prepared, &[who], at).unwrap().remove(0).values;
                for (name, (now, past)) in names.iter().zip(now.into_iter().zip(past)) {
                    all.insert(format!("now {name} {who} {at}"), now);
                    all.insert(format!("as of {name} {who} {at}"), past);
                }
            }
        }
        all
    }
}

fn ids(history: &dyn OfflineStore, table: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for batch in history.scan(table, &ScanFilter::default()).unwrap() {
        ids.extend(
            batch.column_by_name("id").unwrap().as_string::<i32>().iter().map(|i| i.unwrap().to_owned()),
        );
    }
    ids.sort();
    ids
}

/// Signals by twos and threes, with repeats, equal times and late ones.
fn signals(seed: u64) -> Vec<Vec<(u32, &'static str, &'static str, i64, serde_json::Value)>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut one = || {
        let id = rng.random_range(0..14);
        let who = PEOPLE[(id % 3) as usize];
        let time = i64::from(id * 37 % 11) * 60_000;
        match id % 4 {
            0 | 1 => (
                id,
                "task.completed",
                who,
                time,
                serde_json::json!({"minutes": id, "project": format!("p{}", id % 3)}),
            ),
            2 => (id, "mood.reported", who, time, serde_json::json!({"mood": id % 5})),
            _ => (
                id,
                "context.changed",
                who,
                time,
                serde_json::json!({"place": format!("at{id}"), "time_zone": "Asia/Tokyo"}),
            ),
        }
    };
    (0..6).map(|_| (0..4).map(|_| one()).collect()).collect()
}

#[test]
fn a_crash_between_any_two_steps_changes_nothing() {
    // One seed is a hundred crashes.
    let seeds = std::env::var("KAIROS_CRASH_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    for seed in 0..seeds {
        let dir = tempfile::tempdir().unwrap();
        let catalogue = Arc::new(Catalogue::load(&[]).unwrap());
        let registry =
            Registry::from_texts(&catalogue, &[("views.sql", VIEWS)]).unwrap_or_else(|e| panic!("{e}"));
        let options = LogOptions { partitions: 2, ..LogOptions::default() };
        let setup = Setup {
            log: Arc::new(EmbeddedLog::open(&dir.path().join("log"), options).unwrap()),
            registry: Arc::new(registry),
            catalogue,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        };
        let run = dir.path().join("run");
        fs::create_dir_all(&run).unwrap();
        // Made under another name first, so there is always a whole file.
        drop(Checkpoint::open(&run.join("state.redb"), None).unwrap());
        let crashes = Arc::new(Mutex::new(Crashes {
            root: run.clone(),
            images: dir.path().join("images"),
            taken: Vec::new(),
            synced: fs::read(run.join("state.redb")).unwrap(),
            pending: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
        }));
        let (on_file, on_state) = (crashes.clone(), crashes.clone());
        let file_hook: FileHook = Arc::new(move |op, _| {
            on_file.lock().on_history(op);
            Ok(())
        });
        let state_hook = StateHook(Arc::new(move |op| on_state.lock().on_state(op)));
        let (mut job, features) = setup.open(&run, Some((file_hook, state_hook)));
        for (i, some) in signals(seed).iter().enumerate() {
            setup.append(some);
            setup.drain(&mut job, 1 + i);
            job.sweep(NOON + 3_000_000, 2).unwrap();
            setup.save(&mut job);
        }
        let wanted = setup.values(&features);
        let tables = ["task_completed", "mood_reported", "context_changed"];
        let in_history: Vec<_> = tables.iter().map(|t| ids(&**features.history(), t)).collect();
        drop((job, features));

        let images = std::mem::take(&mut crashes.lock().taken);
        println!("seed {seed}: {} crashes", images.len());
        assert!(images.len() > 60, "only {} steps were watched", images.len());
        for (step, image) in images.into_iter().enumerate() {
            let again = dir.path().join("again");
            let _ = fs::remove_dir_all(&again);
            fs::create_dir_all(&again).unwrap();
            fs::rename(&image.history, again.join("history")).unwrap();
            fs::write(again.join("state.redb"), &image.state).unwrap();
            let (mut job, features) = setup.open(&again, None);
            setup.drain(&mut job, 3);
            let what = format!("seed {seed}, crash {step}");
            assert_eq!(setup.values(&features), wanted, "{what}, before a checkpoint of its own");
            setup.save(&mut job);
            for (table, wanted) in tables.iter().zip(&in_history) {
                assert_eq!(ids(&**features.history(), table), *wanted, "{table} of history, {what}");
            }
            if step % 8 == 0 {
                drop((job, features));
                let (_, features) = setup.open(&again, None);
                assert_eq!(setup.values(&features), wanted, "{what}, started once more");
            }
        }
    }
}
