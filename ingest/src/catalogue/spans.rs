//! Texts or byte strings gathered for Arrow.

use std::mem;

use arrow::{
    array::StringArray,
    buffer::{Buffer, NullBuffer, OffsetBuffer},
};

/// Texts or byte strings one after the other, with the end of each.
pub(crate) struct Spans {
    bytes: Vec<u8>,
    /// Begins with 0.
    ends: Vec<i32>,
}

impl Spans {
    pub(crate) fn new() -> Self {
        Spans { bytes: Vec::new(), ends: vec![0] }
    }

    pub(crate) fn push(&mut self, span: &[u8]) {
        self.bytes.extend_from_slice(span);
        self.ends.push(self.bytes.len() as i32);
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len + 1);
        self.bytes.truncate(self.ends.last().map_or(0, |end| *end as usize));
    }

    pub(crate) fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let Spans { bytes, ends } = mem::replace(self, Spans::new());
        (OffsetBuffer::new(ends.into()), Buffer::from_vec(bytes))
    }

    pub(crate) fn finish_text(&mut self, nulls: Option<NullBuffer>) -> StringArray {
        let (offsets, bytes) = self.finish();
        StringArray::new(offsets, bytes, nulls)
    }
}
