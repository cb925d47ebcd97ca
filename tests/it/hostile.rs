//! What no good client sends: it gets an answer that a gRPC client understands, and nobody else notices.

use bytes::Bytes;
use http::Request;
use prost::Message as _;
use spanner_sim::{Script, Sim, v1};
use tokio::time::timeout;

use crate::support::frames::Wire;
use crate::support::raw::{Answer, Client, frame};
use crate::support::sidecar::Sidecar;
use crate::support::spanner::{SESSION, create_session, rpc, sim};
use crate::support::{PATIENCE, eventually};

const INVALID_ARGUMENT: u32 = 3;
const UNIMPLEMENTED: u32 = 12;

async fn started() -> (Sim, Sidecar, Client) {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    client.works().await;
    sim.clear_recorded();
    (sim, sidecar, client)
}

/// Calls within a time that says: no hang.
async fn call(client: &Client, path: &str, body: Bytes, metadata: &[(&str, &str)]) -> Answer {
    timeout(PATIENCE, client.call_bytes(path, body, metadata)).await.expect("an answer in time")
}

async fn send(client: &Client, request: http::request::Builder, body: Bytes) -> Answer {
    let request = request.body(()).expect("a request");
    timeout(PATIENCE, client.send(request, body)).await.expect("an answer in time")
}

fn authority(sidecar: &Sidecar, path: &str) -> String {
    format!("http://{}{path}", sidecar.address)
}

#[tokio::test]
async fn malformed_protobuf_passes_as_it_came_and_is_upstreams_to_refuse() {
    let (sim, _sidecar, client) = started().await;
    let endless_varint = [0xff; 32];
    let length_beyond_the_end = b"\x0a\x7fprojects/p";
    let deep = [0x12].repeat(5000);
    let not_utf8 = b"\x0a\x04\xff\xfe\xfd\xfc";
    for (number, garbage) in [&endless_varint[..], length_beyond_the_end, &deep, not_utf8, b"\x00", b"\x0b\x0b\x0b"].into_iter().enumerate()
    {
        for method in ["ExecuteSql", "Commit", "CreateSession", "BeginTransaction", "ExecuteBatchDml"] {
            sim.clear_recorded();
            let answer = call(&client, &rpc(method), frame(garbage), &[]).await;
            let code = answer.code().unwrap_or_else(|| panic!("no status: {method}, {number}: {answer:?}"));
            assert!(code != 0 && answer.reset.is_none(), "{method}, {number}: {answer:?}");
            assert!(!answer.message().contains("spanner-sidecar"), "{answer:?}");
            assert_eq!(sim.recorded_of(method)[0].body, frame(garbage), "{method}, {number}");
        }
    }
    client.works().await;
}

#[tokio::test]
async fn truncated_frames_pass_as_they_came_and_are_upstreams_to_refuse() {
    let (sim, _sidecar, client) = started().await;
    let whole = frame(&create_session().encode_to_vec());
    for length in [0, 1, 4, 5, 6, whole.len() - 1] {
        sim.clear_recorded();
        let answer = call(&client, &rpc("CreateSession"), whole.slice(..length), &[]).await;
        assert!(answer.code().is_some_and(|code| code != 0) && answer.reset.is_none(), "{length} bytes: {answer:?}");
        assert_eq!(sim.recorded_of("CreateSession")[0].body, whole.slice(..length));
    }
    client.works().await;
}

#[tokio::test]
async fn two_messages_where_one_belongs_pass_as_they_came() {
    let (sim, _sidecar, client) = started().await;
    let one = frame(&create_session().encode_to_vec());
    let two: Bytes = [&one[..], &one[..]].concat().into();
    let answer = call(&client, &rpc("CreateSession"), two.clone(), &[]).await;
    assert!(answer.code().is_some_and(|code| code != 0) && answer.reset.is_none(), "{answer:?}");
    assert_eq!(sim.recorded_of("CreateSession")[0].body, two);
}

