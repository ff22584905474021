//! The files of idempotency keys.

use std::{collections::HashSet, fs, path::Path};

use proptest::prelude::*;

use super::*;
use crate::log::embedded::{
    keys::Keys,
    run::{Run, merge},
};

fn write(dir: &Path, segment: u64, keys: &[u128]) -> Run {
    let keys = keys.iter().map(|k| Ok(*k));
    Run::write(dir, (segment, segment), 1000, keys, || true).unwrap().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_run_holds_exactly_its_keys(mut some in prop::collection::btree_set(any::<u128>(), 0..1500),
                                    others in prop::collection::vec(any::<u128>(), 100)) {
        // Neighbours that share their upper half over more than a page.
        some.extend((0..600).map(|i| (7 << 64) | i));
        let dir = tempfile::tempdir().unwrap();
        let keys: Vec<u128> = some.iter().copied().collect();
        let run = write(dir.path(), 1, &keys);
        prop_assert_eq!(run.keys, keys.len() as u64);
        for key in &keys {
            prop_assert!(run.contains(*key).unwrap());
        }
        for key in others.iter().chain(&[6 << 64, (7 << 64) | 600, 8 << 64, 0, u128::MAX]) {
            prop_assert_eq!(run.contains(*key).unwrap(), some.contains(key));
        }
        prop_assert_eq!(run.iter().map(Result::unwrap).collect::<Vec<_>>(), keys);
    }

    #[test]
    fn merging_loses_nothing(a in prop::collection::btree_set(0u128..2000, 0..600),
                             b in prop::collection::btree_set(0u128..2000, 0..600)) {
        let dir = tempfile::tempdir().unwrap();
        let one = write(dir.path(), 1, &a.iter().copied().collect::<Vec<_>>());
        let two = write(dir.path(), 2, &b.iter().copied().collect::<Vec<_>>());
        let merged: Vec<u128> = merge(one.iter(), two.iter()).map(Result::unwrap).collect();
        prop_assert_eq!(merged, a.union(&b).copied().collect::<Vec<_>>());
    }
}

#[test]
fn keys_of_many_closed_segments_end_in_few_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut keys = Keys::open(dir.path(), "test", &[], 100).unwrap();
    let mut taken = HashSet::new();
    for segment in 1..=40u64 {
        for i in 0..500u128 {
            let key = u128::from(segment) * 1_000_000 + i;
            assert!(keys.take(key).unwrap());
            assert!(!keys.take(key).unwrap());
            taken.insert(key);
        }
        while keys.behind() {
            std::thread::yield_now();
        }
        keys.close(segment);
        assert!(!keys.take(u128::from(segment) * 1_000_000).unwrap());
    }
    drop(keys);
    let mut keys = Keys::open(dir.path(), "test", &[], 100).unwrap();
    // The first work gives the filer the chance to merge what the last stop has interrupted.
    keys.close(41);
    for key in &taken {
        assert!(!keys.take(*key).unwrap(), "{key} was taken before");
    }
    assert!(keys.take(1).unwrap());
    for _ in 0..500 {
        if fs::read_dir(dir.path()).unwrap().count() <= 7 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("too many files: {}", fs::read_dir(dir.path()).unwrap().count());
}

#[tokio::test]
async fn key_files_that_are_missing_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 1..=200).await;
    drop(log);
    for entry in fs::read_dir(dir.path().join("signals")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "keys") {
            fs::remove_file(path).unwrap();
        }
    }
    let log = open(dir.path());
    for key in 1..=200 {
        let answer = log.append(Topic::Signals, vec![record("u", key, "again")]).await.unwrap();
        assert_eq!(answer, [Appended::Duplicate], "key {key}");
    }
}

#[tokio::test]
async fn a_damaged_key_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 1..=100).await;
    drop(log);
    let files = crate::log::embedded::files::list(&dir.path().join("signals"), "keys").unwrap();
    let mut bytes = fs::read(&files[0]).unwrap();
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    fs::write(&files[0], bytes).unwrap();
    match EmbeddedLog::open(dir.path(), small()).err() {
        Some(LogError::Damaged(text)) => assert!(text.contains(&*files[0].to_string_lossy()), "{text}"),
        other => panic!("{other:?}"),
    }
}
