//! Values as they cross the crate's boundary: no Arrow, no DataFusion.

use std::sync::Arc;

use ingest::{Millis, log::Position};
use serde::{Serialize, Serializer, ser::SerializeSeq};

/// One feature value.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// No value: an empty window of anything but a count.
    #[default]
    Null,
    /// Truth.
    Bool(bool),
    /// Counts and integer sums.
    Int(i64),
    /// Measures.
    Float(f64),
    /// Text.
    Text(Arc<str>),
    /// An instant.
    Time(Millis),
    /// Several values, in the order the aggregate defines.
    List(Vec<Value>),
}

impl Value {
    /// The value as a number, for models: truth is 0 or 1, instants are milliseconds, text has none.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Bool(b) => Some(f64::from(u8::from(*b))),
            Value::Int(i) => Some(*i as f64),
            Value::Float(f) => Some(*f),
            Value::Time(t) => Some(*t as f64),
            Value::Null | Value::Text(_) | Value::List(_) => None,
        }
    }
}

/// As JSON: instants are RFC 3339 text, floats that JSON cannot say are `"NaN"`, `"Infinity"`, `"-Infinity"`.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => s.serialize_unit(),
            Value::Bool(b) => s.serialize_bool(*b),
            Value::Int(i) => s.serialize_i64(*i),
            Value::Float(f) if f.is_nan() => s.serialize_str("NaN"),
            Value::Float(f) if f.is_infinite() => {
                s.serialize_str(if *f > 0.0 { "Infinity" } else { "-Infinity" })
            }
            Value::Float(f) => s.serialize_f64(*f),
            Value::Text(t) => s.serialize_str(t),
            Value::Time(t) => match jiff::Timestamp::from_millisecond(*t) {
                Ok(t) => s.collect_str(&t),
                Err(_) => s.serialize_i64(*t),
            },
            Value::List(v) => {
                let mut seq = s.serialize_seq(Some(v.len()))?;
                for x in v {
                    seq.serialize_element(x)?;
                }
                seq.end()
            }
        }
    }
}

/// The type of a feature's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// [`Value::Bool`]
    Bool,
    /// [`Value::Int`]
    Int,
    /// [`Value::Float`]
    Float,
    /// [`Value::Text`]
    Text,
    /// [`Value::Time`]
    Time,
    /// [`Value::List`]
    List,
}

/// The answer for one entity: values in the order of the prepared set.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow {
    /// Whom the values are about.
    pub entity: String,
    /// One value a prepared feature, in its order.
    pub values: Vec<Value>,
    /// For each value, how old the newest signal behind it is, in milliseconds; `None` when there is none.
    pub age_ms: Vec<Option<i64>>,
    /// The instant the values hold for.
    pub as_of: Millis,
    /// What the values of each view rest on, so that the row can be rebuilt later.
    pub parts: Vec<Part>,
    /// Whether they may be older than they should be: the online store is away and they were read earlier, or it is
    /// too far behind the log.
    pub stale: bool,
}

/// What the values of one view in a row rest on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// Name of the view.
    pub view: Arc<str>,
    /// Hash of its definition, in hexadecimal.
    pub version: Arc<str>,
    /// Everything below is in the values.
    #[serde(serialize_with = "as_text")]
    pub position: Position,
}

fn as_text<S: Serializer>(p: &Position, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(p)
}
