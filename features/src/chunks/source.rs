//! Events in a list or in a tree, read alike.

use ingest::Millis;

use super::TreeReader;
use crate::{
    error::FeatureError,
    events::{EventList, Timeline},
};

/// Where a view's events of one entity are, however they lie.
#[derive(Debug, Clone)]
pub enum Source<'a> {
    /// In one list.
    List(EventList<'a>),
    /// In a tree.
    Tree(TreeReader<'a>),
}

impl Timeline for Source<'_> {
    fn len(&self) -> usize {
        match self {
            Source::List(list) => Timeline::len(list),
            Source::Tree(tree) => tree.len(),
        }
    }

    fn time(&self, i: usize) -> Millis {
        match self {
            Source::List(list) => Timeline::time(list, i),
            Source::Tree(tree) => tree.time(i),
        }
    }

    fn count_until(&self, at: Millis) -> usize {
        match self {
            Source::List(list) => Timeline::count_until(list, at),
            Source::Tree(tree) => tree.count_until(at),
        }
    }

    fn run_start(&self, first: usize, upper: usize, gap: Millis) -> usize {
        match self {
            Source::List(list) => Timeline::run_start(list, first, upper, gap),
            Source::Tree(tree) => tree.run_start(first, upper, gap),
        }
    }
}

impl<'a> From<EventList<'a>> for Source<'a> {
    fn from(list: EventList<'a>) -> Self {
        Source::List(list)
    }
}

impl<'a> From<TreeReader<'a>> for Source<'a> {
    fn from(tree: TreeReader<'a>) -> Self {
        Source::Tree(tree)
    }
}

impl Source<'_> {
    /// See [`TreeReader::check`].
    pub fn check(&self) -> Result<(), FeatureError> {
        match self {
            Source::List(_) => Ok(()),
            Source::Tree(tree) => tree.check(),
        }
    }
}
