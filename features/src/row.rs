//! The one value the online store keeps for an entity and view: finished values with the span of time they
//! hold for, and the events that future values need, so that a read at any later instant is exact.
//!
//! In memory a row is an immutable snapshot that shares the chunks of its events with the rows before it. As bytes,
//! little-endian: format (1), view version (8), partition (4), next offset (8), from (8), until (8), newest
//! event (8), length of the values (4), the values, count of slowly changing tables (4) and for each its count of
//! rows (4), their length (4) and bytes ([`crate::events`]), then the events ([`crate::chunks`]).
//!
//! Values are their count (4), 9 bytes a slot (tag, payload), then a heap in which text and lists lie; their payload is its start (upper
//! half) and length. A list is its count (4), its values, 9 bytes each, then a heap of its own.

use std::sync::Arc;

use arrow::array::ArrayRef;
use ingest::{
    Millis,
    log::{Offset, Partition},
};

use crate::{
    chunks::{ChunkSource, Cursor, OnDisk, PieceId, Tree, inline_chunk, nodes_of},
    error::FeatureError,
    events::{EventBuffer, EventList},
    kernel::{Kept, value_at},
    value::Value,
    view::View,
};

const FORMAT: u8 = 4;
/// Bytes of a row of few events, without values and events.
pub(crate) const HEADER: usize = 70;
pub(crate) const SLOT: usize = 9;

/// What a row says of itself, apart from values and events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowHeader {
    /// Version of the view that made it.
    pub version: u64,
    /// Partition its entity's signals come from.
    pub partition: Partition,
    /// Every signal below this offset is in it.
    pub next_offset: Offset,
    /// The values hold from here,
    pub from: Millis,
    /// to here, excluded.
    pub until: Millis,
    /// Time of the newest event behind the values; `Millis::MIN` for none.
    pub newest: Millis,
}

/// A row. See the module.
#[derive(Debug)]
pub struct Row {
    /// Whom it is about.
    pub entity: Arc<str>,
    /// What it says of itself.
    pub header: RowHeader,
    /// Their count (4), then slots and heap.
    values: Box<[u8]>,
    /// Of most views there are none, which shall take no room.
    contexts: Option<Box<Contexts>>,
    /// The events behind future values.
    pub events: Tree,
}

impl Row {
    /// The values of row `index` of evaluated `columns`, and what is kept of the entity.
    pub fn new(
        entity: Arc<str>,
        header: RowHeader,
        columns: &[ArrayRef],
        index: usize,
        events: Tree,
        contexts: &[EventBuffer],
    ) -> Row {
        let list = |c: &EventBuffer| {
            let mut bytes = Vec::with_capacity(c.byte_len());
            c.write_to(&mut bytes);
            (c.len(), bytes.into())
        };
        let contexts = boxed(contexts.iter().map(list).collect());
        Row { entity, header, values: encode(columns, index).into(), contexts, events }
    }

