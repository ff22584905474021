//! Contexts as numbers for the reward models.
//!
//! A number is standardised; a text has an input for each of its commonest values; what is missing counts as
//! the mean, and has an input that says so.

use std::collections::HashMap;

/// Most inputs; further columns are not looked at.
const MOST_INPUTS: usize = 128;
/// Most texts of a column that have an input of their own.
const MOST_TEXTS: usize = 24;
/// Most different texts of a column that are counted while looking for the commonest.
const MOST_COUNTED: usize = 10_000;

/// One value of a context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell<'a> {
    /// There is none.
    Missing,
    /// A number; flags are 0 and 1.
    Number(f64),
    /// Anything else.
    Text(&'a str),
}

/// What is known of a column so far.
#[derive(Debug, Default)]
struct Seen {
    numbers: f64,
    mean: f64,
    squares: f64,
    texts: HashMap<String, u64>,
    missing: bool,
}

/// Looks at contexts, to find out how to encode them.
#[derive(Debug, Default)]
pub(super) struct Survey {
    columns: Vec<Seen>,
}

impl Survey {
    /// Adds the value of a column; columns not named at all in a context must be added as missing.
    pub(super) fn see(&mut self, column: usize, cell: Cell<'_>) {
        while self.columns.len() <= column {
            self.columns.push(Seen::default());
        }
        let seen = &mut self.columns[column];
        match cell {
            Cell::Number(v) if v.is_finite() => {
                // Welford's running moments.
                seen.numbers += 1.0;
                let away = v - seen.mean;
                seen.mean += away / seen.numbers;
                seen.squares += away * (v - seen.mean);
            }
            Cell::Text(text) => {
                let full = seen.texts.len() >= MOST_COUNTED;
                if let Some(count) = seen.texts.get_mut(text) {
                    *count += 1;
                } else if !full {
                    seen.texts.insert(text.to_owned(), 1);
                }
            }
            _ => seen.missing = true,
        }
    }

    /// The encoding of what was seen.
    pub(super) fn encoder(self) -> Encoder {
        let mut width = 1;
        let mut columns = Vec::with_capacity(self.columns.len());
        for seen in self.columns {
            let mut room = |wanted: bool| {
                let given = wanted && width < MOST_INPUTS;
                width += usize::from(given);
                given.then(|| width - 1)
            };
            let spread = (seen.squares / seen.numbers.max(1.0)).sqrt();
            let varies = spread > 1e-9 * seen.mean.abs().max(1e-12);
            let number = room(varies);
            let missing = room(seen.missing && (seen.numbers > 0.0 || !seen.texts.is_empty()));
            let mut common: Vec<(String, u64)> = seen.texts.into_iter().collect();
            common.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            let texts = common.into_iter().take(MOST_TEXTS);
            let texts = texts.filter_map(|(text, _)| Some((text, room(true)?))).collect();
            columns.push(Column { number, mean: seen.mean, spread, missing, texts });
        }
        Encoder { columns, width }
    }
}

#[derive(Debug)]
struct Column {
    number: Option<usize>,
    mean: f64,
    spread: f64,
    missing: Option<usize>,
    texts: HashMap<String, usize>,
}

/// Turns contexts into inputs, of which the first is always 1.
#[derive(Debug)]
pub(super) struct Encoder {
    columns: Vec<Column>,
    width: usize,
}

impl Encoder {
    /// How many inputs there are.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Sets `inputs`, of the length [`Encoder::width`], by the cells of a context.
    pub(super) fn encode<'a>(&self, cell: impl Fn(usize) -> Cell<'a>, inputs: &mut [f32]) {
        inputs.fill(0.0);
        inputs[0] = 1.0;
        for (i, column) in self.columns.iter().enumerate() {
            let (input, value) = match cell(i) {
                // A value far out of what was seen would carry a linear model anywhere.
                Cell::Number(v) if v.is_finite() => {
                    (column.number, ((v - column.mean) / column.spread.max(1e-300)).clamp(-8.0, 8.0))
                }
                Cell::Text(text) => (column.texts.get(text).copied(), 1.0),
                _ => (column.missing, 1.0),
            };
            if let Some(input) = input {
                inputs[input] = value as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_texts_and_gaps_have_inputs() {
        let rows = [
            [Cell::Number(1.0), Cell::Text("a"), Cell::Number(7.0)],
            [Cell::Number(3.0), Cell::Text("b"), Cell::Number(7.0)],
            [Cell::Missing, Cell::Text("a"), Cell::Number(7.0)],
        ];
        let mut survey = Survey::default();
        for row in &rows {
            row.iter().enumerate().for_each(|(i, c)| survey.see(i, *c));
        }
        let encoder = survey.encoder();
        // 1, the number, its absence, two texts; the constant column has none.
        assert_eq!(encoder.width(), 5);
        let mut inputs = vec![9.0; 5];
        encoder.encode(|i| rows[1][i], &mut inputs);
        assert_eq!(inputs, [1.0, 1.0, 0.0, 0.0, 1.0]);
        encoder.encode(|i| rows[2][i], &mut inputs);
        assert_eq!(inputs, [1.0, 0.0, 1.0, 1.0, 0.0]);
        encoder.encode(|_| Cell::Text("unheard of"), &mut inputs);
        assert_eq!(inputs, [1.0, 0.0, 0.0, 0.0, 0.0]);
        encoder.encode(|_| Cell::Number(1e300), &mut inputs);
        assert_eq!(inputs[1], 8.0);
    }

    #[test]
    fn inputs_are_bounded() {
        let mut survey = Survey::default();
        for row in 0..3 {
            for column in 0..500 {
                survey.see(column, Cell::Number((row * column) as f64));
            }
        }
        assert_eq!(survey.encoder().width(), MOST_INPUTS);
    }
}
