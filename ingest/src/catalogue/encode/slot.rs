//! One value, checked and written.

use std::collections::HashSet;

use prost::encoding::{WireType, encode_key, encode_varint};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::{
    Writer,
    key::Key,
    reason::{expected, quoted, short},
    scalar::{write_float, write_integer, write_text},
    write_message,
};
use crate::catalogue::{
    shape::{Cardinality, Field, Kind, Scalar},
    text,
};

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the whole field.
    Field,
    /// It is an element of the field's list.
    Element,
    /// It is a value of the field's map.
    MapValue,
}

/// Takes one value and writes it.
pub(super) struct Slot<'w, 'a> {
    pub(super) writer: &'w mut Writer<'a>,
    pub(super) field: &'a Field,
    pub(super) place: Place,
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

    fn seconds_and_nanos<E>(self, (seconds, nanos): (i64, i32)) -> Result<(), E> {
        let start = self.writer.open(self.number());
        for (number, part) in [(1, seconds), (2, i64::from(nanos))] {
            if part != 0 {
                encode_key(number, WireType::Varint, &mut self.writer.out);
                encode_varint(part as u64, &mut self.writer.out);
            }
        }
        self.writer.close(start);
        Ok(())
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
                Some(parts) => self.seconds_and_nanos(parts),
                None => Err(self.mismatch(&quoted(value))),
            },
            Some(Kind::Duration) => match text::parse_duration(value) {
                Some(parts) => self.seconds_and_nanos(parts),
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
