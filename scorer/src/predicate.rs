//! Conditions over features, as tips state them: `sleep_debt.deficit_minutes_7d > 120`.

use std::{fmt, str::FromStr};

use features::value::Value;

/// One condition over one feature. A feature without a value satisfies `is null` and nothing else.
///
/// Text: `<view>.<feature>_<window> <op> <number>` with `<`, `<=`, `=`, `!=`, `>=`, `>`, or
/// `<view>.<feature>_<window> is null`, `… is not null`. Truth values compare as 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicate {
    /// Full name of the feature, such as `task_load.created_24h`.
    pub feature: String,
    /// What is asked of its value.
    pub test: Test,
}

/// What a [`Predicate`] asks of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Test {
    /// Below the number.
    Less(f64),
    /// The number or below.
    AtMost(f64),
    /// The number itself.
    Equal(f64),
    /// Any other number.
    NotEqual(f64),
    /// The number or above.
    AtLeast(f64),
    /// Above the number.
    Greater(f64),
    /// No value.
    IsNull,
    /// Any value, text included.
    IsNotNull,
}

impl Test {
    /// Whether `value` passes. Text passes `is not null` alone, for it compares with no number.
    pub fn passes(self, value: &Value) -> bool {
        let number = value.as_f64();
        match self {
            Test::Less(x) => number.is_some_and(|v| v < x),
            Test::AtMost(x) => number.is_some_and(|v| v <= x),
            Test::Equal(x) => number.is_some_and(|v| v == x),
            Test::NotEqual(x) => number.is_some_and(|v| v != x),
            Test::AtLeast(x) => number.is_some_and(|v| v >= x),
            Test::Greater(x) => number.is_some_and(|v| v > x),
            Test::IsNull => *value == Value::Null,
            Test::IsNotNull => *value != Value::Null,
        }
    }

    /// Whether a value that passes is sure to be there.
    pub fn needs_value(self) -> bool {
        self != Test::IsNull
    }
}

impl Predicate {
    /// The predicate with its feature's position in `names`, for values in that order; `None` when the
    /// feature is not among them.
    pub fn resolve(&self, names: &[String]) -> Option<Resolved> {
        let position = names.iter().position(|n| *n == self.feature)?;
        Some(Resolved { position, test: self.test })
    }
}

/// A [`Predicate`] bound to a position in a row of values. Evaluating it allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resolved {
    position: usize,
    test: Test,
}

impl Resolved {
    /// Whether the condition holds for `values`, given in the order it was resolved against.
    pub fn holds(&self, values: &[Value]) -> bool {
        values.get(self.position).is_some_and(|v| self.test.passes(v))
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, number) = match self.test {
            Test::Less(x) => ("<", x),
            Test::AtMost(x) => ("<=", x),
            Test::Equal(x) => ("=", x),
            Test::NotEqual(x) => ("!=", x),
            Test::AtLeast(x) => (">=", x),
            Test::Greater(x) => (">", x),
            Test::IsNull => return write!(f, "{} is null", self.feature),
            Test::IsNotNull => return write!(f, "{} is not null", self.feature),
        };
        write!(f, "{} {op} {number}", self.feature)
    }
}

/// Why a text is no predicate; names the part that is wrong and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PredicateError {
    /// No operator, or words that are none.
    #[error("`{0}` has no operator: use <, <=, =, !=, >=, > with a number, or `is null`, `is not null`")]
    Operator(String),
    /// The left side is no feature's name.
    #[error("`{0}` is not the name of a feature: use `view.feature_window`, such as `task_load.created_24h`")]
    Feature(String),
    /// The right side is no finite number.
    #[error("`{0}` is not a number to compare with: use one such as `3` or `0.5`")]
    Number(String),
}

impl FromStr for Predicate {
    type Err = PredicateError;

    fn from_str(text: &str) -> Result<Self, PredicateError> {
        let text = text.trim();
        let Some(at) = text.find(['<', '=', '!', '>']) else {
            let mut words = text.split_ascii_whitespace();
            let feature = words.next().unwrap_or_default();
            let test = match words.collect::<Vec<_>>()[..] {
                ["is", "null"] => Test::IsNull,
                ["is", "not", "null"] => Test::IsNotNull,
                _ => return Err(PredicateError::Operator(text.into())),
            };
            return Ok(Predicate { feature: feature_name(feature)?, test });
        };
        let feature = feature_name(text[..at].trim())?;
        let end = at + text[at..].find(|c| !matches!(c, '<' | '=' | '!' | '>')).unwrap_or(text.len() - at);
        let number = text[end..].trim();
        let x = number
            .parse::<f64>()
            .ok()
            .filter(|x| x.is_finite())
            .ok_or_else(|| PredicateError::Number(number.into()))?;
        let test = match &text[at..end] {
            "<" => Test::Less(x),
            "<=" => Test::AtMost(x),
            "=" => Test::Equal(x),
            "!=" => Test::NotEqual(x),
            ">=" => Test::AtLeast(x),
            ">" => Test::Greater(x),
            _ => return Err(PredicateError::Operator(text.into())),
        };
        Ok(Predicate { feature, test })
    }
}

