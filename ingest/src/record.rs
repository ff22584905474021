//! A signal once admitted, as the log carries it.

use bytes::Bytes;
use prost::encoding::{decode_varint, encode_varint};

use crate::{Millis, catalogue::Damaged};

/// An admitted signal. `data` is the protobuf encoding of the declared message.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Declared type, such as `task.completed`.
    pub kind: String,
    /// With `source`, identifies the signal.
    pub id: String,
    /// Who reported it.
    pub source: String,
    /// Whom it is about.
    pub subject: String,
    /// Event time.
    pub time: Millis,
    /// Arrival time, stamped at the door.
    pub received_at: Millis,
    /// Protobuf encoding of the declared message.
    pub data: Bytes,
    /// CloudEvents extension attributes, kept as they came (name, value as JSON text).
    pub extensions: Vec<(String, String)>,
}

/// A [`Record`] read in place, without its extensions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecordRef<'a> {
    /// Declared type, such as `task.completed`.
    pub kind: &'a str,
    /// With `source`, identifies the signal.
    pub id: &'a str,
    /// Who reported it.
    pub source: &'a str,
    /// Whom it is about.
    pub subject: &'a str,
    /// Event time.
    pub time: Millis,
    /// Arrival time, stamped at the door.
    pub received_at: Millis,
    /// Protobuf encoding of the declared message.
    pub data: &'a [u8],
}

/// Leading byte of a payload. A change of the layout takes the next number and keeps reading this one.
const VERSION: u8 = 1;

impl Record {
    /// The idempotency key of (`source`, `id`): xxh3-128 of `source`, a zero byte, `id`. Never 0.
    pub fn key(&self) -> u128 {
        idempotency_key(&self.source, &self.id)
    }

    /// The payload of a log record; the subject stands in the log's own frame.
    ///
    /// The version, then type, id, source, data (each its length and bytes), event time and arrival time
    /// (zigzag), and the number of extensions with name and value of each. All numbers are varints.
    pub fn encode(&self) -> Bytes {
        let mut out =
            Vec::with_capacity(48 + self.kind.len() + self.id.len() + self.source.len() + self.data.len());
        out.push(VERSION);
        for span in [self.kind.as_bytes(), self.id.as_bytes(), self.source.as_bytes(), &self.data] {
            write_span(&mut out, span);
        }
        encode_varint(zigzag(self.time), &mut out);
        encode_varint(zigzag(self.received_at), &mut out);
        encode_varint(self.extensions.len() as u64, &mut out);
        for (name, value) in &self.extensions {
            write_span(&mut out, name.as_bytes());
            write_span(&mut out, value.as_bytes());
        }
        out.into()
    }

    /// Reads a payload of [`encode`](Self::encode); `data` shares its memory. Every byte is accounted for.
    pub fn decode(subject: &str, payload: &Bytes) -> Result<Record, Damaged> {
        let (record, mut rest) = read(subject, payload)?;
        let mut extensions = Vec::new();
        for _ in 0..read_varint(&mut rest)? {
            let name = read_text(&mut rest)?.to_owned();
            extensions.push((name, read_text(&mut rest)?.to_owned()));
        }
        if !rest.is_empty() {
            return Err(Damaged(format!("{} bytes left over after a record", rest.len())));
        }
        Ok(Record {
            kind: record.kind.to_owned(),
            id: record.id.to_owned(),
            source: record.source.to_owned(),
            subject: subject.to_owned(),
            time: record.time,
            received_at: record.received_at,
            data: payload.slice_ref(record.data),
            extensions,
        })
    }

    /// The record without its extensions, borrowed.
    pub fn borrowed(&self) -> RecordRef<'_> {
        RecordRef {
            kind: &self.kind,
            id: &self.id,
            source: &self.source,
            subject: &self.subject,
            time: self.time,
            received_at: self.received_at,
            data: &self.data,
        }
    }
}

