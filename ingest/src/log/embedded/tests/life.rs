//! Locks, permissions, retention, erasure, reading beside a writer, being killed.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::*;

#[test]
fn a_second_opener_is_told_who_is_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    match EmbeddedLog::open(dir.path(), small()).err() {
        Some(LogError::Locked(text)) => assert!(text.contains(&*dir.path().to_string_lossy()), "{text}"),
        other => panic!("{other:?}"),
    }
    drop(log);
    open(dir.path());
}

#[tokio::test]
async fn files_are_for_the_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data").join("log");
    let log = EmbeddedLog::open(&root, small()).unwrap();
    fill(&log, 1..=50).await;
    log.commit("c", Topic::Signals, &Position::default()).await.unwrap();
    drop(log);
    let mut left = vec![root];
    let mut seen = 0;
    while let Some(path) = left.pop() {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        if path.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
            left.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else {
            assert_eq!(mode, 0o600, "{}", path.display());
        }
        seen += 1;
    }
    assert!(seen > 10);
}

#[test]
fn the_number_of_partitions_is_fixed() {
    let dir = tempfile::tempdir().unwrap();
    let with = |partitions| LogOptions { partitions, ..LogOptions::default() };
    assert!(matches!(EmbeddedLog::open(dir.path(), with(0)).err(), Some(LogError::Refused(_))));
    let log = EmbeddedLog::open(dir.path(), with(3)).unwrap();
    assert_eq!((log.partitions(Topic::Signals), log.partitions(Topic::Rewards)), (3, 1));
    drop(log);
    assert_eq!(EmbeddedLog::open(dir.path(), with(8)).unwrap().partitions(Topic::Signals), 3);
}

#[test]
fn urls_name_the_backend() {
    let dir = tempfile::tempdir().unwrap();
    super::super::super::open("embedded:", dir.path(), LogOptions::default()).unwrap();
    for (url, said) in
        [("fluvio://localhost", "log.url"), ("kafka://x", "`kafka://x`"), ("nonsense", "`embedded:`")]
    {
        match crate::log::open(url, dir.path(), LogOptions::default()).err() {
            Some(LogError::Refused(text)) => assert!(text.contains(said), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

#[tokio::test]
async fn retention_drops_the_oldest_by_size_and_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { retain_bytes: Some(3000), ..small() };
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    fill(&log, 1..=100).await;
    let partitions: Vec<_> = (0..4).collect();
    let mut running = log.reader(Topic::Signals, &partitions, &Position::default()).unwrap();
    assert_eq!(running.poll(1).unwrap().len(), 1);
    let size = |dir: &Path| segments(dir).iter().map(|p| fs::metadata(p).unwrap().len()).sum::<u64>();
    let before = size(dir.path());
    let given_back = log.enforce_retention(now()).await.unwrap();
    assert_eq!(before - size(dir.path()), given_back);
    assert!(size(dir.path()) <= 3000 && given_back > 0);
    let kept = keys(&log);
    assert!(kept.len() < 100 && *kept.last().unwrap() == 100, "{kept:?}");
    // A running reader misses at most what was dropped.
    let rest: Vec<u128> = running.poll(usize::MAX).unwrap().iter().map(|r| r.key).collect();
    assert!(rest.ends_with(&[100]) && rest.len() >= kept.len() - 1);
    drop(log);

    let options = LogOptions { retain_age: Some(Duration::from_secs(3600)), ..small() };
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    assert_eq!(keys(&log), kept);
    assert_eq!(log.enforce_retention(now()).await.unwrap(), 0);
    assert!(log.enforce_retention(now() + 3_700_000).await.unwrap() > 0);
    assert_eq!(segments(dir.path()).len(), 1);
    fill(&log, 101..=101).await;
    for key in 1..=101 {
        let answer = log.append(Topic::Signals, vec![record("u", key, "again")]).await.unwrap();
        assert_eq!(answer, [Appended::Duplicate], "key {key} is remembered beyond its record");
    }
}

#[tokio::test]
async fn an_erasure_cut_short_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 1..=100).await;
    drop(log);
    // As a crash in the middle of it would leave: a half-written copy beside the file.
    let first = segments(dir.path()).remove(0);
    let half = fs::read(&first).unwrap();
    let leftover = crate::log::embedded::files::unfinished(&first);
    fs::write(&leftover, &half[..half.len() / 2]).unwrap();
    let log = open(dir.path());
    assert!(!leftover.exists());
    assert_eq!(keys(&log).len(), 100);
    assert_eq!(log.erase("u3").await.unwrap(), 20);
    drop(log);
    for path in segments(dir.path()) {
        let bytes = fs::read(&path).unwrap();
        for key in (3..=100).step_by(5) {
            let payload = format!("payload of {key}");
            let found = bytes
                .windows(payload.len() + 1)
                .any(|w| w.starts_with(payload.as_bytes()) && !w[payload.len()].is_ascii_digit());
            assert!(!found, "{payload} is still in {}", path.display());
        }
    }
    assert_eq!(keys(&open(dir.path())).len(), 80);
}

#[tokio::test]
async fn a_read_only_log_follows_another_writer() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(EmbeddedLog::open_read_only(dir.path()).err(), Some(LogError::Refused(_))));
    let writer = open(dir.path());
    fill(&writer, 1..=30).await;
    let log = EmbeddedLog::open_read_only(dir.path()).unwrap();
    assert_eq!(log.end(Topic::Signals), writer.end(Topic::Signals));
    let mut reader = log.reader(Topic::Signals, &[0, 1, 2, 3], &Position::default()).unwrap();
    let mut seen: Vec<u128> = reader.poll(usize::MAX).unwrap().iter().map(|r| r.key).collect();
    assert_eq!(seen.len(), 30);
    fill(&writer, 31..=90).await;
    while seen.len() < 90 {
        let more = tokio::time::timeout(Duration::from_secs(5), reader.next(10)).await.unwrap().unwrap();
        seen.extend(more.iter().map(|r| r.key));
    }
    assert_eq!(seen, (1..=90).collect::<Vec<_>>());
    assert_eq!(log.end(Topic::Signals), writer.end(Topic::Signals));
    writer.commit("c", Topic::Signals, &writer.end(Topic::Signals)).await.unwrap();
    assert_eq!(log.committed("c", Topic::Signals).unwrap(), writer.end(Topic::Signals));
    for answer in [
        log.append(Topic::Signals, vec![record("u", 1, "p")]).await.err(),
        log.erase("u").await.err(),
        log.enforce_retention(0).await.err(),
        log.commit("c", Topic::Signals, &Position::default()).await.err(),
    ] {
        assert!(matches!(answer, Some(LogError::Refused(_))), "{answer:?}");
    }
}

