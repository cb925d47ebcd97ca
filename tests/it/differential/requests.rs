//! Requests that no client library sends, or seldom: broken, compressed, with odd metadata, for other paths.

use bytes::{BufMut as _, Bytes, BytesMut};
use spanner_sim::v1;

use super::Allowed;
use super::case::code::{INTERNAL, INVALID_ARGUMENT, OK, RESOURCE_EXHAUSTED, UNAUTHENTICATED, UNIMPLEMENTED, UNKNOWN};
use super::case::{Case, Kept, Outcome, rpc};
use super::messages::sql;
use super::walk_admin::DATABASE;
use crate::support::raw::frame;
use Outcome::{Http, Reset, Status};

/// A call that does no harm.
fn query(title: &str) -> Case {
    rpc(title, "Spanner/ExecuteSql", |kept| sql(kept, "SELECT 1"))
}

/// The message as the only block of a gzip file, stored (RFC 1951 and 1952).
pub(super) fn gzip(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("one stored block");
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1];
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&(!length).to_le_bytes());
    file.extend_from_slice(message);
    let mut crc = !0u32;
    for byte in message {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    file.extend_from_slice(&(!crc).to_le_bytes());
    file.extend_from_slice(&u32::from(length).to_le_bytes());
    file
}

/// A frame with the flag of compression.
pub(super) fn compressed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::from(&frame(message)[..]);
    framed[0] = 1;
    framed.freeze()
}

/// How the emulator's gRPC library ends a call whose headers it can't read.
fn refused() -> Outcome {
    Reset("INTERNAL_ERROR".into())
}

fn session(kept: &Kept) -> v1::GetSessionRequest {
    v1::GetSessionRequest { name: kept.text("session") }
}

pub(super) fn cases() -> Vec<Case> {
    [bodies(), heads(), metadata(), other_paths()].into_iter().flatten().collect()
}

fn bodies() -> Vec<Case> {
    let only = |bytes: &'static [u8]| move |_| Bytes::from_static(bytes);
    vec![
        query("a message that is no protobuf").raw(|_| frame(&[0xff; 4])).on(INVALID_ARGUMENT, INTERNAL),
        query("a message that ends within a field").raw(|message| frame(&message[..9])).on(INVALID_ARGUMENT, INTERNAL),
        query("a field 1 that is a number").raw(|_| frame(b"\x08\x01")).gives(INVALID_ARGUMENT),
        query("an empty message").raw(|_| frame(b"")).gives(INVALID_ARGUMENT),
        query("a message with fields that are newer than all code")
            .raw(|message| frame(&[&message[..], b"\xf2\xbf\x7e\x03new\xf8\xbf\x7e\x07"].concat()))
            .gives(OK),
        query("a message whose fields are in another order")
            .raw(|message| {
                // Field 1 goes last; its length fits in one byte here.
                let rest = 2 + usize::from(message[1]);
                frame(&[&message[rest..], &message[..rest]].concat())
            })
            .gives(OK),
        query("a message that says its session twice")
            .raw(|message| frame(&[b"\x0a\x04gone", &message[..]].concat()))
            .on(INVALID_ARGUMENT, OK),
        query("a frame that breaks off").raw(only(b"\0\0\0\0\x09x")).unexamined().gives(INTERNAL),
        query("a frame whose header breaks off").raw(only(b"\0\0\0")).unexamined().gives(INTERNAL),
        query("no message").raw(only(b"")).unexamined().gives(INTERNAL),
        query("two messages").raw(|message| [frame(&message), frame(&message)].concat().into()).on(INTERNAL, OK),
        query("a message and half another").raw(|message| [&frame(&message)[..], b"\0\0\0"].concat().into()).on(INTERNAL, OK),
        query("a compressed message").raw(|message| compressed(&gzip(&message))).metadata("grpc-encoding", "gzip").gives(OK),
        query("an uncompressed message of a compressed call").metadata("grpc-encoding", "gzip").gives(OK),
        query("a call that says it is not compressed").metadata("grpc-encoding", "identity").gives(OK),
        query("a compressed message that does not say how").raw(|message| compressed(&gzip(&message))).unexamined().gives(INTERNAL),
        query("a compressed message that can't be read")
            .raw(|_| compressed(b"no gzip"))
            .metadata("grpc-encoding", "gzip")
            .unexamined()
            .gives(INTERNAL),
        query("an unknown compression")
            .raw(|message| compressed(&message))
            .metadata("grpc-encoding", "br")
            .unexamined()
            .ends(Status(UNIMPLEMENTED), refused()),
        query("a frame with an unknown flag")
            .raw(|message| {
                let mut framed = BytesMut::from(&frame(&message)[..]);
                framed[0] = 2;
                framed.freeze()
            })
            .unexamined()
            .on(INTERNAL, INVALID_ARGUMENT),
        query("a frame longer than any that Spanner takes")
            .raw(|_| {
                let mut framed = BytesMut::from(&[0][..]);
                framed.put_u32((128 << 20) + 1);
                framed.put_slice(b"\x0a\x01x");
                framed.freeze()
            })
            .gives(INTERNAL)
            .instead(Allowed::Limit, Status(RESOURCE_EXHAUSTED), "request message limit"),
        rpc("a request of a megabyte", "Spanner/ExecuteSql", |kept| sql(kept, &format!("SELECT '{}'", "x".repeat(1 << 20))))
            .on(OK, INVALID_ARGUMENT),
    ]
}

