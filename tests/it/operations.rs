//! What operators see: probes, log lines, metrics, listeners.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use spanner_sim::Script;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::support::process::run;
use crate::support::raw::{Answer, Client};
use crate::support::sidecar::Sidecar;
use crate::support::spanner::{SESSION, builder, create_session, rpc, select, sim};
use crate::support::{PATIENCE, eventually, unused_address};

const UNAVAILABLE: u32 = 14;

/// Calls; the answer and how long it took.
async fn timed_call(client: &Client, metadata: &[(&str, &str)]) -> (Answer, Duration) {
    let start = Instant::now();
    let answer = timeout(PATIENCE, client.call(&rpc("CreateSession"), &create_session(), metadata)).await.expect("an answer in time");
    (answer, start.elapsed())
}

#[tokio::test]
async fn with_the_upstream_down_the_process_lives_says_why_and_gets_ready_when_it_comes_up() {
    let address = unused_address();
    let sidecar = Sidecar::start_listening(&format!("http://{address}"), &[]).await;
    assert_eq!(sidecar.get("/liveness").await.0, 200);
    for probe in ["/startup", "/readiness"] {
        assert_eq!(sidecar.get(probe).await, (503, "starting\n".into()), "{probe}");
    }
    assert_eq!(run(&["healthcheck", "--http-port", &sidecar.http.port().to_string()], &[]).await.code, Some(1));
    let client = Client::connect(sidecar.address).await;
    let (answer, took) = timed_call(&client, &[]).await;
    answer.expect_status(UNAVAILABLE, &["E0201", &address.to_string(), "refused"]);
    assert!(took < Duration::from_secs(6), "only after {took:?}");
    assert!(sidecar.log().iter().any(|line| line.contains("WARN") && line.contains("refused")), "{:?}", sidecar.log());
    let _sim = builder().listen(address.to_string()).start().await.expect("the address is free");
    eventually("ready", async || sidecar.get("/readiness").await == (200, "ready\n".into())).await;
    assert_eq!(sidecar.get("/startup").await.0, 200);
    client.works().await;
}

#[tokio::test]
async fn with_the_upstream_down_a_call_with_a_deadline_learns_why_within_it() {
    let address = unused_address();
    let sidecar = Sidecar::start_listening(&format!("http://{address}"), &[]).await;
    let client = Client::connect(sidecar.address).await;
    let (answer, took) = timed_call(&client, &[("grpc-timeout", "1S")]).await;
    answer.expect_status(UNAVAILABLE, &["E0201", &address.to_string(), "refused"]);
    assert!(took < Duration::from_secs(2), "only after {took:?}");
}

#[tokio::test]
async fn a_call_that_waited_for_the_first_channel_has_less_time_upstream() {
    let address = unused_address();
    let sidecar = Sidecar::start_listening(&format!("http://{address}"), &[]).await;
    let client = Client::connect(sidecar.address).await;
    let waiting = client.clone();
    let call = tokio::spawn(async move { timed_call(&waiting, &[("grpc-timeout", "20S")]).await });
    eventually("the call waits", async || sidecar.metric("spanner_sidecar_inflight_calls").await == 1.0).await;
    let begun = Instant::now();
    let sim = builder().listen(address.to_string()).start().await.expect("the address is free");
    let (answer, took) = call.await.expect("a task");
    assert_eq!(answer.code(), Some(0), "{answer:?}");
    let sent = sim.recorded_of("CreateSession")[0].header("grpc-timeout").expect("a timeout").to_owned();
    let (number, unit) = sent.split_at(sent.len() - 1);
    let number: u64 = number.parse().expect("a number");
    let left = match unit {
        "u" => Duration::from_micros(number),
        "m" => Duration::from_millis(number),
        "n" => Duration::from_nanos(number),
        _ => Duration::from_secs(number),
    };
    let limit = Duration::from_secs(20);
    assert!(left < limit && left >= limit - took, "{sent} after {took:?}, of which {:?} since upstream was there", begun.elapsed());
    // One that does not wait keeps the caller's own words.
    timed_call(&client, &[("grpc-timeout", "20S")]).await;
    assert_eq!(sim.recorded_of("CreateSession")[1].header("grpc-timeout"), Some("20S"));
}

