//! Names to inputs.
//!
//! An input is given to a name when it is first seen, in that order. Numbers are taken as they are, flags as 0
//! and 1, and a text has an input for each pair of name and text. Policies standardise by themselves, so
//! nothing is scaled here.
//!
//! The number of inputs is bounded: after [`OWN_INPUTS`] names the rest share [`HASHED_INPUTS`] inputs, found
//! by hashing (Weinberger and others, "Feature hashing for large scale multitask learning", 2009). So an
//! open vocabulary (ids, search words) costs neither memory nor time without end.

use std::borrow::Cow;

use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3;

use super::Field;

/// How many names have an input of their own.
pub const OWN_INPUTS: usize = 448;
/// How many inputs all further names share.
pub const HASHED_INPUTS: usize = 64;
/// Seed of the hash (xxh3, 64 bits) that picks a shared input: the name; for a text also a zero byte and
/// the text.
pub const HASH_SEED: u64 = 0x006b_6169_726f_7300;

/// What an input stands for: the number or flag of a name, or one of its texts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) text: Option<String>,
}

/// Gives inputs to names.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Encoder {
    /// What each own input stands for.
    keys: Vec<Key>,
    by_name: HashMap<String, Inputs>,
    /// Whether the shared inputs are in use.
    hashes: bool,
}

/// The inputs of one name.
#[derive(Debug, Default, Clone, PartialEq)]
struct Inputs {
    value: Option<usize>,
    texts: HashMap<String, usize>,
}

impl Encoder {
    /// From what was saved; `None` when it cannot be right.
    pub(super) fn from_keys(keys: Vec<Key>, hashes: bool) -> Option<Encoder> {
        let full = keys.len() == OWN_INPUTS;
        if keys.len() > OWN_INPUTS || (hashes && !full) {
            return None;
        }
        let mut encoder = Encoder { hashes, ..Encoder::default() };
        for (input, key) in keys.iter().enumerate() {
            let of = encoder.by_name.entry(key.name.clone()).or_default();
            let before = match &key.text {
                None => of.value.replace(input),
                Some(text) => of.texts.insert(text.clone(), input),
            };
            if before.is_some() {
                return None;
            }
        }
        encoder.keys = keys;
        Some(encoder)
    }

    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }

    pub(super) fn hashes(&self) -> bool {
        self.hashes
    }

    /// How many inputs there are by now.
    pub(super) fn inputs(&self) -> usize {
        if self.hashes { OWN_INPUTS + HASHED_INPUTS } else { self.keys.len() }
    }

    /// Rows of [`Encoder::inputs`] numbers, one after the other; names seen for the first time get an input
    /// before any row is made.
    pub(super) fn encode<'r, 'a: 'r>(
        &mut self,
        rows: impl IntoIterator<Item = &'r [(Cow<'a, str>, Field<'a>)]>,
    ) -> Vec<f64> {
        // (row, input, value)
        let mut cells: Vec<(usize, usize, f64)> = Vec::new();
        let mut count = 0;
        // Rows mostly have the same names in the same order, so the last row's inputs are tried first.
        let (mut last, mut this): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        for row in rows {
            for (at, (name, field)) in row.iter().enumerate() {
                let (text, value) = match field {
                    Field::Number(v) if v.is_finite() => (None, *v),
                    Field::Flag(flag) => (None, f64::from(u8::from(*flag))),
                    Field::Text(text) => (Some(&**text), 1.0),
                    Field::Number(_) | Field::Missing => {
                        this.push(usize::MAX);
                        continue;
                    }
                };
                let guess = last.get(at).copied().filter(|i| self.is(*i, name, text));
                let input = guess.unwrap_or_else(|| self.input(name, text));
                this.push(input);
                cells.push((count, input, value));
            }
            count += 1;
            std::mem::swap(&mut last, &mut this);
            this.clear();
        }
        let width = self.inputs();
        let mut numbers = vec![0.0; count * width];
        for (row, input, value) in cells {
            let number = &mut numbers[row * width + input];
            // Names that share an input add up.
            *number = if input < OWN_INPUTS { value } else { *number + value };
        }
        numbers
    }

    fn is(&self, input: usize, name: &str, text: Option<&str>) -> bool {
        self.keys.get(input).is_some_and(|k| k.name == name && k.text.as_deref() == text)
    }

    fn input(&mut self, name: &str, text: Option<&str>) -> usize {
        let known = self.by_name.get(name).and_then(|of| match text {
            None => of.value,
            Some(text) => of.texts.get(text).copied(),
        });
        if let Some(input) = known {
            return input;
        }
        let input = self.keys.len();
        if input == OWN_INPUTS {
            self.hashes = true;
            return OWN_INPUTS + shared_input(name, text);
        }
        let of = self.by_name.entry(name.to_owned()).or_default();
        match text {
            None => of.value = Some(input),
            Some(text) => drop(of.texts.insert(text.to_owned(), input)),
        }
        self.keys.push(Key { name: name.to_owned(), text: text.map(str::to_owned) });
        input
    }
}