fn heads() -> Vec<Case> {
    let content_type = |title: &str, value: &'static str| query(title).without("content-type").metadata("content-type", value);
    let not_grpc = |case: Case| case.instead(Allowed::NotGrpc, Http(415), "E0102");
    vec![
        content_type("gRPC that names its codec", "application/grpc+proto").gives(OK),
        content_type("gRPC with a codec that nobody has", "application/grpc+json").ends(Http(415), Status(OK)),
        content_type("gRPC with a parameter", "application/grpc;charset=utf-8").ends(Http(415), Status(OK)),
        not_grpc(content_type("JSON", "application/json").ends(Http(415), refused())),
        not_grpc(query("no content type").without("content-type").ends(Http(415), Status(OK))),
        not_grpc(query("GET").edit(|request, _| *request.method_mut() = http::Method::GET).unread().ends(Http(405), Status(UNKNOWN))),
        query("a client that does not say that it reads trailers").without("te").on(INVALID_ARGUMENT, UNKNOWN).instead(
            Allowed::Te,
            Status(OK),
            "",
        ),
        query("a query in the path")
            .edit(|request, _| {
                let path =
                    format!("http://{}/google.spanner.v1.Spanner/ExecuteSql?alt=proto", request.uri().authority().expect("an authority"));
                *request.uri_mut() = path.parse().expect("a URI");
            })
            .gives(UNIMPLEMENTED),
        query("a deadline far away").metadata("grpc-timeout", "99999999H").gives(OK),
        query("a deadline in the finest unit").metadata("grpc-timeout", "99999999u").gives(OK),
        query("a deadline that nobody can read").metadata("grpc-timeout", "12x").ends(Status(INVALID_ARGUMENT), refused()),
        query("no token").without("authorization").on_sim(UNAUTHENTICATED),
        query("a wrong token").without("authorization").metadata("authorization", "Bearer wrong").on_sim(UNAUTHENTICATED),
        query("two tokens").metadata("authorization", "Bearer other").on_sim(UNAUTHENTICATED),
        query("a client that wants compressed answers")
            .metadata("grpc-accept-encoding", "gzip, identity")
            .metadata("accept-encoding", "identity")
            .gives(OK),
    ]
}

