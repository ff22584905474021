//! Any payload is read or refused; what is read is written and read again the same.
#![no_main]

use bytes::Bytes;
use ingest::record::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    if let Ok(record) = Record::decode("subject", &Bytes::copy_from_slice(payload)) {
        assert_eq!(Record::decode("subject", &record.encode()).expect("own encoding"), record);
    }
});
