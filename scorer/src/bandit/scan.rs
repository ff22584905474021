//! A quick way to read the usual lines.
//!
//! A round of fifty actions with features is twenty kilobytes, nearly all of it flat objects of numbers; a
//! general reader spends longer on it than the policy on the decision. This one knows rounds and rewards
//! without escapes and nothing else. Whatever it does not know, mistakes among it, is left to the general one,
//! which alone says what is wrong.

use std::borrow::Cow;

use super::{
    Field, Fields,
    lines::{ActionLine, Line, NamedFields, Reward, Token},
};

/// Powers of ten that are exact.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The line, where it is a usual one.
pub(super) fn line(text: &str) -> Option<Line<'_>> {
    let mut scan = Scan { text, bytes: text.as_bytes(), at: 0 };
    let mut line = Line::default();
    scan.object(|scan, name| match name {
        "round" if line.round.is_none() => scan.token().map(|token| line.round = Some(token)),
        "context" if line.context.is_none() => scan.fields().map(|fields| line.context = Some(fields)),
        "actions" if line.actions.is_none() => scan.actions().map(|actions| line.actions = Some(actions)),
        "reward" if line.reward.is_none() => scan.number().map(|r| line.reward = Some(Reward::One(r))),
        _ => None,
    })?;
    scan.space();
    (scan.at == scan.bytes.len()).then_some(line)
}

/// Each part moves on when it finds what it looks for. After `None` nothing of it counts.
struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn here(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.here(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// What comes after spaces.
    fn next(&mut self) -> Option<u8> {
        self.space();
        self.here()
    }

    fn skip(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then(|| self.at += 1)
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.bytes[self.at..].starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    /// A text without escapes.
    fn string(&mut self) -> Option<&'a str> {
        self.skip(b'"')?;
        let from = self.at;
        loop {
            match self.here()? {
                b'"' => break,
                b'\\' | ..0x20 => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(from..self.at - 1)
    }

    /// Calls `value` for each name, which must read what stands there.
    fn object(&mut self, mut value: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.skip(b'{')?;
        if self.next()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let name = self.string()?;
            self.skip(b':')?;
            self.space();
            value(self, name)?;
            match self.next()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    fn fields(&mut self) -> Option<NamedFields<'a>> {
        let mut fields: Fields<'a> = Vec::with_capacity(32);
        self.object(|scan, name| {
            let field = scan.field()?;
            fields.push((Cow::Borrowed(name), field));
            Some(())
        })?;
        Some(NamedFields(fields))
    }

    fn field(&mut self) -> Option<Field<'a>> {
        match self.here()? {
            b'"' => Some(Field::Text(Cow::Borrowed(self.string()?))),
            b't' => self.word("true").map(|()| Field::Flag(true)),
            b'f' => self.word("false").map(|()| Field::Flag(false)),
            b'n' => self.word("null").map(|()| Field::Missing),
            _ => self.number().map(Field::Number),
        }
    }

    fn actions(&mut self) -> Option<Vec<ActionLine<'a>>> {
        self.skip(b'[')?;
        let mut actions = Vec::with_capacity(64);
        if self.next()? == b']' {
            self.at += 1;
            return Some(actions);
        }
        loop {
            let (mut id, mut features) = (None, None);
            self.object(|scan, name| match name {
                "id" if id.is_none() => scan.token().map(|token| id = Some(token)),
                "features" if features.is_none() => scan.fields().map(|fields| features = Some(fields)),
                _ => None,
            })?;
            actions.push(ActionLine { id: id?, features });
            match self.next()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Some(actions);
                }
                _ => return None,
            }
        }
    }

    /// A text or a number, as written.
    fn token(&mut self) -> Option<Token<'a>> {
        let from = self.at;
        if self.here()? == b'"' {
            self.string()?;
        } else {
            self.number()?;
        }
        self.text.get(from..self.at).map(Token)
    }

    /// A number, rounded to the nearest.
    fn number(&mut self) -> Option<f64> {
        let from = self.at;
        let negative = self.here()? == b'-';
        self.at += usize::from(negative);
        let (first, mut digits) = (self.at, 0u64);
        self.digits(&mut digits)?;
        // JSON has no leading zeros.
        if self.bytes[first] == b'0' && self.at > first + 1 {
            return None;
        }
        let (mut places, mut exponent) = (0, false);
        if self.here() == Some(b'.') {
            self.at += 1;
            places = self.digits(&mut digits)?;
        }
        if matches!(self.here(), Some(b'e' | b'E')) {
            exponent = true;
            self.at += 1;
            self.at += usize::from(matches!(self.here(), Some(b'+' | b'-')));
            self.digits(&mut 0)?;
        }
        // Both are exact then, so one division rounds once (Clinger, "How to read floating point numbers
        // accurately", 1990).
        if !exponent && self.at - first <= 19 && digits < 1 << 53 && places < TENS.len() {
            let value = digits as f64 / TENS[places];
            return Some(if negative { -value } else { value });
        }
        self.text.get(from..self.at)?.parse().ok().filter(|v: &f64| v.is_finite())
    }

    /// At least one digit; how many there were. `sum` is right for up to nineteen.
    fn digits(&mut self, sum: &mut u64) -> Option<usize> {
        let from = self.at;
        while let Some(digit @ b'0'..=b'9') = self.here() {
            *sum = sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        (self.at > from).then_some(self.at - from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Option<f64> {
        let mut scan = Scan { text, bytes: text.as_bytes(), at: 0 };
        scan.number().filter(|_| scan.at == text.len())
    }

    #[test]
    fn what_is_no_json_is_left_to_the_general_reader() {
        for text in ["", "-", "01", "1.", ".5", "1e", "1e+", "+1", "NaN", "0x1", "1e999", "1_0"] {
            assert_eq!(number(text), None, "{text}");
        }
        for text in [
            "{}x",
            r#"{"round":1,}"#,
            r#"{"round":1,"round":2}"#,
            r#"{"round":1,"actions":[{"features":{}}]}"#,
            r#"{"round":"a\n"}"#,
            r#"{"save":"x"}"#,
            r#"{"round":1,"context":{"a":[1]}}"#,
            r#"{"round":1,"context":{"a":tru}}"#,
        ] {
            assert!(line(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn numbers_are_those_of_the_standard_library(value: f64, places in 0..20usize, whole: i64) {
            prop_assume!(value.is_finite());
            for text in [format!("{value}"), format!("{value:e}"), whole.to_string(), format!("{:.places$}", value % 1e6)] {
                prop_assert_eq!(number(&text), text.parse().ok(), "{}", text);
            }
        }

        #[test]
        fn what_it_reads_the_general_reader_reads_alike(
            text in r#"\{("round":[0-9a"]{1,2},?)?( "context": ?\{("[a-c]": ?([0-9]{1,3}|true|null|"x"|-?[0-9]\.5),?){0,3}\},?)?("actions":\[(\{"id":[0-9"]{1,3}(,"features":\{\})?\},?){0,2}\])?(,?"reward":-?[0-9]{1,2})?\} ?"#
        ) {
            if let Some(quick) = line(&text) {
                let general: Line<'_> = serde_json::from_str(&text).map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(format!("{quick:?}"), format!("{general:?}"));
            }
        }
    }
}