#[tokio::test]
async fn a_wrong_content_type_gets_http_415_and_a_status() {
    let (sim, sidecar, client) = started().await;
    let body = frame(&create_session().encode_to_vec());
    for content_type in
        [None, Some("application/json"), Some("application/grpc-web"), Some("application/grpcx"), Some(""), Some("text/plain")]
    {
        let mut request = Request::post(authority(&sidecar, &rpc("CreateSession"))).header("te", "trailers");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let answer = send(&client, request, body.clone()).await;
        assert_eq!(answer.http_status, 415, "{content_type:?}: {answer:?}");
        answer.expect_status(INVALID_ARGUMENT, &["E0102", "application/grpc"]);
    }
    assert!(sim.recorded().is_empty());
    client.works().await;
}

#[tokio::test]
async fn an_unknown_encoding_is_upstreams_to_refuse() {
    let (sim, _sidecar, client) = started().await;
    for (flag, encoding) in [(1, "zstd"), (1, "no-such-encoding"), (0x7f, "gzip"), (1, "identity"), (0xff, "")] {
        sim.clear_recorded();
        let mut body = frame(&create_session().encode_to_vec()).to_vec();
        body[0] = flag;
        let answer = call(&client, &rpc("CreateSession"), body.clone().into(), &[("grpc-encoding", encoding)]).await;
        assert!(answer.code().is_some_and(|code| code != 0) && answer.reset.is_none(), "{flag} {encoding}: {answer:?}");
        let seen = &sim.recorded_of("CreateSession")[0];
        assert_eq!((&seen.body[..], seen.header("grpc-encoding")), (&body[..], Some(encoding)));
    }
    client.works().await;
}

#[tokio::test]
async fn an_encoding_of_the_answer_that_the_sidecar_does_not_know_passes() {
    let (sim, _sidecar, client) = started().await;
    let compressed = Bytes::from_static(b"\x01\x00\x00\x00\x03abc");
    sim.script("BeginTransaction", Script::new().header("grpc-encoding", "no-such-encoding").raw(compressed.clone()));
    let request = v1::BeginTransactionRequest { session: SESSION.into(), ..Default::default() };
    let answer = call(&client, &rpc("BeginTransaction"), frame(&request.encode_to_vec()), &[]).await;
    assert_eq!((answer.code(), &answer.body[..]), (Some(0), &compressed[..]));
    assert_eq!(answer.headers["grpc-encoding"], "no-such-encoding");
}

#[tokio::test]
async fn an_answer_that_is_garbage_passes_and_harms_nobody() {
    let (sim, _sidecar, client) = started().await;
    for garbage in [&b"\xff\xff\xff\xff\xff\xff\xff"[..], b"\x00\x00\x00\x00\x09\x12", b"\x00"] {
        sim.script("BeginTransaction", Script::new().raw(Bytes::from_static(garbage)));
        let request = v1::BeginTransactionRequest { session: SESSION.into(), ..Default::default() };
        let answer = call(&client, &rpc("BeginTransaction"), frame(&request.encode_to_vec()), &[]).await;
        assert_eq!((answer.code(), &answer.body[..], &answer.reset), (Some(0), garbage, &None));
    }
    client.works().await;
}

#[tokio::test]
async fn grpc_over_http1_gets_a_status_in_its_headers() {
    let (sim, sidecar, client) = started().await;
    let path = rpc("CreateSession");
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/grpc\r\nte: trailers\r\nconnection: close\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0",
        sidecar.address
    );
    let answer = whole_answer(&sidecar, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let header = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned);
    assert_eq!(header("grpc-status"), Some(UNIMPLEMENTED.to_string()), "{answer}");
    assert_eq!(header("content-type").as_deref(), Some("application/grpc"));
    assert!(header("grpc-message").is_some_and(|message| message.contains("E0105") && message.contains("HTTP/2")), "{answer}");
    assert!(sim.recorded().is_empty());
    client.works().await;
}

/// The answer to an HTTP/1.1 request, head and all.
async fn whole_answer(sidecar: &Sidecar, request: &str) -> String {
    let mut wire = Wire::silent(sidecar.address).await;
    wire.write(request.as_bytes()).await;
    String::from_utf8_lossy(&wire.read_bytes().await).into_owned()
}

