//! `first_n(x, n)`, `last_n(x, n)` and `array_agg(x, n)`: values of few signals, in the order
//! (time, source, id), NULLs among them.
//!
//! `first_n` gives those of the oldest n, oldest first; `last_n` those of the newest n, newest first;
//! `array_agg` those of the newest n, oldest first. The order is in the state, so that parts may be merged in
//! any.
//!
//! State: format 1, then for each signal, ascending: its time (milliseconds), source, id, and 0 for NULL or
//! the length of the value's key plus one and the key.

use std::collections::VecDeque;

use arrow::{
    array::{ArrayRef, AsArray, StringArray, TimestampMillisecondArray},
    datatypes::{DataType, TimestampMillisecondType},
};
use datafusion::common::{Result, exec_datafusion_err, plan_err};

use super::{
    arguments::Arguments,
    codec::{Reader, put_bytes, put_number, put_signed},
    family::{Family, Function},
    keys::{Keys, Kind},
};

const MOST: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Bounded {
    First,
    Last,
    ArrayAgg,
}

impl Function for Bounded {
    type Family = FewSignals;

    fn name(&self) -> &'static str {
        match self {
            Bounded::First => "first_n",
            Bounded::Last => "last_n",
            Bounded::ArrayAgg => "array_agg",
        }
    }

    fn ordered(&self) -> bool {
        true
    }

    fn returns(&self, arguments: &[DataType]) -> Result<DataType> {
        let name = self.name();
        match arguments {
            [x, _] => Ok(Kind::of(name, x)?.list_type()),
            [_] if *self == Bounded::ArrayAgg => plan_err!(
                "array_agg without a bound grows with every signal; say how many of the newest to keep: array_agg(x, 20)"
            ),
            _ => plan_err!("{name} takes a value and how many: {name}(x, 5)"),
        }
    }

    fn family(&self, arguments: &Arguments<'_>) -> Result<FewSignals> {
        let kind = Kind::of(self.name(), arguments.data_type(0))?;
        Ok(FewSignals { function: *self, kind, n: arguments.count(1, MOST)? })
    }
}

#[derive(Debug)]
pub(super) struct FewSignals {
    function: Bounded,
    kind: Kind,
    n: usize,
}

/// A signal's place in the order, and its value's key.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    time: i64,
    source: Box<str>,
    id: Box<str>,
    value: Option<Box<[u8]>>,
}

#[derive(Debug)]
pub(super) struct Columns {
    values: Keys,
    times: TimestampMillisecondArray,
    sources: StringArray,
    ids: StringArray,
}

impl FewSignals {
    fn insert(&self, to: &mut VecDeque<Entry>, (time, source, id): (i64, &str, &str), value: Option<&[u8]>) {
        let at = to.partition_point(|e| (e.time, &*e.source, &*e.id) < (time, source, id));
        let full = to.len() == self.n;
        let (beyond, drop_oldest) = match self.function {
            Bounded::First => (at == to.len(), false),
            Bounded::Last | Bounded::ArrayAgg => (at == 0, true),
        };
        if full && beyond {
            return;
        }
        to.insert(at, Entry { time, source: source.into(), id: id.into(), value: value.map(Into::into) });
        if full && drop_oldest {
            to.pop_front();
        } else if full {
            to.pop_back();
        }
    }
}

impl Family for FewSignals {
    type Summary = VecDeque<Entry>;
    type Columns = Columns;

    const NAME: &'static str = "first_n, last_n or array_agg";
    const FORMAT: u8 = 1;

    fn columns(&self, values: &[ArrayRef]) -> Result<Columns> {
        let order = (|| {
            let [_, _, time, source, id] = values else { return None };
            let times = time.as_primitive_opt::<TimestampMillisecondType>()?.clone();
            Some((times, source.as_string_opt()?.clone(), id.as_string_opt()?.clone()))
        })();
        let (times, sources, ids) = order.ok_or_else(|| {
            exec_datafusion_err!("{} needs time, source and id behind its arguments", self.function.name())
        })?;
        Ok(Columns { values: Keys::new(self.kind, &values[0])?, times, sources, ids })
    }

    fn add(&self, to: &mut VecDeque<Entry>, c: &Columns, row: usize) {
        let place = (c.times.value(row), c.sources.value(row), c.ids.value(row));
        self.insert(to, place, c.values.get(row, &mut [0; 8]));
    }

    fn merge(&self, to: &mut VecDeque<Entry>, state: &mut Reader<'_>) -> Result<()> {
        while !state.is_empty() {
            let place = (state.signed()?, state.text()?, state.text()?);
            let value = match state.number()? {
                0 => None,
                len => Some(state.take(len as usize - 1)?),
            };
            self.insert(to, place, value);
        }
        Ok(())
    }

    fn write(&self, signals: &mut VecDeque<Entry>, to: &mut Vec<u8>) {
        for e in signals.iter() {
            put_signed(to, e.time);
            put_bytes(to, e.source.as_bytes());
            put_bytes(to, e.id.as_bytes());
            put_number(to, e.value.as_ref().map_or(0, |v| v.len() as u64 + 1));
            to.extend_from_slice(e.value.as_deref().unwrap_or_default());
        }
    }

    fn values(&self, summaries: &mut [VecDeque<Entry>]) -> Result<ArrayRef> {
        self.kind.lists(summaries.iter().map(|signals| {
            let mut values: Vec<_> = signals.iter().map(|e| e.value.as_deref()).collect();
            if self.function == Bounded::Last {
                values.reverse();
            }
            (!signals.is_empty()).then_some(values)
        }))
    }

    fn size(&self, signals: &VecDeque<Entry>) -> usize {
        let heap = |e: &Entry| e.source.len() + e.id.len() + e.value.as_ref().map_or(0, |v| v.len());
        signals.capacity() * size_of::<Entry>() + signals.iter().map(heap).sum::<usize>()
    }
}