    /// What is kept of the entity, asked at an instant.
    pub fn kept(&self, at: Millis) -> Kept<'_> {
        Kept { events: self.events.reader().into(), contexts: self.contexts(), at }
    }

    /// Rows of the view's slowly changing tables, one list a table.
    pub fn contexts(&self) -> Vec<EventList<'_>> {
        let lists =
            self.contexts.iter().flat_map(|c| c.iter()).map(|(count, bytes)| EventList::parse(*count, bytes));
        lists.map(Option::unwrap_or_default).collect()
    }

    /// One finished value.
    pub fn value(&self, slot: usize) -> Value {
        let Some((slots, values)) = self.values.split_first_chunk() else { return Value::Null };
        let slots = u32::from_le_bytes(*slots) as usize;
        if slot < slots { read_slot(values, slot * SLOT, slots * SLOT) } else { Value::Null }
    }

    fn write_front(&self, to: &mut Vec<u8>) {
        let h = &self.header;
        to.push(FORMAT);
        to.extend_from_slice(&h.version.to_le_bytes());
        to.extend_from_slice(&h.partition.to_le_bytes());
        to.extend_from_slice(&h.next_offset.to_le_bytes());
        to.extend_from_slice(&h.from.to_le_bytes());
        to.extend_from_slice(&h.until.to_le_bytes());
        to.extend_from_slice(&h.newest.to_le_bytes());
        to.extend_from_slice(&(self.values.len() as u32).to_le_bytes());
        to.extend_from_slice(&self.values);
        let contexts = self.contexts.as_deref().map_or(&[][..], |c| &c[..]);
        to.extend_from_slice(&(contexts.len() as u32).to_le_bytes());
        for (count, bytes) in contexts {
            to.extend_from_slice(&(*count as u32).to_le_bytes());
            to.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            to.extend_from_slice(bytes);
        }
    }

    /// The row as one value.
    ///
    /// # Errors
    /// When events that lie on disk alone cannot be read.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FeatureError> {
        let mut to = Vec::new();
        self.write_front(&mut to);
        self.events.write_to(&mut to)?;
        Ok(to)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` if the bytes are no row, or another version's.
    pub fn parse(bytes: &[u8], view: &View, entity: Arc<str>) -> Option<Row> {
        let (front, rest) = Front::read(bytes)?;
        let events = Tree::parse(rest, &view.layout.held)?;
        front.into_row(entity, events, view)
    }

    /// The row without the pieces of its events that are stored by themselves.
    ///
    /// # Errors
    /// When events that lie on disk alone cannot be read.
    pub fn to_head(&self) -> Result<Vec<u8>, FeatureError> {
        let mut to = Vec::new();
        self.write_front(&mut to);
        self.events.write_head(&mut to)?;
        Ok(to)
    }

    /// Reads what [`to_head`](Self::to_head) wrote; `piece` finds node pieces, the events of chunks stay where
    /// `source` has them.
    pub fn restore(
        head: &[u8],
        view: &View,
        entity: Arc<str>,
        source: &Arc<dyn ChunkSource>,
        piece: impl FnMut(PieceId) -> Option<Vec<u8>>,
    ) -> Option<Row> {
        let (front, rest) = Front::read(head)?;
        let on_disk = OnDisk { source: source.clone(), version: view.version, entity: entity.clone() };
        let events = Tree::restore(rest, &view.layout.held, piece, || on_disk.into())?;
        front.into_row(entity, events, view)
    }
}

type Contexts = Vec<(usize, Box<[u8]>)>;

fn boxed(contexts: Contexts) -> Option<Box<Contexts>> {
    (!contexts.is_empty()).then(|| Box::new(contexts))
}

/// The view version of the bytes of a row; `None` if they are of no row of this format.
pub fn version_in(bytes: &[u8]) -> Option<u64> {
    Front::read(bytes).map(|(front, _)| front.header.version)
}

/// The node pieces that the head of a row names; `None` if the bytes are no head of this format.
pub fn pieces_named(head: &[u8]) -> Option<Vec<PieceId>> {
    Front::read(head).and_then(|(_, rest)| nodes_of(rest))
}

/// The events of a chunk that lies in the head of its row.
pub fn chunk_in_head(head: &[u8], chunk: PieceId) -> Option<&[u8]> {
    Front::read(head).and_then(|(_, rest)| inline_chunk(rest, chunk))
}

struct Front<'b> {
    header: RowHeader,
    values: &'b [u8],
    contexts: Vec<(usize, &'b [u8])>,
}

impl<'b> Front<'b> {
    /// Also answers what follows.
    fn read(bytes: &'b [u8]) -> Option<(Self, &'b [u8])> {
        let mut from = Cursor(bytes);
        if from.u8()? != FORMAT {
            return None;
        }
        let header = RowHeader {
            version: from.u64()?,
            partition: from.u32()?,
            next_offset: from.u64()?,
            from: from.u64()? as i64,
            until: from.u64()? as i64,
            newest: from.u64()? as i64,
        };
        let values = from.sized()?;
        let mut contexts = Vec::new();
        for _ in 0..from.u32()? {
            let count = from.u32()? as usize;
            let list = from.sized()?;
            EventList::parse(count, list)?;
            contexts.push((count, list));
        }
        Some((Front { header, values, contexts }, from.0))
    }

    fn into_row(self, entity: Arc<str>, events: Tree, view: &View) -> Option<Row> {
        let fits = self.header.version == view.version
            && self.values.first_chunk().map(|n| u32::from_le_bytes(*n) as usize) == Some(view.slots())
            && self.contexts.len() == view.context_tables();
        fits.then(|| Row {
            entity,
            header: self.header,
            values: self.values.into(),
            contexts: boxed(self.contexts.into_iter().map(|(count, bytes)| (count, bytes.into())).collect()),
            events,
        })
    }
}

fn encode(columns: &[ArrayRef], index: usize) -> Vec<u8> {
    let mut slots = Vec::with_capacity(4 + columns.len() * SLOT);
    slots.extend_from_slice(&(columns.len() as u32).to_le_bytes());
    let mut heap = Vec::new();
    for column in columns {
        write_slot(&value_at(column, index), &mut slots, &mut heap);
    }
    slots.extend_from_slice(&heap);
    slots
}

/// The value whose slot begins at `at`, in bytes whose heap begins at `heap`.
fn read_slot(bytes: &[u8], at: usize, heap: usize) -> Value {
    let Some(slot) = bytes.get(at..at + SLOT) else { return Value::Null };
    let payload = slot[1..].try_into().map_or(0, u64::from_le_bytes);
    let in_heap = || {
        let (start, len) = ((payload >> 32) as usize, (payload & 0xffff_ffff) as usize);
        bytes.get(heap + start..heap + start + len).unwrap_or_default()
    };
    match slot[0] {
        1 => Value::Bool(payload != 0),
        2 => Value::Int(payload as i64),
        3 => Value::Float(f64::from_bits(payload)),
        4 => Value::Time(payload as i64),
        5 => Value::Text(String::from_utf8_lossy(in_heap()).into()),
        6 => {
            let list = in_heap();
            let Some((count, list)) = list.split_first_chunk() else { return Value::List(Vec::new()) };
            let count = (u32::from_le_bytes(*count) as usize).min(list.len() / SLOT);
            Value::List((0..count).map(|i| read_slot(list, i * SLOT, count * SLOT)).collect())
        }
        _ => Value::Null,
    }
}

/// Writes one value's slot, and what it needs of the heap.
fn write_slot(value: &Value, slots: &mut Vec<u8>, heap: &mut Vec<u8>) {
    let start = heap.len() as u64;
    let (tag, payload) = match value {
        Value::Null => (0, 0),
        Value::Bool(b) => (1, u64::from(*b)),
        Value::Int(i) => (2, *i as u64),
        Value::Float(f) => (3, f.to_bits()),
        Value::Time(t) => (4, *t as u64),
        Value::Text(t) => {
            heap.extend_from_slice(t.as_bytes());
            (5, start << 32 | t.len() as u64)
        }
        Value::List(values) => {
            let (mut inner, mut inner_heap) = (Vec::with_capacity(values.len() * SLOT), Vec::new());
            values.iter().for_each(|v| write_slot(v, &mut inner, &mut inner_heap));
            heap.extend_from_slice(&(values.len() as u32).to_le_bytes());
            heap.extend_from_slice(&inner);
            heap.extend_from_slice(&inner_heap);
            (6, start << 32 | (heap.len() as u64 - start))
        }
    };
    slots.push(tag);
    slots.extend_from_slice(&payload.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            prop::num::f64::NORMAL.prop_map(Value::Float),
            any::<i64>().prop_map(Value::Time),
            ".{0,9}".prop_map(|t| Value::Text(t.into())),
        ];
        leaf.prop_recursive(1, 8, 5, |leaf| prop::collection::vec(leaf, 0..5).prop_map(Value::List))
    }

    proptest! {
        #[test]
        fn values_survive_their_slots(values in prop::collection::vec(value(), 0..9)) {
            let (mut bytes, mut heap) = (Vec::new(), Vec::new());
            values.iter().for_each(|v| write_slot(v, &mut bytes, &mut heap));
            let start = bytes.len();
            bytes.extend(heap);
            let back: Vec<Value> = (0..values.len()).map(|i| read_slot(&bytes, i * SLOT, start)).collect();
            prop_assert_eq!(back, values);
            // Damaged bytes give some value or none, and no panic.
            for cut in 0..bytes.len() {
                (0..start / SLOT).for_each(|i| drop(read_slot(&bytes[..cut], i * SLOT, start)));
            }
        }
    }
}