/// A block that is half there is not seen.
#[tokio::test]
async fn a_read_only_log_waits_for_whole_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
    fill(&log, 1..=3).await;
    drop(log);
    let path = segments(dir.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    let log = EmbeddedLog::open_read_only(dir.path()).unwrap();
    let mut reader = log.reader(Topic::Signals, &[0, 1, 2, 3], &Position::default()).unwrap();
    assert_eq!(reader.poll(9).unwrap().len(), 2);
    assert!(reader.poll(9).unwrap().is_empty());
    fs::write(&path, &whole).unwrap();
    assert_eq!(reader.poll(9).unwrap().len(), 1);
}

const VICTIM: &str = "KAIROS_TEST_LOG_VICTIM";

/// Not a test by itself: what the next one kills. Prints the keys it was promised.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Ok(dir) = std::env::var(VICTIM) else { return };
    let log = std::sync::Arc::new(
        EmbeddedLog::open(dir.as_ref(), LogOptions { segment_bytes: 20_000, ..small() }).unwrap(),
    );
    let start = keys(&*log).last().copied().unwrap_or(0) + 1;
    let mut callers = Vec::new();
    for caller in 0..8u128 {
        let log = log.clone();
        callers.push(tokio::spawn(async move {
            for i in 0.. {
                let key = start + i * 8 + caller;
                let answer = log.append(Topic::Signals, vec![record("u", key, "payload")]).await.unwrap();
                assert!(matches!(answer[..], [Appended::At(..)]));
                println!("acknowledged {key}");
            }
        }));
    }
    for caller in callers {
        caller.await.unwrap();
    }
}

#[test]
fn killed_at_any_instant_it_keeps_what_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..15u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log::embedded::tests::life::victim", "--nocapture"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The instant: after some acknowledgements, and a little more.
        let key = |line: String| line.split_once("acknowledged ")?.1.parse::<u128>().ok();
        acknowledged
            .extend(lines.by_ref().map_while(Result::ok).filter_map(key).take(20 + round as usize * 13));
        std::thread::sleep(Duration::from_micros(round * 170));
        child.kill().unwrap();
        acknowledged.extend(lines.map_while(Result::ok).filter_map(key));
        child.wait().unwrap();
    }
    assert!(acknowledged.len() > 500);
    let log = open(dir.path());
    let stored = keys(&log);
    assert!(stored.windows(2).all(|w| w[0] < w[1]), "nothing is there twice");
    for key in acknowledged {
        assert!(stored.binary_search(&key).is_ok(), "{key} was acknowledged");
    }
}
