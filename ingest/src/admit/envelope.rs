//! The CloudEvents 1.0 envelope in its JSON form, read without copying what need not be copied.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer as _, Serialize,
    de::{DeserializeSeed, Error as _, MapAccess, Visitor},
};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    outcome::{Reason, Refusal},
    time,
};
use crate::Millis;

/// How many extension attributes a signal may have.
const MAX_EXTENSIONS: usize = 32;

/// One signal as it came in.
#[derive(Debug, Clone)]
pub enum Incoming<'a> {
    /// One CloudEvents object as JSON text.
    Json(&'a [u8]),
    /// An envelope read elsewhere.
    Envelope(Envelope<'a>),
}

impl<'a> From<&'a str> for Incoming<'a> {
    fn from(json: &'a str) -> Self {
        Incoming::Json(json.as_bytes())
    }
}

/// A signal's envelope, its parts readable but not yet checked against bounds and catalogue.
#[derive(Debug, Clone)]
pub struct Envelope<'a> {
    /// With `source`, identifies the signal.
    pub id: Cow<'a, str>,
    /// Who reports it.
    pub source: Cow<'a, str>,
    /// Declared type or an alias of one.
    pub kind: Cow<'a, str>,
    /// Whom it is about.
    pub subject: Cow<'a, str>,
    /// When it happened; absent means on arrival.
    pub time: Option<Millis>,
    /// The values; absent means that none is given.
    pub data: Option<Cow<'a, RawValue>>,
    /// Extension attributes: name, value as JSON text.
    pub extensions: Vec<(String, String)>,
}

/// The attributes as they stand in the text.
#[derive(Default)]
struct Attributes<'a> {
    specversion: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    source: Option<&'a RawValue>,
    kind: Option<&'a RawValue>,
    subject: Option<&'a RawValue>,
    time: Option<&'a RawValue>,
    datacontenttype: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    extensions: Vec<(String, &'a RawValue)>,
}

impl<'a> Envelope<'a> {
    /// An envelope without time, data and extensions.
    pub fn new(
        id: impl Into<Cow<'a, str>>,
        source: impl Into<Cow<'a, str>>,
        kind: impl Into<Cow<'a, str>>,
        subject: impl Into<Cow<'a, str>>,
    ) -> Envelope<'a> {
        let (id, source, kind, subject) = (id.into(), source.into(), kind.into(), subject.into());
        Envelope { id, source, kind, subject, time: None, data: None, extensions: Vec::new() }
    }

    /// With values, given as whatever serializes to the JSON that the type declares.
    pub fn with_data(mut self, data: &impl Serialize) -> Result<Envelope<'a>, serde_json::Error> {
        self.data = Some(Cow::Owned(to_raw_value(data)?));
        Ok(self)
    }

    /// Reads one CloudEvents object.
    pub fn parse(json: &'a [u8]) -> Result<Envelope<'a>, Refusal> {
        let text = std::str::from_utf8(json).map_err(|e| {
            Refusal::new(Reason::Malformed, format!("not UTF-8: bad byte at position {}", e.valid_up_to()))
        })?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let attributes = reader
            .deserialize_map(AttributesVisitor)
            .and_then(|attributes| reader.end().map(|()| attributes))
            .map_err(|e| Refusal::new(Reason::Malformed, e.to_string()))?;
        let id = required("id", attributes.id)?;
        attributes.read(id.clone()).map_err(|refusal| refusal.of(&id))
    }
}

impl<'a> Attributes<'a> {
    fn read(self, id: Cow<'a, str>) -> Result<Envelope<'a>, Refusal> {
        if let Some(version) = optional("specversion", self.specversion)?
            && version != "1.0"
        {
            return Err(wrong(format!(
                "`specversion` is \"{version}\"; CloudEvents 1.0 is what is taken here"
            )));
        }
        if let Some(content) = optional("datacontenttype", self.datacontenttype)? {
            check_content_type(&content)?;
        }
        let mut extensions = Vec::with_capacity(self.extensions.len());
        for (name, value) in self.extensions {
            if let Some(value) = extension(&name, value)? {
                extensions.push((name, value));
            }
        }
        Ok(Envelope {
            id,
            source: required("source", self.source)?,
            kind: required("type", self.kind)?,
            subject: required("subject", self.subject)?,
            time: optional("time", self.time)?.map(|text| time::parse(&text)).transpose().map_err(wrong)?,
            data: self.data.filter(|data| data.get() != "null").map(Cow::Borrowed),
            extensions,
        })
    }
}

fn wrong(message: String) -> Refusal {
    Refusal::new(Reason::Envelope, message)
}

fn required<'a>(name: &str, value: Option<&'a RawValue>) -> Result<Cow<'a, str>, Refusal> {
    optional(name, value)?.ok_or_else(|| wrong(format!("`{name}` is missing; it must be a text")))
}

