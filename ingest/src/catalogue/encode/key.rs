//! The key of one entry of a map.

use prost::encoding::encode_key;
use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};

use super::{
    Writer,
    reason::{expected, quoted},
    scalar::write_text,
};
use crate::catalogue::shape::{Kind, Scalar};

/// Starts a map entry and writes its key: gives the start and the key's plain form.
pub(super) struct Key<'w, 'a> {
    pub(super) writer: &'w mut Writer<'a>,
    pub(super) number: u32,
    pub(super) key: Scalar,
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
