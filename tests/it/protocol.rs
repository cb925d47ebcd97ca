//! HTTP/2 frames that break the protocol: the answer is the error that RFC 9113 has for it, and nobody else notices.

use std::time::Duration;

use spanner_sim::{Script, Sim};
use tokio::time::timeout;

use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    Wire, block, call, frame,
};
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;
use crate::support::spanner::{SESSION, rpc, select, sim};
use crate::support::{PATIENCE, eventually};

const MIB: usize = 1 << 20;

/// Error codes (RFC 9113, section 7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

async fn started() -> (Sim, Sidecar, Client) {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    client.works().await;
    (sim, sidecar, client)
}

/// The frames of a call that upstream never answers: its stream is open.
fn open_call(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&call(&rpc("ExecuteSql"))))
}

/// A header block with one more field.
fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    let path = rpc("ExecuteSql");
    let mut all = call(&path);
    all.extend_from_slice(fields);
    block(&all)
}

/// A parameter of SETTINGS.
fn setting(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

#[tokio::test]
async fn frames_that_break_the_connection_get_a_goaway_with_the_right_error() {
    let (_sim, sidecar, client) = started().await;
    let max = u32::to_be_bytes(0x7fff_ffff);
    // Where RFC 9113 has a more specific error, PROTOCOL_ERROR will do: it is all that the h2 crate says of a frame that it
    // can't parse, and no client tells the two apart.
    let cases: Vec<(&str, Vec<u8>, &[u32])> = vec![
        ("DATA on stream 0", frame(DATA, 0, 0, b"x"), &[PROTOCOL_ERROR]),
        ("HEADERS on stream 0", frame(HEADERS, END_HEADERS, 0, &with(&[])), &[PROTOCOL_ERROR]),
        ("HEADERS on a stream of the server's", frame(HEADERS, END_HEADERS, 2, &with(&[])), &[PROTOCOL_ERROR]),
        ("a stream below one that is open", [open_call(3), open_call(1)].concat(), &[PROTOCOL_ERROR, STREAM_CLOSED]),
        ("DATA on an idle stream", frame(DATA, 0, 1, b"x"), &[PROTOCOL_ERROR]),
        ("RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, &8u32.to_be_bytes()), &[PROTOCOL_ERROR]),
        ("RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, &8u32.to_be_bytes()), &[PROTOCOL_ERROR]),
        ("RST_STREAM of 3 bytes", [open_call(1), frame(RST_STREAM, 0, 1, b"abc")].concat(), &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ("SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, b"abcde"), &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ("SETTINGS ACK with a payload", frame(SETTINGS, ACK, 0, &setting(3, 1)), &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), &[PROTOCOL_ERROR]),
        ("SETTINGS_INITIAL_WINDOW_SIZE too large", frame(SETTINGS, 0, 0, &setting(4, 1 << 31)), &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]),
        ("SETTINGS_MAX_FRAME_SIZE too small", frame(SETTINGS, 0, 0, &setting(5, 1)), &[PROTOCOL_ERROR]),
        ("SETTINGS_ENABLE_PUSH of 2", frame(SETTINGS, 0, 0, &setting(2, 2)), &[PROTOCOL_ERROR]),
        ("PING of 7 bytes", frame(PING, 0, 0, b"1234567"), &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ("PING on a stream", frame(PING, 0, 1, b"12345678"), &[PROTOCOL_ERROR]),
        ("a frame beyond SETTINGS_MAX_FRAME_SIZE", frame(DATA, 0, 1, &vec![0; 20 << 10]), &[FRAME_SIZE_ERROR]),
        ("WINDOW_UPDATE of 0", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), &[PROTOCOL_ERROR]),
        ("WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, b"abc"), &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ("a connection window beyond 2^31-1", frame(WINDOW_UPDATE, 0, 0, &max), &[FLOW_CONTROL_ERROR]),
        ("CONTINUATION without HEADERS", frame(CONTINUATION, END_HEADERS, 1, &with(&[])), &[PROTOCOL_ERROR]),
        ("DATA inside a header block", [frame(HEADERS, 0, 1, &with(&[])), frame(DATA, 0, 1, b"x")].concat(), &[PROTOCOL_ERROR]),
        (
            "CONTINUATION of another stream",
            [frame(HEADERS, 0, 1, &with(&[])), frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
            &[PROTOCOL_ERROR],
        ),
        (
            "an index that HPACK's tables do not have",
            frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0x7f]),
            &[COMPRESSION_ERROR, PROTOCOL_ERROR],
        ),
        ("a header block that breaks off", frame(HEADERS, END_HEADERS, 1, &[0x10, 0x7f]), &[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ("PUSH_PROMISE from a client", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), &[PROTOCOL_ERROR]),
        ("padding beyond the frame", [open_call(1), frame(DATA, 8, 1, &[200, 1, 2])].concat(), &[PROTOCOL_ERROR]),
    ];
    let mut misses = Vec::new();
    for (what, bytes, expected) in cases {
        let mut wire = Wire::connect(sidecar.address).await;
        wire.write(&bytes).await;
        // The connection has to be closed as well: what is read ends.
        let frames = wire.read_to_end().await;
        let codes: Vec<u32> = frames.iter().filter(|frame| frame.kind == GOAWAY).map(Frame::error_code).collect();
        if !codes.last().is_some_and(|code| expected.contains(code)) {
            misses.push(format!("{what}: GOAWAY {codes:?}, expected one of {expected:?}"));
        }
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
    client.works().await;
}

#[tokio::test]
async fn what_is_wrong_with_one_stream_ends_that_stream_only() {
    let (sim, sidecar, client) = started().await;
    sim.script("ExecuteSql", Script::new().hang().forever());
    let head = |fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS, 1, &block(fields));
    let path = rpc("ExecuteSql");
    let no_path: Vec<_> = call(&path).into_iter().filter(|(name, _)| *name != ":path").collect();
    let body = raw::frame(b"x");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a name in capitals", frame(HEADERS, END_HEADERS, 1, &with(&[("X-Capital", "v")]))),
        ("a header of one connection", frame(HEADERS, END_HEADERS, 1, &with(&[("connection", "close")]))),
        ("te other than trailers", frame(HEADERS, END_HEADERS, 1, &with(&[("te", "gzip")]))),
        ("a pseudo-header after the others", frame(HEADERS, END_HEADERS, 1, &with(&[(":path", "/")]))),
        ("an unknown pseudo-header", head(&[&[(":unknown", "v")], &call(&path)[..]].concat())),
        ("a pseudo-header of answers", head(&[&[(":status", "200")], &call(&path)[..]].concat())),
        ("no :path", head(&no_path)),
        ("an empty :path", head(&[&[(":path", "")], &no_path[..]].concat())),
        (
            "a content-length that does not hold",
            [frame(HEADERS, END_HEADERS, 1, &with(&[("content-length", "3")])), frame(DATA, END_STREAM, 1, &body)].concat(),
        ),
        (
            "a second head that does not end the stream",
            [open_call(1), frame(HEADERS, END_HEADERS, 1, &block(&[("x-trailer", "v")]))].concat(),
        ),
        ("a stream window beyond 2^31-1", [open_call(1), frame(WINDOW_UPDATE, 0, 1, &0x7fff_ffffu32.to_be_bytes())].concat()),
        ("a stream window update of 0", [open_call(1), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat()),
    ];
    let mut misses = Vec::new();
    for (what, bytes) in cases {
        let mut wire = Wire::connect(sidecar.address).await;
        wire.write(&bytes).await;
        // Either the stream is reset, or it gets an HTTP error; both come before the answer to the next PING.
        let ended = loop {
            match wire.read().await {
                Some(frame) if matches!(frame.kind, RST_STREAM | HEADERS) && frame.stream == 1 => break true,
                // Treating it as an error of the connection is allowed (RFC 9113, section 5.4.2), only not silence.
                Some(frame) if frame.kind == GOAWAY => break true,
                Some(_) => {}
                None => break false,
            }
        };
        if !ended {
            misses.push(format!("{what}: closed without a word"));
        }
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 0).await);
    client.works().await;
}

#[tokio::test]
async fn data_behind_the_end_of_a_request_ends_the_stream() {
    let (sim, sidecar, client) = started().await;
    sim.script("ExecuteSql", Script::new().hang().forever());
    let mut wire = Wire::connect(sidecar.address).await;
    wire.write(&open_call(1)).await;
    wire.write(&frame(DATA, END_STREAM, 1, &raw::frame(b""))).await;
    wire.write(&frame(DATA, END_STREAM, 1, &raw::frame(b""))).await;
    loop {
        let frame = wire.read().await.expect("an error");
        if matches!(frame.kind, RST_STREAM | GOAWAY) {
            // The RFC wants the first; the h2 crate takes it for an error of the connection.
            let expected = if frame.kind == RST_STREAM { STREAM_CLOSED } else { PROTOCOL_ERROR };
            assert_eq!(frame.error_code(), expected, "{frame:?}");
            break;
        }
    }
    drop(wire);
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 0).await);
    client.works().await;
}

#[tokio::test]
async fn frames_and_settings_of_unknown_kinds_are_ignored() {
    let (_sim, sidecar, client) = started().await;
    let mut wire = Wire::connect(sidecar.address).await;
    wire.write(&frame(0xee, 0xff, 0, b"what is this")).await;
    wire.write(&frame(0xef, 0, 7, b"on a stream")).await;
    wire.write(&frame(SETTINGS, 0, 0, &setting(0xeeee, 1))).await;
    wire.write(&frame(PING, 0, 0, b"12345678")).await;
    let pong = wire.read_kind(PING).await.expect("the connection lives");
    assert_eq!(pong, Frame { kind: PING, flags: ACK, stream: 0, payload: b"12345678".to_vec() });
    client.works().await;
}

#[tokio::test]
async fn headers_beyond_all_measure_are_refused_and_take_little_memory() {
    let (_sim, sidecar, client) = started().await;
    let before = sidecar.resident();
    // 4 MiB in one header block.
    let fields = block(&[("x-large", &"v".repeat(4 * MIB))]);
    let mut bytes = frame(HEADERS, END_STREAM, 1, &with(&[]));
    for part in fields.chunks(16 << 10) {
        bytes.extend(frame(CONTINUATION, 0, 1, part));
    }
    bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
    let mut wire = Wire::connect(sidecar.address).await;
    wire.write(&bytes).await;
    let mut answered = false;
    while let Some(frame) = wire.read().await {
        if matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY) {
            answered = true;
            break;
        }
    }
    assert!(answered, "neither an HTTP 431 nor an error");
    let grown = sidecar.resident().saturating_sub(before);
    assert!(grown < 16 * MIB, "grew by {grown} bytes");
    client.works().await;
}

#[tokio::test]
async fn a_header_block_without_end_is_cut_off() {
    let (_sim, sidecar, client) = started().await;
    let before = sidecar.resident();
    let mut wire = Wire::connect(sidecar.address).await;
    wire.write(&frame(HEADERS, END_STREAM, 1, &with(&[]))).await;
    let part = frame(CONTINUATION, 0, 1, &block(&[("x-more", &"v".repeat(8 << 10))]));
    // 80 MB, unless it is stopped; small empty frames are another way.
    for _ in 0..10_000 {
        if wire.try_write(&part).await.is_err() {
            break;
        }
    }
    let frames = wire.read_to_end().await;
    assert!(frames.iter().any(|frame| frame.kind == GOAWAY) || frames.len() < 4, "{frames:?}");
    let grown = sidecar.resident().saturating_sub(before);
    assert!(grown < 16 * MIB, "grew by {grown} bytes");
    client.works().await;
}

#[tokio::test]
async fn a_client_that_never_reads_takes_little_memory_and_holds_up_nobody() {
    let (sim, sidecar, client) = started().await;
    sim.script("ExecuteStreamingSql", Script::new().stream(100, 1 << 20).forever());
    let before = sidecar.resident();
    let mut wire = Wire::connect(sidecar.address).await;
    // It says that it could take everything.
    wire.write(&frame(SETTINGS, 0, 0, &setting(4, 0x7fff_ffff))).await;
    wire.write(&frame(WINDOW_UPDATE, 0, 0, &(0x7fff_ffffu32 - 65_535).to_be_bytes())).await;
    let body = raw::frame(&prost::Message::encode_to_vec(&select(SESSION)));
    let head = block(&call(&rpc("ExecuteStreamingSql")));
    for number in 0..50 {
        wire.write(&frame(HEADERS, END_HEADERS, 2 * number + 1, &head)).await;
        wire.write(&frame(DATA, END_STREAM, 2 * number + 1, &body)).await;
    }
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 50).await);
    let (mut last, mut unchanged, mut most) = (0, 0, 0);
    while unchanged < 20 {
        let resident = sidecar.resident();
        unchanged = if resident == last { unchanged + 1 } else { 0 };
        (last, most) = (resident, most.max(resident));
        client.works().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let grown = most.saturating_sub(before);
    assert!(grown < 40 * MIB, "grew by {grown} bytes for 50 streams");
    assert_eq!(sim.open_streams(), 50, "the answers wait for their reader");
    drop(wire);
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 0).await, "cancelled upstream");
    client.works().await;
}

#[tokio::test]
async fn a_client_that_pings_and_never_reads_is_not_read_from_without_end() {
    let (_sim, sidecar, client) = started().await;
    let before = sidecar.resident();
    for flood in [frame(PING, 0, 0, b"12345678"), frame(SETTINGS, 0, 0, &setting(3, 100))] {
        let mut wire = Wire::connect(sidecar.address).await;
        let flood = flood.repeat(1000);
        let mut written = 0;
        // Until it is no longer taken, or 64 MiB have been.
        while written < 64 * MIB {
            match timeout(Duration::from_millis(300), wire.try_write(&flood)).await {
                Ok(Ok(())) => written += flood.len(),
                _ => break,
            }
        }
        let grown = sidecar.resident().saturating_sub(before);
        assert!(grown < 16 * MIB, "grew by {grown} bytes after {written}");
        client.works().await;
    }
    eventually("its connections are gone", async || sidecar.get("/status").await.1.contains("\"downstream_connections\":1")).await;
}
