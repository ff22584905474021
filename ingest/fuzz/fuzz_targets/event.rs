//! Any bytes on the log are read as an event or refused; what is read is written and read again the same.
#![no_main]

use std::sync::LazyLock;

use ingest::{catalogue::Catalogue, event, log::{Append, Topic}};
use libfuzzer_sys::fuzz_target;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::load(&[]).expect("the built-in types"));

fuzz_target!(|bytes: &[u8]| {
    event::key(bytes);
    let Ok(read) = event::decode(&CATALOGUE, bytes, 0) else { return };
    let append = Append { subject: read.subject.clone(), key: read.key, payload: read.payload.clone() };
    let json = event::encode(&CATALOGUE, Topic::Signals, &append);
    assert_eq!(event::decode(&CATALOGUE, &json, 0).expect("own form"), read);
    assert_eq!(event::key(&json), read.key);
});
