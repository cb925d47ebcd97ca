//! No bytes of a client make the peek at a message panic, and what it finds lies within them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanner_sidecar::call::{message, method::TABLE};

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (index, complete, bytes) = input;
    let method = &TABLE[usize::from(index) % TABLE.len()];
    let facts = message::request(method, bytes, complete);
    assert!(facts.resource.is_none_or(|name| name.len() <= bytes.len()));
    assert!(message::begun_transaction(method.shape, bytes).is_none_or(|id| id.len() <= bytes.len()));
});
