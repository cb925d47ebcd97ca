//! What upstream answers by script: of every method, odd ones, and calls that do not end with a status.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use spanner_sidecar::call::method::TABLE;
use spanner_sim::{Code, GoAway, Script, Status as SimStatus, generated, v1};

use super::Allowed;
use super::case::code::{
    ABORTED, DEADLINE_EXCEEDED, INTERNAL, INVALID_ARGUMENT, NOT_FOUND, OK, PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNAVAILABLE,
};
use super::case::{Act, Case, Outcome, rpc};
use super::compare::REQUEST_ID;
use super::requests::{compressed, gzip};
use Outcome::{Cancelled, Http, Lost, NoStatus, Reset, Status};

const SESSION: &str = "projects/test-project/instances/test-instance/databases/test-db/sessions/s";

/// All codes but OK.
const CODES: [Code; 16] = [
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

fn trailers(fields: &[(&str, &[u8])]) -> HeaderMap {
    let field =
        |(name, value): &(&str, &[u8])| (HeaderName::try_from(*name).expect("a name"), HeaderValue::from_bytes(value).expect("a value"));
    let mut map = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        map.append(name, value);
    }
    map
}

/// One answer with messages and one error for each method of the table and a few that are not in it.
pub(super) fn of_every_method() -> Vec<Case> {
    let newer = [
        "/google.spanner.v1.Spanner/FetchCacheUpdate",
        "/google.spanner.adapter.v1.Adapter/AdaptMessage",
        "/google.iam.v2.Policies/GetPolicy",
    ];
    let paths = TABLE.iter().map(|method| (method.path, true)).chain(newer.map(|path| (path, false)));
    let mut cases = Vec::new();
    for ((path, known), code) in paths.zip(CODES.iter().cycle()) {
        let call = |title: &str| {
            let case = rpc(title, path, |_| v1::GetSessionRequest { name: SESSION.into() });
            if known { case } else { case.unexamined() }
        };
        // No message of any schema: who decodes it, fails.
        let answer = Script::new()
            .header("x-many", "one")
            .header("x-many", "two")
            .header("x-some-bin", "AAEC")
            .message_bytes(&generated(300))
            .message_bytes(b"");
        let end = trailers(&[("grpc-status", b"0"), ("x-last", b"one"), ("x-last", b"two"), ("x-last-bin", b"AAEC")]);
        cases.push(call("an answer that is no message").script(answer.trailers(end)).on_sim(OK));
        let error = SimStatus::new(*code, "50% of \u{1f980}\n")
            .retry_after(Duration::from_millis(1500))
            .resource("type", SESSION, "gone")
            .error_info("REASON", "googleapis.com");
        cases.push(call("an error with details").script(Script::new().header("x-head", "er").status(error)).on_sim(*code as u32));
    }
    cases
}

/// A call of a method that is never repeated.
fn commit(title: &str) -> Case {
    rpc(title, "Spanner/Commit", |_| v1::CommitRequest { session: SESSION.into(), ..Default::default() })
}

/// A call of a method that may be repeated.
fn query(title: &str) -> Case {
    rpc(title, "Spanner/ExecuteStreamingSql", |_| v1::ExecuteSqlRequest {
        session: SESSION.into(),
        sql: "SELECT 1".into(),
        ..Default::default()
    })
}

/// A call whose answer is this.
fn answered(title: &str, script: Script) -> Case {
    query(title).script(script)
}

pub(super) fn odd() -> Vec<Case> {
    [errors(), heads_and_trailers(), bodies(), deadlines()].into_iter().flatten().collect()
}

