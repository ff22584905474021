//! Protobuf's wire format, read.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::{
    error::Damaged,
    shape::{Enum, Kind, Scalar},
};

/// One value as it stands on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Raw<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// Proto3 has none: allowed where a foreign encoder puts a field of its own, and skipped.
    Group,
}

/// One value understood.
pub(crate) enum Value<'a> {
    I32(i32),
    I64(i64),
    U32(u32),
    U64(u64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Text(&'a str),
    Bytes(&'a [u8]),
    Enum(&'a Enum, i32),
    /// Seconds and nanoseconds.
    Timestamp(i64, i32),
    /// Seconds and nanoseconds.
    Duration(i64, i32),
    Message(&'a [u8]),
}

/// The fields of a message in the order of the wire.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Raw<'a>), Damaged>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = next_field(&mut self.0);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[inline]
fn next_field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Raw<'a>), Damaged> {
    let (number, wire) = match rest.first() {
        // Numbers up to 15 take one byte.
        Some(key @ 8..=127) => {
            let wire = WireType::try_from(u64::from(key & 7)).map_err(|e| wrong(&e))?;
            *rest = &rest[1..];
            (u32::from(key >> 3), wire)
        }
        _ => decode_key(rest).map_err(|e| wrong(&e))?,
    };
    if matches!(wire, WireType::StartGroup | WireType::EndGroup) {
        skip_field(wire, number, rest, DecodeContext::default()).map_err(|e| wrong(&e))?;
        return Ok((number, Raw::Group));
    }
    raw(wire, rest).map(|raw| (number, raw))
}

#[inline]
fn raw<'a>(wire: WireType, rest: &mut &'a [u8]) -> Result<Raw<'a>, Damaged> {
    Ok(match wire {
        WireType::Varint => Raw::Varint(varint(rest)?),
        WireType::ThirtyTwoBit => Raw::Fixed32(u32::from_le_bytes(take(rest)?)),
        WireType::SixtyFourBit => Raw::Fixed64(u64::from_le_bytes(take(rest)?)),
        WireType::LengthDelimited => {
            let length = varint(rest)?;
            let (bytes, after) = usize::try_from(length)
                .ok()
                .and_then(|length| rest.split_at_checked(length))
                .ok_or_else(|| Damaged::new("a value ends before its stated length"))?;
            *rest = after;
            Raw::Bytes(bytes)
        }
        WireType::StartGroup | WireType::EndGroup => return Err(Damaged::new("a group where none belongs")),
    })
}

#[inline]
fn varint(rest: &mut &[u8]) -> Result<u64, Damaged> {
    match rest.first() {
        Some(byte @ 0..=127) => {
            *rest = &rest[1..];
            Ok(u64::from(*byte))
        }
        _ => decode_varint(rest).map_err(|e| wrong(&e)),
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Damaged> {
    let (bytes, after) = rest.split_first_chunk().ok_or_else(|| Damaged::new("a number is cut off"))?;
    *rest = after;
    Ok(*bytes)
}

fn wrong(error: &prost::DecodeError) -> Damaged {
    Damaged::new(error.to_string())
}

/// Hands over each element of a list, packed or not.
pub(crate) fn elements<'a>(
    kind: &'a Kind,
    raw: Raw<'a>,
    mut each: impl FnMut(Value<'a>) -> Result<(), Damaged>,
) -> Result<(), Damaged> {
    match raw {
        Raw::Bytes(mut packed) if kind.packs() => {
            let wire = match kind {
                Kind::Scalar(scalar) => scalar.wire(),
                _ => WireType::Varint,
            };
            while !packed.is_empty() {
                each(value(kind, self::raw(wire, &mut packed)?)?)?;
            }
            Ok(())
        }
        raw => each(value(kind, raw)?),
    }
}

/// Key and value of one entry of a map; a part that is missing has its default.
pub(crate) fn entry<'a>(
    key: Scalar,
    kind: &'a Kind,
    raw: Raw<'a>,
) -> Result<(Value<'a>, Value<'a>), Damaged> {
    let Raw::Bytes(bytes) = raw else { return Err(unfit("a map entry")) };
    let (mut found_key, mut found_value) = (key.default(), default(kind));
    for field in Fields(bytes) {
        match field? {
            (1, raw) => found_key = plain(key, raw)?,
            (2, raw) => found_value = value(kind, raw)?,
            _ => {}
        }
    }
    Ok((found_key, found_value))
}

/// Understands one value.
#[inline]
pub(crate) fn value<'a>(kind: &'a Kind, raw: Raw<'a>) -> Result<Value<'a>, Damaged> {
    match (kind, raw) {
        (Kind::Scalar(scalar), raw) => plain(*scalar, raw),
        (Kind::Enum(declared), Raw::Varint(number)) => Ok(Value::Enum(declared, number as i32)),
        (Kind::Timestamp, Raw::Bytes(bytes)) => {
            seconds_and_nanos(bytes).map(|(seconds, nanos)| Value::Timestamp(seconds, nanos))
        }
        (Kind::Duration, Raw::Bytes(bytes)) => {
            seconds_and_nanos(bytes).map(|(seconds, nanos)| Value::Duration(seconds, nanos))
        }
        (Kind::Wrapped(scalar), Raw::Bytes(bytes)) => {
            let mut found = scalar.default();
            for field in Fields(bytes) {
                if let (1, raw) = field? {
                    found = plain(*scalar, raw)?;
                }
            }
            Ok(found)
        }
        (Kind::Message(_), Raw::Bytes(bytes)) => Ok(Value::Message(bytes)),
        _ => Err(unfit("this field")),
    }
}

fn seconds_and_nanos(bytes: &[u8]) -> Result<(i64, i32), Damaged> {
    let mut parts = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Raw::Varint(seconds)) => parts.0 = seconds as i64,
            (2, Raw::Varint(nanos)) => parts.1 = nanos as i32,
            (1 | 2, _) => return Err(unfit("a part of a time")),
            _ => {}
        }
    }
    Ok(parts)
}

