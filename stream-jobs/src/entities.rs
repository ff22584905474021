//! Maps by entity that never pause to grow: many small tables, each of which moves alone.

use std::sync::Arc;

use features::{Row, row_table::RowTable};
use hashbrown::HashMap;

/// How many tables.
pub const PARTS: usize = 64;

type Part<V> = HashMap<Arc<str>, V, ahash::RandomState>;

/// See the module.
#[derive(Debug)]
pub struct Entities<V> {
    parts: Box<[Part<V>]>,
    hasher: ahash::RandomState,
    len: usize,
}

impl<V> Default for Entities<V> {
    fn default() -> Self {
        let hasher = ahash::RandomState::new();
        let parts = (0..PARTS).map(|_| HashMap::with_hasher(hasher.clone())).collect();
        Entities { parts, hasher, len: 0 }
    }
}

impl<V> Entities<V> {
    fn part_of(&self, entity: &str) -> usize {
        // The tables themselves use the high and the low bits.
        (self.hasher.hash_one(entity) >> 24) as usize % PARTS
    }

    /// Puts a value in; answers the one before.
    pub fn insert(&mut self, entity: Arc<str>, value: V) -> Option<V> {
        let part = self.part_of(&entity);
        let old = self.parts[part].insert(entity, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.parts.iter().flatten()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Rows by entity.
#[derive(Debug)]
pub struct Rows {
    parts: Box<[RowTable]>,
    hasher: ahash::RandomState,
    len: usize,
}

impl Default for Rows {
    fn default() -> Self {
        let parts = (0..PARTS).map(|_| RowTable::default()).collect();
        Rows { parts, hasher: ahash::RandomState::new(), len: 0 }
    }
}

impl Rows {
    fn part_of(&self, entity: &str) -> usize {
        self.hasher.hash_one(entity) as usize % PARTS
    }

    /// The row of an entity.
    pub fn get(&self, entity: &str) -> Option<&Arc<Row>> {
        self.parts[self.part_of(entity)].get(entity)
    }

    /// Puts a row in; answers the one before.
    pub fn insert(&mut self, row: Arc<Row>) -> Option<Arc<Row>> {
        let old = self.parts[self.part_of(&row.entity)].insert(row);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes a row out.
    pub fn remove(&mut self, entity: &str) -> Option<Arc<Row>> {
        let old = self.parts[self.part_of(entity)].remove(entity);
        self.len -= usize::from(old.is_some());
        old
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.parts.iter().flat_map(RowTable::iter)
    }

    /// Those in one of [`PARTS`] tables.
    pub fn part(&self, part: usize) -> impl Iterator<Item = &Arc<Row>> {
        self.parts[part].iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
