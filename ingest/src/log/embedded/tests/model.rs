//! Random histories against a vector.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Records as (subject, key, payload length).
    Append(Vec<(u8, u8, u16)>),
    Reopen,
    /// Bytes cut off the last block, as by a crash during its write (it counts as never acknowledged).
    Tear(u8),
    Erase(u8),
    Read(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let record = (0..6u8, any::<u8>(), 0..300u16);
    prop_oneof![
        8 => prop::collection::vec(record, 0..6).prop_map(Step::Append),
        2 => Just(Step::Reopen),
        1 => (1..60u8).prop_map(Step::Tear),
        1 => (0..6u8).prop_map(Step::Erase),
        3 => (1..20u8).prop_map(Step::Read),
    ]
}

/// What a log of one partition should hold.
#[derive(Default)]
struct Model {
    /// Subject, key, payload; none once erased. The index is the offset.
    records: Vec<(Option<String>, u128, String)>,
    /// Where the last block began.
    last_block: usize,
    /// How far the running reader has come.
    read: usize,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_history_is_what_a_vector_would_be(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps));
    }
}

fn options() -> LogOptions {
    LogOptions { partitions: 1, segment_bytes: 800, ..LogOptions::default() }
}

async fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut log = EmbeddedLog::open(dir.path(), options()).unwrap();
    let mut reader = log.reader(Topic::Signals, &[0], &Position::default()).unwrap();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append(records) => append(&log, &mut model, records).await,
            Step::Erase(subject) => {
                let name = format!("u{subject}");
                let mut count = 0;
                for record in model.records.iter_mut().filter(|r| r.0.as_deref() == Some(&*name)) {
                    *record = (None, record.1, String::new());
                    count += 1;
                }
                assert_eq!(log.erase(&name).await.unwrap(), count);
                // An erasure closes the segment: nothing is left that could be torn.
                if count > 0 {
                    model.last_block = model.records.len();
                }
            }
            Step::Read(max) => {
                for record in reader.poll(usize::from(max)).unwrap() {
                    compare(&record, &model);
                    let skipped = &model.records[model.read..record.offset as usize];
                    assert!(skipped.iter().all(|r| r.0.is_none()), "only erased records are skipped");
                    model.read = record.offset as usize + 1;
                }
            }
            Step::Reopen | Step::Tear(_) => {
                drop(reader);
                drop(log);
                if let Step::Tear(bytes) = step {
                    tear(dir.path(), &mut model, bytes);
                }
                log = EmbeddedLog::open(dir.path(), options()).unwrap();
                let position = Position([(0, model.read as u64)].into());
                reader = log.reader(Topic::Signals, &[0], &position).unwrap();
            }
        }
        assert_eq!(log.end(Topic::Signals).get(0), model.records.len() as u64);
    }
    let all = everything(&log, Topic::Signals).unwrap();
    all.iter().for_each(|record| compare(record, &model));
    assert_eq!(all.len(), model.records.iter().filter(|r| r.0.is_some()).count());
}

async fn append(log: &EmbeddedLog, model: &mut Model, records: Vec<(u8, u8, u16)>) {
    let before = model.records.len();
    let (mut batch, mut expected) = (Vec::new(), Vec::new());
    for (subject, key, len) in records {
        let (subject, key, payload) = (format!("u{subject}"), u128::from(key), "x".repeat(usize::from(len)));
        batch.push(record(&subject, key, &payload));
        if key != 0 && model.records.iter().any(|r| r.1 == key) {
            expected.push(Appended::Duplicate);
        } else {
            expected.push(Appended::At(0, model.records.len() as u64));
            model.records.push((Some(subject), key, payload));
        }
    }
    assert_eq!(log.append(Topic::Signals, batch).await.unwrap(), expected);
    if model.records.len() > before {
        model.last_block = before;
    }
}

fn tear(dir: &Path, model: &mut Model, bytes: u8) {
    // Only the last block can be torn, and only if it stands in the last segment.
    if model.last_block == model.records.len() {
        return;
    }
    as_after_a_crash(dir);
    let path = segments(dir).pop().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    // A header and no block: the segment before was full.
    if len == 56 {
        return;
    }
    file.set_len(len - u64::from(bytes.min(60))).unwrap();
    model.records.truncate(model.last_block);
    model.read = model.read.min(model.last_block);
}

fn compare(record: &LogRecord, model: &Model) {
    let (subject, key, payload) = &model.records[record.offset as usize];
    assert_eq!(Some(&*record.subject), subject.as_deref());
    assert_eq!((record.key, &record.payload[..]), (*key, payload.as_bytes()));
}
