//! `data` in JSON, checked and encoded in one pass.
//!
//! A visitor for each place a value may stand in writes protobuf straight into the output; there is no
//! message in between. What is given is always written, a zero too, so that absent and zero stay apart.

use std::collections::HashSet;

use prost::{
    bytes::BufMut,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::{
    UnknownFields,
    error::Invalid,
    shape::{Cardinality, Field, FieldSet, Kind, Message, Scalar},
    text,
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

fn unknown_field(kind: &str, message: &Message) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = message.fields.iter().take(SHOWN).map(|f| f.name.as_str()).collect();
    let more = if message.fields.len() > SHOWN { ", …" } else { "" };
    format!("not a field of `{kind}`; here it has {}{more}", names.join(", "))
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

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is the whole field.
    Field,
    /// It is an element of the field's list.
    Element,
    /// It is a value of the field's map.
    MapValue,
}

/// Takes one value and writes it.
struct Slot<'w, 'a> {
    writer: &'w mut Writer<'a>,
    field: &'a Field,
    place: Place,
}

impl<'a> Slot<'_, 'a> {
    /// The field's kind, if one plain value belongs here.
    fn single(&self) -> Option<&'a Kind> {
        (self.place != Place::Field || self.field.cardinality == Cardinality::One).then_some(&self.field.kind)
    }

    fn number(&self) -> u32 {
        if self.place == Place::MapValue { 2 } else { self.field.number }
    }

    /// Starts a value; elements of a packed list stand without key.
    fn key(&mut self, wire: WireType) {
        if self.place != Place::Element || !self.field.kind.packs() {
            encode_key(self.number(), wire, &mut self.writer.out);
        }
    }

    fn mismatch<E: Error>(&mut self, got: &str) -> E {
        let expected = match (self.single(), self.field.cardinality) {
            (Some(kind), _) => expected(kind),
            (None, Cardinality::List) => "a list".to_owned(),
            (None, _) => "an object".to_owned(),
        };
        self.writer.fault(format!("expected {expected}, got {got}"))
    }

    /// Writes a plain value, in its wrapper if it has one.
    fn scalar<E: Error>(
        mut self,
        scalar: Scalar,
        got: impl FnOnce() -> String,
        write: impl FnOnce(&mut Vec<u8>) -> Result<bool, String>,
    ) -> Result<(), E> {
        let wrapper = match self.field.kind {
            Kind::Wrapped(_) => {
                let start = self.writer.open(self.number());
                encode_key(1, scalar.wire(), &mut self.writer.out);
                Some(start)
            }
            _ => {
                self.key(scalar.wire());
                None
            }
        };
        match write(&mut self.writer.out) {
            Ok(true) => {}
            Ok(false) => return Err(self.mismatch(&got())),
            Err(reason) => return Err(self.writer.fault(reason)),
        }
        if let Some(start) = wrapper {
            self.writer.close(start);
        }
        Ok(())
    }

    fn seconds_and_nanos(self, (seconds, nanos): (i64, i32)) {
        let start = self.writer.open(self.number());
        for (number, part) in [(1, seconds), (2, i64::from(nanos))] {
            if part != 0 {
                encode_key(number, WireType::Varint, &mut self.writer.out);
                encode_varint(part as u64, &mut self.writer.out);
            }
        }
        self.writer.close(start);
    }

    fn integer<E: Error>(mut self, number: i128) -> Result<(), E> {
        match self.single() {
            Some(Kind::Scalar(s) | Kind::Wrapped(s)) => {
                let scalar = *s;
                self.scalar(scalar, || number.to_string(), |out| write_integer(scalar, number, out))
            }
            Some(Kind::Enum(declared)) => match i32::try_from(number) {
                Ok(known) if declared.name(known).is_some() => {
                    self.key(WireType::Varint);
                    encode_varint(i64::from(known) as u64, &mut self.writer.out);
                    Ok(())
                }
                _ => Err(self.mismatch(&number.to_string())),
            },
            _ => Err(self.mismatch(&number.to_string())),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Slot<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let float = matches!(
            self.single(),
            Some(
                Kind::Scalar(Scalar::Float | Scalar::Double) | Kind::Wrapped(Scalar::Float | Scalar::Double)
            )
        );
        if !float || !self.writer.text {
            return deserializer.deserialize_any(self);
        }
        // serde_json may read a fraction one bit off; the standard library reads it exactly.
        let text = <&RawValue>::deserialize(deserializer)?.get();
        if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return match text.parse() {
                Ok(number) if f64::is_finite(number) => self.visit_f64(number),
                _ => Err(self.writer.fault(format!("{} is out of the range of double", short(text)))),
            };
        }
        serde_json::Deserializer::from_str(text).deserialize_any(self).map_err(D::Error::custom)
    }
}

