//! The sentence under a tip that says why it came now, with the person's own figures in it.

use std::fmt::Write as _;

use features::value::Value;

use crate::predicate::{PredicateError, feature_name};

/// A sentence with places for values: `You finished {task_activity.completed_24h} tasks today.`
///
/// `{feature}` writes whole numbers as they are and others with at most one decimal;
/// `{feature|hours}` reads a number of minutes and writes it as `2 h 5 min`.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Value { feature: String, hours: bool },
}

/// Why a text is no such sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WhyError {
    /// A brace without its partner.
    #[error("a `{{` without its `}}`, or the other way round, near `{0}`")]
    Brace(String),
    /// What stands in braces is no feature.
    #[error(transparent)]
    Feature(#[from] PredicateError),
    /// What follows the bar is not known.
    #[error("`{0}` is no way to write a value: leave it out, or use `hours`")]
    Style(String),
}

impl Why {
    /// Reads a sentence.
    pub fn parse(text: &str) -> Result<Why, WhyError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let open = rest.find('{').unwrap_or(rest.len());
            let (before, from_brace) = rest.split_at(open);
            if before.contains('}') {
                return Err(WhyError::Brace(rest.into()));
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            let Some(inside) = from_brace.strip_prefix('{') else { break };
            let (inside, after) = inside.split_once('}').ok_or_else(|| WhyError::Brace(from_brace.into()))?;
            let (name, hours) = match inside.split_once('|') {
                None => (inside, false),
                Some((name, "hours")) => (name, true),
                Some((_, style)) => return Err(WhyError::Style(style.into())),
            };
            pieces.push(Piece::Value { feature: feature_name(name)?, hours });
            rest = after;
        }
        Ok(Why { pieces })
    }

    /// Names of the features whose values the sentence tells.
    pub fn features(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|p| match p {
            Piece::Value { feature, .. } => Some(feature.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The sentence with `values`, which stand in the order of `names`. `None` when one it tells of is
    /// missing, so that nobody reads half a sentence.
    pub fn render(&self, names: &[String], values: &[Value]) -> Option<String> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value { feature, hours } => {
                    let value = values.get(names.iter().position(|n| n == feature)?)?;
                    match (value, hours) {
                        (Value::Text(text), _) => out.push_str(text),
                        (value, true) => write_hours(&mut out, value.as_f64()?),
                        (value, false) => write_number(&mut out, value.as_f64()?),
                    }
                }
            }
        }
        Some(out)
    }
}

fn write_number(out: &mut String, x: f64) {
    let rounded = (x * 10.0).round() / 10.0;
    // Writing to a String cannot fail. Adding 0 turns -0 into 0.
    let _ = write!(out, "{}", rounded + 0.0);
}

fn write_hours(out: &mut String, minutes: f64) {
    let total = minutes.round().max(0.0) as u64;
    let _ = match (total / 60, total % 60) {
        (0, m) => write!(out, "{m} min"),
        (h, 0) => write!(out, "{h} h"),
        (h, m) => write!(out, "{h} h {m} min"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, value: Value) -> Option<String> {
        Why::parse(template).unwrap().render(&["a.x_1h".to_owned()], &[value])
    }

    #[test]
    fn values_are_written_for_people() {
        assert_eq!(render("Done: {a.x_1h}.", Value::Int(1200)).unwrap(), "Done: 1200.");
        assert_eq!(render("{a.x_1h}", Value::Float(2.345)).unwrap(), "2.3");
        assert_eq!(render("{a.x_1h}", Value::Float(-0.01)).unwrap(), "0");
        assert_eq!(render("{a.x_1h|hours} short", Value::Int(125)).unwrap(), "2 h 5 min short");
        assert_eq!(render("{a.x_1h|hours}", Value::Float(59.7)).unwrap(), "1 h");
        assert_eq!(render("{a.x_1h|hours}", Value::Int(7)).unwrap(), "7 min");
        assert_eq!(render("At {a.x_1h}.", Value::Text("home".into())).unwrap(), "At home.");
        assert_eq!(render("No value in here.", Value::Null).unwrap(), "No value in here.");
    }

    #[test]
    fn a_missing_value_leaves_no_half_sentence() {
        assert_eq!(render("Done: {a.x_1h}.", Value::Null), None);
        assert_eq!(render("Done: {a.y_1h}.", Value::Int(1)), None);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(matches!(Why::parse("a { b"), Err(WhyError::Brace(_))));
        assert!(matches!(Why::parse("a } b {a.x_1h}"), Err(WhyError::Brace(_))));
        assert!(matches!(Why::parse("{x}"), Err(WhyError::Feature(_))));
        assert_eq!(Why::parse("{a.x_1h|days}"), Err(WhyError::Style("days".into())));
    }
}
