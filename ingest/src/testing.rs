//! What tests of the door and of its HTTP side share.

use std::{
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;

use crate::{
    Millis,
    admit::{Door, DoorOptions},
    catalogue::Catalogue,
    log::{self, Append, Appended, Log, LogError, LogOptions, LogRecord, Partition, Position, Reader, Topic},
    record::Record,
};

/// The arrival time of tests: 2026-01-31T12:00:00Z.
pub(crate) const NOW: Millis = 1_769_860_800_000;

/// The real log, which can be told to fail or to hang.
pub(crate) struct FaultyLog {
    inner: Arc<dyn Log>,
    pub(crate) failing: AtomicBool,
    pub(crate) hanging: AtomicBool,
}

pub(crate) fn open_log(dir: &Path) -> Arc<FaultyLog> {
    let inner = log::open("embedded:", dir, LogOptions::default()).unwrap();
    Arc::new(FaultyLog { inner, failing: AtomicBool::new(false), hanging: AtomicBool::new(false) })
}

pub(crate) fn door(log: Arc<dyn Log>, options: DoorOptions) -> Door {
    static BUILT_IN: LazyLock<Arc<Catalogue>> = LazyLock::new(|| Arc::new(Catalogue::load(&[]).unwrap()));
    Door::new(BUILT_IN.clone(), log, options)
}

/// Everything in the log.
pub(crate) fn records(log: &dyn Log) -> Vec<(LogRecord, Record)> {
    let partitions: Vec<Partition> = (0..log.partitions(Topic::Signals)).collect();
    let mut reader = log.reader(Topic::Signals, &partitions, &Position::default()).unwrap();
    let mut all = Vec::new();
    loop {
        let some = reader.poll(1000).unwrap();
        if some.is_empty() {
            return all;
        }
        all.extend(some.into_iter().map(|read| {
            let record = Record::decode(&read.subject, &read.payload).unwrap();
            (read, record)
        }));
    }
}

/// A good signal.
pub(crate) fn signal(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","source":"todo","type":"task.completed","subject":"ada","time":"2026-01-31T11:00:00Z",
           "data":{{"minutes":25,"project":"home"}}}}"#
    )
    .replace('\n', "")
}

#[async_trait]
impl Log for FaultyLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.partitions(topic)
    }

    async fn append(&self, topic: Topic, records: Vec<Append>) -> Result<Vec<Appended>, LogError> {
        if self.hanging.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.failing.load(Ordering::Relaxed) {
            return Err(LogError::Unavailable("no space left on device".into()));
        }
        self.inner.append(topic, records).await
    }

    fn end(&self, topic: Topic) -> Position {
        self.inner.end(topic)
    }

    fn reader(
        &self,
        topic: Topic,
        partitions: &[Partition],
        from: &Position,
    ) -> Result<Box<dyn Reader>, LogError> {
        self.inner.reader(topic, partitions, from)
    }

    async fn commit(&self, consumer: &str, topic: Topic, position: &Position) -> Result<(), LogError> {
        self.inner.commit(consumer, topic, position).await
    }

    fn committed(&self, consumer: &str, topic: Topic) -> Result<Position, LogError> {
        self.inner.committed(consumer, topic)
    }

    async fn erase(&self, subject: &str) -> Result<u64, LogError> {
        self.inner.erase(subject).await
    }

    async fn enforce_retention(&self, now: Millis) -> Result<u64, LogError> {
        self.inner.enforce_retention(now).await
    }
}