fn optional<'a>(name: &str, value: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, Refusal> {
    let Some(raw) = value.map(RawValue::get).filter(|raw| *raw != "null") else { return Ok(None) };
    let Some(inner) = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) else {
        return Err(wrong(format!("`{name}` must be a text, not {}", kind_of(raw))));
    };
    if !inner.contains('\\') {
        return Ok(Some(Cow::Borrowed(inner)));
    }
    let text = serde_json::from_str(raw).map_err(|e| wrong(format!("`{name}` is no valid text: {e}")))?;
    Ok(Some(Cow::Owned(text)))
}

fn kind_of(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "true or false",
        _ => "a number",
    }
}

/// Whether `data` of this content type can be read.
pub(crate) fn check_content_type(content: &str) -> Result<(), Refusal> {
    let essence = content.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(wrong(format!("`datacontenttype` is \"{content}\"; only application/json is taken")))
}

/// The value of an extension attribute as JSON text; `None` for null, which means absent.
fn extension(name: &str, value: &RawValue) -> Result<Option<String>, Refusal> {
    if name == "data_base64" {
        return Err(wrong("`data_base64` is not taken; send the values as JSON in `data`".to_owned()));
    }
    check_extension_name(name)?;
    let raw = value.get();
    match raw.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => optional(name, Some(value)).map(|_| Some(raw.to_owned())),
        Some(b't' | b'f') => Ok(Some(raw.to_owned())),
        Some(b'-' | b'0'..=b'9') if raw.parse::<i32>().is_ok() => Ok(Some(raw.to_owned())),
        Some(b'{' | b'[') => {
            Err(wrong(format!("extension attribute `{name}` is {}; values belong in `data`", kind_of(raw))))
        }
        _ => Err(wrong(format!(
            "extension attribute `{name}` must be a text, true, false, or a 32-bit integer"
        ))),
    }
}

/// CloudEvents allows lowercase letters and digits in names of attributes.
pub(crate) fn check_extension_name(name: &str) -> Result<(), Refusal> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        return Ok(());
    }
    Err(wrong(format!(
        "`{name}` is no attribute of a signal; those are id, source, type, subject, time, data and extensions \
         named in lowercase letters and digits"
    )))
}

struct AttributesVisitor;

