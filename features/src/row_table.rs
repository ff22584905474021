//! Rows by entity. A row knows its entity, so that a place in the table is one pointer.

use std::sync::Arc;

use hashbrown::{HashTable, hash_table::Entry};

use crate::row::Row;

/// See the module.
#[derive(Debug, Default)]
pub struct RowTable {
    rows: HashTable<Arc<Row>>,
    hasher: ahash::RandomState,
}

impl RowTable {
    /// The row of an entity.
    pub fn get(&self, entity: &str) -> Option<&Arc<Row>> {
        self.rows.find(self.hasher.hash_one(entity), |r| &*r.entity == entity)
    }

    /// Puts a row in; answers the one before.
    pub fn insert(&mut self, row: Arc<Row>) -> Option<Arc<Row>> {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(&*row.entity);
        match self.rows.entry(hash, |r| r.entity == row.entity, |r| hasher.hash_one(&*r.entity)) {
            Entry::Occupied(mut place) => Some(std::mem::replace(place.get_mut(), row)),
            Entry::Vacant(place) => {
                place.insert(row);
                None
            }
        }
    }

    /// Takes a row out.
    pub fn remove(&mut self, entity: &str) -> Option<Arc<Row>> {
        let found = self.rows.find_entry(self.hasher.hash_one(entity), |r| &*r.entity == entity);
        found.ok().map(|place| place.remove().0)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.rows.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
