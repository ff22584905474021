//! What came of running a case, for people to read.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use features::Value;
use serde_json::Value as Json;

use super::{case::Case, same, way::Way};

/// So many ways are named where a value came out wrong in some and not in others.
const NAMED: usize = 3;

/// A value that is not the one expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Line of the expected values, from 0.
    pub line: usize,
    /// Feature, as `view.feature_window`.
    pub feature: String,
    /// What was expected.
    pub expected: Json,
    /// What came out, and in which ways, in the order they were run.
    pub got: Vec<(Json, Vec<String>)>,
}

/// See the module.
#[derive(Debug)]
pub struct Report {
    /// The case's folder.
    pub name: String,
    /// Ways it was run.
    pub ways: usize,
    /// Values expected.
    pub values: usize,
    /// Values that differ, in the order of the lines.
    pub differences: Vec<Difference>,
    /// Lines, from 0, that expect nothing.
    pub empty: Vec<usize>,
    /// Lines, from 0, that the file's own order allows to read from history alone, being later than a view
    /// allows.
    pub only_history: Vec<usize>,
    /// Entity and instant of each line.
    lines: Vec<(String, String)>,
    /// Looks at each value.
    looks: BTreeMap<(usize, String), usize>,
}

impl Report {
    pub(super) fn new(case: &Case) -> Report {
        let lines = &case.expected;
        Report {
            name: case.dir.display().to_string(),
            ways: 0,
            values: lines.iter().map(|e| e.values.len()).sum(),
            differences: Vec::new(),
            empty: (0..lines.len()).filter(|l| lines[*l].values.is_empty()).collect(),
            only_history: Vec::new(),
            lines: lines.iter().map(|e| (e.entity.clone(), e.at.clone())).collect(),
            looks: BTreeMap::new(),
        }
    }

    /// Whether every value came out as expected, and there were some.
    pub fn passed(&self) -> bool {
        self.differences.is_empty() && self.empty.is_empty() && self.values > 0
    }

    pub(super) fn ran(&mut self, case: &Case, way: &Way, read_now: HashSet<usize>) {
        self.ways += 1;
        // Where the order is ours, each line has its moment.
        if way.order.len() == case.signals.len() && self.only_history.is_empty() {
            self.only_history = (0..case.expected.len()).filter(|line| !read_now.contains(line)).collect();
        }
    }

    pub(super) fn looked(&mut self, line: usize, feature: &str, expected: &Json, got: &Value, how: &str) {
        *self.looks.entry((line, feature.to_owned())).or_default() += 1;
        if same(got, expected) {
            return;
        }
        let place = match self.differences.iter().position(|d| d.line == line && d.feature == feature) {
            Some(place) => place,
            None => {
                let place =
                    self.differences.partition_point(|d| (d.line, d.feature.as_str()) < (line, feature));
                let (feature, expected) = (feature.to_owned(), expected.clone());
                self.differences.insert(place, Difference { line, feature, expected, got: Vec::new() });
                place
            }
        };
        let got = serde_json::to_value(got).unwrap_or_default();
        let all = &mut self.differences[place].got;
        match all.iter_mut().find(|(other, _)| *other == got) {
            Some((_, ways)) => ways.push(how.to_owned()),
            None => all.push((got, vec![how.to_owned()])),
        }
    }

    fn ways_of(&self, d: &Difference, ways: &[String]) -> String {
        if self.looks.get(&(d.line, d.feature.clone())) == Some(&ways.len()) {
            return "in every way".to_owned();
        }
        let named = ways.iter().take(NAMED).map(|w| format!("({w})")).collect::<Vec<_>>().join(" ");
        match ways.len().checked_sub(NAMED) {
            Some(more) if more > 0 => format!("{named} and {more} more"),
            _ => named,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "ok  " } else { "FAIL" };
        writeln!(f, "{verdict} {}: {} values, {} ways", self.name, self.values, self.ways)?;
        if self.values == 0 && self.empty.is_empty() {
            writeln!(
                f,
                "  nothing is expected yet: fill it in with --complete, and --at an instant or several"
            )?;
        }
        let mut last = None;
        for d in &self.differences {
            let (entity, at) = &self.lines[d.line];
            if last.replace(d.line) != Some(d.line) {
                writeln!(f, "  {entity} at {at}")?;
            }
            writeln!(f, "    {}", d.feature)?;
            writeln!(f, "      expected  {}", d.expected)?;
            for (got, ways) in &d.got {
                writeln!(f, "      got       {got}  {}", self.ways_of(d, ways))?;
            }
        }
        for line in &self.empty {
            let (entity, at) = &self.lines[*line];
            writeln!(f, "  {entity} at {at}: no values yet; fill them in with --complete")?;
        }
        for line in &self.only_history {
            let (entity, at) = &self.lines[*line];
            writeln!(
                f,
                "  note: {entity} at {at} was read straight from history alone; signals come later than the views allow"
            )?;
        }
        Ok(())
    }
}