fn shared_input(name: &str, text: Option<&str>) -> usize {
    let mut hash = Xxh3::with_seed(HASH_SEED);
    hash.update(name.as_bytes());
    if let Some(text) = text {
        hash.update(&[0]);
        hash.update(text.as_bytes());
    }
    (hash.digest() % HASHED_INPUTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(name: &str, value: f64) -> (Cow<'_, str>, Field<'_>) {
        (Cow::Borrowed(name), Field::Number(value))
    }

    fn text<'a>(name: &'a str, text: &'a str) -> (Cow<'a, str>, Field<'a>) {
        (Cow::Borrowed(name), Field::Text(Cow::Borrowed(text)))
    }

    #[test]
    fn inputs_come_in_the_order_of_first_sight() {
        let mut encoder = Encoder::default();
        assert_eq!(encoder.encode([&[number("b", 2.0), text("kind", "x")][..]]), [2.0, 1.0]);
        let again = [text("kind", "y"), (Cow::Borrowed("on"), Field::Flag(true)), number("b", -1.0)];
        assert_eq!(encoder.encode([&again[..]]), [-1.0, 0.0, 1.0, 1.0]);
        let nothing: [(Cow<'_, str>, Field<'_>); 0] = [];
        assert_eq!(encoder.encode([&nothing[..]]), [0.0; 4]);
    }

    #[test]
    fn rows_are_as_wide_as_the_last_new_name_makes_them() {
        let mut encoder = Encoder::default();
        let rows = [vec![number("a", 1.0)], vec![], vec![number("b", 3.0), number("a", 2.0)]];
        assert_eq!(encoder.encode(rows.iter().map(|r| &r[..])), [1.0, 0.0, 0.0, 0.0, 2.0, 3.0]);
    }

    #[test]
    fn missing_and_infinite_values_are_zero_and_take_no_input() {
        let mut encoder = Encoder::default();
        let row = [number("a", f64::NAN), number("b", f64::INFINITY), ("c".into(), Field::Missing)];
        assert_eq!(encoder.encode([&row[..]]), Vec::<f64>::new());
    }

    #[test]
    fn a_number_and_a_text_of_one_name_are_different_inputs() {
        let mut encoder = Encoder::default();
        encoder.encode([&[number("a", 5.0)][..]]);
        assert_eq!(encoder.encode([&[text("a", "five")][..]]), [0.0, 1.0]);
    }

    #[test]
    fn names_without_end_share_a_bounded_number_of_inputs() {
        let mut encoder = Encoder::default();
        for i in 0..5_000 {
            let word = i.to_string();
            let numbers = encoder.encode([&[text("word", &word)][..]]);
            assert!(numbers.len() <= OWN_INPUTS + HASHED_INPUTS);
            assert_eq!(numbers.iter().sum::<f64>(), 1.0, "each text sets one input");
        }
        assert_eq!(encoder.inputs(), OWN_INPUTS + HASHED_INPUTS);
        // The same text has the same input, seen first or not.
        let (a, b) =
            (encoder.encode([&[text("word", "4999")][..]]), encoder.encode([&[text("word", "4999")][..]]));
        assert_eq!(a, b);
        let known = Encoder::from_keys(encoder.keys().to_vec(), true);
        assert_eq!(known.as_ref(), Some(&encoder));
    }

    #[test]
    fn keys_that_cannot_be_are_refused() {
        let key = || Key { name: "a".into(), text: None };
        assert_eq!(Encoder::from_keys(vec![key(), key()], false), None);
        assert_eq!(Encoder::from_keys(vec![key()], true), None);
    }
}
