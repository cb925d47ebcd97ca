//! Many streams, cancelled streams, streams whose client is gone.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use spanner_sim::{Code, End, Matcher, Script};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::frames::{self, Wire};
use crate::support::raw::{Client, frame};
use crate::support::sidecar::Sidecar;
use crate::support::spanner::{SESSION, commit, create_session, rpc, select, sim};
use crate::support::{PATIENCE, eventually};

const CANCEL: u32 = 8;

fn framed_select() -> Bytes {
    frame(&select(SESSION).encode_to_vec())
}

#[tokio::test]
async fn ten_thousand_calls_cancelled_in_a_burst_leave_the_connection_and_no_stream_upstream() {
    let sim = sim().await;
    sim.script("ExecuteSql", Script::new().hang().forever());
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    client.works().await;
    let (path, body) = (rpc("ExecuteSql"), framed_select());
    let mut calls = Vec::with_capacity(10_000);
    for _ in 0..10_000 {
        calls.push(client.open(&path, body.clone(), true, &[]).await);
    }
    eventually("every call is under way", async || sidecar.metric("spanner_sidecar_inflight_calls").await == 10_000.0).await;
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() >= 100).await, "{} streams upstream", sim.open_streams());
    drop(calls);
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 0).await, "{} streams upstream", sim.open_streams());
    eventually("no call is under way", async || sidecar.metric("spanner_sidecar_inflight_calls").await == 0.0).await;
    // On the same connection.
    client.works().await;
}

#[tokio::test]
async fn calls_cancelled_in_the_same_packet_that_begins_them_leave_the_connection_and_no_stream_upstream() {
    let sim = sim().await;
    sim.script("ExecuteSql", Script::new().hang().forever());
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let mut wire = Wire::connect(sidecar.address).await;
    let (path, body) = (rpc("ExecuteSql"), framed_select());
    let head = frames::block(&frames::call(&path));
    let mut burst = Vec::new();
    for call in 0..10_000 {
        let stream = 2 * call + 1;
        burst.extend(frames::frame(frames::HEADERS, frames::END_HEADERS, stream, &head));
        burst.extend(frames::frame(frames::DATA, frames::END_STREAM, stream, &body));
        burst.extend(frames::frame(frames::RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    wire.write(&burst).await;
    // A PING is answered after what came before it has been taken in.
    wire.write(&frames::frame(frames::PING, 0, 0, b"still ok")).await;
    let pong = wire.read_kind(frames::PING).await.expect("the connection lives");
    assert_eq!((pong.flags, &pong.payload[..]), (frames::ACK, &b"still ok"[..]));
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 0).await, "{} streams upstream", sim.open_streams());
    eventually("no call is under way", async || sidecar.metric("spanner_sidecar_inflight_calls").await == 0.0).await;
    let path = rpc("CreateSession");
    wire.write(&frames::frame(frames::HEADERS, frames::END_HEADERS, 20_001, &frames::block(&frames::call(&path)))).await;
    let body = frame(&create_session().encode_to_vec());
    wire.write(&frames::frame(frames::DATA, frames::END_STREAM, 20_001, &body)).await;
    let answer = wire.read_kind(frames::DATA).await.expect("the connection lives");
    assert_eq!(answer.stream, 20_001);
}

#[tokio::test]
async fn a_hundred_connections_with_a_hundred_streams_each_all_succeed() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let body = frame(&create_session().encode_to_vec());
    let path = rpc("CreateSession");
    let mut open = Vec::with_capacity(10_000);
    for _ in 0..100 {
        let client = Client::connect(sidecar.address).await;
        for _ in 0..100 {
            // The head alone: all streams are open before the first can be answered.
            open.push(client.open(&path, Bytes::new(), false, &[]).await);
        }
    }
    eventually("every stream is open", async || sidecar.metric("spanner_sidecar_inflight_calls").await == 10_000.0).await;
    let mut calls = JoinSet::new();
    for mut call in open {
        call.send.send_data(body.clone(), true).expect("an open stream");
        calls.spawn(async move {
            let mut answer = call.response.await.expect("an answer").into_body();
            while let Some(chunk) = answer.data().await {
                let chunk = chunk.expect("data");
                answer.flow_control().release_capacity(chunk.len()).expect("capacity");
            }
            let trailers = answer.trailers().await.expect("trailers").expect("trailers");
            trailers["grpc-status"].to_str().expect("text").to_owned()
        });
    }
    let codes = timeout(PATIENCE, calls.join_all()).await.expect("in time");
    assert_eq!((codes.len(), codes.iter().filter(|code| *code == "0").count()), (10_000, 10_000));
    assert_eq!(sim.recorded_of("CreateSession").len(), 10_000, "each call goes upstream once");
}