fn default(kind: &Kind) -> Value<'_> {
    match kind {
        Kind::Scalar(scalar) | Kind::Wrapped(scalar) => scalar.default(),
        Kind::Enum(declared) => Value::Enum(declared, 0),
        Kind::Timestamp => Value::Timestamp(0, 0),
        Kind::Duration => Value::Duration(0, 0),
        Kind::Message(_) => Value::Message(&[]),
    }
}

#[inline]
fn plain(scalar: Scalar, raw: Raw<'_>) -> Result<Value<'_>, Damaged> {
    Ok(match (scalar, raw) {
        (Scalar::Int64, Raw::Varint(v)) => Value::I64(v as i64),
        (Scalar::Double, Raw::Fixed64(v)) => Value::F64(f64::from_bits(v)),
        (Scalar::String, Raw::Bytes(v)) => {
            Value::Text(std::str::from_utf8(v).map_err(|e| Damaged::new(e.to_string()))?)
        }
        (Scalar::Bool, Raw::Varint(v)) => Value::Bool(v != 0),
        (Scalar::Int32, Raw::Varint(v)) => Value::I32(v as i32),
        (Scalar::Uint32, Raw::Varint(v)) => Value::U32(v as u32),
        (Scalar::Uint64, Raw::Varint(v)) => Value::U64(v),
        (Scalar::Sint32, Raw::Varint(v)) => Value::I32((v as u32 >> 1) as i32 ^ -((v & 1) as i32)),
        (Scalar::Sint64, Raw::Varint(v)) => Value::I64((v >> 1) as i64 ^ -((v & 1) as i64)),
        (Scalar::Fixed32, Raw::Fixed32(v)) => Value::U32(v),
        (Scalar::Sfixed32, Raw::Fixed32(v)) => Value::I32(v as i32),
        (Scalar::Float, Raw::Fixed32(v)) => Value::F32(f32::from_bits(v)),
        (Scalar::Fixed64, Raw::Fixed64(v)) => Value::U64(v),
        (Scalar::Sfixed64, Raw::Fixed64(v)) => Value::I64(v as i64),
        (Scalar::Bytes, Raw::Bytes(v)) => Value::Bytes(v),
        _ => return Err(unfit(scalar.name())),
    })
}

fn unfit(what: &str) -> Damaged {
    Damaged::new(format!("{what} has another wire type than declared"))
}

impl Scalar {
    /// Its wire type.
    pub(crate) fn wire(self) -> WireType {
        match self {
            Scalar::Fixed32 | Scalar::Sfixed32 | Scalar::Float => WireType::ThirtyTwoBit,
            Scalar::Fixed64 | Scalar::Sfixed64 | Scalar::Double => WireType::SixtyFourBit,
            Scalar::String | Scalar::Bytes => WireType::LengthDelimited,
            _ => WireType::Varint,
        }
    }

    fn default(self) -> Value<'static> {
        match self {
            Scalar::Int32 | Scalar::Sint32 | Scalar::Sfixed32 => Value::I32(0),
            Scalar::Int64 | Scalar::Sint64 | Scalar::Sfixed64 => Value::I64(0),
            Scalar::Uint32 | Scalar::Fixed32 => Value::U32(0),
            Scalar::Uint64 | Scalar::Fixed64 => Value::U64(0),
            Scalar::Float => Value::F32(0.0),
            Scalar::Double => Value::F64(0.0),
            Scalar::Bool => Value::Bool(false),
            Scalar::String => Value::Text(""),
            Scalar::Bytes => Value::Bytes(&[]),
        }
    }
}
