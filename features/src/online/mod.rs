//! The online store: one value for each entity and view, all those of an entity read in one round trip.
//!
//! | module | what |
//! |---|---|
//! | [`embedded`] | rows in this process's memory |
//! | [`metrics`] | what is counted |
//! | [`options`] | what a backend is told |
//! | `redis` | rows in Redis, for many processes |
//! | [`tiles`] | values from tiles of a minute, beside rows |

pub mod embedded;
pub mod metrics;
pub mod options;
#[cfg(feature = "redis")]
pub mod redis;
pub mod tiles;

use std::sync::Arc;

use async_trait::async_trait;
use ingest::log::{Partition, Position};

pub use embedded::EmbeddedOnline;
pub use options::OnlineOptions;

use crate::{error::FeatureError, row::Row, view::View};

/// A row to store.
#[derive(Debug, Clone)]
pub struct OnlineRow {
    /// View it belongs to.
    pub view: Arc<View>,
    /// Whom it is about.
    pub entity: Arc<str>,
    /// The row; `None` takes it out (nothing is left in any window).
    pub row: Option<Arc<Row>>,
}

/// What a key holds.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The row; `None` where the store has none.
    pub row: Option<Arc<Row>>,
    /// Instead of a row, the tiles that the values are merged from.
    pub tiles: Option<tiles::Tiles>,
    /// Whether it is one that was read earlier, because the store cannot be reached.
    pub stale: bool,
}

/// An online store. `tests/online_conformance.rs` is this contract as a suite.
///
/// - A read sees a row whole, old or new, never a mixture.
/// - A row whose next offset is below the stored one's and not above what [`advance`](Self::advance) told is left
///   out: replaying the log never moves a value backwards. Rows of another view version are always replaced.
/// - Each partition has one writer at a time, the process that claimed it; any process reads.
/// - A store outside this process keeps [`Row::to_bytes`].
///
/// Writing is for the stream job alone, whose thread may block; a store outside this process does its work on
/// threads of its own.
#[async_trait]
pub trait OnlineStore: Send + Sync + 'static {
    /// Where all rows lie in this process: for reads that take no longer than looking them up.
    fn resident(&self) -> Option<&EmbeddedOnline> {
        None
    }

    /// The rows of many keys, in their order, repeats included.
    ///
    /// # Errors
    /// `Unavailable` when the store cannot be reached within its time and a row was not read lately.
    async fn get_many(&self, keys: &[(&View, &str)]) -> Result<Vec<Found>, FeatureError>;

    /// Stores rows of claimed partitions. After an error some may be stored; putting them again is safe.
    ///
    /// # Errors
    /// `Unavailable` when the store cannot be reached, `Lost` when it has lost rows put before,
    /// `Fenced` when another process writes their partition.
    fn put_many(&self, rows: Vec<OnlineRow>) -> Result<(), FeatureError>;

    /// Entities that a view has rows for.
    async fn entities(&self, view: &View) -> Result<Vec<Arc<str>>, FeatureError>;

    /// Makes this process the only one that writes `partitions`, until [`release`](Self::release). Answers, for
    /// those whose rows are all there and come from `state`, the offset below which every signal is in them; the
    /// rows of the others must be put, beginning with [`clear`](Self::clear). The text names the job's state for
    /// good: rows of another say nothing about this log.
    ///
    /// # Errors
    /// `Fenced` when another process has one of them and did not let go within the time allowed.
    fn claim(&self, state: &str, partitions: &[Partition]) -> Result<Position, FeatureError>;

    /// Takes all rows of claimed partitions out. Until the next [`advance`](Self::advance) a partition counts as
    /// not whole, and its rows cannot be read.
    fn clear(&self, partitions: &[Partition]) -> Result<(), FeatureError>;

    /// Tells readers that everything below `position` is in the rows.
    ///
    /// # Errors
    /// As [`put_many`](Self::put_many).
    fn advance(&self, position: &Position) -> Result<(), FeatureError>;

    /// Lets others claim what this process has claimed.
    fn release(&self) {}

    /// What [`advance`](Self::advance) told last, whichever process did.
    async fn applied(&self) -> Result<Position, FeatureError>;

    /// Takes every row of an entity out, whoever writes its partition.
    async fn erase(&self, entity: &str) -> Result<(), FeatureError>;

    /// Drops what this process remembers of an entity, so that nothing of it is answered while the store is away.
    fn forget(&self, _entity: &str) {}
}

/// Opens the store a URL names. A store outside this process need not be there yet.
///
/// # Errors
/// `Request` for a URL that names no backend of this build.
pub fn open(url: &str, options: &OnlineOptions) -> Result<Arc<dyn OnlineStore>, FeatureError> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("embedded") => Ok(Arc::new(EmbeddedOnline::new(options.views))),
        #[cfg(feature = "redis")]
        Some("redis" | "rediss" | "redis+cluster" | "rediss+cluster") => {
            Ok(Arc::new(redis::RedisOnline::open(url, options)?))
        }
        _ => Err(FeatureError::Request(format!(
            "online.url = \"{}\" names no online store of this build; there is {BACKENDS}",
            options::shown(url)
        ))),
    }
}

/// Asks the store a URL names whether it suits, and says what it is. Blocks for some seconds at most.
///
/// # Errors
/// What is wrong, and how to mend it.
pub fn check(url: &str, options: &OnlineOptions) -> Result<String, FeatureError> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        #[cfg(feature = "redis")]
        Some("redis" | "rediss" | "redis+cluster" | "rediss+cluster") => redis::check_now(url, options),
        _ => open(url, options).map(|_| format!("{url}, in the memory of this process")),
    }
}

/// The backends of this build.
const BACKENDS: &str = if cfg!(feature = "redis") {
    "`embedded:`, `redis://…`, `rediss://…`, `redis+cluster://…` and `rediss+cluster://…`"
} else {
    "`embedded:`"
};