fn errors() -> Vec<Case> {
    let soon = Duration::from_millis(20);
    let big = || SimStatus::new(Code::InvalidArgument, "too long".repeat(100)).resource("type", SESSION, &"x".repeat(4 << 10));
    vec![
        answered(
            "RESOURCE_EXHAUSTED that says when to retry",
            Script::new().status(SimStatus::new(Code::ResourceExhausted, "later").retry_after(soon)),
        )
        .on_sim(RESOURCE_EXHAUSTED),
        answered("UNAVAILABLE that says when to retry", Script::new().status(SimStatus::new(Code::Unavailable, "later").retry_after(soon)))
            .on_sim(UNAVAILABLE),
        answered("UNAVAILABLE", Script::fail(Code::Unavailable, "try again")).on_sim(UNAVAILABLE),
        commit("ABORTED that says when to retry")
            .script(Script::new().status(SimStatus::new(Code::Aborted, "again").retry_after(soon)))
            .on_sim(ABORTED),
        answered("ABORTED after rows", Script::new().message_bytes(b"x").status(SimStatus::new(Code::Aborted, "again").retry_after(soon)))
            .on_sim(ABORTED),
        answered("UNAVAILABLE after rows", Script::new().message_bytes(b"x").status(SimStatus::new(Code::Unavailable, "later")))
            .on_sim(UNAVAILABLE),
        answered(
            "a lost session",
            Script::new().status(SimStatus::new(Code::NotFound, "Session not found").resource(
                "type.googleapis.com/google.spanner.v1.Session",
                SESSION,
                "gone",
            )),
        )
        .on_sim(NOT_FOUND),
        answered(
            "PERMISSION_DENIED with its reason",
            Script::new()
                .status(SimStatus::new(Code::PermissionDenied, "no").error_info("IAM_PERMISSION_DENIED", "spanner.googleapis.com")),
        )
        .on_sim(PERMISSION_DENIED),
        // Twice in details of its own and in the status: above 13 KB in all.
        answered("an error with 13 KB of trailers", Script::new().status(big())).on_sim(INVALID_ARGUMENT),
        answered("13 KB of trailers after rows", Script::new().message_bytes(b"x").status(big())).on_sim(INVALID_ARGUMENT),
    ]
}

fn heads_and_trailers() -> Vec<Case> {
    let ends = |fields: &[(&str, &[u8])]| Script::new().trailers(trailers(fields));
    vec![
        answered("a message that is not escaped", ends(&[("grpc-status", b"3"), ("grpc-message", "d\u{e9}j\u{e0} vu".as_bytes())]))
            .on_sim(INVALID_ARGUMENT),
        answered("a message that is escaped badly", ends(&[("grpc-status", b"3"), ("grpc-message", b"100%, %zz")]))
            .on_sim(INVALID_ARGUMENT),
        answered("an empty message", ends(&[("grpc-status", b"3"), ("grpc-message", b"")])).on_sim(INVALID_ARGUMENT),
        answered("details that are no base64", ends(&[("grpc-status", b"3"), ("grpc-status-details-bin", b"***")]))
            .on_sim(INVALID_ARGUMENT),
        answered("details with padding", ends(&[("grpc-status", b"3"), ("grpc-status-details-bin", b"CAM=")])).on_sim(INVALID_ARGUMENT),
        answered("a status that gRPC does not have", ends(&[("grpc-status", b"99")])).on_sim(99),
        answered("a status that is no number", ends(&[("grpc-status", b"fine")])).ends_on_sim(NoStatus),
        answered("a status twice", ends(&[("grpc-status", b"3"), ("grpc-status", b"5")])).on_sim(INVALID_ARGUMENT),
        answered("no status", ends(&[("x-other", b"1")])).ends_on_sim(NoStatus),
        answered("no status after rows", Script::new().message_bytes(b"x").trailers(trailers(&[("x-other", b"1")]))).ends_on_sim(NoStatus),
        answered("headers, then at once trailers", Script::new().send_headers().status(SimStatus::new(Code::Internal, "broken")))
            .on_sim(INTERNAL),
        answered("headers long before the rest", Script::new().send_headers().pause(Duration::from_millis(30)).message_bytes(b"x"))
            .on_sim(OK),
        answered("times of the front ends", Script::new().header("server-timing", "gfet4t7; dur=123, afe; dur=45.5").message_bytes(b"x"))
            .on_sim(OK),
        answered(
            "times that nobody can read",
            Script::new().header("server-timing", b"gfet4t7; dur=\xff, afe; dur=-1e999").message_bytes(b"x"),
        )
        .on_sim(OK),
        answered("20 KB of headers", Script::new().header("x-long", "x".repeat(20 << 10)).message_bytes(b"x")).on_sim(OK),
        answered("a content type with codec", Script::new().header("content-type", "application/grpc+proto").message_bytes(b"x"))
            .on_sim(OK),
        answered(
            "a broken load balancer",
            Script::new()
                .http_status(StatusCode::SERVICE_UNAVAILABLE)
                .header("content-type", "text/html")
                .raw("<html>")
                .trailers(HeaderMap::new()),
        )
        .ends_on_sim(Http(503)),
        answered(
            "a front end that knows no gRPC",
            Script::new().http_status(StatusCode::NOT_FOUND).header("content-type", "text/html").trailers(HeaderMap::new()),
        )
        .ends_on_sim(Http(404)),
        answered("HTTP 200 that is no gRPC", Script::new().header("content-type", "text/plain").raw("hello").trailers(HeaderMap::new()))
            .ends_on_sim(NoStatus),
    ]
}

