use std::path::Path;

use bytes::Bytes;

use crate::log::{embedded::EmbeddedLog, *};

pub fn record(subject: &str, key: u128, payload: &str) -> Append {
    Append { subject: subject.into(), key, payload: Bytes::copy_from_slice(payload.as_bytes()) }
}

pub fn small() -> LogOptions {
    LogOptions { segment_bytes: 1 << 10, ..LogOptions::default() }
}

pub fn everything(log: &dyn Log, topic: Topic) -> Vec<LogRecord> {
    let partitions: Vec<_> = (0..log.partitions(topic)).collect();
    let mut reader = log.reader(topic, &partitions, &Position::default()).unwrap();
    reader.poll(usize::MAX).unwrap()
}

pub fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, small()).unwrap()
}

#[tokio::test]
async fn append_read_reopen_and_repeats() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5u128 {
        let log = open(dir.path());
        for i in 0..100u128 {
            let answer =
                log.append(Topic::Signals, vec![record(&format!("u{i}"), i + 1, "some payload")]).await;
            let answer = answer.unwrap()[0];
            assert_eq!(answer == Appended::Duplicate, round > 0, "{i} in round {round}: {answer:?}");
        }
        assert_eq!(everything(&log, Topic::Signals).len(), 100);
        assert!(std::fs::read_dir(dir.path().join("signals")).unwrap().count() > 5);
    }
}
