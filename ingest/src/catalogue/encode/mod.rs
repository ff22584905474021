//! `data` in JSON, checked and encoded in one pass.
//!
//! A visitor for each place a value may stand in writes protobuf straight into the output; there is no
//! message in between. What is given is always written, a zero too, so that absent and zero stay apart.

mod key;
mod reason;
mod scalar;
mod slot;

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use self::{
    reason::{short, unknown_field},
    slot::{Place, Slot},
};
use super::{
    UnknownFields,
    error::Invalid,
    shape::{FieldSet, Message},
};

/// Encodes JSON text as a message of the type `kind`.
pub(crate) fn encode_text(
    kind: &str,
    message: &Message,
    data: &str,
    unknown: UnknownFields,
) -> Result<Vec<u8>, Invalid> {
    encode(kind, message, &mut serde_json::Deserializer::from_str(data), true, unknown)
}

/// Encodes a JSON value as a message of the type `kind`.
pub(crate) fn encode_value(
    kind: &str,
    message: &Message,
    data: &serde_json::Value,
    unknown: UnknownFields,
) -> Result<Vec<u8>, Invalid> {
    encode(kind, message, data, false, unknown)
}

fn encode<'de, D: Deserializer<'de>>(
    kind: &str,
    message: &Message,
    data: D,
    text: bool,
    unknown: UnknownFields,
) -> Result<Vec<u8>, Invalid> {
    let out = Vec::with_capacity(128);
    let mut writer = Writer { kind, out, text, unknown, reason: None, inside: Vec::new() };
    match data.deserialize_any(TopLevel { writer: &mut writer, message }) {
        Ok(()) => Ok(writer.out),
        Err(error) => Err(writer.invalid(&error.to_string())),
    }
}

struct Writer<'a> {
    kind: &'a str,
    out: Vec<u8>,
    /// Whether the JSON is text.
    text: bool,
    unknown: UnknownFields,
    /// What is wrong; nothing while the fault is in the JSON itself.
    reason: Option<String>,
    /// Where it is wrong, innermost first; filled on the way out.
    inside: Vec<String>,
}

impl Writer<'_> {
    fn fault<E: Error>(&mut self, reason: String) -> E {
        self.reason = Some(reason);
        E::custom("")
    }

    /// Notes on the way out where the error happened.
    fn within<E>(&mut self, step: String, error: E) -> E {
        self.inside.push(step);
        error
    }

    fn invalid(mut self, error: &str) -> Invalid {
        self.inside.push("data".to_owned());
        let field = self.inside.iter().rev().map(String::as_str).collect();
        let syntax = || error.split(" at line ").next().unwrap_or_default().to_owned();
        Invalid { field, reason: self.reason.unwrap_or_else(syntax) }
    }

    /// Starts a length-delimited value of unknown length.
    fn open(&mut self, number: u32) -> usize {
        encode_key(number, WireType::LengthDelimited, &mut self.out);
        self.out.push(0);
        self.out.len()
    }

    /// Writes the length in front of what was written since `open`.
    fn close(&mut self, start: usize) {
        let length = self.out.len() - start;
        let more = encoded_len_varint(length as u64) - 1;
        if more > 0 {
            self.out.resize(self.out.len() + more, 0);
            self.out.copy_within(start..start + length, start + more);
        }
        let mut place = &mut self.out[start - 1..start + more];
        encode_varint(length as u64, &mut place);
    }
}

struct TopLevel<'w, 'a> {
    writer: &'w mut Writer<'a>,
    message: &'a Message,
}

impl<'de> Visitor<'de> for TopLevel<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        write_message(self.writer, self.message, map)
    }
}

fn write_message<'de, 'a, A: MapAccess<'de>>(
    writer: &mut Writer<'a>,
    message: &'a Message,
    mut map: A,
) -> Result<(), A::Error> {
    let (mut given, mut set) = (FieldSet::default(), FieldSet::default());
    while let Some(name) = map.next_key_seed(Name(message))? {
        let index = match name {
            Ok(index) => index,
            Err(name) if writer.unknown == UnknownFields::Reject => {
                let fault = writer.fault(unknown_field(writer.kind, message));
                return Err(writer.within(format!(".{name}"), fault));
            }
            Err(_) => {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
        };
        let field = &message.fields[index];
        let step = || format!(".{}", field.name);
        if !given.insert(index) {
            let fault = writer.fault("given twice; leave one".to_owned());
            return Err(writer.within(step(), fault));
        }
        let before = writer.out.len();
        let value = Slot { writer: &mut *writer, field, place: Place::Field };
        if let Err(error) = map.next_value_seed(value) {
            return Err(writer.within(step(), error));
        }
        if let Some(oneof) = field.oneof.as_ref().filter(|_| writer.out.len() > before) {
            if let Some(other) = oneof.members.first_common(&set) {
                let other = &message.fields[other].name;
                let reason = format!("`{other}` is given too, and only one of `{}` may be", oneof.name);
                let fault = writer.fault(reason);
                return Err(writer.within(step(), fault));
            }
            set.insert(index);
        }
    }
    Ok(())
}
/// Finds the field a key names: its index, or the key if there is none.
struct Name<'a>(&'a Message);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Result<usize, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.named(name).ok_or_else(|| short(name)))
    }
}