impl<'de> Visitor<'de> for AttributesVisitor {
    type Value = Attributes<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudEvents object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes<'de>, A::Error> {
        let mut found = Attributes::default();
        while let Some(name) = map.next_key_seed(Name)? {
            let value = map.next_value::<&RawValue>()?;
            let place = match &*name {
                "specversion" => &mut found.specversion,
                "id" => &mut found.id,
                "source" => &mut found.source,
                "type" => &mut found.kind,
                "subject" => &mut found.subject,
                "time" => &mut found.time,
                "datacontenttype" => &mut found.datacontenttype,
                "data" => &mut found.data,
                _ => {
                    if found.extensions.iter().any(|(other, _)| *other == *name) {
                        return Err(A::Error::custom(format_args!("`{name}` stands there twice")));
                    }
                    if found.extensions.len() == MAX_EXTENSIONS {
                        return Err(A::Error::custom(format_args!(
                            "more than {MAX_EXTENSIONS} extension attributes"
                        )));
                    }
                    found.extensions.push((name.into_owned(), value));
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: &str = r#""id":"1","source":"s","type":"t","subject":"u""#;

    fn refused(json: &str) -> Refusal {
        Envelope::parse(json.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_whole_envelope_is_read_and_borrowed() {
        let json = r#"{"specversion":"1.0","id":"a\"b","source":"s","type":"t","subject":"u\u00e9",
            "time":"1970-01-01T00:00:01Z","datacontenttype":"application/json; charset=utf-8",
            "data":{"x":[1, 2]},"traceparent":"00-1","sampled":true,"sequence":-7,"gone":null}"#;
        let read = Envelope::parse(json.as_bytes()).unwrap();
        assert_eq!((&*read.id, &*read.source, &*read.kind, &*read.subject), ("a\"b", "s", "t", "ué"));
        assert!(matches!(read.source, Cow::Borrowed(_)));
        assert_eq!(read.time, Some(1000));
        assert_eq!(read.data.unwrap().get(), r#"{"x":[1, 2]}"#);
        let extensions: Vec<_> = read.extensions.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(extensions, [("traceparent", "\"00-1\""), ("sampled", "true"), ("sequence", "-7")]);
    }

    #[test]
    fn absent_and_null_are_the_same() {
        let json = format!("{{{BASE},\"time\":null,\"data\":null}}");
        let read = Envelope::parse(json.as_bytes()).unwrap();
        assert_eq!((read.time, read.data.is_none()), (None, true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, reason, said) in [
            (String::new(), Reason::Malformed, "EOF"),
            ("{".into(), Reason::Malformed, "line 1 column 1"),
            ("[]".into(), Reason::Malformed, "a CloudEvents object"),
            (format!("{{{BASE}}} x"), Reason::Malformed, "trailing"),
            (format!("{{{BASE},\"id\":\"2\"}}"), Reason::Malformed, "twice"),
            (format!("{{{BASE},\"foo\":1,\"foo\":2}}"), Reason::Malformed, "twice"),
            (r#"{"id":7}"#.into(), Reason::Envelope, "`id` must be a text, not a number"),
            (r#"{"id":"1"}"#.into(), Reason::Envelope, "`source` is missing"),
            (format!("{{{BASE},\"specversion\":\"0.3\"}}"), Reason::Envelope, "1.0"),
            (format!("{{{BASE},\"time\":\"noon\"}}"), Reason::Envelope, "RFC 3339"),
            (format!("{{{BASE},\"time\":5}}"), Reason::Envelope, "`time` must be a text"),
            (format!("{{{BASE},\"datacontenttype\":\"text/xml\"}}"), Reason::Envelope, "application/json"),
            (format!("{{{BASE},\"data_base64\":\"AA==\"}}"), Reason::Envelope, "`data`"),
            (format!("{{{BASE},\"user_id\":\"x\"}}"), Reason::Envelope, "no attribute of a signal"),
            (format!("{{{BASE},\"extra\":{{}}}}"), Reason::Envelope, "belong in `data`"),
            (format!("{{{BASE},\"extra\":1.5}}"), Reason::Envelope, "32-bit"),
            (format!("{{{BASE},\"extra\":\"\\ud800\"}}"), Reason::Envelope, "no valid text"),
        ] {
            let refusal = refused(&json);
            assert_eq!(refusal.reason, reason, "{json}: {refusal}");
            assert!(refusal.message.contains(said), "{json}: {refusal}");
        }
    }

    #[test]
    fn the_id_is_told_where_it_can_be_read() {
        assert_eq!(refused(r#"{"id":"n1"}"#).id.as_deref(), Some("n1"));
        assert_eq!(refused(r#"{"source":"s"}"#).id, None);
    }

    #[test]
    fn bad_utf8_is_told_by_its_place() {
        let refusal = Envelope::parse(b"{\"id\":\"\xff\"}").unwrap_err();
        assert!(refusal.message.contains("position 7"), "{refusal}");
    }

    #[test]
    fn deep_nesting_is_no_matter() {
        let deep = format!("{{{BASE},\"data\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert!(Envelope::parse(deep.as_bytes()).is_ok());
        assert_eq!(refused(&"[".repeat(200_000)).reason, Reason::Malformed);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Envelope::parse(&bytes);
        }

        #[test]
        fn any_texts_come_through(id in ".+", source in ".+", subject in ".+") {
            let json = serde_json::json!({"id": id, "source": source, "type": "t", "subject": subject}).to_string();
            let read = Envelope::parse(json.as_bytes()).unwrap();
            prop_assert_eq!((&*read.id, &*read.source, &*read.subject), (&*id, &*source, &*subject));
        }
    }
}