#[tokio::test]
async fn paths_that_are_not_served_get_unimplemented_and_learn_what_is() {
    let (sim, sidecar, client) = started().await;
    for path in
        ["/", "/google.pubsub.v1.Publisher/Publish", "/google.spanner.v1.Spanner", "/google.spannerx.v1.A/B", "/%00", "//", "/a/b/c?d=e"]
    {
        let answer = call(&client, path, frame(b""), &[]).await;
        assert_eq!((answer.http_status, answer.trailers_only), (200, true), "{path}");
        answer.expect_status(UNIMPLEMENTED, &["E0101", "google.spanner"]);
    }
    let options = send(&client, Request::options(authority(&sidecar, "*")).header("content-type", "application/grpc"), Bytes::new()).await;
    assert!(options.code().is_some() || options.reset.is_some(), "{options:?}");
    assert!(sim.recorded().is_empty());
    client.works().await;
}

#[tokio::test]
async fn methods_other_than_post_are_refused_with_a_status() {
    let (sim, sidecar, client) = started().await;
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PRI"] {
        let request =
            Request::builder().method(method).uri(authority(&sidecar, &rpc("CreateSession"))).header("content-type", "application/grpc");
        let answer = send(&client, request, Bytes::new()).await;
        answer.expect_status(INVALID_ARGUMENT, &["E0102", "POST"]);
    }
    assert!(sim.recorded().is_empty());
    client.works().await;
}

#[tokio::test]
async fn garbage_instead_of_a_preface_gets_an_http_error_or_a_close() {
    let (_sim, sidecar, client) = started().await;
    let random = spanner_sim::generated(64 << 10);
    let long_line = [b"GET /".to_vec(), vec![b'a'; 1 << 20]].concat();
    for garbage in [
        &b"\0\0\0\0\0\0\0\0\0"[..],
        b"hello\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"\r\n\r\n\r\n",
        &random,
        &long_line,
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let mut wire = Wire::silent(sidecar.address).await;
        wire.write(garbage).await;
        wire.half_close().await;
        let answer = wire.read_bytes().await;
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
        assert!(answer.is_empty() || shown.starts_with("HTTP/1.1 4") || shown.starts_with("HTTP/1.1 5"), "{shown}");
    }
    client.works().await;
}

#[tokio::test]
async fn a_client_that_speaks_tls_is_closed_and_the_log_tells_why() {
    let (_sim, mut sidecar, client) = started().await;
    // The beginning of a ClientHello: a handshake record of TLS 1.0, as every client sends it.
    let mut wire = Wire::silent(sidecar.address).await;
    wire.write(&[&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 502]].concat()).await;
    assert_eq!(wire.read_bytes().await, b"");
    let line = sidecar.line("TLS").await;
    assert_eq!(line["level"], "WARN");
    assert!(line["message"].as_str().is_some_and(|message| message.contains("plaintext")), "{line}");
    client.works().await;
}

#[tokio::test]
async fn half_open_connections_are_closed_when_their_client_is_through() {
    let (_sim, sidecar, client) = started().await;
    for said in
        [&b""[..], b"PRI * HT", b"POST /v1/pro", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04"]
    {
        let mut wire = Wire::silent(sidecar.address).await;
        wire.write(said).await;
        wire.half_close().await;
        // SETTINGS or an HTTP error may come, then the end.
        wire.read_bytes().await;
    }
    client.works().await;
}

#[tokio::test]
async fn connections_that_say_nothing_hold_up_nobody() {
    let (_sim, sidecar, client) = started().await;
    let mut silent = Vec::new();
    for number in 0..300 {
        let mut wire = Wire::silent(sidecar.address).await;
        wire.write(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..number % 24]).await;
        silent.push(wire);
    }
    client.works().await;
    Client::connect(sidecar.address).await.works().await;
    drop(silent);
    eventually("their connections are gone", async || sidecar.get("/status").await.1.contains("\"downstream_connections\":1")).await;
}
