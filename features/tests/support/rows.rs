//! Rows to put into a store.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use features::{
    Row,
    chunks::{Layout, Tree},
    row::RowHeader,
};

/// A row with so many events and that value.
pub fn row_of(entity: &str, version: u64, offset: u64, value: i64) -> Arc<Row> {
    let header = RowHeader { version, partition: 0, next_offset: offset, from: 0, until: 10, newest: 0 };
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![value]))];
    let layout = Layout { chunk: 2, ..Layout::default() };
    let mut events: Vec<_> = (0..value).map(|i| (i, &b"bytes"[..])).collect();
    let events = Tree::default().insert(&mut events, i64::MIN, &layout, 0).unwrap();
    Arc::new(Row::new(entity.into(), header, &columns, 0, events, &[]))
}