#[tokio::test]
async fn a_client_that_pings_without_pause_is_never_told_to_go_away() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let stream = TcpStream::connect(sidecar.address).await.expect("connects");
    let (sender, mut connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let mut ping = connection.ping_pong().expect("the first one");
    let connection = tokio::spawn(connection);
    // gRPC servers by default strike a client at its third ping without a call.
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..20 {
        ticks.tick().await;
        timeout(PATIENCE, ping.ping(h2::Ping::opaque())).await.expect("in time").expect("a pong");
    }
    for _ in 0..500 {
        timeout(PATIENCE, ping.ping(h2::Ping::opaque())).await.expect("in time").expect("a pong");
    }
    assert!(!connection.is_finished());
    // After a GOAWAY no stream can be opened.
    let sender = sender.ready().await.expect("a live connection");
    Client::over(sender, sidecar.address).works().await;
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_upstream() {
    let sim = sim().await;
    sim.script("Commit", Script::new().hang());
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    let call = client.open(&rpc("Commit"), frame(&commit(SESSION).encode_to_vec()), true, &[]).await;
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 1).await);
    drop(call);
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 0).await);
    let calls = sim.recorded_of("Commit");
    assert_eq!(calls.iter().map(|call| call.end).collect::<Vec<_>>(), [End::ClientReset(CANCEL)]);
    client.works().await;
}

#[tokio::test]
async fn a_call_cancelled_in_the_middle_of_its_answer_is_cancelled_upstream() {
    let sim = sim().await;
    sim.script("ExecuteStreamingSql", Script::new().message_bytes(b"first").hang());
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    let call = client.open(&rpc("ExecuteStreamingSql"), framed_select(), true, &[]).await;
    let mut body = call.response.await.expect("an answer").into_body();
    assert_eq!(body.data().await.expect("a frame").expect("data"), frame(b"first"));
    drop((body, call.send));
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 0).await);
    assert_eq!(sim.recorded_of("ExecuteStreamingSql")[0].end, End::ClientReset(CANCEL));
}

#[tokio::test]
async fn an_upload_cancelled_half_way_is_cancelled_upstream() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    let whole = frame(&vec![b'x'; 2 << 20]);
    let call = client.open(&rpc("Commit"), whole.slice(..600 << 10), false, &[]).await;
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 1).await, "what is longer than the front streams through");
    drop(call);
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 0).await);
    assert_eq!(sim.recorded_of("Commit")[0].end, End::ClientReset(CANCEL));
    client.works().await;
}

#[tokio::test]
async fn calls_of_a_client_whose_connection_vanishes_are_cancelled_upstream() {
    let sim = sim().await;
    sim.script("ExecuteSql", Script::new().hang().forever());
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let stream = TcpStream::connect(sidecar.address).await.expect("connects");
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let client = Client::over(sender, sidecar.address);
    let mut calls = Vec::new();
    for _ in 0..10 {
        calls.push(client.open(&rpc("ExecuteSql"), framed_select(), true, &[]).await);
    }
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 10).await);
    // Closes the socket without a word to its streams.
    connection.abort();
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 0).await);
    for call in sim.recorded_of("ExecuteSql") {
        assert_eq!(call.end, End::ClientReset(CANCEL));
    }
    eventually("no call is under way", async || sidecar.metric("spanner_sidecar_inflight_calls").await == 0.0).await;
}

#[tokio::test]
async fn an_answer_that_comes_before_the_end_of_the_request_reaches_the_caller_at_once() {
    let sim = sim().await;
    sim.script(Matcher::method("Commit"), Script::fail(Code::PermissionDenied, "not you").before_request());
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    let whole = frame(&vec![b'x'; 2 << 20]);
    let call = client.open(&rpc("Commit"), whole.slice(..600 << 10), false, &[]).await;
    let answer = timeout(PATIENCE, call.response).await.expect("in time").expect("an answer");
    assert_eq!(
        (&answer.headers()["grpc-status"], &answer.headers()["grpc-message"]),
        (&"7".parse().expect("text"), &"not you".parse().expect("text"))
    );
    assert!(answer.body().is_end_stream(), "trailers-only");
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 0).await);
    client.works().await;
}
