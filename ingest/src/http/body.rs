//! The forms in which signals come over HTTP: one object, a batch, lines, or one in headers and body.

use std::{borrow::Cow, fmt};

use axum::http::{HeaderMap, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde::{
    Deserializer as _,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::{RawValue, to_raw_value};

use super::Problem;
use crate::admit::{
    Envelope, Incoming,
    envelope::{check_content_type, check_extension_name},
    time,
};

/// How the signals of a request are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `application/json`: one object or an array of them.
    Any,
    /// `application/cloudevents+json`: one object.
    One,
    /// `application/cloudevents-batch+json`: an array.
    Batch,
    /// `application/x-ndjson`: one object a line.
    Lines,
    /// Attributes in `ce-…` headers, `data` as the body (the binary mode of CloudEvents over HTTP).
    Binary,
}

/// The signals of a body, still as text.
#[derive(Debug)]
pub struct Signals<'a> {
    /// In the order sent.
    pub items: Vec<Incoming<'a>>,
    /// Whether the form can hold one signal only, so that its rejection is a failure of the request.
    pub single: bool,
}

const CONTENT_TYPES: &str = "application/json, application/cloudevents+json, \
                             application/cloudevents-batch+json, application/x-ndjson";

impl Form {
    /// The form that these headers announce.
    pub fn of(headers: &HeaderMap) -> Result<Form, Problem> {
        let unsupported = |message: String| {
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
        };
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
            && encoding.as_bytes() != b"identity"
        {
            return Err(unsupported("bodies are taken uncompressed; leave out Content-Encoding".into()));
        }
        let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let mut parts = given.split(';').map(|part| part.trim().to_ascii_lowercase());
        let essence = parts.next().unwrap_or_default();
        let charset = parts
            .find_map(|part| part.strip_prefix("charset=").map(|name| name.trim_matches('"').to_owned()));
        if let Some(charset) = charset.filter(|name| name != "utf-8" && name != "utf8" && name != "us-ascii")
        {
            return Err(unsupported(format!("the charset {charset} is not taken; send UTF-8")));
        }
        match &*essence {
            "application/cloudevents+json" => Ok(Form::One),
            "application/cloudevents-batch+json" => Ok(Form::Batch),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Form::Lines),
            _ if headers.contains_key("ce-id") || headers.contains_key("ce-type") => Ok(Form::Binary),
            "application/json" => Ok(Form::Any),
            "" => Err(unsupported(format!("Content-Type is missing; it must be one of {CONTENT_TYPES}"))),
            other => Err(unsupported(format!("Content-Type is {other}; it must be one of {CONTENT_TYPES}"))),
        }
    }

    /// Finds the signals in a body; at most `most`.
    pub fn split<'a>(self, headers: &HeaderMap, body: &'a [u8], most: usize) -> Result<Signals<'a>, Problem> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let one = |item| Ok(Signals { items: vec![item], single: true });
        match self {
            Form::Any if first_byte(body) == Some(b'[') => batch(body, most),
            Form::Batch => batch(body, most),
            Form::Any | Form::One if first_byte(body).is_none() => {
                Err(Problem::bad_request("malformed", "the body is empty; it must be a CloudEvents object"))
            }
            Form::Any | Form::One => one(Incoming::Json(body)),
            Form::Binary => one(Incoming::Envelope(binary(headers, body)?)),
            Form::Lines => {
                let lines = || body.split(|byte| *byte == b'\n').filter(|line| first_byte(line).is_some());
                let count = lines().count();
                if count > most {
                    return Err(too_many(count, most));
                }
                Ok(Signals { items: lines().map(Incoming::Json).collect(), single: false })
            }
        }
    }
}

fn first_byte(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

fn too_many(count: usize, most: usize) -> Problem {
    let message = format!("the batch holds {count} signals; at most {most} are taken at once, so split it");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "batch_too_large", message)
}

fn batch(body: &[u8], most: usize) -> Result<Signals<'_>, Problem> {
    let text = utf8(body)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let (items, count) = reader
        .deserialize_seq(Items { most })
        .and_then(|items| reader.end().map(|()| items))
        .map_err(|e| {
            Problem::bad_request(
                "malformed",
                format!("the body is no JSON array of CloudEvents objects: {e}"),
            )
        })?;
    if count > most {
        return Err(too_many(count, most));
    }
    Ok(Signals { items, single: false })
}

fn utf8(body: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(body).map_err(|e| {
        Problem::bad_request(
            "malformed",
            format!("the body is not UTF-8: bad byte at position {}", e.valid_up_to()),
        )
    })
}

/// The items of an array as text, up to `most`, and how many there are.
struct Items {
    most: usize,
}

impl<'de> Visitor<'de> for Items {
    type Value = (Vec<Incoming<'de>>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.most {
            match seq.next_element::<&RawValue>()? {
                Some(item) => items.push(Incoming::Json(item.get().as_bytes())),
                None => break,
            }
        }
        // Only for telling how many; an array that has ended answers `None` again.
        let mut count = items.len();
        while count >= self.most && seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((items, count))
    }
}

fn binary<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Envelope<'a>, Problem> {
    let wrong = |message: String| Problem::bad_request("invalid_envelope", message);
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    check_content_type(content).map_err(|refusal| wrong(refusal.message))?;
    let mut envelope = Envelope::new("", "", "", "");
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let decoded = value.to_str().ok().and_then(|text| percent_decode_str(text).decode_utf8().ok());
        let Some(text) = decoded.map(Cow::into_owned) else {
            return Err(wrong(format!("the header ce-{name} is not percent-encoded UTF-8")));
        };
        match name {
            "specversion" if text == "1.0" => {}
            "specversion" => return Err(wrong("ce-specversion must be 1.0".into())),
            "id" => envelope.id = text.into(),
            "source" => envelope.source = text.into(),
            "type" => envelope.kind = text.into(),
            "subject" => envelope.subject = text.into(),
            "time" => envelope.time = Some(time::parse(&text).map_err(wrong)?),
            name => {
                check_extension_name(name).map_err(|refusal| wrong(refusal.message))?;
                let value = to_raw_value(&text).map_err(|e| wrong(e.to_string()))?;
                envelope.extensions.push((name.to_owned(), value.get().to_owned()));
            }
        }
    }
    if first_byte(body).is_some() {
        let data: &RawValue = serde_json::from_str(utf8(body)?)
            .map_err(|e| Problem::bad_request("malformed", format!("the body is not JSON: {e}")))?;
        envelope.data = Some(Cow::Borrowed(data));
    }
    Ok(envelope)
}
