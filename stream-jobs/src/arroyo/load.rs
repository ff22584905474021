//! The loader: tiles from their topics into history, and the tiles of late signals made again.
//!
//! It begins at the oldest record of every topic each time it is opened, and needs no state: rows stand in history with
//! the time at which Fluvio got them, so that taking them again changes nothing, and late signals are found and mended
//! again. That is what is wanted after a pipeline was made anew, which drops them once more.

use std::{collections::HashMap, sync::Arc, time::Duration};

use features::{Functions, View, offline::OfflineStore, online::tiles::TileStore};
use ingest::{
    Clock,
    catalogue::Catalogue,
    log::{FluvioOptions, Log, LogRecord, Position, Reader, Topic, fluvio::plain::PlainTopic},
    record::RecordRef,
};

use super::{
    history::{self, Mender},
    sql,
};
use crate::error::JobError;

/// Records taken from the log at once.
const BATCH: usize = 10_000;
/// Tiles of a view mended at once.
const MENDED: usize = 1_000;

/// What the loader stands on.
pub struct Parts {
    /// The log of signals.
    pub log: Arc<dyn Log>,
    /// Their types.
    pub catalogue: Arc<Catalogue>,
    /// The user functions of views.
    pub functions: Functions,
    /// Where tiles go, and where late signals are found.
    pub history: Arc<dyn OfflineStore>,
    /// Where mended tiles go.
    pub tiles: Arc<dyn TileStore>,
    /// When a tile was mended.
    pub clock: Clock,
}

/// See the module.
pub struct Loader {
    parts: Parts,
    topics: Vec<(Arc<View>, PlainTopic)>,
    signals: Box<dyn Reader>,
    erasures: Box<dyn Reader>,
    mender: Mender,
    /// Tables by type of signal.
    tables: HashMap<String, String>,
    /// Signals read and not yet noted.
    waiting: Vec<LogRecord>,
}

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Tiles taken into history.
    pub tiles: usize,
    /// Rows of topics that are none, or of another version of their view.
    pub left_out: usize,
    /// Signals looked at.
    pub signals: usize,
    /// Tiles made again.
    pub mended: usize,
}

impl Loaded {
    /// Whether there was nothing to do.
    pub fn idle(&self) -> bool {
        *self == Loaded::default()
    }
}

impl Loader {
    /// For those of the views that Arroyo holds, on the cluster at `fluvio://host:port`. Topics of tiles that are missing
    /// are made and keep their records for `keep`.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub async fn open(
        parts: Parts,
        url: &str,
        options: &FluvioOptions,
        views: &[Arc<View>],
        wait_ms: ingest::Millis,
        keep: Duration,
    ) -> Result<Loader, JobError> {
        let mut topics = Vec::new();
        for view in views.iter().filter(|v| v.tiling.is_ok()) {
            let name = sql::tiles_topic(&options.topic_prefix, &view.name);
            topics.push((view.clone(), PlainTopic::open(url, options, &name, keep).await?));
        }
        let all: Vec<u32> = (0..parts.log.partitions(Topic::Signals)).collect();
        let signals = parts.log.reader(Topic::Signals, &all, &Position::default())?;
        let erasures = parts.log.reader(Topic::Erasures, &[0], &Position::default())?;
        let of_type = |t: &Arc<ingest::catalogue::SignalType>| (t.name.clone(), t.table.clone());
        let tables = parts.catalogue.types().map(of_type).collect();
        let mender = Mender::new(views, wait_ms);
        Ok(Loader { parts, topics, signals, erasures, mender, tables, waiting: Vec::new() })
    }

    /// Takes what there is, some at a time, and makes it durable. After an error the next call goes on; what was done
    /// may be done again.
    ///
    /// # Errors
    /// Fluvio, Redis or history do not answer.
    pub async fn step(&mut self) -> Result<Loaded, JobError> {
        let mut loaded = Loaded::default();
        let history = self.parts.history.clone();
        for (view, topic) in &mut self.topics {
            let records = topic.poll().await?;
            for at_once in records.chunk_by(|a, b| a.stamped == b.stamped) {
                let (tiles, left_out) = history::read(view, at_once.iter().map(|r| &r.value[..]));
                loaded.tiles += tiles.len();
                loaded.left_out += left_out;
                if !tiles.is_empty() {
                    let rows = history::batch(view, &tiles, at_once[0].stamped)?;
                    history.append(&history::table(&view.name), rows)?;
                }
            }
        }
        for erased in self.erasures.poll(BATCH)? {
            self.mender.forget(&erased.subject);
        }
        if self.waiting.is_empty() {
            self.waiting = self.signals.poll(BATCH)?;
        }
        loaded.signals = self.note();
        for (view, tiles) in self.mender.mend(&*history, &self.parts.functions, MENDED)? {
            loaded.mended += tiles.len();
            let rows = history::batch(&view, &tiles, (self.parts.clock)())?;
            history.append(&history::table(&view.name), rows)?;
            self.parts.tiles.put(&view, &tiles).await?;
        }
        if loaded.tiles + loaded.mended > 0 {
            history.flush(&history.durable_position()?)?;
        }
        Ok(loaded)
    }

    /// Late signals that history does not hold yet.
    pub fn due(&self) -> usize {
        self.mender.due()
    }

    /// Notes signals that wait, and answers how many; the rest when too many are due.
    fn note(&mut self) -> usize {
        let noted = self.waiting.iter().take_while(|record| {
            let Ok(signal) = RecordRef::decode(&record.subject, &record.payload) else { return true };
            let Some(table) = self.tables.get(signal.kind) else { return true };
            self.mender.note(table, signal.subject, signal.time, signal.key())
        });
        let noted = noted.count();
        self.waiting.drain(..noted);
        noted
    }
}
