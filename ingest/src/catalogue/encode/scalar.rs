//! Plain values on the wire.

use prost::{bytes::BufMut, encoding::encode_varint};

use crate::catalogue::{shape::Scalar, text};

/// Writes an integer; false if the field takes none, a reason if it does not fit.
pub(super) fn write_integer(scalar: Scalar, number: i128, out: &mut Vec<u8>) -> Result<bool, String> {
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

/// Writes a fraction; a reason if it does not fit.
pub(super) fn write_float(scalar: Scalar, number: f64, out: &mut Vec<u8>) -> Result<bool, String> {
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
pub(super) fn write_text(scalar: Scalar, value: &str, out: &mut Vec<u8>) -> Result<bool, String> {
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