fn bodies() -> Vec<Case> {
    let gzipped = Script::new().header("grpc-encoding", "gzip").raw(compressed(&gzip(b"\x0a\x00")));
    vec![
        answered("a compressed answer", gzipped.clone()).on_sim(OK),
        commit("a compressed answer to a call that is looked into").script(gzipped).on_sim(OK),
        answered(
            "an unknown compression",
            Script::new().header("grpc-encoding", "zstd").header("grpc-accept-encoding", "zstd,identity").raw(compressed(b"???")),
        )
        .on_sim(OK),
        answered("an answer without message", Script::new()).on_sim(OK),
        answered("empty messages", Script::new().message_bytes(b"").message_bytes(b"")).on_sim(OK),
        answered("half a message", Script::new().raw(&b"\0\0\0\0\x09half"[..]).status(SimStatus::ok())).on_sim(OK),
        answered("half a frame header", Script::new().raw(&b"\0\0"[..]).status(SimStatus::new(Code::Internal, "broken"))).on_sim(INTERNAL),
        answered(
            "a message in pieces",
            Script::new().raw(&b"\0\0\0"[..]).raw(&b"\0\x04ab"[..]).pause(Duration::from_millis(10)).raw(&b"cd"[..]),
        )
        .on_sim(OK),
        answered("a message of 5 MB", Script::new().stream(1, 5 << 20)).on_sim(OK),
        answered("many messages", Script::new().stream(500, 2 << 10).status(SimStatus::ok())).on_sim(OK),
        answered("11 MB of rows", Script::new().stream(11, 1 << 20)).on_sim(OK),
        commit("an answer before the request is read")
            .raw(|_| crate::support::raw::frame(&[0x7a; 2 << 20]))
            .unexamined()
            .script(Script::fail(Code::PermissionDenied, "not you").before_request())
            .unread()
            .on_sim(PERMISSION_DENIED),
    ]
}

fn deadlines() -> Vec<Case> {
    let hang = || Script::new().hang();
    vec![
        query("a deadline that passes").metadata("grpc-timeout", "60m").script(hang()).on_sim(DEADLINE_EXCEEDED),
        commit("a deadline that passes while nothing may be repeated")
            .metadata("grpc-timeout", "60000u")
            .script(hang())
            .on_sim(DEADLINE_EXCEEDED),
        query("a deadline that passes after rows")
            .metadata("grpc-timeout", "1S")
            .script(Script::new().message_bytes(b"x").hang())
            .on_sim(DEADLINE_EXCEEDED),
        query("a slow answer before its deadline")
            .metadata("grpc-timeout", "20S")
            .script(Script::new().pause(Duration::from_millis(50)).message_bytes(b"x"))
            .on_sim(OK),
    ]
}

