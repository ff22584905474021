//! The online store: one value for each entity and view, read in one get.

pub mod embedded;

use std::sync::Arc;

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

/// An online store. `tests/online_conformance.rs` is this contract as a suite.
///
/// - A read sees a row whole, old or new, never a mixture.
/// - A row whose next offset is below the stored one's is left out: replaying the log never moves a value
///   backwards. Rows of another view version are always replaced.
/// - A store outside this process keeps [`Row::to_bytes`].
/// - `get_many` answers in the order of its keys, repeats included.
pub trait OnlineStore: Send + Sync + 'static {
    /// The row of one entity.
    fn get(&self, view: &View, entity: &str) -> Result<Option<Arc<Row>>, FeatureError>;

    /// The rows of many keys, in their order.
    fn get_many(&self, keys: &[(&View, &str)]) -> Result<Vec<Option<Arc<Row>>>, FeatureError> {
        keys.iter().map(|(view, entity)| self.get(view, entity)).collect()
    }

    /// Stores rows.
    fn put_many(&self, rows: Vec<OnlineRow>) -> Result<(), FeatureError>;

    /// Entities that a view has rows for.
    fn entities(&self, view: &View) -> Result<Vec<Arc<str>>, FeatureError>;
}

/// Opens the store a URL names.
///
/// # Errors
/// `Request` for a URL that names no backend of this build.
pub fn open(url: &str, views: usize) -> Result<Arc<dyn OnlineStore>, FeatureError> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("embedded") => Ok(Arc::new(embedded::EmbeddedOnline::new(views))),
        _ => Err(FeatureError::Request(format!(
            "online.url = \"{url}\" names no online store of this build; there is `embedded:`"
        ))),
    }
}
