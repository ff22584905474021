//! The events a view keeps of one entity, sorted by (time, bytes), and how they lie in memory.

use arrow::row::Rows;
use ingest::Millis;

/// Events taken from a batch of signals, in its order.
#[derive(Debug)]
pub struct Events {
    /// For each event, the row of the batch it comes from.
    pub rows: Vec<u32>,
    pub(crate) times: Vec<Millis>,
    pub(crate) bytes: Option<Rows>,
}

impl Events {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Event time and row bytes of one.
    pub fn get(&self, i: usize) -> (Millis, &[u8]) {
        (self.times[i], self.bytes.as_ref().map_or(&[], |b| b.row(i).data()))
    }
}

/// A list of events: `count` times (8 bytes each), `count` ends (4 bytes each), then the bytes of all.
/// Little-endian throughout.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventList<'a> {
    count: usize,
    times: &'a [u8],
    ends: &'a [u8],
    heap: &'a [u8],
}

impl<'a> EventList<'a> {
    /// Reads a list of `count` events; `None` if the bytes cannot be one.
    pub fn parse(count: usize, bytes: &'a [u8]) -> Option<Self> {
        let (times, rest) = bytes.split_at_checked(count.checked_mul(8)?)?;
        let (ends, heap) = rest.split_at_checked(count.checked_mul(4)?)?;
        let list = EventList { count, times, ends, heap };
        (count == 0 || list.end(count - 1) == heap.len()).then_some(list)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Event time of one.
    pub fn time(&self, i: usize) -> Millis {
        Millis::from_le_bytes(fixed(self.times, i))
    }

    fn end(&self, i: usize) -> usize {
        u32::from_le_bytes(fixed(self.ends, i)) as usize
    }

    /// Row bytes of one.
    pub fn bytes(&self, i: usize) -> &'a [u8] {
        let start = if i == 0 { 0 } else { self.end(i - 1) };
        self.heap.get(start..self.end(i)).unwrap_or_default()
    }

    /// How many have `time <= at`.
    pub fn count_until(&self, at: Millis) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.time(middle) <= at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// Events in order of time, wherever they lie.
pub trait Timeline {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Event time of one.
    fn time(&self, i: usize) -> Millis;

    /// How many have `time <= at`.
    fn count_until(&self, at: Millis) -> usize;

    /// The time of the newest with `time <= at`.
    fn newest_until(&self, at: Millis) -> Option<Millis> {
        self.count_until(at).checked_sub(1).map(|i| self.time(i))
    }

    /// Where the run of events that ends before `upper` begins, at `first` at the earliest: neighbours in it are
    /// at most `gap` apart.
    fn run_start(&self, first: usize, upper: usize, gap: Millis) -> usize {
        let apart = |i: &usize| self.time(*i).saturating_sub(self.time(i - 1)) > gap;
        (first + 1..upper).rev().find(apart).unwrap_or(first)
    }
}

impl Timeline for EventList<'_> {
    fn len(&self) -> usize {
        self.count
    }

    fn time(&self, i: usize) -> Millis {
        EventList::time(self, i)
    }

    fn count_until(&self, at: Millis) -> usize {
        EventList::count_until(self, at)
    }
}

fn fixed<const N: usize>(bytes: &[u8], i: usize) -> [u8; N] {
    bytes.get(i * N..i * N + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
}

/// A list being written.
#[derive(Debug, Default, Clone)]
pub struct EventBuffer {
    times: Vec<u8>,
    ends: Vec<u8>,
    heap: Vec<u8>,
}

impl EventBuffer {
    /// Adds one at the end; the caller keeps the order.
    pub fn push(&mut self, time: Millis, bytes: &[u8]) {
        self.heap.extend_from_slice(bytes);
        self.times.extend_from_slice(&time.to_le_bytes());
        self.ends.extend_from_slice(&(self.heap.len() as u32).to_le_bytes());
    }

    /// The events of `old` later than `horizon` together with `new`, in order.
    pub fn merge(old: EventList<'_>, new: &mut [(Millis, &[u8])], horizon: Millis) -> EventBuffer {
        new.sort_unstable();
        let mut to = EventBuffer::default();
        let first = old.count_until(horizon);
        to.times.reserve((old.len() - first + new.len()) * 8);
        to.ends.reserve((old.len() - first + new.len()) * 4);
        let mut fresh = new.iter().filter(|(t, _)| *t > horizon).peekable();
        for i in first..old.len() {
            let event = (old.time(i), old.bytes(i));
            while let Some(n) = fresh.next_if(|n| **n < event) {
                to.push(n.0, n.1);
            }
            to.push(event.0, event.1);
        }
        for n in fresh {
            to.push(n.0, n.1);
        }
        to
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len() / 4
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The list as it stands.
    pub fn as_list(&self) -> EventList<'_> {
        EventList { count: self.len(), times: &self.times, ends: &self.ends, heap: &self.heap }
    }

    /// How many bytes [`write_to`](Self::write_to) appends.
    pub fn byte_len(&self) -> usize {
        self.times.len() + self.ends.len() + self.heap.len()
    }

    /// Appends the list's bytes.
    pub fn write_to(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.times);
        to.extend_from_slice(&self.ends);
        to.extend_from_slice(&self.heap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(events: &[(Millis, &[u8])]) -> EventBuffer {
        EventBuffer::merge(EventList::default(), &mut events.to_vec(), Millis::MIN)
    }

    #[test]
    fn merging_sorts_drops_the_old_and_survives_bytes() {
        let old = buffer(&[(1, b"x"), (5, b"b"), (9, b"")]);
        let merged = EventBuffer::merge(old.as_list(), &mut [(7, b"q"), (5, b"a"), (0, b"z")], 1);
        let mut bytes = Vec::new();
        merged.write_to(&mut bytes);
        let list = EventList::parse(merged.len(), &bytes).unwrap();
        let got: Vec<_> = (0..list.len()).map(|i| (list.time(i), list.bytes(i))).collect();
        assert_eq!(got, [(5, &b"a"[..]), (5, b"b"), (7, b"q"), (9, b"")]);
        assert_eq!((list.count_until(5), list.count_until(4), list.count_until(99)), (2, 0, 4));
        assert_eq!((Timeline::newest_until(&list, 8), Timeline::newest_until(&list, 4)), (Some(7), None));
        assert!(EventList::parse(merged.len() + 1, &bytes).is_none());
        assert!(EventList::parse(merged.len(), &bytes[..bytes.len() - 1]).is_none());
    }
}
