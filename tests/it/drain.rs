//! The end of the process: who is served how long, and with which exit code it ends.

use std::time::{Duration, Instant};

use prost::Message as _;
use spanner_sim::{Script, v1};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::load::Load;
use crate::support::raw::{Answer, Client, frame};
use crate::support::sidecar::Sidecar;
use crate::support::spanner::{SESSION, commit, rpc, sim};
use crate::support::{PATIENCE, eventually};

/// A client that sees the end of its connection.
async fn watched_client(sidecar: &Sidecar) -> (Client, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(sidecar.address).await.expect("connects");
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    (Client::over(sender, sidecar.address), connection)
}

/// Starts a commit that upstream answers after `pause`; comes back when upstream has it.
async fn commit_under_way(sim: &spanner_sim::Sim, client: &Client, pause: Duration) -> JoinHandle<Answer> {
    sim.script("Commit", Script::new().pause(pause).message(&v1::CommitResponse::default()));
    let client = client.clone();
    let call = tokio::spawn(async move { client.call(&rpc("Commit"), &commit(SESSION), &[]).await });
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 1).await);
    call
}

async fn not_ready(sidecar: &Sidecar) {
    eventually("not ready any more", async || sidecar.get("/readiness").await.0 == 503).await;
}

/// The process has ended with this code since `start`, within `limit`.
async fn assert_exit(sidecar: &mut Sidecar, code: i32, start: Instant, limit: Duration) {
    let status = sidecar.wait().await;
    let took = start.elapsed();
    assert_eq!(status.code(), Some(code), "{status}: {}", sidecar.log().join("\n"));
    assert!(took < limit, "after {took:?}");
}

#[tokio::test]
async fn no_call_fails_when_the_clients_stop_within_the_grace_period() {
    let sim = sim().await;
    let mut sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let load = Load::start(sidecar.address, 8).await;
    eventually("load", async || load.done() > 200).await;
    let start = Instant::now();
    sidecar.signal("TERM");
    not_ready(&sidecar).await;
    assert!(start.elapsed() < Duration::from_secs(2), "not ready only after {:?}", start.elapsed());
    let (_, state) = sidecar.get("/readiness").await;
    assert_eq!((state.trim(), sidecar.get("/liveness").await.0), ("draining", 200));
    // Clients that stay go on calling, and new ones may still come.
    let before = load.done();
    let late = Load::start(sidecar.address, 2).await;
    eventually("calls go on", async || load.done() > before + 200 && late.done() > 50).await;
    assert_eq!((load.stop().await, late.stop().await), (vec![], vec![]));
    assert_exit(&mut sidecar, 0, start, Duration::from_secs(20)).await;
}

#[tokio::test]
async fn a_call_that_is_under_way_at_sigterm_finishes_before_the_exit() {
    let sim = sim().await;
    let mut sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let (client, _connection) = watched_client(&sidecar).await;
    let call = commit_under_way(&sim, &client, Duration::from_secs(1)).await;
    drop(client);
    let start = Instant::now();
    sidecar.signal("TERM");
    call.await.expect("a call").decode::<v1::CommitResponse>();
    assert_exit(&mut sidecar, 0, start, Duration::from_secs(20)).await;
}

#[tokio::test]
async fn a_client_that_stays_is_told_to_go_away_near_the_limit_and_its_call_finishes() {
    let sim = sim().await;
    let mut sidecar = Sidecar::start(&sim.uri(), &["--max-sigterm-delay", "5s"]).await;
    let (client, connection) = watched_client(&sidecar).await;
    let start = Instant::now();
    sidecar.signal("TERM");
    not_ready(&sidecar).await;
    // As long as the limit is far the client may begin new calls.
    let call = commit_under_way(&sim, &client, Duration::from_millis(4500)).await;
    let mut calls = 0;
    let told = timeout(PATIENCE, async {
        // After a GOAWAY no stream can be opened.
        while client.sender.clone().ready().await.is_ok() {
            client.works().await;
            calls += 1;
        }
        start.elapsed()
    });
    let told = told.await.expect("GOAWAY");
    assert!(told > Duration::from_secs(3) && told < Duration::from_secs(5), "GOAWAY after {told:?}");
    assert!(calls > 20, "{calls} calls");
    assert!(!call.is_finished(), "the call is still under way at the GOAWAY");
    call.await.expect("a call").decode::<v1::CommitResponse>();
    timeout(PATIENCE, connection).await.expect("in time").expect("a task").expect("a clean end of the connection");
    assert_exit(&mut sidecar, 0, start, Duration::from_secs(6)).await;
}

#[tokio::test]
async fn calls_that_outlast_the_limit_are_cut_and_the_exit_code_says_so() {
    let sim = sim().await;
    sim.script("Commit", Script::new().hang());
    let mut sidecar = Sidecar::start(&sim.uri(), &["--max-sigterm-delay", "1s"]).await;
    let client = Client::connect(sidecar.address).await;
    let body = frame(&commit(SESSION).encode_to_vec());
    let _call = client.open(&rpc("Commit"), body, true, &[]).await;
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 1).await);
    let start = Instant::now();
    sidecar.signal("TERM");
    assert_exit(&mut sidecar, 143, start, Duration::from_secs(4)).await;
    assert!(start.elapsed() >= Duration::from_secs(1), "cut too early");
}

