//! A map by entity that never pauses to grow: many small tables, each of which moves alone.

use std::sync::Arc;

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

    /// The value of an entity, with the name under which it is kept.
    pub fn get(&self, entity: &str) -> Option<(&Arc<str>, &V)> {
        self.parts[self.part_of(entity)].get_key_value(entity)
    }

    /// Puts a value in; answers the one before.
    pub fn insert(&mut self, entity: Arc<str>, value: V) -> Option<V> {
        let part = self.part_of(&entity);
        let old = self.parts[part].insert(entity, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes a value out.
    pub fn remove(&mut self, entity: &str) -> Option<V> {
        let part = self.part_of(entity);
        let old = self.parts[part].remove(entity);
        self.len -= usize::from(old.is_some());
        old
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.parts.iter().flatten()
    }

    /// Those in one of [`PARTS`] tables.
    pub fn part(&self, part: usize) -> impl Iterator<Item = (&Arc<str>, &V)> {
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
