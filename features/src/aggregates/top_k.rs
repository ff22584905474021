//! `top_k(x, k)`: the k most frequent values, most frequent first, equal counts by value; NULL left out.
//!
//! Counts are exact up to [`COUNTERS`] different values. Beyond, counters are thinned as Agarwal, Cormode,
//! Huang, Phillips, Wei and Yi 2012 ("Mergeable summaries") merge the summaries of Misra and Gries 1982: what
//! the largest counter that must go holds is taken from all. Every count is then too small by at most
//! n / ([`COUNTERS`] + 1) of n values, so that a value more frequent than another by more than that still
//! comes before it; which of nearer ones comes first may depend on the order they came in.
//!
//! State: format 1, the kind of value is the column's; then for each value, ascending, its count, and its key
//! with the length before it.

use std::{cmp::Reverse, collections::BTreeMap};

use arrow::{array::ArrayRef, datatypes::DataType};
use datafusion::common::{Result, plan_err};

use super::{
    arguments::Arguments,
    codec::{Reader, put_bytes, put_number},
    family::{Family, Function},
    keys::{Keys, Kind},
};

/// So many different values are counted exactly.
const COUNTERS: usize = 1_024;
const MOST: usize = 100;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TopK;

impl Function for TopK {
    type Family = Frequent;

    fn name(&self) -> &'static str {
        "top_k"
    }

    fn returns(&self, arguments: &[DataType]) -> Result<DataType> {
        let [x, _] = arguments else {
            return plan_err!("top_k takes a value and how many: top_k(x, 3)");
        };
        Ok(Kind::of(self.name(), x)?.list_type())
    }

    fn family(&self, arguments: &Arguments<'_>) -> Result<Frequent> {
        Ok(Frequent { kind: Kind::of(self.name(), arguments.data_type(0))?, k: arguments.count(1, MOST)? })
    }
}

#[derive(Debug)]
pub(super) struct Frequent {
    kind: Kind,
    k: usize,
}

#[derive(Debug, Default)]
pub(super) struct Counters(BTreeMap<Box<[u8]>, u64>);

impl Counters {
    fn add(&mut self, key: &[u8], count: u64) {
        if let Some(known) = self.0.get_mut(key) {
            *known += count;
            return;
        }
        self.0.insert(key.into(), count);
        // Seldom, since thinning looks at all of them.
        if self.0.len() > 2 * COUNTERS {
            self.thin();
        }
    }

    fn thin(&mut self) {
        if self.0.len() <= COUNTERS {
            return;
        }
        let mut ranked: Vec<(Box<[u8]>, u64)> = std::mem::take(&mut self.0).into_iter().collect();
        ranked.sort_by_key(|(_, count)| Reverse(*count));
        let less = ranked[COUNTERS].1;
        // Those left with nothing stay as long as there is room: among values that all came once, some are shown.
        ranked.truncate(COUNTERS);
        self.0 = ranked.into_iter().map(|(key, count)| (key, count - less)).collect();
    }
}

impl Family for Frequent {
    type Summary = Counters;
    type Columns = Keys;

    const NAME: &'static str = "top_k";
    const FORMAT: u8 = 1;

    fn columns(&self, values: &[ArrayRef]) -> Result<Keys> {
        Keys::new(self.kind, &values[0])
    }

    fn add(&self, to: &mut Counters, columns: &Keys, row: usize) {
        if let Some(key) = columns.get(row, &mut [0; 8]) {
            to.add(key, 1);
        }
    }

    fn merge(&self, to: &mut Counters, state: &mut Reader<'_>) -> Result<()> {
        while !state.is_empty() {
            let count = state.number()?;
            to.add(state.bytes()?, count);
        }
        Ok(())
    }

    fn write(&self, counters: &mut Counters, to: &mut Vec<u8>) {
        counters.thin();
        for (key, count) in &counters.0 {
            put_number(to, *count);
            put_bytes(to, key);
        }
    }

    fn values(&self, counters: &mut [Counters]) -> Result<ArrayRef> {
        self.kind.lists(counters.iter().map(|c| {
            let mut ranked: Vec<(&[u8], u64)> = c.0.iter().map(|(key, count)| (&**key, *count)).collect();
            // Stable, so that equal counts stay in the order of values.
            ranked.sort_by_key(|(_, count)| Reverse(*count));
            let top = ranked.into_iter().take(self.k).map(|(key, _)| Some(key)).collect();
            (!c.0.is_empty()).then_some(top)
        }))
    }

    fn size(&self, counters: &Counters) -> usize {
        counters.0.keys().map(|k| k.len() + 32).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The i-th number comes about n / i times, among many that come once.
    fn stream(frequent: u64, once: u64) -> Vec<u64> {
        let mut all: Vec<u64> = (1..=frequent).flat_map(|i| vec![i; (20_000 / i) as usize]).collect();
        all.extend(1_000_000..1_000_000 + once);
        // A fixed shuffle.
        all.sort_by_key(|v| xxhash_rust::xxh3::xxh3_64(&v.to_le_bytes()));
        let half = all.len() / 2;
        all.rotate_left(half);
        all
    }

    #[test]
    fn thinned_counts_keep_their_bound_through_merges() {
        let all = stream(50, 60_000);
        let bound = all.len() as u64 / (COUNTERS as u64 + 1);
        let family = Frequent { kind: Kind::Int, k: 10 };
        let mut whole = Counters::default();
        for part in all.chunks(7_777) {
            let mut one = Counters::default();
            part.iter().for_each(|v| one.add(&v.to_be_bytes(), 1));
            let mut state = Vec::new();
            family.write(&mut one, &mut state);
            family.merge(&mut whole, &mut Reader::new("top_k", &state)).unwrap();
        }
        whole.thin();
        assert_eq!(whole.0.len(), COUNTERS);
        for i in 1..=50u64 {
            let got = whole.0.get(&i.to_be_bytes()[..]).copied().unwrap_or(0);
            let exact = 20_000 / i;
            assert!(got <= exact && exact - got <= bound, "{i}: {got} of {exact}, bound {bound}");
        }
    }
}