#[tokio::test]
async fn the_least_delay_is_kept_also_without_clients() {
    let sim = sim().await;
    let mut sidecar = Sidecar::start(&sim.uri(), &["--min-sigterm-delay", "1s"]).await;
    let start = Instant::now();
    sidecar.signal("TERM");
    not_ready(&sidecar).await;
    Client::connect(sidecar.address).await.works().await;
    assert_exit(&mut sidecar, 0, start, Duration::from_secs(4)).await;
    assert!(start.elapsed() >= Duration::from_secs(1), "gone too early");
}

/// Sends away a sidecar that has an idle client and a call under way; it must not wait for the client to leave.
async fn goes_away_at_once(ask: impl AsyncFnOnce(&Sidecar)) {
    let sim = sim().await;
    let mut sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let (_idle, idle_connection) = watched_client(&sidecar).await;
    let (client, connection) = watched_client(&sidecar).await;
    let call = commit_under_way(&sim, &client, Duration::from_secs(1)).await;
    let start = Instant::now();
    ask(&sidecar).await;
    timeout(PATIENCE, idle_connection).await.expect("told to go away").expect("a task").expect("a clean end");
    assert!(start.elapsed() < Duration::from_millis(900), "told only after {:?}", start.elapsed());
    call.await.expect("a call").decode::<v1::CommitResponse>();
    timeout(PATIENCE, connection).await.expect("told to go away").expect("a task").expect("a clean end");
    assert_exit(&mut sidecar, 0, start, Duration::from_secs(4)).await;
}

#[tokio::test]
async fn sigint_sends_clients_away_at_once_and_lets_their_calls_finish() {
    goes_away_at_once(async |sidecar: &Sidecar| sidecar.signal("INT")).await;
}

#[tokio::test]
async fn a_second_sigterm_sends_clients_away_at_once() {
    goes_away_at_once(async |sidecar: &Sidecar| {
        sidecar.signal("TERM");
        not_ready(sidecar).await;
        sidecar.signal("TERM");
    })
    .await;
}

#[tokio::test]
async fn quitquitquit_sends_clients_away_at_once() {
    goes_away_at_once(async |sidecar: &Sidecar| {
        assert_eq!(sidecar.post("/quitquitquit").await.0, 200);
    })
    .await;
}

#[tokio::test]
async fn a_post_to_drain_begins_what_sigterm_begins() {
    let sim = sim().await;
    let mut sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    let start = Instant::now();
    assert_eq!(sidecar.post("/drain").await.0, 200);
    assert_eq!(sidecar.get("/readiness").await.0, 503, "at once");
    client.works().await;
    drop(client);
    assert_exit(&mut sidecar, 0, start, Duration::from_secs(10)).await;
}

#[tokio::test]
async fn only_a_post_can_end_the_process_and_no_web_page() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    for path in ["/drain", "/quitquitquit"] {
        assert_eq!(crate::support::sidecar::http(sidecar.admin, "GET", path).await.0, 405);
        // Neither one with an Origin nor one that resolved a name of its own to this address.
        for (host, extra) in [("127.0.0.1", "origin: http://example.com\r\n"), ("example.com", "")] {
            let request = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n{extra}connection: close\r\ncontent-length: 0\r\n\r\n");
            assert_eq!(crate::support::sidecar::http_with(sidecar.admin, &request).await.0, 403, "{request}");
        }
        assert_eq!(crate::support::sidecar::http(sidecar.http, "POST", path).await.0, 404, "the HTTP port may be open to others");
    }
    assert_eq!(sidecar.get("/readiness").await.0, 200);
}

#[tokio::test]
async fn a_unix_socket_is_gone_after_the_end() {
    let sim = sim().await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("spanner.sock");
    let mut sidecar = Sidecar::start(&sim.uri(), &["--listen", &format!("unix:{}", path.display())]).await;
    assert!(path.exists());
    let start = Instant::now();
    sidecar.signal("TERM");
    assert_exit(&mut sidecar, 0, start, Duration::from_secs(10)).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_client_that_only_connected_does_not_hold_up_the_end_beyond_the_limit() {
    let sim = sim().await;
    let mut sidecar = Sidecar::start(&sim.uri(), &["--max-sigterm-delay", "2s"]).await;
    let silent = TcpStream::connect(sidecar.address).await.expect("connects");
    eventually("accepted", async || sidecar.get("/status").await.1.contains("\"downstream_connections\":1")).await;
    let start = Instant::now();
    sidecar.signal("TERM");
    assert_exit(&mut sidecar, 0, start, Duration::from_secs(4)).await;
    drop(silent);
}
