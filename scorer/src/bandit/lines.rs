//! The lines of a session, as they are read and written.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::Field;

/// Any line; which one it is, its keys tell.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line<'a> {
    /// Kept as written, so that the answer has it in the same type.
    #[serde(borrow)]
    pub(super) round: Option<&'a RawValue>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActionLine<'a> {
    #[serde(borrow)]
    pub(super) id: &'a RawValue,
    #[serde(borrow)]
    pub(super) features: Option<NamedFields<'a>>,
}

/// What a round was worth.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "`reward` is a finite number; for a slate it is a list of k numbers, null where unknown"
)]
pub(super) enum Reward {
    One(f64),
    Each(Vec<Option<f64>>),
}

/// A round or an action is a text or a number; both have a key to be known by.
pub(super) fn key(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = raw.get();
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str::<Name<'_>>(text).ok().map(|name| name.0),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(text)),
        _ => None,
    }
}

/// The answer to a round.
#[derive(Serialize)]
pub(super) struct Answer<'a> {
    pub(super) round: &'a RawValue,
    pub(super) action: &'a RawValue,
    pub(super) propensity: f64,
    /// One probability an action, in the order they were given.
    pub(super) distribution: &'a [f64],
    pub(super) policy: &'a str,
}

/// The answer to a round with `k`.
#[derive(Serialize)]
pub(super) struct SlateAnswer<'a> {
    pub(super) round: &'a RawValue,
    pub(super) slate: Vec<Place<'a>>,
    pub(super) policy: &'a str,
}

/// One place of a slate.
#[derive(Serialize)]
pub(super) struct Place<'a> {
    pub(super) action: &'a RawValue,
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
    pub(super) round: Option<&'a RawValue>,
}

/// An object of named values, read without a tree in between and borrowed where nothing is escaped.
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
