//! Torn writes are mended, damage is reported.

use std::{fs, os::unix::fs::FileExt, path::Path};

use super::*;

fn cut(path: &Path, len: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn damage_in(error: LogError, path: &Path) -> String {
    match error {
        LogError::Damaged(text) if text.contains(&*path.to_string_lossy()) => text,
        other => panic!("expected damage in {}: {other}", path.display()),
    }
}

fn with_one_segment(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, LogOptions::default()).unwrap()
}

#[tokio::test]
async fn a_torn_tail_is_cut_at_every_byte() {
    let original = tempfile::tempdir().unwrap();
    let log = with_one_segment(original.path());
    fill(&log, 1..=5).await;
    let whole = fs::metadata(&segments(original.path())[0]).unwrap().len();
    fill(&log, 6..=6).await;
    drop(log);
    as_after_a_crash(original.path());
    let torn = fs::metadata(&segments(original.path())[0]).unwrap().len();
    for len in whole..torn {
        for tail in ["cut short", "zeros", "garbage"] {
            let dir = tempfile::tempdir().unwrap();
            copy_dir(original.path(), dir.path());
            let path = &segments(dir.path())[0];
            cut(path, len);
            match tail {
                "zeros" => cut(path, torn + 4096),
                "garbage" if len + 1 < torn => {
                    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                    file.write_all_at(&vec![0x5a; (torn - len) as usize], len).unwrap();
                }
                _ => {}
            }
            let log = with_one_segment(dir.path());
            assert_eq!(keys(&log), [1, 2, 3, 4, 5], "{tail} at {len}");
            fill(&log, 6..=7).await;
            drop(log);
            assert_eq!(keys(&with_one_segment(dir.path())), [1, 2, 3, 4, 5, 6, 7], "{tail} at {len}");
        }
    }
}

#[tokio::test]
async fn after_a_proper_close_a_wrong_tail_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let log = with_one_segment(dir.path());
    fill(&log, 1..=5).await;
    drop(log);
    let path = segments(dir.path()).remove(0);
    let len = fs::metadata(&path).unwrap().len();
    flip(&path, len - 1);
    let note = dir.path().join("signals").join("closed");
    let error = EmbeddedLog::open(dir.path(), LogOptions::default()).err().unwrap();
    assert!(damage_in(error, &path).contains(&*note.to_string_lossy()));
    flip(&path, len - 1);
    assert_eq!(keys(&with_one_segment(dir.path())), [1, 2, 3, 4, 5]);
    cut(&path, len - 1);
    damage_in(EmbeddedLog::open(dir.path(), LogOptions::default()).err().unwrap(), &path);
    fs::remove_file(note).unwrap();
    assert_eq!(keys(&with_one_segment(dir.path())), [1, 2, 3, 4]);
}

#[tokio::test]
async fn any_flipped_byte_in_the_middle_is_damage() {
    let original = tempfile::tempdir().unwrap();
    let log = with_one_segment(original.path());
    fill(&log, 1..=1).await;
    let from = fs::metadata(&segments(original.path())[0]).unwrap().len();
    fill(&log, 2..=2).await;
    let to = fs::metadata(&segments(original.path())[0]).unwrap().len();
    fill(&log, 3..=3).await;
    drop(log);
    for at in from..to {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(original.path(), dir.path());
        let path = &segments(dir.path())[0];
        flip(path, at);
        let size = fs::metadata(path).unwrap().len();
        let error = EmbeddedLog::open(dir.path(), LogOptions::default()).err().unwrap();
        assert!(damage_in(error, path).contains(&format!("byte {from}")), "flipped byte {at}");
        assert_eq!(fs::metadata(path).unwrap().len(), size, "nothing is cut off");
    }
}

#[tokio::test]
async fn damage_in_a_closed_segment_is_found_by_its_reader() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 1..=60).await;
    drop(log);
    let path = &segments(dir.path())[1];
    flip(path, fs::metadata(path).unwrap().len() / 2);
    let log = open(dir.path());
    damage_in(everything(&log, Topic::Signals).unwrap_err(), path);
    damage_in(log.erase("u1").await.unwrap_err(), path);
    // What comes in meanwhile is still taken.
    fill(&log, 61..=61).await;
}

#[tokio::test]
async fn lost_and_shortened_segments_are_noticed() {
    let original = tempfile::tempdir().unwrap();
    let log = open(original.path());
    fill(&log, 1..=60).await;
    drop(log);

    let dir = tempfile::tempdir().unwrap();
    copy_dir(original.path(), dir.path());
    let path = segments(dir.path()).remove(1);
    fs::remove_file(&path).unwrap();
    damage_in(EmbeddedLog::open(dir.path(), small()).err().unwrap(), &path);
    damage_in(EmbeddedLog::open_read_only(dir.path()).err().unwrap(), &path);

    let dir = tempfile::tempdir().unwrap();
    copy_dir(original.path(), dir.path());
    let path = segments(dir.path()).remove(1);
    cut(&path, fs::metadata(&path).unwrap().len() - 1);
    damage_in(EmbeddedLog::open(dir.path(), small()).err().unwrap(), &path);

    let dir = tempfile::tempdir().unwrap();
    copy_dir(original.path(), dir.path());
    as_after_a_crash(dir.path());
    segments(dir.path()).iter().skip(1).for_each(|path| fs::remove_file(path).unwrap());
    match EmbeddedLog::open(dir.path(), small()).err() {
        Some(LogError::Damaged(text)) => assert!(text.contains("missing"), "{text}"),
        other => panic!("{other:?}"),
    }

    let dir = tempfile::tempdir().unwrap();
    copy_dir(original.path(), dir.path());
    let path = segments(dir.path()).remove(1);
    flip(&path, 20);
    damage_in(EmbeddedLog::open(dir.path(), small()).err().unwrap(), &path);
}

#[tokio::test]
async fn a_segment_whose_creation_was_cut_short_is_made_again() {
    let original = tempfile::tempdir().unwrap();
    let log = open(original.path());
    fill(&log, 1..=60).await;
    drop(log);
    as_after_a_crash(original.path());
    let all = segments(original.path());
    let header = fs::read(&all[1]).unwrap()
        [..segment::Segment::load(&original.path().join("signals"), 2).ok().unwrap().header_len() as usize]
        .to_vec();
    for len in 0..header.len() {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(original.path(), dir.path());
        let next = segment::path(&dir.path().join("signals"), all.len() as u64 + 1);
        fs::write(&next, &header[..len]).unwrap();
        let log = open(dir.path());
        fill(&log, 61..=100).await;
        assert_eq!(keys(&log), (1..=100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_payload_that_looks_like_a_block_does_not_pass_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = with_one_segment(dir.path());
    fill(&log, 1..=3).await;
    let blocks = fs::read(&segments(dir.path())[0]).unwrap();
    drop(log);
    // A sender who knew a block of another log puts it into a payload whose write is then torn.
    let other = tempfile::tempdir().unwrap();
    let log = with_one_segment(other.path());
    fill(&log, 1..=2).await;
    let before = fs::metadata(&segments(other.path())[0]).unwrap().len();
    let payload = Bytes::from(blocks);
    log.append(Topic::Signals, vec![Append { subject: "u".into(), key: 9, payload }]).await.unwrap();
    drop(log);
    as_after_a_crash(other.path());
    flip(&segments(other.path())[0], before + 40);
    assert_eq!(keys(&with_one_segment(other.path())), [1, 2]);
}