/// HTTP/2 error codes (RFC 9113, section 7) as the `h2` crate names them. REFUSED_STREAM stands apart.
const RESETS: [(u32, &str); 14] = [
    (0x0, "NO_ERROR"),
    (0x1, "PROTOCOL_ERROR"),
    (0x2, "INTERNAL_ERROR"),
    (0x3, "FLOW_CONTROL_ERROR"),
    (0x4, "SETTINGS_TIMEOUT"),
    (0x5, "STREAM_CLOSED"),
    (0x6, "FRAME_SIZE_ERROR"),
    (0x8, "CANCEL"),
    (0x9, "COMPRESSION_ERROR"),
    (0xa, "CONNECT_ERROR"),
    (0xb, "ENHANCE_YOUR_CALM"),
    (0xc, "INADEQUATE_SECURITY"),
    (0xd, "HTTP_1_1_REQUIRED"),
    (0xabcd, "Reason(abcd)"),
];

pub(super) fn ends() -> Vec<Case> {
    let refused = (0x7, "REFUSED_STREAM");
    let reset = |name: &str| Reset(name.to_owned());
    let lost = |title: &str, script: Script| {
        commit(title).script(script).ends_on_sim(Lost).instead(Allowed::ConnectionLost, Status(UNAVAILABLE), "E0301")
    };
    let mut cases: Vec<Case> = Vec::new();
    for (code, name) in RESETS {
        cases.push(query(&format!("{name} before the answer")).script(Script::new().reset(code)).ends_on_sim(reset(name)));
        cases.push(
            commit(&format!("{name} before the answer, nothing to be repeated")).script(Script::new().reset(code)).ends_on_sim(reset(name)),
        );
    }
    for (code, name) in RESETS.into_iter().chain([refused]) {
        let script = Script::new().message_bytes(b"row").hang();
        cases.push(query(&format!("{name} after rows")).script(script).act(Act::ResetAfter(8, code)).ends_on_sim(reset(name)));
    }
    cases.extend([
        commit("a call that is refused once")
            .metadata(REQUEST_ID, "1.00112233aabbccdd.1.2.3.1")
            .script(Script::new().reset(refused.0))
            .ends_on_sim(reset(refused.1))
            .instead(Allowed::Repeated, Status(INVALID_ARGUMENT), "")
            .raw(|_| crate::support::raw::frame(b"\xff")),
        query("a call that is always refused").script(Script::new().reset(refused.0).forever()).ends_on_sim(reset(refused.1)).instead(
            Allowed::Repeated,
            Status(UNAVAILABLE),
            "E0302",
        ),
        commit("a call beyond the last of a connection")
            .raw(|_| crate::support::raw::frame(b"\xff"))
            .script(Script::new().goaway(GoAway::BeforeThis(0)).hang())
            .ends_on_sim(reset("NO_ERROR"))
            .instead(Allowed::Repeated, Status(INVALID_ARGUMENT), ""),
        lost("a connection that is closed", Script::new().close()),
        lost("a connection that is reset", Script::new().tcp_reset()),
        query("cancelled before the answer").script(Script::new().hang()).act(Act::CancelUnanswered).ends_on_sim(Cancelled),
        commit("cancelled before the answer, nothing to be repeated")
            .script(Script::new().hang())
            .act(Act::CancelUnanswered)
            .ends_on_sim(Cancelled),
        query("cancelled while a deadline runs")
            .metadata("grpc-timeout", "20S")
            .script(Script::new().hang())
            .act(Act::CancelUnanswered)
            .ends_on_sim(Cancelled),
        query("cancelled among rows").script(Script::new().stream(1000, 64 << 10)).act(Act::CancelAfter(300 << 10)).ends_on_sim(Cancelled),
        query("cancelled after headers and one row")
            .script(Script::new().message_bytes(b"row").hang())
            .act(Act::CancelAfter(8))
            .ends_on_sim(Cancelled),
        commit("cancelled within a long request")
            .raw(|_| crate::support::raw::frame(&[0x7a; 2 << 20]))
            .unexamined()
            .script(Script::new())
            .act(Act::CancelHalfSent(1 << 20))
            .ends_on_sim(Cancelled),
        commit("cancelled within a short request")
            .raw(|_| crate::support::raw::frame(&[0x7a; 1 << 10]))
            .unexamined()
            .act(Act::CancelUnsent(512))
            .ends_on_sim(Cancelled)
            .instead(Allowed::Unsent, Cancelled, ""),
    ]);
    cases
}
