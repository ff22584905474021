//! Disks that fail: nothing unsafe is acknowledged, and it goes on once they work again.

use std::{fs, path::Path, process::Command};

use super::*;

#[tokio::test]
async fn after_a_failed_sync_the_log_goes_on_in_a_new_segment() {
    for already in [0, 3] {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
        fill(&log, 1..=already).await;
        let first = segments(dir.path()).remove(0);
        faults::fail_syncs(&first, true);
        for _ in 0..3 {
            let answer = log.append(Topic::Signals, vec![record("u", 100, "p")]).await;
            // With blocks in it the segment is left at once, and the second try succeeds elsewhere.
            if let Err(error) = answer {
                assert!(matches!(error, LogError::Unavailable(_)), "{error}");
                assert!(!keys(&log).contains(&100));
            }
        }
        faults::fail_syncs(&first, false);
        log.append(Topic::Signals, vec![record("u", 100, "p")]).await.unwrap();
        fill(&log, 101..=110).await;
        let expected: Vec<u128> = (1..=already).chain(100..=110).collect();
        assert_eq!(keys(&log), expected);
        drop(log);
        let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
        assert_eq!(keys(&log), expected);
        assert_eq!(segments(dir.path()).len(), if already > 0 { 2 } else { 1 });
    }
}

/// A file system of one megabyte; none where the tests may not mount.
struct TinyDisk(tempfile::TempDir);

impl TinyDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "kairos-test"]).arg(dir.path());
        let done = mount.stderr(std::process::Stdio::null()).status();
        done.is_ok_and(|s| s.success()).then(|| TinyDisk(dir))
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Appends until the disk is full; answers the keys that were acknowledged.
async fn until_full(log: &EmbeddedLog, first: u128) -> Vec<u128> {
    let payload = "x".repeat(3000);
    let mut acknowledged = Vec::new();
    for key in first..first + 2000 {
        match log.append(Topic::Signals, vec![record("u", key, &payload)]).await {
            Ok(answers) => {
                assert!(matches!(answers[..], [Appended::At(..)]));
                acknowledged.push(key);
            }
            Err(LogError::Unavailable(text)) => {
                assert!(text.contains("signals"), "names the file: {text}");
                return acknowledged;
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the disk never became full");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_is_recovered_from() {
    let Some(disk) = TinyDisk::mount() else {
        println!("skipped: mounting a small tmpfs needs root");
        return;
    };
    let (dir, ballast) = (disk.0.path().join("log"), disk.0.path().join("ballast"));
    for segment_bytes in [64 << 20, 20_000] {
        let _ = fs::remove_dir_all(&dir);
        fs::write(&ballast, vec![0; 400_000]).unwrap();
        let options = LogOptions { segment_bytes, ..LogOptions::default() };
        let log = EmbeddedLog::open(&dir, options.clone()).unwrap();
        let mut acknowledged = until_full(&log, 1).await;
        assert_eq!(keys(&log), acknowledged);
        for key in [9000, 9001] {
            // A file system counts its free pages by processor, so one it refused may fit at the second try.
            match log.append(Topic::Signals, vec![record("u", key, &"y".repeat(5000))]).await {
                Ok(_) => acknowledged.push(key),
                Err(error) => assert!(matches!(error, LogError::Unavailable(_)), "{error}"),
            }
        }
        fs::remove_file(&ballast).unwrap();
        let mut later = Vec::new();
        for _ in 0..100 {
            later = until_full(&log, 5000).await;
            if !later.is_empty() {
                break;
            }
            // The file system gives pages back a moment later when the machine is busy.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(!later.is_empty(), "it goes on once there is space");
        acknowledged.extend(later);
        acknowledged.sort_unstable();
        assert_eq!(keys(&log), acknowledged);
        drop(log);
        // The disk is still full: opening needs no space.
        check(&dir, options, &acknowledged).await;
    }
}

async fn check(dir: &Path, options: LogOptions, acknowledged: &[u128]) {
    let log = EmbeddedLog::open_read_only(dir).unwrap();
    assert_eq!(keys(&log), acknowledged);
    drop(log);
    if options.segment_bytes > 1 << 20 {
        let log = EmbeddedLog::open(dir, options).unwrap();
        assert_eq!(keys(&log), acknowledged);
    }
}
