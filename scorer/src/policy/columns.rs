//! Which value stands at which place of a linear model's inputs.

use std::sync::Arc;

use hashbrown::HashMap;

/// Products of context and action share this many places.
const CROSS: usize = 64;

/// The inputs of a model: a constant, the context, the action's features, on request their products, and
/// places a model takes for itself (an indicator of one tip, say). Grows at the end and never reorders, so
/// that what was learned keeps its place.
///
/// Products are hashed into 64 places with signs (Weinberger and others, "Feature hashing for large scale
/// multitask learning", 2009), for there may be very many of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Columns {
    /// Place of each context value.
    context: Vec<u32>,
    /// Place of each feature of the action.
    action: Vec<u32>,
    /// First place of the products.
    cross: Option<u32>,
    crossing: bool,
    len: u32,
}

impl Columns {
    /// The constant alone; `crossing` to have products too.
    pub(super) fn new(crossing: bool) -> Columns {
        Columns { crossing, len: 1, ..Columns::default() }
    }

    /// Number of places.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is room for a context and an action of these lengths.
    pub(super) fn covers(&self, context: usize, action: usize) -> bool {
        let crossed = !self.crossing || self.cross.is_some() || context == 0 || action == 0;
        self.context.len() >= context && self.action.len() >= action && crossed
    }

    /// Makes room for a context and an action of these lengths.
    pub(super) fn cover(&mut self, context: usize, action: usize) {
        while self.context.len() < context {
            self.context.push(self.len);
            self.len += 1;
        }
        while self.action.len() < action {
            self.action.push(self.len);
            self.len += 1;
        }
        if self.crossing && self.cross.is_none() && context > 0 && action > 0 {
            self.cross = Some(self.len);
            self.len += CROSS as u32;
        }
    }

    /// Takes one more place.
    pub(super) fn take(&mut self) -> usize {
        self.len += 1;
        self.len as usize - 1
    }

    /// The part of the inputs that does not depend on the action.
    pub(super) fn base(&self, context: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.resize(self.len(), 0.0);
        out[0] = 1.0;
        for (place, value) in self.context.iter().zip(context) {
            out[*place as usize] = *value;
        }
    }

    /// Place and value of each feature of the action there is room for.
    pub(super) fn action<'a>(&'a self, features: &'a [f32]) -> impl Iterator<Item = (usize, f32)> + 'a {
        self.action.iter().map(|p| *p as usize).zip(features.iter().copied())
    }

    /// What the products of this context come to for each feature of an action: [`CROSS`] numbers a feature.
    /// Empty where there are no products.
    pub(super) fn products(&self, context: &[f32]) -> Vec<f32> {
        if self.cross.is_none() {
            return Vec::new();
        }
        let mut out = vec![0.0; CROSS * self.action.len()];
        for (j, row) in out.chunks_exact_mut(CROSS).enumerate() {
            for (i, value) in context.iter().take(self.context.len()).enumerate() {
                let hash = mixed(i as u64, j as u64);
                let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
                row[hash as usize % CROSS] += sign * value;
            }
        }
        out
    }

    /// The products' places for one action, of [`Columns::products`]: the first place, and what stands there.
    pub(super) fn crossed(&self, products: &[f32], features: &[f32]) -> Option<(usize, [f32; CROSS])> {
        let first = self.cross? as usize;
        let mut sum = [0.0; CROSS];
        for (row, feature) in products.chunks_exact(CROSS).zip(features) {
            for (s, v) in sum.iter_mut().zip(row) {
                *s += feature * v;
            }
        }
        Some((first, sum))
    }

    /// All inputs of one context and action.
    pub(super) fn fill(&self, context: &[f32], features: &[f32], out: &mut Vec<f32>) {
        self.base(context, out);
        for (place, value) in self.action(features) {
            out[place] = value;
        }
        if let Some((first, sum)) = self.crossed(&self.products(context), features) {
            out[first..first + CROSS].copy_from_slice(&sum);
        }
    }

    /// Itself as numbers.
    pub(super) fn to_numbers(&self) -> Vec<u32> {
        let mut out = vec![
            self.len,
            u32::from(self.crossing),
            self.cross.unwrap_or(0),
            self.context.len() as u32,
            self.action.len() as u32,
        ];
        out.extend(self.context.iter().chain(&self.action));
        out
    }

    /// The opposite of [`Columns::to_numbers`].
    pub(super) fn from_numbers(numbers: &[u32]) -> Option<Columns> {
        let ([len, crossing, cross, context, action], places) = numbers.split_first_chunk()?;
        let (context, rest) = places.split_at_checked(*context as usize)?;
        let room = u64::from(*cross) + if *cross > 0 { CROSS as u64 } else { 0 };
        let sound = rest.len() == *action as usize
            && places.iter().all(|p| (1..*len).contains(p))
            && (1..=1 << 20).contains(len)
            && room <= u64::from(*len);
        sound.then(|| Columns {
            context: context.to_vec(),
            action: rest.to_vec(),
            cross: (*cross > 0).then_some(*cross),
            crossing: *crossing != 0,
            len: *len,
        })
    }
}

/// Places that tips have of their own, as two lists in the order of the places.
pub(super) fn slots_to_lists(slots: &HashMap<Arc<str>, usize>) -> (Vec<String>, Vec<u64>) {
    let mut slots: Vec<(&Arc<str>, &usize)> = slots.iter().collect();
    slots.sort_by_key(|(_, slot)| **slot);
    slots.into_iter().map(|(tip, slot)| (tip.to_string(), *slot as u64)).unzip()
}

/// The opposite of [`slots_to_lists`], for a model of so many places.
pub(super) fn slots_from_lists(
    tips: &[String],
    slots: &[u64],
    places: usize,
) -> Option<HashMap<Arc<str>, usize>> {
    let fits = tips.len() == slots.len() && slots.iter().all(|slot| (*slot as usize) < places);
    let pairs = tips.iter().zip(slots).map(|(tip, slot)| (tip.as_str().into(), *slot as usize));
    fits.then(|| pairs.collect())
}

/// A fixed hash of two small numbers (the finalizer of SplitMix64: Steele, Lea, Flood, 2014).
fn mixed(i: u64, j: u64) -> u64 {
    let mut z = (i << 32 | j).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_where_they_were() {
        let mut columns = Columns::new(true);
        columns.cover(2, 0);
        columns.cover(2, 1);
        let own = columns.take();
        columns.cover(3, 1);
        let mut x = Vec::new();
        columns.fill(&[5.0, 6.0, 7.0], &[2.0], &mut x);
        assert_eq!((x[0], x[1], x[2], x[3], x[own], x[own + 1]), (1.0, 5.0, 6.0, 2.0, 0.0, 7.0));
        assert_eq!(x.len(), columns.len());
        let products: f32 = x[4..4 + CROSS].iter().map(|v| v.abs()).sum();
        assert!(products > 0.0, "2 times 5, 6 and 7, but for collisions");
        assert_eq!(Columns::from_numbers(&columns.to_numbers()), Some(columns));
    }

    #[test]
    fn what_there_is_no_room_for_is_left_out() {
        let mut columns = Columns::new(false);
        columns.cover(1, 1);
        let mut x = Vec::new();
        columns.fill(&[5.0, 6.0], &[2.0, 3.0], &mut x);
        assert_eq!(x, [1.0, 5.0, 2.0]);
        assert_eq!(Columns::from_numbers(&[3, 0, 0, 1]), None);
        assert_eq!(Columns::from_numbers(&[3, 0, 0, 1, 1, 1, 9]), None);
    }
}