impl<'a> RecordRef<'a> {
    /// Reads a payload of [`Record::encode`] in place; extensions are not looked at.
    pub fn decode(subject: &'a str, payload: &'a [u8]) -> Result<RecordRef<'a>, Damaged> {
        read(subject, payload).map(|(record, _)| record)
    }

    /// The idempotency key of (`source`, `id`), as [`Record::key`].
    pub fn key(&self) -> u128 {
        idempotency_key(self.source, self.id)
    }
}

/// The idempotency key of (`source`, `id`): xxh3-128 of `source`, a zero byte, `id`. Never 0.
pub fn idempotency_key(source: &str, id: &str) -> u128 {
    let mut h = xxhash_rust::xxh3::Xxh3::new();
    h.update(source.as_bytes());
    h.update(&[0]);
    h.update(id.as_bytes());
    h.digest128().max(1)
}

/// Everything up to the extensions, and what is left.
fn read<'a>(subject: &'a str, payload: &'a [u8]) -> Result<(RecordRef<'a>, &'a [u8]), Damaged> {
    let mut rest = match payload.split_first() {
        Some((&VERSION, rest)) => rest,
        Some((version, _)) => {
            let what = format!("a record of layout {version}; this program reads layout {VERSION}");
            return Err(Damaged(what));
        }
        None => return Err(Damaged("an empty record".to_owned())),
    };
    let record = RecordRef {
        kind: read_text(&mut rest)?,
        id: read_text(&mut rest)?,
        source: read_text(&mut rest)?,
        subject,
        data: read_span(&mut rest)?,
        time: unzigzag(read_varint(&mut rest)?),
        received_at: unzigzag(read_varint(&mut rest)?),
    };
    Ok((record, rest))
}

fn write_span(out: &mut Vec<u8>, span: &[u8]) {
    encode_varint(span.len() as u64, out);
    out.extend_from_slice(span);
}

fn read_span<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Damaged> {
    let length = read_varint(rest)?;
    let parts = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let (span, after) = parts.ok_or_else(|| Damaged("a record is cut off".to_owned()))?;
    *rest = after;
    Ok(span)
}

fn read_text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Damaged> {
    std::str::from_utf8(read_span(rest)?).map_err(|e| Damaged(e.to_string()))
}

fn read_varint(rest: &mut &[u8]) -> Result<u64, Damaged> {
    decode_varint(rest).map_err(|e| Damaged(e.to_string()))
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let extensions = vec((".{0,8}", ".{0,8}"), 0..3);
        let texts = (".{0,20}", ".{0,20}", ".{0,200}", ".{0,20}");
        (texts, any::<i64>(), any::<i64>(), vec(any::<u8>(), 0..200), extensions).prop_map(
            |((kind, id, source, subject), time, received_at, data, extensions)| Record {
                kind,
                id,
                source,
                subject,
                time,
                received_at,
                data: data.into(),
                extensions,
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_reads_back_as_written(record in record()) {
            let payload = record.encode();
            prop_assert_eq!(RecordRef::decode(&record.subject, &payload).unwrap(), record.borrowed());
            prop_assert_eq!(RecordRef::decode(&record.subject, &payload).unwrap().key(), record.key());
            prop_assert_eq!(Record::decode(&record.subject, &payload).unwrap(), record);
        }

        #[test]
        fn a_record_cut_or_grown_is_refused(record in record(), extra in any::<u8>(), at in any::<prop::sample::Index>()) {
            let payload = record.encode();
            prop_assert!(Record::decode("s", &payload.slice(..at.index(payload.len()))).is_err());
            let mut longer = payload.to_vec();
            longer.push(extra);
            prop_assert!(Record::decode("s", &longer.into()).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..100)) {
            let mut payload = vec![VERSION];
            payload.extend(bytes);
            let payload = Bytes::from(payload);
            if let Ok(record) = Record::decode("s", &payload) {
                prop_assert_eq!(Record::decode("s", &record.encode()).unwrap(), record);
            }
        }
    }

    #[test]
    fn another_layout_is_named() {
        let error = Record::decode("s", &Bytes::from_static(&[9, 0])).unwrap_err().to_string();
        assert!(error.contains("layout 9"), "{error}");
        assert!(Record::decode("s", &Bytes::new()).is_err());
    }
}
