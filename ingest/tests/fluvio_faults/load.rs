//! Callers that never give up, and readers that count.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use ingest::{
    catalogue::Catalogue,
    log::{Append, FluvioOptions, Log, LogError, LogOptions, Position, Reader, Topic, fluvio::FluvioLog},
};
use tokio::{task::JoinHandle, time::timeout};

/// How long an append may take in these tests.
pub const PATIENCE: Duration = Duration::from_secs(3);

pub fn options(prefix: &str) -> LogOptions {
    LogOptions {
        partitions: 2,
        catalogue: Some(Arc::new(Catalogue::load(&[]).unwrap())),
        clock: Some(Arc::new(|| 1_769_860_800_000)),
        fluvio: FluvioOptions { topic_prefix: prefix.into(), patience: PATIENCE, ..FluvioOptions::default() },
        ..LogOptions::default()
    }
}

/// Waits for a cluster that has just been started.
pub fn open(url: &str, options: &LogOptions) -> Arc<FluvioLog> {
    let began = Instant::now();
    loop {
        match FluvioLog::open(url, options.clone()) {
            Ok(log) => return Arc::new(log),
            Err(LogError::Unavailable(_)) if began.elapsed() < Duration::from_secs(40) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn record(key: u128, payload: Bytes) -> Append {
    Append { subject: format!("u{}", key % 17), key, payload }
}

pub fn reader(log: &dyn Log) -> Box<dyn Reader> {
    log.reader(Topic::Signals, &[0, 1], &Position::default()).unwrap()
}

/// Callers that append batches, each one again until it is acknowledged.
pub struct Load {
    callers: Vec<JoinHandle<Vec<u128>>>,
    over: Arc<AtomicBool>,
}

impl Load {
    pub fn start(log: &Arc<FluvioLog>, callers: u128) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let callers = (0..callers).map(|caller| {
            let (log, over) = (log.clone(), over.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for batch in 0u128.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let keys: Vec<u128> =
                        (0..10).map(|i| (caller + 1) << 40 | (batch * 10 + i + 1)).collect();
                    let records =
                        || keys.iter().map(|key| record(*key, Bytes::from_static(b"payload"))).collect();
                    while let Err(error) = log.append(Topic::Signals, records()).await {
                        assert!(matches!(error, LogError::Unavailable(_)), "{error}");
                    }
                    acknowledged.extend(keys);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                acknowledged
            })
        });
        Load { callers: callers.collect(), over }
    }

    /// Every key that was acknowledged.
    pub async fn stop(self) -> Vec<u128> {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for caller in self.callers {
            all.extend(timeout(Duration::from_secs(60), caller).await.expect("appends go on").unwrap());
        }
        all
    }
}

/// Reads until every key was seen; none may be seen twice.
pub async fn sees_each_once(reader: &mut dyn Reader, seen: &mut HashMap<u128, u32>, keys: &[u128]) {
    let all = async {
        while keys.iter().any(|key| !seen.contains_key(key)) {
            for record in reader.next(1000).await.unwrap() {
                *seen.entry(record.key).or_default() += 1;
            }
        }
    };
    let done = timeout(Duration::from_secs(40), all).await;
    let missing = keys.iter().filter(|key| !seen.contains_key(key)).count();
    assert!(done.is_ok(), "{missing} of {} acknowledged records do not come", keys.len());
    let twice = seen.iter().filter(|(_, times)| **times > 1).count();
    assert_eq!(twice, 0, "records shown twice");
}
