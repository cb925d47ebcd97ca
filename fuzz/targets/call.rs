//! Whatever happens to a call, in whatever order, it ends: it is never repeated without end, and never after its deadline.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::{arbitrary, fuzz_target};
use spanner_sidecar::call::attempt::{Failure, Kind};
use spanner_sidecar::call::policy::MAX_ATTEMPTS;
use spanner_sidecar::call::{Call, Head, Present, Verdict};

#[derive(Debug, arbitrary::Arbitrary)]
struct Input<'a> {
    path: &'a str,
    known: Option<u8>,
    content_type: Option<&'a [u8]>,
    timeout: Option<&'a [u8]>,
    metadata_size: u32,
    front: &'a [u8],
    whole: bool,
    failures: Vec<(u8, u32, bool, bool, u16)>,
    answer: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let table = &spanner_sidecar::call::method::TABLE;
    let path = input.known.map_or(input.path, |index| table[usize::from(index) % table.len()].path);
    let head = Head {
        path,
        is_post: true,
        content_type: input.content_type.or(Some(b"application/grpc")),
        timeout: input.timeout,
        metadata_size: input.metadata_size as usize,
        has: Present::default(),
    };
    let mut now = Instant::now();
    let (mut call, _) = Call::start(&head, now);
    let _ = call.on_message(input.front, input.whole);
    let mut repeats = 0;
    for (kind, code, unprocessed, can_resend, later) in input.failures {
        now += Duration::from_millis(later.into());
        let kind = match kind % 3 {
            0 => Kind::Reset(code),
            1 => Kind::Lost,
            _ => Kind::Protocol,
        };
        let failure = Failure { kind, unprocessed, detail: String::new() };
        if !matches!(call.on_failure(&failure, can_resend, now), Verdict::Again) {
            break;
        }
        repeats += 1;
        assert!(can_resend && repeats < MAX_ATTEMPTS);
        assert!(call.remaining(now).is_none_or(|left| left > Duration::ZERO));
    }
    if call.wants_first_message() {
        let _ = call.begun(input.answer);
    }
});
