//! What is large: results, requests, metadata; and how little memory they take.

use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use prost::Message as _;
use spanner_sim::{Script, Sim, v1};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::support::raw::{Client, frame};
use crate::support::sidecar::Sidecar;
use crate::support::spanner::{SESSION, commit, create_session, rpc, select, sim};

const MIB: usize = 1 << 20;
const RESOURCE_EXHAUSTED: u32 = 8;

/// A client that takes 64 KiB of each stream at a time, HTTP/2's default, and for whom one stream does not block another.
async fn slow_client(sidecar: &Sidecar) -> Client {
    let stream = TcpStream::connect(sidecar.address).await.expect("connects");
    let (sender, connection) = h2::client::Builder::new().initial_connection_window_size(1 << 24).handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    Client::over(sender, sidecar.address)
}

/// Begins a query and waits for the head of its answer.
async fn query(client: &Client) -> RecvStream {
    let call = client.open(&rpc("ExecuteStreamingSql"), frame(&select(SESSION).encode_to_vec()), true, &[]).await;
    let response = timeout(PATIENCE, call.response).await.expect("in time").expect("an answer");
    response.into_body()
}

async fn chunk(body: &mut RecvStream) -> Option<Bytes> {
    let chunk = timeout(PATIENCE, body.data()).await.expect("in time")?.expect("data");
    body.flow_control().release_capacity(chunk.len()).expect("capacity");
    Some(chunk)
}

/// Waits until nothing moves any more: every window and buffer on the way is full. Returns the most memory seen.
async fn at_rest(sidecar: &Sidecar) -> usize {
    let (mut most, mut last, mut unchanged) = (0, 0, 0);
    let settle = async {
        while unchanged < 20 {
            let resident = sidecar.resident();
            unchanged = if resident == last { unchanged + 1 } else { 0 };
            last = resident;
            most = most.max(resident);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, settle).await.expect("memory comes to rest");
    most
}

/// The memory after a first call, when lazy parts are there.
async fn baseline(sidecar: &Sidecar) -> usize {
    let client = slow_client(sidecar).await;
    for _ in 0..100 {
        client.works().await;
    }
    at_rest(sidecar).await
}

fn assert_grew_less(sidecar: &Sidecar, before: usize, most: usize, limit: usize) {
    let grown = most.saturating_sub(before);
    eprintln!("resident memory: {before} bytes, grew by {grown}, now {}", sidecar.resident());
    assert!(grown < limit, "memory grew by {grown} bytes from {before}, the limit is {limit}");
}

async fn large_results() -> Sim {
    let sim = sim().await;
    sim.script("ExecuteStreamingSql", Script::new().stream(100, 1 << 20).forever());
    sim
}

#[tokio::test]
async fn a_result_of_100_mb_passes_a_slow_reader_in_less_than_8_mib_of_memory() {
    let sim = large_results().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let before = baseline(&sidecar).await;
    let client = slow_client(&sidecar).await;
    let mut body = query(&client).await;
    let mut most = at_rest(&sidecar).await;
    // One message after the other, compared as it comes.
    let message = frame(&spanner_sim::generated(1 << 20));
    let (mut received, mut paused_at) = (0, 0);
    while let Some(chunk) = chunk(&mut body).await {
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let at = received % message.len();
            let part = rest.len().min(message.len() - at);
            assert!(rest[..part] == message[at..at + part], "other bytes after {received}");
            received += part;
            rest = &rest[part..];
        }
        if received - paused_at > 4 * MIB {
            paused_at = received;
            // The reader does something else, so that all buffers fill up again.
            tokio::time::sleep(Duration::from_millis(20)).await;
            most = most.max(sidecar.resident());
        }
    }
    assert_eq!(received, 100 * message.len());
    let trailers = timeout(PATIENCE, body.trailers()).await.expect("in time").expect("trailers").expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
    assert_grew_less(&sidecar, before, most, 8 * MIB);
}

/// A hundred results of 100 MB at once, over `connections` connections of slow readers.
async fn hundred_results(connections: usize) {
    let sim = large_results().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let before = baseline(&sidecar).await;
    let mut bodies = Vec::new();
    for _ in 0..connections {
        let client = slow_client(&sidecar).await;
        for _ in 0..100 / connections {
            bodies.push(query(&client).await);
        }
    }
    let mut most = at_rest(&sidecar).await;
    // Every reader gets on, step by step; what is between two steps piles up as far as it may.
    for _ in 0..4 {
        for body in &mut bodies {
            let mut read = 0;
            while read < 128 << 10 {
                read += chunk(body).await.expect("more than that").len();
            }
        }
        most = most.max(at_rest(&sidecar).await);
    }
    assert_eq!(sim.open_streams(), 100, "all results are still under way");
    assert_grew_less(&sidecar, before, most, 64 * MIB);
    drop(bodies);
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 0).await);
    slow_client(&sidecar).await.works().await;
}