/// `name` when it has the form of a feature's full name.
pub(crate) fn feature_name(name: &str) -> Result<String, PredicateError> {
    let word = |w: &str| {
        w.starts_with(|c: char| c.is_ascii_lowercase())
            && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    match name.split_once('.') {
        Some((view, feature)) if word(view) && word(feature) => Ok(name.to_owned()),
        _ => Err(PredicateError::Feature(name.into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(predicate: &str, value: Value) -> bool {
        let names = ["a.other_1h".to_owned(), "a.x_1h".to_owned()];
        let p: Predicate = predicate.parse().unwrap();
        p.resolve(&names).unwrap().holds(&[Value::Null, value])
    }

    #[test]
    fn compares_numbers() {
        for (op, below, same, above) in [
            ("<", true, false, false),
            ("<=", true, true, false),
            ("=", false, true, false),
            ("!=", true, false, true),
            (">=", false, true, true),
            (">", false, false, true),
        ] {
            let p = format!("a.x_1h {op} 3");
            assert_eq!(holds(&p, Value::Int(2)), below, "{p}");
            assert_eq!(holds(&p, Value::Float(3.0)), same, "{p}");
            assert_eq!(holds(&p, Value::Int(4)), above, "{p}");
            assert!(!holds(&p, Value::Null), "nothing compares with no value: {p}");
            assert!(!holds(&p, Value::Text("3".into())), "{p}");
        }
    }

    #[test]
    fn truth_is_a_number_and_null_is_asked_for() {
        assert!(holds("a.x_1h = 1", Value::Bool(true)));
        assert!(holds("a.x_1h is null", Value::Null));
        assert!(!holds("a.x_1h is null", Value::Int(0)));
        assert!(holds("a.x_1h is not null", Value::Text("home".into())));
        assert!(!holds("a.x_1h is not null", Value::Null));
    }

    #[test]
    fn an_unknown_feature_does_not_resolve() {
        let p: Predicate = "a.x_1h > 0".parse().unwrap();
        assert_eq!(p.resolve(&["a.x_24h".to_owned()]), None);
    }

    #[test]
    fn spaces_around_the_operator_are_free() {
        assert_eq!("a.x_1h>=3".parse::<Predicate>(), "  a.x_1h  >=  3 ".parse());
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| text.parse::<Predicate>().unwrap_err();
        assert_eq!(error("a.x_1h"), PredicateError::Operator("a.x_1h".into()));
        assert_eq!(error("a.x_1h is nul"), PredicateError::Operator("a.x_1h is nul".into()));
        assert_eq!(error("a.x_1h <> 3"), PredicateError::Operator("a.x_1h <> 3".into()));
        assert_eq!(error("x_1h > 3"), PredicateError::Feature("x_1h".into()));
        assert_eq!(error("> 3"), PredicateError::Feature("".into()));
        assert_eq!(error("a.x_1h > three"), PredicateError::Number("three".into()));
        assert_eq!(error("a.x_1h > inf"), PredicateError::Number("inf".into()));
        assert_eq!(error("a.x_1h >"), PredicateError::Number("".into()));
        assert!(error("").to_string().contains("is not null"));
    }

    fn any_test() -> impl Strategy<Value = Test> {
        let number = prop_oneof![(-1000i32..1000).prop_map(f64::from), prop::num::f64::NORMAL];
        (0..8, number).prop_map(|(which, x)| match which {
            0 => Test::Less(x),
            1 => Test::AtMost(x),
            2 => Test::Equal(x),
            3 => Test::NotEqual(x),
            4 => Test::AtLeast(x),
            5 => Test::Greater(x),
            6 => Test::IsNull,
            _ => Test::IsNotNull,
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(
            feature in "[a-z][a-z0-9_]{0,12}\\.[a-z][a-z0-9_]{0,12}",
            test in any_test(),
        ) {
            let p = Predicate { feature, test };
            prop_assert_eq!(p.to_string().parse::<Predicate>(), Ok(p));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Predicate>();
        }

        #[test]
        fn opposites_split_the_numbers(x in -100i64..100, value in -100i64..100) {
            let v = Value::Int(value);
            let x = x as f64;
            prop_assert_ne!(Test::Less(x).passes(&v), Test::AtLeast(x).passes(&v));
            prop_assert_ne!(Test::Greater(x).passes(&v), Test::AtMost(x).passes(&v));
            prop_assert_ne!(Test::Equal(x).passes(&v), Test::NotEqual(x).passes(&v));
        }
    }
}
