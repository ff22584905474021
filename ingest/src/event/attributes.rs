//! The attributes of an event, found in its text without copying it.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::NoRecord;

/// Names that no extension attribute has.
const KNOWN: [&str; 12] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "data",
    "data_base64",
    "receivedat",
    "kairoskey",
    "kairosdata",
];
/// How many extension attributes an event may have.
const MAX_EXTENSIONS: usize = 64;

/// The attributes as they stand in the text.
#[derive(Default)]
pub(super) struct Attributes<'a> {
    pub(super) id: Option<&'a RawValue>,
    pub(super) source: Option<&'a RawValue>,
    pub(super) kind: Option<&'a RawValue>,
    pub(super) subject: Option<&'a RawValue>,
    pub(super) time: Option<&'a RawValue>,
    pub(super) data: Option<&'a RawValue>,
    pub(super) data_base64: Option<&'a RawValue>,
    pub(super) receivedat: Option<&'a RawValue>,
    pub(super) kairoskey: Option<&'a RawValue>,
    pub(super) kairosdata: Option<&'a RawValue>,
    pub(super) extensions: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// Whether an attribute of this name has a meaning of its own.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

impl<'a> Attributes<'a> {
    /// Reads one object.
    pub(super) fn read(json: &'a [u8]) -> Result<Attributes<'a>, NoRecord> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        reader
            .deserialize_map(Object)
            .and_then(|attributes| reader.end().map(|()| attributes))
            .map_err(|e| NoRecord(e.to_string()))
    }

    /// The text of an attribute that must be there.
    pub(super) fn required(&self, name: &str, value: Option<&'a RawValue>) -> Result<Cow<'a, str>, NoRecord> {
        self.optional(name, value)?.ok_or_else(|| NoRecord(format!("`{name}` is missing")))
    }

    /// The text of an attribute; null is the same as leaving it out.
    pub(super) fn optional(
        &self,
        name: &str,
        value: Option<&'a RawValue>,
    ) -> Result<Option<Cow<'a, str>>, NoRecord> {
        let Some(raw) = value.map(RawValue::get).filter(|raw| *raw != "null") else { return Ok(None) };
        match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
            Some(inner) if !inner.contains('\\') => Ok(Some(Cow::Borrowed(inner))),
            _ => serde_json::from_str(raw)
                .map(|text| Some(Cow::Owned(text)))
                .map_err(|_| NoRecord(format!("`{name}` must be a text"))),
        }
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Attributes<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudEvents object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes<'de>, A::Error> {
        let mut found = Attributes::default();
        while let Some(name) = map.next_key_seed(Name)? {
            let value = map.next_value::<&RawValue>()?;
            let place = match &*name {
                "id" => &mut found.id,
                "source" => &mut found.source,
                "type" => &mut found.kind,
                "subject" => &mut found.subject,
                "time" => &mut found.time,
                "data" => &mut found.data,
                "data_base64" => &mut found.data_base64,
                "receivedat" => &mut found.receivedat,
                "kairoskey" => &mut found.kairoskey,
                "kairosdata" => &mut found.kairosdata,
                "specversion" | "datacontenttype" => continue,
                _ => {
                    if found.extensions.len() == MAX_EXTENSIONS {
                        return Err(A::Error::custom(format_args!("more than {MAX_EXTENSIONS} extensions")));
                    }
                    found.extensions.push((name, value));
                    continue;
                }
            };
            if place.replace(value).is_some() {
                return Err(A::Error::custom(format_args!("`{name}` stands there twice")));
            }
        }
        Ok(found)
    }
}

/// A key, borrowed where it has no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of an attribute")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}