impl<'de> Visitor<'de> for Slot<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        if self.place == Place::Field { Ok(()) } else { Err(self.mismatch("null")) }
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        match self.single() {
            Some(Kind::Scalar(s @ Scalar::Bool) | Kind::Wrapped(s @ Scalar::Bool)) => {
                self.scalar(*s, String::new, |out| {
                    out.push(u8::from(value));
                    Ok(true)
                })
            }
            _ => Err(self.mismatch(if value { "true" } else { "false" })),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(i128::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(i128::from(value))
    }

    fn visit_f64<E: Error>(mut self, value: f64) -> Result<(), E> {
        match self.single() {
            Some(Kind::Scalar(s @ (Scalar::Float | Scalar::Double)))
            | Some(Kind::Wrapped(s @ (Scalar::Float | Scalar::Double))) => {
                self.scalar(*s, String::new, |out| write_float(*s, value, out))
            }
            Some(_) if value.fract() == 0.0 && value.abs() < 1e30 => self.integer(value as i128),
            _ => Err(self.mismatch(&value.to_string())),
        }
    }

    fn visit_str<E: Error>(mut self, value: &str) -> Result<(), E> {
        match self.single() {
            Some(Kind::Scalar(s) | Kind::Wrapped(s)) => {
                let scalar = *s;
                self.scalar(scalar, || quoted(value), |out| write_text(scalar, value, out))
            }
            Some(Kind::Enum(declared)) => match declared.number(value) {
                Some(number) => {
                    self.key(WireType::Varint);
                    encode_varint(i64::from(number) as u64, &mut self.writer.out);
                    Ok(())
                }
                None => Err(self.mismatch(&quoted(value))),
            },
            Some(Kind::Timestamp) => match text::parse_timestamp(value) {
                Some(parts) => Ok(self.seconds_and_nanos(parts)),
                None => Err(self.mismatch(&quoted(value))),
            },
            Some(Kind::Duration) => match text::parse_duration(value) {
                Some(parts) => Ok(self.seconds_and_nanos(parts)),
                None => Err(self.mismatch(&quoted(value))),
            },
            _ => Err(self.mismatch(&quoted(value))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        match (self.single(), self.field.cardinality) {
            (None, Cardinality::List) => {}
            // Some senders cannot tell an empty object from an empty list.
            (None, _) if list.next_element::<IgnoredAny>()?.is_none() => return Ok(()),
            _ => return Err(self.mismatch("a list")),
        }
        let before = self.writer.out.len();
        let start = self.field.kind.packs().then(|| self.writer.open(self.field.number));
        let mut index = 0;
        loop {
            let element = Slot { writer: &mut *self.writer, field: self.field, place: Place::Element };
            match list.next_element_seed(element) {
                Ok(Some(())) => index += 1,
                Ok(None) => break,
                Err(error) => return Err(self.writer.within(format!("[{index}]"), error)),
            }
        }
        match start {
            Some(_) if index == 0 => self.writer.out.truncate(before),
            Some(start) => self.writer.close(start),
            None => {}
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let key = match (self.single(), self.field.cardinality) {
            (Some(Kind::Message(message)), _) => {
                let start = self.writer.open(self.number());
                write_message(self.writer, message, map)?;
                self.writer.close(start);
                return Ok(());
            }
            (None, Cardinality::Map(key)) => key,
            (None, _) if map.next_key::<IgnoredAny>()?.is_none() => return Ok(()),
            _ => return Err(self.mismatch("an object")),
        };
        let mut given = HashSet::new();
        let number = self.field.number;
        while let Some((start, key)) = map.next_key_seed(Key { writer: &mut *self.writer, number, key })? {
            let step = || format!("[{}]", quoted(&key));
            let value = Slot { writer: &mut *self.writer, field: self.field, place: Place::MapValue };
            if let Err(error) = map.next_value_seed(value) {
                return Err(self.writer.within(step(), error));
            }
            self.writer.close(start);
            if given.contains(&key) {
                let fault = self.writer.fault("given twice; leave one".to_owned());
                return Err(self.writer.within(step(), fault));
            }
            given.insert(key);
        }
        Ok(())
    }
}

/// Starts a map entry and writes its key: gives the start and the key's plain form.
struct Key<'w, 'a> {
    writer: &'w mut Writer<'a>,
    number: u32,
    key: Scalar,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = (usize, String);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key<'_, '_> {
    type Value = (usize, String);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        let start = self.writer.open(self.number);
        encode_key(1, self.key.wire(), &mut self.writer.out);
        let written = match (self.key, text) {
            (Scalar::Bool, "true" | "false") => {
                self.writer.out.push(u8::from(text == "true"));
                Ok(true)
            }
            _ => write_text(self.key, text, &mut self.writer.out),
        };
        let plain = if self.key == Scalar::String {
            Some(text.to_owned())
        } else {
            text.parse::<i128>().ok().map(|n| n.to_string())
        };
        match written {
            Ok(true) => Ok((start, plain.unwrap_or_else(|| text.to_owned()))),
            Ok(false) => {
                let expected = expected(&Kind::Scalar(self.key));
                let reason = format!("expected {expected} as key, got {}", quoted(text));
                Err(self.writer.fault(reason))
            }
            Err(reason) => Err(self.writer.fault(reason)),
        }
    }
}

/// What belongs in a field of this kind, for people.
fn expected(kind: &Kind) -> String {
    let what = match kind {
        Kind::Scalar(scalar) | Kind::Wrapped(scalar) => match scalar {
            Scalar::Float | Scalar::Double => "a number",
            Scalar::Bool => "true or false",
            Scalar::String => "a string",
            Scalar::Bytes => "bytes as base64 text",
            _ => "an integer",
        },
        Kind::Enum(declared) => {
            let names: Vec<&str> = declared.values.iter().map(|(name, _)| name.as_str()).collect();
            return format!("one of {}", names.join(", "));
        }
        Kind::Timestamp => "an RFC 3339 time such as \"2026-01-31T08:00:00Z\"",
        Kind::Duration => "a duration in seconds such as \"1.5s\"",
        Kind::Message(_) => "an object",
    };
    what.to_owned()
}

/// The text in quotes, cut if it is long.
fn quoted(text: &str) -> String {
    format!("{:?}", short(text))
}

fn short(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Writes an integer; false if the field takes none, a reason if it does not fit.
fn write_integer(scalar: Scalar, number: i128, out: &mut Vec<u8>) -> Result<bool, String> {
    let out_of_range = || format!("{number} is out of the range of {}", scalar.name());
    let i32_ = || i32::try_from(number).map_err(|_| out_of_range());
    let i64_ = || i64::try_from(number).map_err(|_| out_of_range());
    let u32_ = || u32::try_from(number).map_err(|_| out_of_range());
    let u64_ = || u64::try_from(number).map_err(|_| out_of_range());
    match scalar {
        Scalar::Int64 => encode_varint(i64_()? as u64, out),
        Scalar::Int32 => encode_varint(i64::from(i32_()?) as u64, out),
        Scalar::Uint32 => encode_varint(u64::from(u32_()?), out),
        Scalar::Uint64 => encode_varint(u64_()?, out),
        Scalar::Sint32 => {
            let value = i32_()?;
            encode_varint(u64::from(((value << 1) ^ (value >> 31)) as u32), out);
        }
        Scalar::Sint64 => {
            let value = i64_()?;
            encode_varint(((value << 1) ^ (value >> 63)) as u64, out);
        }
        Scalar::Fixed32 => out.put_u32_le(u32_()?),
        Scalar::Sfixed32 => out.put_i32_le(i32_()?),
        Scalar::Fixed64 => out.put_u64_le(u64_()?),
        Scalar::Sfixed64 => out.put_i64_le(i64_()?),
        Scalar::Float | Scalar::Double => return write_float(scalar, number as f64, out),
        Scalar::Bool | Scalar::String | Scalar::Bytes => return Ok(false),
    }
    Ok(true)
}

fn write_float(scalar: Scalar, number: f64, out: &mut Vec<u8>) -> Result<bool, String> {
    if scalar == Scalar::Double {
        out.put_f64_le(number);
        return Ok(true);
    }
    let single = number as f32;
    if single.is_infinite() && number.is_finite() {
        return Err(format!("{number} is out of the range of float"));
    }
    out.put_f32_le(single);
    Ok(true)
}

/// Writes what a text stands for; false if it stands for nothing the field takes.
fn write_text(scalar: Scalar, value: &str, out: &mut Vec<u8>) -> Result<bool, String> {
    match scalar {
        Scalar::String => {
            encode_varint(value.len() as u64, out);
            out.extend_from_slice(value.as_bytes());
        }
        Scalar::Bytes => {
            let Some(bytes) = text::parse_bytes(value) else { return Ok(false) };
            encode_varint(bytes.len() as u64, out);
            out.extend_from_slice(&bytes);
        }
        Scalar::Bool => return Ok(false),
        Scalar::Float | Scalar::Double => {
            let number = match value {
                "NaN" => f64::NAN,
                "Infinity" => f64::INFINITY,
                "-Infinity" => f64::NEG_INFINITY,
                _ => match value.parse::<f64>() {
                    Ok(number) if number.is_finite() => number,
                    _ => return Ok(false),
                },
            };
            return write_float(scalar, number, out);
        }
        _ => {
            let number = value.parse::<i128>().ok().or_else(|| {
                value.parse::<f64>().ok().filter(|f| f.fract() == 0.0 && f.abs() < 1e30).map(|f| f as i128)
            });
            return number.map_or(Ok(false), |number| write_integer(scalar, number, out));
        }
    }
    Ok(true)
}