#[tokio::test]
async fn the_ready_line_is_one_json_line_with_version_and_addresses() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    sidecar.get("/readiness").await;
    let lines: Vec<serde_json::Value> = sidecar.log().iter().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    let ready: Vec<_> = lines.iter().filter(|line| line["message"] == "ready").collect();
    assert_eq!(ready.len(), 1, "{lines:?}");
    let expected = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("listen", sidecar.address.to_string()),
        ("http", sidecar.http.to_string()),
        ("admin", sidecar.admin.to_string()),
        ("level", "INFO".to_owned()),
    ];
    for (field, value) in expected {
        assert_eq!(ready[0][field], value, "{field}");
    }
}

#[tokio::test]
async fn probes_answer_get_and_head_only() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    for probe in ["/startup", "/readiness", "/liveness"] {
        assert_eq!(sidecar.get(probe).await.0, 200, "{probe}");
        assert_eq!(crate::support::sidecar::http(sidecar.http, "HEAD", probe).await, (200, String::new()), "{probe}");
        assert_eq!(crate::support::sidecar::http(sidecar.http, "POST", probe).await.0, 405, "{probe}");
    }
    assert_eq!(sidecar.get("/").await.0, 404);
}

#[tokio::test]
async fn the_metrics_of_the_contract_are_there_after_calls() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    client.works().await;
    // A repeat, an error of upstream's, one of the sidecar's, one of the caller's.
    sim.script("CreateSession", Script::refuse());
    client.works().await;
    client.call(&rpc("GetSession"), &spanner_sim::v1::GetSessionRequest { name: SESSION.into() }, &[]).await;
    client.call("/not.served/Here", &create_session(), &[]).await;
    sim.script("ExecuteSql", Script::new().hang());
    let body = crate::support::raw::frame(&prost::Message::encode_to_vec(&select(SESSION)));
    let call = client.open(&rpc("ExecuteSql"), body, true, &[]).await;
    assert!(sim.eventually(PATIENCE, |sim| sim.open_streams() == 1).await);
    assert_eq!(sidecar.metric("spanner_sidecar_inflight_calls").await, 1.0);
    drop(call);
    eventually("the cancel is counted", async || {
        sidecar.metric("spanner_sidecar_errors_total{origin=\"downstream\",code=\"CANCELLED\"}").await == 1.0
    })
    .await;
    let (code, page) = sidecar.get("/metrics").await;
    assert!(code == 200 && page.ends_with("# EOF\n"), "{page}");
    for (series, value) in [
        (
            "rpc_server_call_duration_seconds_count{rpc_method=\"google.spanner.v1.Spanner/CreateSession\",rpc_response_status_code=\"OK\"}",
            2.0,
        ),
        (
            "rpc_server_call_duration_seconds_count{rpc_method=\"google.spanner.v1.Spanner/GetSession\",rpc_response_status_code=\"NOT_FOUND\"}",
            1.0,
        ),
        (
            "rpc_server_call_duration_seconds_count{rpc_method=\"google.spanner.v1.Spanner/ExecuteSql\",rpc_response_status_code=\"CANCELLED\"}",
            1.0,
        ),
        ("grpc_client_attempt_duration_seconds_count{grpc_method=\"google.spanner.v1.Spanner/CreateSession\",grpc_status=\"OK\"}", 2.0),
        ("spanner_sidecar_errors_total{origin=\"upstream\",code=\"NOT_FOUND\"}", 1.0),
        ("spanner_sidecar_errors_total{origin=\"sidecar\",code=\"E0101\"}", 1.0),
        ("spanner_sidecar_retries_total{reason=\"refused_stream\"}", 1.0),
        ("spanner_sidecar_inflight_calls", 0.0),
        ("spanner_sidecar_dependency_up{dependency=\"upstream\"}", 1.0),
        // The simulator reports one millisecond for each.
        ("spanner_sidecar_gfe_latency_seconds_count", 3.0),
        ("spanner_sidecar_afe_latency_seconds_count", 3.0),
    ] {
        assert_eq!(sidecar.metric(series).await, value, "{series} in\n{page}");
    }
    eventually("all channels are counted", async || sidecar.metric("spanner_sidecar_channels{state=\"ready\"}").await == 4.0).await;
    assert!(sidecar.metric("spanner_sidecar_overhead_seconds_count").await >= 2.0);
    assert!(sidecar.metric("spanner_sidecar_time_to_ready_seconds").await > 0.0);
    assert!(page.contains("spanner_sidecar_token_expiry_timestamp_seconds "), "{page}");
}

