//! What is said of a value that does not fit.

use crate::catalogue::shape::{Kind, Message, Scalar};

/// What is said of a field that is not declared.
pub(super) fn unknown_field(kind: &str, message: &Message) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = message.fields.iter().take(SHOWN).map(|f| f.name.as_str()).collect();
    let more = if message.fields.len() > SHOWN { ", …" } else { "" };
    format!("not a field of `{kind}`; here it has {}{more}", names.join(", "))
}
/// What belongs in a field of this kind, for people.
pub(super) fn expected(kind: &Kind) -> String {
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
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", short(text))
}

/// The text, cut if it is long.
pub(super) fn short(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