fn metadata() -> Vec<Case> {
    let routed_by = |title: &str, params: fn(&str) -> String| {
        rpc(title, "Spanner/GetSession", session).edit(move |request, kept| {
            let params = params(&kept.text("session")).parse().expect("a header value");
            request.headers_mut().insert("x-goog-request-params", params);
        })
    };
    vec![
        query("binary metadata").metadata("x-some-bin", "AAEC/w").metadata("x-some-bin", "AQI=").gives(OK),
        query("binary metadata in a list").metadata("x-some-bin", "AAEC,/w==").ends(Status(OK), refused()),
        query("metadata of one name, several times")
            .metadata("x-many", "one")
            .metadata("x-many", "two")
            .metadata("x-many", "one")
            .metadata("x-many", "a,b")
            .gives(OK),
        query("metadata without a value").metadata("x-empty", "").gives(OK),
        query("metadata with every visible character").metadata("x-visible", (0x21..0x7f).collect::<Vec<u8>>()).gives(OK),
        query("metadata of 7 KB").metadata("x-long", "x".repeat(7 << 10)).gives(OK),
        query("metadata of 40 KB").metadata("x-long", "x".repeat(40 << 10)).on_sim(OK),
        query("metadata of 80 KB").metadata("x-long", "x".repeat(80 << 10)).ends_on_sim(Http(431)).instead(
            Allowed::Limit,
            Status(RESOURCE_EXHAUSTED),
            "request metadata limit",
        ),
        query("metadata that is no ASCII").metadata("x-latin", b"caf\xe9").on_sim(OK),
        query("what Google's clients tell of themselves")
            .metadata("x-goog-api-client", "gl-go/1.24 gccl/1.86 gax/2 grpc/1.75")
            .metadata("x-goog-spanner-request-id", "1.00112233aabbccdd.1.2.3.1")
            .metadata("x-goog-spanner-end-to-end-tracing", "true")
            .metadata("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .metadata("grpc-tags-bin", "AAA")
            .metadata("grpc-previous-rpc-attempts", "1")
            .metadata("x-goog-user-project", "p")
            .gives(OK),
        routed_by("routing parameters as Python writes them", |session| format!("name={session}")).gives(OK),
        routed_by("routing parameters as the Rust client writes them", |session| format!("&name={session}")).gives(OK),
        routed_by("routing parameters that name another session", |_| "name=other".to_owned()).on(INVALID_ARGUMENT, OK),
    ]
}

fn other_paths() -> Vec<Case> {
    let database = |_: &Kept| v1::CreateSessionRequest { database: DATABASE.into(), session: None };
    let here = |title: &str, path: &str| rpc(title, path, |_| ()).unexamined();
    vec![
        rpc("a method newer than the sidecar", "Spanner/FetchCacheUpdate", database).gives(UNIMPLEMENTED),
        rpc("a service newer than the sidecar", "/google.spanner.adapter.v1.Adapter/AdaptMessage", database).gives(UNIMPLEMENTED),
        here("a service of another product", "/google.pubsub.v1.Publisher/Publish").gives(UNIMPLEMENTED).instead(
            Allowed::NotServed,
            Status(UNIMPLEMENTED),
            "E0101",
        ),
        here("a path that is none", "/").gives(UNIMPLEMENTED).instead(Allowed::NotServed, Status(UNIMPLEMENTED), "E0101"),
        here("health", "/grpc.health.v1.Health/Check").gives(UNIMPLEMENTED).instead(Allowed::Local, Status(OK), ""),
        rpc("reflection", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", |_| ())
            // list_services, field 7.
            .raw(|_| frame(b"\x3a\x01*"))
            .unexamined()
            .gives(UNIMPLEMENTED)
            .instead(Allowed::Local, Status(OK), ""),
    ]
}

#[test]
fn the_gzip_of_these_cases_is_one_that_a_decoder_takes() {
    // The check value of CRC-32 (ISO 3309) for "123456789".
    let file = gzip(b"123456789");
    assert_eq!(file[file.len() - 8..file.len() - 4], 0xcbf4_3926_u32.to_le_bytes());
}