#[tokio::test]
async fn an_upstream_that_goes_down_later_shows_and_calls_learn_why() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &[]).await;
    let client = Client::connect(sidecar.address).await;
    client.works().await;
    sim.stop().await;
    eventually("no channel is left", async || sidecar.metric("spanner_sidecar_channels{state=\"ready\"}").await == 0.0).await;
    assert_eq!(sidecar.get("/liveness").await.0, 200);
    let (answer, took) = timed_call(&client, &[]).await;
    answer.expect_status(UNAVAILABLE, &["E0201", "refused"]);
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(sidecar.metric("spanner_sidecar_dependency_up{dependency=\"upstream\"}").await, 0.0);
}

async fn over_unix(path: &std::path::Path) -> Client {
    let stream = UnixStream::connect(path).await.expect("connects");
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    Client::over(sender, SocketAddr::from(([127, 0, 0, 1], 1)))
}

#[tokio::test]
async fn a_unix_socket_serves_owner_and_group_and_replaces_one_that_was_left_behind() {
    let sim = sim().await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("spanner.sock");
    // A socket whose process is gone.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
    assert!(path.exists());
    let listen = format!("unix:{}", path.display());
    let sidecar = Sidecar::start(&sim.uri(), &["--listen", &listen]).await;
    let mode = std::fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "{mode:o}");
    over_unix(&path).await.works().await;
    Client::connect(sidecar.address).await.works().await;
    // One whose process lives is not replaced, nor is any other file.
    let ports = ["--http-port", "0", "--admin-port", "0", "--upstream", "http://127.0.0.1:1"];
    let taken = run(&[&["--listen", &listen], &ports[..]].concat(), &[]).await;
    assert_eq!(taken.code, Some(71), "{taken:?}");
    assert!(taken.stderr.contains(&listen), "{taken:?}");
    over_unix(&path).await.works().await;
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").expect("writes");
    let taken = run(&[&["--listen", &format!("unix:{}", file.display())], &ports[..]].concat(), &[]).await;
    assert_eq!((taken.code, &*std::fs::read_to_string(&file).expect("still there")), (Some(71), "precious"), "{taken:?}");
}

#[tokio::test]
async fn ipv6_loopback_is_served_as_well() {
    let sim = sim().await;
    let mut sidecar = Sidecar::start(&sim.uri(), &["--listen", "[::1]:0"]).await;
    let line = sidecar.line("\"message\":\"ready\"").await;
    let addresses: Vec<SocketAddr> =
        line["listen"].as_str().expect("text").split(',').map(|address| address.parse().expect("an address")).collect();
    assert_eq!(addresses.iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>(), [false, true]);
    for address in addresses {
        Client::connect(address).await.works().await;
    }
}

#[tokio::test]
async fn several_workers_serve_one_port() {
    let sim = sim().await;
    let sidecar = Sidecar::start(&sim.uri(), &["--worker-threads", "3", "--channels", "2"]).await;
    eventually("all channels", async || sidecar.metric("spanner_sidecar_channels{state=\"ready\"}").await == 6.0).await;
    for _ in 0..30 {
        Client::connect(sidecar.address).await.works().await;
    }
    let used: std::collections::BTreeSet<u64> = sim.recorded_of("CreateSession").iter().map(|call| call.connection).collect();
    assert!(used.len() > 1, "30 connections on one worker");
}
