//! The one value the online store keeps for an entity and view: finished values with the span of time they
//! hold for, and the events that future values need, so that a read at any later instant is exact.
//!
//! Layout, little-endian: format (1), view version (8), partition (4), next offset (8), from (8), until (8),
//! newest event (8), count of events (4), length of the heap (4), then 9 bytes a value (tag, payload), the
//! heap, for each slowly changing table of the view the count of its rows (4), their length (4) and they
//! themselves, and the events ([`crate::events`]). Text and lists lie in the heap; their payload is its start
//! (upper half) and length. A list is its count (4), its values, 9 bytes each, then a heap of its own.

use arrow::array::ArrayRef;
use ingest::{
    Millis,
    log::{Offset, Partition},
};

use crate::{
    events::{EventBuffer, EventList},
    kernel::{Kept, value_at},
    value::Value,
    view::View,
};

const FORMAT: u8 = 3;
const HEADER: usize = 53;
const SLOT: usize = 9;

/// A row, read in place.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    bytes: &'a [u8],
    slots: usize,
    heap: usize,
    /// The events behind future values.
    pub events: EventList<'a>,
    /// Rows of the view's slowly changing tables, one list a table.
    pub contexts: Vec<EventList<'a>>,
}

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

impl<'a> Row<'a> {
    /// Reads a row of `view`; `None` if the bytes are not one, or another version's.
    pub fn parse(bytes: &'a [u8], view: &View) -> Option<Self> {
        let slots = view.slots();
        if bytes.first() != Some(&FORMAT) || bytes.len() < HEADER + slots * SLOT {
            return None;
        }
        let count = u32::from_le_bytes(bytes.get(45..49)?.try_into().ok()?) as usize;
        let heap_len = u32::from_le_bytes(bytes.get(49..53)?.try_into().ok()?) as usize;
        let heap = HEADER + slots * SLOT;
        let mut rest = bytes.get(heap + heap_len..)?;
        let mut contexts = Vec::with_capacity(view.context_tables());
        for _ in 0..view.context_tables() {
            let (count, after) = rest.split_first_chunk::<4>()?;
            let (len, after) = after.split_first_chunk::<4>()?;
            let (list, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            contexts.push(EventList::parse(u32::from_le_bytes(*count) as usize, list)?);
            rest = after;
        }
        let events = EventList::parse(count, rest)?;
        let row = Row { bytes, slots, heap, events, contexts };
        (row.u64_at(1) == view.version).then_some(row)
    }

    fn u64_at(&self, at: usize) -> u64 {
        self.bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
    }

    /// Its header.
    pub fn header(&self) -> RowHeader {
        let partition = self.bytes.get(9..13).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        RowHeader {
            version: self.u64_at(1),
            partition,
            next_offset: self.u64_at(13),
            from: self.u64_at(21) as i64,
            until: self.u64_at(29) as i64,
            newest: self.u64_at(37) as i64,
        }
    }

    /// What is kept of the entity, asked at an instant.
    pub fn kept(&self, at: Millis) -> Kept<'a> {
        Kept { events: self.events, contexts: self.contexts.clone(), at }
    }

    /// One finished value.
    pub fn value(&self, slot: usize) -> Value {
        if slot >= self.slots {
            return Value::Null;
        }
        read_slot(self.bytes, HEADER + slot * SLOT, self.heap)
    }
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

/// Writes a row: the values of row `index` of evaluated `columns`, and what is kept of the entity.
pub fn write(
    header: RowHeader,
    columns: &[ArrayRef],
    index: usize,
    events: &EventBuffer,
    contexts: &[EventBuffer],
) -> Vec<u8> {
    let mut heap = Vec::new();
    let mut to = Vec::with_capacity(HEADER + columns.len() * SLOT + events.len() * 48);
    to.push(FORMAT);
    to.extend_from_slice(&header.version.to_le_bytes());
    to.extend_from_slice(&header.partition.to_le_bytes());
    to.extend_from_slice(&header.next_offset.to_le_bytes());
    to.extend_from_slice(&header.from.to_le_bytes());
    to.extend_from_slice(&header.until.to_le_bytes());
    to.extend_from_slice(&header.newest.to_le_bytes());
    to.extend_from_slice(&(events.len() as u32).to_le_bytes());
    to.extend_from_slice(&[0; 4]);
    for column in columns {
        write_slot(&value_at(column, index), &mut to, &mut heap);
    }
    to[49..53].copy_from_slice(&(heap.len() as u32).to_le_bytes());
    to.extend_from_slice(&heap);
    for c in contexts {
        to.extend_from_slice(&(c.len() as u32).to_le_bytes());
        let at = to.len();
        to.extend_from_slice(&[0; 4]);
        c.write_to(&mut to);
        let len = (to.len() - at - 4) as u32;
        to[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }
    events.write_to(&mut to);
    to
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
