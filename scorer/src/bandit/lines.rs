//! The lines of a session, as they are read and written.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::Field;

/// Any line; which one it is, its keys tell.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    pub(super) round: Option<Token<'a>>,
    #[serde(borrow)]
    pub(super) context: Option<NamedFields<'a>>,
    #[serde(borrow)]
    pub(super) actions: Option<Vec<ActionLine<'a>>>,
    /// How many actions are wanted, where it is not one.
    pub(super) k: Option<usize>,
    pub(super) reward: Option<Reward>,
    pub(super) save: Option<String>,
    pub(super) load: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActionLine<'a> {
    #[serde(borrow)]
    pub(super) id: Token<'a>,
    #[serde(borrow)]
    pub(super) features: Option<NamedFields<'a>>,
}

/// What a round was worth.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "`reward` is a finite number; for a slate it is a list of k numbers, null where unknown"
)]
pub(super) enum Reward {
    One(f64),
    Each(Vec<Option<f64>>),
}

/// The JSON of a round or an action as it was written, so that the answer has it in the same type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a>(pub(super) &'a str);

impl<'a> Token<'a> {
    /// What it is known by; only texts and numbers are.
    pub(super) fn key(self) -> Option<Cow<'a, str>> {
        match self.0.as_bytes().first()? {
            b'"' if !self.0.contains('\\') => Some(Cow::Borrowed(self.0.trim_matches('"'))),
            b'"' => serde_json::from_str::<Name<'a>>(self.0).ok().map(|name| name.0),
            b'-' | b'0'..=b'9' => Some(Cow::Borrowed(self.0)),
            _ => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Token<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(from).map(|raw| Token(raw.get()))
    }
}

impl Serialize for Token<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(self.0).map_err(serde::ser::Error::custom)?.serialize(to)
    }
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The answer to a round.
#[derive(Serialize)]
pub(super) struct Answer<'a> {
    pub(super) round: Token<'a>,
    pub(super) action: Token<'a>,
    pub(super) propensity: f64,
    /// One probability an action, in the order they were given.
    pub(super) distribution: &'a [f64],
    pub(super) policy: &'a str,
}

/// The answer to a round with `k`.
#[derive(Serialize)]
pub(super) struct SlateAnswer<'a> {
    pub(super) round: Token<'a>,
    pub(super) slate: Vec<Place<'a>>,
    pub(super) policy: &'a str,
}

/// One place of a slate.
#[derive(Serialize)]
pub(super) struct Place<'a> {
    pub(super) action: Token<'a>,
    /// Given the places before it.
    pub(super) propensity: f64,
}

/// The answers to the other lines.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Done<'a> {
    Saved(&'a str),
    Loaded(&'a str),
}

/// The answer to a line that cannot be followed.
#[derive(Serialize)]
pub(super) struct Refused<'a> {
    pub(super) error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) round: Option<Token<'a>>,
}

/// An object of named values, read without a tree in between and borrowed where nothing is escaped.
#[derive(Debug)]
pub(super) struct NamedFields<'a>(pub(super) super::Fields<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for NamedFields<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = NamedFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of named values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(32);
                while let Some((Name(name), Read(field))) = map.next_entry()? {
                    fields.push((name, field));
                }
                Ok(NamedFields(fields))
            }
        }
        from.deserialize_map(Object)
    }
}

/// A text, borrowed where nothing in it is escaped.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(v)))
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(v.to_owned())))
            }
        }
        from.deserialize_str(Text)
    }
}

struct Read<'a>(Field<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Read<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct AnyValue;
        impl<'de> Visitor<'de> for AnyValue {
            type Value = Read<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a text, true, false or null")
            }

            fn visit_f64<E: Error>(self, v: f64) -> Result<Self::Value, E> {
                Ok(Read(Field::Number(v)))
            }

            fn visit_i64<E: Error>(self, v: i64) -> Result<Self::Value, E> {
                Ok(Read(Field::Number(v as f64)))
            }

            fn visit_u64<E: Error>(self, v: u64) -> Result<Self::Value, E> {
                Ok(Read(Field::Number(v as f64)))
            }

            fn visit_bool<E: Error>(self, v: bool) -> Result<Self::Value, E> {
                Ok(Read(Field::Flag(v)))
            }

            fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Read(Field::Text(Cow::Borrowed(v))))
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Read(Field::Text(Cow::Owned(v.to_owned()))))
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Read(Field::Missing))
            }
        }
        from.deserialize_any(AnyValue)
    }
}