#[tokio::test]
async fn a_hundred_results_of_100_mb_at_once_take_less_than_64_mib_on_connections_of_their_own() {
    hundred_results(100).await;
}

#[tokio::test]
async fn a_hundred_results_of_100_mb_at_once_take_less_than_64_mib_on_four_connections() {
    hundred_results(4).await;
}

#[tokio::test]
async fn a_slow_reader_does_not_hold_up_the_other_calls_of_its_connection() {
    let sim = large_results().await;
    let sidecar = Sidecar::start(&sim.uri(), &["--channels", "1"]).await;
    let client = slow_client(&sidecar).await;
    let _slow = query(&client).await;
    at_rest(&sidecar).await;
    for _ in 0..50 {
        timeout(PATIENCE, client.works()).await.expect("in time");
    }
}

#[tokio::test]
async fn a_commit_of_90_mb_passes_byte_for_byte() {
    let sim = sim().await;
    sim.script("Commit", Script::answer(&v1::CommitResponse::default()));
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    // The value differs at every offset, so that nothing can be swapped unseen.
    let value = String::from_utf8(spanner_sim::generated(90_000_000).iter().map(|byte| b' ' + byte % 64).collect()).expect("ASCII");
    let row = spanner_sim::prost_types::ListValue {
        values: vec![spanner_sim::prost_types::Value { kind: Some(spanner_sim::prost_types::value::Kind::StringValue(value)) }],
    };
    let write = v1::mutation::Write { table: "T".into(), columns: vec!["V".into()], values: vec![row] };
    let request =
        v1::CommitRequest { mutations: vec![v1::Mutation { operation: Some(v1::mutation::Operation::Insert(write)) }], ..commit(SESSION) };
    let body = frame(&request.encode_to_vec());
    let hash = spanner_sim::hash(&body);
    let answer = timeout(PATIENCE, client.call_bytes(&rpc("Commit"), body.clone(), &[])).await.expect("in time");
    answer.decode::<v1::CommitResponse>();
    let calls = sim.recorded_of("Commit");
    assert_eq!((calls.len(), calls[0].body_len, calls[0].body_hash), (1, body.len() as u64, hash));
    assert!(calls[0].body_ended);
}

#[tokio::test]
async fn a_request_over_the_message_limit_is_refused_at_once_with_the_limits_name() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    // The front of a message that says it has 200 MiB; the client has still to send most of it.
    let mut front = frame(&vec![b'x'; 400 << 10]).to_vec();
    front[1..5].copy_from_slice(&(200u32 << 20).to_be_bytes());
    let call = client.open(&rpc("Commit"), front.into(), false, &[]).await;
    let answer = timeout(PATIENCE, call.response).await.expect("at once").expect("an answer");
    assert!(answer.body().is_end_stream(), "trailers-only");
    assert_eq!(answer.headers()["grpc-status"], "8");
    let message = answer.headers()["grpc-message"].to_str().expect("text");
    assert!(message.starts_with("spanner-sidecar: E0103") && message.contains("request message limit"), "{message}");
    assert!(message.contains(&(200 << 20).to_string()) && message.contains(&(128 << 20).to_string()), "{message}");
    assert!(sim.recorded_of("Commit").is_empty(), "nothing of it goes upstream");
    client.works().await;
}

#[tokio::test]
async fn metadata_over_the_limit_is_refused_with_the_limits_name() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    let value = "v".repeat(80 << 10);
    let answer = client.call(&rpc("CreateSession"), &create_session(), &[("x-large", &value)]).await;
    answer.expect_status(RESOURCE_EXHAUSTED, &["E0104", "request metadata limit", &(64 << 10).to_string()]);
    assert!(answer.trailers_only && sim.recorded().is_empty());
    client.works().await;
}

#[tokio::test]
async fn metadata_just_under_the_limit_passes() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    let value = "v".repeat(60 << 10);
    let answer = client.call(&rpc("CreateSession"), &create_session(), &[("x-large", &value)]).await;
    assert_eq!(answer.code(), Some(0), "{answer:?}");
    assert_eq!(sim.recorded_of("CreateSession")[0].header("x-large"), Some(&*value));
}
